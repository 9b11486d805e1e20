//! The recording of one request, from its start to its trace.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::clock::{self, Timestamp};
use super::gpu::Session;
use super::spans::{Installed, MAX_RANGES, SpanListener, SpanRecorder};
use super::thread;
use super::trace::{Counter, DeviceTrace, HostRange, MemoryEvent, Name, Trace};
use crate::device;
use crate::error::Result;
use crate::human::mib;
use crate::process::resident_host_bytes;

/// Bytes of latents kept for their norms, which are computed after the run.
const MAX_LATENTS_BYTES: usize = 256 << 20;

/// What was recorded, and what should be known about it.
#[derive(Debug)]
pub struct Profile {
    /// The trace.
    pub trace: Trace,
    /// What is missing, and why.
    pub warnings: Vec<String>,
}

/// A recording of the calling thread.
#[derive(Debug)]
pub(super) struct Recording {
    device: Device,
    gpu: Option<Session>,
    thread: u32,
    spans: Arc<SpanRecorder>,
    /// Until recording stops.
    installed: Option<Installed>,
    start: Timestamp,
    end: Timestamp,
    /// Ids of the ranges that are open, outermost first.
    open: Vec<u64>,
    counters: Vec<Counter>,
    latents: Vec<(Timestamp, Tensor)>,
    latents_bytes: usize,
}

impl Recording {
    /// Starts recording of the thread; the device's has started.
    pub(super) fn start(
        device: &Device,
        gpu: Option<Session>,
        listener: Option<Box<dyn SpanListener>>,
    ) -> Self {
        let thread = thread::current();
        let spans = Arc::new(SpanRecorder::new(thread, listener));
        Self {
            device: device.clone(),
            gpu,
            thread,
            installed: Some(spans.install()),
            spans,
            start: Timestamp::now(),
            end: Timestamp::default(),
            open: Vec::new(),
            counters: Vec::new(),
            latents: Vec::new(),
            latents_bytes: 0,
        }
    }

    /// Whether it goes on.
    pub(super) fn is_active(&self) -> bool {
        self.installed.is_some()
    }

    /// Stops once the work issued so far has ended.
    pub(super) fn stop(&mut self) -> Result<()> {
        if let Some(installed) = self.installed.take() {
            drop(installed);
            device::synchronize(&self.device)?;
            if let Some(gpu) = &mut self.gpu {
                gpu.stop();
            }
            self.end = Timestamp::now();
        }
        Ok(())
    }

    /// Begins an annotation.
    pub(super) fn begin(&mut self, name: Name) {
        self.open.push(self.spans.begin(name));
    }

    /// Ends the annotation that began last.
    pub(super) fn end(&mut self) {
        if let Some(id) = self.open.pop() {
            self.spans.end(id);
        }
    }

    /// Adds a value of a track.
    pub(super) fn count(&mut self, track: &'static str, values: Vec<(&'static str, f64)>) {
        let at = Timestamp::now();
        self.counters.push(Counter { track, values, at });
    }

    /// Adds the memory in use.
    pub(super) fn count_memory(&mut self) {
        if let Some(bytes) = resident_host_bytes() {
            self.count("host memory", vec![("resident MiB", mib(bytes))]);
        }
    }

    /// Keeps the latents for their norm.
    pub(super) fn keep(&mut self, latents: &Tensor) {
        self.latents_bytes += latents.elem_count() * latents.dtype().size_in_bytes();
        if self.latents_bytes <= MAX_LATENTS_BYTES {
            self.latents.push((Timestamp::now(), latents.clone()));
        }
    }

    /// Turns what was recorded into a trace; `loads` are put beside it.
    pub(super) fn finish(mut self, mut loads: Vec<HostRange>) -> Result<Profile> {
        self.stop()?;
        let mut warnings = Vec::new();
        let recorded = self.spans.take();
        if recorded.lost > 0 {
            warnings.push(format!(
                "the trace lacks {} host ranges: the first {MAX_RANGES} are kept",
                recorded.lost
            ));
        }
        if self.latents_bytes > MAX_LATENTS_BYTES {
            warnings.push(format!(
                "the trace has the latents' norm for {} steps: {} MiB of latents are kept",
                self.latents.len(),
                MAX_LATENTS_BYTES >> 20,
            ));
        }
        for (load, id) in loads.iter_mut().zip(recorded.ranges.len() as u64 + 1..) {
            load.external_id = id;
        }
        let (device, missing) = (self.gpu.take())
            .map(|gpu| gpu.finish(&recorded.ranges, self.thread))
            .unwrap_or_default();
        warnings.extend(missing);
        let mut counters = self.counters;
        counters.extend(device.memory.iter().map(MemoryEvent::counter));
        for (at, latents) in &self.latents {
            let norm = latents.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt();
            if norm.is_finite() {
                let values = vec![("norm", norm.into())];
                counters.push(Counter {
                    track: "latents",
                    values,
                    at: *at,
                });
            }
        }
        let trace = Trace {
            base_time_ns: clock::zero_since_epoch_ns(),
            start: self.start,
            end: self.end,
            process: std::process::id(),
            threads: threads(self.thread, &device),
            loads,
            host: recorded.ranges,
            counters,
            device,
        };
        Ok(Profile { trace, warnings })
    }
}

/// The recorded thread, and those that called CUDA, with their names.
fn threads(recorded: u32, device: &DeviceTrace) -> Vec<(u32, String)> {
    let mut threads: Vec<u32> = device.calls.iter().map(|call| call.thread).collect();
    threads.push(recorded);
    threads.sort_unstable();
    threads.dedup();
    let threads = threads.into_iter();
    threads
        .map(|thread| (thread, thread::name(thread)))
        .collect()
}
