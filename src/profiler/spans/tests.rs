use candle_core::{DType, Device, Tensor};
use tracing::trace_span;

use super::*;
use crate::ops::span::op_span;
use crate::profiler::testing::recording_alone;

/// Names of the calls a listener got.
#[derive(Debug, Default, Clone)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl SpanListener for Heard {
    fn begin(&self, name: &Name) {
        self.0.lock().expect("no panic").push(name.to_string());
    }

    fn end(&self) {
        self.0.lock().expect("no panic").push("end".to_owned());
    }
}

fn model() -> candle_core::Result<()> {
    let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
    let w = Tensor::zeros(3, DType::BF16, &Device::Cpu)?;
    for index in 0..2u64 {
        let _block = trace_span!("block", index).entered();
        let _op = op_span!("qwen::linear", x, w);
    }
    let _other = trace_span!(target: "somebody_else", "ignored").entered();
    Ok(())
}

#[test]
fn spans_become_ranges_while_the_recorder_is_installed() -> candle_core::Result<()> {
    let _alone = recording_alone();
    let heard = Heard::default();
    let recorder = Arc::new(SpanRecorder::new(7, Some(Box::new(heard.clone()))));
    model()?;
    let installed = recorder.install();
    let step = recorder.begin(Name::Numbered("ProfilerStep", '#', 4));
    model()?;
    recorder.end(step);
    drop(installed);
    model()?;

    let ranges = recorder.take().ranges;
    let names: Vec<String> = ranges.iter().map(|range| range.name.to_string()).collect();
    assert_eq!(
        names,
        [
            "ProfilerStep#4",
            "block_0",
            "qwen::linear",
            "block_1",
            "qwen::linear"
        ]
    );
    for (range, id) in ranges.iter().zip(1..) {
        assert_eq!((range.external_id, range.thread), (id, 7));
        assert!(range.start <= range.end);
    }
    let within = |inner: usize, outer: usize| {
        ranges[outer].start <= ranges[inner].start && ranges[inner].end <= ranges[outer].end
    };
    assert!(within(1, 0) && within(2, 1) && within(3, 0) && within(4, 3));
    assert!(ranges[1].end <= ranges[3].start);

    let inputs = ranges[2].inputs.as_ref().expect("an operator has inputs");
    assert_eq!(inputs.dims, [vec![2, 3], vec![3]]);
    assert_eq!(inputs.types, ["float", "c10::BFloat16"]);
    assert!(Arc::ptr_eq(
        inputs,
        ranges[4].inputs.as_ref().expect("as above")
    ));
    let kinds = ranges.iter().map(|range| range.kind == HostKind::Operator);
    assert!(kinds.eq([false, false, true, false, true]));
    assert_eq!(
        *heard.0.lock().expect("no panic"),
        ["block_0", "qwen::linear", "end", "end", "block_1"]
            .into_iter()
            .chain(["qwen::linear", "end", "end"])
            .collect::<Vec<_>>()
    );
    Ok(())
}

#[test]
fn ranges_beyond_the_bound_are_counted() {
    let _alone = recording_alone();
    let recorder = Arc::new(SpanRecorder {
        max_ranges: 2,
        ..SpanRecorder::new(7, None)
    });
    let installed = recorder.install();
    let step = recorder.begin(Name::Static("step"));
    for _ in 0..3 {
        let _span = trace_span!("span").entered();
    }
    recorder.end(step);
    drop(installed);
    let Recorded { ranges, lost } = recorder.take();
    assert_eq!((ranges.len(), lost), (2, 2));
    assert!(ranges[0].end >= ranges[1].end);
}

#[test]
fn events_go_where_they_would_go_without_it() -> std::io::Result<()> {
    let _alone = recording_alone();
    let log = tempfile::NamedTempFile::new()?;
    let printing = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG);
    let printing = printing.with_writer(Mutex::new(log.reopen()?));
    tracing::subscriber::with_default(printing.finish(), || {
        let installed = Arc::new(SpanRecorder::new(0, None)).install();
        tracing::debug!("told");
        tracing::trace!("not asked for");
        drop(installed);
    });
    let printed = std::fs::read_to_string(log.path())?;
    assert!(printed.contains("told") && !printed.contains("asked"));
    Ok(())
}
