//! Sets marks while a run lasts; only afterwards are they turned into durations, which is when a
//! GPU is waited for.

#[cfg(test)]
mod tests;

use std::mem::take;
use std::ops::Range;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use jiff::Timestamp;

use super::mark::Mark;
use super::report::{
    FurtherRequest, Load, MemoryCheckpoint, Meta, PerfReport, RequestRecord, StageDuration,
    StepDuration,
};
use crate::device;
use crate::error::Result;
use crate::pipeline::observer::{Observer, Stage};

/// Observes a run for its [`PerfReport`].
#[derive(Debug)]
pub struct PerfRecorder {
    device: Device,
    process_start: Instant,
    first_stage: Option<Instant>,
    loads: Spans<(&'static str, u64)>,
    requests: Vec<RequestMarks>,
    load_peak: Option<MemoryCheckpoint>,
    warmup_peak: Option<MemoryCheckpoint>,
}

/// What the report says of a run besides durations.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// What is measured, as [`super::commit_hash`] has it.
    pub commit_hash: String,
    /// What the model ran on.
    pub device: String,
    /// The text given to `--model-path`.
    pub model: String,
}

/// What the report says of a request besides durations.
#[derive(Debug, Clone)]
pub struct RequestFacts {
    /// As in the request's trace.
    pub request_id: String,
    /// Prompts of the command line; `None` when they came from a file.
    pub prompt: Option<Vec<String>>,
}

impl PerfRecorder {
    /// A recorder for a process that started at `process_start`.
    #[must_use]
    pub fn new(device: &Device, process_start: Instant) -> Self {
        Self {
            device: device.clone(),
            process_start,
            first_stage: None,
            loads: Spans::default(),
            requests: Vec::new(),
            load_peak: None,
            warmup_peak: None,
        }
    }

    /// Ends the cold start, unless it has ended.
    ///
    /// The first request does so; call it before a warm-up request, which is not observed.
    pub fn end_cold_start(&mut self) {
        if self.first_stage.is_none() {
            self.first_stage = Some(Instant::now());
            self.load_peak = MemoryCheckpoint::now(&self.device);
            // Peaks are counted from here.
            device::reset_peak_memory(&self.device);
        }
    }

    /// Ends a warm-up request.
    pub fn end_warm_up(&mut self) {
        self.warmup_peak = MemoryCheckpoint::now(&self.device);
    }

    /// Records how long encoding and writing the present request's picture took.
    ///
    /// # Panics
    /// When no request was observed.
    pub fn saved(&mut self, duration: Duration) {
        self.request().save = Some(duration);
    }

    /// Turns the marks into durations; `facts` describes the request of an index.
    ///
    /// # Errors
    /// When the device has failed.
    ///
    /// # Panics
    /// When no request was observed.
    pub fn finish(
        self,
        run: RunFacts,
        facts: impl Fn(usize) -> RequestFacts,
    ) -> Result<PerfReport> {
        let mut records = Vec::new();
        for (index, marks) in self.requests.iter().enumerate() {
            records.push(FurtherRequest {
                record: self.record(marks, &run, facts(index))?,
                save_ms: marks.save.map(|duration| duration.as_secs_f64() * 1e3),
            });
        }
        let mut records = records.into_iter();
        let first = records.next().expect("a run has at least one request");
        let first_stage = self.first_stage.unwrap_or(self.process_start);
        Ok(PerfReport {
            first: first.record,
            device: run.device,
            load: self.loads_by_component()?,
            cold_start_ms: (first_stage - self.process_start).as_secs_f64() * 1e3,
            save_ms: first.save_ms,
            requests: records.collect(),
        })
    }

    /// Sums over all times a component was loaded: one that leaves comes again.
    fn loads_by_component(&self) -> Result<Vec<(&'static str, Load)>> {
        let mut loads: Vec<(&'static str, Load)> = Vec::new();
        for ((component, bytes), duration_ms) in self.loads.durations()? {
            match loads.iter_mut().find(|(name, _)| *name == component) {
                Some((_, load)) => {
                    load.bytes += bytes;
                    load.duration_ms += duration_ms;
                }
                None => loads.push((component, Load { bytes, duration_ms })),
            }
        }
        Ok(loads)
    }

    fn record(
        &self,
        marks: &RequestMarks,
        run: &RunFacts,
        facts: RequestFacts,
    ) -> Result<RequestRecord> {
        let stages = marks.stages.durations()?;
        let steps = marks.steps.durations()?;
        // Networks that wait until they are needed are loaded between stages.
        let loading_ms: f64 = (self.loads.done[marks.loads.clone()].iter())
            .map(|(_, begin, end)| begin.elapsed_ms(end))
            .sum::<Result<_>>()?;
        Ok(RequestRecord {
            timestamp: marks.at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string(),
            request_id: facts.request_id,
            commit_hash: run.commit_hash.clone(),
            tag: "cli_generate",
            total_duration_ms: match marks.stages.done.last() {
                Some((_, _, end)) => marks.begin.elapsed_ms(end)? - loading_ms,
                None => 0.0,
            },
            stages: (stages.into_iter())
                .map(|(stage, duration_ms)| StageDuration {
                    name: stage.name(),
                    duration_ms,
                })
                .collect(),
            denoise_steps_ms: (steps.into_iter())
                .map(|(step, duration_ms)| StepDuration { step, duration_ms })
                .collect(),
            memory_checkpoints: marks.checkpoints.clone(),
            meta: Meta {
                prompt: facts.prompt,
                model: run.model.clone(),
            },
        })
    }

    fn request(&mut self) -> &mut RequestMarks {
        (self.requests.last_mut()).expect("stages run, and pictures are saved, in a request")
    }
}

impl Observer for PerfRecorder {
    fn load_begin(&mut self, _component: &'static str) -> Result<()> {
        self.loads.begin(Mark::now(&self.device)?);
        Ok(())
    }

    fn load_end(&mut self, component: &'static str, bytes: u64) -> Result<()> {
        self.loads.end((component, bytes), Mark::now(&self.device)?);
        if let Some(request) = self.requests.last_mut() {
            request.loads.end = self.loads.done.len();
        }
        Ok(())
    }

    fn request_begin(&mut self) -> Result<()> {
        self.end_cold_start();
        let loaded = self.loads.done.len();
        self.requests.push(RequestMarks {
            at: Timestamp::now(),
            begin: Mark::now(&self.device)?,
            stages: Spans::default(),
            steps: Spans::default(),
            loads: loaded..loaded,
            checkpoints: Vec::new(),
            stage_peaks: Vec::new(),
            save: None,
        });
        device::reset_peak_memory(&self.device);
        let before = MemoryCheckpoint::now(&self.device);
        let before = before.map(|before| ("before_forward", before));
        self.request().checkpoints.extend(before);
        Ok(())
    }

    fn request_end(&mut self) -> Result<()> {
        let Some(mut after) = MemoryCheckpoint::now(&self.device) else {
            return Ok(());
        };
        let (load_peak, warmup_peak) = (self.load_peak, self.warmup_peak);
        let request = self.request();
        let peaks = take(&mut request.stage_peaks);
        for (_, peak) in &peaks {
            after.raise_peaks(peak);
        }
        let named = |name, memory: Option<_>| memory.map(|memory| (name, memory));
        request.checkpoints.push(("after_forward", after));
        request.checkpoints.extend(named("load_peak", load_peak));
        request.checkpoints.push(("runtime_peak", after));
        request
            .checkpoints
            .extend(named("warmup_peak", warmup_peak));
        request.checkpoints.extend(peaks);
        Ok(())
    }

    fn stage_begin(&mut self, _stage: Stage) -> Result<()> {
        let mark = Mark::now(&self.device)?;
        self.request().stages.begin(mark);
        Ok(())
    }

    fn stage_end(&mut self, stage: Stage) -> Result<()> {
        let mark = Mark::now(&self.device)?;
        self.request().stages.end(stage, mark);
        if let Some(memory) = MemoryCheckpoint::now(&self.device) {
            self.request().stage_peaks.push((stage.name(), memory));
            device::reset_peak_memory(&self.device);
        }
        Ok(())
    }

    fn step_begin(&mut self, _step: usize, _sigma: f32) -> Result<()> {
        let mark = Mark::now(&self.device)?;
        self.request().steps.begin(mark);
        Ok(())
    }

    fn step_end(&mut self, step: usize, _latents: &Tensor) -> Result<()> {
        let mark = Mark::now(&self.device)?;
        self.request().steps.end(step, mark);
        Ok(())
    }
}

/// The marks of one request.
#[derive(Debug)]
struct RequestMarks {
    at: Timestamp,
    begin: Mark,
    stages: Spans<Stage>,
    steps: Spans<usize>,
    /// Which of the loads were for it.
    loads: Range<usize>,
    /// Memory at moments of it, by upstream's names.
    checkpoints: Vec<(&'static str, MemoryCheckpoint)>,
    /// Those of its stages, until it ends.
    stage_peaks: Vec<(&'static str, MemoryCheckpoint)>,
    /// How long its picture took to be encoded and written.
    save: Option<Duration>,
}

/// Pairs of marks that do not nest.
#[derive(Debug)]
struct Spans<K> {
    open: Option<Mark>,
    done: Vec<(K, Mark, Mark)>,
}

impl<K: Copy> Spans<K> {
    fn begin(&mut self, mark: Mark) {
        self.open = Some(mark);
    }

    fn end(&mut self, what: K, mark: Mark) {
        let begin = self.open.take().expect("what ends has begun");
        self.done.push((what, begin, mark));
    }

    fn durations(&self) -> Result<Vec<(K, f64)>> {
        (self.done.iter())
            .map(|(what, begin, end)| Ok((*what, begin.elapsed_ms(end)?)))
            .collect()
    }
}

impl<K> Default for Spans<K> {
    fn default() -> Self {
        Self {
            open: None,
            done: Vec::new(),
        }
    }
}
