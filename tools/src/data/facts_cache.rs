//! What was found out about pictures, kept from run to run.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use munit::atomic_file;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::likeness::PictureFacts;
use super::source::Source;

/// Changes whenever facts are found in another way.
const VERSION: u32 = 2;

/// The facts about the pictures of one source, by name, file size and time of the last change, in
/// a file of JSON lines. It only saves time: whatever is wrong with it is passed over.
pub(crate) struct FactsCache {
    /// `None` where nothing can be kept.
    path: Option<PathBuf>,
    root: PathBuf,
    /// By path relative to the root.
    entries: HashMap<PathBuf, Entry>,
    changed: bool,
}

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    name: PathBuf,
    state: FileState,
    facts: PictureFacts,
}

/// By which a file is taken for unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileState {
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u64,
}

impl FileState {
    /// `None` on systems that do not say when a file was changed.
    pub fn of(metadata: &Metadata) -> Option<Self> {
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self {
            bytes: metadata.len(),
            modified: u64::try_from(modified.as_nanos()).ok()?,
        })
    }
}

/// The folder for caches, as the XDG base directory specification has it.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let absolute = |name| {
        let folder = std::env::var_os(name).map(PathBuf::from);
        folder.filter(|folder| folder.is_absolute())
    };
    absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))
}

impl FactsCache {
    /// What is known of the pictures of `source` in a folder of caches.
    pub fn open(folder: Option<&Path>, source: &Source) -> Self {
        let path = folder.and_then(|folder| {
            let name = format!("{}.jsonl", key(source).ok()?);
            Some(folder.join("munitfilter/pictures").join(name))
        });
        let entries = path.as_deref().and_then(read).unwrap_or_default();
        Self {
            path,
            root: source.root().to_owned(),
            entries,
            changed: false,
        }
    }

    fn name<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// The facts about an unchanged file.
    pub fn get(&self, path: &Path, state: FileState) -> Option<&PictureFacts> {
        let entry = self.entries.get(self.name(path))?;
        (entry.state == state).then_some(&entry.facts)
    }

    /// Remembers facts about a file that was in `state` before it was looked at.
    pub fn insert(&mut self, path: &Path, state: FileState, facts: PictureFacts) {
        let name = self.name(path).to_owned();
        self.changed = true;
        self.entries
            .insert(name.clone(), Entry { name, state, facts });
    }

    /// Writes what is new, without what is not among `paths` any more.
    pub fn save(&mut self, paths: &[PathBuf]) {
        if !self.changed {
            return;
        }
        let mut text = serde_json::to_string(&Head { version: VERSION }).unwrap_or_default();
        // A path that is not Unicode has no JSON form; it is looked at each time.
        let known = paths
            .iter()
            .filter_map(|path| self.entries.get(self.name(path)));
        for line in known.filter_map(|entry| serde_json::to_string(entry).ok()) {
            text += "\n";
            text += &line;
        }
        if let Some(path) = &self.path {
            let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
            // Without room or permission the next run looks at the pictures again.
            let written = folder.is_ok()
                && atomic_file::write(path, |file| file.write_all(text.as_bytes())).is_ok();
            self.changed = !written;
        }
    }
}

fn read(path: &Path) -> Option<HashMap<PathBuf, Entry>> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines();
    let head: Head = serde_json::from_str(lines.next()?).ok()?;
    if head.version != VERSION {
        return None;
    }
    let entries = lines.filter_map(|line| serde_json::from_str::<Entry>(line).ok());
    Some(entries.map(|entry| (entry.name.clone(), entry)).collect())
}

/// A file name that follows from where the pictures are, not from how their folder is called from
/// here.
fn key(source: &Source) -> io::Result<String> {
    let mut hash = Sha256::new();
    let list = match source {
        Source::Folder(_) => None,
        Source::List { list, .. } => Some(list.as_path()),
    };
    for path in [Some(source.root()), list].into_iter().flatten() {
        hash.update(path.canonicalize()?.as_os_str().as_encoded_bytes());
        hash.update([0]);
    }
    let digest = hash.finalize();
    Ok(digest[..12]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::data::test_pictures::write_pictures;

    fn state(path: &Path) -> FileState {
        FileState::of(&fs::metadata(path).unwrap()).unwrap()
    }

    fn facts(value: u8) -> PictureFacts {
        PictureFacts::of(&RgbImage::from_fn(16, 16, |x, _| Rgb([value, x as u8, 0])))
    }

    #[test]
    fn facts_are_kept_until_a_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("pictures");
        let paths = write_pictures(&root, 3);
        let source = Source::Folder(root.clone());
        let open = || FactsCache::open(Some(folder.path()), &source);
        let mut cache = open();
        assert_eq!(cache.get(&paths[0], state(&paths[0])), None);
        for (number, path) in (0..).zip(&paths) {
            cache.insert(path, state(path), facts(number));
        }
        cache.save(&paths[..2]);
        for cache in [
            open(),
            // The same folder by another name.
            FactsCache::open(
                Some(folder.path()),
                &Source::Folder(root.join("../pictures")),
            ),
        ] {
            let path = cache.root.join("01.png");
            assert_eq!(cache.get(&path, state(&path)), Some(&facts(1)));
            let forgotten = cache.root.join("02.png");
            assert_eq!(cache.get(&forgotten, state(&forgotten)), None);
        }
        fs::write(&paths[0], "longer than before, or shorter").unwrap();
        assert_eq!(open().get(&paths[0], state(&paths[0])), None);
    }

    #[test]
    fn a_damaged_cache_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("pictures");
        let paths = write_pictures(&root, 2);
        let source = Source::Folder(root);
        let mut cache = FactsCache::open(Some(folder.path()), &source);
        for path in &paths {
            cache.insert(path, state(path), facts(9));
        }
        cache.save(&paths);
        let file = cache.path.clone().unwrap();
        let whole = fs::read_to_string(&file).unwrap();
        let known = |text: &str| {
            fs::write(&file, text).unwrap();
            let cache = FactsCache::open(Some(folder.path()), &source);
            let found = paths.iter().map(|path| cache.get(path, state(path)));
            found.filter(Option::is_some).count()
        };
        assert_eq!(known(&whole), 2);
        assert_eq!(known(&whole[..whole.len() - 5]), 1);
        let version = format!("\"version\":{VERSION}");
        assert_eq!(known(&whole.replace(&version, "\"version\":1")), 0);
        assert_eq!(known(""), 0);
        assert_eq!(known("no cache"), 0);

        // Where nothing can be written, nothing is kept and nothing fails.
        let mut nowhere = FactsCache::open(Some(Path::new("/proc")), &source);
        nowhere.insert(&paths[0], state(&paths[0]), facts(9));
        nowhere.save(&paths);
    }
}
