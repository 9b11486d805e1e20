//! Folders the program writes to, or reads models from.

use std::path::PathBuf;

use serde::Serialize;

use crate::files;
use crate::hub;
use crate::request::OUTPUT_FOLDER;

/// The folder without which there is nothing to run for.
pub(super) const PICTURES: &str = "pictures";

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

/// The folders that the environment says.
pub(super) fn find(traces: PathBuf) -> Vec<Folder> {
    let models = hub::cache_folder(|name| std::env::var_os(name)).ok();
    // Only a GPU's products are timed.
    let algorithms = cfg!(feature = "cuda").then(files::cache_folder).flatten();
    [
        ("models", models),
        ("traces", Some(traces)),
        (PICTURES, Some(OUTPUT_FOLDER.into())),
        ("algorithms", algorithms),
    ]
    .into_iter()
    .filter_map(|(name, path)| Some(Folder::look_at(name, path?)))
    .collect()
}

impl Folder {
    fn look_at(name: &'static str, path: PathBuf) -> Self {
        let path = std::path::absolute(&path).unwrap_or(path);
        Self {
            name,
            exists: path.is_dir(),
            writable: files::check_folder(&path).is_ok(),
            free_bytes: files::free_space(&path),
            path,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

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
