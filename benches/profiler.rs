//! What watching costs: a span with nobody listening and recorded, and writing a million events.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

use std::hint::black_box;
use std::sync::Arc;

use candle_core::Device;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use qwen_gen::pipeline::Observer;
use qwen_gen::profiler::trace::{HostKind, HostRange, Inputs, Name};
use qwen_gen::profiler::{Extent, Profiler, Timestamp, Trace, Window, writer};
use tracing::trace_span;

const SPANS: u64 = 10_000;
const EVENTS: u64 = 1_000_000;

/// An operator's span, with its inputs.
fn span(x: &[usize], w: &[usize]) {
    let _span = trace_span!(
        target: "qwen_gen",
        "qwen::linear",
        dims = ?[black_box(x), black_box(w)],
        types = ?["c10::BFloat16", "c10::BFloat16"],
    )
    .entered();
}

fn spans(_: &Profiler) {
    for _ in 0..SPANS {
        span(&[4096, 3072], &[9216, 3072]);
    }
}

fn profiler() -> Profiler {
    let window = Window::new(Extent::AllStages, 1).unwrap();
    Profiler::new(window, &Device::Cpu, false)
}

fn span_overhead(c: &mut Criterion) {
    let mut group = c.benchmark_group("span");
    group.throughput(Throughput::Elements(SPANS));
    group.bench_function("off", |b| {
        b.iter_batched_ref(
            profiler,
            |profiler| spans(profiler),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("recorded", |b| {
        let recording = || {
            let mut profiler = profiler();
            profiler.request_begin().unwrap();
            profiler
        };
        b.iter_batched_ref(
            recording,
            |profiler| spans(profiler),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Operators in steps, as a long run has them.
fn million_events() -> Trace {
    let inputs = Arc::new(Inputs {
        dims: vec![vec![4096, 3072], vec![9216, 3072]],
        types: vec!["c10::BFloat16".into(), "c10::BFloat16".into()],
    });
    let range = |i: u64| HostRange {
        kind: HostKind::Operator,
        name: Name::Static("qwen::linear"),
        external_id: i + 1,
        thread: 1,
        start: Timestamp(i * 1037),
        end: Timestamp(i * 1037 + 911),
        inputs: Some(inputs.clone()),
    };
    Trace {
        host: (0..EVENTS).map(range).collect(),
        ..Trace::default()
    }
}

fn writing(c: &mut Criterion) {
    let trace = million_events();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("million.trace.json.gz");
    let written = writer::write(&trace, &path).unwrap();
    println!("{written}");
    let mut group = c.benchmark_group("write and read back a million events");
    group.sample_size(10);
    group.throughput(Throughput::Elements(written.events));
    group.bench_function("events", |b| {
        b.iter(|| writer::write(&trace, &path).unwrap());
    });
    group.finish();
}

criterion_group!(benches, span_overhead, writing);
criterion_main!(benches);
