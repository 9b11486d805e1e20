//! The part of a trace that is reported on, kept small: a trace of 500 MB has two million events.

use super::names::{NameId, Names};

/// What is kept of a trace.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    pub(super) names: Names,
    /// Events in the file, of all kinds.
    pub(super) count: u64,
    /// Names of the devices.
    pub(super) devices: Vec<String>,
    /// Ranges of threads, by row, then by start, the outer ones first.
    pub(super) host: Vec<HostRange>,
    /// Work of devices, by start.
    pub(super) work: Vec<Work>,
    /// Memory over time, by time.
    pub(super) memory: Vec<MemorySample>,
    /// The recorded time.
    pub(super) window: Option<Span>,
}

/// Nanoseconds on the trace's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) end: i64,
}

impl Span {
    pub(super) fn duration(self) -> i64 {
        self.end - self.start
    }

    pub(super) fn contains(self, at: i64) -> bool {
        (self.start..self.end).contains(&at)
    }

    /// Time that both share.
    pub(super) fn overlap(self, other: Self) -> i64 {
        (self.end.min(other.end) - self.start.max(other.start)).max(0)
    }
}

/// What a host range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostKind {
    Operator,
    Annotation,
    Call,
}

/// A range of a thread.
#[derive(Debug, Clone)]
pub(super) struct HostRange {
    pub(super) row: u32,
    pub(super) span: Span,
    pub(super) kind: HostKind,
    pub(super) name: NameId,
    /// Of a call.
    pub(super) correlation: Option<u32>,
}

/// What a piece of work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkKind {
    Kernel,
    Copy,
    Set,
}

/// A kernel, copy or set.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) span: Span,
    pub(super) kind: WorkKind,
    pub(super) name: NameId,
    pub(super) correlation: Option<u32>,
    /// Of a copy or set.
    pub(super) bytes: u64,
    /// Of a kernel, in percent.
    pub(super) occupancy_pct: Option<f32>,
    /// Of a graph's node: the operator that it was captured in, and which of the graph's that is.
    pub(super) operator: Option<(NameId, u32)>,
}

/// Memory at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemorySample {
    pub(super) at: i64,
    pub(super) bytes: u64,
    /// Whether it is a device's, in tensors, or the host's, resident.
    pub(super) on_device: bool,
}
