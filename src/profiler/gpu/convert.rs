//! From CUPTI's records to the device's part of a trace: pure, so that it is tested without a GPU.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::occupancy;
use super::records::{Facts, Records};
use crate::profiler::clock::Timestamp;
use crate::profiler::trace::{
    Call, DeviceAnnotation, DeviceTrace, EventRecord, HostKind, HostRange, MemoryEvent, Queue,
    Wait, Work, WorkKind,
};

/// Puts records in order, joins them with the host ranges and derives what they do not say.
///
/// `host` is in the order in which the ranges began. Returns warnings, too.
pub(super) fn device_trace(
    records: Records,
    facts: Facts,
    host: &[HostRange],
) -> (DeviceTrace, Vec<String>) {
    let Records {
        calls,
        mut work,
        mut waits,
        mut events,
        overheads,
        mut memory,
        operators,
        dropped,
        lost_bytes,
    } = records;
    let mut calls = outermost(calls);
    leave_out_captured(&mut calls);
    if dropped == 0 && lost_bytes == 0 {
        leave_out_empty_sets(&mut calls, &work);
    }
    join_with_host(&mut calls, host);
    let ids = calls
        .iter()
        .map(|call| (call.correlation, call.external_id));
    let ids: HashMap<u32, Option<u64>> = ids.collect();
    for work in &mut work {
        work.external_id = ids.get(&work.correlation).copied().flatten();
        work.operator = operators.get(&work.graph.1).copied();
        if let WorkKind::Kernel(kernel) = &mut work.kind {
            occupancy::derive(&facts.properties, kernel);
        }
    }
    in_order(&mut work);
    join_with_events(&mut waits, &mut events);
    waits.sort_by_key(|wait| wait.start);
    total(&mut memory, facts.allocated, facts.reserved);
    let mut warnings = Vec::new();
    warnings.extend(missing_kernels(&calls, &work));
    warnings.extend(missing_records(dropped, lost_bytes));
    let trace = DeviceTrace {
        devices: vec![facts.properties],
        versions: Some(facts.versions),
        annotations: annotations(host, &work),
        calls,
        work,
        waits,
        overheads,
        memory,
    };
    (trace, warnings)
}

/// The calls in order, one for each correlation: of two, the one around the other.
fn outermost(mut calls: Vec<Call>) -> Vec<Call> {
    calls.sort_by_key(|call| (call.thread, call.start, std::cmp::Reverse(call.end)));
    let mut seen = HashSet::new();
    calls.retain(|call| call.correlation > 0 && seen.insert(call.correlation));
    calls
}

/// Leaves out what was captured into a graph: the device had nothing to do for it then.
///
/// `calls` are in order on each thread.
fn leave_out_captured(calls: &mut Vec<Call>) {
    let mut capturing = None;
    calls.retain(|call| {
        let name = call.name.to_string();
        if name.starts_with("cuStreamEndCapture") {
            capturing = None;
        }
        let is_captured = capturing == Some(call.thread);
        if name.starts_with("cuStreamBeginCapture") {
            capturing = Some(call.thread);
        }
        !is_captured
    });
}

/// Leaves out calls that set no bytes, as cuDNN makes them: they give the device nothing to do, and
/// readers would take them for launches whose work was lost.
fn leave_out_empty_sets(calls: &mut Vec<Call>, work: &[Work]) {
    let sets = work
        .iter()
        .filter(|work| matches!(work.kind, WorkKind::Set { .. }));
    let at_work: HashSet<u32> = sets.map(|work| work.correlation).collect();
    if at_work.is_empty() {
        // Perhaps none are recorded.
        return;
    }
    calls.retain(|call| {
        let name = call.name.to_string();
        let sets = name.starts_with("cudaMemset") || name.starts_with("cuMemset");
        !sets || at_work.contains(&call.correlation)
    });
}

/// Gives each call the id of the innermost range around it. Both have one clock, so no ids need be
/// passed through CUPTI, which would make a record for each call and cost the host its time.
///
/// `calls` are in order on each thread; `host`, all of one thread, is in the order in which ranges began.
fn join_with_host(calls: &mut [Call], host: &[HostRange]) {
    let Some(thread) = host.first().map(|range| range.thread) else {
        return;
    };
    let mut open: Vec<&HostRange> = Vec::new();
    let mut host = host.iter().peekable();
    for call in calls.iter_mut().filter(|call| call.thread == thread) {
        while let Some(range) = host.next_if(|range| range.start <= call.start) {
            while open.last().is_some_and(|outer| outer.end < range.end) {
                open.pop();
            }
            open.push(range);
        }
        while open.last().is_some_and(|range| range.end < call.end) {
            open.pop();
        }
        call.external_id = open.last().map(|range| range.external_id);
    }
}

/// Sorts work by stream and time, and makes it disjoint on each stream.
///
/// With dependent launches a kernel starts a microsecond before the one before it ends; viewers
/// would drop it, so that one is ended where it starts.
fn in_order(work: &mut [Work]) {
    work.sort_by_key(|work| (work.queue, work.start, work.end));
    let mut free_from: Option<(Queue, Timestamp)> = None;
    for index in 0..work.len() {
        let next = work.get(index + 1).map(|next| (next.queue, next.start));
        let current = &mut work[index];
        if let Some((queue, from)) = free_from
            && queue == current.queue
        {
            current.start = current.start.max(from);
        }
        if let Some((queue, start)) = next
            && queue == current.queue
        {
            current.end = current.end.min(start);
        }
        // Nothing that ran took no time.
        current.end = current.end.max(Timestamp(current.start.0 + 1));
        free_from = Some((current.queue, current.end));
    }
}

/// Finds what each wait for an event waits for: where the event was put into a stream last before it.
fn join_with_events(waits: &mut [Wait], events: &mut HashMap<u32, Vec<EventRecord>>) {
    for records in events.values_mut() {
        records.sort_by_key(|record| record.correlation);
    }
    for wait in waits {
        wait.event_record = wait.event.and_then(|event| {
            let records = events.get(&event)?;
            let before = records.partition_point(|record| record.correlation < wait.correlation);
            records[..before].last().copied()
        });
    }
}

/// Each annotation of the host over the work launched inside it, on each stream.
fn annotations(host: &[HostRange], work: &[Work]) -> Vec<DeviceAnnotation> {
    let parents = parents(host);
    // First and last work of an annotation on a stream.
    let mut extents: BTreeMap<(Queue, usize), (usize, usize)> = BTreeMap::new();
    for (index, work) in work.iter().enumerate() {
        let launched_in = work.external_id.and_then(|id| usize::try_from(id).ok());
        let innermost = launched_in.and_then(|id| id.checked_sub(1));
        let around = std::iter::successors(innermost, |&range| parents[range]);
        for range in around.filter(|&range| host[range].kind == HostKind::Annotation) {
            let extent = extents.entry((work.queue, range)).or_insert((index, index));
            extent.1 = index;
        }
    }
    let annotations = extents.into_iter().map(|((queue, range), (first, last))| {
        let HostRange {
            name, external_id, ..
        } = &host[range];
        DeviceAnnotation {
            name: name.clone(),
            external_id: *external_id,
            queue,
            start: just_before(work, first),
            end: just_after(work, last),
        }
    });
    annotations.collect()
}

/// A nanosecond after the work, but not in what follows it on its stream.
fn just_after(work: &[Work], index: usize) -> Timestamp {
    let (current, next) = (&work[index], work.get(index + 1));
    let after = Timestamp(current.end.0 + 1);
    next.filter(|next| next.queue == current.queue)
        .map_or(after, |next| after.min(next.start))
}

/// A nanosecond before the work, but not before [`just_after`] what precedes it.
fn just_before(work: &[Work], index: usize) -> Timestamp {
    let current = &work[index];
    let before = Timestamp(current.start.0.saturating_sub(1));
    let previous = index.checked_sub(1);
    previous
        .filter(|&previous| work[previous].queue == current.queue)
        .map_or(before, |previous| before.max(just_after(work, previous)))
}

/// The range around each range; `host` is in the order in which they began.
fn parents(host: &[HostRange]) -> Vec<Option<usize>> {
    let mut open: Vec<usize> = Vec::new();
    let parents = host.iter().enumerate().map(|(index, range)| {
        while open.last().is_some_and(|&top| host[top].end < range.end) {
            open.pop();
        }
        let parent = open.last().copied();
        open.push(index);
        parent
    });
    parents.collect()
}

/// Sets the totals after each event.
fn total(memory: &mut [MemoryEvent], mut allocated: u64, mut reserved: u64) {
    memory.sort_by_key(|event| event.at);
    for event in memory {
        allocated = allocated.saturating_add_signed(event.bytes);
        if event.reserved > 0 {
            reserved = event.reserved;
        }
        event.allocated = allocated;
        event.reserved = reserved.max(allocated);
    }
}

/// Launches without a kernel mean that the trace is not whole.
fn missing_kernels(calls: &[Call], work: &[Work]) -> Option<String> {
    let kernels = work.iter().filter(|work| is_kernel(work));
    let with_kernel: HashSet<u32> = kernels.clone().map(|work| work.correlation).collect();
    let launches = (calls.iter()).filter(|call| launches_a_kernel(&call.name.to_string()));
    let missing = launches
        .clone()
        .filter(|call| !with_kernel.contains(&call.correlation))
        .count();
    (missing > 0).then(|| {
        format!(
            "the trace has {} kernels for {} launches; launches without a kernel: {missing}",
            kernels.count(),
            launches.count()
        )
    })
}

fn missing_records(dropped: u64, lost_bytes: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if dropped > 0 {
        warnings.push(format!(
            "the trace lacks {dropped} GPU records: CUPTI had no room for them"
        ));
    }
    if lost_bytes > 0 {
        warnings.push(format!(
            "the trace lacks GPU records of {} MiB: the first {} MiB are kept",
            lost_bytes.div_ceil(1 << 20),
            super::MAX_RECORD_BYTES >> 20
        ));
    }
    warnings
}

fn is_kernel(work: &Work) -> bool {
    matches!(work.kind, WorkKind::Kernel(_))
}

/// Launches of graphs are others: they have many kernels or none.
fn launches_a_kernel(call: &str) -> bool {
    [
        "cuLaunchKernel",
        "cudaLaunchKernel",
        "cuLaunchCooperativeKernel",
        "cudaLaunchCooperativeKernel",
    ]
    .iter()
    .any(|name| call.starts_with(name))
}
