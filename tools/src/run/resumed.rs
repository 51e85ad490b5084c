//! Going on with a run: what must be as it was, and what may differ.

use std::fmt;

use anyhow::{Result, ensure};

use super::folder::RunFolder;
use crate::checkpoint::{self, Checkpoint, CheckpointHeader, Surroundings};
use crate::config::TrainConfig;
use crate::difference::{Difference, differences};
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
        from_model: saved.from_model.clone(),
        from_model_sha256: saved.from_model_sha256.clone(),
        ..config.clone()
    };
    let changes = differences(&free(wanted), saved)?;
    ensure!(changes.is_empty(), BegunOtherwise { changes });
    Ok(TrainConfig {
        rollbacks: saved.rollbacks.clone(),
        from_model: saved.from_model.clone(),
        from_model_sha256: saved.from_model_sha256.clone(),
        ..wanted.clone()
    })
}

/// # Errors
/// A sentence, if the run in `folder` has `done` more iterations than `wanted` says it is to have.
pub(super) fn refuse_shorter(folder: &RunFolder, done: u64, wanted: &TrainConfig) -> Result<()> {
    ensure!(
        wanted.max_iter >= done,
        "{}: has {done} iterations already, and --iterations (max_iter), which is {}, counts from the \
         beginning; give a larger number, or leave it out",
        folder.path().display(),
        wanted.max_iter
    );
    Ok(())
}

/// Values that decide the numbers of a run, and are asked for otherwise than it was begun with.
#[derive(Debug)]
pub struct BegunOtherwise {
    /// Which they are.
    pub changes: Vec<Difference>,
}

/// Keys whose values follow from others, so that few people have typed them.
const FOLLOWING: [&str; 4] = ["task", "new_size", "new_size_a", "new_size_b"];

impl BegunOtherwise {
    /// The sentence on one of the changes, in which its key is called `name`.
    pub fn sentence(&self, change: &Difference, name: &str) -> String {
        let [here, begun] = change.shown("nothing");
        format!(
            "{name} is {here} here, but the run was begun with {begun}; leave it out to go on, or \
             start anew in another folder"
        )
    }
}

impl fmt::Display for BegunOtherwise {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut changes = self.changes.iter();
        let typed = changes.find(|change| !FOLLOWING.contains(&change.key.as_str()));
        match typed.or(self.changes.first()) {
            Some(change) => f.write_str(&self.sentence(change, &change.key)),
            None => f.write_str("the run was begun otherwise"),
        }
    }
}

impl std::error::Error for BegunOtherwise {}

/// Warns of all that keeps the run from going on bit for bit.
pub(super) fn announce_differences(
    checkpoint: &Checkpoint,
    trainer: &Trainer,
    fingerprints: [u32; 2],
) {
    let surroundings = Surroundings::of(trainer.device());
    let network = checkpoint::perceptual_checksum(trainer.config());
    let remarks = [
        changed_pictures(&checkpoint.header, fingerprints),
        changed_network(&checkpoint.header, network),
        changed_device(&checkpoint.header, &checkpoint::device_name(trainer)),
        changed_surroundings(&checkpoint.header, &surroundings),
    ];
    for remark in remarks.into_iter().flatten() {
        eprintln!("munit-train: {remark}");
    }
}

fn changed_pictures(header: &CheckpointHeader, fingerprints: [u32; 2]) -> Option<String> {
    let before = header.pictures?;
    (before != fingerprints).then(|| {
        "the training pictures have changed since the checkpoint; the run goes on with the new ones, \
         so it is not what it would have been"
            .to_owned()
    })
}

fn changed_network(header: &CheckpointHeader, network: Option<u32>) -> Option<String> {
    let before = header.perceptual?;
    (Some(before) != network).then(|| {
        "the perceptual loss computes with another file than before (vgg_weights); the run goes on \
         with it, so it is not what it would have been"
            .to_owned()
    })
}

fn changed_device(header: &CheckpointHeader, device: &str) -> Option<String> {
    let before = &header.device;
    (before != device).then(|| {
        let shares = |name: &str| name.split_once("processes: ").map(|(_, count)| count.to_owned());
        let config = &header.config;
        let within_shares = config.diversity_w > 0.0 || config.consistency_w > 0.0;
        let what = match within_shares && shares(before) != shares(device) {
            true => {
                "it is as good a run from here, but not the same, since terms of this configuration \
                 are computed within the share of each process"
            }
            false => "rounding may differ from here",
        };
        format!("the checkpoint was made on \"{before}\", this is \"{device}\"; the run goes on, but {what}")
    })
}

fn changed_surroundings(header: &CheckpointHeader, here: &Surroundings) -> Option<String> {
    let before = header.surroundings.as_ref()?;
    (before != here).then(|| {
        format!(
            "the checkpoint was made by {before}, this is {here}; the run goes on, but rounding may \
             differ from here"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(change: impl FnOnce(&mut TrainConfig)) -> CheckpointHeader {
        let mut config = TrainConfig::default();
        change(&mut config);
        CheckpointHeader {
            format_version: 1,
            config,
            iteration: 1,
            pictures: Some([1, 2]),
            device: "cpu, threads: 2".to_owned(),
            surroundings: Some(Surroundings {
                hardware: "a processor (AVX2)".to_owned(),
                libtorch: Some("2.11.0".to_owned()),
            }),
            perceptual: Some(7),
            figure: None,
            gradient_penalties: None,
        }
    }

    #[test]
    fn whatever_keeps_a_run_from_being_exact_is_said() {
        let header = header(|_| {});
        assert_eq!(changed_pictures(&header, [1, 2]), None);
        assert!(changed_pictures(&header, [1, 3]).is_some());
        assert_eq!(changed_network(&header, Some(7)), None);
        assert!(
            changed_network(&header, Some(8))
                .unwrap()
                .contains("vgg_weights")
        );
        let same = header.surroundings.clone().unwrap();
        assert_eq!(changed_surroundings(&header, &same), None);
        let mut newer = same.clone();
        newer.libtorch = Some("2.12.0".to_owned());
        let remark = changed_surroundings(&header, &newer).unwrap();
        assert!(
            remark.contains("libtorch 2.11.0") && remark.contains("libtorch 2.12.0"),
            "{remark}"
        );
        let mut other = same;
        other.hardware = "a processor (AVX2, AVX-512)".to_owned();
        assert!(
            changed_surroundings(&header, &other)
                .unwrap()
                .contains("AVX-512")
        );
    }

    #[test]
    fn another_number_of_processes_may_be_more_than_rounding() {
        // These are computed over the whole batch.
        let plain = header(|config| {
            config.encoded_styles = 0.5;
            config.style_prior_w = 0.1;
        });
        let device = "cpu, threads: 2, processes: 4";
        assert_eq!(changed_device(&plain, "cpu, threads: 2"), None);
        assert!(changed_device(&plain, device).unwrap().contains("rounding"));
        for shared in [
            header(|config| config.diversity_w = 1.0),
            header(|config| config.consistency_w = 1.0),
        ] {
            let remark = changed_device(&shared, device).unwrap();
            assert!(remark.contains("not the same"), "{remark}");
            let remark = changed_device(&shared, "cpu, threads: 4").unwrap();
            assert!(remark.contains("rounding"), "{remark}");
        }
    }

    #[test]
    fn checkpoints_of_a_time_without_these_facts_go_on_without_remarks() {
        let mut value = serde_json::to_value(header(|_| {})).unwrap();
        let entries = value.as_object_mut().unwrap();
        for key in ["picture_files", "surroundings", "perceptual"] {
            entries.remove(key).unwrap();
        }
        entries.insert("pictures".to_owned(), serde_json::json!([5, 6]));
        let old: CheckpointHeader = serde_json::from_value(value).unwrap();
        let here = Surroundings::of(tch::Device::Cpu);
        assert_eq!(changed_pictures(&old, [1, 2]), None);
        assert_eq!(changed_network(&old, Some(1)), None);
        assert_eq!(changed_surroundings(&old, &here), None);
    }
}
