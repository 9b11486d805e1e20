//! Who watches a run.

use std::time::Instant;

use crate::cli::console::Console;
use crate::device::Chosen;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::perf::PerfRecorder;
use crate::pipeline::Observer;
use crate::process::process_start;
use crate::profiler::{Nvtx, Profiler};
use crate::request::GenerateRequest;

pub(super) struct Watchers {
    pub(super) interrupt: Interrupt,
    pub(super) console: Console,
    nvtx: Option<Nvtx>,
    pub(super) profiler: Option<Profiler>,
    pub(super) perf: PerfRecorder,
}

impl Watchers {
    /// Those whom `request` asks for; `started` is when `main` did.
    pub(super) fn new(
        request: &GenerateRequest,
        chosen: &Chosen,
        interrupt: Interrupt,
        console: Console,
        started: Instant,
    ) -> Self {
        let layerwise = request.layerwise_nvtx;
        let window = request.profile.clone();
        Self {
            interrupt,
            console,
            nvtx: Nvtx::new(layerwise),
            profiler: window.map(|window| Profiler::new(window, &chosen.device, layerwise)),
            perf: PerfRecorder::new(&chosen.device, process_start(started)),
        }
    }

    /// All of them, outermost first.
    pub(super) fn all(&mut self) -> Vec<&mut dyn Observer> {
        // The recorder is innermost, so that what the others do is in no stage or step.
        let mut all: Vec<&mut dyn Observer> = vec![&mut self.interrupt, &mut self.console];
        if let Some(nvtx) = &mut self.nvtx {
            all.push(nvtx);
        }
        if let Some(profiler) = &mut self.profiler {
            all.push(profiler);
        }
        all.push(&mut self.perf);
        all
    }

    /// Runs `warm_up`, which nobody records but for what is loaded in it.
    pub(super) fn of_a_warm_up<T>(&mut self, warm_up: impl FnOnce(&mut dyn Observer) -> T) -> T {
        let mut perf = Loads(&mut self.perf);
        let mut profiler = self.profiler.as_mut().map(|profiler| Loads(profiler));
        let mut all: Vec<&mut dyn Observer> = vec![&mut self.interrupt, &mut self.console];
        if let Some(profiler) = &mut profiler {
            all.push(profiler);
        }
        all.push(&mut perf);
        warm_up(&mut all)
    }
}

/// Tells of loads only.
struct Loads<'a>(&'a mut dyn Observer);

impl Observer for Loads<'_> {
    fn load_begin(&mut self, component: &'static str) -> Result<()> {
        self.0.load_begin(component)
    }

    fn load_end(&mut self, component: &'static str, bytes: u64) -> Result<()> {
        self.0.load_end(component, bytes)
    }
}
