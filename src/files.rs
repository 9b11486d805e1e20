//! Files that people keep: written whole or not at all, read within bounds.
//!
//! Every output of the program (picture, report, trace) goes through [`write_atomic`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Longest name that common file systems take.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// Longest path that Linux takes, with a zero at its end.
const MAX_PATH_BYTES: usize = 4096;

/// Replaces the file at `path` by what `write` writes.
///
/// The bytes go to a temporary file in the same folder, which is synced and renamed, so a reader
/// sees the old file or the new one, and after a failure nothing new is left. Missing folders are
/// made; of a symbolic link the target is replaced.
///
/// # Errors
/// [`Error::Output`] when `write` fails or the file system refuses a step.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    replace(path, write).map_err(|error| unwritable(path, error.to_string()))
}

fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let path = &target_of(path);
    let folder = folder_of(path);
    fs::create_dir_all(folder)?;
    let mut temporary = temporary_in(folder)?;
    let mut out = BufWriter::new(temporary.as_file_mut());
    write(&mut out)?;
    out.flush()?;
    drop(out);
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    // Makes the rename itself durable, where the folder may be read and the file system can. The file
    // is in its place in any case.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// Checks, before the work, that a file can be written at `path`.
///
/// Nothing is left behind: of missing folders the nearest that exists is looked at.
///
/// # Errors
/// [`Error::Output`] when `path` names no file, something else is in its place, or its folder
/// cannot be created or written to.
pub fn check_writable(path: &Path) -> Result<()> {
    let trailing_slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    if path.file_name().is_none() || trailing_slash {
        return Err(unwritable(path, "it names no file"));
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(unwritable(path, "it is a folder")),
        // A rename would replace a device such as /dev/null by a file.
        Ok(found) if !found.is_file() => return Err(unwritable(path, "it is not a regular file")),
        _ => {}
    }
    // Found out only when it is made, where a folder before it is missing.
    let is_long = |component: Component<'_>| component.as_os_str().len() > MAX_NAME_BYTES;
    if path.components().any(is_long) || path.as_os_str().len() >= MAX_PATH_BYTES {
        return Err(unwritable(path, "a name in it is too long"));
    }
    let target = target_of(path);
    // The links of these folders lead to terminals, pipes and open files.
    let is_systems = ["/dev", "/proc"]
        .iter()
        .any(|system| path.starts_with(system));
    if is_systems && path.is_symlink() {
        return Err(unwritable(path, "it is not a regular file"));
    }
    if target.is_symlink() {
        return Err(unwritable(path, "its links lead nowhere"));
    }
    check_folder(folder_of(&target)).map_err(|message| unwritable(path, message))
}

/// Checks that files can be written in a folder, once it is made; nothing is left behind.
///
/// # Errors
/// What the system says.
pub fn check_folder(folder: &Path) -> Result<(), String> {
    let there = existing(folder);
    temporary_in(there).map(drop).map_err(|error| {
        let verb = if there == folder && there.is_dir() {
            "write to"
        } else {
            "create"
        };
        format!("cannot {verb} the folder {}: {error}", folder.display())
    })
}

/// The nearest folder above that is there, or the path itself.
fn existing(path: &Path) -> &Path {
    let there = path
        .ancestors()
        .find(|ancestor| ancestor.symlink_metadata().is_ok());
    match there {
        Some(there) if !there.as_os_str().is_empty() => there,
        _ => Path::new("."),
    }
}

/// Links that a path may lead through, as in the kernel.
const MAX_LINKS: usize = 40;

/// What a symbolic link leads to, which need not be there; other paths are their own.
fn target_of(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = folder_of(&target).join(next),
            Err(_) => break,
        }
    }
    target
}

/// Where the program keeps what it need not find out twice: `$XDG_CACHE_HOME/qwen-gen`, else
/// `~/.cache/qwen-gen`.
#[must_use]
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("qwen-gen"))
}

/// `path`, with the home folder in place of a leading `~`.
#[must_use]
pub fn expand_home(path: PathBuf, home: Option<PathBuf>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

/// Free bytes of the file system that `path` is on, or would be once it is made; `None` where the
/// system does not tell.
#[must_use]
pub fn free_space(path: &Path) -> Option<u64> {
    let fs = rustix::fs::statvfs(existing(path)).ok()?;
    Some(fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Where a write to `path` goes, whose file need not be there yet: the same for all names of a place.
/// `None` where the system does not tell.
#[must_use]
pub fn place(path: &Path) -> Option<PathBuf> {
    let path = target_of(path);
    let there = existing(&path);
    let rest = path.strip_prefix(there).unwrap_or(&path);
    let mut place = there.canonicalize().ok()?;
    for part in rest.components() {
        match part {
            Component::ParentDir => drop(place.pop()),
            part => place.push(part),
        }
    }
    Some(place)
}

/// Whether a write to either path replaces the other's file.
#[must_use]
pub fn is_same_place(a: &Path, b: &Path) -> bool {
    place(a).is_some_and(|a| Some(a) == place(b))
}

/// Reads a regular file of at most `max_bytes`.
///
/// # Errors
/// [`Error::Input`] when it is missing, unreadable, longer, or not a regular file.
pub fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let unusable = |message: String| Error::Input {
        path: path.to_owned(),
        message,
    };
    // Looked at before opening: opening a FIFO waits for a writer.
    let found = fs::metadata(path).map_err(|error| unusable(error.to_string()))?;
    if !found.is_file() {
        return Err(unusable("not a regular file".into()));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes))
        .map_err(|error| unusable(error.to_string()))?;
    if bytes.len() as u64 > max_bytes {
        return Err(unusable(format!("longer than {max_bytes} bytes")));
    }
    Ok(bytes)
}

/// A new file in `folder`, removed when dropped unless it is renamed.
fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".qwen-gen-")
        .make_in(folder, |path| {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o666) // less the umask, as for any other output
                .open(path)
        })
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn unwritable(path: &Path, message: impl Into<String>) -> Error {
    Error::Output {
        path: path.to_owned(),
        message: message.into(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names_in(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_written_file_replaces_the_old_one_with_ordinary_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        fs::write(&path, "old and longer").unwrap();
        let ordinary = folder.path().join("ordinary");
        File::create(&ordinary).unwrap();

        write_atomic(&path, |out| out.write_all(b"new")).unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&ordinary));
        assert_eq!(names_in(folder.path()), ["ordinary", "report.json"]);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        fs::write(&path, "old").unwrap();

        let error = write_atomic(&path, |out| {
            out.write_all(&vec![0; 100_000])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();

        assert!(error.to_string().contains("report.json"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names_in(folder.path()), ["report.json"]);
    }

    #[test]
    fn a_folder_in_the_way_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();

        assert!(write_atomic(&path, |out| out.write_all(b"x")).is_err());
        let error = check_writable(&path).unwrap_err().to_string();

        assert!(error.ends_with("it is a folder"), "{error}");
        assert_eq!(names_in(folder.path()), ["taken"]);
    }

    #[test]
    fn the_check_refuses_what_cannot_become_a_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        symlink("/dev/null", folder.path().join("device")).unwrap();
        for (name, why) in [
            ("file/picture.png", "cannot create the folder"),
            ("device", "not a regular file"),
            ("new/", "names no file"),
            ("..", "names no file"),
        ] {
            let error = check_writable(&folder.path().join(name)).unwrap_err();
            assert!(error.to_string().contains(why), "{name}: {error}");
        }
        assert!(check_writable(Path::new("")).is_err());
    }

    #[test]
    fn one_place_has_many_paths() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        let same = |a: &str, b: &str| is_same_place(&folder.path().join(a), &folder.path().join(b));
        assert!(same("a/x", "a/x") && same("a/x", "b/x") && same("a/x", "a/../a/./x"));
        assert!(!same("a/x", "a/y") && !same("a/x", "x"));
        assert!(same("c/x", "c/x") && !same("c/x", "d/x"));
    }

    #[test]
    fn of_a_link_the_target_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("target"), "old").unwrap();
        for (link, target) in [("link", "target"), ("dangling", "new"), ("two", "dangling")] {
            symlink(target, at(link)).unwrap();
        }
        for (link, target) in [("link", "target"), ("two", "new")] {
            assert!(is_same_place(&at(link), &at(target)));
            check_writable(&at(link)).unwrap();
            write_atomic(&at(link), |out| out.write_all(b"new")).unwrap();
            assert!(at(link).is_symlink() && at("dangling").is_symlink());
            assert_eq!(fs::read(at(target)).unwrap(), b"new");
        }
        symlink("round", at("round")).unwrap();
        assert!(check_writable(&at("round")).is_err());
        assert!(check_writable(Path::new("/dev/stdout")).is_err());
    }

    #[test]
    fn folders_are_made_when_there_is_something_to_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/report.json");
        check_writable(&path).unwrap();
        assert_eq!(names_in(folder.path()), [""; 0]);
        write_atomic(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"new");
    }

    #[test]
    fn the_check_refuses_a_folder_that_takes_no_files() {
        // Not even root's.
        let error = check_writable(Path::new("/proc/picture.png")).unwrap_err();
        assert!(error.to_string().contains("cannot write to the folder"));
    }

    #[test]
    fn reading_is_bounded_and_takes_regular_files_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        assert!(read_bounded(&path, 4).is_err());
        assert!(read_bounded(folder.path(), 5).is_err());
        assert!(read_bounded(Path::new("/dev/null"), 5).is_err());
    }
}
