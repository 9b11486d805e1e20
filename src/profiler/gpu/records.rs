//! What CUPTI told of a recording, before it is put in order: plain data.

use std::collections::{BTreeMap, HashMap};

use crate::ops::span::captured::CapturedOperator;
use crate::profiler::trace::{
    Call, DeviceProperties, EventRecord, MemoryEvent, Overhead, Versions, Wait, Work,
};

/// Events as the records had them. What follows from other events (ids of host ranges, shares of
/// the device, totals of memory) is not set.
#[derive(Debug, Default)]
pub(in crate::profiler) struct Records {
    pub(super) calls: Vec<Call>,
    pub(super) work: Vec<Work>,
    pub(super) waits: Vec<Wait>,
    /// Where each event was put into streams.
    pub(super) events: HashMap<u32, Vec<EventRecord>>,
    pub(super) overheads: Vec<Overhead>,
    pub(super) memory: Vec<MemoryEvent>,
    /// Those of the nodes of graphs, by the nodes' ids.
    pub(super) operators: BTreeMap<u64, CapturedOperator>,
    /// Records that CUPTI had no room for.
    pub(super) dropped: u64,
    /// Bytes of records beyond the bound.
    pub(super) lost_bytes: usize,
}

/// What is known of the device beside the records.
#[derive(Debug, Clone)]
pub(in crate::profiler) struct Facts {
    pub(super) properties: DeviceProperties,
    pub(super) versions: Versions,
    /// Bytes in tensors when the recording started, and bytes held by the allocator.
    pub(super) allocated: u64,
    pub(super) reserved: u64,
}
