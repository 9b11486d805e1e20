//! Folders the program writes to, or reads models from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};
use serde::Serialize;

use crate::files;

/// A folder, there or not.
#[derive(Debug, Serialize)]
pub struct Folder {
    /// What it is for.
    pub name: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is there; the program makes those that are not.
    pub exists: bool,
    /// Whether files can be written in it, once it is made.
    pub writable: bool,
    /// Space on its file system, where that tells.
    pub free_bytes: Option<u64>,
}

/// The folders of the environment `variable` reads.
pub(super) fn find(variable: impl Fn(&str) -> Option<OsString>, traces: PathBuf) -> Vec<Folder> {
    // Only a GPU's products are timed.
    let algorithms = cfg!(feature = "cuda").then(files::cache_folder).flatten();
    [
        ("models", model_cache(variable)),
        ("traces", Some(traces)),
        ("algorithms", algorithms),
    ]
    .into_iter()
    .filter_map(|(name, path)| Some(Folder::look_at(name, path?)))
    .collect()
}

/// Where Hugging Face's tools keep what they download.
fn model_cache(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name| {
        let value = variable(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    folder("HF_HUB_CACHE").or_else(|| {
        let home = folder("HF_HOME")
            .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("huggingface")))
            .or_else(|| Some(folder("HOME")?.join(".cache/huggingface")))?;
        Some(home.join("hub"))
    })
}

impl Folder {
    fn look_at(name: &'static str, path: PathBuf) -> Self {
        let path = std::path::absolute(&path).unwrap_or(path);
        // What is there of the path decides about the rest.
        let there = path.ancestors().find(|ancestor| ancestor.exists());
        let is_writable = |folder: &Path| {
            folder.is_dir() && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
        };
        Self {
            name,
            exists: path.is_dir(),
            writable: there.is_some_and(is_writable),
            free_bytes: there
                .and_then(|folder| statvfs(folder).ok())
                .map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize)),
            path,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_model_cache_is_where_hugging_face_says() {
        let cache = |set: &[(&str, &str)]| {
            model_cache(|name| {
                let found = set.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| (*value).into())
            })
        };
        let (hub, hf) = (("HF_HUB_CACHE", "/a"), ("HF_HOME", "/b"));
        let (xdg, home) = (("XDG_CACHE_HOME", "/c"), ("HOME", "/d"));
        for (set, path) in [
            (&[hub, hf, xdg, home][..], "/a"),
            (&[("HF_HUB_CACHE", ""), hf, xdg, home], "/b/hub"),
            (&[xdg, home], "/c/huggingface/hub"),
            (&[home], "/d/.cache/huggingface/hub"),
        ] {
            assert_eq!(cache(set), Some(PathBuf::from(path)));
        }
        assert_eq!(cache(&[]), None);
    }

    #[test]
    fn a_folder_that_is_not_there_is_as_writable_as_what_is() {
        let folder = tempfile::tempdir().unwrap();
        let new = Folder::look_at("traces", folder.path().join("a/b"));
        assert!(!new.exists && new.writable && new.free_bytes.is_some());
        assert!(!folder.path().join("a").exists());

        std::fs::write(folder.path().join("file"), "").unwrap();
        let blocked = Folder::look_at("traces", folder.path().join("file/b"));
        assert!(!blocked.exists && !blocked.writable);
    }
}
