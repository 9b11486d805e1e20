//! Sets marks while a request lasts; only once its picture is saved are they turned into durations, which is
//! when a GPU is waited for.

#[cfg(test)]
mod tests;

use std::mem::take;
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
    /// Since the last request.
    loads: Spans<(&'static str, u64)>,
    /// Sums over all times a component was loaded: one that leaves comes again.
    loaded: Vec<(&'static str, Load)>,
    /// The present request.
    request: Option<RequestMarks>,
    requests: Vec<RequestTimes>,
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
            loaded: Vec::new(),
            request: None,
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

    /// Turns the present request's marks into durations: a device event takes memory, and requests may be many.
    ///
    /// `save` is how long encoding and writing its picture took.
    ///
    /// # Errors
    /// When the device has failed.
    ///
    /// # Panics
    /// When no request is observed.
    pub fn close_request(&mut self, save: Option<Duration>) -> Result<()> {
        let marks = self.request.take().expect("a request was observed");
        // Networks that wait until they are needed are loaded between stages.
        let (mut loading_ms, loads) = (0.0, take(&mut self.loads));
        for (index, ((component, bytes), duration_ms)) in loads.durations()?.into_iter().enumerate()
        {
            if index >= marks.loads_before {
                loading_ms += duration_ms;
            }
            self.add_load(component, Load { bytes, duration_ms });
        }
        let total_ms = match marks.stages.done.last() {
            Some((_, _, end)) => marks.begin.elapsed_ms(end)? - loading_ms,
            None => 0.0,
        };
        self.requests.push(RequestTimes {
            at: marks.at,
            total_ms,
            stages: marks.stages.durations()?,
            steps: marks.steps.durations()?,
            checkpoints: marks.checkpoints,
            save_ms: save.map(|duration| duration.as_secs_f64() * 1e3),
        });
        Ok(())
    }

    fn add_load(&mut self, component: &'static str, load: Load) {
        let known = (self.loaded.iter_mut()).find(|(name, _)| *name == component);
        match known {
            Some((_, sum)) => {
                sum.bytes += load.bytes;
                sum.duration_ms += load.duration_ms;
            }
            None => self.loaded.push((component, load)),
        }
    }

    /// The report of the requests that were closed; `facts` describes the one of an index.
    ///
    /// # Panics
    /// When there was none.
    pub fn finish(self, run: RunFacts, facts: impl Fn(usize) -> RequestFacts) -> PerfReport {
        let requests = self.requests.into_iter().enumerate();
        let mut requests = requests.map(|(index, times)| FurtherRequest {
            save_ms: times.save_ms,
            record: times.record(&run, facts(index)),
        });
        let first = requests.next().expect("a run has at least one request");
        let requests = requests.collect();
        let first_stage = self.first_stage.unwrap_or(self.process_start);
        PerfReport {
            first: first.record,
            device: run.device,
            load: self.loaded,
            cold_start_ms: (first_stage - self.process_start).as_secs_f64() * 1e3,
            save_ms: first.save_ms,
            requests,
        }
    }

    fn request(&mut self) -> &mut RequestMarks {
        (self.request.as_mut()).expect("stages run in a request")
    }
}

impl Observer for PerfRecorder {
    fn load_begin(&mut self, _component: &'static str) -> Result<()> {
        self.loads.begin(Mark::now(&self.device)?);
        Ok(())
    }

    fn load_end(&mut self, component: &'static str, bytes: u64) -> Result<()> {
        self.loads.end((component, bytes), Mark::now(&self.device)?);
        Ok(())
    }

    fn request_begin(&mut self) -> Result<()> {
        self.end_cold_start();
        self.request = Some(RequestMarks {
            at: Timestamp::now(),
            begin: Mark::now(&self.device)?,
            stages: Spans::default(),
            steps: Spans::default(),
            loads_before: self.loads.done.len(),
            checkpoints: Vec::new(),
            stage_peaks: Vec::new(),
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
    /// How many of the loads were over when it began.
    loads_before: usize,
    /// Memory at moments of it, by upstream's names.
    checkpoints: Vec<(&'static str, MemoryCheckpoint)>,
    /// Those of its stages, until it ends.
    stage_peaks: Vec<(&'static str, MemoryCheckpoint)>,
}

/// What stays of a request that is closed.
#[derive(Debug)]
struct RequestTimes {
    at: Timestamp,
    total_ms: f64,
    stages: Vec<(Stage, f64)>,
    steps: Vec<(usize, f64)>,
    checkpoints: Vec<(&'static str, MemoryCheckpoint)>,
    save_ms: Option<f64>,
}

impl RequestTimes {
    fn record(self, run: &RunFacts, facts: RequestFacts) -> RequestRecord {
        RequestRecord {
            timestamp: self.at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string(),
            request_id: facts.request_id,
            commit_hash: run.commit_hash.clone(),
            tag: "cli_generate",
            total_duration_ms: self.total_ms,
            stages: (self.stages.into_iter())
                .map(|(stage, duration_ms)| StageDuration {
                    name: stage.name(),
                    duration_ms,
                })
                .collect(),
            denoise_steps_ms: (self.steps.into_iter())
                .map(|(step, duration_ms)| StepDuration { step, duration_ms })
                .collect(),
            memory_checkpoints: self.checkpoints,
            meta: Meta {
                prompt: facts.prompt,
                model: run.model.clone(),
            },
        }
    }
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
