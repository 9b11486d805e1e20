//! What a trace holds, by kind of event: plain data, no I/O.
//!
//! Words are the trace format's: a *call* is one of the CUDA runtime or driver, *work* is what a
//! device does, and a call's *correlation* is carried by the work it launched.

use std::fmt;
use std::sync::Arc;

use super::clock::Timestamp;

/// One recording.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// The wall clock at timestamp 0, in nanoseconds since 1970.
    pub base_time_ns: u64,
    /// When the recording started.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// The process.
    pub process: u32,
    /// Threads that have rows, with their names.
    pub threads: Vec<(u32, String)>,
    /// Loading of components, before the recording or in it, on a row of its own.
    pub loads: Vec<HostRange>,
    /// Operators and annotations, in the order they began.
    pub host: Vec<HostRange>,
    /// Values over time.
    pub counters: Vec<Counter>,
    /// What happened on the devices.
    pub device: DeviceTrace,
}

/// The device's part of a recording; empty without a GPU.
#[derive(Debug, Clone, Default)]
pub struct DeviceTrace {
    /// Devices that have rows.
    pub devices: Vec<DeviceProperties>,
    /// CUPTI, CUDA runtime and driver, as they number themselves (12080 is 12.8).
    pub versions: Option<Versions>,
    /// API calls, in order on each thread; no two share a correlation.
    pub calls: Vec<Call>,
    /// Kernels, copies and sets; in order and disjoint on each stream.
    pub work: Vec<Work>,
    /// Annotations of the host, over the work launched inside them.
    pub annotations: Vec<DeviceAnnotation>,
    /// Waits.
    pub waits: Vec<Wait>,
    /// The profiler's own cost.
    pub overheads: Vec<Overhead>,
    /// Allocations.
    pub memory: Vec<MemoryEvent>,
}

/// A name, without an allocation where it is made of constants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// Known at compile time.
    Static(&'static str),
    /// A word, a separator and a number: `block_3`.
    Numbered(&'static str, char, u64),
    /// Anything else.
    Text(Arc<str>),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(text) => f.write_str(text),
            Self::Numbered(word, separator, number) => write!(f, "{word}{separator}{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// What a range of the host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKind {
    /// An operator.
    Operator,
    /// A named part of the run: stage, step, block.
    Annotation,
}

/// A range of the host's time on one thread.
#[derive(Debug, Clone)]
pub struct HostRange {
    /// Operator or annotation.
    pub kind: HostKind,
    /// Its name.
    pub name: Name,
    /// What device rows refer to; unique in a trace, from 1.
    pub external_id: u64,
    /// The thread.
    pub thread: u32,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// An operator's inputs.
    pub inputs: Option<Arc<Inputs>>,
}

/// Shapes and types of an operator's inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The shape of each.
    pub dims: Vec<Vec<usize>>,
    /// The element type of each, by PyTorch's names.
    pub types: Vec<String>,
}

/// A value at a moment.
#[derive(Debug, Clone)]
pub struct Counter {
    /// The track's name.
    pub track: &'static str,
    /// Names and values; finite.
    pub values: Vec<(&'static str, f64)>,
    /// When.
    pub at: Timestamp,
}

/// Whose call it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `cuda...`
    Runtime,
    /// `cu...`
    Driver,
}

/// A call of the CUDA runtime or driver.
#[derive(Debug, Clone)]
pub struct Call {
    /// Runtime or driver.
    pub api: Api,
    /// The function (`cuLaunchKernelEx`).
    pub name: Name,
    /// The calling thread.
    pub thread: u32,
    /// When it began.
    pub start: Timestamp,
    /// When it returned.
    pub end: Timestamp,
    /// CUPTI's number of the function.
    pub cbid: u32,
    /// Ties the call to its work; more than 0.
    pub correlation: u32,
    /// The innermost host range open around the call.
    pub external_id: Option<u64>,
}

/// Where work runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Queue {
    /// Index of the device.
    pub device: u32,
    /// Context, as CUPTI numbers them.
    pub context: u32,
    /// Stream, as CUPTI numbers them; more than 0.
    pub stream: u32,
}

/// A kernel, copy or set on a stream.
#[derive(Debug, Clone)]
pub struct Work {
    /// Kernel, copy or set.
    pub kind: WorkKind,
    /// Where it ran.
    pub queue: Queue,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// The call that launched it.
    pub correlation: u32,
    /// The host range it was launched in.
    pub external_id: Option<u64>,
    /// The graph it is a node of, and which; 0 outside graphs.
    pub graph: (u32, u64),
    /// The operator that a graph's node was captured in, and which of the graph's operators that is.
    pub operator: Option<(&'static str, u64)>,
}

/// What is particular to a kind of work.
#[derive(Debug, Clone)]
pub enum WorkKind {
    /// A kernel.
    Kernel(Kernel),
    /// A copy.
    Copy {
        /// `HtoD`, `DtoD` and so on.
        direction: &'static str,
        /// `Pinned`, `Device` and so on.
        from: &'static str,
        /// As `from`.
        to: &'static str,
        /// Bytes copied.
        bytes: u64,
    },
    /// A fill.
    Set {
        /// `Device` and so on.
        memory: &'static str,
        /// Bytes filled.
        bytes: u64,
    },
}

/// A kernel's launch.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Demangled.
    pub name: Name,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Registers of a thread.
    pub registers: u32,
    /// Static and dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
    /// Blocks for each multiprocessor.
    pub blocks_per_sm: f64,
    /// Warps for each multiprocessor.
    pub warps_per_sm: f64,
    /// Estimate from launch size and resources; 0 to 100.
    pub occupancy_pct: u32,
    /// Hardware channel and its type.
    pub channel: (u32, u32),
}

/// A host annotation over the work that was launched inside it, on one stream.
#[derive(Debug, Clone)]
pub struct DeviceAnnotation {
    /// The annotation's name.
    pub name: Name,
    /// The annotation's id.
    pub external_id: u64,
    /// The stream.
    pub queue: Queue,
    /// Just before the first piece of work.
    pub start: Timestamp,
    /// Just after the last.
    pub end: Timestamp,
}

/// A wait.
#[derive(Debug, Clone)]
pub struct Wait {
    /// `Stream Sync` and so on.
    pub kind: &'static str,
    /// The device.
    pub device: u32,
    /// The context.
    pub context: u32,
    /// The stream waited for; `None` where a whole context or an event was.
    pub stream: Option<u32>,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// The call.
    pub correlation: u32,
    /// The event waited for.
    pub event: Option<u32>,
    /// Where that was recorded, as far as it is known.
    pub event_record: Option<EventRecord>,
}

/// An event put into a stream: those who wait for it wait for the work before it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRecord {
    /// The stream.
    pub stream: u32,
    /// The call.
    pub correlation: u32,
}

/// A cost of recording.
#[derive(Debug, Clone)]
pub struct Overhead {
    /// `Buffer Flush` and so on.
    pub kind: &'static str,
    /// The thread it fell on; 0 where CUPTI does not say.
    pub thread: u32,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
}

/// An allocation or release of device memory.
#[derive(Debug, Clone)]
pub struct MemoryEvent {
    /// The device.
    pub device: u32,
    /// The thread that asked.
    pub thread: u32,
    /// When.
    pub at: Timestamp,
    /// Address.
    pub address: u64,
    /// Bytes taken, or given back where negative.
    pub bytes: i64,
    /// In tensors after it.
    pub allocated: u64,
    /// Held by the allocator after it.
    pub reserved: u64,
}

impl MemoryEvent {
    /// The memory after it, as a value over time.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact below 9 PB")]
    pub fn counter(&self) -> Counter {
        Counter {
            track: "GPU memory",
            values: vec![("allocated bytes", self.allocated as f64)],
            at: self.at,
        }
    }
}

/// Versions of the CUDA parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the parts' names")]
pub struct Versions {
    pub cupti: u32,
    pub runtime: u32,
    pub driver: u32,
}

/// A device, in the trace format's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "CUDA's names")]
pub struct DeviceProperties {
    pub id: u32,
    pub name: String,
    pub total_global_mem: u64,
    pub compute_major: u32,
    pub compute_minor: u32,
    pub max_threads_per_block: u32,
    pub max_threads_per_multiprocessor: u32,
    pub regs_per_block: u32,
    pub warp_size: u32,
    pub shared_mem_per_block: u32,
    pub num_sms: u32,
    pub regs_per_multiprocessor: u32,
    pub shared_mem_per_block_optin: u32,
    pub shared_mem_per_multiprocessor: u32,
    /// Blocks that a multiprocessor holds at most.
    #[serde(skip)]
    pub max_blocks_per_multiprocessor: u32,
    /// Shared memory that the driver keeps of each block.
    #[serde(skip)]
    pub reserved_shared_mem_per_block: u32,
}
