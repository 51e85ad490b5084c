//! Other engines, each a process of its own that computes when it is told to.
//!
//! `PROGRAM --list --device DEVICE` prints the engines as JSON, `[{"engine": …, "name": …}, …]`.
//! `PROGRAM ENGINE …` prints `{"version": …}` when it is ready, and for each line with a number that
//! it reads `{"ms": […]}` with so many times.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::subject::Subject;
use crate::program::sentence;

/// How long a peer may take to start, or to measure: compilers need minutes.
const LONGEST: Duration = Duration::from_secs(1200);

/// How a peer is run.
#[derive(Clone, Debug)]
pub struct PeerProgram {
    /// The interpreter.
    pub python: PathBuf,
    /// What it runs.
    pub script: PathBuf,
}

/// One of the engines that a program has.
#[derive(Clone, Debug, Deserialize)]
pub struct Engine {
    /// What the program calls it.
    pub engine: String,
    /// What people call it.
    pub name: String,
}

/// A peer that could not be measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// What it is called.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl LeftOut {
    /// `reason` in one line.
    pub(super) fn new(name: String, reason: &anyhow::Error) -> Self {
        Self {
            name,
            reason: sentence(reason),
        }
    }
}

impl PeerProgram {
    /// The engines for a device, `cpu` or `cuda:N`.
    ///
    /// # Errors
    /// When there is no such program, or it cannot be run.
    pub fn engines(&self, device: &str) -> Result<Vec<Engine>> {
        if !self.script.is_file() {
            bail!(
                "{}: there is no such program; give the project's benches/peers/translate.py with \
                 --peers",
                self.script.display()
            );
        }
        let output = self
            .command()
            .args(["--list", "--device", device])
            .output()
            .with_context(|| format!("{}: cannot be run", self.python.display()))?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            let errors = String::from_utf8_lossy(&output.stderr);
            format!(
                "{}: does not list its engines: {}",
                self.script.display(),
                last_line(&errors)
            )
        })
    }

    /// Starts an engine on the network of `subject` and waits until it is ready.
    ///
    /// # Errors
    /// Why the engine cannot be used here.
    pub fn start(&self, engine: &Engine, subject: &Subject, n_res: i64) -> Result<Peer> {
        let mut child = self
            .command()
            .arg(&engine.engine)
            .args(["--dim", &subject.dim.to_string()])
            .args(["--n-res", &n_res.to_string()])
            .args(["--size", &subject.size.to_string()])
            .args(["--threads", &subject.threads.to_string()])
            .args(["--device", &subject.device])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}: cannot be run", self.python.display()))?;
        let (input, output, errors) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut peer = Peer {
            child,
            input,
            answers: lines(output.context("a peer without an output")?),
            errors: Some(collected(errors.context("a peer without errors")?)),
            version: String::new(),
        };
        let ready: Ready = peer.answer()?;
        peer.version = ready.version;
        Ok(peer)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(&self.script);
        // The libraries that an archive of ours brings are not those that Python was built with.
        if let (Some(folders), Ok(program)) = (env::var_os("LD_LIBRARY_PATH"), env::current_exe())
            && let Some(ours) = program.parent().and_then(Path::parent)
        {
            let others = env::split_paths(&folders).filter(|folder| !folder.starts_with(ours));
            if let Ok(others) = env::join_paths(others) {
                command.env("LD_LIBRARY_PATH", others);
            }
        }
        command
    }
}

/// An engine that is ready. Dropping it ends the process.
pub struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
    errors: Option<JoinHandle<String>>,
    version: String,
}

#[derive(Deserialize)]
struct Ready {
    version: String,
}

#[derive(Deserialize)]
struct Times {
    ms: Vec<f64>,
}

impl Peer {
    /// The library's name and version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The milliseconds of each of so many frames.
    ///
    /// # Errors
    /// When the process has ended or does not answer.
    pub fn measure(&mut self, frames: usize) -> Result<Vec<f64>> {
        if let Some(input) = &mut self.input {
            // One that has ended says why when it is asked for its answer.
            let _ = writeln!(input, "{frames}");
        }
        let times: Times = self.answer()?;
        Ok(times.ms)
    }

    fn answer<A: for<'a> Deserialize<'a>>(&mut self) -> Result<A> {
        match self.answers.recv_timeout(LONGEST) {
            Ok(line) => serde_json::from_str(&line)
                .with_context(|| format!("answered \"{}\"", line.trim_end())),
            Err(RecvTimeoutError::Timeout) => {
                bail!("did not answer within {} seconds", LONGEST.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.reason()),
        }
    }

    /// Why the process has ended.
    fn reason(&mut self) -> anyhow::Error {
        self.input = None;
        let errors = self.errors.take().and_then(|errors| errors.join().ok());
        match errors.as_deref().map(last_line) {
            Some(line) if !line.is_empty() => anyhow!("{line}"),
            _ => match self.child.wait() {
                Ok(status) => anyhow!("ended ({status})"),
                Err(error) => error.into(),
            },
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Nothing is left to do where ending fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of `output` as they come.
fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            if line.is_ok_and(|line| send.send(line).is_ok()) {
                continue;
            }
            break;
        }
    });
    receive
}

/// All of `errors`, once its writer has ended.
fn collected(errors: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before a failure is all there is.
        let _ = BufReader::new(errors).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Where Python says what went wrong.
fn last_line(errors: &str) -> &str {
    let mut lines = errors.lines().rev().map(str::trim);
    lines.find(|line| !line.is_empty()).unwrap_or_default()
}
