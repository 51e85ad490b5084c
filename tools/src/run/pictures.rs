//! The pictures of a run: where they are, how they are framed, which are shown.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use munit::config::Domain;
use tch::{Device, Tensor};

use crate::config::TrainConfig;
use crate::data::{DataLayout, Framing, LoaderSettings, Source, load_training_picture};
use crate::preflight::Sets;
use crate::ranks::Share;
use crate::samples::{Samples, domain_name};
use crate::trainer::Pair;

/// The four sources of pictures of a run. Test folders that are named on their own go before
/// those below `data_root`.
///
/// # Errors
/// A domain without training pictures.
pub fn data_layout(config: &TrainConfig) -> Result<DataLayout> {
    let source = |folder: &Option<PathBuf>, list: &Option<PathBuf>| {
        folder.as_ref().map(|folder| match list {
            Some(list) => Source::List {
                root: folder.clone(),
                list: list.clone(),
            },
            None => Source::Folder(folder.clone()),
        })
    };
    let test_a = source(&config.data_folder_test_a, &config.data_list_test_a);
    let test_b = source(&config.data_folder_test_b, &config.data_list_test_b);
    if let Some(root) = &config.data_root {
        let layout = DataLayout::from_root(root)?;
        return Ok(DataLayout {
            test_a: test_a.or(layout.test_a),
            test_b: test_b.or(layout.test_b),
            ..layout
        });
    }
    let required = |found: Option<Source>, domain: Domain| {
        found.with_context(|| {
            let name = domain.name();
            format!(
                "there are no pictures of domain {name}: give --{name} FOLDER, or data_root or \
                 data_folder_train_{name} in the configuration"
            )
        })
    };
    Ok(DataLayout {
        train_a: required(
            source(&config.data_folder_train_a, &config.data_list_train_a),
            Domain::A,
        )?,
        train_b: required(
            source(&config.data_folder_train_b, &config.data_list_train_b),
            Domain::B,
        )?,
        test_a,
        test_b,
    })
}

/// How the batches of a run are made.
pub(crate) fn loader_settings(config: &TrainConfig) -> LoaderSettings {
    LoaderSettings {
        batch_size: config.batch_size,
        share: Share::WHOLE,
        new_size: Domain::ALL.map(|domain| config.new_size(domain)),
        crop_height: config.crop_image_height,
        crop_width: config.crop_image_width,
        channels: Domain::ALL.map(|domain| config.architecture().channels(domain)),
        paired: config.is_paired(),
        flip: config.flip,
        seed: config.pictures_seed(),
        workers: config.num_workers,
    }
}

/// How pictures of `domain` are framed where nothing is random.
pub(crate) fn framing(config: &TrainConfig, domain: Domain) -> Framing {
    loader_settings(config).framing(domain)
}

/// Evenly spaced test pictures, or training pictures where there are none to test on.
pub(super) fn choose_samples(config: &TrainConfig, sets: &Sets, device: Device) -> Result<Samples> {
    let pictures = Pair::try_new(|domain| {
        let test = sets.test.get(domain).as_ref();
        let set = test.unwrap_or(sets.training.get(domain));
        let pictures = evenly_spaced(&set.paths, config.display_size, &framing(config, domain))?;
        anyhow::Ok(pictures.f_to_device(device)?)
    })?;
    let names = Pair {
        a: domain_name(config.domain_a.as_deref(), Domain::A),
        b: domain_name(config.domain_b.as_deref(), Domain::B),
    };
    Samples::new(pictures, names, config.generator.style_dim, config.seed)
}

/// At most `count` of the pictures at `paths`, spread over the whole list: [N, C, H, W] in [-1, 1].
/// For one that cannot be used the next stands in.
fn evenly_spaced(paths: &[PathBuf], count: usize, framing: &Framing) -> Result<Tensor> {
    let count = count.min(paths.len());
    let start = |index: usize| index * paths.len() / count;
    let pictures: Vec<Tensor> = (0..count)
        .filter_map(|index| {
            let mut candidates = paths[start(index)..start(index + 1)].iter();
            candidates.find_map(|path| load_training_picture(path, framing).ok())
        })
        .collect();
    ensure!(!pictures.is_empty(), "there are no pictures to show");
    Ok(Tensor::f_stack(&pictures, 0)?)
}
