//! Models in memory, one copy for all elements of the process that use the same one.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use munit::Direction;
use munit::model_file::{Model, ModelMetadata};
use munit::runtime::{DeviceChoice, Translator};
use once_cell::sync::OnceCell;
use tch::Device;

use super::governor::SizeLimits;
use super::problem::Problem;
use super::settings::FrameSettings;

/// What makes two loaded models the same: the file as it was then, and where and how it runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    /// Device and inode number.
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    direction: Direction,
    device: DeviceChoice,
    precision: munit::runtime::Precision,
}

impl Identity {
    fn new(
        file: &Metadata,
        direction: Direction,
        device: DeviceChoice,
        precision: munit::runtime::Precision,
    ) -> Self {
        Self {
            file: (file.dev(), file.ino()),
            size: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            direction,
            device,
            precision,
        }
    }
}

/// One direction of a model on a device.
pub(super) struct LoadedModel {
    pub path: PathBuf,
    pub metadata: ModelMetadata,
    pub direction: Direction,
    /// Where it runs.
    pub device: Device,
    /// The number format that it computes in; never auto.
    pub precision: munit::runtime::Precision,
    /// What others share their weights with; never translates itself.
    original: Mutex<Translator>,
    hash: OnceCell<String>,
}

/// The models in use. Held while one is being loaded, so that two elements that start together
/// load it once.
static IN_USE: LazyLock<Mutex<HashMap<Identity, Weak<LoadedModel>>>> =
    LazyLock::new(Mutex::default);

impl LoadedModel {
    /// The model of this kind that is in memory already, else the one in the file. Takes from tens
    /// of milliseconds to seconds.
    pub fn load(
        path: &Path,
        direction: Direction,
        device: DeviceChoice,
        precision: munit::runtime::Precision,
    ) -> Result<Arc<Self>, Problem> {
        let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|_, model| model.strong_count() > 0);
        let identity = path
            .metadata()
            .map(|file| Identity::new(&file, direction, device, precision));
        if let Ok(identity) = &identity
            && let Some(model) = in_use.get(identity).and_then(Weak::upgrade)
        {
            return Ok(model);
        }
        let loaded = Model::read(path).and_then(|model| {
            let translator = Translator::new(&model, direction, device, precision)?;
            Ok((translator, model.metadata))
        });
        let (translator, metadata) = loaded.map_err(|error| Problem::with_model(path, &error))?;
        let model = Arc::new(Self {
            path: path.to_owned(),
            metadata,
            direction,
            device: translator.device(),
            precision: translator.precision(),
            original: Mutex::new(translator),
            hash: OnceCell::new(),
        });
        if let Ok(identity) = identity {
            in_use.insert(identity, Arc::downgrade(&model));
        }
        Ok(model)
    }

    /// A translator on this model's weights.
    pub fn translator(&self) -> Translator {
        self.original
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .share()
    }

    /// Whether it runs on the CPU.
    pub fn is_on_cpu(&self) -> bool {
        self.device == Device::Cpu
    }

    /// Sizes between which the network may run on frames of this size.
    ///
    /// It runs at the frame's own size at most, so that no value of a property can take all memory,
    /// and at its own smallest size at least, so that every frame is translated.
    pub fn size_limits(
        &self,
        (width, height): (usize, usize),
        settings: &FrameSettings,
    ) -> SizeLimits {
        let least = self.metadata.architecture.smallest_side() as u32;
        let own = u32::try_from(width.min(height)).unwrap_or(u32::MAX);
        let wanted = match settings.inference_size {
            0 => settings.max_inference_size,
            size => size,
        };
        let largest = wanted.min(own).max(least);
        SizeLimits {
            smallest: settings.min_inference_size.clamp(least, largest),
            largest,
        }
    }

    /// The model's name: that of its file without the extension.
    pub fn name(&self) -> String {
        let name = self.path.file_stem().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// SHA-256 of the file, computed now if it was not before.
    ///
    /// # Errors
    /// The file can no longer be read.
    pub fn compute_hash(&self) -> std::io::Result<&str> {
        let hash = self.hash.get_or_try_init(|| {
            let content = std::fs::read(&self.path)?;
            glib::compute_checksum_for_data(glib::ChecksumType::Sha256, &content)
                .map(String::from)
                .ok_or_else(|| std::io::Error::other("no SHA-256 here"))
        })?;
        Ok(hash)
    }

    /// SHA-256 of the file, if it has been computed.
    pub fn hash(&self) -> Option<&str> {
        self.hash.get().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(path: &Path, direction: Direction) -> Arc<LoadedModel> {
        let precision = munit::runtime::Precision::Fp32;
        LoadedModel::load(path, direction, DeviceChoice::Cpu, precision)
            .unwrap_or_else(|problem| panic!("{}", problem.text))
    }

    #[test]
    fn a_model_is_in_memory_once_for_each_direction_and_state_of_its_file() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("models")
            .join(super::super::model_search::DEFAULT_MODEL);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.safetensors");
        std::fs::copy(&shipped, &path).unwrap();
        let link = folder.path().join("two.safetensors");
        std::os::unix::fs::symlink(&path, &link).unwrap();

        let first = load(&path, Direction::A2b);
        assert!(Arc::ptr_eq(&first, &load(&link, Direction::A2b)));
        assert!(!Arc::ptr_eq(&first, &load(&path, Direction::B2a)));
        assert_eq!(first.hash(), None);
        assert_eq!(first.compute_hash().unwrap().len(), 64);
        assert!(first.hash().is_some());

        // The file is another one now, and so is the model.
        std::fs::remove_file(&path).unwrap();
        std::fs::copy(&shipped, &path).unwrap();
        assert!(!Arc::ptr_eq(&first, &load(&path, Direction::A2b)));
    }
}
