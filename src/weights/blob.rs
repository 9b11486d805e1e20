//! A file of the checkpoint, open for positioned reads.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An open file, or bytes of the binary.
///
/// Nothing is mapped into memory, so a file that another process cuts short is an error and not a
/// SIGBUS.
#[derive(Debug)]
pub(super) enum Blob {
    File { file: File, bytes: u64 },
    Embedded(&'static [u8]),
}

impl Blob {
    /// Opens a regular file; links are followed.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Before opening: that would wait for a FIFO's writer.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self::File { file, bytes })
    }

    /// Length when it was opened.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::File { bytes, .. } => *bytes,
            Self::Embedded(bytes) => bytes.len() as u64,
        }
    }

    /// Fills `buffer` from `offset` on; an error if the file ends before.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.read_exact_at(buffer, offset),
            Self::Embedded(bytes) => {
                let part = usize::try_from(offset)
                    .ok()
                    .and_then(|start| bytes.get(start..)?.get(..buffer.len()))
                    .ok_or(io::ErrorKind::UnexpectedEof)?;
                buffer.copy_from_slice(part);
                Ok(())
            }
        }
    }
}
