//! Whether there is room for a run's checkpoints on its disk.

use std::path::Path;

use crate::config::TrainConfig;

use super::memory::{discriminator_weights_of_both, generator_weights};

/// Numbers of 32 bits that a checkpoint holds for each weight of a generator: the weight, Adam's two moments
/// and the moving average.
const GENERATOR_COPIES: f64 = 4.0;
/// The same for discriminators, which are not averaged.
const DISCRIMINATOR_COPIES: f64 = 3.0;

/// What to say where the disk of the run's `folder`, which need not be there yet, has no room for the checkpoints
/// that it keeps.
pub fn too_small_disk(folder: &Path, config: &TrainConfig) -> Option<String> {
    let folder = std::path::absolute(folder).ok()?;
    let there = folder.ancestors().find(|ancestor| ancestor.is_dir())?;
    let disk = rustix::fs::statvfs(there).ok()?;
    no_room(&folder, disk.f_bavail.saturating_mul(disk.f_frsize), config)
}

fn no_room(folder: &Path, free: u64, config: &TrainConfig) -> Option<String> {
    let checkpoint = checkpoint_bytes(config);
    // The oldest goes when the newest is whole.
    let kept = config.keep_checkpoints as u64 + 1;
    let needed = checkpoint.saturating_mul(kept);
    let megabytes = |bytes: u64| format!("{} MB", bytes.div_ceil(1_000_000));
    (needed > free).then(|| {
        format!(
            "the disk of {} has {} free, and checkpoints need about {}, {kept} times {} (keep_checkpoints and the \
             one that is being written); make room, choose another folder, or keep fewer",
            folder.display(),
            megabytes(free),
            megabytes(needed),
            megabytes(checkpoint),
        )
    })
}

/// Bytes that a checkpoint of a run takes, but for some per cent.
fn checkpoint_bytes(config: &TrainConfig) -> u64 {
    let values = GENERATOR_COPIES * generator_weights(config)
        + DISCRIMINATOR_COPIES * discriminator_weights_of_both(config);
    (4.0 * values) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(n_downsample: i64, n_res: i64) -> TrainConfig {
        let mut config = TrainConfig::default();
        config.generator.dim = 16;
        config.generator.mlp_dim = 64;
        config.generator.n_downsample = n_downsample;
        config.generator.n_res = n_res;
        config.discriminator.dim = 32;
        config
    }

    #[test]
    fn checkpoints_are_as_large_as_those_of_real_runs() {
        for (n_downsample, n_res, bytes) in [
            (2, 4, 80_102_368.0),
            (2, 8, 101_171_600.0),
            (3, 5, 169_616_368.0),
        ] {
            let foreseen = checkpoint_bytes(&config(n_downsample, n_res)) as f64;
            let ratio = foreseen / bytes;
            assert!((0.97..1.03).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn a_disk_that_is_too_small_is_told_of() {
        let config = TrainConfig {
            keep_checkpoints: 2,
            ..config(2, 4)
        };
        let said = |free| no_room(Path::new("/runs/mine"), free, &config);
        assert_eq!(said(250_000_000), None);
        let sentence = said(14_000_000).unwrap();
        for part in ["/runs/mine has 14 MB free", "3 times 8"] {
            assert!(sentence.contains(part), "{sentence}");
        }
        // One that is there, and has room for nothing.
        let nothing = too_small_disk(Path::new("/proc/self"), &config).unwrap();
        assert!(nothing.contains("has 0 MB free"), "{nothing}");
    }
}
