//! `munit-train` in two processes at once, started by `mpirun` on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tch::{Kind, Tensor};

use crate::common::{MUNIT_TRAIN, PATIENCE, Place, Running, assert_says, failed, succeeded, text};
use crate::train::{EVENTFUL, assert_same_end};

/// Every place for chance there is: order, crops, flips, styles or latent noise.
fn place(trainer: &str, more: &str) -> Place {
    let place = Place::new();
    // Not the hinge of the modern recipe: it leaves the last bias of a discriminator no gradient but
    // rounding, with which Adam then takes steps.
    let config = EVENTFUL.replace("norm: bn", "norm: sn, gan_type: lsgan");
    fs::write(
        place.path("ranks.yaml"),
        format!("{config}trainer: {trainer}\n{more}"),
    )
    .unwrap();
    place
}

const ANEW: &str = "--config ranks.yaml --device cpu --threads 1";
const GO_ON: &str = "--device cpu --threads 1";

/// Two processes of `munit-train` with `arguments`; ` : ` separates those of each, where they differ.
fn mpirun(place: &Place, arguments: &str) -> Command {
    let apart: Vec<&str> = arguments.split(" : ").collect();
    let of_each = 2 / apart.len();
    let parts: Vec<String> = apart
        .iter()
        .map(|arguments| format!("-n {of_each} {MUNIT_TRAIN} {arguments}"))
        .collect();
    let mut command = place.command("mpirun", parts.join(" : ").split_whitespace());
    for (name, value) in [
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        // More processes than cores, no network, and nothing that a container may forbid.
        ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
        ("OMPI_MCA_hwloc_base_binding_policy", "none"),
        ("OMPI_MCA_btl", "^tcp,openib"),
        ("OMPI_MCA_btl_vader_single_copy_mechanism", "none"),
        ("OMPI_MCA_pml", "ob1"),
    ] {
        command.env(name, value);
    }
    command
}

fn run(place: &Place, arguments: &str) -> Output {
    mpirun(place, arguments).output().unwrap()
}

/// What the process `rank` of a running `mpirun` is known by, as soon as it is there.
fn process(mpirun: &mut Running, rank: usize) -> u32 {
    let parent = mpirun.id();
    let wanted = format!("OMPI_COMM_WORLD_RANK={rank}");
    let find = || {
        fs::read_dir("/proc").unwrap().find_map(|entry| {
            let folder = entry.ok()?.path();
            let status = fs::read_to_string(folder.join("status")).ok()?;
            let is_child = status
                .lines()
                .any(|line| line.strip_prefix("PPid:").map(str::trim) == Some(&parent.to_string()));
            let environment = fs::read(folder.join("environ")).ok()?;
            let is_wanted = environment
                .split(|&byte| byte == 0)
                .any(|variable| variable == wanted.as_bytes());
            let number = folder.file_name()?.to_str()?.parse().ok()?;
            (is_child && is_wanted).then_some(number)
        })
    };
    mpirun.wait_until("a process", || find().is_some());
    find().unwrap()
}

/// Waits until `process` runs no more; whether its parent has taken note does not matter.
fn wait_for_end(process: u32) {
    let started = Instant::now();
    let stat = format!("/proc/{process}/stat");
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(
            started.elapsed() < PATIENCE,
            "process {process} does not end"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(name: &str, process: u32) {
    let kill = Command::new("sh")
        .args(["-c", &format!("kill -{name} {process}")])
        .status();
    assert!(kill.unwrap().success());
}

fn tensors(checkpoint: &Path) -> BTreeMap<String, Tensor> {
    let tensors = Tensor::read_safetensors(checkpoint).unwrap();
    tensors.into_iter().collect()
}

/// The largest difference of a loss between two tables, as a part of the loss.
fn difference(one: &[String], other: &[String]) -> f64 {
    assert_eq!(one.len(), other.len());
    assert_eq!(one[0], other[0]);
    let numbers = |row: &str| -> Vec<f64> {
        let cells = row.split(',');
        cells.map(|cell| cell.parse().unwrap()).collect()
    };
    let rows = one[1..].iter().zip(&other[1..]);
    rows.flat_map(|(one, other)| {
        let pairs: Vec<_> = numbers(one).into_iter().zip(numbers(other)).collect();
        pairs
            .into_iter()
            .map(|(one, other)| (one - other).abs() / one.abs().max(1e-3))
    })
    .fold(0.0, f64::max)
}

/// The root of the mean squared difference of all weights of networks between two checkpoints.
fn weight_difference(one: &Path, other: &Path) -> f64 {
    let (one, other) = (tensors(one), tensors(other));
    assert!(one.keys().eq(other.keys()));
    let (mut sum, mut count) = (0.0, 0);
    for (name, tensor) in one
        .iter()
        .filter(|(name, _)| name.starts_with("gen_") || name.starts_with("dis_"))
    {
        let difference = tensor - &other[name];
        sum += difference.square().sum(Kind::Double).double_value(&[]);
        count += tensor.numel();
    }
    (sum / count as f64).sqrt()
}

/// All of the modern recipe, and partners, but the one term that each process computes on half of its own
/// share.
const MODERN: &str = "\
recipe: modern
precision: fp32
diversity_w: 0
style_prior_w: 1
paired_w: 5
r1_every: 4
";

#[test]
fn two_processes_with_one_picture_learn_what_one_learns_with_two() {
    for (trainer, more) in [
        ("MUNIT", ""),
        ("UNIT", "recon_kl_w: 0.1\nrecon_kl_cyc_w: 0.1\n"),
        // Half of the styles are encoded from pictures: those of one of the two processes; and moments
        // of styles are compared, of which one picture has none.
        ("MUNIT", MODERN),
    ] {
        let place = place(trainer, more);
        let checkpoint = |run| place.checkpoint(run, 8);
        let steps = "--iterations 8";
        let errors = succeeded(run(
            &place,
            &format!("{ANEW} --out two {steps} --batch-size 1"),
        ));
        // Four of domain a's have partners.
        let pictures = if more == MODERN { 4 } else { 5 };
        let told = format!("domain a: {pictures} pictures");
        assert_eq!(errors.matches(&told).count(), 1, "{errors}");
        for (name, batch) in [("one", 2), ("larger", 3)] {
            let arguments = format!("{ANEW} --out {name} {steps} --batch-size {batch}");
            succeeded(place.run(MUNIT_TRAIN, &arguments));
        }
        // Rounding differs: sums are added up in another order.
        let rounding = difference(&place.losses("one"), &place.losses("two"));
        assert!(rounding < 1e-4, "{trainer}: {rounding}");
        let other = difference(&place.losses("one"), &place.losses("larger"));
        assert!(other > 0.03, "{trainer}: {other}");

        let rounding = weight_difference(&checkpoint("one"), &checkpoint("two"));
        let other = weight_difference(&checkpoint("one"), &checkpoint("larger"));
        // Adam takes whole steps even where a gradient is nothing but rounding.
        assert!(rounding < 0.05 * other, "{trainer}: {rounding}, {other}");

        let config = |run: &str| fs::read_to_string(place.path(run).join("config.yaml")).unwrap();
        assert_eq!(config("one"), config("two"));
        assert!(place.path("two/model.safetensors").exists());
    }
}

#[test]
fn the_modern_recipe_trains_in_two_processes() {
    let place = place("MUNIT", "");
    let arguments = format!("{ANEW} --recipe modern --iterations 3 --batch-size 2");
    for out in ["one", "two"] {
        succeeded(run(&place, &format!("{arguments} --out {out}")));
    }
    assert_same_end(&place, "one", "two", 3);
    let config = fs::read_to_string(place.path("one/config.yaml")).unwrap();
    assert_says(&config, &["batch_size: 4", "recipe: modern"]);
}

#[test]
fn two_processes_pass_over_the_same_updates_in_float16() {
    let place = place("MUNIT", "precision: fp16\n");
    let steps = "--iterations 8";
    let two = format!("{ANEW} --out two {steps} --batch-size 1");
    succeeded(run(&place, &two));
    let one = format!("{ANEW} --out one {steps} --batch-size 2");
    succeeded(place.run(MUNIT_TRAIN, &one));
    // The last columns; at first gradients are too large.
    let scales = |run: &str| -> Vec<String> {
        let rows = place.losses(run);
        let cells = rows
            .iter()
            .map(|row| row.split(',').rev().take(2).collect());
        cells.map(|cells: Vec<&str>| cells.join(",")).collect()
    };
    assert_eq!(scales("one"), scales("two"));
    assert_eq!(scales("one")[0], "gen_loss_scale,dis_loss_scale");
    assert_ne!(scales("one")[1], scales("one")[8]);
    // Their maps are rounded alike, but for those that follow from gradients.
    let rounding = difference(&place.losses("one"), &place.losses("two"));
    assert!(rounding < 0.01, "{rounding}");
}

#[test]
fn two_processes_go_on_to_the_same_end() {
    let place = place("MUNIT", "");
    succeeded(run(&place, &format!("{ANEW} --out whole --iterations 40")));
    succeeded(run(&place, &format!("{ANEW} --out halves --iterations 20")));
    let on = format!("{GO_ON} --resume halves --iterations 40");
    let errors = succeeded(run(&place, &on));
    assert!(!errors.contains("munit-train:"), "a warning: {errors}");
    assert_same_end(&place, "whole", "halves", 40);

    // One process takes over the whole batch.
    let on = format!("{GO_ON} --resume halves --iterations 41");
    let errors = succeeded(place.run(MUNIT_TRAIN, &on));
    assert_says(&errors, &["processes: 2", "rounding may differ"]);
    let config = fs::read_to_string(place.path("halves/config.yaml")).unwrap();
    assert_says(&config, &["batch_size: 2"]);
    let sentence = failed_together(run(&place, &format!("{on} --batch-size 2")));
    let parts = [
        "batch of 2 processes (--batch-size) is 4 here",
        "begun with 2",
    ];
    assert_says(&sentence, &parts);
}

#[test]
fn a_run_goes_back_with_the_pictures_that_it_was_begun_with() {
    let rare = "snapshot_save_iter: 100000\nimage_display_iter: 3\nmax_iter: 42\n";
    let place = place("MUNIT", "");
    let config = fs::read_to_string(place.path("ranks.yaml")).unwrap();
    let config = config
        .replace("snapshot_save_iter: 10\n", rare)
        .replace("log_iter: 1\n", "log_iter: 40\nlr: 1e6\n");
    fs::write(place.path("ranks.yaml"), config).unwrap();
    let mut running = Running::new(mpirun(&place, &format!("{ANEW} --out run")));
    // Long before the losses are looked at, and the run goes back.
    let samples = place.path("run/samples.png");
    running.wait_until("the first iteration", || samples.exists());
    let folder = place.path("datasets/shapes/trainA");
    fs::copy(folder.join("0.png"), folder.join("9.png")).unwrap();
    let (status, errors) = running.wait();
    assert_eq!(status, Some(1), "{errors}");
    assert_says(&errors, &["return 3 of 3 at most", "have not helped"]);
    assert!(
        !errors.contains("not those of the first process"),
        "{errors}"
    );
}

#[test]
fn all_processes_stop_after_the_same_iteration() {
    let place = place("MUNIT", "");
    let endless = format!("{ANEW} --out stopped --iterations 1000000");
    let mut running = Running::new(mpirun(&place, &endless));
    running.wait_for_rows(&place.path("stopped"), 2);
    // Only one of them is asked.
    signal("TERM", process(&mut running, 1));
    let (status, errors) = running.wait();
    assert_eq!(status, Some(0), "{errors}");
    assert_says(&errors, &["go on with: munit-train --resume stopped"]);
    let reached = place.losses("stopped").len() as u64 - 1;
    assert!(place.checkpoint("stopped", reached).exists(), "{errors}");

    let last = format!("--iterations {}", reached + 3);
    let on = format!("{GO_ON} --resume stopped {last}");
    succeeded(run(&place, &on));
    succeeded(run(&place, &format!("{ANEW} --out whole {last}")));
    assert_same_end(&place, "whole", "stopped", reached + 3);
}

#[test]
fn when_a_process_is_killed_the_run_ends() {
    let place = place("MUNIT", "");
    let endless = format!("{ANEW} --out killed --iterations 1000000 --checkpoint-every 2");
    let mut running = Running::new(mpirun(&place, &endless));
    running.wait_for_rows(&place.path("killed"), 4);
    let others = process(&mut running, 0);
    signal("KILL", process(&mut running, 1));
    let (status, errors) = running.wait();
    assert_ne!(status, Some(0));
    assert_says(&errors, &["rank 1", "signal 9"]);
    wait_for_end(others);

    let last = place.losses("killed").len() as u64 + 3;
    let end = format!("--iterations {last}");
    succeeded(run(&place, &format!("{GO_ON} --resume killed {end}")));
    let whole = format!("{ANEW} --out whole --checkpoint-every 2 {end}");
    succeeded(run(&place, &whole));
    assert_same_end(&place, "whole", "killed", last);
}

/// The one sentence of `munit-train` with which all processes ended.
fn failed_together(output: Output) -> String {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    let said: Vec<&str> = errors
        .lines()
        .filter(|line| line.starts_with("munit-train: process"))
        .collect();
    assert_eq!(said.len(), 1, "{errors}");
    said[0].to_owned()
}

#[test]
fn what_one_process_fails_at_is_said_and_ends_all() {
    let place = place("MUNIT", "");
    let endless = "--config ranks.yaml --device cpu --iterations 1000000 --out run";
    let apart = format!("{endless} : {endless} --threads 0");
    let sentence = failed_together(run(&place, &apart));
    assert_says(&sentence, &["process 1 of 2: --threads is 0"]);
}

#[test]
fn what_several_processes_cannot_do_is_refused_once() {
    let place = place("MUNIT", "");
    fs::write(place.path("batch-norm.yaml"), EVENTFUL).unwrap();
    let batch_norm = "--config batch-norm.yaml --device cpu --out refused";
    let sentence = failed_together(run(&place, batch_norm));
    assert_says(
        &sentence,
        &["process 0 of 2: dis.norm is bn", "whole batch"],
    );
    let sentence = failed_together(run(&place, &format!("{ANEW} --out run --check")));
    assert_says(&sentence, &["--check is for one process"]);
    let sentence = failed_together(run(&place, "--resume nowhere"));
    assert_says(&sentence, &["nowhere: there is no run"]);

    let three = format!("{ANEW} --out odd --iterations 1 --batch-size 3");
    succeeded(place.run(MUNIT_TRAIN, &three));
    let on = format!("{GO_ON} --resume odd --iterations 2");
    let sentence = failed_together(run(&place, &on));
    assert_says(&sentence, &["batch of 3 pictures", "2 processes"]);
    // A process that was started alone needs no others.
    failed(place.run(MUNIT_TRAIN, "--resume nowhere"));
}
