//! Starts the plugin and pipelines as a person does, in processes of their own.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use munit_tools::bench::start::{Memory, StartResult, cuda_libraries};
use munit_tools::bench::subject::{ModelChoice, RunOptions};
use tempfile::TempDir;

use crate::line::{Line, munitfilter, plugin_file, start_gstreamer};

/// Milliseconds from NULL to the first frame behind the element; true only in a new process.
///
/// # Errors
/// GStreamer's, and the element's.
pub fn first_frame(model: &Path, options: &RunOptions) -> Result<f64> {
    start_gstreamer()?;
    let line = Line::new(Some(munitfilter(model, options)?), options.size)?;
    let begin = Instant::now();
    Ok((line.first_frame()? - begin).as_secs_f64() * 1e3)
}

/// Starts everything `times` times, then watches a pipeline's memory for a while.
///
/// # Errors
/// When a program of GStreamer's is missing, the plugin cannot be loaded, or a pipeline fails.
pub fn measure(
    model: &ModelChoice,
    options: &RunOptions,
    times: usize,
    soak: Duration,
) -> Result<StartResult> {
    let plugins = Plugins::new()?;
    let file = model.file()?;
    let cuda_libraries = plugins.libraries_of_a_scan()?;
    let (mut scan_ms, mut registered_ms, mut first_frame_ms) = (vec![], vec![], vec![]);
    for _ in 0..times {
        plugins.forget();
        scan_ms.push(timed(plugins.inspect())?);
        registered_ms.push(timed(plugins.inspect())?);
        first_frame_ms.push(first_frame_elsewhere(file.path(), options)?);
    }
    Ok(StartResult {
        model: model.label(),
        size: options.size,
        device: options.device.to_string(),
        scan_ms,
        registered_ms,
        cuda_libraries,
        first_frame_ms,
        memory: plugins.watch(file.path(), options, soak)?,
    })
}

/// Between two looks at a pipeline's memory.
const INTERVAL: Duration = Duration::from_millis(500);

/// A place from which GStreamer sees our plugin, with a registry of its own.
struct Plugins {
    folder: TempDir,
}

impl Plugins {
    fn new() -> Result<Self> {
        let plugin = plugin_file()?;
        let folder = tempfile::tempdir().context("cannot make a folder for temporary files")?;
        let plugins = Self { folder };
        for name in ["ours", "none"] {
            fs::create_dir(plugins.path(name))?;
        }
        let link = plugins.path("ours").join("libgstmunit.so");
        symlink(&plugin, &link).with_context(|| {
            format!("{}: cannot link it to {}", link.display(), plugin.display())
        })?;
        Ok(plugins)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("GST_REGISTRY_1_0", self.path("registry.bin"))
            .env("GST_PLUGIN_PATH_1_0", self.path("ours"));
        command
    }

    /// `gst-inspect-1.0` with our plugin alone.
    fn inspect(&self) -> Command {
        let mut command = self.command("gst-inspect-1.0");
        command
            .arg("munitfilter")
            .env("GST_PLUGIN_SYSTEM_PATH_1_0", self.path("none"));
        command
    }

    /// Empties the registry.
    fn forget(&self) {
        // There is none before the first scan.
        let _ = fs::remove_file(self.path("registry.bin"));
    }

    /// CUDA's libraries that a scan and its helper open, told by the dynamic linker itself.
    fn libraries_of_a_scan(&self) -> Result<Vec<String>> {
        self.forget();
        let logs = self.path("linker");
        fs::create_dir(&logs)?;
        let mut inspect = self.inspect();
        inspect
            .env("LD_DEBUG", "libs")
            .env("LD_DEBUG_OUTPUT", logs.join("log"));
        timed(inspect)?;
        let mut opened = String::new();
        for log in fs::read_dir(&logs)? {
            opened += &String::from_utf8_lossy(&fs::read(log?.path())?);
        }
        let paths = opened
            .lines()
            .filter_map(|line| line.split_once("calling init: "))
            .map(|(_, path)| path.trim());
        if !paths.clone().any(|path| path.contains("libtorch")) {
            bail!("the dynamic linker does not tell which libraries it opens (LD_DEBUG=libs)");
        }
        Ok(cuda_libraries(paths))
    }

    /// The memory of a running pipeline from when it has loaded the plugin.
    fn watch(&self, model: &Path, options: &RunOptions, duration: Duration) -> Result<Memory> {
        let mut pipeline = Running(self.launch(model, options)?);
        let mut memory = Memory::default();
        // Until then GStreamer looks through its plugins.
        while !pipeline.read("maps")?.contains("libgstmunit") {
            pipeline.check()?;
            sleep(INTERVAL);
        }
        let begin = Instant::now();
        while begin.elapsed() < duration {
            sleep(INTERVAL);
            pipeline.check()?;
            let status = pipeline.read("status")?;
            memory.seconds.push(begin.elapsed().as_secs_f64());
            memory.resident_mb.push(megabytes(&status, "VmRSS:")?);
            memory.peak_mb = megabytes(&status, "VmHWM:")?;
        }
        let maps = pipeline.read("maps")?;
        let paths = maps
            .lines()
            .filter_map(|line| line.split_whitespace().nth(5));
        memory.cuda_libraries = cuda_libraries(paths);
        Ok(memory)
    }

    fn launch(&self, model: &Path, options: &RunOptions) -> Result<Child> {
        let caps = format!(
            "video/x-raw,format=RGB,width={},height={}",
            options.size.width, options.size.height
        );
        self.command("gst-launch-1.0")
            .args(["--quiet", "videotestsrc", "!", &caps, "!", "munitfilter"])
            .arg(format!("model={}", model.display()))
            .arg(format!("device={}", options.device))
            .arg(format!("precision={}", options.precision))
            .arg(format!("threads={}", options.threads))
            .args(["!", "fakesink"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("gst-launch-1.0: cannot be run; install GStreamer's tools")
    }
}

/// Milliseconds that a program takes from its start to its end.
fn timed(mut command: Command) -> Result<f64> {
    let name = command.get_program().to_string_lossy().into_owned();
    let begin = Instant::now();
    let output = command
        .output()
        .with_context(|| format!("{name}: cannot be run; install GStreamer's tools"))?;
    let ms = begin.elapsed().as_secs_f64() * 1e3;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{name}: failed: {}", errors.trim());
    }
    Ok(ms)
}

fn first_frame_elsewhere(model: &Path, options: &RunOptions) -> Result<f64> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let output = Command::new(program)
        .arg("first-frame")
        .arg("--model")
        .arg(model)
        .args(["--size", &options.size.to_string()])
        .args(["--device", &options.device.to_string()])
        .args(["--precision", &options.precision.to_string()])
        .args(["--threads", &options.threads.to_string()])
        .output()
        .context("this program cannot be run again")?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let prefix = "munit-bench: ";
        let errors = errors.trim();
        bail!("{}", errors.strip_prefix(prefix).unwrap_or(errors));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .with_context(|| format!("\"{text}\" is no number of milliseconds"))
}

/// A process that ends with this.
struct Running(Child);

impl Running {
    /// # Errors
    /// Why the process has ended, if it has.
    fn check(&mut self) -> Result<()> {
        let Some(status) = self.0.try_wait()? else {
            return Ok(());
        };
        let mut errors = String::new();
        if let Some(stderr) = &mut self.0.stderr {
            // What cannot be read cannot be told.
            let _ = stderr.read_to_string(&mut errors);
        }
        bail!("gst-launch-1.0: ended ({status}): {}", errors.trim());
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.0.id());
        fs::read_to_string(&path).with_context(|| format!("{path}: cannot read"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing is left to do where ending fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A value of /proc/PID/status, which is in KiB, in 10⁶ bytes.
fn megabytes(status: &str, key: &str) -> Result<f64> {
    let kibibytes: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|value| value.trim().strip_suffix(" kB")?.parse().ok())
        .with_context(|| format!("/proc does not tell {key}"))?;
    Ok(kibibytes * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_status_of_a_process() {
        let status = "Name:\tgst-launch-1.0\nVmHWM:\t  500000 kB\nVmRSS:\t  250000 kB\n";
        assert_eq!(megabytes(status, "VmRSS:").unwrap(), 256.0);
        assert_eq!(megabytes(status, "VmHWM:").unwrap(), 512.0);
        assert!(megabytes("", "VmRSS:").is_err());
    }
}
