//! What all programs have in common: their answers to the command line itself.

use std::process::Command;

const PROGRAMS: [(&str, &str); 6] = [
    ("munit-export", env!("CARGO_BIN_EXE_munit-export")),
    ("munit-import", env!("CARGO_BIN_EXE_munit-import")),
    ("munit-info", env!("CARGO_BIN_EXE_munit-info")),
    ("munit-prepare", env!("CARGO_BIN_EXE_munit-prepare")),
    ("munit-train", env!("CARGO_BIN_EXE_munit-train")),
    ("munit-translate", env!("CARGO_BIN_EXE_munit-translate")),
];

#[test]
fn a_flag_that_does_not_exist_fails_with_code_1() {
    for (name, path) in PROGRAMS {
        let output = Command::new(path).arg("--no-such-flag").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("--no-such-flag"), "{name}: {text}");
    }
}

#[test]
fn help_and_version_are_answers() {
    for (name, path) in PROGRAMS {
        let output = Command::new(path).arg("--version").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with(name), "{name}: {text}");

        let output = Command::new(path).arg("--help").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            text.contains("Examples:"),
            "{name} --help shows none: {text}"
        );
    }
}
