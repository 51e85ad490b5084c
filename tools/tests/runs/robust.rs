//! Runs that are killed at any moment, that run out of disk, and whose pictures change.

use std::fs;
use std::path::Path;
use std::time::Duration;

use image::{Rgb, RgbImage};
use munit_tools::checkpoint;
use rand::RngExt;

use crate::common::{
    MUNIT_INFO, MUNIT_TRAIN, Place, Running, assert_says, config, failed, succeeded, text,
};
use crate::train::assert_same_end;

/// A run that writes something at every iteration: a checkpoint, a sheet, a report as far as it may.
fn busy(place: &Place) -> String {
    let yaml = fs::read_to_string(config("folder.yaml")).unwrap();
    let more = "keep_best: gen_total\nkeep_every: 7\nwatch_iter: 3\nreport_iter: 1\n";
    fs::write(place.path("busy.yaml"), yaml + more).unwrap();
    "--config busy.yaml --device cpu --threads 1 --checkpoint-every 1 --samples-every 5".to_owned()
}

#[test]
fn a_run_killed_at_any_moment_goes_on_to_the_same_end() {
    let place = Place::new();
    let anew = busy(&place);
    let mut start = anew.clone();
    let mut kills = 0;
    while kills < 8 {
        let endless = format!("{start} --out killed --iterations 1000000");
        let mut running = place.start(MUNIT_TRAIN, &endless);
        // From the middle of the start, with half of its files written, to some iterations later.
        let pause = rand::rng().random_range(0..1200);
        std::thread::sleep(Duration::from_millis(pause));
        running.signal("KILL");
        assert_eq!(running.wait().0, None);
        kills += 1;
        // A report is there whole or not at all.
        let page = fs::read_to_string(place.path("killed/report.html"));
        assert!(page.map_or(true, |page| page.ends_with("</html>\n")));
        if place.path("killed/config.yaml").exists() {
            start = "--resume killed --device cpu --threads 1".to_owned();
        }
    }
    let last = place.losses("killed").len() as u64 + 3;
    let end = format!("--iterations {last}");
    succeeded(place.run(MUNIT_TRAIN, &format!("{start} --out killed {end}")));
    succeeded(place.run(MUNIT_TRAIN, &format!("{anew} --out whole {end}")));
    assert_eq!(place.losses("killed"), place.losses("whole"));
    let kept = |run: &str| names(&place.path(run).join("checkpoints"));
    assert_eq!(kept("killed"), kept("whole"));
    for name in kept("whole") {
        // Headers tell how long the run was to be when they were written.
        let state = |run: &str| {
            let bytes = fs::read(place.path(run).join("checkpoints").join(&name)).unwrap();
            let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            bytes[8 + header..].to_vec()
        };
        assert!(state("killed") == state("whole"), "{name}");
    }
    for folder in ["", "checkpoints", "samples", ".report"] {
        let left = names(&place.path("killed").join(folder));
        assert!(left.iter().all(|name| !name.ends_with(".part")), "{left:?}");
    }
}

#[test]
fn a_checkpoint_that_the_disk_has_no_room_for_costs_nothing_but_iterations() {
    let place = Place::new();
    succeeded(place.train("--out run --iterations 2"));
    let before = fs::read(place.checkpoint("run", 2)).unwrap();
    // Files may grow to half of a checkpoint.
    let blocks = before.len() / 2 / 512;
    let go_on = "--resume run --iterations 4 --device cpu --threads 1";
    let script = format!("ulimit -f {blocks}; exec {MUNIT_TRAIN} {go_on}");
    fs::write(place.path("script"), script).unwrap();
    let sentence = failed(place.run("sh", "script"));
    assert_says(
        &sentence,
        &[
            "munit-train: the checkpoint could not be written; the ones before are still there",
            "iteration-000000004.safetensors",
            "File too large",
        ],
    );
    assert_eq!(
        names(&place.path("run/checkpoints")),
        ["iteration-000000002.safetensors"]
    );
    assert!(fs::read(place.checkpoint("run", 2)).unwrap() == before);

    succeeded(place.run(MUNIT_TRAIN, go_on));
    succeeded(place.train("--out whole --iterations 4"));
    let read = |run: &str| fs::read(place.checkpoint(run, 4)).unwrap();
    assert!(read("run") == read("whole"));
    assert_eq!(place.losses("run"), place.losses("whole"));
}

#[test]
fn a_first_checkpoint_without_room_is_not_said_to_have_others_before_it() {
    let place = Place::new();
    // Of 512 bytes; more than any other file of this run takes, and less than the checkpoint.
    let blocks = 2048;
    let script = format!(
        "ulimit -f {blocks}; exec {MUNIT_TRAIN} --config {} --device cpu --threads 1 \
         --out run --iterations 1 --dim 16",
        config("folder.yaml")
    );
    fs::write(place.path("script"), script).unwrap();
    let sentence = failed(place.run("sh", "script"));
    assert_says(
        &sentence,
        &[
            "munit-train: the checkpoint could not be written; there is none before it",
            "iteration-000000001.safetensors",
            "File too large",
        ],
    );
}

#[test]
fn damaged_checkpoints_are_named_by_munit_info() {
    let place = Place::new();
    succeeded(place.train("--out run --iterations 4 --checkpoint-every 2"));
    let cut = |iteration, length| {
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).open(place.checkpoint("run", iteration));
        file.unwrap().set_len(length).unwrap();
    };
    let info = |arguments: &str| place.run(MUNIT_INFO, arguments);
    let [older, newer] = [2, 4].map(|iteration| {
        format!("run/checkpoints/iteration-{iteration:09}.safetensors: the checkpoint is damaged")
    });

    // Its beginning is whole.
    let length = fs::metadata(place.checkpoint("run", 4)).unwrap().len();
    cut(4, length / 2);
    let said = info("run");
    assert_eq!(said.status.code(), Some(0));
    let table = text(&said.stdout);
    assert_says(&table, &["2 of 4, not finished", &newer, "--resume run"]);
    assert!(!table.contains(&older), "{table}");

    cut(2, 100);
    let said = info("run");
    assert_eq!(said.status.code(), Some(1));
    let table = text(&said.stdout);
    assert_says(&table, &["none that can be used", &newer, &older]);
    assert!(!table.contains("--resume"), "{table}");
    let sentence = text(&said.stderr);
    assert_says(&sentence, &[&newer, "no checkpoint of this run is whole"]);
    let said = info("run --json");
    assert_eq!(said.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(json["checkpoint"], serde_json::Value::Null);
    assert_eq!(json["problems"].as_array().unwrap().len(), 2);
}

/// Runs that write losses alone. Every fifth iteration takes most memory, for its gradient penalty, before
/// anything is changed.
const PENALISED: &str = "\
image_save_iter: 1000000
image_display_iter: 1000000
snapshot_save_iter: 1000000
display_size: 1
log_iter: 1
r1_w: 1
r1_every: 5
gen: {dim: 2, mlp_dim: 8, style_dim: 3, n_downsample: 2, n_res: 1}
dis: {dim: 64, n_layer: 2, num_scales: 2}
crop_image_height: 128
crop_image_width: 128
data_root: datasets/shapes
";

/// A run whose memory is held: of what it needs more, so much at once is asked for, and what takes 64 KiB or
/// more goes back to the system when it is no longer needed.
fn hungry(place: &Place, arguments: &str, at_once: &str) -> Running {
    let mut command = place.command(MUNIT_TRAIN, arguments.split_whitespace());
    command.envs([
        ("MALLOC_ARENA_MAX", "1"),
        ("MALLOC_MMAP_THRESHOLD_", "65536"),
        ("MALLOC_TRIM_THRESHOLD_", "1000000000"),
        ("MALLOC_TOP_PAD_", at_once),
    ]);
    Running::new(command)
}

/// The least and the most address space that a run takes in the next iterations, in bytes.
fn address_space(running: &mut Running, table: &Path) -> [u64; 2] {
    let statm = format!("/proc/{}/statm", running.id());
    let rows = || fs::read_to_string(table).unwrap().lines().count();
    let until = rows() + 7;
    let range = std::cell::Cell::new([u64::MAX, 0]);
    running.wait_until("iterations", || {
        let text = fs::read_to_string(&statm).unwrap();
        let pages: u64 = text.split(' ').next().unwrap().parse().unwrap();
        let [least, most] = range.get();
        let [least, most] = [least.min(4096 * pages), most.max(4096 * pages)];
        range.set([least, most]);
        rows() >= until && most > least + 4_000_000
    });
    range.get()
}

/// Lets a program that runs take no more than `bytes` of address space.
fn limit_memory(running: &mut Running, bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    let process = running.id() as libc::pid_t;
    // SAFETY: `limit` is a valid structure, and what it was before is not asked for.
    let status = unsafe {
        libc::prlimit(
            process,
            libc::RLIMIT_AS,
            &raw const limit,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(status, 0);
}

/// What a run that has ended for want of memory wrote on standard error.
fn starved(running: Running) -> String {
    let (status, errors) = running.wait();
    assert_eq!(status, Some(1), "{errors}");
    let sentence = errors.lines().last().unwrap();
    let parts = [
        "munit-train: there is not enough memory; lower --batch-size (1), --size (128x128)",
        "can't allocate memory",
    ];
    assert_says(sentence, &parts);
    errors
}

#[test]
fn an_iteration_without_memory_costs_nothing_before_it_changes_anything() {
    let place = Place::new();
    fs::write(place.path("penalised.yaml"), PENALISED).unwrap();
    let anew = "--config penalised.yaml --device cpu --threads 1";
    let mut running = hungry(&place, &format!("{anew} --out run"), "33554432");
    running.wait_for_rows(&place.path("run"), 3);
    let [least, most] = address_space(&mut running, &place.path("run/losses.csv"));
    limit_memory(&mut running, least + (most - least) / 4);
    let errors = starved(running);
    let reached = place.losses("run").len() as u64 - 1;
    assert_eq!(reached % 5, 0);
    assert_says(
        &errors,
        &[&format!("the checkpoint of iteration {reached} is saved")],
    );

    let end = format!("--iterations {}", reached + 3);
    succeeded(place.run(
        MUNIT_TRAIN,
        &format!("--resume run --device cpu --threads 1 {end}"),
    ));
    succeeded(place.run(MUNIT_TRAIN, &format!("{anew} --out whole {end}")));
    assert_same_end(&place, "run", "whole", reached + 3);
}

#[test]
fn an_iteration_without_memory_for_its_second_half_goes_back_to_a_checkpoint() {
    let place = Place::new();
    // Most memory is taken by the generators' update.
    let text = PENALISED
        .replace("r1_w: 1", "r1_w: 0")
        .replace("gen: {dim: 2", "gen: {dim: 8")
        .replace("dis: {dim: 64", "dis: {dim: 4");
    fs::write(place.path("hungry.yaml"), text).unwrap();
    let anew = "--config hungry.yaml --device cpu --threads 1";
    for (start, saved) in [
        (anew, None),
        ("--resume run --device cpu --threads 1", Some(3)),
    ] {
        if saved.is_some() {
            succeeded(place.run(MUNIT_TRAIN, &format!("{anew} --out run --iterations 3")));
        }
        let endless = format!("{start} --out run --iterations 1000000");
        let mut running = hungry(&place, &endless, "4194304");
        running.wait_for_rows(&place.path("run"), 5);
        let [least, most] = address_space(&mut running, &place.path("run/losses.csv"));
        limit_memory(&mut running, most - (most - least) / 16);
        let errors = starved(running);
        let goes_on = match saved {
            None => "--resume starts over, since there is no checkpoint yet".to_owned(),
            Some(saved) => format!("--resume goes on from the checkpoint of iteration {saved}"),
        };
        assert_says(&errors, &["has failed half-way", &goes_on]);
        let checkpoints = checkpoint::list(&place.path("run/checkpoints")).unwrap();
        assert_eq!(checkpoints.last().map(|(iteration, _)| *iteration), saved);
    }
}

#[test]
fn pictures_that_change_while_a_run_trains_do_not_end_it() {
    let place = Place::new();
    let folder = place.path("many");
    fs::create_dir(&folder).unwrap();
    let original = place.path("datasets/shapes/trainA/1.png");
    for number in 0..400 {
        fs::copy(&original, folder.join(format!("{number:03}.png"))).unwrap();
    }
    let mut running =
        place.start_training("--out run --iterations 1000000 --a many --b datasets/shapes/trainB");
    running.wait_for_rows(&place.path("run"), 1);
    for number in 0..400 {
        let path = folder.join(format!("{number:03}.png"));
        match number % 3 {
            0 => fs::remove_file(path).unwrap(),
            1 => fs::write(path, "no picture").unwrap(),
            _ => {}
        }
    }
    fs::copy(&original, folder.join("new.png")).unwrap();
    let rows = place.losses("run").len();
    running.wait_for_rows(&place.path("run"), rows + 40);
    running.signal("TERM");
    let (status, errors) = running.wait();
    assert_eq!(status, Some(0), "{errors}");
    assert_says(
        &errors,
        &["another picture stands in for it: many/", "go on with:"],
    );
    let history = fs::read_to_string(place.path("run/history.jsonl")).unwrap();
    assert_says(&history, &["\"event\":\"left-out\",\"what\":\"many/"]);
    let last = rows + 60;
    let errors = succeeded(place.train(&format!("--resume run --iterations {last}")));
    assert_says(&errors, &["training pictures have changed"]);
}

#[test]
fn a_picture_that_was_edited_in_place_is_noticed() {
    let place = Place::new();
    succeeded(place.train("--out run"));
    let errors = succeeded(place.train("--resume run --iterations 3"));
    assert!(!errors.contains("changed"), "{errors}");
    // The same name, another picture.
    let first = place.path("datasets/shapes/trainA/0.png");
    let mut picture = image::open(&first).unwrap().to_rgb8();
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        pixel.0[0] ^= (x * 7 + y * 13) as u8;
    }
    picture.save(&first).unwrap();
    let errors = succeeded(place.train("--resume run --iterations 4"));
    assert_says(&errors, &["training pictures have changed"]);
}

#[test]
fn a_checkpoint_of_another_version_is_refused_with_a_sentence() {
    let place = Place::new();
    succeeded(place.train("--out run"));
    let path = place.checkpoint("run", 2);
    let bytes = fs::read(&path).unwrap();
    let (now, later) = (b"\\\"format_version\\\":1,", b"\\\"format_version\\\":7,");
    let mut windows = bytes.windows(now.len());
    let start = windows.position(|window| window == now).unwrap();
    let mut changed = bytes.clone();
    changed[start..start + now.len()].copy_from_slice(later);
    fs::write(&path, changed).unwrap();
    let sentence = failed(place.train("--resume run --iterations 4"));
    assert_says(
        &sentence,
        &[
            "iteration-000000002.safetensors: written by another version of munit-train",
            "checkpoint format 7",
        ],
    );
    assert!(!sentence.contains("damaged"), "{sentence}");

    // A key that only a newer build knows; of two checkpoints the older one is not gone back to.
    let (now, later) = (b"\\\"max_iter\\\":", b"\\\"moon_dir\\\":");
    let mut windows = bytes.windows(now.len());
    let start = windows.position(|window| window == now).unwrap();
    let mut changed = bytes.clone();
    changed[start..start + now.len()].copy_from_slice(later);
    fs::write(&path, &changed).unwrap();
    fs::write(place.checkpoint("run", 1), &bytes).unwrap();
    let sentence = failed(place.train("--resume run --iterations 4"));
    assert_says(
        &sentence,
        &[
            "iteration-000000002.safetensors: written by another version of munit-train",
            "it has the key moon_dir",
            "start anew",
        ],
    );
    assert!(!sentence.contains("damaged"), "{sentence}");
    assert!(sentence.len() < 300, "{sentence}");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// `timeout` signals a program and then its group, a wrapper what its terminal has signalled already.
#[test]
fn signals_that_come_together_stop_a_run_once() {
    let place = Place::new();
    let mut running = place.start_training("--out run --iterations 1000000");
    running.wait_for_rows(&place.path("run"), 2);
    // Equal signals that wait are one; different ones are not.
    for name in ["INT", "TERM", "INT"] {
        running.signal_repeatedly(name, 20);
    }
    let (status, errors) = running.wait();
    assert_eq!(status, Some(0), "{errors}");
    assert_says(&errors, &["go on with: munit-train --resume run"]);
    let reached = place.losses("run").len() as u64 - 1;
    assert!(place.checkpoint("run", reached).exists(), "{errors}");
}

/// A run that cannot go on, not even with its end, as long as nobody reads what it says.
#[test]
fn another_signal_later_on_ends_a_run_at_once() {
    let place = Place::new();
    let mut running = place.start_training("--out run --iterations 1000000");
    running.wait_for_rows(&place.path("run"), 2);
    running.halt_errors();
    let mut signals = 0;
    while running.is_running() {
        assert!(signals < 200, "it does not end");
        running.signal("INT");
        signals += 1;
        // Longer than two of them are the same wish.
        std::thread::sleep(Duration::from_millis(1100));
    }
    assert!(signals > 1);
    assert_eq!(running.wait().0, Some(130));
    // What was saved stays.
    let reached = place.losses("run").len() as u64 - 1;
    let end = format!("--resume run --iterations {}", reached + 2);
    succeeded(place.train(&end));
}

/// Behind instance norms of pictures without variance gradients grow beyond all numbers: crops must not be
/// blank.
#[test]
fn pictures_of_which_most_is_blank_ruin_no_run() {
    let place = Place::new();
    for (name, left) in [("a", 20), ("b", 70)] {
        let folder = place.path(name);
        fs::create_dir(&folder).unwrap();
        for number in 0..3 {
            let picture = RgbImage::from_fn(150, 100, |x, y| {
                let inside = (left..left + 9).contains(&x) && (40..44 + number).contains(&y);
                Rgb([if inside { 20 } else { 255 }; 3])
            });
            let path = folder.join(format!("{number}.png"));
            picture.save(path).unwrap();
        }
    }
    fs::write(
        place.path("sparse.yaml"),
        "log_iter: 1\nbatch_size: 2\nnew_size: 100\ncrop_image_height: 32\ncrop_image_width: 32\n\
         gen: {dim: 4, mlp_dim: 8, style_dim: 3, n_downsample: 2, n_res: 6}\n\
         dis: {dim: 4, n_layer: 2, num_scales: 2}\n",
    )
    .unwrap();
    let errors = succeeded(place.run(
        MUNIT_TRAIN,
        "--config sparse.yaml --a a --b b --out run --iterations 8 --device cpu --threads 1",
    ));
    assert!(!errors.contains("NaN"), "{errors}");
    let config = fs::read_to_string(place.path("run/config.yaml")).unwrap();
    assert!(!config.contains("rollbacks"), "{config}");
}
