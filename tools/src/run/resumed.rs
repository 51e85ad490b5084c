//! Going on with a run: what must be as it was, and what may differ.

use anyhow::{Result, bail};

use crate::checkpoint::{self, Checkpoint};
use crate::config::TrainConfig;
use crate::trainer::Trainer;

/// What decides the numbers of a run comes from its beginning; what does not, from `wanted`.
pub(super) fn continued(saved: &TrainConfig, wanted: &TrainConfig) -> Result<TrainConfig> {
    let free = |config: &TrainConfig| TrainConfig {
        max_iter: saved.max_iter,
        image_save_iter: saved.image_save_iter,
        image_display_iter: saved.image_display_iter,
        display_size: saved.display_size,
        snapshot_save_iter: saved.snapshot_save_iter,
        snapshot_save_minutes: saved.snapshot_save_minutes,
        log_iter: saved.log_iter,
        num_workers: saved.num_workers,
        keep_checkpoints: saved.keep_checkpoints,
        keep_every: saved.keep_every,
        keep_best: saved.keep_best.clone(),
        watch_iter: saved.watch_iter,
        watch_after: saved.watch_after,
        report_iter: saved.report_iter,
        rollbacks: saved.rollbacks.clone(),
        domain_a: saved.domain_a.clone(),
        domain_b: saved.domain_b.clone(),
        data_description: saved.data_description.clone(),
        licence: saved.licence.clone(),
        data_root: saved.data_root.clone(),
        data_folder_train_a: saved.data_folder_train_a.clone(),
        data_list_train_a: saved.data_list_train_a.clone(),
        data_folder_test_a: saved.data_folder_test_a.clone(),
        data_list_test_a: saved.data_list_test_a.clone(),
        data_folder_train_b: saved.data_folder_train_b.clone(),
        data_list_train_b: saved.data_list_train_b.clone(),
        data_folder_test_b: saved.data_folder_test_b.clone(),
        data_list_test_b: saved.data_list_test_b.clone(),
        vgg_weights: saved.vgg_weights.clone(),
        ..config.clone()
    };
    let (saved_yaml, wanted_yaml) = (saved.to_yaml()?, free(wanted).to_yaml()?);
    let difference = saved_yaml
        .lines()
        .zip(wanted_yaml.lines())
        .find(|(saved, wanted)| saved != wanted);
    if let Some((saved, wanted)) = difference {
        bail!(
            "the run was begun with \"{}\", but \"{}\" was asked for; leave it out to go on, \
             or start anew in another folder",
            saved.trim(),
            wanted.trim()
        );
    }
    Ok(TrainConfig {
        rollbacks: saved.rollbacks.clone(),
        ..wanted.clone()
    })
}

/// Warns of all that keeps the run from going on bit for bit.
pub(super) fn announce_differences(
    checkpoint: &Checkpoint,
    trainer: &Trainer,
    fingerprints: [u32; 2],
) {
    let header = &checkpoint.header;
    if header.pictures != fingerprints {
        eprintln!(
            "munit-train: the training pictures have changed since the checkpoint; the run goes on \
             with the new ones, so it is not what it would have been"
        );
    }
    let device = checkpoint::device_name(trainer);
    if header.device != device {
        eprintln!(
            "munit-train: the checkpoint was made on \"{}\", this is \"{device}\"; the run goes on, but \
             rounding may differ from here",
            header.device
        );
    }
}
