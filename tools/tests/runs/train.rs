//! `munit-train` from outside: real runs with tiny networks, interrupted, resumed and refused.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::common::{
    MUNIT_EXPORT, MUNIT_INFO, MUNIT_TRAIN, Place, Running, assert_says, config, failed, succeeded,
    text, write_backbone, write_vgg,
};
use image::{Rgb, RgbImage};
use rand::RngExt;
use serde_json::Value;
use tch::Tensor;

/// A batch norm has running statistics, which a checkpoint must hold too; the learning rate falls
/// before and after the interruption.
pub const EVENTFUL: &str = "\
display_size: 2
snapshot_save_iter: 10
image_save_iter: 25
log_iter: 1
step_size: 15
recon_x_cyc_w: 1
gen: {dim: 4, mlp_dim: 8, style_dim: 3, n_downsample: 2, n_res: 1}
dis: {dim: 4, norm: bn, n_layer: 2, num_scales: 2}
new_size: 36
crop_image_height: 32
crop_image_width: 32
data_root: datasets/shapes
";

/// A place with [`EVENTFUL`] as `eventful.yaml`.
fn eventful() -> Place {
    let place = Place::new();
    fs::write(place.path("eventful.yaml"), EVENTFUL).unwrap();
    place
}

const ANEW: &str = "--config eventful.yaml --device cpu --threads 1";
const GO_ON: &str = "--device cpu --threads 1";

pub fn assert_same_end(place: &Place, one: &str, other: &str, iteration: u64) {
    assert_eq!(place.losses(one).len() as u64, iteration + 1);
    assert_eq!(place.losses(one), place.losses(other));
    for file in [
        format!("checkpoints/iteration-{iteration:09}.safetensors"),
        "model.safetensors".to_owned(),
        "samples.png".to_owned(),
        "config.yaml".to_owned(),
    ] {
        let read = |run: &str| fs::read(place.path(run).join(&file)).unwrap();
        assert!(read(one) == read(other), "{file} differs");
    }
}

#[test]
fn forty_iterations_are_twenty_and_twenty_more() {
    let place = eventful();
    let run = |arguments: &str| succeeded(place.run(MUNIT_TRAIN, arguments));
    run(&format!("{ANEW} --out whole --iterations 40"));
    run(&format!("{ANEW} --out halves --iterations 20"));
    let errors = run(&format!("{GO_ON} --resume halves --iterations 40"));
    assert!(!errors.contains("munit-train:"), "a warning: {errors}");
    assert_same_end(&place, "whole", "halves", 40);

    // A run that has come to its end is exported anew and not changed.
    run(&format!("{GO_ON} --resume halves"));
    assert_same_end(&place, "whole", "halves", 40);
}

#[test]
fn a_killed_run_goes_on_to_the_same_end() {
    let place = eventful();
    let endless = "--iterations 1000000 --checkpoint-every 2";
    let mut start = format!("{ANEW} --out killed {endless}");
    for _ in 0..3 {
        let before = place.losses("killed").len();
        let mut running = place.start(MUNIT_TRAIN, &start);
        running.wait_for_rows(&place.path("killed"), before + 3);
        let pause = Duration::from_millis(rand::rng().random_range(0..150));
        std::thread::sleep(pause);
        running.signal("KILL");
        assert_eq!(running.wait().0, None);
        start = format!("{GO_ON} --resume killed {endless}");
    }
    let last = place.losses("killed").len() as u64 + 3;
    let end = format!("--iterations {last}");
    succeeded(place.run(MUNIT_TRAIN, &format!("{GO_ON} --resume killed {end}")));
    let anew = format!("{ANEW} --out whole --checkpoint-every 2 {end}");
    succeeded(place.run(MUNIT_TRAIN, &anew));
    assert_same_end(&place, "whole", "killed", last);
    // Nothing is left of files that were being written.
    assert_eq!(names(&place.path("killed")), names(&place.path("whole")));
    assert_eq!(
        names(&place.path("killed/checkpoints")),
        names(&place.path("whole/checkpoints"))
    );
}

/// Spectral norm keeps vectors of its own, the gradient penalty is due now and then, the average
/// begins, diversity ends, and the rates fall.
const MODERN: &str = "\
recipe: modern
task: keep-shapes
precision: bf16
display_size: 2
snapshot_save_iter: 2
log_iter: 1
max_iter: 60
batch_size: 2
ema_warmup: 10
augment: [colour, translation, cutout]
r1_every: 3
consistency_w: 1
paired_w: 2
gen: {dim: 4, mlp_dim: 8, style_dim: 3, n_downsample: 2, n_res: 1}
dis: {dim: 4, n_layer: 2, num_scales: 2}
crop_image_height: 32
crop_image_width: 32
data_root: datasets/shapes
";

#[test]
fn a_killed_modern_run_goes_on_to_the_same_end() {
    let place = Place::new();
    fs::write(place.path("modern.yaml"), MODERN).unwrap();
    let anew = "--config modern.yaml --device cpu --threads 1";
    let mut start = format!("{anew} --out killed");
    for rows in [7, 35] {
        let mut running = place.start(MUNIT_TRAIN, &start);
        running.wait_for_rows(&place.path("killed"), rows);
        running.signal("KILL");
        assert_eq!(running.wait().0, None);
        start = format!("{GO_ON} --resume killed");
    }
    succeeded(place.run(MUNIT_TRAIN, &start));
    succeeded(place.run(MUNIT_TRAIN, &format!("{anew} --out whole")));
    assert_same_end(&place, "whole", "killed", 60);
    let header = &place.losses("whole")[0];
    for term in [
        "dis_r1_a",
        "gen_diversity_a",
        "gen_style_prior_a",
        "gen_consistency_a",
        "gen_paired_b",
    ] {
        assert!(header.contains(term), "{header}");
    }
}

#[test]
fn a_killed_run_in_float16_goes_on_to_the_same_end() {
    let place = Place::new();
    let text = MODERN.replace("precision: bf16", "precision: fp16");
    fs::write(place.path("modern.yaml"), text).unwrap();
    let anew = "--config modern.yaml --device cpu --threads 1 --iterations 16";
    let mut running = place.start(MUNIT_TRAIN, &format!("{anew} --out killed"));
    running.wait_for_rows(&place.path("killed"), 7);
    running.signal("KILL");
    assert_eq!(running.wait().0, None);
    // Scales, and which updates were passed over, belong to what has been learnt.
    let checkpoints = names(&place.path("killed/checkpoints"));
    let newest = place
        .path("killed/checkpoints")
        .join(checkpoints.last().unwrap());
    let tensors: BTreeMap<String, Tensor> = Tensor::read_safetensors(newest)
        .unwrap()
        .into_iter()
        .collect();
    let iteration = place.losses("killed").len() as f64 - 1.0;
    for networks in ["gen", "dis"] {
        let [scale, updates] =
            Vec::<f32>::try_from(&tensors[&format!("loss_scale.{networks}")]).unwrap()[..]
        else {
            panic!("a scale and a number of updates");
        };
        let made = tensors[&format!("adam_updates.{networks}")].double_value(&[]);
        assert!(
            scale >= 1.0 && f64::from(updates) <= made && made <= iteration,
            "{scale} {updates} {made}"
        );
    }
    succeeded(place.run(MUNIT_TRAIN, &format!("{GO_ON} --resume killed")));
    succeeded(place.run(MUNIT_TRAIN, &format!("{anew} --out whole")));
    assert_same_end(&place, "whole", "killed", 16);
    assert_says(
        &place.losses("whole")[0],
        &["dis_loss_scale,gen_loss_scale"],
    );
    let page = fs::read_to_string(place.path("whole/report.html")).unwrap();
    assert_says(&page, &["Loss scales"]);
}

#[test]
fn gradient_penalties_are_logged_whenever_losses_are() {
    let place = Place::new();
    // Every tenth iteration is logged, and after every sixteenth there is a penalty.
    let text = MODERN
        .replace("log_iter: 1\n", "")
        .replace("r1_every: 3\n", "");
    fs::write(place.path("modern.yaml"), text).unwrap();
    let anew = "--config modern.yaml --device cpu --threads 1";
    succeeded(place.run(MUNIT_TRAIN, &format!("{anew} --out whole --iterations 40")));
    let rows = place.losses("whole");
    for name in ["dis_r1_a", "dis_r1_b"] {
        let [ten, twenty, thirty, forty] = place.whole_column("whole", name)[..] else {
            panic!("{rows:?}");
        };
        assert!(ten > 0.0 && ten != twenty && twenty == thirty && thirty != forty);
    }
    // They are remembered by checkpoints.
    let halves = format!("{anew} --out halves --iterations 40");
    let mut running = place.start(MUNIT_TRAIN, &halves);
    running.wait_until("a checkpoint", || place.checkpoint("halves", 18).exists());
    running.signal("KILL");
    running.wait();
    succeeded(place.run(MUNIT_TRAIN, &format!("{GO_ON} --resume halves")));
    assert_eq!(place.losses("halves"), rows);
}

#[test]
fn recipe_and_task_are_flags_and_stay_what_they_were() {
    let place = eventful();
    let rest = "--iterations 2 --augment colour,cutout --encoded-styles 0.25 --diversity 2 \
                --consistency 3 --lr-dis 0.0005";
    let flags = format!("--recipe modern --task change-shapes {rest}");
    succeeded(place.run(MUNIT_TRAIN, &format!("{ANEW} --out run {flags}")));
    let written = fs::read_to_string(place.path("run/config.yaml")).unwrap();
    let wanted = [
        "recipe: modern",
        "task: change-shapes",
        "recon_x_cyc_w: 0.0",
        "- colour\n- cutout\n",
        "encoded_styles: 0.25",
        "diversity_w: 2.0",
        "consistency_w: 3.0",
        "lr_dis: 0.0005",
        "gan_type: hinge",
        // The file has it otherwise than the recipe.
        "norm: bn",
        "step_size: 15",
        "lr_policy: linear",
    ];
    assert_says(&written, &wanted);
    assert!(!written.contains("precision: auto"), "{written}");

    for (flag, parts) in [
        (
            "--recipe classic",
            ["--recipe is classic here", "begun with modern"],
        ),
        (
            "--task keep-shapes",
            ["--task is keep-shapes here", "begun with change-shapes"],
        ),
        ("--cycle 1", ["--cycle is 1.0 here", "begun with 0.0"]),
        (
            "--augment",
            ["--augment is [] here", "begun with [\"colour"],
        ),
        (
            "--augment translation,cutout,colour",
            ["--augment is [\"translation\"", "begun with [\"colour"],
        ),
        (
            "--diversity 1",
            ["--diversity is 1.0 here", "begun with 2.0"],
        ),
        ("--size 40", ["--size is 40 here", "begun with"]),
        ("--dim 2", ["--dim is 2 here", "begun with"]),
    ] {
        let arguments = format!("{GO_ON} --resume run --iterations 3 {flag}");
        assert_says(&failed(place.run(MUNIT_TRAIN, &arguments)), &parts);
    }
    succeeded(place.run(MUNIT_TRAIN, &format!("{GO_ON} --resume run --iterations 3")));

    for (flags, parts) in [
        (
            "--encoded-styles 2",
            ["--encoded-styles is 2", "from 0 to 1"],
        ),
        ("--diversity nan", ["--diversity is NaN", "finite"]),
        ("--consistency -1", ["--consistency is -1", "not negative"]),
        (
            "--paired 10",
            ["--paired is 10", "encoded_styles is 0; make it 0.5"],
        ),
        (
            "--perceptual 1",
            ["--perceptual is 1", "--vgg-weights FILE"],
        ),
    ] {
        let arguments = format!("{ANEW} --out other {flags}");
        assert_says(&failed(place.run(MUNIT_TRAIN, &arguments)), &parts);
    }
    let arguments = format!("{ANEW} --out other --task keep-shapes --cycle 3");
    let output = place.run(MUNIT_TRAIN, &arguments);
    assert_ne!(output.status.code(), Some(0));
    assert_says(&text(&output.stderr), &["--task", "--cycle"]);
}

#[test]
fn a_run_killed_before_its_first_checkpoint_goes_on_to_the_same_end() {
    let place = eventful();
    let rare = "--checkpoint-every 1000000";
    let run = place.path("killed");
    let mut start = format!("{ANEW} --out killed --iterations 1000000 {rare}");
    // As soon as there is a configuration, and some iterations later.
    for rows in [None, Some(3)] {
        let mut running = place.start(MUNIT_TRAIN, &start);
        match rows {
            Some(rows) => running.wait_for_rows(&run, rows),
            None => running.wait_until("config.yaml", || run.join("config.yaml").exists()),
        }
        running.signal("KILL");
        assert_eq!(running.wait().0, None);
        assert_eq!(names(&run.join("checkpoints")), [""; 0]);
        start = format!("{GO_ON} --resume killed");
    }
    let sentence = failed(place.run(MUNIT_EXPORT, "killed model.safetensors"));
    assert_says(
        &sentence,
        &[
            "killed: this run has no checkpoint yet",
            "to go on with it: munit-train --resume killed",
        ],
    );
    // It goes on as it was begun, as every run does.
    let sentence = failed(place.run(MUNIT_TRAIN, &format!("{start} --seed 9")));
    assert_says(&sentence, &["--seed is 9 here", "begun with 0"]);

    let last = place.losses("killed").len() as u64 + 3;
    let end = format!("--iterations {last}");
    let errors = succeeded(place.run(MUNIT_TRAIN, &format!("{start} {end}")));
    assert_says(&errors, &["no checkpoint yet"]);
    let anew = format!("{ANEW} --out whole {rare} {end}");
    succeeded(place.run(MUNIT_TRAIN, &anew));
    assert_same_end(&place, "whole", "killed", last);
}

#[test]
fn a_run_that_never_began_cannot_be_resumed_but_started_anew() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    // What it made is gone again, and nothing else.
    for out in ["new", "empty", "runs/deep"] {
        failed(place.train(&format!("--out {out} --a datasets/shapes/trainA --b empty")));
    }
    assert!(!place.path("new").exists() && !place.path("runs/deep").exists());
    assert!(names(&place.path("empty")).is_empty());
    // Killed meanwhile, it leaves them.
    fs::create_dir_all(place.path("run/checkpoints")).unwrap();
    let sentence = failed(place.train("--resume run"));
    assert_says(
        &sentence,
        &["ended before its first iteration", "without --resume"],
    );
    let sentence = failed(place.run(MUNIT_EXPORT, "run model.safetensors"));
    assert_says(
        &sentence,
        &["run: ", "no checkpoint yet", "start it anew with --out run"],
    );
    succeeded(place.train("--out run"));
}

#[test]
fn a_run_goes_on_and_is_exported_from_any_folder() {
    let place = Place::new();
    place.pictures("photos", |number, x, y| {
        Rgb([(5 * x) as u8, (6 * y) as u8, 40 * number as u8])
    });
    write_vgg(&place.path("vgg.safetensors"));
    let weights = "--vgg-weights vgg.safetensors --perceptual 1";
    succeeded(place.train(&format!(
        "--a photos --b datasets/shapes/trainB {weights} --out runs/one"
    )));
    succeeded(place.train("--data datasets/shapes --out runs/two"));
    let elsewhere = tempfile::tempdir().unwrap();
    let there = |program: &str, arguments: &str| {
        let mut command = place.command(program, arguments.split_whitespace());
        command.current_dir(elsewhere.path()).output().unwrap()
    };
    for run in ["runs/one", "runs/two"] {
        let run = place.path(run).display().to_string();
        let resume = format!("--resume {run} --device cpu --threads 1");
        succeeded(there(
            MUNIT_TRAIN,
            &format!("{resume} --iterations 4 --check"),
        ));
        let errors = succeeded(there(MUNIT_TRAIN, &format!("{resume} --iterations 4")));
        // The same pictures and the same network.
        assert!(!errors.contains("munit-train:"), "{errors}");
        let errors = succeeded(there(MUNIT_EXPORT, &format!("{run} one.safetensors")));
        assert!(!errors.contains("munit-export:"), "{errors}");
    }

    // A run that has moved without its pictures is told where they are, also from where it is now.
    fs::rename(place.path("datasets"), elsewhere.path().join("datasets")).unwrap();
    let run = place.path("runs/two").display().to_string();
    let resume = format!("--resume {run} --device cpu --threads 1 --iterations 5");
    for check in ["", "--check"] {
        let sentence = failed(there(MUNIT_TRAIN, &format!("{resume} {check}")));
        let parts = [
            "cannot open the folder ",
            "have moved",
            "--data",
            "--a and --b",
        ];
        assert_says(&sentence, &parts);
    }
    succeeded(there(
        MUNIT_TRAIN,
        &format!("{resume} --data datasets/shapes"),
    ));
    succeeded(place.train(&format!("--resume {run} --iterations 6")));
}

#[test]
fn checkpoints_are_due_by_time_too() {
    let place = eventful();
    let configuration = fs::read_to_string(place.path("eventful.yaml")).unwrap();
    // Three milliseconds: after almost every iteration.
    let often = format!("{configuration}snapshot_save_minutes: 0.00005\n");
    fs::write(place.path("eventful.yaml"), often).unwrap();
    let rare = "--checkpoint-every 1000000";
    let mut running = place.start(
        MUNIT_TRAIN,
        &format!("{ANEW} --out killed --iterations 1000000 {rare}"),
    );
    let checkpoints = place.path("killed/checkpoints");
    running.wait_until("a checkpoint", || {
        checkpoints.exists()
            && names(&checkpoints)
                .iter()
                .any(|name| !name.starts_with('.'))
    });
    running.signal("KILL");
    assert_eq!(running.wait().0, None);
    let last = place.losses("killed").len() as u64 + 3;
    let end = format!("--iterations {last}");
    let errors = succeeded(place.run(MUNIT_TRAIN, &format!("{GO_ON} --resume killed {end}")));
    assert!(!errors.contains("no checkpoint yet"), "{errors}");
    let anew = format!("{ANEW} --out whole {rare} {end}");
    succeeded(place.run(MUNIT_TRAIN, &anew));
    assert_same_end(&place, "whole", "killed", last);
}

#[test]
fn starting_anew_leaves_nothing_of_a_run_without_checkpoint() {
    let place = eventful();
    // Event files of another program, where no run has been yet.
    let run = place.path("run");
    fs::create_dir(&run).unwrap();
    let foreign = run.join("events.out.tfevents.1.elsewhere");
    fs::write(&foreign, "").unwrap();

    let start = format!("{ANEW} --out run --iterations 1000000 --samples-every 2");
    let rare = "--checkpoint-every 1000000";
    let mut running = place.start(MUNIT_TRAIN, &format!("{start} {rare}"));
    running.wait_for_rows(&run, 4);
    running.signal("KILL");
    running.wait();
    assert!(foreign.exists());
    assert_eq!(event_files(&run).len(), 2);
    fs::remove_file(foreign).unwrap();
    let abandoned = event_files(&run);

    // A start that fails must not leave the abandoned run to --resume.
    failed(place.run(MUNIT_TRAIN, &format!("{start} --data missing")));
    assert!(run.join("config.yaml").exists());
    fs::create_dir(place.path("empty")).unwrap();
    let pictures = "--a datasets/shapes/trainA --b empty";
    failed(place.run(MUNIT_TRAIN, &format!("{start} {pictures}")));
    let sentence = failed(place.run(MUNIT_TRAIN, &format!("{GO_ON} --resume run")));
    assert_says(&sentence, &["ended before its first iteration"]);

    succeeded(place.run(
        MUNIT_TRAIN,
        &format!("{ANEW} --out run --iterations 3 --samples-every 3 --seed 5 {rare}"),
    ));
    let events = event_files(&run);
    assert_eq!(events.len(), 1);
    assert_ne!(events, abandoned);
    assert_eq!(place.losses("run").len(), 4);
    assert_eq!(names(&run.join("samples")), ["iteration-000000003.png"]);
    // From here on there is something to lose.
    let sentence = failed(place.run(MUNIT_TRAIN, &format!("{start} --seed 5")));
    assert_says(&sentence, &["run: holds a run of 3 iterations", "--resume"]);
    assert_eq!(event_files(&run), events);
    // Nor is the model lost when its checkpoints were deleted, to save space.
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    let sentence = failed(place.run(MUNIT_TRAIN, &format!("{start} --seed 5")));
    assert_says(&sentence, &["run/model.safetensors: a model is there"]);
    assert_eq!(event_files(&run), events);
}

/// What munit-info says about a run.
fn run_info(place: &Place, run: &str) -> Value {
    let output = place.run(MUNIT_INFO, &format!("{run} --json"));
    serde_json::from_str(&succeeded_text(&output)).unwrap()
}

fn succeeded_text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_run_that_is_asked_to_stop_goes_on_to_the_same_end() {
    let place = eventful();
    let mut start = format!("{ANEW} --out stopped --iterations 1000000");
    for signal in ["TERM", "INT"] {
        let before = place.losses("stopped").len();
        let mut running = place.start(MUNIT_TRAIN, &start);
        running.wait_for_rows(&place.path("stopped"), before + 2);
        running.signal(signal);
        let (status, errors) = running.wait();
        assert_eq!(status, Some(0), "{errors}");
        assert_says(&errors, &["go on with: munit-train --resume stopped"]);
        let reached = place.losses("stopped").len() as u64 - 1;
        assert!(place.checkpoint("stopped", reached).exists(), "{errors}");
        assert!(!place.path("stopped/model.safetensors").exists());
        // So that a loop knows whether to go on.
        let info = run_info(&place, "stopped");
        assert_eq!(
            (&info["finished"], &info["iteration"]),
            (&false.into(), &reached.into())
        );
        // A model need not wait for the end, and the same is told later.
        let export = "make a model of it as it is: munit-export stopped model.safetensors\n";
        assert_says(&errors, &[export]);
        let table = succeeded_text(&place.run(MUNIT_INFO, "stopped"));
        assert_says(
            &table,
            &["go on with: munit-train --resume stopped\n", export],
        );
        succeeded(place.run(MUNIT_EXPORT, "stopped model.safetensors"));
        assert!(place.path("model.safetensors").exists());
        start = format!("{GO_ON} --resume stopped");
    }
    let last = place.losses("stopped").len() as u64 + 3;
    succeeded(place.run(
        MUNIT_TRAIN,
        &format!("{GO_ON} --resume stopped --iterations {last}"),
    ));
    let info = run_info(&place, "stopped");
    assert_eq!(
        (&info["finished"], &info["iterations"]),
        (&true.into(), &last.into())
    );
    let table = succeeded_text(&place.run(MUNIT_INFO, "stopped"));
    assert_says(
        &table,
        &[
            &format!("{last} of {last}, finished"),
            "stopped/model.safetensors",
        ],
    );
    assert!(!table.contains("munit-export"), "{table}");
    succeeded(place.run(
        MUNIT_TRAIN,
        &format!("{ANEW} --out whole --iterations {last}"),
    ));
    assert_same_end(&place, "whole", "stopped", last);
}

#[test]
fn a_run_whose_terminal_is_closed_leaves_a_checkpoint() {
    let place = eventful();
    let start = format!("{ANEW} --out run --iterations 1000000 --checkpoint-every 1000000");
    let mut running = place.start(MUNIT_TRAIN, &start);
    running.wait_for_rows(&place.path("run"), 2);
    running.close_errors();
    // The shell and the terminal send one each.
    running.signal("HUP");
    running.signal("HUP");
    let (status, _) = running.wait();
    assert_eq!(status, Some(0));
    let reached = place.losses("run").len() as u64 - 1;
    assert!(place.checkpoint("run", reached).exists());
}

#[test]
fn a_run_that_shall_outlive_its_terminal_does() {
    let place = eventful();
    let rows = |run: &str| place.losses(run).len();
    let command = format!("trap '' HUP; exec {MUNIT_TRAIN} {ANEW} --out run --iterations 1000000");
    let mut running = Running::new(place.command("sh", ["-c", &command]));
    running.wait_for_rows(&place.path("run"), 2);
    running.signal("HUP");
    running.wait_for_rows(&place.path("run"), rows("run") + 5);
    running.signal("TERM");
    assert_eq!(running.wait().0, Some(0));
}

#[test]
fn what_has_been_learnt_is_saved_before_a_run_ends_with_an_error() {
    let place = eventful();
    let configuration = fs::read_to_string(place.path("eventful.yaml")).unwrap();
    let often =
        format!("{configuration}image_display_iter: 7\n").replace("snapshot_save_iter: 10", "");
    fs::write(place.path("eventful.yaml"), often).unwrap();
    // No file can take the place of a folder.
    fs::create_dir_all(place.path("run/samples.png/folder")).unwrap();
    let output = place.run(MUNIT_TRAIN, &format!("{ANEW} --out run --iterations 20"));
    let errors = text(&output.stderr);
    assert_says(&failed(output), &["samples.png"]);
    assert_says(&errors, &["the checkpoint of iteration 7 is saved"]);
    assert!(place.checkpoint("run", 7).exists());

    fs::remove_dir_all(place.path("run/samples.png")).unwrap();
    succeeded(place.run(MUNIT_TRAIN, &format!("{GO_ON} --resume run")));
    succeeded(place.run(MUNIT_TRAIN, &format!("{ANEW} --out whole --iterations 20")));
    assert_same_end(&place, "whole", "run", 20);
}

#[cfg(not(feature = "mpi"))]
#[test]
fn several_processes_are_refused_where_there_is_no_mpi() {
    let place = Place::new();
    let arguments = "--a datasets/shapes/trainA --b datasets/shapes/trainB --out run";
    for (name, launcher) in [
        ("OMPI_COMM_WORLD_SIZE", "mpirun"),
        ("SLURM_STEP_NUM_TASKS", "srun"),
    ] {
        let mut command = place.command(MUNIT_TRAIN, arguments.split_whitespace());
        let sentence = failed(command.env(name, "4").output().unwrap());
        let expected = format!("{launcher} has started this program 4 times");
        assert_says(&sentence, &[&expected, "--features munit-tools/mpi"]);
        assert!(!place.path("run").exists());
    }
}

#[test]
fn published_configurations_train_as_they_are() {
    let place = Place::new();
    for (file, more, family) in [
        ("folder.yaml", "", "munit"),
        ("lists.yaml", "", "munit"),
        ("grey.yaml", "", "munit"),
        ("unit.yaml", "--trainer UNIT", "unit"),
        ("folder.yaml", "--trainer UNIT", "unit"),
    ] {
        let run = format!("runs/{family}-{file}");
        let path = config(file);
        succeeded(place.run(
            MUNIT_TRAIN,
            &format!("--config {path} --out {run} --device cpu --threads 1 {more}"),
        ));
        let losses = place.losses(&run);
        assert_eq!(losses.len(), 3, "{file}: {losses:?}");
        assert_eq!(losses[0].contains("gen_recon_s_a"), family == "munit");
        assert_eq!(losses[0].contains("gen_recon_kl_a"), family == "unit");
        let info = place.run(MUNIT_INFO, &format!("--json {run}/model.safetensors"));
        let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
        assert_eq!(
            info["architecture"]["family"]
                .as_str()
                .unwrap()
                .to_lowercase(),
            family,
            "{file}"
        );
        assert_eq!(info["iterations"], 2, "{file}");
        assert!(place.path(&run).join("samples.png").exists(), "{file}");
    }
}

#[test]
fn a_published_configuration_with_a_perceptual_loss_trains_with_given_weights() {
    let place = Place::new();
    let arguments = format!(
        "--config {} --out run --device cpu --threads 1",
        config("perceptual.yaml")
    );
    let sentence = failed(place.run(MUNIT_TRAIN, &arguments));
    assert_says(&sentence, &["vgg_w is 1", "--vgg-weights FILE"]);
    // What can be said at once is, and leaves no folder.
    assert!(!place.path("run").exists());

    write_vgg(&place.path("vgg.safetensors"));
    succeeded(place.run(
        MUNIT_TRAIN,
        &format!("{arguments} --vgg-weights vgg.safetensors"),
    ));
    for name in ["gen_vgg_a", "gen_vgg_b"] {
        let values = place.whole_column("run", name);
        assert!(
            values.iter().all(|value| *value > 0.0),
            "{name}: {values:?}"
        );
    }
    let written = fs::read_to_string(place.path("run/config.yaml")).unwrap();
    let weights = place.path("vgg.safetensors");
    let weights = format!("vgg_weights: {}", weights.display());
    assert_says(&written, &["vgg_w: 1.0", &weights]);
    // The run remembers the file.
    succeeded(place.run(MUNIT_TRAIN, &format!("{GO_ON} --resume run --iterations 3")));
}

#[test]
fn a_start_reads_the_perceptual_network_once() {
    let place = Place::new();
    let weights = place.path("vgg.safetensors");
    write_vgg(&weights);
    let arguments = "--data datasets/shapes --vgg-weights vgg.safetensors --perceptual 1 --out run";
    let opened = |arguments: &str| {
        let opened = Opened::watch(&weights);
        succeeded(place.train(arguments));
        opened.times()
    };
    // The run besides computes a checksum for its checkpoints.
    let checked = opened(&format!("{arguments} --check"));
    assert_eq!(opened(arguments), checked + 1);
}

/// Counts how often a file is opened.
struct Opened(File);

impl Opened {
    fn watch(file: &Path) -> Self {
        let name = CString::new(file.as_os_str().as_bytes()).unwrap();
        // Closings keep the system from taking several openings together as one.
        let kinds = libc::IN_OPEN | libc::IN_CLOSE_NOWRITE;
        // SAFETY: the name ends with a zero byte; the descriptor, which is checked, is new and nobody
        // else's.
        let watch = unsafe {
            let watch = libc::inotify_init1(libc::IN_NONBLOCK);
            assert!(watch >= 0 && libc::inotify_add_watch(watch, name.as_ptr(), kinds) >= 0);
            File::from_raw_fd(watch)
        };
        Self(watch)
    }

    fn times(mut self) -> usize {
        let mut events = Vec::new();
        // Ends with "would block" behind the last.
        let _ = self.0.read_to_end(&mut events);
        // Four numbers of 4 bytes, of which the second is the kind; a watched file has no name here.
        let kinds = events
            .chunks(16)
            .map(|event| event[4..8].try_into().unwrap());
        kinds
            .filter(|&kind| u32::from_ne_bytes(kind) & libc::IN_OPEN != 0)
            .count()
    }
}

#[test]
fn translations_that_imitate_a_picture_are_compared_with_its_style() {
    let place = Place::new();
    let arguments = "--a datasets/shapes/trainA --b datasets/shapes/trainB --recipe modern --size 64 --dim 2 \
                     --batch-size 1 --iterations 4 --device cpu --threads 1 --perceptual-style 2 \
                     --config short.yaml --out run";
    fs::write(place.path("short.yaml"), "log_iter: 1").unwrap();
    let sentence = failed(place.run(MUNIT_TRAIN, arguments));
    assert_says(
        &sentence,
        &["--perceptual-style is 2", "--vgg-weights FILE"],
    );
    let sentence = failed(place.run(MUNIT_TRAIN, &format!("{arguments} --encoded-styles 0")));
    assert_says(
        &sentence,
        &["--perceptual-style is 2", "encoded_styles is 0"],
    );
    write_vgg(&place.path("vgg.safetensors"));
    let published = format!("{arguments} --vgg-weights vgg.safetensors");
    let sentence = failed(place.run(MUNIT_TRAIN, &published));
    assert_says(&sentence, &["vgg.safetensors: ", "munit-import backbone"]);

    write_backbone(&place.path("small.safetensors"));
    succeeded(place.run(
        MUNIT_TRAIN,
        &format!("{arguments} --vgg-weights small.safetensors"),
    ));
    for name in ["gen_vgg_style_a", "gen_vgg_style_b"] {
        let values = place.column("run", name).unwrap();
        let found: Vec<bool> = values.iter().map(Option::is_some).collect();
        // Half of the translations have encoded styles: with one picture at a time, every other.
        assert_eq!(found, [false, true, false, true], "{name}");
    }
    assert_eq!(place.column("run", "gen_vgg_a"), None);
}

#[test]
fn a_unit_run_has_a_cycle_unless_it_is_told_otherwise() {
    let place = Place::new();
    fs::write(place.path("short.yaml"), "log_iter: 1").unwrap();
    let flags = "--a datasets/shapes/trainA --b datasets/shapes/trainB --size 64 --dim 2 \
                 --iterations 1 --device cpu --threads 1";
    for (run, more, weight, column) in [
        ("unit", "--trainer UNIT", "10.0", "gen_cyc_x_a"),
        ("unit-0", "--trainer UNIT --cycle 0", "0.0", ""),
        ("unit-3", "--trainer UNIT --cycle 3", "3.0", "gen_cyc_x_a"),
        ("munit", "--trainer MUNIT", "0.0", ""),
        (
            "munit-3",
            "--trainer MUNIT --cycle 3",
            "3.0",
            "gen_cycrecon_x_a",
        ),
    ] {
        succeeded(place.run(
            MUNIT_TRAIN,
            &format!("--config short.yaml {flags} --out {run} {more}"),
        ));
        let written = fs::read_to_string(place.path(run).join("config.yaml")).unwrap();
        assert_says(&written, &[&format!("recon_x_cyc_w: {weight}\n")]);
        let losses = place.losses(run);
        assert!(losses[0].contains(column), "{more}: {}", losses[0]);
        assert_eq!(losses[0].contains("gen_cyc"), !column.is_empty(), "{more}");
    }
}

#[test]
fn without_a_configuration_pictures_are_resized_to_more_than_the_crop() {
    let place = Place::new();
    let flags = "--a datasets/shapes/trainA --b datasets/shapes/trainB --dim 1 --iterations 1";
    for (run, more, sizes) in [
        ("default", "", ["new_size: 287", "crop_image_width: 256"]),
        (
            "given",
            "--size 64",
            ["new_size: 72", "crop_image_width: 64"],
        ),
    ] {
        succeeded(place.run(MUNIT_TRAIN, &format!("{flags} --out {run} {more} {GO_ON}")));
        let written = fs::read_to_string(place.path(run).join("config.yaml")).unwrap();
        assert_says(&written, &sizes);
    }
}

#[test]
fn flags_win_over_the_configuration() {
    let place = Place::new();
    succeeded(place.train(
        "--out run --a datasets/shapes/testB --b datasets/shapes/testA --lr 0.002 --cycle 0 \
         --size 16 --batch-size 2 --style-dim 2 --dim 2 --seed 7 --iterations 1 \
         --precision bf16",
    ));
    let shapes = place.path("datasets/shapes");
    let config = fs::read_to_string(place.path("run/config.yaml")).unwrap();
    assert_says(
        &config,
        &[
            &format!("data_folder_train_a: {}", shapes.join("testB").display()),
            &format!("data_folder_train_b: {}", shapes.join("testA").display()),
            "data_root: null",
            "lr: 0.002",
            "recon_x_cyc_w: 0.0",
            "crop_image_height: 16",
            "crop_image_width: 16",
            "new_size: 18",
            "batch_size: 2",
            "style_dim: 2",
            "dim: 2",
            "seed: 7",
            "max_iter: 1",
            "precision: bf16",
        ],
    );
    // Test pictures on their own go with any training pictures, and are what the sheets show.
    let half_red = |_, x, _| Rgb(if x < 22 { [255, 0, 0] } else { [0, 0, 255] });
    place.pictures("red", half_red);
    for (run, arguments, shown) in [
        ("tested-a", "--test-a red", true),
        ("tested-b", "--test-b red", true),
        ("untested", "", false),
    ] {
        let errors = succeeded(place.train(&format!("--out {run} --iterations 1 {arguments}")));
        assert_says(&errors, &["domain a: 5 pictures", "domain b: 4 pictures"]);
        let sheet = image::open(place.path(run).join("samples.png")).unwrap();
        let red = sheet.into_rgb8();
        let red = red.pixels().filter(|pixel| pixel.0 == [255, 0, 0]);
        assert_eq!(red.count() > 50, shown, "{run}");
    }
}

#[test]
fn a_run_leaves_its_files_and_as_many_checkpoints_as_it_shall_keep() {
    let place = Place::new();
    for trainer in ["MUNIT", "UNIT"] {
        succeeded(place.train(&format!(
            "--out {trainer} --trainer {trainer} --iterations 7 --checkpoint-every 2 --samples-every 3"
        )));
        let run = place.path(trainer);
        let expected = [
            ".lock",
            ".report",
            "checkpoints",
            "config.yaml",
            "events",
            "history.jsonl",
            "inputs.png",
            "losses.csv",
            "model.safetensors",
            "report.html",
            "samples",
            "samples.png",
        ];
        assert_eq!(names(&run), expected);
        assert_eq!(
            names(&run.join("checkpoints")),
            [
                "iteration-000000006.safetensors",
                "iteration-000000007.safetensors"
            ]
        );
        let sheets = [3, 6, 7].map(|iteration| format!("iteration-{iteration:09}.png"));
        assert_eq!(names(&run.join("samples")), sheets);
        // The report has them all, also those beside which there was no time for a report.
        let report = fs::read_to_string(run.join("report.html")).unwrap();
        assert_says(&report, &["iteration 3|iteration 6|iteration 7"]);
        let sheet = image::open(run.join("samples.png")).unwrap();
        assert!(sheet.width() > 64 && sheet.height() > 6 * 32);
        let info = place.run(MUNIT_INFO, &format!("{trainer}/model.safetensors"));
        assert_says(&text(&info.stdout), &[trainer]);
    }
}

#[test]
fn pictures_from_which_nothing_is_learnt_are_warned_of() {
    let place = Place::new();
    let one = place.path("one");
    fs::create_dir(&one).unwrap();
    fs::copy(
        place.path("datasets/shapes/trainB/0.png"),
        one.join("0.png"),
    )
    .unwrap();
    let a = "--out single --a datasets/shapes/trainA";
    let errors = succeeded(place.train(&format!("{a} --b one")));
    assert_says(
        &errors,
        &["munit-train: domain b has a single picture, in one"],
    );
    assert!(!errors.contains("domain a has a single"), "{errors}");
    assert!(!errors.contains("learn to copy"), "{errors}");

    // Also by way of a link.
    std::os::unix::fs::symlink(place.path("datasets/shapes/trainA"), place.path("link")).unwrap();
    let a = "--out same --a datasets/shapes/trainA";
    let errors = succeeded(place.train(&format!("{a} --b link")));
    assert_says(
        &errors,
        &["munit-train: domains a and b are the same", "learn to copy"],
    );
    assert!(!errors.contains("single picture"), "{errors}");
}

#[test]
fn a_folder_of_other_things_is_not_made_a_run() {
    let place = Place::new();
    let before = names(&place.path("datasets/shapes"));
    let sentence = failed(place.train("--out datasets/shapes"));
    assert_says(
        &sentence,
        &[
            "munit-train: datasets/shapes: this folder holds ",
            "not of a run",
            "--out",
        ],
    );
    assert_eq!(names(&place.path("datasets/shapes")), before);

    // Hidden files are those of file managers and of version control.
    fs::create_dir(place.path("run")).unwrap();
    fs::write(place.path("run/.directory"), "").unwrap();
    succeeded(place.train("--out run"));
}

#[test]
fn hints_can_be_pasted_into_a_shell() {
    let place = Place::new();
    let out = "runs/mit Ümläut";
    let mut running = place.start_training_in(out, "--iterations 1000000");
    running.wait_for_rows(&place.path(out), 1);
    running.signal("TERM");
    let (status, errors) = running.wait();
    assert_eq!(status, Some(0), "{errors}");
    assert_says(
        &errors,
        &[
            "go on with: munit-train --resume 'runs/mit Ümläut'\n",
            "munit-export 'runs/mit Ümläut' model.safetensors\n",
        ],
    );

    let (status, errors) = place.start_training_in("mit Ümläut", "").wait();
    assert_eq!(status, Some(0), "{errors}");
    assert_says(
        &errors,
        &["munitfilter model='mit Ümläut/model.safetensors' ! "],
    );
}

#[test]
fn unusable_pictures_are_listed_and_left_out() {
    let place = Place::new();
    let folder = place.path("datasets/shapes/trainA");
    fs::write(folder.join("broken.jpg"), "no picture").unwrap();
    RgbImage::new(3, 3).save(folder.join("tiny.png")).unwrap();
    let white = RgbImage::from_pixel(40, 40, Rgb([255; 3]));
    white.save(folder.join("blank.png")).unwrap();
    let errors = succeeded(place.train("--out run"));
    assert_says(
        &errors,
        &[
            "domain a: 5 pictures",
            "left out: ./datasets/shapes/trainA/blank.png: ",
            "left out: ./datasets/shapes/trainA/broken.jpg: ",
            "left out: ./datasets/shapes/trainA/tiny.png: ",
        ],
    );
}

#[test]
fn what_cannot_be_trained_is_refused_in_one_sentence() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    fs::create_dir(place.path("broken")).unwrap();
    fs::write(place.path("broken/only.png"), "no picture").unwrap();
    fs::write(place.path("file"), "").unwrap();
    let a = "--a datasets/shapes/trainA";
    let b = "--b datasets/shapes/trainB";
    for (arguments, parts) in [
        (
            "--out run --data missing",
            &["missing", "trainA and trainB"][..],
        ),
        (
            &format!("--out run --a missing {b}"),
            &["missing", "folder"],
        ),
        (
            &format!("--out run --a empty {b}"),
            &["no pictures in empty"],
        ),
        (
            &format!("--out run {a} --b empty"),
            &["no pictures in empty"],
        ),
        (&format!("--out run {a}"), &["domain b", "--b FOLDER"]),
        (
            &format!("--out run {a} --b broken"),
            &["the only picture in broken", "only.png"],
        ),
        (
            "--out file/run",
            &["file/run", "cannot make the run's folder"],
        ),
        ("", &["--out"]),
        ("--out run --lr=-0.1", &["munit-train: --lr is -0.1;"]),
        ("--out run --lr nan", &["munit-train: --lr is NaN;"]),
        ("--out run --cycle -1", &["munit-train: --cycle is -1;"]),
        (
            "--out run --size 30",
            &["munit-train: --size is 30;", "multiple of 4"],
        ),
        (
            "--out run --size 12",
            &["munit-train: --size is 12;", "at least 16"],
        ),
        ("--out run --size 0", &["munit-train: --size is 0;"]),
        (
            "--out run --size 4100",
            &["munit-train: --size is 4100;", "4096"],
        ),
        (
            "--out run --batch-size 0",
            &["munit-train: --batch-size is 0;"],
        ),
        ("--out run --dim 0", &["munit-train: --dim is 0;"]),
        (
            "--out run --style-dim 0",
            &["munit-train: --style-dim is 0;"],
        ),
        (
            "--out run --iterations 0",
            &["munit-train: --iterations is 0;"],
        ),
        (
            "--out run --checkpoint-every 0",
            &["munit-train: --checkpoint-every is 0;"],
        ),
        (
            "--out run --samples-every 0",
            &["munit-train: --samples-every is 0;"],
        ),
        ("--resume nothing", &["nothing", "no run of munit-train"]),
        ("--resume empty", &["empty", "no run of munit-train"]),
        ("--resume run --out other", &["--out other"]),
    ] {
        let sentence = failed(place.train(arguments));
        assert_says(&sentence, parts);
        assert!(!sentence.contains("memory"), "{sentence}");
    }
}

#[test]
fn a_device_that_is_not_there_is_refused() {
    let place = Place::new();
    let run = |arguments: &str| {
        let config = config("folder.yaml");
        place.run(
            MUNIT_TRAIN,
            &format!("--config {config} --out run {arguments}"),
        )
    };
    let sentence = failed(run("--device cuda:99"));
    let machine_has_cuda = sentence.contains("cuda:99");
    assert_says(
        &sentence,
        &[if machine_has_cuda { "cuda:0" } else { "cpu" }],
    );
    let output = run("--device tpu");
    assert_eq!(output.status.code(), Some(1));
    assert_says(
        &text(&output.stderr),
        &["\"tpu\" is not a device", "cuda:N"],
    );
    let sentence = failed(run("--device cpu --threads 0"));
    assert_says(&sentence, &["--threads is 0"]);
}

#[test]
fn too_little_memory_is_called_that() {
    let place = Place::new();
    let config = config("folder.yaml");
    // 4096 pictures of 1024 by 1024 pixels are 51 GB; the limit makes any machine refuse.
    let script = format!(
        "ulimit -v 16000000; exec {MUNIT_TRAIN} --config {config} --out run --device cpu --threads 1 \
         --size 1024 --batch-size 4096"
    );
    fs::write(place.path("script"), script).unwrap();
    let sentence = failed(place.run("sh", "script"));
    assert_says(
        &sentence,
        &[
            "not enough memory",
            "--batch-size (4096)",
            "--size (1024x1024)",
            "--dim (4)",
        ],
    );
}

#[test]
fn unusable_configurations_are_explained() {
    let place = Place::new();
    let folder = fs::read_to_string(config("folder.yaml")).unwrap();
    for (text, parts) in [
        (
            folder.replace("crop_image_height", "crop_image_hieght"),
            &[
                "crop_image_hieght",
                "nearest known key is crop_image_height",
            ][..],
        ),
        (
            folder.replace("  mlp_dim", "  mpl_dim"),
            &["gen: ", "mpl_dim", "nearest known key is mlp_dim"],
        ),
        (
            folder.replace("  n_layer", "  nlayer"),
            &["dis: ", "nlayer", "nearest known key is n_layer"],
        ),
        (
            folder.replace("lr: 0.0001", "lr: fast"),
            &["lr: ", "\"fast\""],
        ),
        (folder.replace("lr: 0.0001", "lr: .nan"), &["lr is NaN"]),
        (
            folder.replace("init: kaiming", "init: he"),
            &["init: ", "kaiming"],
        ),
        (
            folder.replace("vgg_w: 0", "vgg_w: 1"),
            &["vgg_w is 1", "--vgg-weights FILE"],
        ),
        (
            folder.replace("vgg_w: 0", "vgg_w: 1\nvgg_weights: missing.safetensors"),
            &["missing.safetensors", "VGG-16"],
        ),
        (
            folder.replace("vgg_w: 0", "vgg_w: 1\nvgg_weights: wrong.yaml"),
            &["wrong.yaml", "VGG-16"],
        ),
        ("foo: [\n".to_owned(), &["broken YAML: ", "line 2"]),
        (
            folder.replace("vgg_w: 0", "vgg_w: 0\nlr: 1"),
            &["lr is given more than once, in the lines 18 and 28;"],
        ),
        ("a picture?".to_owned(), &["key: value"]),
    ] {
        fs::write(place.path("wrong.yaml"), text).unwrap();
        let sentence = failed(place.run(
            MUNIT_TRAIN,
            "--config wrong.yaml --out run --device cpu --threads 1",
        ));
        assert_says(&sentence, parts);
        assert!(!sentence.contains("memory"), "{sentence}");
    }
    fs::write(place.path("wrong.yaml"), b"\x89PNG\r\n\x1a\n").unwrap();
    let arguments = "--config wrong.yaml --out run";
    let sentence = failed(place.run(MUNIT_TRAIN, arguments));
    assert_says(&sentence, &["wrong.yaml: not a YAML text file"]);
    let sentence = failed(place.run(MUNIT_TRAIN, "--config missing.yaml --out run"));
    assert_says(&sentence, &["missing.yaml", "cannot read"]);
}

#[test]
fn a_run_keeps_its_names_and_its_threads() {
    let place = Place::new();
    let arguments = format!(
        "--config {} --device cpu --out run --threads 1 --a-name edges --b-name shoes",
        config("folder.yaml")
    );
    succeeded(place.run(MUNIT_TRAIN, &arguments));
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert_says(&page, &["<title>edges ⇄ shoes: "]);

    // Not those that libtorch would take here.
    let resume = |arguments: &str| {
        let arguments = format!("--resume run --device cpu {arguments}");
        let mut command = place.command(MUNIT_TRAIN, arguments.split_whitespace());
        succeeded(command.env("OMP_NUM_THREADS", "2").output().unwrap())
    };
    let errors = resume("--iterations 3");
    assert_says(&errors, &["--threads 1, as before"]);
    assert!(!errors.contains("rounding"), "{errors}");
    let errors = resume("--iterations 4 --threads 2");
    assert_says(&errors, &["\"cpu, threads: 2\"", "rounding may differ"]);
    let info = succeeded_text(&place.run(MUNIT_INFO, "run/model.safetensors"));
    assert_says(&info, &["a = edges, b = shoes"]);
}

#[test]
fn a_folder_holds_one_run() {
    let place = Place::new();
    let mut running = place.start_training("--out run --iterations 1000000");
    running.wait_for_rows(&place.path("run"), 1);
    let sentence = failed(place.train("--out run"));
    assert_says(&sentence, &["run: another munit-train is at work"]);
    let sentence = failed(place.train("--resume run"));
    assert_says(&sentence, &["run: another munit-train is at work"]);
    running.signal("TERM");
    assert_eq!(running.wait().0, Some(0));

    let sentence = failed(place.train("--out run"));
    assert_says(&sentence, &["run: holds a run of", "--resume", "--out"]);
}

#[test]
fn a_run_goes_on_as_it_was_begun() {
    let place = Place::new();
    succeeded(place.train("--out run"));
    let sentence = failed(place.train("--resume run --lr 0.5 --iterations 4"));
    assert_says(&sentence, &["--lr is 0.5 here", "begun with 0.0001"]);
    let sentence = failed(place.train("--resume run --dim 8 --iterations 4"));
    assert_says(&sentence, &["--dim is 8 here", "begun with 4"]);
    // What changes no number may be changed.
    succeeded(place.train("--resume run --iterations 3 --checkpoint-every 1 --samples-every 1"));

    fs::remove_file(place.path("datasets/shapes/trainA/0.png")).unwrap();
    let errors = succeeded(place.train("--resume run --iterations 4"));
    assert_says(&errors, &["training pictures have changed"]);
}

#[test]
fn a_run_without_its_configuration_goes_on_with_that_of_its_checkpoint() {
    let place = eventful();
    succeeded(place.run(MUNIT_TRAIN, &format!("{ANEW} --out whole --iterations 12")));
    succeeded(place.run(MUNIT_TRAIN, &format!("{ANEW} --out run --iterations 11")));
    fs::remove_file(place.path("run/config.yaml")).unwrap();
    let sentence = failed(place.run(MUNIT_TRAIN, &format!("{ANEW} --out run")));
    assert_says(
        &sentence,
        &["run: holds a run of 11 iterations", "--resume"],
    );
    let on = format!("{GO_ON} --resume run --iterations 12");
    succeeded(place.run(MUNIT_TRAIN, &on));
    assert_same_end(&place, "whole", "run", 12);
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let place = Place::new();
    succeeded(place.train("--out whole --iterations 6 --checkpoint-every 2"));
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.clear(),
        |bytes| *bytes.last_mut().unwrap() ^= 1,
        |bytes| bytes[200] ^= 1,
    ];
    // The newest checkpoint lies beyond the rhythm of the others: it is only written at the end.
    succeeded(place.train("--out run --iterations 5 --checkpoint-every 2"));
    let newest = place.checkpoint("run", 5);
    for damage in damages {
        let mut bytes = fs::read(&newest).unwrap();
        damage(&mut bytes);
        fs::write(&newest, bytes).unwrap();
        let errors = succeeded(place.train("--resume run"));
        assert_says(&errors, &["iteration-000000005", "damaged", "going back"]);
    }
    let errors = succeeded(place.train("--resume run --iterations 6"));
    assert!(!errors.contains("damaged"), "{errors}");
    assert_same_end(&place, "whole", "run", 6);

    let before = fs::read_to_string(place.path("run/config.yaml")).unwrap();
    let sentence = failed(place.train("--resume run --iterations 5"));
    assert_says(
        &sentence,
        &[
            "run: has 6 iterations already",
            "which is 5, counts from the beginning",
        ],
    );
    assert_eq!(
        fs::read_to_string(place.path("run/config.yaml")).unwrap(),
        before
    );
    fs::write(place.checkpoint("run", 7), "").unwrap();
    let errors = succeeded(place.run(MUNIT_EXPORT, "run older.safetensors"));
    assert_says(
        &errors,
        &["iteration-000000007", "damaged", "taking the one before"],
    );

    for iteration in [4, 6] {
        fs::write(place.checkpoint("whole", iteration), "").unwrap();
    }
    let sentence = failed(place.train("--resume whole --iterations 7"));
    let advice = [
        "iteration-000000006",
        "damaged",
        "no checkpoint of this run is whole",
    ];
    assert_says(&sentence, &advice);
    let sentence = failed(place.run(MUNIT_EXPORT, "whole model.safetensors"));
    assert_says(&sentence, &advice);
}

#[test]
fn going_back_from_a_damaged_checkpoint_keeps_those_that_are_whole() {
    let place = Place::new();
    succeeded(place.train("--out run --iterations 4 --checkpoint-every 1"));
    // A single checkpoint is to be kept, and a damaged one of a later iteration is there.
    let config = fs::read_to_string(place.path("run/config.yaml")).unwrap();
    let config = config.replace("keep_checkpoints: 2", "keep_checkpoints: 1");
    fs::write(place.path("run/config.yaml"), config).unwrap();
    fs::write(place.checkpoint("run", 9), "").unwrap();
    succeeded(place.train("--resume run --iterations 5"));
    assert!(place.checkpoint("run", 5).exists());
    let errors = succeeded(place.train("--resume run --iterations 6"));
    assert_says(&errors, &["iteration-000000009", "going back"]);
    assert_eq!(place.losses("run").len(), 7);
}

fn event_files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("events.out.tfevents."))
        .collect();
    names.sort();
    names
}

/// What lies in a folder; event files, whose names hold the time, as one.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| match name.starts_with("events.out.tfevents.") {
            true => "events".to_owned(),
            false => name,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}
