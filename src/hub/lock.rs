//! One process at a time works on a blob: the lock files are those of Python's `huggingface_hub`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How soon it is noticed that there is nothing left to wait for.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// How a file of the cache is opened for writing: a link that somebody put in its place is not
/// followed, and nobody is waited for at the other end of a pipe.
pub(super) fn no_follow(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
}

/// Takes the lock, however long another process has it; `waiting` is called first where that is so,
/// `is_over` again and again.
///
/// The lock ends with the file, and with the process whatever ends that.
pub(super) fn lock(
    path: &Path,
    waiting: impl FnOnce(),
    is_over: impl Fn() -> bool,
) -> io::Result<Option<File>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = no_follow(OpenOptions::new().create(true).truncate(false).write(true)).open(path)?;
    let mut waiting = Some(waiting);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if let Some(waiting) = waiting.take() {
            waiting();
        }
        if is_over() {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}
