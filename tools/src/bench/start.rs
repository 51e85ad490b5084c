//! Starting up, and what stays in memory.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::size::FrameSize;
use super::statistics::Spread;

/// How long the plugin and a pipeline take to start, and how much memory a pipeline takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartResult {
    /// The model of the pipelines, or `dim N`.
    pub model: String,
    /// The size of their frames.
    pub size: FrameSize,
    /// Where the network runs, as it was asked for.
    pub device: String,
    /// Milliseconds of `gst-inspect-1.0 munitfilter` with an empty registry and no other plugin.
    pub scan_ms: Vec<f64>,
    /// The same once GStreamer has registered the plugin.
    pub registered_ms: Vec<f64>,
    /// CUDA's libraries that were opened by the scan and are no part of libtorch's CPU library.
    pub cuda_libraries: Vec<String>,
    /// Milliseconds from NULL to the first frame behind the element, each in a process of its own.
    pub first_frame_ms: Vec<f64>,
    /// Resident memory of a running pipeline.
    pub memory: Memory,
}

/// Milliseconds that a scan of the plugin may take.
pub const SCAN_BAR: f64 = 600.0;
/// Milliseconds that may pass to the first frame of a shipped model on a CPU.
pub const FIRST_FRAME_BAR: f64 = 1000.0;
/// What a pipeline with dim 64 at 256x256 may take of memory, in 10⁶ bytes.
pub const MEMORY_BAR: f64 = 700.0;

impl fmt::Display for StartResult {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        writeln!(formatter, "{}, {}", self.model, self.size)?;
        for (name, ms, bar) in [
            ("plugin scan", &self.scan_ms, Some(SCAN_BAR)),
            ("plugin registered", &self.registered_ms, None),
            (
                "NULL to first frame",
                &self.first_frame_ms,
                Some(FIRST_FRAME_BAR),
            ),
        ] {
            if let Some(spread) = Spread::of(ms) {
                let bar = bar.map_or(String::new(), |bar| format!(", bar {bar:.0} ms"));
                writeln!(formatter, "{name:<20} {spread}{bar}")?;
            }
        }
        let libraries = match &self.cuda_libraries[..] {
            [] => "none".to_owned(),
            libraries => libraries.join(", "),
        };
        writeln!(formatter, "{:<20} {libraries}", "CUDA in the scan")?;
        write!(formatter, "{:<20} {}", "resident memory", self.memory)
    }
}

/// Resident memory of a running pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// When memory was looked at, in seconds since the pipeline's start.
    pub seconds: Vec<f64>,
    /// Resident memory of `gst-launch-1.0` at these times, in 10⁶ bytes.
    pub resident_mb: Vec<f64>,
    /// The most that it ever was.
    pub peak_mb: f64,
    /// CUDA's libraries in the process that are no part of libtorch's CPU library.
    pub cuda_libraries: Vec<String>,
}

/// The first part of a run, in which memory is still being taken.
const WARM_UP_SHARE: f64 = 0.2;

impl Memory {
    /// Resident memory once the pipeline has warmed up.
    pub fn steady(&self) -> Option<Spread> {
        Spread::of(self.after_warm_up())
    }

    /// By how many 10⁶ bytes the last fifth of the run lies above the fifth after the warm-up; the
    /// medians of each.
    pub fn growth(&self) -> Option<f64> {
        let steady = self.after_warm_up();
        let part = (steady.len() / 4).max(1);
        let early = Spread::of(steady.get(..part)?)?;
        let late = Spread::of(&steady[steady.len() - part..])?;
        Some(late.median - early.median)
    }

    /// What was seen once the pipeline had warmed up.
    pub fn after_warm_up(&self) -> &[f64] {
        let last = self.seconds.last().copied().unwrap_or_default();
        let is_early = |seconds: &f64| *seconds < WARM_UP_SHARE * last;
        let early = self.seconds.partition_point(is_early);
        self.resident_mb.get(early..).unwrap_or_default()
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let seconds = self.seconds.last().copied().unwrap_or_default();
        if let (Some(steady), Some(growth)) = (self.steady(), self.growth()) {
            writeln!(
                formatter,
                "{:.0} MB, {:.0} MB at most, bar {MEMORY_BAR:.0} MB; {growth:+.1} MB from beginning to \
                 end of {seconds:.0} s",
                steady.median, self.peak_mb
            )?;
        }
        Ok(())
    }
}

/// Those of these libraries (paths or file names) that belong to CUDA, by their file names and each
/// once; not the two that libtorch's CPU library of the official build is linked with, and which
/// touch no driver.
pub fn cuda_libraries<'a>(opened: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    const OF_LIBTORCH_CPU: [&str; 2] = ["libcudart.so", "libcupti.so"];
    const OF_CUDA: [&str; 6] = [
        "libcu",
        "libnv",
        "libnccl",
        "libtorch_cuda",
        "libc10_cuda",
        "libtensorrt",
    ];
    let begins = |name: &str, with: &[&str]| with.iter().any(|start| name.starts_with(start));
    let mut found: Vec<String> = opened
        .into_iter()
        .filter_map(|path| path.rsplit('/').next())
        .filter(|name| name.contains(".so"))
        .filter(|name| begins(name, &OF_CUDA) && !begins(name, &OF_LIBTORCH_CPU))
        .filter(|name| !begins(name, &["libcurl", "libcups"]))
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_cuda_are_told_apart() {
        let opened = [
            "/usr/lib/libcuda.so.1",
            "/torch/lib/libtorch_cuda.so",
            "/torch/lib/libtorch_cpu.so",
            "/torch/lib/libcudart.so.13",
            "libcupti.so.13",
            "libcudnn.so.9",
            "/nvidia/lib/libcublas.so.13",
            "/usr/lib/libcurl.so.4",
            "/usr/lib/libcuda.so.1",
            "/home/libcublas",
        ];
        let expected = [
            "libcublas.so.13",
            "libcuda.so.1",
            "libcudnn.so.9",
            "libtorch_cuda.so",
        ];
        assert_eq!(cuda_libraries(opened), expected);
    }

    #[test]
    fn memory_that_grows_is_told_from_memory_that_is_flat() {
        let run = |resident: fn(f64) -> f64| {
            let seconds: Vec<f64> = (0..=100).map(f64::from).collect();
            Memory {
                resident_mb: seconds.iter().map(|seconds| resident(*seconds)).collect(),
                seconds,
                peak_mb: 0.0,
                cuda_libraries: vec![],
            }
        };
        let warms_up = run(|seconds| 100.0 + 20.0 * seconds.min(10.0));
        assert_eq!(warms_up.growth(), Some(0.0));
        assert_eq!(warms_up.steady().unwrap().median, 300.0);
        let grows = run(|seconds| 100.0 + seconds);
        assert!(grows.growth().unwrap() > 50.0);
    }
}
