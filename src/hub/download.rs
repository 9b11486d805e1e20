//! Downloads: several files at a time, each resumed where it was cut and checked before it counts.
//!
//! Bytes are appended to `<blob>.incomplete`, so whatever ends the process leaves a beginning of the
//! file and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use ureq::http::{HeaderMap, StatusCode};

use super::Hub;
use super::cache::RepositoryCache;
use super::client::header;
use super::event::Event;
use super::fault::{Again, Attempts, Fault};
use super::listing::RemoteFile;
use super::lock::{lock, no_follow};
use super::repository::Repository;
use crate::error::{Error, Result};
use crate::files::free_space;

/// Files downloaded at a time; one connection does not fill a fast line.
const PARALLEL: usize = 4;

const BUFFER_BYTES: usize = 1 << 18;

/// Bytes after which an attempt counts as progress.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Puts the files into the commit's snapshot; the first fault ends all.
pub(super) fn all(
    hub: &Hub,
    repository: &Repository,
    commit: &str,
    files: &[RemoteFile],
) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let run = Downloads {
        hub,
        repository,
        commit,
        cache: hub.cache_of(repository),
        over: AtomicBool::new(false),
    };
    let to_come: Vec<_> = files.iter().map(|file| run.missing(file)).collect();
    let bytes = (to_come.iter()).fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
    run.check_space(bytes)?;
    hub.tell(Event::Planned {
        files: files.len(),
        bytes,
    });
    let jobs = Mutex::new(files.iter().zip(to_come));
    let next = || jobs.lock().ok().and_then(|mut jobs| jobs.next());
    let work = || {
        while let Some((file, to_come)) = next() {
            if let Err(error) = run.file(file, to_come) {
                // The first fault is the one to tell; it ends the other downloads.
                let is_first = !run.over.swap(true, Ordering::Relaxed);
                return if is_first { Err(error) } else { Ok(()) };
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, work);
        let spawned: io::Result<Vec<_>> = (0..PARALLEL.min(files.len())).map(spawn).collect();
        let threads = spawned.map_err(|error| {
            // Those that run are joined, and have nothing to go on for.
            run.over.store(true, Ordering::Relaxed);
            Fault::lasting(format!("cannot start a thread: {error}")).of(repository, None)
        })?;
        let results = threads.into_iter().map(|thread| {
            let joined = thread.join();
            joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        // All are joined, also after a fault.
        results.collect::<Vec<_>>().into_iter().collect()
    })
}

/// What the downloads of one call share.
struct Downloads<'a> {
    hub: &'a Hub,
    repository: &'a Repository,
    commit: &'a str,
    cache: RepositoryCache,
    /// One has failed.
    over: AtomicBool,
}

impl Downloads<'_> {
    /// Bytes of the file that are not here.
    fn missing(&self, file: &RemoteFile) -> u64 {
        if length(&self.cache.blob(file)) == Some(file.bytes) {
            return 0;
        }
        let begun = length(&self.cache.partial(file)).unwrap_or(0);
        file.bytes.checked_sub(begun).unwrap_or(file.bytes)
    }

    /// Refuses what the disk cannot hold before the first byte of it.
    fn check_space(&self, bytes: u64) -> Result<()> {
        let root = self.hub.cache.root();
        match free_space(root) {
            Some(free) if free < bytes => {
                Err(Fault::no_space(root, bytes, free).of(self.repository, None))
            }
            _ => Ok(()),
        }
    }

    /// Downloads a file of which `to_come` bytes were planned.
    fn file(&self, file: &RemoteFile, to_come: u64) -> Result<()> {
        let unwritable = |error: io::Error| self.error(file, self.unwritable(&error));
        let waiting = || {
            self.hub.tell(Event::Waiting {
                file: file.name.clone(),
            });
        };
        let is_over = || self.over.load(Ordering::Relaxed);
        let lock = lock(&self.cache.lock(file), waiting, is_over).map_err(unwritable)?;
        if lock.is_none() {
            return Err(self.error(file, Fault::stopped()));
        }
        let mut received = 0;
        let blob = self.cache.blob(file);
        if length(&blob) != Some(file.bytes) {
            if let Some(folder) = blob.parent() {
                fs::create_dir_all(folder).map_err(unwritable)?;
            }
            let what = (self.repository, Some(file.name.as_str()));
            let mut is_afresh = false;
            let attempt = || self.attempt(file, &mut received, &mut is_afresh);
            self.hub.retry(what, Attempts::Several, is_over, attempt)?;
        }
        // What another process received, or what was thrown away.
        self.received(signed(to_come) - received);
        self.cache.link(self.commit, file).map_err(unwritable)
    }

    /// One request for what is missing, then the checks, then the final name. What may be to blame for a
    /// fault is thrown away; `is_afresh` once it has been.
    fn attempt(
        &self,
        file: &RemoteFile,
        received: &mut i64,
        is_afresh: &mut bool,
    ) -> Result<(), Fault> {
        let path = self.cache.partial(file);
        let mut partial = Partial::open(&path).map_err(|error| self.unwritable(&error))?;
        if partial.bytes > file.bytes {
            partial.restart().map_err(|error| self.unwritable(&error))?;
        }
        let begun = partial.bytes;
        match self.complete(file, &path, &mut partial, received) {
            Err(fault) if fault.again == Again::Afresh => {
                fs::remove_file(&path).map_err(|error| self.unwritable(&error))?;
                // Where there was no beginning, or is none any more, it is not to blame.
                let is_lasting = begun == 0 || mem::replace(is_afresh, true);
                let again = if is_lasting {
                    Again::Never
                } else {
                    fault.again
                };
                return Err(Fault { again, ..fault });
            }
            result => result?,
        }
        let finish = || {
            partial.file.sync_all()?;
            fs::rename(&path, self.cache.blob(file))
        };
        finish().map_err(|error| self.unwritable(&error))
    }

    /// Receives what is missing, and checks the whole.
    fn complete(
        &self,
        file: &RemoteFile,
        path: &Path,
        partial: &mut Partial,
        received: &mut i64,
    ) -> Result<(), Fault> {
        if partial.bytes < file.bytes {
            self.receive(file, partial, received)?;
        }
        let unreadable = |error: io::Error| Fault::unreadable(self.hub.cache.root(), &error);
        let mismatch = file.checksum().map(|checksum| checksum.mismatch(path));
        match mismatch.transpose().map_err(unreadable)?.flatten() {
            None => Ok(()),
            Some(message) => Err(Fault::of_beginning(message).with_hint(
                "the download was altered on its way; a proxy or HF_ENDPOINT may be to blame",
            )),
        }
    }

    /// Appends what the server sends.
    fn receive(
        &self,
        file: &RemoteFile,
        partial: &mut Partial,
        received: &mut i64,
    ) -> Result<(), Fault> {
        let begun = partial.bytes;
        let id = &self.repository.id;
        let response = (self.hub.client).get(id, self.commit, &file.name, partial.bytes)?;
        let status = response.status();
        let start = start_of(status, response.headers(), partial.bytes)?;
        check_body(status, response.headers(), file.bytes - start)?;
        if start < partial.bytes {
            partial.restart().map_err(|error| self.unwritable(&error))?;
        }
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let (read, broke_off) = match body.read(&mut buffer) {
                Ok(read) => (read, String::new()),
                Err(error) => (0, format!(" ({error})")),
            };
            if read == 0 {
                if partial.bytes == file.bytes {
                    return Ok(());
                }
                return Err(Fault {
                    // What was here before and has come again is no progress.
                    progressed: partial.bytes.saturating_sub(begun) >= PROGRESS_BYTES,
                    ..Fault::passing(format!(
                        "broke off after {} of {} bytes{broke_off}",
                        partial.bytes, file.bytes
                    ))
                });
            }
            if self.over.load(Ordering::Relaxed) {
                return Err(Fault::stopped());
            }
            if partial.bytes + read as u64 > file.bytes {
                partial.restart().map_err(|error| self.unwritable(&error))?;
                let message = format!(
                    "HTTP {}, but more than the expected {} bytes",
                    status.as_u16(),
                    file.bytes
                );
                return Err(Fault::lasting(message));
            }
            let written = partial.append(&buffer[..read]);
            written.map_err(|error| self.unwritable(&error))?;
            *received += signed(read as u64);
            self.received(signed(read as u64));
        }
    }

    fn received(&self, bytes: i64) {
        if bytes != 0 {
            self.hub.tell(Event::Received(bytes));
        }
    }

    fn unwritable(&self, error: &io::Error) -> Fault {
        Fault::unwritable(self.hub.cache.root(), error)
    }

    fn error(&self, file: &RemoteFile, fault: Fault) -> Error {
        fault.of(self.repository, Some(&file.name))
    }
}

/// The beginning of a blob.
struct Partial {
    file: File,
    bytes: u64,
}

impl Partial {
    fn open(path: &Path) -> io::Result<Self> {
        let file = no_follow(OpenOptions::new().create(true).append(true)).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.bytes = 0;
        Ok(())
    }
}

/// Where an answer's bytes belong: after those that are here, or at the beginning.
fn start_of(status: StatusCode, headers: &HeaderMap, begun: u64) -> Result<u64, Fault> {
    if status != StatusCode::PARTIAL_CONTENT {
        return Ok(0);
    }
    let range = header(headers, &CONTENT_RANGE).unwrap_or_default();
    let start = range
        .strip_prefix("bytes ")
        .and_then(|range| range.split('-').next()?.parse().ok());
    if start == Some(begun) {
        return Ok(begun);
    }
    let message = format!("HTTP 206 with `{range}`, asked for the bytes from {begun} on");
    Err(Fault::of_beginning(message))
}

/// Refuses what cannot be the file before a byte of it is kept.
fn check_body(status: StatusCode, headers: &HeaderMap, expected: u64) -> Result<(), Fault> {
    let status = status.as_u16();
    let kind = header(headers, &CONTENT_TYPE).unwrap_or_default();
    if kind.starts_with("text/html") {
        let fault = Fault::lasting(format!("HTTP {status}, but a web page (text/html)"));
        return Err(fault.with_hint("does the network ask for a login? check HF_ENDPOINT, too"));
    }
    let length = header(headers, &CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    match length {
        Some(length) if length != expected => Err(Fault::lasting(format!(
            "HTTP {status}, but {length} bytes, expected {expected}"
        ))),
        _ => Ok(()),
    }
}

fn length(path: &Path) -> Option<u64> {
    Some(fs::metadata(path).ok()?.len())
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
