//! The `args` of each kind of event, with the trace format's keys.

use serde::{Serialize, Serializer};

use super::trace::{
    Api, Call, HostRange, Inputs, Kernel, MemoryEvent, Queue, Wait, Work, WorkKind,
};

/// Of operators and annotations.
#[derive(Serialize)]
pub(super) struct HostArgs<'a> {
    #[serde(rename = "External id")]
    external_id: u64,
    #[serde(rename = "Record function id")]
    record_function_id: u32,
    #[serde(rename = "Ev Idx")]
    index: usize,
    #[serde(rename = "Input Dims", skip_serializing_if = "Option::is_none")]
    dims: Option<&'a [Vec<usize>]>,
    #[serde(rename = "Input type", skip_serializing_if = "Option::is_none")]
    types: Option<&'a [String]>,
}

impl<'a> HostArgs<'a> {
    pub(super) fn new(index: usize, range: &'a HostRange) -> Self {
        let inputs: Option<&Inputs> = range.inputs.as_deref();
        Self {
            external_id: range.external_id,
            record_function_id: 0,
            index,
            dims: inputs.map(|inputs| inputs.dims.as_slice()),
            types: inputs.map(|inputs| inputs.types.as_slice()),
        }
    }
}

/// Of API calls.
#[derive(Serialize)]
pub(super) struct CallArgs {
    #[serde(rename = "External id", skip_serializing_if = "Option::is_none")]
    external_id: Option<u64>,
    cbid: u32,
    correlation: u32,
}

impl From<&Call> for CallArgs {
    fn from(call: &Call) -> Self {
        Self {
            external_id: call.external_id,
            cbid: call.cbid,
            correlation: call.correlation,
        }
    }
}

impl Api {
    pub(super) fn category(self) -> &'static str {
        match self {
            Self::Runtime => "cuda_runtime",
            Self::Driver => "cuda_driver",
        }
    }
}

/// What kernels, copies and sets share.
#[derive(Serialize)]
struct Launch {
    #[serde(rename = "External id", skip_serializing_if = "Option::is_none")]
    external_id: Option<u64>,
    device: u32,
    context: u32,
    stream: u32,
    correlation: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<&'static str>,
    #[serde(rename = "operator index", skip_serializing_if = "Option::is_none")]
    operator_index: Option<u64>,
}

impl Launch {
    fn new(work: &Work) -> Self {
        let Queue {
            device,
            context,
            stream,
        } = work.queue;
        Self {
            external_id: work.external_id,
            device,
            context,
            stream,
            correlation: work.correlation,
            operator: work.operator.map(|(name, _)| name),
            operator_index: work.operator.map(|(_, index)| index),
        }
    }
}

/// Of kernels.
#[derive(Serialize)]
pub(super) struct KernelArgs {
    queued: u32,
    #[serde(flatten)]
    launch: Launch,
    #[serde(rename = "registers per thread")]
    registers: u32,
    #[serde(rename = "shared memory")]
    shared_bytes: u32,
    #[serde(rename = "blocks per SM")]
    blocks_per_sm: f64,
    #[serde(rename = "warps per SM")]
    warps_per_sm: f64,
    grid: [u32; 3],
    block: [u32; 3],
    #[serde(rename = "est. achieved occupancy %")]
    occupancy_pct: u32,
    #[serde(rename = "graph id")]
    graph: u32,
    #[serde(rename = "graph node id")]
    graph_node: u64,
    channel: u32,
    channel_type: u32,
}

impl KernelArgs {
    pub(super) fn new(work: &Work, kernel: &Kernel) -> Self {
        Self {
            queued: 0,
            launch: Launch::new(work),
            registers: kernel.registers,
            shared_bytes: kernel.shared_bytes,
            blocks_per_sm: kernel.blocks_per_sm,
            warps_per_sm: kernel.warps_per_sm,
            grid: kernel.grid,
            block: kernel.block,
            occupancy_pct: kernel.occupancy_pct,
            graph: work.graph.0,
            graph_node: work.graph.1,
            channel: kernel.channel.0,
            channel_type: kernel.channel.1,
        }
    }
}

/// Of copies and sets.
#[derive(Serialize)]
pub(super) struct MemArgs {
    #[serde(flatten)]
    launch: Launch,
    bytes: u64,
    #[serde(
        rename = "memory bandwidth (GB/s)",
        skip_serializing_if = "Option::is_none"
    )]
    bandwidth: Option<f64>,
}

impl MemArgs {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(super) fn new(work: &Work, bytes: u64) -> Self {
        let duration_ns = work.end.since(work.start).0;
        Self {
            launch: Launch::new(work),
            bytes,
            bandwidth: (duration_ns > 0).then(|| bytes as f64 / duration_ns as f64),
        }
    }
}

impl WorkKind {
    pub(super) fn category(&self) -> &'static str {
        match self {
            Self::Kernel(_) => "kernel",
            Self::Copy { .. } => "gpu_memcpy",
            Self::Set { .. } => "gpu_memset",
        }
    }
}

/// Of device annotations.
#[derive(Serialize)]
pub(super) struct AnnotationArgs {
    #[serde(rename = "External id")]
    pub(super) external_id: u64,
}

/// Of waits.
#[derive(Serialize)]
pub(super) struct WaitArgs {
    cuda_sync_kind: &'static str,
    stream: i64,
    correlation: u32,
    device: u32,
    context: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_on_stream: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_on_cuda_event_record_corr_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_on_cuda_event_id: Option<u32>,
}

impl From<&Wait> for WaitArgs {
    fn from(wait: &Wait) -> Self {
        Self {
            cuda_sync_kind: wait.kind,
            stream: wait.stream.map_or(-1, i64::from),
            correlation: wait.correlation,
            device: wait.device,
            context: wait.context,
            wait_on_stream: wait.event_record.map(|record| record.stream),
            wait_on_cuda_event_record_corr_id: wait.event_record.map(|record| record.correlation),
            wait_on_cuda_event_id: wait.event,
        }
    }
}

/// Of memory events; `Device Type` 1 is CUDA.
#[derive(Serialize)]
pub(super) struct MemoryArgs {
    #[serde(rename = "Total Reserved")]
    reserved: u64,
    #[serde(rename = "Total Allocated")]
    allocated: u64,
    #[serde(rename = "Bytes")]
    bytes: i64,
    #[serde(rename = "Device Id")]
    device: u32,
    #[serde(rename = "Device Type")]
    device_type: u32,
    #[serde(rename = "Addr")]
    address: u64,
}

impl From<&MemoryEvent> for MemoryArgs {
    fn from(event: &MemoryEvent) -> Self {
        Self {
            reserved: event.reserved,
            allocated: event.allocated,
            bytes: event.bytes,
            device: event.device,
            device_type: 1,
            address: event.address,
        }
    }
}

/// Of counters.
pub(super) struct CounterArgs<'a>(pub(super) &'a [(&'static str, f64)]);

impl Serialize for CounterArgs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}
