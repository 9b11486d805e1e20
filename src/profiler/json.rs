//! A trace as JSON, in the layout of PyTorch's profiler, which Perfetto, HTA and `TensorBoard` read.
//!
//! What readers trip over decides the order: all keys but one before the events, the end of the
//! window as the last event.

use std::collections::HashSet;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::json;

use super::event::{EventWriter, NO_ARGS, Row};
use super::rows::{self, SPANS};
use super::trace::{HostKind, HostRange, Name, Trace, Work, WorkKind};
use super::wire::{
    AnnotationArgs, CallArgs, CounterArgs, HostArgs, KernelArgs, MemArgs, MemoryArgs, WaitArgs,
};

/// Writes the JSON object and returns its number of events.
pub(super) fn write(trace: &Trace, trace_name: &str, out: &mut dyn Write) -> io::Result<u64> {
    debug_assert_eq!(trace.first_overlap(), None, "rows nest");
    let device = &trace.device;
    writeln!(out, "{{")?;
    field(out, "schemaVersion", &1)?;
    field(out, "deviceProperties", &device.devices)?;
    if let Some(versions) = &device.versions {
        field(out, "cupti_version", &versions.cupti)?;
        field(out, "cuda_runtime_version", &versions.runtime)?;
        field(out, "cuda_driver_version", &versions.driver)?;
    }
    // HTA finds the rank by this text, blank included.
    writeln!(
        out,
        r#"  "distributedInfo": {{"backend": "none", "rank": 0, "world_size": 1}},"#
    )?;
    field(out, "record_shapes", &1)?;
    if !device.memory.is_empty() {
        field(out, "profile_memory", &1)?;
    }
    field(out, "displayTimeUnit", "ms")?;
    field(out, "baseTimeNanoseconds", &trace.base_time_ns)?;
    write!(out, "  \"traceEvents\": [")?;
    let mut events = EventWriter::new(out);
    rows::metadata(trace, &mut events)?;
    host(trace, &mut events)?;
    on_device(trace, &mut events)?;
    window(trace, &mut events)?;
    let count = events.count();
    write!(out, "\n  ],\n  \"traceName\": ")?;
    serde_json::to_writer(&mut *out, trace_name)?;
    writeln!(out, "\n}}")?;
    Ok(count)
}

fn field(out: &mut dyn Write, key: &str, value: &(impl Serialize + ?Sized)) -> io::Result<()> {
    write!(out, "  \"{key}\": ")?;
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out, ",")
}

/// Ranges and counters of the host.
fn host(trace: &Trace, events: &mut EventWriter<'_>) -> io::Result<()> {
    for (index, range) in trace.loads.iter().chain(&trace.host).enumerate() {
        let category = match range.kind {
            HostKind::Operator => "cpu_op",
            HostKind::Annotation => "user_annotation",
        };
        let row = Row::new(trace.process, range.thread);
        let args = HostArgs::new(index, range);
        events.range(
            category,
            &range.name,
            row,
            (range.start, range.end),
            Some(&args),
        )?;
    }
    let row = Row::new(trace.process, 0);
    for counter in &trace.counters {
        events.counter(
            counter.track,
            row,
            counter.at,
            &CounterArgs(&counter.values),
        )?;
    }
    Ok(())
}

/// Calls, what they launched, and the arrows between them.
fn on_device(trace: &Trace, events: &mut EventWriter<'_>) -> io::Result<()> {
    let device = &trace.device;
    let work = device.work.iter().map(|work| work.correlation);
    let waits = (device.waits.iter())
        .filter(|wait| wait.stream.is_some())
        .map(|wait| wait.correlation);
    let launched: HashSet<u32> = work.chain(waits).collect();
    let calls: HashSet<u32> = device.calls.iter().map(|call| call.correlation).collect();

    for call in &device.calls {
        let row = Row::new(trace.process, call.thread);
        let args = CallArgs::from(call);
        let times = (call.start, call.end);
        events.range(call.api.category(), &call.name, row, times, Some(&args))?;
        if launched.contains(&call.correlation) {
            events.flow(false, call.correlation, row, call.start)?;
        }
    }
    for annotation in &device.annotations {
        let row = Row::new(annotation.queue.device, annotation.queue.stream);
        let times = (annotation.start, annotation.end);
        let args = AnnotationArgs {
            external_id: annotation.external_id,
        };
        events.range(
            "gpu_user_annotation",
            &annotation.name,
            row,
            times,
            Some(&args),
        )?;
    }
    for work in &device.work {
        let row = Row::new(work.queue.device, work.queue.stream);
        one_work(work, row, events)?;
        if calls.contains(&work.correlation) {
            events.flow(true, work.correlation, row, work.start)?;
        }
    }
    for wait in &device.waits {
        let row = Row::new(wait.device, rows::wait_tid(wait));
        let name = Name::Static(wait.kind);
        let args = WaitArgs::from(wait);
        events.range("cuda_sync", &name, row, (wait.start, wait.end), Some(&args))?;
        if wait.stream.is_some() && calls.contains(&wait.correlation) {
            events.flow(true, wait.correlation, row, wait.start)?;
        }
    }
    for overhead in &device.overheads {
        let row = Row::new(rows::OVERHEADS, overhead.thread);
        let name = Name::Static(overhead.kind);
        events.range(
            "overhead",
            &name,
            row,
            (overhead.start, overhead.end),
            NO_ARGS,
        )?;
    }
    for event in &device.memory {
        let row = Row::new(trace.process, event.thread);
        let args = MemoryArgs::from(event);
        events.instant(
            Some("cpu_instant_event"),
            "[memory]",
            "t",
            row,
            event.at,
            Some(&args),
        )?;
    }
    Ok(())
}

fn one_work(work: &Work, row: Row, events: &mut EventWriter<'_>) -> io::Result<()> {
    let category = work.kind.category();
    let times = (work.start, work.end);
    match &work.kind {
        WorkKind::Kernel(kernel) => {
            let args = KernelArgs::new(work, kernel);
            events.range(category, &kernel.name, row, times, Some(&args))
        }
        WorkKind::Copy {
            direction,
            from,
            to,
            bytes,
        } => {
            let name = format!("Memcpy {direction} ({from} -> {to})");
            let args = MemArgs::new(work, *bytes);
            events.range(category, &Name::Text(name.into()), row, times, Some(&args))
        }
        WorkKind::Set { memory, bytes } => {
            let name = format!("Memset ({memory})");
            let args = MemArgs::new(work, *bytes);
            events.range(category, &Name::Text(name.into()), row, times, Some(&args))
        }
    }
}

/// The marks of the recording itself.
fn window(trace: &Trace, events: &mut EventWriter<'_>) -> io::Result<()> {
    let name = Name::Static("PyTorch Profiler (0)");
    let operators = |range: &&HostRange| range.kind == HostKind::Operator;
    let args = json!({"Op count": trace.host.iter().filter(operators).count()});
    events.range("Trace", &name, SPANS, (trace.start, trace.end), Some(&args))?;
    let row = Row::fixed("Traces", "Trace PyTorch Profiler");
    let name = "Iteration Start: PyTorch Profiler";
    events.instant(None, name, "g", row, trace.start, NO_ARGS)?;
    let row = Row::fixed("", "");
    events.instant(None, "Record Window End", "g", row, trace.end, NO_ARGS)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::profiler::testing::{one_of_each, text};
    use crate::profiler::trace::DeviceTrace;

    fn json(trace: &Trace) -> String {
        let mut json = Vec::new();
        write(trace, "id-5_steps-global-rank0.trace.json.gz", &mut json).unwrap();
        String::from_utf8(json).unwrap()
    }

    #[test]
    fn every_kind_of_event() {
        insta::assert_snapshot!(json(&one_of_each()));
    }

    #[test]
    fn a_trace_without_a_gpu() {
        let trace = Trace {
            device: DeviceTrace::default(),
            ..one_of_each()
        };
        insta::assert_snapshot!(json(&trace));
    }

    #[test]
    fn hostile_names_are_escaped() {
        let hostile = "a\"b\\c\u{0}\u{1b}[31m\n\t\u{7f}\u{2028}</script>λ🦀";
        let mut trace = one_of_each();
        trace.threads[0].1 = hostile.to_owned();
        trace.host[0].name = text(hostile);
        trace.device.devices[0].name = hostile.to_owned();
        trace.device.calls[0].name = text(hostile);
        let WorkKind::Kernel(kernel) = &mut trace.device.work[0].kind else {
            unreachable!("the first piece of work is a kernel")
        };
        kernel.name = text(hostile);

        let json = json(&trace);
        assert!(!json.bytes().any(|byte| byte < b' ' && byte != b'\n'));
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        let events = parsed["traceEvents"].as_array().unwrap();
        let named = |name: &str| events.iter().filter(|event| event["name"] == name).count();
        assert_eq!(named(hostile), 3);
        assert_eq!(parsed["deviceProperties"][0]["name"], hostile);
    }
}
