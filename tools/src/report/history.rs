//! What happened in a run: starts, findings, returns to checkpoints, pictures left out.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use munit::atomic_file;
use serde::{Deserialize, Serialize};

use crate::watch::Finding;

/// The file's name in a run's folder.
pub const HISTORY_NAME: &str = "history.jsonl";

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Happening {
    /// The run began.
    Started,
    /// The run went on from a checkpoint.
    Resumed,
    /// It was asked to stop.
    Stopped,
    /// All iterations are done.
    Finished,
    /// The watch found something.
    Found {
        /// What it is.
        finding: Finding,
    },
    /// What the watch had found is so no more.
    Ended {
        /// What it was.
        finding: Finding,
    },
    /// The run went back to the state after so many iterations.
    RolledBack {
        /// Iterations of that state.
        to: u64,
        /// The generators' learning rate from there on.
        rate: f64,
    },
    /// A picture was left out.
    LeftOut {
        /// Which, and why.
        what: String,
    },
    /// Something to know, for instance about the pictures.
    Note {
        /// A sentence.
        what: String,
    },
}

impl Happening {
    /// Whether a run that goes on from an earlier iteration meets it again.
    fn comes_again(&self) -> bool {
        match self {
            Self::Found { finding } => !finding.trouble.ruins_weights(),
            Self::Ended { .. } | Self::LeftOut { .. } => true,
            _ => false,
        }
    }
}

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Iterations done.
    pub iteration: u64,
    /// Seconds since 1970.
    pub time: u64,
    /// What it was.
    #[serde(flatten)]
    pub what: Happening,
}

/// Writes `history.jsonl`, one event a line. Each reaches the file at once.
pub struct History {
    path: PathBuf,
    file: File,
    events: Vec<Event>,
}

impl History {
    /// Opens the history in `folder`. With `resume_at`, what will happen again after that iteration is
    /// removed, and a line that a kill left half written; without it the history starts anew.
    ///
    /// # Errors
    /// A sentence that names the file, if it cannot be read or written.
    pub fn open(folder: &Path, resume_at: Option<u64>) -> Result<Self> {
        let path = folder.join(HISTORY_NAME);
        let mut events = match resume_at {
            Some(_) => read(&path)?,
            None => Vec::new(),
        };
        if let Some(resume_at) = resume_at {
            events.retain(|event| event.iteration <= resume_at || !event.what.comes_again());
        }
        let lines = events.iter().map(line).collect::<Result<String>>()?;
        atomic_file::write(&path, |writer| writer.write_all(lines.as_bytes()))?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .with_context(|| format!("{}: cannot write", path.display()))?;
        Ok(Self { path, file, events })
    }

    /// Adds an event of now.
    ///
    /// # Errors
    /// A sentence that names the file, if it cannot be written.
    pub fn add(&mut self, iteration: u64, what: Happening) -> Result<()> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let event = Event {
            iteration,
            time: since.map_or(0, |since| since.as_secs()),
            what,
        };
        self.file
            .write_all(line(&event)?.as_bytes())
            .with_context(|| format!("{}: cannot write", self.path.display()))?;
        self.events.push(event);
        Ok(())
    }

    /// Waits until all events are on the disk.
    ///
    /// # Errors
    /// A sentence that names the file, if it cannot be written.
    pub fn sync(&self) -> Result<()> {
        self.file
            .sync_data()
            .with_context(|| format!("{}: cannot write", self.path.display()))
    }

    /// All events, oldest first.
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

fn line(event: &Event) -> Result<String> {
    Ok(serde_json::to_string(event)? + "\n")
}

/// The events of a file; a missing one has none, and lines that are none are passed over.
fn read(path: &Path) -> Result<Vec<Event>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("{}: cannot read", path.display()));
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines();
    Ok(lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Trouble;

    fn found(iteration: u64, trouble: Trouble) -> Happening {
        Happening::Found {
            finding: Finding {
                iteration,
                trouble,
                what: "it is so".to_owned(),
            },
        }
    }

    #[test]
    fn what_happened_is_read_back_and_what_comes_again_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open(folder.path(), None).unwrap();
        let happenings = [
            (0, Happening::Started),
            (10, found(10, Trouble::ModeCollapse)),
            (30, found(30, Trouble::ModeCollapse)),
            (30, found(30, Trouble::NotFinite)),
            (30, Happening::RolledBack { to: 20, rate: 5e-5 }),
            (
                35,
                Happening::LeftOut {
                    what: "a.png: it is blank".to_owned(),
                },
            ),
        ];
        for (iteration, what) in happenings.clone() {
            history.add(iteration, what).unwrap();
        }
        drop(history);
        let path = folder.path().join(HISTORY_NAME);
        let mut text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), happenings.len());
        text.push_str("{\"iteration\":36,\"ti");
        std::fs::write(&path, text).unwrap();

        let mut history = History::open(folder.path(), Some(20)).unwrap();
        history.add(20, Happening::Resumed).unwrap();
        let kept: Vec<_> = history
            .events()
            .iter()
            .map(|event| (event.iteration, event.what.clone()))
            .collect();
        let expected = [
            happenings[0].clone(),
            happenings[1].clone(),
            happenings[3].clone(),
            happenings[4].clone(),
            (20, Happening::Resumed),
        ];
        assert_eq!(kept, expected);
        assert_eq!(read(&path).unwrap(), history.events());
        assert!(history.events()[4].time > 1_600_000_000);

        assert_eq!(History::open(folder.path(), None).unwrap().events(), []);
    }
}
