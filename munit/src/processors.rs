//! The processors of the machine that this process may use.

/// Their numbers, in order: what `taskset` and a container's set of processors leave; empty where the
/// system does not say.
pub(crate) fn processors() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map(numbers).unwrap_or_default()
}

/// The numbers of a list like `0-3,8`.
fn numbers(list: &str) -> Vec<usize> {
    let ranges = list.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(numbers("\t0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(numbers("5"), [5]);
        assert_eq!(numbers(""), [0; 0]);
        assert_eq!(numbers("?,2"), [2]);
    }

    #[test]
    fn this_process_may_use_processors() {
        let quota = std::thread::available_parallelism().unwrap().get();
        assert!(processors().len() >= quota);
    }
}
