//! Going back to a checkpoint when losses or weights are lost.

use std::path::Path;

use anyhow::Result;

use crate::checkpoint::{self, Checkpoint};
use crate::config::Rollback;

/// A run that is lost more often than this needs somebody to look at it.
pub(super) const MOST_ROLLBACKS: usize = 3;

/// The iterations of `checkpoints`, oldest first, in the order in which to go back to them from
/// iteration `from`. What has been gone back to already, and failed again, comes after all that is
/// older: what ruins the weights may have begun before it shows.
fn in_order(checkpoints: &[u64], from: u64, past: &[Rollback]) -> Vec<u64> {
    let tried = |iteration: &u64| past.iter().any(|rollback| rollback.to == *iteration);
    let newest_first = || {
        let iterations = checkpoints.iter().rev().copied();
        iterations.filter(|iteration| *iteration <= from)
    };
    let oldest_first = || checkpoints.iter().copied().filter(|one| *one <= from);
    newest_first()
        .filter(|iteration| !tried(iteration))
        .chain(oldest_first().filter(tried))
        .collect()
}

/// The checkpoint in `folder` to go back to from iteration `from`; `None` if there is no whole one.
///
/// # Errors
/// A folder that cannot be read.
pub(super) fn earlier_state(
    folder: &Path,
    from: u64,
    past: &[Rollback],
) -> Result<Option<Checkpoint>> {
    let listed = checkpoint::list(folder)?;
    let iterations: Vec<u64> = listed.iter().map(|(iteration, _)| *iteration).collect();
    Ok(in_order(&iterations, from, past)
        .into_iter()
        .find_map(|iteration| {
            let path = folder.join(checkpoint::file_name(iteration));
            Checkpoint::read(&path).ok()
        }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_has_not_failed_comes_first() {
        let to = |iterations: &[u64]| -> Vec<Rollback> {
            let iterations = iterations.iter();
            iterations
                .map(|&to| Rollback { from: to + 5, to })
                .collect()
        };
        let checkpoints = [10, 20, 30, 40];
        for (from, past, expected) in [
            (45, &[][..], &[40, 30, 20, 10][..]),
            (35, &[], &[30, 20, 10]),
            (45, &[40], &[30, 20, 10, 40]),
            (45, &[40, 30], &[20, 10, 30, 40]),
            (45, &[10, 20, 30, 40], &[10, 20, 30, 40]),
            (5, &[], &[]),
        ] {
            assert_eq!(in_order(&checkpoints, from, &to(past)), expected);
        }
    }
}
