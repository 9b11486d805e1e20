//! The conversion of records, on made-up ones.

use super::convert::device_trace;
use super::records::{Facts, Records};
use crate::profiler::clock::Timestamp;
use crate::profiler::testing::{call, h100, kernel, range, work};
use crate::profiler::trace::{
    Api, Call, DeviceTrace, EventRecord, HostKind, HostRange, MemoryEvent, Name, Trace, Versions,
    Wait, Work, WorkKind,
};

fn launch(correlation: u32, start: u64, end: u64) -> Work {
    work(WorkKind::Kernel(kernel("k")), correlation, start, end)
}

fn call_at(correlation: u32, start: u64) -> Call {
    called("cuLaunchKernel", Api::Driver, correlation, start)
}

/// As the records have it, without a range.
fn called(name: &'static str, api: Api, correlation: u32, start: u64) -> Call {
    Call {
        external_id: None,
        ..call(name, api, correlation, start)
    }
}

fn annotation(name: &'static str, id: u64, start: u64, end: u64) -> HostRange {
    range(HostKind::Annotation, Name::Static(name), id, start, end)
}

fn operator(id: u64, start: u64, end: u64) -> HostRange {
    range(HostKind::Operator, Name::Static("op"), id, start, end)
}

fn convert(records: Records, host: &[HostRange]) -> (DeviceTrace, Vec<String>) {
    let facts = Facts {
        properties: h100(),
        versions: Versions {
            cupti: 130_001,
            runtime: 13000,
            driver: 13000,
        },
        allocated: 1000,
        reserved: 4096,
    };
    let (device, warnings) = device_trace(records, facts, host);
    let trace = Trace {
        process: 412,
        host: host.to_vec(),
        device,
        ..Trace::default()
    };
    assert_eq!(trace.first_overlap(), None);
    (trace.device, warnings)
}

fn times<T>(items: &[T], times: impl Fn(&T) -> (Timestamp, Timestamp)) -> Vec<(u64, u64)> {
    let times = items.iter().map(times);
    times.map(|(start, end)| (start.0, end.0)).collect()
}

#[test]
fn a_kernel_ends_where_a_dependent_one_starts() {
    let records = Records {
        work: vec![
            launch(2, 190, 300),
            launch(1, 100, 200),
            launch(3, 300, 300),
            launch(4, 300, 350),
        ],
        ..Records::default()
    };
    let (device, _) = convert(records, &[]);
    assert_eq!(
        times(&device.work, |work| (work.start, work.end)),
        [(100, 190), (190, 300), (300, 301), (301, 350)]
    );
}

#[test]
fn streams_do_not_wait_for_each_other() {
    let mut other = launch(2, 150, 250);
    other.queue.stream = 13;
    let records = Records {
        work: vec![launch(1, 100, 200), other, launch(3, 210, 220)],
        ..Records::default()
    };
    let (device, _) = convert(records, &[]);
    assert_eq!(
        times(&device.work, |work| (work.start, work.end)),
        [(100, 200), (210, 220), (150, 250)]
    );
}

#[test]
fn work_is_joined_with_the_host_by_its_call() {
    let host = [
        annotation("step", 1, 0, 650),
        operator(2, 10, 120),
        operator(3, 120, 400),
    ];
    let mut elsewhere = call_at(10, 20);
    elsewhere.thread += 1;
    let records = Records {
        calls: vec![call_at(7, 20), call_at(8, 500), call_at(9, 700), elsewhere],
        work: vec![
            launch(7, 200, 300),
            launch(8, 600, 700),
            launch(9, 800, 900),
            launch(10, 900, 1000),
        ],
        ..Records::default()
    };
    let (device, warnings) = convert(records, &host);
    let ids: Vec<_> = device.work.iter().map(|work| work.external_id).collect();
    assert_eq!(ids, [Some(2), Some(1), None, None]);
    let ids: Vec<_> = device.calls.iter().map(|call| call.external_id).collect();
    assert_eq!(ids, [Some(2), Some(1), None, None]);
    assert!(warnings.is_empty());
    let WorkKind::Kernel(kernel) = &device.work[0].kind else {
        unreachable!("all work is kernels")
    };
    assert!((kernel.blocks_per_sm - 0.5).abs() < 1e-9);
    assert_eq!(kernel.occupancy_pct, 3);
}

#[test]
fn annotations_span_the_work_launched_in_them_and_nest() {
    let host = [
        annotation("step 1", 1, 0, 100),
        annotation("block", 2, 10, 50),
        operator(3, 20, 30),
        annotation("tail", 4, 60, 90),
        annotation("step 2", 5, 100, 200),
        annotation("idle", 6, 110, 120),
    ];
    let records = Records {
        // The second starts right after the first, the third a nanosecond later, the fourth later.
        work: vec![
            launch(1, 1000, 1100),
            launch(2, 1100, 1200),
            launch(3, 1201, 1300),
            launch(4, 2000, 2100),
        ],
        calls: [(1, 20), (2, 60), (3, 100), (4, 150)]
            .map(|(correlation, start)| Call {
                end: Timestamp(start + 10),
                ..call_at(correlation, start)
            })
            .into(),
        ..Records::default()
    };
    let (device, _) = convert(records, &host);
    let mut found: Vec<_> = (device.annotations.iter())
        .map(|a| (a.name.to_string(), a.start.0, a.end.0))
        .collect();
    found.sort_by_key(|(_, start, end)| (*start, std::cmp::Reverse(*end)));
    let expected = [
        ("step 1", 999, 1201),
        ("block", 999, 1100),
        ("tail", 1100, 1201),
        ("step 2", 1201, 2101),
    ];
    let expected = expected.map(|(name, start, end)| (name.to_owned(), start, end));
    assert_eq!(found, expected);
}

#[test]
fn of_calls_with_one_correlation_the_outer_one_stays() {
    let mut inner = call_at(5, 120);
    inner.end = Timestamp(150);
    let mut outer = called("cudaLaunchKernel", Api::Runtime, 5, 100);
    outer.end = Timestamp(200);
    let records = Records {
        calls: vec![inner, outer, call_at(0, 300)],
        work: vec![launch(5, 400, 500)],
        ..Records::default()
    };
    let (device, warnings) = convert(records, &[]);
    assert_eq!(device.calls.len(), 1);
    assert_eq!(device.calls[0].name.to_string(), "cudaLaunchKernel");
    assert!(warnings.is_empty());
}

#[test]
fn a_set_without_work_is_left_out_while_no_record_is_lost() {
    let set = |correlation, start| called("cudaMemsetAsync", Api::Runtime, correlation, start);
    let records = |dropped| Records {
        calls: vec![set(1, 10), set(2, 200)],
        work: vec![work(
            WorkKind::Set {
                bytes: 4,
                memory: "Device",
            },
            2,
            300,
            310,
        )],
        dropped,
        ..Records::default()
    };
    let correlations = |dropped| {
        let (device, _) = convert(records(dropped), &[]);
        let calls = device.calls.iter();
        calls.map(|call| call.correlation).collect::<Vec<_>>()
    };
    assert_eq!(correlations(0), [2]);
    let without_sets = Records {
        work: Vec::new(),
        ..records(0)
    };
    assert_eq!(convert(without_sets, &[]).0.calls.len(), 2);
    assert_eq!(correlations(1), [1, 2]);
}

#[test]
fn a_graphs_work_is_of_the_operator_that_its_node_was_captured_in() {
    let node = |id, start| Work {
        graph: (2, id),
        ..launch(6, start, start + 10)
    };
    let linear = ("qwen::linear", 3);
    let records = Records {
        work: vec![node(31, 600), node(32, 700), launch(7, 800, 900)],
        operators: [(31, linear)].into(),
        ..Records::default()
    };
    let (device, _) = convert(records, &[]);
    let operators: Vec<_> = device.work.iter().map(|work| work.operator).collect();
    assert_eq!(operators, [Some(linear), None, None]);
}

#[test]
fn what_was_captured_is_left_out() {
    let of_another_thread = Call {
        thread: 413,
        ..called("cuLaunchKernelEx", Api::Driver, 5, 300)
    };
    let records = Records {
        calls: vec![
            called("cuStreamBeginCapture_v2", Api::Driver, 1, 100),
            called("cuLaunchKernelEx", Api::Driver, 2, 200),
            called("cuMemcpyDtoDAsync_v2", Api::Driver, 3, 300),
            called("cuStreamEndCapture", Api::Driver, 4, 400),
            called("cuGraphLaunch", Api::Driver, 6, 500),
            of_another_thread,
        ],
        work: vec![launch(5, 310, 400), launch(6, 600, 700)],
        ..Records::default()
    };
    let (device, warnings) = convert(records, &[]);
    let calls = device.calls.iter().map(|call| call.correlation);
    assert_eq!(calls.collect::<Vec<_>>(), [1, 4, 6, 5]);
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn what_is_missing_is_told() {
    let records = Records {
        calls: vec![
            call_at(1, 10),
            called("cudaLaunchKernelExC", Api::Runtime, 2, 200),
            called("cuMemcpyHtoDAsync_v2", Api::Driver, 3, 400),
            called("cuGraphLaunch", Api::Driver, 4, 600),
        ],
        work: vec![
            launch(1, 100, 200),
            launch(4, 700, 800),
            launch(4, 800, 900),
        ],
        dropped: 12,
        lost_bytes: 1,
        ..Records::default()
    };
    let (_, warnings) = convert(records, &[]);
    assert_eq!(
        warnings,
        [
            "the trace has 3 kernels for 2 launches; launches without a kernel: 1",
            "the trace lacks 12 GPU records: CUPTI had no room for them",
            "the trace lacks GPU records of 1 MiB: the first 1024 MiB are kept",
        ]
    );
}

#[test]
fn memory_totals_follow_from_the_baseline() {
    let event = |at, bytes, reserved| MemoryEvent {
        device: 0,
        thread: 412,
        at: Timestamp(at),
        address: 0x200,
        bytes,
        allocated: 0,
        reserved,
    };
    let records = Records {
        memory: vec![event(30, -512, 8192), event(10, 512, 0), event(20, 9000, 0)],
        ..Records::default()
    };
    let (device, _) = convert(records, &[]);
    let totals: Vec<_> = (device.memory.iter())
        .map(|event| (event.allocated, event.reserved))
        .collect();
    assert_eq!(totals, [(1512, 4096), (10_512, 10_512), (10_000, 10_000)]);
}

fn wait(start: u64, correlation: u32, event: Option<u32>) -> Wait {
    Wait {
        kind: "Stream Wait Event",
        device: 0,
        context: 1,
        stream: Some(7),
        start: Timestamp(start),
        end: Timestamp(start + 5),
        correlation,
        event,
        event_record: None,
    }
}

#[test]
fn waits_are_in_order() {
    let records = Records {
        waits: vec![wait(20, 2, None), wait(10, 1, None)],
        ..Records::default()
    };
    let (device, _) = convert(records, &[]);
    assert_eq!(
        times(&device.waits, |wait| (wait.start, wait.end)),
        [(10, 15), (20, 25)]
    );
}

#[test]
fn a_wait_is_for_the_last_record_of_its_event_before_it() {
    let record = |stream, correlation| EventRecord {
        stream,
        correlation,
    };
    let records = Records {
        waits: vec![
            wait(10, 5, Some(1)),
            wait(20, 9, Some(1)),
            wait(30, 2, Some(1)),
            wait(40, 10, Some(2)),
            wait(50, 11, None),
        ],
        events: [(1, vec![record(8, 7), record(7, 3)])].into(),
        ..Records::default()
    };
    let (device, _) = convert(records, &[]);
    let found: Vec<_> = device.waits.iter().map(|wait| wait.event_record).collect();
    let expected = [Some(record(7, 3)), Some(record(8, 7)), None, None, None];
    assert_eq!(found, expected);
}
