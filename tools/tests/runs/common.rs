//! Folders of small pictures, and the programs run on them.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

pub const MUNIT_TRAIN: &str = env!("CARGO_BIN_EXE_munit-train");
pub const MUNIT_EXPORT: &str = env!("CARGO_BIN_EXE_munit-export");
pub const MUNIT_INFO: &str = env!("CARGO_BIN_EXE_munit-info");

/// Long enough for anything here, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A folder in which programs run, with pictures in `datasets/shapes` in the published layout.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let shapes = place.path("datasets/shapes");
        for (name, count) in [("trainA", 5), ("trainB", 4), ("testA", 2), ("testB", 2)] {
            let folder = shapes.join(name);
            fs::create_dir_all(&folder).unwrap();
            let mut list = String::new();
            for number in 0..count {
                let stripes = name.ends_with('B');
                let file = format!("{number}.png");
                picture(number, stripes).save(folder.join(&file)).unwrap();
                list += &format!("{file}\n");
            }
            fs::write(shapes.join(format!("list_{name}.txt")), list).unwrap();
        }
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a folder `name` of pictures of the size of the others, whose pixels follow from their number and
    /// place.
    pub fn pictures(&self, name: &str, pixel: impl Fn(u32, u32, u32) -> Rgb<u8>) {
        let folder = self.path(name);
        fs::create_dir_all(&folder).unwrap();
        for number in 0..5 {
            let picture = RgbImage::from_fn(44, 38, |x, y| pixel(number, x, y));
            picture.save(folder.join(format!("{number}.png"))).unwrap();
        }
    }

    /// Runs `program` here with `arguments`, which spaces separate.
    pub fn run(&self, program: &str, arguments: &str) -> Output {
        self.command(program, arguments.split_whitespace())
            .output()
            .unwrap()
    }

    /// Runs `munit-train` with the tiny networks of `tests/configs/folder.yaml`.
    pub fn train(&self, arguments: &str) -> Output {
        self.run(MUNIT_TRAIN, &tiny(arguments))
    }

    pub fn start_training(&self, arguments: &str) -> Running {
        self.start(MUNIT_TRAIN, &tiny(arguments))
    }

    pub fn start(&self, program: &str, arguments: &str) -> Running {
        Running::new(self.command(program, arguments.split_whitespace()))
    }

    /// Starts `munit-train` with tiny networks and `--out out`, which may hold spaces.
    pub fn start_training_in(&self, out: &str, arguments: &str) -> Running {
        let arguments = tiny(arguments);
        let words = arguments.split_whitespace().chain(["--out", out]);
        Running::new(self.command(MUNIT_TRAIN, words))
    }

    pub fn command<'a>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("XDG_CACHE_HOME", self.folder.path().join(".cache"))
            .stdin(Stdio::null());
        command
    }

    /// The rows of a run's `losses.csv` without the seconds, header included.
    pub fn losses(&self, run: &str) -> Vec<String> {
        let table = fs::read_to_string(self.path(run).join("losses.csv")).unwrap_or_default();
        table
            .lines()
            .map(|line| {
                let cells: Vec<&str> = line.split(',').collect();
                let losses = cells.get(2..).unwrap_or_default();
                [&cells[..1], losses].concat().join(",")
            })
            .collect()
    }

    /// The values of a column of a run's `losses.csv`, `None` where a row has none; `None` if there is no
    /// such column.
    pub fn column(&self, run: &str, name: &str) -> Option<Vec<Option<f64>>> {
        let rows = self.losses(run);
        let place = rows[0].split(',').position(|known| known == name)?;
        let cells = rows[1..]
            .iter()
            .map(|row| row.split(',').nth(place).unwrap_or_default());
        let value = |cell: &str| (!cell.is_empty()).then(|| cell.parse().unwrap());
        Some(cells.map(value).collect())
    }

    /// The values of a column that every row has.
    pub fn whole_column(&self, run: &str, name: &str) -> Vec<f64> {
        let values = self.column(run, name).unwrap().into_iter();
        values.collect::<Option<_>>().unwrap()
    }

    pub fn checkpoint(&self, run: &str, iteration: u64) -> PathBuf {
        self.path(&format!(
            "{run}/checkpoints/iteration-{iteration:09}.safetensors"
        ))
    }
}

/// The configuration file `name` of this project's tests.
pub fn config(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs");
    path.join(name).to_str().unwrap().to_owned()
}

fn tiny(arguments: &str) -> String {
    let resumes_without_file = arguments.contains("--resume");
    let config = if resumes_without_file {
        String::new()
    } else {
        format!("--config {}", config("folder.yaml"))
    };
    format!("{config} --device cpu --threads 1 {arguments}")
}

/// A training run in the background, killed when it goes out of scope.
pub struct Running(Option<Child>);

impl Running {
    pub fn new(mut command: Command) -> Self {
        Self(Some(command.stderr(Stdio::piped()).spawn().unwrap()))
    }

    /// Waits until `losses.csv` of the run in `folder` holds `rows` rows.
    pub fn wait_for_rows(&mut self, folder: &Path, rows: usize) {
        let table = folder.join("losses.csv");
        let written = || fs::read_to_string(&table).map_or(0, |table| table.lines().count());
        self.wait_until(&format!("{rows} rows in {table:?}"), || written() > rows);
    }

    /// Waits until `reached` says yes to `what`.
    pub fn wait_until(&mut self, what: &str, reached: impl Fn() -> bool) {
        let started = Instant::now();
        while !reached() {
            assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
            if let Some(status) = self.child().try_wait().unwrap() {
                panic!("it ended by itself: {status}, {}", self.finish());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a line on standard error that begins with `start`. What comes before it is read away.
    pub fn line_with(&mut self, start: &str) -> String {
        let errors = self.child().stderr.take().unwrap();
        let mut errors = std::io::BufReader::new(errors);
        loop {
            let mut line = String::new();
            let count = std::io::BufRead::read_line(&mut errors, &mut line).unwrap();
            assert!(count > 0, "no line begins with {start}");
            if line.starts_with(start) {
                self.child().stderr = Some(errors.into_inner());
                return line.trim_end().to_owned();
            }
        }
    }

    /// From now on nobody reads its standard error.
    pub fn close_errors(&mut self) {
        self.child().stderr = None;
    }

    /// From now on it has to wait for ever when it writes on standard error, as at a terminal that is
    /// halted.
    pub fn halt_errors(&mut self) {
        let errors = self.child().stderr.as_ref().unwrap().as_raw_fd();
        // The pipe's other end once more, that alone does not wait.
        let mut end = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(format!("/proc/self/fd/{errors}"))
            .unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while end.write(&vec![b'\n'; size]).is_ok() {}
        }
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child().try_wait().unwrap().is_none()
    }

    /// The most memory that it has taken by its end, in bytes.
    pub fn peak_memory(&mut self) -> f64 {
        let status = format!("/proc/{}/status", self.child().id());
        let started = Instant::now();
        let mut peak = 0.0;
        while self.child().try_wait().unwrap().is_none() {
            assert!(started.elapsed() < PATIENCE, "it does not end");
            let text = fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            if let Some(kibibytes) = line.and_then(|line| line.trim().strip_suffix(" kB")) {
                peak = 1024.0 * kibibytes.parse::<f64>().unwrap();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        peak
    }

    /// Sends the signal of this name, for example `TERM`.
    pub fn signal(&mut self, name: &str) {
        self.signal_repeatedly(name, 1);
    }

    /// Sends the signal of this name so many times at once.
    pub fn signal_repeatedly(&mut self, name: &str, times: usize) {
        let ids = format!(" {}", self.child().id()).repeat(times);
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{name}{ids}")])
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end and gives its exit status and what it wrote on standard error.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let output = self.0.take().unwrap().wait_with_output().unwrap();
        (output.status.code(), text(&output.stderr))
    }

    pub fn id(&mut self) -> u32 {
        self.child().id()
    }

    fn finish(&mut self) -> String {
        let output = self.0.take().unwrap().wait_with_output().unwrap();
        text(&output.stderr)
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a program wrote on standard error, which has ended well.
pub fn succeeded(output: Output) -> String {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    errors
}

/// The one sentence of a program that has failed as programs should.
pub fn failed(output: Output) -> String {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    let last = errors.lines().last().unwrap_or_default();
    assert!(last.starts_with("munit-"), "{errors}");
    last.to_owned()
}

/// Asserts that `text` contains each of `parts`.
#[track_caller]
pub fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// 44 by 38 pixels: a disc, or stripes, whose place and colour depend on `number`.
fn picture(number: u32, stripes: bool) -> RgbImage {
    RgbImage::from_fn(44, 38, |x, y| {
        let inside = if stripes {
            ((x + 3 * number) / 5).is_multiple_of(2)
        } else {
            let (dx, dy) = (x as i32 - 10 - 5 * number as i32, y as i32 - 19);
            dx * dx + dy * dy < 120
        };
        let colour = [200, 40 * number as u8, 60];
        Rgb(if inside {
            colour
        } else {
            [20, (4 * x) as u8, (6 * y) as u8]
        })
    })
}

/// What happened in a run, by kind, and the iterations at which it did.
pub fn history(run: &Path) -> Vec<(String, u64)> {
    let text = fs::read_to_string(run.join("history.jsonl")).unwrap();
    let events = text.lines().map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let kind = event["event"].as_str().unwrap().to_owned();
        (kind, event["iteration"].as_u64().unwrap())
    });
    events.collect()
}

/// A backbone of one layer.
pub fn write_backbone(path: &Path) {
    let description = serde_json::from_str(
        r#"{
            "name": "small",
            "input": {"order": "rgb", "range": [0, 1], "mean": [0, 0, 0], "deviation": [1, 1, 1]},
            "layers": [
                {"name": "conv1", "op": "convolution", "stride": [2, 2], "padding": [1, 1]},
                {"name": "relu1", "op": "relu"}
            ],
            "perceptual": [{"layer": "relu1"}],
            "content": "relu1"
        }"#,
    )
    .unwrap();
    let options = (Kind::Float, Device::Cpu);
    let tensors = BTreeMap::from([
        (
            "conv1.weight".to_owned(),
            // The same in every run.
            (Tensor::arange(4 * 3 * 3 * 3, options) * 2.4)
                .sin()
                .reshape([4, 3, 3, 3]),
        ),
        ("conv1.bias".to_owned(), Tensor::zeros([4], options)),
    ]);
    munit::backbone::write(path, &description, &tensors).unwrap();
}

/// Random weights of the shapes of VGG-16.
pub fn write_vgg(path: &Path) {
    let stages = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)];
    let mut tensors = Vec::new();
    let mut inputs = 3i64;
    for (stage, (outputs, count)) in (1..).zip(stages) {
        for layer in 1..=count {
            let name = format!("conv{stage}_{layer}");
            let options = (Kind::Float, Device::Cpu);
            let scale = (2.0 / (9.0 * inputs as f64)).sqrt();
            let weight = Tensor::randn([outputs, inputs, 3, 3], options) * scale;
            tensors.push((format!("{name}.weight"), weight));
            tensors.push((format!("{name}.bias"), Tensor::zeros([outputs], options)));
            inputs = outputs;
        }
    }
    Tensor::write_safetensors(&tensors, path).unwrap();
}
