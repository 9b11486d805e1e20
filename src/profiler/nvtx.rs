//! NVTX ranges, which Nsight Systems and Nsight Compute show and filter by.
//!
//! Stages and steps are always marked: that costs 35 ns each while no tool is attached. Blocks and
//! operators are marked on request. Without the `cuda` feature there are none.

use std::ffi::CString;
use std::sync::Arc;

use candle_core::Tensor;

use super::spans::{Installed, SpanListener, SpanRecorder};
use super::trace::Name;
use crate::error::Result;
use crate::pipeline::{Observer, Stage};

/// Marks a run for other profilers.
#[derive(Debug)]
pub struct Nvtx {
    layerwise: bool,
    installed: Option<Installed>,
}

impl Nvtx {
    /// Marks stages and steps and, when `layerwise`, spans; `None` without the `cuda` feature.
    #[must_use]
    pub fn new(layerwise: bool) -> Option<Self> {
        cfg!(feature = "cuda").then_some(Self {
            layerwise,
            installed: None,
        })
    }
}

impl Observer for Nvtx {
    fn wants_operators(&self) -> bool {
        self.layerwise
    }

    fn request_begin(&mut self) -> Result<()> {
        if self.layerwise {
            // What it records is not asked for: the listener is.
            let recorder = Arc::new(SpanRecorder::new(0, Some(listener())));
            self.installed = Some(recorder.install());
        }
        Ok(())
    }

    fn request_end(&mut self) -> Result<()> {
        self.installed = None;
        Ok(())
    }

    fn stage_begin(&mut self, stage: Stage) -> Result<()> {
        push(format!("stage_{}", stage.name()));
        if stage == Stage::Denoising {
            push("denoising_loop".to_owned());
        }
        Ok(())
    }

    fn stage_end(&mut self, stage: Stage) -> Result<()> {
        if stage == Stage::Denoising {
            pop();
        }
        pop();
        Ok(())
    }

    fn step_begin(&mut self, step: usize, _sigma: f32) -> Result<()> {
        push(format!("denoising_step_{step}"));
        Ok(())
    }

    fn step_end(&mut self, _step: usize, _latents: &Tensor) -> Result<()> {
        pop();
        Ok(())
    }
}

/// Marks the spans it is told of.
pub(super) fn listener() -> Box<dyn SpanListener> {
    Box::new(Spans)
}

#[derive(Debug)]
struct Spans;

impl SpanListener for Spans {
    fn begin(&self, name: &Name) {
        push(name.to_string());
    }

    fn end(&self) {
        pop();
    }
}

fn push(name: String) {
    // Names come from this program and hold no NUL.
    let name = CString::new(name).unwrap_or_default();
    ffi::push(&name);
}

fn pop() {
    ffi::pop();
}

#[cfg(feature = "cuda")]
#[expect(unsafe_code, reason = "C functions")]
mod ffi {
    use std::ffi::{CStr, c_char};

    unsafe extern "C" {
        fn qwen_gen_nvtx_push(name: *const c_char);
        fn qwen_gen_nvtx_pop();
    }

    pub(super) fn push(name: &CStr) {
        // SAFETY: NVTX copies the name.
        unsafe { qwen_gen_nvtx_push(name.as_ptr()) }
    }

    pub(super) fn pop() {
        // SAFETY: NVTX passes over a pop without a push.
        unsafe { qwen_gen_nvtx_pop() }
    }
}

#[cfg(not(feature = "cuda"))]
mod ffi {
    use std::ffi::CStr;

    pub(super) fn push(_name: &CStr) {}

    pub(super) fn pop() {}
}
