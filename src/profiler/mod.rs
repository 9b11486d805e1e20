//! Records where a run's time goes, into a trace that Perfetto and PyTorch's tools read.
//!
//! The [`Profiler`] is an observer of the pipeline: it starts and stops the collectors around the
//! recorded part and opens a range for each stage and step. In between, `tracing` spans become
//! ranges, too. What was recorded is turned into a [`Trace`] after the request, off its time.

pub mod clock;
mod event;
mod gpu;
mod json;
mod nesting;
mod nvtx;
mod recording;
mod rows;
pub mod schedule;
mod spans;
#[cfg(test)]
pub(crate) mod testing;
mod thread;
pub mod trace;
mod wire;
pub mod writer;

use std::ffi::OsString;
use std::path::PathBuf;

use candle_core::{Device, Tensor};

pub use self::clock::Timestamp;
#[cfg(feature = "cuda")]
pub(crate) use self::gpu::cupti_version;
pub use self::nvtx::Nvtx;
pub use self::recording::Profile;
pub use self::schedule::{Extent, Window};
pub use self::trace::Trace;

use self::gpu::Collector;
use self::recording::Recording;
use self::trace::{HostKind, HostRange, Name};
use crate::device;
use crate::error::Result;
use crate::pipeline::{Observer, Stage};

/// Environment variables with the folder of the traces; the first that is set counts.
pub const FOLDER_VARIABLES: [&str; 2] = [
    "SGLANG_DIFFUSION_TORCH_PROFILER_DIR",
    "SGLANG_TORCH_PROFILER_DIR",
];

/// Where traces go: what `variable` has under one of [`FOLDER_VARIABLES`], else `logs`.
pub fn trace_folder(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    FOLDER_VARIABLES
        .into_iter()
        .filter_map(variable)
        .find(|folder| !folder.is_empty())
        .map_or_else(|| PathBuf::from("logs"), PathBuf::from)
}

/// Observes a run and records a part of each request.
#[derive(Debug)]
pub struct Profiler {
    window: Window,
    device: Device,
    /// Components loaded since the last trace, for the next.
    loads: Vec<HostRange>,
    recording: Option<Recording>,
    gpu: Option<Collector>,
    /// Why there is no `gpu` where there should be one; told once.
    gpu_is_missing: Option<String>,
    layerwise_nvtx: bool,
}

impl Profiler {
    /// Records `window` of each request that runs on `device`, on the thread that observes it.
    /// With `layerwise_nvtx` spans stay NVTX ranges meanwhile.
    #[must_use]
    pub fn new(window: Window, device: &Device, layerwise_nvtx: bool) -> Self {
        clock::start();
        let (gpu, gpu_is_missing) = match Collector::open(device) {
            Ok(gpu) => (gpu, None),
            Err(why) => (None, Some(why)),
        };
        Self {
            window,
            device: device.clone(),
            loads: Vec::new(),
            recording: None,
            gpu,
            gpu_is_missing,
            layerwise_nvtx,
        }
    }

    /// What was recorded of the request that has ended, once.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn take(&mut self) -> Result<Option<Profile>> {
        let Some(recording) = self.recording.take() else {
            return Ok(None);
        };
        let mut profile = recording.finish(std::mem::take(&mut self.loads))?;
        if let Some(why) = self.gpu_is_missing.take() {
            profile.warnings.insert(
                0,
                format!("the trace has no GPU rows (kernels, copies, CUDA calls): {why}"),
            );
        }
        Ok(Some(profile))
    }

    fn start(&mut self) -> Result<()> {
        // What was issued before has ended before, so that nothing is cut.
        device::synchronize(&self.device)?;
        let gpu = match self.gpu.as_ref().map(Collector::start).transpose() {
            Ok(gpu) => gpu,
            Err(why) => {
                self.gpu_is_missing = Some(why);
                None
            }
        };
        let spans = self.layerwise_nvtx.then(nvtx::listener);
        self.recording = Some(Recording::start(&self.device, gpu, spans));
        Ok(())
    }

    /// The recording, while it goes on.
    fn active(&mut self) -> Option<&mut Recording> {
        self.recording.as_mut().filter(|r| r.is_active())
    }

    /// The recording, where stages are recorded.
    fn active_for_stages(&mut self) -> Option<&mut Recording> {
        if self.window.records_stages() {
            self.active()
        } else {
            None
        }
    }
}

impl Observer for Profiler {
    fn load_begin(&mut self, component: &'static str) -> Result<()> {
        if self.window.records_stages() {
            self.loads.push(HostRange {
                kind: HostKind::Annotation,
                name: Name::Text(format!("load {component}").into()),
                external_id: 0, // given when the others are known
                thread: rows::LOADING,
                start: Timestamp::now(),
                end: Timestamp::default(),
                inputs: None,
            });
        }
        Ok(())
    }

    fn load_end(&mut self, _component: &'static str, _bytes: u64) -> Result<()> {
        if let Some(load) = self.loads.last_mut() {
            load.end = Timestamp::now();
        }
        Ok(())
    }

    fn request_begin(&mut self) -> Result<()> {
        self.recording = None;
        if self.window.records_stages() {
            self.start()?;
        }
        Ok(())
    }

    fn request_end(&mut self) -> Result<()> {
        self.recording.as_mut().map_or(Ok(()), Recording::stop)
    }

    fn stage_begin(&mut self, stage: Stage) -> Result<()> {
        if let Some(recording) = self.active_for_stages() {
            recording.begin(Name::Text(format!("STAGE {}", stage.name()).into()));
        }
        Ok(())
    }

    fn stage_end(&mut self, _stage: Stage) -> Result<()> {
        if let Some(recording) = self.active_for_stages() {
            recording.end();
            recording.count_memory();
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "steps are few")]
    fn step_begin(&mut self, step: usize, sigma: f32) -> Result<()> {
        if !self.window.records_stages() && step == self.window.steps().start {
            self.start()?;
        }
        if let Some(recording) = self.active() {
            recording.count(
                "denoising",
                vec![("step", step as f64), ("sigma", sigma.into())],
            );
            recording.begin(Name::Numbered("ProfilerStep", '#', step as u64));
            recording.begin(Name::Numbered("denoising_step", '_', step as u64));
        }
        Ok(())
    }

    fn step_end(&mut self, step: usize, latents: &Tensor) -> Result<()> {
        let is_last = !self.window.records_stages() && step + 1 == self.window.steps().end;
        if let Some(recording) = self.active() {
            recording.end();
            recording.end();
            recording.count_memory();
            recording.keep(latents);
            if is_last {
                recording.stop()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_names_the_folder() {
        let folder = |set: &[(&str, &str)]| {
            trace_folder(|name| {
                let found = set.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, folder)| (*folder).into())
            })
        };
        let [first, second] = FOLDER_VARIABLES;
        assert_eq!(folder(&[]), PathBuf::from("logs"));
        assert_eq!(folder(&[(second, "b")]), PathBuf::from("b"));
        assert_eq!(folder(&[(second, "b"), (first, "a")]), PathBuf::from("a"));
        assert_eq!(folder(&[(second, "b"), (first, "")]), PathBuf::from("b"));
    }
}
