//! Everything that can be known before weights are read: files, device, memory plan.
//!
//! What a run would be refused for is found before the weights are downloaded.

use std::{panic, thread};

use anyhow::{Context, Result, anyhow};

use super::fetch;
use super::results::Settings;
use crate::cli::console::Console;
use crate::device::{self, Chosen};
use crate::error;
use crate::interrupt::Interrupt;
use crate::memory::{Budget, MemoryPlan};
use crate::pipeline::{Checkpoint, TextEncodings};
use crate::request::GenerateRequest;
use crate::weights::{Lora, ModelSource};

/// Everything but the weights, read and found to fit.
pub(super) struct Opened {
    pub(super) checkpoint: Checkpoint,
    pub(super) texts: TextEncodings,
    pub(super) chosen: Chosen,
    pub(super) settings: Settings,
    pub(super) plan: MemoryPlan,
}

impl Opened {
    /// Reads what there is of the files, and opens the device beside that: a GPU's driver takes as long
    /// to start as they take to be read.
    ///
    /// A device that is open already is given back in `chosen`.
    fn new(
        request: &GenerateRequest,
        files: &fetch::Files,
        loras: &[Lora],
        chosen: Option<Chosen>,
    ) -> Result<Self> {
        let read = || -> error::Result<_> {
            let format = files.load_format(request.load_format);
            let checkpoint = Checkpoint::open(&files.source, format)?;
            let checkpoint = checkpoint.with_loras(loras)?;
            checkpoint.schedule(&request.sampling)?;
            let texts = checkpoint.tokenise(&request.images, &request.sampling)?;
            Ok((checkpoint, texts))
        };
        let prepare = || chosen.map_or_else(|| request.device.prepare(), Ok);
        let (read, device) = thread::scope(|scope| {
            let device = thread::Builder::new().spawn_scoped(scope, prepare);
            let device = device.context("cannot start threads")?;
            anyhow::Ok((read(), device.join()))
        })?;
        // What is wrong with the files comes first.
        let (checkpoint, texts) = read.map_err(|error| files.with_way_out(error))?;
        let chosen = device.unwrap_or_else(|panic| panic::resume_unwind(panic))?;
        let precisions = request.precisions.or_default(&chosen.device);
        let at = (precisions, &chosen.device);
        let footprint =
            checkpoint.footprint(&request.sampling, at, &texts, !request.loras.is_empty());
        let budget = Budget::of(&chosen.device)?;
        let plan = MemoryPlan::new(footprint, request.offload, budget)?;
        let settings = Settings {
            device: device::name(&chosen.device),
            precisions,
            vae_tiling: plan.offload.vae_tiling,
            model_commit: files.commit.clone(),
            loras: loras.to_vec(),
        };
        Ok(Self {
            checkpoint,
            texts,
            chosen,
            settings,
            plan,
        })
    }
}

/// Fetches the files and opens them; of a run that only shows its plan, without the weights.
pub(super) fn open(
    request: &GenerateRequest,
    console: &mut Console,
    interrupt: &Interrupt,
) -> Result<Opened> {
    let mut files = fetch::configs(request, console, interrupt)?;
    let loras = fetch::loras(request, console, interrupt)?;
    start_threads()?;
    let mut opened = Opened::new(request, &files, &loras, None)?;
    if !files.are_complete() && !request.dry_run {
        files = fetch::weights(files, console, interrupt)?;
        opened = Opened::new(request, &files, &loras, Some(opened.chosen))?;
    }
    if let (ModelSource::Folder(folder), Some(_)) = (&files.source, &files.commit) {
        console.info(&format!("Using {}", folder.display()));
    }
    interrupt.check()?;
    Ok(opened)
}

/// Starts the worker threads now: later, a system that refuses them makes rayon panic.
///
/// This thread is one of them: it takes its part of an operation at once instead of waking another and
/// waiting for it, 3 of the built-in model's 32 ms a step on two cores.
fn start_threads() -> Result<()> {
    let threads = rayon::ThreadPoolBuilder::new().use_current_thread();
    // Its error says the same twice when its source is told, too.
    (threads.build_global()).map_err(|error| anyhow!("cannot start threads: {error}"))
}
