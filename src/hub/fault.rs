//! What goes wrong on the way to a file, and whether asking again may help.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::Hub;
use super::event::Event;
use super::lock::POLL;
use super::repository::Repository;
use crate::error::{Error, Result};
use crate::human::{printable, size};

/// Attempts of a request that makes no progress; the waits between them double.
const MAX_ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Longest wait that a server may ask for; a longer one is the user's to decide.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// What to do about a full disk.
const MAKE_ROOM: &str =
    "make room, or set HF_HUB_CACHE to another folder; a later run goes on from what is there";

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    pub(super) again: Again,
    /// Something was received, so the next attempt counts as the first.
    pub(super) progressed: bool,
}

/// Whether another attempt may do better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    Soon,
    After(Duration),
    /// What is here of the file may be to blame: without it.
    Afresh,
}

/// How often something is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempts {
    /// There is another way.
    One,
    /// There is none.
    Several,
}

impl Fault {
    /// A fault that stays.
    pub(super) fn lasting(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            again: Again::Never,
            progressed: false,
        }
    }

    /// A fault that may be gone the next time.
    pub(super) fn passing(message: impl Into<String>) -> Self {
        Self {
            again: Again::Soon,
            ..Self::lasting(message)
        }
    }

    /// A fault that what is here of the file may be to blame for.
    pub(super) fn of_beginning(message: impl Into<String>) -> Self {
        Self {
            again: Again::Afresh,
            ..Self::lasting(message)
        }
    }

    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// A file of the cache cannot be written.
    pub(super) fn unwritable(root: &Path, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => MAKE_ROOM,
            _ => "set HF_HUB_CACHE to a folder that can be written to",
        };
        Self::lasting(format!(
            "cannot write to the cache folder {}: {error}",
            root.display()
        ))
        .with_hint(hint)
    }

    /// What was written to the cache cannot be read back.
    pub(super) fn unreadable(root: &Path, error: &io::Error) -> Self {
        Self::lasting(format!(
            "cannot read from the cache folder {}: {error}",
            root.display()
        ))
        .with_hint("its disk may be at fault; HF_HUB_CACHE names another folder")
    }

    /// The cache's disk is too full for what is to come.
    pub(super) fn no_space(root: &Path, bytes: u64, free: u64) -> Self {
        Self::lasting(format!(
            "{} are to be downloaded, but the cache folder {} has {} free",
            size(bytes),
            root.display(),
            size(free)
        ))
        .with_hint(MAKE_ROOM)
    }

    /// What is needed is not in the cache, and nothing may be requested.
    pub(super) fn offline(root: &Path, variable: &str) -> Self {
        Self::lasting(format!(
            "not complete in the cache folder {}, and {variable} is set",
            root.display()
        ))
        .with_hint(format!(
            "unset {variable} for one run, which fetches what is missing"
        ))
    }

    /// Another download has failed and is told instead.
    pub(super) fn stopped() -> Self {
        Self::lasting("not downloaded")
    }

    /// The error of a repository, or of a file of it.
    pub(super) fn of(self, repository: &Repository, file: Option<&str>) -> Error {
        Error::Hub {
            what: printable(&what(repository, file)),
            message: printable(&self.message),
            hint: self.hint,
        }
    }
}

impl Hub {
    /// Repeats `attempt` while that may help, and as long as it is not over.
    pub(super) fn retry<T>(
        &self,
        (repository, file): (&Repository, Option<&str>),
        attempts: Attempts,
        is_over: impl Fn() -> bool,
        mut attempt: impl FnMut() -> Result<T, Fault>,
    ) -> Result<T> {
        let mut failed = 0;
        loop {
            if is_over() {
                return Err(Fault::stopped().of(repository, file));
            }
            let mut fault = match attempt() {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            failed = if fault.progressed { 1 } else { failed + 1 };
            let wait = match fault.again {
                Again::Soon | Again::Afresh => FIRST_WAIT * 2_u32.pow(failed - 1),
                Again::After(wait) if wait <= MAX_WAIT => wait,
                Again::After(wait) => {
                    let asked = format!("; the server asks to wait {} s", wait.as_secs());
                    fault.message.push_str(&asked);
                    return Err(fault.of(repository, file));
                }
                Again::Never => return Err(fault.of(repository, file)),
            };
            if attempts == Attempts::One || failed == MAX_ATTEMPTS || is_over() {
                return Err(fault.of(repository, file));
            }
            self.tell(Event::Retried {
                reason: printable(&format!(
                    "{}: {}; trying again in {} s",
                    what(repository, file),
                    fault.message,
                    wait.as_secs()
                )),
            });
            pause(wait, &is_over);
        }
    }
}

/// Sleeps, at most until it is over.
fn pause(wait: Duration, is_over: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_over() {
        let left = wait.saturating_sub(begin.elapsed());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(POLL));
    }
}

fn what(repository: &Repository, file: Option<&str>) -> String {
    match file {
        Some(file) => format!("{repository}, {file}"),
        None => repository.to_string(),
    }
}
