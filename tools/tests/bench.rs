//! `munit-bench` from outside.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_munit-bench"))
        .args(arguments)
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap()
}

/// The JSON object that a measurement prints, in its only line.
#[track_caller]
fn json(arguments: &[&str]) -> Value {
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
    let result = json(&[
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
    let output = bench(&arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("photo2illustration, 32x32, "), "{text}");
    assert!(text.contains("median"), "{text}");
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
    let result = json(&[&arguments[..], &["--json"]].concat());
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
}

#[test]
fn the_pipeline_is_timed_beside_the_network() {
    let result = json(&[
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
    let result = json(&[
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
