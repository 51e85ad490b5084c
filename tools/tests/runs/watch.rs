//! What is found out about a run while it trains, what it does about it, and which checkpoints stay.

use std::fs;

use crate::common::{MUNIT_EXPORT, MUNIT_TRAIN, text};
use crate::common::{Place, assert_says, config, failed, history, succeeded};
use image::Rgb;
use munit::Model;

/// The configuration `folder.yaml` as `NAME.yaml` with other values, and the flags to train with it.
fn with(place: &Place, name: &str, changes: &[(&str, &str)]) -> String {
    let mut yaml = fs::read_to_string(config("folder.yaml")).unwrap();
    for (key, value) in changes {
        let line = format!("{key}: {value}\n");
        let start = format!("{key}: ");
        let lines = yaml.lines().filter(|line| !line.starts_with(&start));
        yaml = lines.map(|line| format!("{line}\n")).collect::<String>() + &line;
    }
    fs::write(place.path(&format!("{name}.yaml")), yaml).unwrap();
    format!("--config {name}.yaml --device cpu --threads 1")
}

fn checkpoints(place: &Place, run: &str) -> Vec<u64> {
    let folder = fs::read_dir(place.path(run).join("checkpoints")).unwrap();
    let mut iterations: Vec<u64> = folder
        .map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let digits = name.strip_prefix("iteration-").unwrap();
            digits
                .strip_suffix(".safetensors")
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    iterations.sort_unstable();
    iterations
}

/// With this rate the losses run away after a few iterations; with half of it they do not within ten.
const RUNS_AWAY: [(&str, &str); 3] = [
    ("lr", "2.5"),
    ("max_iter", "10"),
    ("snapshot_save_iter", "1000"),
];

#[test]
fn a_run_goes_back_from_losses_that_run_away_and_a_resumed_one_does_the_same() {
    let place = Place::new();
    let flags = with(&place, "away", &RUNS_AWAY);
    let errors = succeeded(place.run(MUNIT_TRAIN, &format!("{flags} --out whole")));
    assert_says(
        &errors,
        &[
            "(exploding loss). A lower lr usually helps",
            "going back to iteration 0, with the learning rate 1.25e0",
            "(return 1 of 3 at most)",
            "model: whole/model.safetensors",
        ],
    );
    let written = fs::read_to_string(place.path("whole/config.yaml")).unwrap();
    assert_says(&written, &["rollbacks:\n- from: ", "  to: 0\n", "lr: 2.5"]);
    let events = history(&place.path("whole"));
    let kinds: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    assert!(
        kinds.ends_with(&["found", "rolled-back", "finished"]),
        "{events:?}"
    );
    // The curves are those of the run as it went on.
    let rows = place.losses("whole");
    assert_eq!(rows.len(), 11);
    assert!(rows[10].starts_with("10,"));
    let page = fs::read_to_string(place.path("whole/report.html")).unwrap();
    assert_says(&page, &["Exploding loss", "Went back to iteration 0"]);

    // Interrupted after the return; and killed right after it, when its checkpoint is the newest.
    succeeded(place.run(MUNIT_TRAIN, &format!("{flags} --out halves --iterations 6")));
    succeeded(place.run(
        MUNIT_TRAIN,
        "--resume halves --iterations 10 --device cpu --threads 1",
    ));
    succeeded(place.run(MUNIT_TRAIN, &format!("{flags} --out again")));
    fs::remove_file(place.checkpoint("again", 10)).unwrap();
    assert_eq!(checkpoints(&place, "again"), [0]);
    succeeded(place.run(MUNIT_TRAIN, "--resume again --device cpu --threads 1"));
    for run in ["halves", "again"] {
        assert_eq!(place.losses(run), rows, "{run}");
        let read = |run: &str| fs::read(place.checkpoint(run, 10)).unwrap();
        assert!(read(run) == read("whole"), "{run}");
    }
}

#[test]
fn a_run_that_is_lost_again_and_again_ends_with_a_sentence() {
    let place = Place::new();
    let changes = [("lr", "1e6"), ("max_iter", "10")];
    let flags = with(&place, "lost", &changes);
    let output = place.run(MUNIT_TRAIN, &format!("{flags} --out run"));
    let errors = text(&output.stderr);
    let sentence = failed(output);
    assert_says(
        &sentence,
        &[
            "munit-train: iteration ",
            " is ",
            "3 returns to earlier checkpoints",
            "have not helped",
            "munit-export run model.safetensors, or start anew with an lr below 1.25e5",
        ],
    );
    assert_says(&errors, &["(not a number)", "return 3 of 3 at most"]);
    let events = history(&place.path("run"));
    let returns = events.iter().filter(|(kind, _)| kind == "rolled-back");
    assert_eq!(returns.count(), 3, "{events:?}");
    assert_eq!(events.last().unwrap().0, "found");
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert_says(&page, &["ended with an error", "Not a number"]);
    assert!(!place.path("run/model.safetensors").exists());
}

#[test]
fn losses_that_no_scale_helps_are_lost_in_float16_too() {
    let place = Place::new();
    let changes = [
        ("lr", "1e6"),
        ("precision", "fp16"),
        ("max_iter", "45"),
        ("snapshot_save_iter", "1000"),
        ("image_display_iter", "1000"),
        ("image_save_iter", "1000"),
    ];
    let flags = with(&place, "lost", &changes);
    let errors = text(&place.run(MUNIT_TRAIN, &format!("{flags} --out run")).stderr);
    assert_says(
        &errors,
        &[" is NaN (not a number)", "going back to iteration 0"],
    );
    // Only after the scale has been halved from 65536 to 2⁻¹⁶.
    let events = history(&place.path("run"));
    let found = events.iter().find(|(kind, _)| kind == "found").unwrap();
    assert!((32..45).contains(&found.1), "{events:?}");
}

#[test]
fn a_configuration_of_a_run_that_went_back_begins_a_new_one_with_its_own_rate() {
    let place = Place::new();
    let yaml = fs::read_to_string(config("folder.yaml")).unwrap();
    let yaml = yaml + "rollbacks:\n- from: 9\n  to: 5\n";
    fs::write(place.path("back.yaml"), yaml).unwrap();
    let arguments = "--config back.yaml --device cpu --threads 1 --out run";
    succeeded(place.run(MUNIT_TRAIN, arguments));
    let written = fs::read_to_string(place.path("run/config.yaml")).unwrap();
    assert!(!written.contains("rollbacks"), "{written}");
}

#[test]
fn styles_without_effect_are_named_in_log_history_and_report() {
    let place = Place::new();
    // Weights so small that nothing of the style arrives.
    let changes = [
        ("init", "gaussian"),
        ("lr", "1e-9"),
        ("max_iter", "8"),
        ("watch_iter", "2"),
        ("watch_after", "0"),
    ];
    let flags = with(&place, "silent", &changes);
    let errors = succeeded(place.run(MUNIT_TRAIN, &format!("{flags} --out run --iterations 7")));
    let line = "munit-train: iteration 6: styles have no visible effect in direction a2b";
    assert_says(
        &errors,
        &[line, "(mode collapse). recipe: modern usually helps"],
    );
    let found = ("found".to_owned(), 6);
    assert!(history(&place.path("run")).contains(&found));
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert_says(&page, &["Mode collapse", "at iteration 6"]);
    // The figures have columns of their own, filled where they were measured.
    let diversity = place.column("run", "diversity_a2b").unwrap();
    assert_eq!(diversity[2], None);
    assert!(diversity[3].unwrap() < 0.008, "{diversity:?}");

    // It goes on without saying so again: that it is so is known from losses.csv.
    let errors = succeeded(place.run(
        MUNIT_TRAIN,
        "--resume run --iterations 14 --device cpu --threads 1",
    ));
    assert!(!errors.contains("direction a2b"), "{errors}");
}

/// Trains with `changes` until something has gone wrong and asserts that `figure`, which was `healthy` at
/// its first reading, is the reason, and that log, history and report say so with these words.
#[track_caller]
fn goes_wrong(
    changes: &[(&str, &str)],
    folders: &str,
    [line, name]: [&str; 2],
    figure: &str,
    healthy: impl Fn(f64) -> bool,
) {
    let place = Place::new();
    place.pictures("discs", |number, x, y| {
        let (dx, dy) = (x as i32 - 10 - 5 * number as i32, y as i32 - 19);
        let inside = dx * dx + dy * dy < 120;
        Rgb(if inside { [120, 132, 140] } else { [128; 3] })
    });
    place.pictures("flat", |number, x, y| {
        Rgb([128 + (x + number) as u8 % 5 * 3, 128, 120 + y as u8 % 3 * 4])
    });
    let often = [
        ("log_iter", "3"),
        ("watch_iter", "3"),
        ("watch_after", "0"),
        ("image_save_iter", "1000"),
        ("image_display_iter", "1000"),
        ("snapshot_save_iter", "1000"),
        ("max_iter", "60"),
    ];
    let flags = with(&place, "wrong", &[&often[..], changes].concat());
    let errors = succeeded(place.run(MUNIT_TRAIN, &format!("{flags} {folders} --out run")));
    let said = errors.lines().find(|said| said.contains(line));
    let said = said.unwrap_or_else(|| panic!("{line:?} is not in: {errors}"));
    assert_says(said, &["munit-train: iteration ", &format!("({name}). ")]);

    let values = place.column("run", figure).unwrap();
    let values: Vec<f64> = values.into_iter().flatten().collect();
    assert!(healthy(values[0]), "{values:?}");
    assert!(values.iter().any(|value| !healthy(*value)), "{values:?}");
    let events = history(&place.path("run"));
    let found = events.iter().filter(|(kind, _)| kind == "found");
    let found: Vec<String> = found.map(|(_, number)| number.to_string()).collect();
    let iteration = said.strip_prefix("munit-train: iteration ").unwrap();
    let iteration = iteration.split(':').next().unwrap();
    assert!(found.contains(&iteration.to_owned()), "{events:?}, {said}");
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    let capital = |text: &str| text[..1].to_uppercase() + &text[1..];
    let (name, line) = (capital(name), capital(line));
    assert_says(&page, &[&name, &line, &format!("at iteration {iteration}")]);
}

/// Nothing but reconstruction.
const RECONSTRUCTS: [(&str, &str); 5] = [
    ("lr", "0.01"),
    ("gan_w", "0"),
    ("recon_s_w", "0"),
    ("recon_c_w", "0"),
    ("recon_x_cyc_w", "0"),
];

#[test]
fn a_discriminator_that_learns_much_faster_wins() {
    goes_wrong(
        &[("lr", "1e-7"), ("lr_dis", "0.01")],
        "",
        [
            "the discriminator of domain b has won",
            "discriminator saturation",
        ],
        "dis_accuracy_b",
        |accuracy| accuracy < 0.99,
    );
}

#[test]
fn a_domain_of_one_look_makes_styles_fall_silent() {
    goes_wrong(
        &RECONSTRUCTS,
        "--a datasets/shapes/trainA --b flat",
        [
            "styles have no visible effect in direction a2b",
            "mode collapse",
        ],
        "diversity_a2b",
        |diversity| diversity > 2.0 / 255.0,
    );
}

#[test]
fn domains_that_hardly_differ_are_translated_into_themselves() {
    goes_wrong(
        &RECONSTRUCTS,
        "--a discs --b discs",
        [
            "translations in direction a2b are their inputs",
            "identity collapse",
        ],
        "identity_distance_a2b",
        |distance| distance > 8.0 / 255.0,
    );
}

#[test]
fn a_run_in_good_health_is_not_alarmed() {
    let place = Place::new();
    let changes = [("max_iter", "40"), ("watch_iter", "5")];
    let flags = with(&place, "healthy", &changes);
    let errors = succeeded(place.run(MUNIT_TRAIN, &format!("{flags} --out run")));
    assert!(!errors.contains("munit-train: iteration"), "{errors}");
    let events = history(&place.path("run"));
    assert!(events.iter().all(|(kind, _)| kind != "found"), "{events:?}");
}

#[test]
fn checkpoints_are_kept_by_number_by_rhythm_and_by_figure() {
    let place = Place::new();
    let keep = [
        ("max_iter", "10"),
        ("snapshot_save_iter", "2"),
        ("keep_checkpoints", "2"),
    ];
    let rhythm = [&keep[..], &[("keep_every", "3")]].concat();
    let flags = with(&place, "rhythm", &rhythm);
    succeeded(place.run(MUNIT_TRAIN, &format!("{flags} --out rhythm")));
    assert_eq!(checkpoints(&place, "rhythm"), [3, 6, 9, 10]);

    // The share that a discriminator tells; the least is the best.
    let best = [
        &keep[..],
        &[("keep_best", "gen_recon_x_b"), ("keep_checkpoints", "1")],
    ]
    .concat();
    let flags = with(&place, "best", &best);
    let errors = succeeded(place.run(MUNIT_TRAIN, &format!("{flags} --out best")));
    let losses = place.whole_column("best", "gen_recon_x_b");
    // A checkpoint counts by the mean of the readings up to it, ten at most.
    let mean = |end: usize| losses[..end].iter().sum::<f64>() / end as f64;
    let best = [2, 4, 6, 8, 10]
        .into_iter()
        .min_by(|one, other| mean(*one).total_cmp(&mean(*other)));
    let mut expected = vec![best.unwrap() as u64, 10];
    expected.dedup();
    assert_eq!(checkpoints(&place, "best"), expected);
    // It is named where one looks for it, and can be had as a model.
    let name = format!("iteration-{:09}", expected[0]);
    assert_says(
        &errors,
        &["best by gen_recon_x_b: best/checkpoints/", &name, "--best"],
    );
    let page = fs::read_to_string(place.path("best/report.html")).unwrap();
    assert_says(&page, &["<dt>Best by gen_recon_x_b</dt>", &name]);
    succeeded(place.run(MUNIT_EXPORT, "best best.safetensors --best"));
    let model = Model::read(&place.path("best.safetensors")).unwrap();
    assert_eq!(model.metadata.iterations, expected[0]);
    let sentence = failed(place.run(MUNIT_EXPORT, "rhythm none.safetensors --best"));
    assert_says(&sentence, &["rhythm: no figure says", "keep_best"]);

    let flags = with(&place, "unknown", &[("keep_best", "gen_recon_xb")]);
    let sentence = failed(place.run(MUNIT_TRAIN, &format!("{flags} --out unknown")));
    assert_says(
        &sentence,
        &["keep_best is gen_recon_xb", "the nearest is gen_recon_x_b"],
    );
}
