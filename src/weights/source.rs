//! Where a checkpoint's files come from: a folder or the binary itself, behind one interface.
//!
//! Nothing here interprets a file. The folder is not trusted: only regular files are opened, and
//! small files have a size limit.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::blob::Blob;
use super::builtin;
use super::fault::{INCOMPLETE, fault, fault_with_hint};
use crate::error::{Error, Result};

const BUILTIN_PREFIX: &str = "builtin:";
const BUILTIN_TINY: &str = "builtin:tiny";

/// What a checkpoint consists of.
pub(crate) const MODEL_INDEX: &str = "model_index.json";
const FOLDERS: [&str; 5] = [
    "scheduler",
    "tokenizer",
    "text_encoder",
    "transformer",
    "vae",
];

/// How a file starts that git left in place of a large one.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Limits of small files, in bytes.
const MAX_JSON_BYTES: usize = 16_000_000;
const MAX_TABLE_BYTES: usize = 64_000_000;

/// A checkpoint in the Hugging Face layout; file names are relative to it, with `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A folder.
    Folder(PathBuf),
    /// The small trained model inside the binary.
    BuiltinTiny,
}

impl ModelSource {
    /// Finds what `--model-path` names on this machine.
    ///
    /// # Errors
    /// A usage error when it is neither a folder nor the built-in model.
    pub fn resolve(model_path: &str) -> Result<Self> {
        if model_path == BUILTIN_TINY {
            return Ok(Self::BuiltinTiny);
        }
        let refuse = |why: &str, hint: String| Error::Usage {
            message: format!("--model-path `{model_path}`: {why}"),
            hint: Some(hint),
        };
        if model_path.starts_with(BUILTIN_PREFIX) {
            let hint = format!("the built-in model is {BUILTIN_TINY}");
            return Err(refuse("no such built-in model", hint));
        }
        let way_out = || {
            format!(
                "pass a folder in the Hugging Face layout (it holds model_index.json), a repository of the Hugging Face Hub (Qwen/Qwen-Image), or {BUILTIN_TINY}"
            )
        };
        match fs::metadata(model_path) {
            Ok(metadata) if metadata.is_dir() => Ok(Self::Folder(PathBuf::from(model_path))),
            Ok(_) => Err(refuse("not a folder", way_out())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(refuse(&error.to_string(), way_out()))
            }
            Err(_) => Err(refuse("no such folder", way_out())),
        }
    }

    /// Reads a small file: JSON, vocabulary, merges.
    ///
    /// # Errors
    /// A file that is missing, not regular, a git-lfs pointer, unreadable or over its limit.
    pub fn read(&self, file: &str) -> Result<Cow<'_, [u8]>> {
        match self.open(file)? {
            Blob::Embedded(bytes) => Ok(Cow::Borrowed(bytes)),
            blob @ Blob::File { bytes, .. } => {
                let limit = size_limit(file);
                let Some(len) = usize::try_from(bytes).ok().filter(|len| *len <= limit) else {
                    let message = format!("{bytes} bytes, expected at most {limit}");
                    return Err(fault(file, message));
                };
                let mut content = vec![0; len];
                blob.read_exact_at(&mut content, 0)
                    .map_err(|error| fault(file, format!("cannot be read: {error}")))?;
                Ok(Cow::Owned(content))
            }
        }
    }

    /// Whether there is such a file.
    #[must_use]
    pub fn contains(&self, file: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(file).is_file(),
            Self::BuiltinTiny => embedded(file).is_some(),
        }
    }

    /// Whether something has the file's name, be it readable or not.
    pub(crate) fn has_entry(&self, file: &str) -> bool {
        match self {
            Self::Folder(folder) => match fs::symlink_metadata(folder.join(file)) {
                Ok(_) => true,
                Err(error) => error.kind() != io::ErrorKind::NotFound,
            },
            Self::BuiltinTiny => embedded(file).is_some(),
        }
    }

    /// All files of a checkpoint's kinds where it has its own, whichever of them are read; none of the binary's.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let Self::Folder(root) = self else {
            return Vec::new();
        };
        let inside = |folder: &str| {
            let names = self.list(folder).unwrap_or_default();
            let folder = root.join(folder);
            let names = names.into_iter().filter(|name| is_of_a_checkpoint(name));
            names.map(move |name| folder.join(name))
        };
        let mut files = vec![root.join(MODEL_INDEX)];
        files.extend(FOLDERS.into_iter().flat_map(inside));
        files
    }

    /// Names of the files in a component's folder, sorted.
    pub(crate) fn list(&self, component: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        match self {
            Self::Folder(folder) => {
                let unreadable = |error: io::Error| match error.kind() {
                    io::ErrorKind::NotFound => not_found(component, folder),
                    _ => fault(component, format!("cannot be listed: {error}")),
                };
                for entry in fs::read_dir(folder.join(component)).map_err(unreadable)? {
                    // A name that is not UTF-8 is none of ours.
                    if let Ok(name) = entry.map_err(unreadable)?.file_name().into_string() {
                        names.push(name);
                    }
                }
            }
            Self::BuiltinTiny => {
                let inside = |path: &str| {
                    let (folder, name) = path.split_once('/')?;
                    (folder == component).then(|| name.to_owned())
                };
                names.extend(builtin::TINY.iter().filter_map(|(path, _)| inside(path)));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens a file of any size for positioned reads.
    pub(super) fn open(&self, file: &str) -> Result<Blob> {
        let blob = match self {
            Self::Folder(folder) => {
                Blob::open(&folder.join(file)).map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => not_found(file, folder),
                    _ => fault(file, format!("cannot be opened: {error}")),
                })?
            }
            Self::BuiltinTiny => match embedded(file) {
                Some(bytes) => Blob::Embedded(bytes),
                None => return Err(fault(file, format!("not part of {BUILTIN_TINY}"))),
            },
        };
        let mut start = [0; LFS_POINTER.len()];
        if blob.read_exact_at(&mut start, 0).is_ok() && start == LFS_POINTER {
            return Err(fault_with_hint(
                file,
                "a git-lfs pointer, not the file itself",
                "`git lfs pull` in the model's folder fetches the files",
            ));
        }
        Ok(blob)
    }
}

fn not_found(file: &str, folder: &Path) -> Error {
    fault_with_hint(
        file,
        format!("not found in {}", folder.display()),
        INCOMPLETE,
    )
}

fn embedded(file: &str) -> Option<&'static [u8]> {
    let (_, bytes) = builtin::TINY.iter().find(|(path, _)| *path == file)?;
    Some(bytes)
}

/// A whole tokenizer and a shard index grow with the model, other files hardly do: Qwen's vocabulary
/// has 3 MB, its merges 2 MB.
fn size_limit(file: &str) -> usize {
    if file == "tokenizer/tokenizer.json" || file.ends_with(".index.json") {
        MAX_TABLE_BYTES
    } else {
        MAX_JSON_BYTES
    }
}

fn is_of_a_checkpoint(name: &str) -> bool {
    [".json", ".txt", ".safetensors"]
        .iter()
        .any(|kind| name.ends_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_depend_on_the_kind_of_file() {
        assert_eq!(size_limit("vae/config.json"), MAX_JSON_BYTES);
        assert_eq!(size_limit("tokenizer/merges.txt"), MAX_JSON_BYTES);
        assert_eq!(size_limit("tokenizer/tokenizer.json"), MAX_TABLE_BYTES);
        assert_eq!(size_limit("vae/x.safetensors.index.json"), MAX_TABLE_BYTES);
    }
}
