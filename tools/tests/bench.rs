//! `munit-bench` from outside.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_munit-bench"))
        .args(arguments)
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap()
}

/// The JSON object that a measurement prints, in its only line.
#[track_caller]
fn measured(arguments: &[&str]) -> Value {
    let output = bench(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// The times under `key`, each a possible one.
#[track_caller]
fn times(result: &Value, key: &str) -> Vec<f64> {
    let times: Vec<f64> = serde_json::from_value(result[key].clone()).unwrap();
    assert!(times.iter().all(|ms| *ms > 0.0 && *ms < 6e5), "{times:?}");
    times
}

#[test]
fn the_network_s_frames_are_timed() {
    let result = measured(&[
        "network",
        "--dim",
        "4",
        "--n-res",
        "1",
        "--size",
        "36x20",
        "--threads",
        "1",
        "--precision",
        "fp32",
        "--device",
        "cpu",
        "--frames",
        "5",
        "--warm-up",
        "1",
        "--json",
    ]);
    assert_eq!(times(&result, "ms").len(), 5);
    for (key, expected) in [
        ("model", "dim 4, n_res 1"),
        ("size", "36x20"),
        ("device", "cpu"),
        ("precision", "fp32"),
    ] {
        assert_eq!(result[key], expected, "{key}");
    }
    assert_eq!(result["threads"], 1);
    assert_eq!(result["dim"], 4);
}

#[test]
fn a_model_is_timed_by_its_name() {
    let arguments = [
        "network",
        "--model",
        "photo2illustration",
        "--size",
        "32x32",
        "--frames",
        "2",
    ];
    // Where `make install` puts models; a build folder need not lie beside the project's.
    let data = tempfile::tempdir().unwrap();
    let models = data.path().join("munitfilter");
    std::fs::create_dir(&models).unwrap();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../models");
    std::os::unix::fs::symlink(shipped, models.join("models")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_munit-bench"))
        .args(arguments)
        .env("XDG_DATA_HOME", data.path())
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("photo2illustration, 32x32, "), "{text}");
    assert!(text.contains("median"), "{text}");
}

#[test]
fn several_sizes_and_streams_are_timed_one_after_the_other() {
    let output = bench(&[
        "network",
        "--dim",
        "4",
        "--n-res",
        "1",
        "--size",
        "36x20",
        "--more-sizes",
        "20x36,24x24",
        "--streams",
        "1,2",
        "--threads",
        "1",
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--frames",
        "3",
        "--warm-up",
        "1",
        "--json",
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    let found: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let expected = ["36x20", "20x36", "24x24"]
        .into_iter()
        .flat_map(|size| [(size, 1), (size, 2)]);
    assert_eq!(found.len(), 6);
    for (result, (size, streams)) in found.iter().zip(expected) {
        assert_eq!(result["size"], size);
        assert_eq!(result["streams"], streams);
        assert_eq!(times(result, "ms").len(), 3 * streams);
        assert!(result["frames_per_second"].as_f64().unwrap() > 0.0);
        assert_eq!(result["device_memory_mb"], Value::Null);
    }
    // The page takes all lines of a file.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1.json"), text).unwrap();
    let page = folder.path().join("page.md");
    let report = bench(&[
        "report",
        folder.path().to_str().unwrap(),
        "--page",
        page.to_str().unwrap(),
    ]);
    assert_eq!(
        report.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&report.stderr)
    );
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains("Several streams at once") && page.contains("| 20x36 | 2 |"),
        "{page}"
    );
    assert_eq!(page.matches("munit-bench network").count(), 1, "{page}");
}

#[test]
fn steps_of_a_frame_are_timed() {
    let arguments = "steps --dim 4 --n-res 1 --size 36x20 --device cpu --precision fp32 --frames 2";
    let arguments: Vec<_> = arguments.split(' ').collect();
    let result = measured(&[&arguments[..], &["--json"]].concat());
    let steps = result["steps"].as_array().unwrap();
    let counted: u64 = steps
        .iter()
        .map(|step| step["times"].as_u64().unwrap())
        .sum();
    // Ten convolutions and what follows each, and two rings.
    assert_eq!(counted, 22, "{result}");
    assert!(steps.iter().all(|step| times(step, "ms").len() == 2));
    let text = String::from_utf8(bench(&arguments).stdout).unwrap();
    assert!(text.contains("10 times norm, activation, border"), "{text}");
}

#[test]
fn time_ends_a_measurement() {
    let arguments = "network --dim 4 --n-res 1 --size 36x20 --device cpu --frames 1000000 --at-most 0.05 --json";
    let result = measured(&arguments.split(' ').collect::<Vec<_>>());
    let frames = times(&result, "ms").len();
    assert!((1..1_000_000).contains(&frames), "{frames}");
}

#[test]
fn a_device_is_compared_with_the_networks() {
    let arguments = ["verify", "--device", "cpu", "--precision", "fp32"];
    let result = measured(&[&arguments[..], &["--json"]].concat());
    let checks = result["checks"].as_array().unwrap();
    assert!(checks.len() > 20, "{result}");
    assert!(
        checks
            .iter()
            .all(|check| check["passed"] == true && check["precision"] == "fp32")
    );
    for name in ["network: UNIT, b2a", "frames: all formats, MUNIT, a2b"] {
        assert!(checks.iter().any(|check| check["name"] == name), "{name}");
    }
    let output = bench(&["verify", "--device", "cuda:4000"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
}

/// Speaks the peers' language: one engine works, one does not start, one fails while it runs.
const PEERS: &str = r#"
if [ "$1" = --list ]; then
    echo "[{\"engine\": \"steady\", \"name\": \"Steady on $3\"},
        {\"engine\": \"missing\", \"name\": \"Missing\"},
        {\"engine\": \"dying\", \"name\": \"Dying\"}]"
    exit
fi
if [ "$1" = missing ]; then
    printf 'Traceback\nNo module named missing\n' >&2
    exit 1
fi
echo "{\"version\": \"Steady $*\"}"
while read -r frames; do
    if [ "$1" = dying ]; then
        echo 'no memory' >&2
        exit 1
    fi
    echo "{\"ms\": [$frames.5, $frames.25]}"
done
"#;

#[test]
fn other_engines_have_their_turns_and_those_that_fail_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("peers.sh");
    std::fs::write(&script, PEERS).unwrap();
    let script = script.to_str().unwrap();
    let arguments = [
        "compare",
        "--dim",
        "4",
        "--n-res",
        "1",
        "--size",
        "36x20",
        "--threads",
        "1",
        "--precision",
        "fp32",
        "--device",
        "cpu",
        "--rounds",
        "2",
        "--frames",
        "3",
        "--python",
        "sh",
        "--peers",
        script,
    ];
    let result = measured(&[&arguments[..], &["--json"]].concat());
    assert_eq!(times(&result, "ms").len(), 6);
    assert_eq!(result["peers"].as_array().unwrap().len(), 1);
    let steady = &result["peers"][0];
    assert_eq!(steady["name"], "Steady on cpu");
    assert_eq!(times(steady, "ms"), [3.5, 3.25, 3.5, 3.25]);
    assert_eq!(
        steady["version"],
        "Steady steady --dim 4 --n-res 1 --size 36x20 --threads 1 --device cpu"
    );
    let left_out: Vec<_> = result["left_out"].as_array().unwrap().iter().collect();
    let reason = |index: usize| left_out[index]["reason"].as_str().unwrap();
    assert_eq!(reason(0), "No module named missing");
    assert_eq!(reason(1), "no memory");

    let text = String::from_utf8(bench(&arguments).stdout).unwrap();
    assert!(text.contains("left out: Dying: no memory"), "{text}");
    assert!(text.contains("times ours"), "{text}");

    let chosen = measured(&[&arguments[..], &["--engine", "steady", "--json"]].concat());
    assert_eq!(chosen["left_out"].as_array().unwrap().len(), 0);
    let output = bench(&[&arguments[..], &["--engine", "steam"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("steam") && errors.contains("steady, missing, dying"),
        "{errors}"
    );
}

#[test]
fn the_pipeline_is_timed_beside_the_network() {
    let result = measured(&[
        "pipeline",
        "--dim",
        "4",
        "--n-res",
        "1",
        "--size",
        "38x20",
        "--threads",
        "1",
        "--precision",
        "fp32",
        "--device",
        "cpu",
        "--rounds",
        "2",
        "--frames",
        "3",
        "--json",
    ]);
    assert_eq!(times(&result, "ms").len(), 6);
    assert_eq!(times(&result, "network_ms").len(), 6);
    assert_eq!(times(&result, "source_ms").len(), 6);
    assert_eq!(result["size"], "38x20");
}

#[test]
fn starting_up_and_memory_are_measured() {
    let result = measured(&[
        "start",
        "--dim",
        "4",
        "--n-res",
        "1",
        "--size",
        "32x32",
        "--threads",
        "1",
        "--precision",
        "fp32",
        "--device",
        "cpu",
        "--times",
        "1",
        "--soak",
        "2",
        "--json",
    ]);
    for key in ["scan_ms", "registered_ms", "first_frame_ms"] {
        assert_eq!(times(&result, key).len(), 1, "{key}");
    }
    assert_eq!(result["cuda_libraries"], serde_json::json!([]));
    let memory = &result["memory"];
    assert_eq!(memory["cuda_libraries"], serde_json::json!([]));
    let resident: Vec<f64> = serde_json::from_value(memory["resident_mb"].clone()).unwrap();
    let peak = memory["peak_mb"].as_f64().unwrap();
    // libtorch alone is larger than this.
    assert!(resident.len() >= 2 && peak > 20.0, "{memory}");
    assert!(resident.iter().all(|mb| *mb <= peak), "{memory}");
}

#[test]
fn iterations_of_training_are_timed() {
    let result = measured(&[
        "train",
        "--dim",
        "4",
        "--size",
        "64",
        "--threads",
        "1",
        "--precision",
        "fp32",
        "--device",
        "cpu",
        "--iterations",
        "2",
        "--warm-up",
        "0",
        "--json",
    ]);
    assert_eq!(times(&result, "ms").len(), 2);
    assert_eq!(result["precision"], "fp32");
    assert_eq!((&result["dim"], &result["batch"]), (&4.into(), &1.into()));
}

#[test]
fn the_published_update_has_its_turns_in_other_engines() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("peers.sh");
    std::fs::write(&script, PEERS).unwrap();
    let arguments = "train --dim 4 --size 64 --threads 1 --precision fp32 --device cpu --iterations 2 \
                     --rounds 2 --warm-up 0 --python sh --peers";
    let arguments: Vec<_> = arguments
        .split_whitespace()
        .chain(script.to_str())
        .collect();
    let result = measured(&[&arguments[..], &["--json"]].concat());
    assert_eq!(times(&result, "ms").len(), 4);
    let steady = &result["peers"][0];
    assert_eq!(times(steady, "ms"), [2.5, 2.25, 2.5, 2.25]);
    assert_eq!(
        steady["version"],
        "Steady steady --dim 4 --size 64 --batch 1 --cycle 10 --threads 1 --device cpu"
    );
    assert_eq!(result["left_out"].as_array().unwrap().len(), 2);
    let text = String::from_utf8(bench(&arguments).stdout).unwrap();
    assert!(text.contains("left out: Dying: no memory"), "{text}");
    assert!(
        text.contains("Steady on cpu") && text.contains("of it"),
        "{text}"
    );
}

#[test]
fn training_on_files_tells_how_long_it_waited_for_them() {
    let folder = tempfile::tempdir().unwrap();
    for domain in ["trainA", "trainB"] {
        let pictures = folder.path().join(domain);
        std::fs::create_dir(&pictures).unwrap();
        for number in 0..4u32 {
            let picture = image::RgbImage::from_fn(70, 66, |x, y| {
                image::Rgb([(x * (3 + number)) as u8, (y * 5) as u8, 9])
            });
            picture
                .save(pictures.join(format!("{number}.png")))
                .unwrap();
        }
    }
    let result = measured(&[
        "train",
        "--dim",
        "4",
        "--size",
        "64",
        "--batch",
        "2",
        "--data",
        folder.path().to_str().unwrap(),
        "--threads",
        "1",
        "--device",
        "cpu",
        "--iterations",
        "3",
        "--warm-up",
        "1",
        "--json",
    ]);
    let waiting = times(&result["loading"], "waiting_ms");
    let whole = times(&result, "ms");
    assert_eq!((waiting.len(), whole.len()), (3, 3));
    for (waiting, whole) in waiting.iter().zip(&whole) {
        assert!(waiting <= whole, "{waiting} of {whole}");
    }
    let rate = result["loading"]["pictures_per_second"].as_f64().unwrap();
    assert!(rate > 0.0 && rate.is_finite(), "{rate}");
}

/// Results as measurements print them, under names that put them into this order.
fn write_results(folder: &Path) {
    let subject = |size: &str| {
        json!({
            "model": "dim 8", "dim": 8, "size": size, "device": "cpu", "precision": "bf16",
            "threads": 2, "multiply_adds_per_pixel": 1000.0,
        })
    };
    let results = [
        (
            "compare",
            subject("256x256"),
            json!({
                "ms": [4.0, 5.0, 6.0],
                "peers": [{"name": "Slow & <steady>", "version": "Slow 1.2", "ms": [50.0, 60.0]}],
                "left_out": [{"name": "Missing", "reason": "No module named missing"}],
            }),
        ),
        ("network", subject("64x64"), json!({"ms": [1.0]})),
        ("network", subject("256x256"), json!({"ms": [8.0]})),
        ("network", subject("512x512"), json!({"ms": [32.0]})),
        (
            "pipeline",
            subject("256x256"),
            json!({
                "turn": 2, "ms": [10.4, 0.0], "network_ms": [5.0, 5.0], "source_ms": [0.1],
            }),
        ),
        (
            "start",
            json!({"model": "dim 8", "size": "256x256", "device": "cpu"}),
            json!({
                "scan_ms": [400.0], "registered_ms": [200.0], "cuda_libraries": [],
                "first_frame_ms": [500.0],
                "memory": {"seconds": [1.0, 2.0], "resident_mb": [300.0, 310.0], "peak_mb": 320.0,
                           "cuda_libraries": []},
            }),
        ),
        (
            "train",
            json!({"dim": 8, "size": 128, "batch": 1, "cycle": 10.0, "precision": "fp32",
                         "device": "cpu", "threads": 2}),
            json!({
                "ms": [100.0, 120.0],
                "peers": [{"name": "Slow <update>", "version": "Slow 1.2", "ms": [220.0, 220.0]}],
                "left_out": [{"name": "Missing", "reason": "No module named missing"}],
            }),
        ),
    ];
    for (number, (measurement, subject, result)) in results.into_iter().enumerate() {
        let mut record = json!({
            "command": format!("munit-bench {measurement} --json"),
            "measurement": measurement,
            "machine": {"processor": "Abacus", "processors": 2, "instruction_sets": [],
                        "memory_gb": 16.0, "gpus": [], "versions": {"libtorch": "2.11.0"}},
        });
        for part in [subject, result] {
            let Value::Object(part) = part else {
                unreachable!()
            };
            record.as_object_mut().unwrap().extend(part);
        }
        std::fs::write(folder.join(format!("{number}.json")), record.to_string()).unwrap();
    }
}

/// Asserts that every element is closed and every attribute quoted.
#[track_caller]
fn assert_well_formed(name: &str, svg: &str) {
    let mut open = vec![];
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        assert!(!text.contains('>'), "{name}: {text}");
        let end = rest.find('>').unwrap_or_else(|| panic!("{name}: {rest}"));
        let tag = &rest[start + 1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "{name}: {tag}");
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "{name}");
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{name}: {open:?}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
}

#[test]
fn a_page_is_made_of_results() {
    let folder = tempfile::tempdir().unwrap();
    write_results(folder.path());
    let page = folder.path().join("figures.md");
    let failed = "`munit-bench network --dim 512`: no memory";
    std::fs::write(folder.path().join("left-out.txt"), failed).unwrap();
    let results = folder.path().to_str().unwrap();
    let output = bench(&["report", results, "--page", page.to_str().unwrap()]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");

    let text = std::fs::read_to_string(&page).unwrap();
    for expected in [
        "Made on the machine below by `make bench`.",
        "| processor | Abacus, 2 processors |",
        "| munitfilter bf16 | 5.00 | 4.20 to 5.80 | 1.00 |",
        "| Slow & <steady> | 55.0 | 51.0 to 59.0 | 11.00 |",
        "- Left out: Missing, dim 8: No module named missing",
        "- dim 8: in proportion to pixels within 15 % at 2 of 3 sizes, from 256x256 to 512x512; a pixel \
         costs more elsewhere: 2.00 times at 64x64.",
        "| dim 8 | 512x512 | 32.0 | 32.0 | 32.0 |  | 31.2 | 122 | 0.016 |  |",
        "| dim 8 | 256x256 | own choice | 5.20 | 5.20 | 5.20 | 192 | 5.00 | 0.100 | 1.040 |",
        "| scan, ms | 400 | 400 | 400 | 600 |",
        "| memory, dim 8, 256x256, MB | 305 | 301 | 309 | 700 |",
        "| dim 8 | 1 of 128x128 | classic | 10 | munit-train fp32 | cpu, 2 threads | 110 | 102 | 118 | |",
        "| published | 10 | Slow <update> | cpu, 2 threads | 220 | 220 | 220 | 0.500 |",
        "munit-bench train --json",
        "## Left out\n\n- `munit-bench network --dim 512`: no memory\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    let charts = ["engines-1-256x256.svg", "pixels-1.svg", "pipeline-1.svg"];
    for chart in charts {
        assert!(text.contains(&format!("](figures/{chart})")), "{chart}");
        let svg = std::fs::read_to_string(folder.path().join("figures").join(chart)).unwrap();
        assert_well_formed(chart, &svg);
        assert!(svg.contains(">dim 8"), "{chart}");
    }
    let engines = std::fs::read_to_string(folder.path().join("figures").join(charts[0])).unwrap();
    assert!(engines.contains("Slow &amp; &lt;steady&gt;"), "{engines}");
}

/// Measures nothing: prints a record that is there already, or fails as programs do.
const STAND_IN: &str = r#"#!/bin/sh
case "$1 $*" in
report*) exec "$MUNIT_BENCH" "$@" ;;
*"--device cuda"*) exit 1 ;;
"pipeline "*) echo 'munit-bench: no such element' >&2; exit 1 ;;
"start "*) kill -9 $$ ;;
compare*) cat "$RECORDS/0.json" ;;
train*) cat "$RECORDS/6.json" ;;
*) cat "$RECORDS/1.json" ;;
esac
"#;

#[test]
fn make_bench_says_on_its_page_what_it_had_to_leave_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["scripts", "target/release", "records", "programs"] {
        std::fs::create_dir_all(path(name)).unwrap();
    }
    write_results(&path("records"));
    let script = |name: &str, text: &str| {
        std::fs::write(path(name), text).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path(name), executable).unwrap();
    };
    for name in ["bench", "common.sh"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
        let text = std::fs::read_to_string(file.join(name)).unwrap();
        script(&format!("scripts/{name}"), &text);
    }
    script("scripts/build", "#!/bin/sh\n");
    script("programs/gst-launch-1.0", "#!/bin/sh\nexit 1\n");
    script("target/release/munit-bench", STAND_IN);
    // Of another run.
    std::fs::create_dir(path("target/bench")).unwrap();
    std::fs::write(path("target/bench/999-start.json"), "{}").unwrap();

    let programs = std::env::var("PATH").unwrap();
    let output = Command::new("bash")
        .arg(path("scripts/bench"))
        .env("QUICK", "1")
        .env("PAGE", "page.md")
        .env("MUNIT_BENCH", env!("CARGO_BIN_EXE_munit-bench"))
        .env("RECORDS", path("records"))
        .env("MUNITFILTER_CACHE", path("cache"))
        .env("PATH", format!("{}:{programs}", path("programs").display()))
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let page = std::fs::read_to_string(path("page.md")).unwrap();
    for expected in [
        "## In a pipeline\n\nNot measured.",
        "- other engines: make bench-peers installs them\n",
        "- `munit-bench pipeline --dim 16 --size 256x256 --device cpu --threads 0 --precision auto \
         --rounds 2 --frames 3`: munit-bench: no such element\n",
        "--times 2 --soak 5`: ended with status 137\n",
    ] {
        assert!(page.contains(expected), "{expected:?} is not in\n{page}");
    }
    assert_eq!(page.matches("`munit-bench start ").count(), 2, "{page}");
}

#[test]
fn results_of_different_machines_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    write_results(folder.path());
    let changed = folder.path().join("1.json");
    let text = std::fs::read_to_string(&changed).unwrap();
    let page = folder.path().join("page.md");
    let arguments = [
        "report",
        folder.path().to_str().unwrap(),
        "--page",
        page.to_str().unwrap(),
    ];
    for (content, expected) in [
        (
            text.replace("Abacus", "Slide rule"),
            "(Abacus and Slide rule",
        ),
        (
            "{}".to_owned(),
            "1.json: is not what munit-bench prints with --json",
        ),
    ] {
        std::fs::write(&changed, content).unwrap();
        let output = bench(&arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(expected), "{errors}");
        assert!(!page.exists());
    }
}

#[test]
fn what_cannot_be_measured_is_said() {
    for (arguments, expected) in [
        (&["network"][..], "--dim"),
        (&["network", "--dim", "0"], "gen.dim is 0"),
        (&["network", "--dim", "8", "--size", "4x4"], "too small"),
        (&["network", "--model", "no-such-model"], "no-such-model"),
        (
            &["compare", "--dim", "8", "--peers", "nowhere.py"],
            "nowhere.py: there is no such program",
        ),
        (&["pipeline", "--dim", "8", "--size", "8x8"], "takes 16x16"),
    ] {
        let output = bench(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
