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
struct Engine {
    /// What the program calls it.
    engine: String,
    /// What people call it.
    name: String,
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
    fn engines(&self, device: &str) -> Result<Vec<Engine>> {
        if !self.script.is_file() {
            bail!(
                "{}: there is no such program; give one of the project's benches/peers with --peers",
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

    /// Starts an engine, with `flags` that say on what, and waits until it is ready.
    ///
    /// # Errors
    /// Why the engine cannot be used here.
    fn start(&self, engine: &Engine, flags: &[(&str, String)]) -> Result<Peer> {
        let mut child = self
            .command()
            .arg(&engine.engine)
            .args(flags.iter().flat_map(|(flag, value)| [*flag, value]))
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

/// Other engines that take turns with ours.
pub struct Peers {
    running: Vec<(Peer, PeerTimes)>,
    left_out: Vec<LeftOut>,
}

/// Another engine's times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerTimes {
    /// What it is called.
    pub name: String,
    /// The library's name and version.
    pub version: String,
    /// Milliseconds of each frame, from tensor to tensor, or of each iteration.
    pub ms: Vec<f64>,
}

impl Peers {
    /// Starts the engines of `program` for `device` with `flags`, those that are `wanted` or all where
    /// none is named. One that fails is left out. `tell` is told who is being started.
    ///
    /// # Errors
    /// When the program cannot be run at all, or has no engine of a name that is wanted.
    pub fn start(
        program: &PeerProgram,
        device: &str,
        wanted: &[String],
        flags: &[(&str, String)],
        tell: &dyn Fn(&str),
    ) -> Result<Self> {
        let mut running = Vec::new();
        let mut left_out = Vec::new();
        for engine in chosen(program.engines(device)?, wanted)? {
            tell(&engine.name);
            match program.start(&engine, flags) {
                Ok(peer) => {
                    let times = PeerTimes {
                        name: engine.name,
                        version: peer.version.clone(),
                        ms: vec![],
                    };
                    running.push((peer, times));
                }
                Err(reason) => left_out.push(LeftOut::new(engine.name, &reason)),
            }
        }
        Ok(Self { running, left_out })
    }

    /// Gives everyone a turn of so many frames or iterations; those who fail are out.
    pub fn take_turns(&mut self, count: usize) {
        for (mut peer, mut times) in std::mem::take(&mut self.running) {
            match peer.measure(count) {
                Ok(ms) => {
                    times.ms.extend(ms);
                    self.running.push((peer, times));
                }
                Err(reason) => self.left_out.push(LeftOut::new(times.name, &reason)),
            }
        }
    }

    /// What was measured, and who was left out.
    pub fn finish(self) -> (Vec<PeerTimes>, Vec<LeftOut>) {
        let times = self.running.into_iter().map(|(_, times)| times);
        (times.collect(), self.left_out)
    }
}

/// Those of `engines` that are wanted.
fn chosen(engines: Vec<Engine>, wanted: &[String]) -> Result<Vec<Engine>> {
    if let Some(unknown) = wanted
        .iter()
        .find(|name| !engines.iter().any(|one| one.engine == **name))
    {
        let known: Vec<_> = engines.iter().map(|one| one.engine.as_str()).collect();
        bail!(
            "{unknown}: there is no such engine for this device; the others are {}",
            known.join(", ")
        );
    }
    let is_wanted = |one: &Engine| wanted.is_empty() || wanted.contains(&one.engine);
    Ok(engines.into_iter().filter(is_wanted).collect())
}

/// An engine that is ready. Dropping it ends the process.
struct Peer {
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
    /// The milliseconds of each of so many frames or iterations.
    ///
    /// # Errors
    /// When the process has ended or does not answer.
    fn measure(&mut self, frames: usize) -> Result<Vec<f64>> {
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
