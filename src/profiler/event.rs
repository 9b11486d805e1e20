//! One event of a trace as one line of JSON.
//!
//! Numbers are printed here; every string that is not a constant goes through serde, which
//! escapes it.

use std::io::{self, Write};

use serde::{Serialize, Serializer};

use super::clock::Timestamp;
use super::trace::Name;

/// A row of a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Row {
    pub(super) pid: Id,
    pub(super) tid: Id,
}

/// A number, or the text of one of the format's fixed rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Id {
    Number(i64),
    Text(&'static str),
}

impl Row {
    pub(super) fn new(pid: impl Into<i64>, tid: impl Into<i64>) -> Self {
        Self {
            pid: Id::Number(pid.into()),
            tid: Id::Number(tid.into()),
        }
    }

    pub(super) const fn fixed(pid: &'static str, tid: &'static str) -> Self {
        Self {
            pid: Id::Text(pid),
            tid: Id::Text(tid),
        }
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// No arguments.
pub(super) const NO_ARGS: Option<&()> = None;

/// Writes events into the list they are elements of.
pub(super) struct EventWriter<'a> {
    out: &'a mut dyn Write,
    line: Vec<u8>,
    count: u64,
}

impl<'a> EventWriter<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            line: Vec::new(),
            count: 0,
        }
    }

    /// Events written.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// A range.
    pub(super) fn range(
        &mut self,
        category: &'static str,
        name: &Name,
        row: Row,
        (start, end): (Timestamp, Timestamp),
        args: Option<&impl Serialize>,
    ) -> io::Result<()> {
        self.begin("X", name, row, start)?;
        write!(
            self.line,
            r#", "cat": "{category}", "dur": {}"#,
            end.since(start)
        )?;
        self.end(args)
    }

    /// A moment; `scope` is `g` for the whole trace, `t` for the row.
    pub(super) fn instant(
        &mut self,
        category: Option<&'static str>,
        name: &'static str,
        scope: &'static str,
        row: Row,
        at: Timestamp,
        args: Option<&impl Serialize>,
    ) -> io::Result<()> {
        self.begin("i", &Name::Static(name), row, at)?;
        write!(self.line, r#", "s": "{scope}""#)?;
        if let Some(category) = category {
            write!(self.line, r#", "cat": "{category}""#)?;
        }
        self.end(args)
    }

    /// The start or the end of the arrow from a call to its work.
    pub(super) fn flow(&mut self, end: bool, id: u32, row: Row, at: Timestamp) -> io::Result<()> {
        let phase = if end { "f" } else { "s" };
        self.begin(phase, &Name::Static("ac2g"), row, at)?;
        write!(self.line, r#", "cat": "ac2g", "id": {id}"#)?;
        if end {
            // To the slice around the moment; without it, to the next one.
            write!(self.line, r#", "bp": "e""#)?;
        }
        self.end(NO_ARGS)
    }

    /// Values of a track.
    pub(super) fn counter(
        &mut self,
        track: &'static str,
        row: Row,
        at: Timestamp,
        values: &impl Serialize,
    ) -> io::Result<()> {
        self.begin("C", &Name::Static(track), row, at)?;
        self.end(Some(values))
    }

    /// Something about a row or its process.
    pub(super) fn metadata(
        &mut self,
        what: &'static str,
        row: Row,
        at: Timestamp,
        args: &impl Serialize,
    ) -> io::Result<()> {
        self.begin("M", &Name::Static(what), row, at)?;
        self.end(Some(args))
    }

    fn begin(
        &mut self,
        phase: &'static str,
        name: &Name,
        row: Row,
        at: Timestamp,
    ) -> io::Result<()> {
        let separator = if self.count == 0 { "" } else { "," };
        self.count += 1;
        self.line.clear();
        write!(
            self.line,
            "{separator}\n    {{\"ph\": \"{phase}\", \"name\": "
        )?;
        serde_json::to_writer(&mut self.line, name)?;
        self.line.extend_from_slice(b", \"pid\": ");
        serde_json::to_writer(&mut self.line, &row.pid)?;
        self.line.extend_from_slice(b", \"tid\": ");
        serde_json::to_writer(&mut self.line, &row.tid)?;
        write!(self.line, ", \"ts\": {at}")
    }

    fn end(&mut self, args: Option<&impl Serialize>) -> io::Result<()> {
        if let Some(args) = args {
            self.line.extend_from_slice(b", \"args\": ");
            serde_json::to_writer(&mut self.line, args)?;
        }
        self.line.push(b'}');
        self.out.write_all(&self.line)
    }
}
