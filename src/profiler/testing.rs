//! What the profiler's tests share: a trace with one of every kind of event.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock::Timestamp;
use super::trace::{
    Api, Call, Counter, DeviceAnnotation, DeviceProperties, DeviceTrace, EventRecord, HostKind,
    HostRange, Inputs, Kernel, MemoryEvent, Name, Overhead, Queue, Trace, Versions, Wait, Work,
    WorkKind,
};

/// Held by tests that record: `tracing` keeps one cache of who listens for all threads.
pub(crate) fn recording_alone() -> MutexGuard<'static, ()> {
    static RECORDING: Mutex<()> = Mutex::new(());
    RECORDING.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn range(kind: HostKind, name: Name, id: u64, start: u64, end: u64) -> HostRange {
    HostRange {
        kind,
        name,
        external_id: id,
        thread: 412,
        start: Timestamp(start),
        end: Timestamp(end),
        inputs: None,
    }
}

pub(super) fn text(name: &str) -> Name {
    Name::Text(name.into())
}

pub(super) fn call(name: &'static str, api: Api, correlation: u32, start: u64) -> Call {
    Call {
        api,
        name: Name::Static(name),
        thread: 412,
        start: Timestamp(start),
        end: Timestamp(start + 100),
        cbid: 652,
        correlation,
        external_id: Some(2),
    }
}

pub(super) fn work(kind: WorkKind, correlation: u32, start: u64, end: u64) -> Work {
    Work {
        kind,
        queue: QUEUE,
        start: Timestamp(start),
        end: Timestamp(end),
        correlation,
        external_id: Some(2),
        graph: (0, 0),
        operator: None,
    }
}

pub(super) const QUEUE: Queue = Queue {
    device: 0,
    context: 1,
    stream: 7,
};

/// One of every kind of event.
pub(super) fn one_of_each() -> Trace {
    let mut operator = range(
        HostKind::Operator,
        Name::Static("qwen::linear"),
        2,
        2100,
        3500,
    );
    operator.inputs = Some(Arc::new(Inputs {
        dims: vec![vec![256, 384], vec![1152, 384], vec![]],
        types: ["float", "float", "Scalar"].map(Into::into).to_vec(),
    }));
    Trace {
        base_time_ns: 1_767_323_045_000_000_000,
        start: Timestamp(1_000),
        end: Timestamp(9_001_000),
        process: 412,
        threads: vec![(412, "main".into())],
        loads: vec![HostRange {
            thread: 0,
            ..range(HostKind::Annotation, Name::Static("load vae"), 3, 0, 500)
        }],
        host: vec![
            range(
                HostKind::Annotation,
                Name::Numbered("ProfilerStep", '#', 1),
                1,
                2000,
                4000,
            ),
            operator,
        ],
        counters: vec![Counter {
            track: "denoising",
            values: vec![("step", 1.0), ("sigma", 0.875)],
            at: Timestamp(2000),
        }],
        device: device(),
    }
}

/// An H100's properties.
pub(super) fn h100() -> DeviceProperties {
    DeviceProperties {
        id: 0,
        name: "NVIDIA H100 80GB HBM3".into(),
        total_global_mem: 85_029_158_912,
        compute_major: 9,
        compute_minor: 0,
        max_threads_per_block: 1024,
        max_threads_per_multiprocessor: 2048,
        regs_per_block: 65536,
        warp_size: 32,
        shared_mem_per_block: 49152,
        num_sms: 132,
        regs_per_multiprocessor: 65536,
        shared_mem_per_block_optin: 232_448,
        shared_mem_per_multiprocessor: 233_472,
        max_blocks_per_multiprocessor: 32,
        reserved_shared_mem_per_block: 1024,
    }
}

/// A kernel of half a block for each multiprocessor, its derived fields not set.
pub(super) fn kernel(name: &str) -> Kernel {
    Kernel {
        name: text(name),
        grid: [66, 1, 1],
        block: [128, 1, 1],
        registers: 32,
        shared_bytes: 0,
        blocks_per_sm: 0.0,
        warps_per_sm: 0.0,
        occupancy_pct: 0,
        channel: (0, 0),
    }
}

fn device() -> DeviceTrace {
    let kernel = WorkKind::Kernel(Kernel {
        name: text("void gemm<float, 8>(float*, int)"),
        grid: [4, 24, 1],
        block: [384, 1, 1],
        registers: 168,
        shared_bytes: 221_460,
        blocks_per_sm: 0.75,
        warps_per_sm: 9.0,
        occupancy_pct: 14,
        channel: (8, 1),
    });
    let copy = WorkKind::Copy {
        direction: "HtoD",
        from: "Pageable",
        to: "Device",
        bytes: 4096,
    };
    let set = WorkKind::Set {
        memory: "Device",
        bytes: 64,
    };
    DeviceTrace {
        devices: vec![DeviceProperties {
            name: "NVIDIA H100".into(),
            num_sms: 132,
            ..DeviceProperties::default()
        }],
        versions: Some(Versions {
            cupti: 130_001,
            runtime: 13000,
            driver: 13000,
        }),
        calls: vec![
            call("cuLaunchKernelEx", Api::Driver, 11, 2200),
            call("cudaMemcpyAsync", Api::Runtime, 12, 2400),
            call("cuMemsetD8Async", Api::Driver, 13, 2600),
            call("cuStreamSynchronize", Api::Driver, 14, 2800),
            call("cuStreamQuery", Api::Driver, 15, 3000),
        ],
        work: vec![
            Work {
                graph: (2, 31),
                operator: Some(("qwen::linear", 3)),
                ..work(kernel, 11, 3000, 34_903)
            },
            work(copy, 12, 34_903, 38_999),
            work(set, 13, 39_000, 39_000),
        ],
        annotations: vec![DeviceAnnotation {
            name: Name::Numbered("ProfilerStep", '#', 1),
            external_id: 1,
            queue: QUEUE,
            start: Timestamp(2999),
            end: Timestamp(39_001),
        }],
        waits: vec![
            Wait {
                kind: "Stream Sync",
                device: 0,
                context: 1,
                stream: Some(7),
                start: Timestamp(2810),
                end: Timestamp(2890),
                correlation: 14,
                event: None,
                event_record: None,
            },
            Wait {
                kind: "Stream Wait Event",
                device: 0,
                context: 1,
                stream: Some(7),
                start: Timestamp(2892),
                end: Timestamp(2896),
                correlation: 16,
                event: Some(3),
                event_record: Some(EventRecord {
                    stream: 13,
                    correlation: 15,
                }),
            },
        ],
        overheads: vec![Overhead {
            kind: "Buffer Flush",
            thread: 413,
            start: Timestamp(50_000),
            end: Timestamp(60_000),
        }],
        memory: vec![MemoryEvent {
            device: 0,
            thread: 412,
            at: Timestamp(2500),
            address: 0x7f00_0000_0200,
            bytes: -512,
            allocated: 1024,
            reserved: 2_097_152,
        }],
    }
}
