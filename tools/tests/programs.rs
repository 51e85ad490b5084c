//! What all programs have in common: their answers to the command line itself.

use std::process::Command;

use clap::ValueEnum;
use munit_tools::config::TrainConfig;
use munit_tools::recipe::Recipe;

const PROGRAMS: &[(&str, &str)] = &[
    ("munit-bench", env!("CARGO_BIN_EXE_munit-bench")),
    ("munit-evaluate", env!("CARGO_BIN_EXE_munit-evaluate")),
    ("munit-export", env!("CARGO_BIN_EXE_munit-export")),
    ("munit-import", env!("CARGO_BIN_EXE_munit-import")),
    ("munit-info", env!("CARGO_BIN_EXE_munit-info")),
    ("munit-prepare", env!("CARGO_BIN_EXE_munit-prepare")),
    ("munit-style", env!("CARGO_BIN_EXE_munit-style")),
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
fn a_cause_is_said_once_and_no_temporary_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.safetensors");
    let mut content = 5u64.to_le_bytes().to_vec();
    content.extend(b"{nix}");
    std::fs::write(&damaged, content).unwrap();
    let damaged = damaged.to_str().unwrap();
    for (name, arguments, expected) in [
        (
            "munit-info",
            &["nowhere/nix.safetensors"][..],
            "munit-info: nowhere/nix.safetensors: cannot read: \
             No such file or directory (os error 2)\n"
                .to_owned(),
        ),
        (
            "munit-translate",
            &["nowhere/nix.safetensors", damaged, "out.png"],
            format!(
                "munit-translate: {damaged}: not a sound safetensors file: \
                 invalid JSON in header: key must be a string at line 1 column 2\n"
            ),
        ),
    ] {
        let (_, path) = PROGRAMS.iter().find(|(known, _)| *known == name).unwrap();
        let output = Command::new(path)
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
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

#[test]
fn every_program_completes_its_command_lines_in_every_shell() {
    for (name, path) in PROGRAMS {
        for (shell, mark) in [
            ("bash", "complete "),
            ("zsh", "#compdef "),
            ("fish", "complete "),
        ] {
            let arguments = ["--completions", shell];
            let output = Command::new(path).args(arguments).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{name}");
            let script = String::from_utf8(output.stdout).unwrap();
            assert!(
                script.contains(mark) && script.contains(name),
                "{name} {shell}"
            );
            assert!(script.contains("version"), "{name} {shell}");
        }
        let output = Command::new(path)
            .args(["--completions", "sh"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
    }
}

#[test]
fn bash_takes_the_completions() {
    for (name, path) in PROGRAMS {
        let output = Command::new(path)
            .args(["--completions", "bash"])
            .output()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        std::fs::write(&script, output.stdout).unwrap();
        let checked = Command::new("bash")
            .arg("-n")
            .arg(&script)
            .output()
            .unwrap();
        assert!(checked.status.success(), "{name}: {checked:?}");
    }
}

#[test]
fn data_is_given_as_json_where_it_is_asked_for() {
    let listed: [(&str, &[&[&str]]); 8] = [
        ("munit-bench", &[&["network"], &["compare"], &["train"]]),
        ("munit-evaluate", &[&[], &["pairs"]]),
        ("munit-export", &[&[]]),
        ("munit-info", &[&[]]),
        ("munit-import", &[&[], &["backbone"]]),
        (
            "munit-prepare",
            &[
                &["edges"],
                &["illustrate"],
                &["cut-out"],
                &["split"],
                &["resize"],
                &["dedupe"],
                &["frames"],
            ],
        ),
        (
            "munit-style",
            &[&["list"], &["add"], &["show"], &["rename"], &["delete"]],
        ),
        ("munit-translate", &[&[]]),
    ];
    for (name, commands) in listed {
        let (_, path) = PROGRAMS.iter().find(|(known, _)| *known == name).unwrap();
        for command in commands {
            let output = Command::new(path)
                .args(*command)
                .arg("--help")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("--json"), "{name} {command:?}: {text}");
        }
    }
}

/// A flag that several programs have takes the same kind of value in each.
#[test]
fn flags_of_one_name_are_of_one_kind() {
    let mut kinds = std::collections::BTreeMap::new();
    for (name, path) in PROGRAMS {
        let output = Command::new(path).arg("--help").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for flag in [
            "--device",
            "--seed",
            "--threads",
            "--json",
            "--a2b",
            "--b2a",
        ] {
            let line = text.lines().map(str::trim).find(|line| {
                let rest = line.strip_prefix(flag);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            });
            let Some(line) = line else { continue };
            let value = line[flag.len()..].trim_start();
            let value = value
                .split_whitespace()
                .next()
                .filter(|word| word.starts_with('<'));
            let known = kinds
                .entry(flag)
                .or_insert((value.map(str::to_owned), *name));
            assert_eq!(
                known.0.as_deref(),
                value,
                "{flag} in {name} and {}",
                known.1
            );
        }
    }
    assert!(kinds.len() > 4, "{kinds:?}");
}

/// What `--help` says of a flag, in one line.
fn help_of(help: &str, flag: &str) -> String {
    let mut lines = help.lines().map(str::trim);
    let is_flag = |line: &&str| line.split_whitespace().next() == Some(flag);
    lines.find(is_flag).unwrap_or_else(|| panic!("no {flag}"));
    let words = lines.take_while(|line| !line.starts_with("--"));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_help_of_munit_train_tells_the_defaults() {
    let (_, path) = PROGRAMS
        .iter()
        .find(|(name, _)| *name == "munit-train")
        .unwrap();
    let output = Command::new(path).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let [classic, modern] = [Recipe::Classic, Recipe::Modern].map(TrainConfig::of_recipe);
    type Value = fn(&TrainConfig) -> String;
    let flags: [(&str, Value); 21] = [
        ("--iterations", |c| c.max_iter.to_string()),
        ("--batch-size", |c| c.batch_size.to_string()),
        ("--size", |c| c.crop_image_height.to_string()),
        ("--size", |c| c.crop_image_width.to_string()),
        ("--dim", |c| c.generator.dim.to_string()),
        ("--dim", |c| c.discriminator.dim.to_string()),
        ("--style-dim", |c| c.generator.style_dim.to_string()),
        ("--lr", |c| c.lr.to_string()),
        ("--lr-dis", |c| match c.lr_dis {
            Some(rate) => rate.to_string(),
            None => "that of --lr".to_owned(),
        }),
        ("--perceptual", |c| c.vgg_w.to_string()),
        ("--perceptual-style", |c| c.vgg_style_w.to_string()),
        ("--paired", |c| c.paired_w.to_string()),
        ("--perceptual-paired", |c| c.vgg_paired_w.to_string()),
        ("--augment", |c| match &c.augment[..] {
            [] => "nothing".to_owned(),
            changes => changes.iter().map(named).collect::<Vec<_>>().join(","),
        }),
        ("--encoded-styles", |c| c.encoded_styles.to_string()),
        ("--diversity", |c| c.diversity_w.to_string()),
        ("--consistency", |c| c.consistency_w.to_string()),
        ("--precision", |c| named(&c.precision)),
        ("--checkpoint-every", |c| c.snapshot_save_iter.to_string()),
        ("--samples-every", |c| c.image_save_iter.to_string()),
        ("--seed", |c| c.seed.to_string()),
    ];
    for (flag, value) in flags {
        let (classic, modern) = (value(&classic), value(&modern));
        let expected = match classic == modern {
            true => format!("else {classic}]"),
            false => format!("else {modern} in the modern recipe and {classic} otherwise]"),
        };
        let said = help_of(&help, flag);
        assert!(
            said.contains("[default: the configuration's, ") && said.contains(&expected),
            "{flag} should say {expected:?}: {said}"
        );
    }
}

fn named(value: &impl ValueEnum) -> String {
    let named = value.to_possible_value();
    named.unwrap().get_name().to_owned()
}
