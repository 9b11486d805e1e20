//! The rows of a trace: their numbers, names and order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde_json::json;

use super::event::{EventWriter, Id, Row};
use super::trace::{Trace, Wait};

/// The program, as viewers name its process.
const PROCESS: &str = "qwen-gen";
/// The row of component loading; no thread has this id.
pub(super) const LOADING: u32 = 0;
/// The process of what recording the device costs; its rows are the threads that pay.
pub(super) const OVERHEADS: i64 = -1;
/// Below the devices.
const OVERHEADS_SORT_INDEX: i64 = 6_000_000;
/// A wait for a stream begins in the middle of the stream's work, so it has a row this far off.
const STREAM_WAITS: i64 = 1_000_000;
/// The row of the recording itself.
pub(super) const SPANS: Row = Row::fixed("Spans", "PyTorch Profiler");
/// Far below all other processes.
const SPANS_SORT_INDEX: i64 = 536_870_912;
/// Below the host, above the spans.
const DEVICE_SORT_INDEX: i64 = 5_000_000;

/// Context and event waits share a row.
pub(super) fn wait_tid(wait: &Wait) -> i64 {
    wait.stream
        .map_or(-1, |stream| STREAM_WAITS + i64::from(stream))
}

/// Names and order of the rows in use.
pub(super) fn metadata(trace: &Trace, events: &mut EventWriter<'_>) -> io::Result<()> {
    let at = trace.start;
    let process = i64::from(trace.process);
    // Number -> label and place of a process; row -> its name.
    let mut processes = BTreeMap::from([(process, ("CPU".to_owned(), process))]);
    let mut rows = BTreeMap::new();
    for (thread, name) in &trace.threads {
        rows.insert(
            (process, i64::from(*thread)),
            format!("thread {thread} ({name})"),
        );
    }
    if !trace.loads.is_empty() {
        rows.insert(
            (process, LOADING.into()),
            format!("thread {LOADING} (loading)"),
        );
    }
    let work = (trace.device.work.iter()).map(|w| (w.queue.device, i64::from(w.queue.stream)));
    let waits = (trace.device.waits.iter()).map(|w| (w.device, wait_tid(w)));
    for (device, tid) in work.chain(waits).collect::<BTreeSet<_>>() {
        let pid = i64::from(device);
        processes.insert(pid, (format!("GPU {device}"), DEVICE_SORT_INDEX + pid));
        let name = match tid {
            ..0 => "waits ".to_owned(),
            STREAM_WAITS.. => format!("stream {} waits ", tid - STREAM_WAITS),
            stream => format!("stream {stream} "),
        };
        rows.insert((pid, tid), name);
    }
    for overhead in &trace.device.overheads {
        let label = "recording's overhead".to_owned();
        processes.insert(OVERHEADS, (label, OVERHEADS_SORT_INDEX));
        let name = format!("thread {} ", overhead.thread);
        rows.insert((OVERHEADS, i64::from(overhead.thread)), name);
    }
    for (pid, (label, sort_index)) in processes {
        let row = Row::new(pid, 0);
        events.metadata("process_name", row, at, &json!({"name": PROCESS}))?;
        events.metadata("process_labels", row, at, &json!({"labels": label}))?;
        events.metadata(
            "process_sort_index",
            row,
            at,
            &json!({"sort_index": sort_index}),
        )?;
    }
    let spans = Row {
        tid: Id::Number(0),
        ..SPANS
    };
    events.metadata(
        "process_sort_index",
        spans,
        at,
        &json!({"sort_index": SPANS_SORT_INDEX}),
    )?;
    for ((pid, tid), name) in rows {
        let row = Row::new(pid, tid);
        events.metadata("thread_name", row, at, &json!({"name": name}))?;
        events.metadata("thread_sort_index", row, at, &json!({"sort_index": tid}))?;
    }
    Ok(())
}
