//! CUPTI's buffers to [`Records`].

use std::collections::HashMap;
use std::ffi::{CStr, c_char};

use super::cupti::{Buffer, Cupti};
use super::layout::{
    self, CudaEvent, Kernel, Memcpy, Memory, Memset, Overhead, Synchronization, kind,
};
use super::records::Records;
use crate::profiler::clock::Timestamp;
use crate::profiler::trace::{
    self, Api, Call, EventRecord, MemoryEvent, Name, Queue, Wait, Work, WorkKind,
};

/// `CUPTI_SYNCHRONIZATION_INVALID_VALUE`: no stream, no event.
const NONE: u32 = u32::MAX;
/// `CUPTI_ACTIVITY_OBJECT_THREAD`.
const OBJECT_THREAD: u32 = 2;
/// `CUPTI_ACTIVITY_MEMORY_KIND_DEVICE`.
const DEVICE_MEMORY: u32 = 3;
/// `CUPTI_ACTIVITY_MEMORY_POOL_TYPE_LOCAL`.
const LOCAL_POOL: u32 = 1;

/// What a device did, from a record of any kind of work: they share the names of these fields.
macro_rules! work {
    ($record:expr, $kind:expr) => {
        Work {
            kind: $kind,
            queue: Queue {
                device: $record.device_id,
                context: $record.context_id,
                stream: $record.stream_id,
            },
            start: Timestamp($record.start),
            end: Timestamp($record.end),
            correlation: $record.correlation_id,
            external_id: None,
            graph: ($record.graph_id, $record.graph_node_id),
            operator: None,
        }
    };
}

/// Turns records into events.
pub(super) struct Parser<'a> {
    cupti: &'a Cupti,
    /// The device of calls that name none, and the thread of allocations.
    device: u32,
    thread: u32,
    records: Records,
    kernel_names: HashMap<Box<CStr>, Name>,
    function_names: HashMap<(u32, u32), Name>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(cupti: &'a Cupti, device: u32, thread: u32) -> Self {
        Self {
            cupti,
            device,
            thread,
            records: Records::default(),
            kernel_names: HashMap::new(),
            function_names: HashMap::new(),
        }
    }

    /// Reads all records of the buffers.
    pub(super) fn parse(mut self, buffers: Vec<Buffer>) -> Records {
        let cupti = self.cupti;
        for buffer in buffers {
            cupti.for_each_record(buffer, |record| self.record(record));
        }
        self.records
    }

    /// Reads a record that CUPTI made.
    #[expect(unsafe_code, reason = "a record is known by its first field")]
    fn record(&mut self, record: *const u8) {
        /// Copies a record; buffers align to 8 bytes, but records need not.
        unsafe fn read<T: Copy>(record: *const u8) -> T {
            // SAFETY: the caller passes a record that begins with a `T`.
            unsafe { record.cast::<T>().read_unaligned() }
        }
        // SAFETY: every record begins with its kind, and a record of a kind with its layout.
        unsafe {
            match read(record) {
                kind::KERNEL | kind::CONCURRENT_KERNEL => self.kernel(&read(record)),
                kind::MEMCPY => self.copy(&read(record)),
                kind::MEMSET => self.set(&read(record)),
                kind::DRIVER | kind::RUNTIME => self.call(&read(record)),
                kind::OVERHEAD => self.overhead(&read(record)),
                kind::CUDA_EVENT => self.event(&read(record)),
                kind::SYNCHRONIZATION => self.wait(&read(record)),
                kind::MEMORY2 => self.memory(&read(record)),
                _ => {}
            }
        }
    }

    fn kernel(&mut self, record: &Kernel) {
        let unsigned = |number: i32| number.unsigned_abs();
        let kernel = trace::Kernel {
            name: self.kernel_name(record.name),
            grid: record.grid.map(unsigned),
            block: record.block.map(unsigned),
            registers: record.registers_per_thread.into(),
            shared_bytes: unsigned(record.static_shared_memory)
                + unsigned(record.dynamic_shared_memory),
            blocks_per_sm: 0.0,
            warps_per_sm: 0.0,
            occupancy_pct: 0,
            channel: (record.channel_id, record.channel_type),
        };
        self.records
            .work
            .push(work!(record, WorkKind::Kernel(kernel)));
    }

    fn copy(&mut self, record: &Memcpy) {
        let kind = WorkKind::Copy {
            direction: direction(record.copy_kind),
            from: memory(record.src_kind.into()),
            to: memory(record.dst_kind.into()),
            bytes: record.bytes,
        };
        self.records.work.push(work!(record, kind));
    }

    fn set(&mut self, record: &Memset) {
        let kind = WorkKind::Set {
            memory: memory(record.memory_kind.into()),
            bytes: record.bytes,
        };
        self.records.work.push(work!(record, kind));
    }

    fn call(&mut self, record: &layout::Api) {
        let api = match record.kind {
            kind::RUNTIME => Api::Runtime,
            _ => Api::Driver,
        };
        let name = self
            .function_names
            .entry((record.kind, record.cbid))
            .or_insert_with(|| match self.cupti.function_name(api, record.cbid) {
                Some(name) => Name::Static(name),
                None => Name::Text(format!("function {}", record.cbid).into()),
            });
        self.records.calls.push(Call {
            api,
            name: name.clone(),
            thread: record.thread_id,
            start: Timestamp(record.start),
            end: Timestamp(record.end),
            cbid: record.cbid,
            correlation: record.correlation_id,
            external_id: None,
        });
    }

    fn overhead(&mut self, record: &Overhead) {
        let thread = match record.object_kind {
            OBJECT_THREAD => record.object_id[1],
            _ => 0,
        };
        self.records.overheads.push(trace::Overhead {
            kind: overhead(record.overhead_kind),
            thread,
            start: Timestamp(record.start),
            end: Timestamp(record.end),
        });
    }

    fn event(&mut self, record: &CudaEvent) {
        let recorded = EventRecord {
            stream: record.stream_id,
            correlation: record.correlation_id,
        };
        (self.records.events.entry(record.event_id))
            .or_default()
            .push(recorded);
    }

    fn wait(&mut self, record: &Synchronization) {
        let known = |number: u32| (number != NONE).then_some(number);
        let (kind, has_stream) = match record.sync_kind {
            1 => ("Event Sync", false),
            2 => ("Stream Wait Event", true),
            3 => ("Stream Sync", true),
            4 => ("Context Sync", false),
            _ => return,
        };
        self.records.waits.push(Wait {
            kind,
            device: self.device,
            context: record.context_id,
            stream: known(record.stream_id).filter(|_| has_stream),
            start: Timestamp(record.start),
            end: Timestamp(record.end),
            correlation: record.correlation_id,
            event: known(record.event_id),
            event_record: None,
        });
    }

    fn memory(&mut self, record: &Memory) {
        let bytes = i64::try_from(record.bytes).unwrap_or(i64::MAX);
        let bytes = match record.operation {
            1 => bytes,
            2 => -bytes,
            _ => return,
        };
        if record.memory_kind != DEVICE_MEMORY {
            return;
        }
        self.records.memory.push(MemoryEvent {
            device: record.device_id,
            thread: self.thread,
            at: Timestamp(record.timestamp),
            address: record.address,
            bytes,
            allocated: 0,
            reserved: match record.pool_type {
                LOCAL_POOL => record.pool_size,
                _ => 0,
            },
        });
    }

    #[expect(unsafe_code, reason = "a C string")]
    fn kernel_name(&mut self, name: *const c_char) -> Name {
        if name.is_null() {
            return Name::Static("a kernel without a name");
        }
        // SAFETY: CUPTI keeps the names of kernels while their modules are loaded; ours stay.
        let name = unsafe { CStr::from_ptr(name) };
        if let Some(known) = self.kernel_names.get(name) {
            return known.clone();
        }
        let readable = Name::Text(demangled(name).into());
        self.kernel_names.insert(name.into(), readable.clone());
        readable
    }
}

/// The name as in the source; `extern "C"` kernels have it already.
fn demangled(name: &CStr) -> String {
    let symbol = cpp_demangle::Symbol::new(name.to_bytes());
    symbol
        .ok()
        .and_then(|symbol| symbol.demangle().ok())
        .unwrap_or_else(|| name.to_string_lossy().into_owned())
}

/// `CUpti_ActivityMemcpyKind`.
fn direction(copy_kind: u8) -> &'static str {
    const DIRECTIONS: [&str; 11] = [
        "Unknown", "HtoD", "DtoH", "HtoA", "AtoH", "AtoA", "AtoD", "DtoA", "DtoD", "HtoH", "PtoP",
    ];
    DIRECTIONS.get(usize::from(copy_kind)).unwrap_or(&"Unknown")
}

/// `CUpti_ActivityMemoryKind`.
fn memory(kind: u32) -> &'static str {
    match kind {
        1 => "Pageable",
        2 => "Pinned",
        3 => "Device",
        4 => "Array",
        5 => "Managed",
        6 => "Device Static",
        7 => "Managed Static",
        _ => "Unknown",
    }
}

/// `CUpti_ActivityOverheadKind`.
fn overhead(kind: u32) -> &'static str {
    match (kind & 0xffff, kind >> 16) {
        (1, 0) => "Driver Compiler",
        (0, 1) => "Buffer Flush",
        (0, 2) => "Instrumentation",
        (0, 3) => "Resource",
        (0, 4) => "Runtime Triggered Module Loading",
        (0, 5) => "Lazy Function Loading",
        (0, 6) => "Command Buffer Full",
        (0, 7) => "Activity Buffer Request",
        (0, 8) => "UVM Activity Init",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_source() {
        for (name, readable) in [
            (c"rms_norm_bf16", "rms_norm_bf16"),
            (c"_Z3addPfi", "add(float*, int)"),
            (c"_Znonsense", "_Znonsense"),
            (c"nvjet_sm90_tst_64x8", "nvjet_sm90_tst_64x8"),
        ] {
            assert_eq!(demangled(name), readable);
        }
    }

    #[test]
    fn numbers_that_are_not_known_are_no_harm() {
        assert_eq!((direction(8), direction(200)), ("DtoD", "Unknown"));
        assert_eq!((memory(3), memory(200)), ("Device", "Unknown"));
        assert_eq!(
            (overhead(65536), overhead(1)),
            ("Buffer Flush", "Driver Compiler")
        );
        assert_eq!(overhead(u32::MAX), "Unknown");
    }
}
