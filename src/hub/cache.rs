//! The layout of the cache on disk: `models--ORG--NAME` with `refs`, `blobs` and `snapshots`.
//!
//! A snapshot folder holds links to blobs, so that what commits share is stored once.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::listing::RemoteFile;
use super::repository::{RepositoryId, Revision, is_commit};
use crate::error::Result;
use crate::files;

/// The folder of all repositories.
#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
}

/// One repository's part of the cache.
#[derive(Debug)]
pub(super) struct RepositoryCache {
    folder: PathBuf,
    locks: PathBuf,
}

impl Cache {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn of(&self, id: &RepositoryId) -> RepositoryCache {
        let name = format!("models--{}", id.as_str().replace('/', "--"));
        RepositoryCache {
            locks: self.root.join(".locks").join(&name),
            folder: self.root.join(name),
        }
    }
}

/// Names of the files that are there in a snapshot's folder, relative to it.
pub(super) fn names_in(snapshot: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(snapshot.join(&folder)).into_iter().flatten();
        // A name that is not UTF-8 is none of the hub's.
        let found = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        for name in found.map(|name| format!("{folder}{name}")) {
            let path = snapshot.join(&name);
            if path.is_file() {
                names.push(name);
            } else if path.is_dir() && !path.is_symlink() {
                folders.push(name + "/");
            }
        }
    }
    names
}

impl RepositoryCache {
    /// The folder of the commit that the revision was when it was last fetched.
    pub(super) fn snapshot(&self, revision: &Revision) -> Option<PathBuf> {
        let commit = if revision.is_commit() {
            revision.as_str().to_owned()
        } else {
            files::read_bounded(&self.reference(revision), 100)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .map(|text| text.trim().to_owned())
                .filter(|text| is_commit(text))?
        };
        Some(self.snapshot_of(&commit))
    }

    pub(super) fn snapshot_of(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Notes the commit of a revision.
    pub(super) fn set_commit(&self, revision: &Revision, commit: &str) -> Result<()> {
        // A cache that cannot be written to serves as long as nothing changes.
        if self.snapshot(revision) == Some(self.snapshot_of(commit)) {
            return Ok(());
        }
        let path = self.reference(revision);
        files::write_atomic(&path, |out| out.write_all(commit.as_bytes()))
    }

    pub(super) fn blob(&self, file: &RemoteFile) -> PathBuf {
        self.folder.join("blobs").join(&file.etag)
    }

    /// Where a blob's bytes are until it is complete.
    pub(super) fn partial(&self, file: &RemoteFile) -> PathBuf {
        let name = format!("{}.incomplete", file.etag);
        self.folder.join("blobs").join(name)
    }

    pub(super) fn lock(&self, file: &RemoteFile) -> PathBuf {
        self.locks.join(format!("{}.lock", file.etag))
    }

    /// Makes the file part of the commit's snapshot.
    pub(super) fn link(&self, commit: &str, file: &RemoteFile) -> io::Result<()> {
        let path = self.snapshot_of(commit).join(&file.name);
        // Out of the file's folders, the commit's and `snapshots`.
        let up = "../".repeat(file.name.matches('/').count() + 2);
        let blob = format!("{up}blobs/{}", file.etag);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)?;
        // Renamed into place, since a link to a blob that is gone may be there.
        let link = tempfile::Builder::new().make_in(folder, |new| symlink(&blob, new))?;
        link.persist(&path)?;
        Ok(())
    }

    fn reference(&self, revision: &Revision) -> PathBuf {
        self.folder.join("refs").join(revision.as_str())
    }
}

/// Whether the path, without links in it, is a file's bytes in a cache.
pub(super) fn is_blob(path: &Path) -> bool {
    let is_blobs = |folder: &Path| folder.file_name().is_some_and(|name| name == "blobs");
    path.is_file() && path.parent().is_some_and(is_blobs)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_pythons() {
        let folder = tempfile::tempdir().unwrap();
        let id = RepositoryId::parse("org/name").unwrap();
        let cache = Cache::new(folder.path().to_owned()).of(&id);
        let commit = "0123456789".repeat(4);
        let file = RemoteFile {
            name: "vae/config.json".to_owned(),
            bytes: 2,
            etag: "abc".to_owned(),
        };
        fs::create_dir_all(cache.blob(&file).parent().unwrap()).unwrap();
        fs::write(cache.blob(&file), "{}").unwrap();

        cache.link(&commit, &file).unwrap();
        cache.link(&commit, &file).unwrap();
        let branch = Revision::parse("refs/pr/1").unwrap();
        assert_eq!(cache.snapshot(&branch), None);
        cache.set_commit(&branch, &commit).unwrap();

        let root = folder.path().join("models--org--name");
        let link = root.join("snapshots").join(&commit).join("vae/config.json");
        assert_eq!(
            fs::read_link(&link).unwrap(),
            Path::new("../../../blobs/abc")
        );
        assert_eq!(fs::read(&link).unwrap(), b"{}");
        assert_eq!(
            fs::read_to_string(root.join("refs/refs/pr/1")).unwrap(),
            commit
        );
        assert_eq!(
            cache.snapshot(&branch),
            Some(root.join("snapshots").join(&commit))
        );
    }

    #[test]
    fn a_reference_that_holds_no_commit_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let refs = folder.path().join("models--org--name/refs");
        fs::create_dir_all(&refs).unwrap();
        fs::write(refs.join("main"), "../../../../etc").unwrap();
        let id = RepositoryId::parse("org/name").unwrap();
        let cache = Cache::new(folder.path().to_owned()).of(&id);
        assert_eq!(cache.snapshot(&Revision::default()), None);
    }
}
