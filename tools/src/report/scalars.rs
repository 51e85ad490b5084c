//! Loss curves: a table that every plotting program reads, and the same for TensorBoard.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use munit::atomic_file;

use super::tensorboard::EventWriter;

/// The table's name in a run's folder.
pub const TABLE_NAME: &str = "losses.csv";

/// The columns before the named values.
const FIXED_COLUMNS: [&str; 2] = ["iteration", "seconds"];

/// Writes `losses.csv` (header `iteration,seconds,NAME…`, one row for each logged iteration;
/// `seconds` is the time spent training, interruptions left out) and a TensorBoard event file.
/// Rows reach the files at once: a killed run loses none. They reach the disk with [`Self::sync`].
pub struct ScalarLog {
    path: PathBuf,
    names: Vec<String>,
    file: File,
    events: EventWriter,
    opened: Instant,
    seconds_before: f64,
}

impl ScalarLog {
    /// Opens the log in `folder`. With `resume_at`, rows after that iteration, which are about to
    /// be computed again, and a row that a kill left half written are removed; without it
    /// the table starts anew.
    ///
    /// # Errors
    /// A sentence that names the file, if it cannot be read or written or is not such a table.
    pub fn open(folder: &Path, resume_at: Option<u64>) -> Result<Self> {
        let path = folder.join(TABLE_NAME);
        let mut table = match resume_at {
            Some(_) => Table::read(&path)?,
            None => Table::default(),
        };
        if let Some(iteration) = resume_at {
            table.rows.retain(|row| row.iteration <= iteration);
        }
        Ok(Self {
            file: table.write(&path)?,
            events: EventWriter::create(folder, resume_at)?,
            opened: Instant::now(),
            seconds_before: table.rows.last().map_or(0.0, |row| row.seconds),
            names: table.names,
            path,
        })
    }

    /// Adds a row. A name that was not there before becomes a new column, empty in earlier rows;
    /// a column without a value stays empty.
    ///
    /// # Errors
    /// A sentence that names the file, if it cannot be written; a name with a comma, a quote or
    /// a line break.
    pub fn write(&mut self, iteration: u64, values: &[(&str, f64)]) -> Result<()> {
        let known = self.names.len();
        for (name, _) in values {
            if !self.names.iter().any(|known| known == name) {
                ensure!(
                    !name.contains([',', '"', '\n', '\r']),
                    "a loss cannot be named {name:?} in {TABLE_NAME}"
                );
                self.names.push((*name).to_owned());
            }
        }
        if self.names.len() > known {
            let table = Table {
                names: self.names.clone(),
                ..Table::read(&self.path)?
            };
            self.file = table.write(&self.path)?;
        }
        let cells = self.names.iter().map(|name| {
            let value = values.iter().find(|(known, _)| known == name);
            value.map_or(String::new(), |(_, value)| value.to_string())
        });
        let row = Row {
            iteration,
            seconds: self.seconds_before + self.opened.elapsed().as_secs_f64(),
            cells: cells.collect(),
        };
        self.file
            .write_all(row.line(self.names.len()).as_bytes())
            .with_context(|| format!("{}: cannot write", self.path.display()))?;
        self.events.scalars(iteration, values)
    }

    /// Waits until all rows are on the disk.
    ///
    /// # Errors
    /// A sentence that names the file, if it cannot be written.
    pub fn sync(&self) -> Result<()> {
        self.file
            .sync_data()
            .with_context(|| format!("{}: cannot write", self.path.display()))?;
        self.events.sync()
    }

    /// Shows a picture, for example a rendered [`super::Sheet`], in TensorBoard.
    ///
    /// # Errors
    /// A sentence that names the file, if it cannot be written.
    pub fn write_image(&mut self, iteration: u64, tag: &str, picture: &RgbImage) -> Result<()> {
        self.events.image(iteration, tag, picture)
    }
}

/// The table as numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossTable {
    /// Losses and figures.
    pub names: Vec<String>,
    /// In the order in which they were written.
    pub rows: Vec<LossRow>,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct LossRow {
    /// Iterations done.
    pub iteration: u64,
    /// Time spent training, interruptions left out.
    pub seconds: f64,
    /// One for each name; `None` for what was not measured then.
    pub values: Vec<Option<f64>>,
}

impl LossTable {
    /// Reads the table of the run in `folder`; a missing one is empty.
    ///
    /// # Errors
    /// A sentence that names the file, if it cannot be read or is not such a table.
    pub fn read(folder: &Path) -> Result<Self> {
        let Table { names, rows } = Table::read(&folder.join(TABLE_NAME))?;
        let rows = rows.into_iter().map(|row| LossRow {
            iteration: row.iteration,
            seconds: row.seconds,
            values: row.cells.iter().map(|cell| cell.parse().ok()).collect(),
        });
        Ok(Self {
            rows: rows.collect(),
            names,
        })
    }

    /// What `row` knows, by name.
    pub fn known<'t>(&'t self, row: &'t LossRow) -> Vec<(&'t str, f64)> {
        let values = self.names.iter().zip(&row.values);
        values
            .filter_map(|(name, value)| Some((name.as_str(), (*value)?)))
            .collect()
    }
}

#[derive(Default)]
struct Table {
    names: Vec<String>,
    rows: Vec<Row>,
}

struct Row {
    iteration: u64,
    seconds: f64,
    /// As many as there were names when the row was written; kept as text, so that reading and
    /// writing a table changes no digit.
    cells: Vec<String>,
}

impl Row {
    fn parse(line: &str) -> Option<Self> {
        let mut cells = line.split(',');
        Some(Self {
            iteration: cells.next()?.parse().ok()?,
            seconds: cells.next()?.parse().ok()?,
            cells: cells.map(str::to_owned).collect(),
        })
    }

    fn line(&self, columns: usize) -> String {
        let mut line = format!("{},{:.3}", self.iteration, self.seconds);
        for column in 0..columns {
            line.push(',');
            line.push_str(self.cells.get(column).map_or("", String::as_str));
        }
        line.push('\n');
        line
    }
}

impl Table {
    /// A missing file is an empty table.
    fn read(path: &Path) -> Result<Self> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(error).with_context(|| format!("{}: cannot read", path.display()));
            }
        };
        let text = String::from_utf8_lossy(&bytes);
        // What a kill left half written has no line end.
        let mut lines = text
            .split_inclusive('\n')
            .filter_map(|line| line.strip_suffix('\n'));
        let Some(header) = lines.next() else {
            return Ok(Self::default());
        };
        let mut names: Vec<String> = header.split(',').map(str::to_owned).collect();
        if names.len() < FIXED_COLUMNS.len() || names[..FIXED_COLUMNS.len()] != FIXED_COLUMNS {
            bail!(
                "{}: not a loss table, its first line is not \"iteration,seconds,…\"; move it away",
                path.display()
            );
        }
        names.drain(..FIXED_COLUMNS.len());
        let mut seen = BTreeSet::new();
        let rows = lines
            .filter_map(Row::parse)
            .filter(|row| row.cells.len() == names.len() && seen.insert(row.iteration))
            .collect();
        Ok(Self { names, rows })
    }

    /// Writes the whole table and returns the file, open for more rows.
    fn write(&self, path: &Path) -> Result<File> {
        let header = FIXED_COLUMNS.into_iter();
        let header: Vec<&str> = header
            .chain(self.names.iter().map(String::as_str))
            .collect();
        let mut text = header.join(",") + "\n";
        for row in &self.rows {
            text.push_str(&row.line(self.names.len()));
        }
        atomic_file::write(path, |writer| writer.write_all(text.as_bytes()))?;
        OpenOptions::new()
            .append(true)
            .open(path)
            .with_context(|| format!("{}: cannot write", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(folder: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(folder.join(TABLE_NAME)).unwrap();
        assert!(text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }

    fn iterations(folder: &Path) -> Vec<String> {
        let first = |line: &String| line.split(',').next().unwrap().to_owned();
        lines(folder)[1..].iter().map(first).collect()
    }

    #[test]
    fn a_row_for_each_logged_iteration() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = ScalarLog::open(folder.path(), None).unwrap();
        log.write(10, &[("gen", 3.25), ("dis", 1e-9)]).unwrap();
        log.write(20, &[("gen", f64::NAN), ("dis", 0.5)]).unwrap();
        // Read while the log is open: nothing waits in a buffer.
        let lines = lines(folder.path());
        assert_eq!(lines[0], "iteration,seconds,gen,dis");
        assert!(lines[1].starts_with("10,0.") && lines[1].ends_with(",3.25,0.000000001"));
        assert!(lines[2].ends_with(",NaN,0.5"));
    }

    #[test]
    fn resuming_cuts_rows_beyond_and_a_torn_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(TABLE_NAME);
        let before = "iteration,seconds,gen\n10,1.000,1\n20,2.000,2\n30,3.000,3\n";
        std::fs::write(&path, format!("{before}40,4.0")).unwrap();
        let mut log = ScalarLog::open(folder.path(), Some(25)).unwrap();
        log.write(30, &[("gen", 3.5)]).unwrap();
        assert_eq!(iterations(folder.path()), ["10", "20", "30"]);
        let last = lines(folder.path()).pop().unwrap();
        let seconds: f64 = last.split(',').nth(1).unwrap().parse().unwrap();
        assert!(
            last.ends_with(",3.5") && (2.0..3.0).contains(&seconds),
            "{last}"
        );
    }

    #[test]
    fn a_torn_row_at_the_resumed_iteration_is_not_taken_for_a_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(TABLE_NAME);
        std::fs::write(
            &path,
            "iteration,seconds,gen,dis\n10,1.000,1,1\n20,2.000,2,0.",
        )
        .unwrap();
        drop(ScalarLog::open(folder.path(), Some(20)).unwrap());
        assert_eq!(iterations(folder.path()), ["10"]);
    }

    #[test]
    fn a_torn_header_or_no_table_at_all_starts_anew() {
        for content in [None, Some(""), Some("iterat")] {
            let folder = tempfile::tempdir().unwrap();
            if let Some(content) = content {
                std::fs::write(folder.path().join(TABLE_NAME), content).unwrap();
            }
            let mut log = ScalarLog::open(folder.path(), Some(5)).unwrap();
            log.write(6, &[("gen", 1.0)]).unwrap();
            assert_eq!(lines(folder.path())[0], "iteration,seconds,gen");
            assert_eq!(iterations(folder.path()), ["6"]);
        }
    }

    #[test]
    fn a_new_name_becomes_a_column_and_a_missing_value_an_empty_cell() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = ScalarLog::open(folder.path(), None).unwrap();
        log.write(1, &[("gen", 1.0)]).unwrap();
        log.write(2, &[("cycle", 2.0), ("gen", 3.0)]).unwrap();
        log.write(3, &[("cycle", 4.0)]).unwrap();
        let lines = lines(folder.path());
        assert_eq!(lines[0], "iteration,seconds,gen,cycle");
        assert!(lines[1].ends_with(",1,"), "{}", lines[1]);
        assert!(lines[2].ends_with(",3,2"), "{}", lines[2]);
        assert!(lines[3].ends_with(",,4"), "{}", lines[3]);
    }

    #[test]
    fn the_table_is_read_back_as_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let read = || LossTable::read(folder.path()).unwrap();
        assert_eq!(read(), LossTable::default());
        let mut log = ScalarLog::open(folder.path(), None).unwrap();
        log.write(10, &[("gen", 3.25)]).unwrap();
        log.write(20, &[("gen", f64::NAN), ("diversity_a2b", 0.5)])
            .unwrap();
        let table = read();
        assert_eq!(table.names, ["gen", "diversity_a2b"]);
        assert_eq!(table.known(&table.rows[0]), [("gen", 3.25)]);
        let known = table.known(&table.rows[1]);
        assert!(known[0].1.is_nan() && known[1] == ("diversity_a2b", 0.5));
        assert_eq!(table.rows[1].iteration, 20);
        assert!(table.rows[1].seconds < 60.0);
    }

    #[test]
    fn a_foreign_table_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(TABLE_NAME);
        std::fs::write(&path, "date,amount\n").unwrap();
        let error = ScalarLog::open(folder.path(), Some(1)).err().unwrap();
        assert!(
            error.to_string().contains("losses.csv: not a loss table"),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "date,amount\n");
    }
}
