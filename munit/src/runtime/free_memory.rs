//! How much memory a device has left.

use std::fs;
use std::path::{Path, PathBuf};

use libloading::os::unix::Library;
use tch::Device;

/// Memory that can still be had on `device`, in bytes: on the CPU what the system and the limits on
/// this process's control group leave, on CUDA what the driver says. `None` where nobody says.
pub fn free_memory(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(number) => free_on_cuda(number),
        _ => {
            let system = available(&fs::read_to_string("/proc/meminfo").ok()?)?;
            let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            let limited = left_in_groups(Path::new("/sys/fs/cgroup"), &groups);
            Some(limited.map_or(system, |left| left.min(system)))
        }
    }
}

/// The line `MemAvailable` of /proc/meminfo, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// The least that any control group of the process, or one above it, leaves below its limit:
/// `groups` is /proc/self/cgroup, and `root` where control groups of version 1 or 2 are mounted.
fn left_in_groups(root: &Path, groups: &str) -> Option<u64> {
    let hierarchies = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        let (mount, limit, usage) = if controllers.is_empty() {
            (root.to_owned(), "memory.max", "memory.current")
        } else if controllers.split(',').any(|name| name == "memory") {
            let mount = root.join("memory");
            (mount, "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            return None;
        };
        Some((
            mount,
            group.trim_start_matches('/').to_owned(),
            limit,
            usage,
        ))
    });
    let left = hierarchies.flat_map(|(mount, group, limit, usage)| {
        let folders: Vec<PathBuf> = Path::new(&group)
            .ancestors()
            .map(|group| mount.join(group))
            .collect();
        folders.into_iter().filter_map(move |folder| {
            let read = |name| fs::read_to_string(folder.join(name)).ok();
            // A group without a limit says "max".
            let limit: u64 = read(limit)?.trim().parse().ok()?;
            let usage: u64 = read(usage)?.trim().parse().ok()?;
            Some(limit.saturating_sub(usage))
        })
    });
    left.min()
}

/// Asks the CUDA runtime that libtorch has loaded.
fn free_on_cuda(number: usize) -> Option<u64> {
    type SetDevice = unsafe extern "C" fn(i32) -> i32;
    type GetMemory = unsafe extern "C" fn(*mut usize, *mut usize) -> i32;
    let path = crate::openmp::loaded_library("libcudart.so")?;
    // SAFETY: the library is loaded already, so that no initialiser runs.
    let library = unsafe { Library::new(path) }.ok()?;
    // SAFETY: the types are those of the CUDA runtime's functions of these names.
    let (set_device, get_memory) = unsafe {
        (
            library.get::<SetDevice>(b"cudaSetDevice\0").ok()?,
            library.get::<GetMemory>(b"cudaMemGetInfo\0").ok()?,
        )
    };
    let (mut free, mut total) = (0, 0);
    // SAFETY: both pointers lead to values of the type that is written.
    let done = unsafe {
        set_device(i32::try_from(number).ok()?) == 0 && get_memory(&mut free, &mut total) == 0
    };
    done.then_some(free as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_some_memory_left() {
        let free = free_memory(Device::Cpu).unwrap();
        assert!(free > 1 << 20, "{free}");
    }

    #[test]
    fn available_memory_is_read() {
        let meminfo = "MemTotal:       24689636 kB\nMemAvailable:   19006144 kB\n";
        assert_eq!(available(meminfo), Some(19_006_144 << 10));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn the_narrowest_control_group_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let left = |groups| left_in_groups(folder.path(), groups);
        assert_eq!(left("0::/outer/inner\n"), None);
        write("outer/memory.max", "5000\n");
        write("outer/memory.current", "1000\n");
        write("outer/inner/memory.max", "max\n");
        write("outer/inner/memory.current", "400\n");
        assert_eq!(left("0::/outer/inner\n"), Some(4000));
        write("outer/inner/memory.max", "1400\n");
        assert_eq!(left("0::/outer/inner\n"), Some(1000));

        write("memory/job/memory.limit_in_bytes", "700\n");
        write("memory/job/memory.usage_in_bytes", "900\n");
        assert_eq!(left("4:cpu,memory:/job\n1:cpu:/outer\n"), Some(0));
    }
}
