//! A trace to its file: through gzip to a temporary file, renamed, and read back.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::json;
use super::trace::Trace;
use crate::error::{Error, Result};
use crate::files::write_atomic;

/// A million events: 1.7 s and 11.4 MB, reading back included; level 1 takes 1.5 s and 17.7 MB, level
/// 6 2.1 s and 11.3 MB (`benches/profiler.rs`).
const COMPRESSION: Compression = Compression::new(3);

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Events in the file.
    pub events: u64,
    /// Bytes of the JSON.
    pub json_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

/// Above this viewers get slow, then fail.
const SLOW_TO_VIEW_BYTES: u64 = 100_000_000;

impl Written {
    /// Whether viewers will have a hard time.
    #[must_use]
    pub fn is_slow_to_view(&self) -> bool {
        self.json_bytes > SLOW_TO_VIEW_BYTES
    }
}

impl fmt::Display for Written {
    #[expect(clippy::cast_precision_loss, reason = "shown with two decimals")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            "Trace: {} events, {:.2} MB, unzipped {:.2} MB",
            self.events,
            mb(self.file_bytes),
            mb(self.json_bytes)
        )
    }
}

/// Writes `trace` to `path` and reads it back.
///
/// # Errors
/// [`Error::Output`] when the file cannot be written, or does not read back as what was written;
/// nothing is left at `path` then.
pub fn write(trace: &Trace, path: &Path) -> Result<Written> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (mut events, mut json_bytes) = (0, 0);
    write_atomic(path, |out| {
        let mut json = Counted {
            inner: BufWriter::with_capacity(1 << 16, GzEncoder::new(out, COMPRESSION)),
            bytes: 0,
        };
        events = json::write(trace, &name, &mut json)?;
        json_bytes = json.bytes;
        let gzip = json.inner.into_inner();
        gzip.map_err(io::IntoInnerError::into_error)?
            .finish()
            .map(drop)
    })?;
    read_back(path, events)
        .map(|file_bytes| Written {
            events,
            json_bytes,
            file_bytes,
        })
        .map_err(|error| {
            let _ = fs::remove_file(path);
            Error::Output {
                path: path.to_owned(),
                message: format!("it does not read back: {error}"),
            }
        })
}

/// Fails unless the file holds `events` events; returns its length.
fn read_back(path: &Path, events: u64) -> io::Result<u64> {
    #[derive(Deserialize)]
    struct Wire {
        /// Values of no size: a count.
        #[serde(rename = "traceEvents")]
        events: Vec<IgnoredAny>,
    }
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let json = BufReader::with_capacity(1 << 16, GzDecoder::new(BufReader::new(file)));
    let found = serde_json::from_reader::<_, Wire>(json)?.events.len() as u64;
    if found == events {
        Ok(length)
    } else {
        let message = format!("{found} events found, {events} written");
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    }
}

/// Counts what passes through.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::profiler::testing::one_of_each;

    const NAME: &str = "id-5_steps-global-rank0.trace.json.gz";

    #[test]
    fn the_file_holds_the_json_in_one_gzip_member() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let written = write(&one_of_each(), &path).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(written.file_bytes, bytes.len() as u64);

        let mut member = GzDecoder::new(bytes.as_slice());
        let mut text = String::new();
        member.read_to_string(&mut text).unwrap();
        assert!(member.into_inner().is_empty());
        let mut json = Vec::new();
        json::write(&one_of_each(), NAME, &mut json).unwrap();
        assert_eq!(text.as_bytes(), json);
        assert_eq!(written.json_bytes, text.len() as u64);
        let events = text.lines().filter(|line| line.contains("\"ph\": "));
        assert_eq!(written.events, events.map(|_| 1).sum::<u64>());
    }

    #[test]
    fn a_file_that_was_cut_or_lacks_events_does_not_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let written = write(&one_of_each(), &path).unwrap();
        assert!(read_back(&path, written.events).is_ok());
        assert!(read_back(&path, written.events + 1).is_err());
        let bytes = fs::read(&path).unwrap();
        for length in [0, 10, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(read_back(&path, written.events).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_trace_that_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME).join(NAME);
        fs::write(folder.path().join(NAME), "").unwrap();
        assert!(matches!(
            write(&one_of_each(), &path),
            Err(Error::Output { .. })
        ));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
