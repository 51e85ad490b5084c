//! On what something was measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use munit::instruction_set::InstructionSet;
use serde::{Deserialize, Serialize};

/// A machine and what it runs, as far as the system tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Processors that a program may use.
    pub processors: usize,
    /// Those instruction sets that the runtime makes use of.
    pub instruction_sets: Vec<String>,
    /// Memory in 10⁹ bytes.
    pub memory_gb: f64,
    /// CUDA devices with their drivers.
    pub gpus: Vec<String>,
    /// Name of what the machine runs, and its version.
    pub versions: BTreeMap<String, String>,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            processor: processor(&cpuinfo),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            instruction_sets: instruction_sets(),
            memory_gb: memory_gb(&meminfo),
            gpus: gpus(),
            versions: versions(),
        }
    }
}

/// The value behind the first `key` in lines of the form `key : value`.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == key).then(|| value.trim())
    })
}

fn processor(cpuinfo: &str) -> String {
    value(cpuinfo, "model name").unwrap_or("unknown").to_owned()
}

fn instruction_sets() -> Vec<String> {
    let name = |set| match set {
        InstructionSet::Avx2 => "AVX2",
        InstructionSet::Avx512 => "AVX-512",
        InstructionSet::Avx512Bf16 => "AVX512-BF16",
        InstructionSet::Amx => "AMX-BF16",
    };
    let usable = InstructionSet::ALL
        .into_iter()
        .filter(|set| set.is_usable());
    usable.map(|set| name(set).to_owned()).collect()
}

fn memory_gb(meminfo: &str) -> f64 {
    let kibibytes = value(meminfo, "MemTotal")
        .and_then(|text| text.strip_suffix(" kB")?.parse::<f64>().ok())
        .unwrap_or_default();
    (kibibytes * 1024.0 / 1e8).round() / 10.0
}

/// Asks the driver's own program, and only where there is a driver.
fn gpus() -> Vec<String> {
    if !Path::new("/dev/nvidiactl").exists() {
        return vec![];
    }
    let fields = ["--query-gpu=name,driver_version", "--format=csv,noheader"];
    let listed = first_lines(Command::new("nvidia-smi").args(fields));
    let named = |line: &str| line.replace(", ", ", driver ");
    listed.iter().map(|line| named(line)).collect()
}

fn versions() -> BTreeMap<String, String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = release.lines().find_map(|line| {
        let name = line.strip_prefix("PRETTY_NAME=")?;
        Some(name.trim_matches('"').to_owned())
    });
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    let gstreamer = first_lines(Command::new("gst-inspect-1.0").arg("--version"))
        .into_iter()
        .find_map(|line| Some(line.strip_prefix("GStreamer ")?.to_owned()));
    [
        ("munitfilter", Some(env!("CARGO_PKG_VERSION").to_owned())),
        ("libtorch", libtorch_version()),
        ("GStreamer", gstreamer),
        ("system", system),
        ("kernel", kernel.map(|text| text.trim().to_owned())),
    ]
    .into_iter()
    .filter_map(|(name, version)| Some((name.to_owned(), version?)))
    .collect()
}

/// What a program prints; nothing if it is not there.
fn first_lines(command: &mut Command) -> Vec<String> {
    let output = command.output().map(|output| output.stdout);
    let text = String::from_utf8_lossy(&output.unwrap_or_default()).into_owned();
    text.lines().map(str::to_owned).collect()
}

/// From the headers beside the library that this process has loaded.
fn libtorch_version() -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let library = maps.lines().find_map(|line| {
        line.split_whitespace()
            .nth(5)?
            .strip_suffix("/lib/libtorch_cpu.so")
    })?;
    let header = PathBuf::from(library).join("include/torch/headeronly/version.h");
    version_in_header(&fs::read_to_string(header).ok()?)
}

fn version_in_header(header: &str) -> Option<String> {
    let part = |name: &str| {
        let start = format!("#define TORCH_VERSION_{name} ");
        header.lines().find_map(|line| line.strip_prefix(&start))
    };
    Some(format!(
        "{}.{}.{}",
        part("MAJOR")?.trim(),
        part("MINOR")?.trim(),
        part("PATCH")?.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_tells_is_understood() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n\nprocessor\t: 1\n";
        assert_eq!(processor(cpuinfo), "Some CPU @ 2 GHz");
        assert_eq!(
            memory_gb("MemTotal:       24000000 kB\nMemFree: 1 kB\n"),
            24.6
        );
        assert_eq!((processor(""), memory_gb("")), ("unknown".to_owned(), 0.0));
        let header = "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n\
                      #define TORCH_VERSION_PATCH 0\n";
        assert_eq!(version_in_header(header).unwrap(), "2.11.0");
        assert_eq!(version_in_header(""), None);
    }
}
