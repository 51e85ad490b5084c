//! What a person gives as input.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use munit::style_file;
use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use super::output;
use crate::data::{files_below, is_picture, lies_inside};
use crate::video::{has_video_name, has_writable_name};

/// What there is to translate.
#[derive(Debug)]
pub enum Input {
    /// One picture file.
    Picture(PathBuf),
    /// The pictures and videos in a folder and the folders below it.
    Folder(Folder),
    /// One video file.
    Video(PathBuf),
    /// Pictures [N, C, H, W] in [-1, 1].
    Tensor(Tensor),
}

/// A folder of which there is something to translate.
#[derive(Debug)]
pub struct Folder {
    /// Its path.
    pub root: PathBuf,
    /// Its pictures, whose paths begin with `root`.
    pub pictures: Vec<PathBuf>,
    /// Its videos, whose paths begin with `root`.
    pub videos: Vec<PathBuf>,
}

impl Folder {
    /// Where the translation of a picture or a video of it goes in the folder `output`.
    pub(super) fn result(&self, output: &Path, file: &Path) -> PathBuf {
        let result = output.join(file.strip_prefix(&self.root).unwrap_or(file));
        match has_video_name(file) {
            true if has_writable_name(file) => result,
            true => with_ending(result, "mp4"),
            false => output::writable_name(result),
        }
    }
}

impl Input {
    /// Looks at what `path` names: a picture file, a video file, a folder, or `FILE.safetensors#NAME`, where
    /// `#NAME` may be left out if the file holds one tensor.
    ///
    /// # Errors
    /// A sentence that names the path, if nothing is there or nothing that can be translated.
    pub fn find(path: &Path) -> Result<Self> {
        if let Some((file, name)) = tensor_address(path) {
            return Ok(Self::Tensor(read_tensor(&file, name.as_deref())?));
        }
        let metadata = std::fs::metadata(path)
            .with_context(|| format!("{}: cannot open the input", path.display()))?;
        if !metadata.is_dir() {
            return Ok(match has_video_name(path) {
                true => Self::Video(path.to_owned()),
                false => Self::Picture(path.to_owned()),
            });
        }
        let (files, unreadable) =
            files_below(path, |file| has_video_name(file) || is_picture(file));
        for skipped in unreadable {
            eprintln!("skipped {}: {}", skipped.path.display(), skipped.reason);
        }
        ensure!(
            !files.is_empty(),
            "{}: no pictures in this folder, and no videos; JPEG, PNG, WebP, BMP and PNM are read, and \
             videos by names like clip.mp4",
            path.display()
        );
        let (videos, pictures) = files.into_iter().partition(|file| has_video_name(file));
        Ok(Self::Folder(Folder {
            root: path.to_owned(),
            pictures,
            videos,
        }))
    }

    /// Whether the result is one file and not a folder.
    pub fn is_single(&self) -> bool {
        match self {
            Self::Picture(_) | Self::Video(_) => true,
            Self::Folder(_) => false,
            Self::Tensor(pictures) => pictures.size().first() == Some(&1),
        }
    }

    /// The files that are written where `output` is what [`Self::check_output`] has found good.
    pub fn results(&self, output: &Path) -> Vec<PathBuf> {
        match self {
            Self::Folder(folder) => {
                let files = folder.pictures.iter().chain(&folder.videos);
                files.map(|file| folder.result(output, file)).collect()
            }
            Self::Tensor(pictures) if !self.is_single() => {
                let count = pictures.size().first().copied().unwrap_or_default();
                (0..count)
                    .map(|index| numbered_result(output, index))
                    .collect()
            }
            _ => vec![output.to_owned()],
        }
    }

    /// Where the result in a style goes, if results in several go into the folder `output`.
    ///
    /// # Errors
    /// Tensors, which have no name.
    pub fn output_in_style(&self, output: &Path, style: &str) -> Result<PathBuf> {
        let style = file_name(style);
        match self {
            Self::Picture(path) => {
                let ending = path.extension().unwrap_or("png".as_ref());
                Ok(output::writable_name(output.join(named(&style, ending))))
            }
            Self::Video(path) => {
                let ending = path.extension().filter(|_| has_writable_name(path));
                Ok(output.join(named(&style, ending.unwrap_or("mp4".as_ref()))))
            }
            Self::Folder(_) => Ok(output.join(style)),
            Self::Tensor(_) => bail!("tensors are translated in one style; leave --all-styles out"),
        }
    }

    /// Finds out before any work whether `output` can take the result, and keeps results away
    /// from the originals.
    ///
    /// # Errors
    /// A sentence, if writing to `output` would replace an input, or a folder's next run would
    /// take results for inputs, or two files of a folder have one result, or its name asks for a format that is
    /// not written.
    pub fn check_output(&self, output: &Path) -> Result<()> {
        match self {
            Self::Picture(path) | Self::Video(path) => refuse_to_replace(output, &[path])?,
            Self::Folder(folder) => {
                ensure!(
                    !output.is_file(),
                    "{}: this is a file; pictures of a folder go into a folder",
                    output.display()
                );
                ensure!(
                    !lies_inside(output, &folder.root),
                    "{}: this lies inside the input folder, where the next run would take results \
                     for inputs; give OUT a folder elsewhere",
                    output.display()
                );
                let mut results = self.results(output);
                results.sort_unstable();
                if let Some(same) = results.windows(2).find(|pair| pair[0] == pair[1]) {
                    bail!(
                        "{}: two files of {} have this result; give one of them another name",
                        same[0].display(),
                        folder.root.display()
                    );
                }
            }
            Self::Tensor(_) => {}
        }
        match self {
            Self::Video(_) => ensure!(
                has_writable_name(output),
                "{}: cannot tell the format from this name; end it in .mp4, .mov, .mkv or .webm",
                output.display()
            ),
            _ if self.is_single() => {
                output::format(output)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The name of a file or folder for the style `style`: its own, unless [`style_file::check_new_name`] would
/// not let it be given. Of other names all but letters, digits and `-._` is written as in addresses (`%2F`
/// for `/`), and so is a dot at the beginning.
fn file_name(style: &str) -> String {
    if style_file::check_new_name(style).is_ok() {
        return style.to_owned();
    }
    let mut name = String::new();
    for (index, byte) in style.bytes().enumerate() {
        match byte {
            b'.' if index == 0 => name += "%2E",
            b'-' | b'.' | b'_' => name.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            _ => name += &format!("%{byte:02X}"),
        }
    }
    name
}

/// Where the translation of tensor `index` of several goes in `folder`.
pub(super) fn numbered_result(folder: &Path, index: i64) -> PathBuf {
    folder.join(format!("{index}.png"))
}

/// `path` with `.ending` behind it.
pub(super) fn with_ending(path: PathBuf, ending: &str) -> PathBuf {
    let mut name = path.into_os_string();
    name.push(".");
    name.push(ending);
    name.into()
}

fn named(stem: &str, ending: &OsStr) -> OsString {
    let mut name = OsString::from(stem);
    name.push(".");
    name.push(ending);
    name
}

/// # Errors
/// A sentence, if `output` is one of the files `originals`.
pub fn refuse_to_replace(output: &Path, originals: &[&Path]) -> Result<()> {
    let Ok(existing) = output.canonicalize() else {
        return Ok(());
    };
    let same = |path: &&Path| path.canonicalize().is_ok_and(|path| path == existing);
    ensure!(
        !originals.iter().any(same),
        "{}: this would replace the original; give the result another name",
        output.display()
    );
    Ok(())
}

/// The file that an input names, without `#NAME`.
pub(super) fn file(input: &Path) -> PathBuf {
    tensor_address(input).map_or_else(|| input.to_owned(), |(file, _)| file)
}

/// `FILE.safetensors` and what follows its `#`.
fn tensor_address(path: &Path) -> Option<(PathBuf, Option<String>)> {
    let is_tensor_file = |path: &Path| path.extension().is_some_and(|end| end == "safetensors");
    if is_tensor_file(path) {
        return Some((path.to_owned(), None));
    }
    let (file, name) = path.to_str()?.rsplit_once('#')?;
    is_tensor_file(Path::new(file)).then(|| (file.into(), Some(name.to_owned())))
}

fn read_tensor(path: &Path, name: Option<&str>) -> Result<Tensor> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("{shown}: cannot read"))?;
    let file = SafeTensors::deserialize(&bytes)
        .with_context(|| format!("{shown}: not a sound safetensors file"))?;
    let mut names = file.names();
    names.sort_unstable();
    let name = match (name, names.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, []) => bail!("{shown}: this file holds no tensor"),
        (None, [first, ..]) => bail!(
            "{shown}: this file holds {} tensors; say which, for example {shown}#{first}",
            names.len()
        ),
    };
    let view = file
        .tensor(name)
        .map_err(|_| anyhow::anyhow!("{shown}: this file has no tensor \"{name}\""))?;
    let kind = match view.dtype() {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        other => bail!("{shown}: tensor \"{name}\" holds {other:?}; pictures are float tensors"),
    };
    ensure!(
        view.shape().len() == 4 && view.shape().iter().all(|&side| side > 0),
        "{shown}: tensor \"{name}\" has shape {:?}; pictures have the shape [N, C, H, W]",
        view.shape()
    );
    let shape = view
        .shape()
        .iter()
        .map(|&side| i64::try_from(side))
        .collect::<Result<Vec<_>, _>>()?;
    let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)?.f_to_kind(Kind::Float)?;
    let finite = bool::try_from(tensor.f_isfinite()?.f_all()?)?;
    ensure!(
        finite,
        "{shown}: tensor \"{name}\" holds values that are not finite"
    );
    Ok(tensor)
}
