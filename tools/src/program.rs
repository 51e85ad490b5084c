//! What the programs' entry points and flags have in common.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Arg, Parser, ValueEnum};
use clap_complete::Shell;
use munit::Direction;
use signal_hook::consts::SIGXFSZ;
use tch::Kind;

use crate::crowding::{Crowding, SHORT_WINDOW};
use crate::torch_failure;

/// Parses the command line and runs a program named `name`: a failure, be it of the flags or of the
/// work, is told on standard error and gives exit code 1.
pub fn run<A: Parser>(name: &str, work: impl FnOnce(A) -> anyhow::Result<()>) -> ExitCode {
    // A file that may not grow any more (`ulimit -f`) is a failure to tell of, not an end without a word.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    // Whether a subcommand is missing is found out below: the flag of every program needs none.
    let mut command = A::command().arg(completions()).subcommand_required(false);
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let parsed = parsed.and_then(|matches| {
        Ok(match matches.get_one::<Shell>(COMPLETIONS) {
            Some(shell) => Wanted::Completions(*shell),
            None => Wanted::Work(A::from_arg_matches(&matches)?),
        })
    });
    let done = match parsed {
        Ok(Wanted::Work(arguments)) => torch_failure::as_errors(|| work(arguments)),
        Ok(Wanted::Completions(shell)) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, name, &mut script);
            print_line(String::from_utf8_lossy(&script).trim_end())
        }
        Err(answer) => {
            // Help and version are answers too, and no failures.
            let answer = answer.format(&mut command);
            let _ = answer.print();
            return if answer.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("{name}: {}", sentence(&error)));
            ExitCode::FAILURE
        }
    }
}

/// As [`run`], for work of seconds or minutes that libtorch does: it goes on beside other programs that want
/// the processor.
pub fn run_beside_others<A: Parser>(
    name: &str,
    work: impl FnOnce(A) -> anyhow::Result<()>,
) -> ExitCode {
    run(name, |arguments| {
        let _crowding = Crowding::watch(SHORT_WINDOW);
        work(arguments)
    })
}

/// What a command line asks for.
enum Wanted<A> {
    Work(A),
    Completions(Shell),
}

const COMPLETIONS: &str = "completions";

/// A flag of every program.
fn completions() -> Arg {
    Arg::new(COMPLETIONS)
        .long(COMPLETIONS)
        .value_name("SHELL")
        .value_parser(clap::value_parser!(Shell))
        .exclusive(true)
        .help("Print what makes a shell complete this program's command lines")
}

/// Writes `text` and a line break to the standard error, if it is still there: the terminal of a run may
/// be closed.
pub fn tell(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Writes `text` and a line break to the standard output.
///
/// # Errors
/// A sentence, where the standard output is full or closed.
pub fn print_line(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(format!("{text}\n").as_bytes())
        .context("cannot write to the standard output")
}

/// What went wrong and why, each cause once: some packages repeat their cause in their own text,
/// others leave it to be asked for.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain() {
        let cause = match cause.downcast_ref::<tch::TchError>() {
            // The lines below the first are addresses within libtorch.
            Some(refusal) => {
                let text = refusal.to_string();
                format!("libtorch: {}", text.lines().next().unwrap_or_default())
            }
            None => cause.to_string(),
        };
        if sentence.ends_with(&cause) {
            continue;
        }
        if !sentence.is_empty() {
            sentence += ": ";
        }
        sentence += &cause;
    }
    sentence
}

/// [`sentence`], with the file that it is about in front of it where it does not name it.
pub fn sentence_about(file: &Path, error: &anyhow::Error) -> String {
    let name = file.display().to_string();
    match sentence(error) {
        sentence if sentence.contains(&name) => sentence,
        sentence => format!("{name}: {sentence}"),
    }
}

/// `count` things, of which one is called `thing`: `1 picture`, `2 pictures`.
pub fn counted(count: u64, thing: &str) -> String {
    match count {
        1 => format!("1 {thing}"),
        _ => format!("{count} {thing}s"),
    }
}

/// The value of a flag `--seed`.
///
/// # Errors
/// A sentence, if it is no such number.
pub fn seed(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("a seed is a whole number from 0 on, {} at most", u64::MAX))
}

/// `path` as one word of a command that can be pasted into a shell.
pub fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=+:,@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    // Within single quotes a shell takes everything as it is, but for the quote that ends them.
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Which directions a model file is to hold; flag `--directions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "doc comments would become part of the help")]
pub enum Directions {
    Both,
    A2b,
    B2a,
}

impl Directions {
    /// The directions one by one.
    pub fn list(self) -> &'static [Direction] {
        match self {
            Self::Both => &Direction::ALL,
            Self::A2b => &[Direction::A2b],
            Self::B2a => &[Direction::B2a],
        }
    }
}

/// Number format of the weights in a model file; flag `--precision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "doc comments would become part of the help")]
pub enum StoredPrecision {
    Fp32,
    Fp16,
    Bf16,
}

impl StoredPrecision {
    /// Its name, as the flag takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
        }
    }

    /// libtorch's name for it.
    pub fn kind(self) -> Kind {
        match self {
            Self::Fp32 => Kind::Float,
            Self::Fp16 => Kind::Half,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn every_cause_is_said_once() {
        let damaged = repeating("invalid header", "expected a comma");
        assert_eq!(
            sentence(&damaged.context("a.safetensors: is damaged")),
            "a.safetensors: is damaged: invalid header: expected a comma"
        );
        let torch = tch::Tensor::from_slice(&[1i64, 2])
            .f_reshape([3i64])
            .unwrap_err();
        let torch = sentence(&anyhow!(torch).context("cannot translate"));
        assert!(torch.starts_with("cannot translate: libtorch: "), "{torch}");
        assert!(
            torch.contains("shape '[3]'") && !torch.contains('\n'),
            "{torch}"
        );
        let plain = anyhow!("no space left").context("cannot write");
        assert_eq!(sentence(&plain), "cannot write: no space left");
    }

    #[test]
    fn a_shell_reads_words_back() {
        for text in [
            "runs/mine",
            "runs/mit Ümläut",
            "it's",
            "$HOME `id` \"!\" \\ ~ # & ; (a) *",
            "Ümläut",
        ] {
            let word = shell_word(Path::new(text));
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {word}")])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
        assert_eq!(shell_word(Path::new("runs/mine")), "runs/mine");
    }

    /// An error that repeats its cause.
    fn repeating(text: &str, cause: &str) -> anyhow::Error {
        anyhow!(cause.to_owned()).context(format!("{text}: {cause}"))
    }
}
