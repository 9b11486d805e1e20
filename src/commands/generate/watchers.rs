//! Who watches a run.

use std::time::Instant;

use crate::cli::console::Console;
use crate::device::Chosen;
use crate::interrupt::Interrupt;
use crate::perf::{PerfRecorder, process_start};
use crate::pipeline::Observer;
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

    /// Those who watch what nobody records.
    pub(super) fn of_a_warm_up(&mut self) -> Vec<&mut dyn Observer> {
        vec![&mut self.interrupt, &mut self.console]
    }
}
