//! `generate`: resolve, check, fetch, load, observe, run, save.

mod fetch;
mod log;
mod plan;
mod results;

use std::panic;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use self::plan::Run;
use self::results::Settings;
use crate::cli::console::Console;
use crate::cli::generate::GenerateArgs;
use crate::device::{self, Chosen};
use crate::error;
use crate::interrupt::Interrupt;
use crate::memory::{Budget, MemoryPlan};
use crate::perf::{PerfRecorder, RunFacts, commit_hash, process_start};
use crate::pipeline::{Checkpoint, Observer, Pipeline, TextEncodings};
use crate::profiler::{Nvtx, Profiler};
use crate::request::GenerateRequest;
use crate::weights::ModelSource;

/// Runs the command; `started` is when `main` did.
///
/// # Errors
/// Whatever stops the run; nothing is left half-written.
pub fn run(args: GenerateArgs, started: Instant) -> Result<()> {
    let mut console = Console::new(args.log_level(), args.json());
    log::show_events(args.log_level());
    let json = args.json();
    let mut interrupt = Interrupt::install()?;

    let request = args.into_request()?;
    request.warnings.iter().for_each(|w| console.warning(w));
    let mut run = Run::plan(request)?;
    let (source, commit) = fetch::model(&run.request, &mut console, &interrupt)?;
    run.model_commit = commit;
    run.loras = fetch::loras(&run.request, &mut console, &interrupt)?;
    start_threads()?;
    let (checkpoint, mut texts, chosen) = open(&run, &source)?;
    log::warn_of_truncation(&texts, &console);
    let settings = Settings::new(&run.request, &chosen);
    console.info(&format!("Using {}", chosen.reason));
    let sampling = &run.request.sampling;
    let footprint = checkpoint.footprint(sampling, settings.precisions, &texts);
    let budget = Budget::of(&chosen.device)?;
    let plan = MemoryPlan::new(footprint, run.request.offload, budget)?;
    if run.request.dry_run {
        return Ok(log::show_plan(&plan, json, &console)?);
    }
    console.debug(&plan.to_string());
    log::describe(&run, &console);

    let mut profiling = Profiling::new(&run.request, &chosen);
    let mut perf = PerfRecorder::new(&chosen.device, process_start(started));
    let at = (settings.precisions, &chosen.device);
    let rehearsal = checkpoint.rehearsal(&run.request.images[0], sampling, &texts, at);
    let has_room = plan.has_room_for(&rehearsal.footprint());
    let mut pipeline = Pipeline::load(
        checkpoint,
        sampling.clone(),
        plan.offload,
        at,
        has_room.then_some(rehearsal),
        &mut observers(&mut interrupt, &mut console, &mut profiling, &mut perf),
    )
    .map_err(|error| plan.explain(error))
    .with_context(|| format!("cannot load {}", run.request.model_path))?;

    perf.end_cold_start();
    if let Some(steps) = run.request.warmup_steps {
        console.set_warming_up(true);
        let mut observers: Vec<&mut dyn Observer> = vec![&mut interrupt, &mut console];
        pipeline
            .warm_up(&run.request.images[0], &mut texts, steps, &mut observers)
            .map_err(|error| plan.explain(error))
            .context("the warm-up failed")?;
        perf.end_warm_up();
        console.set_warming_up(false);
    }

    for (index, image) in run.request.images.iter().enumerate() {
        let begin = Instant::now();
        console.start_progress(run.request.sampling.num_inference_steps);
        if let Some(window) = &run.request.profile {
            let what = window.mode().replace('_', " ");
            console.info(&format!(
                "Profiling request: {} for {what}...",
                run.request_id(index)
            ));
            console.info("Starting Profiler...");
        }
        let mut observers = observers(&mut interrupt, &mut console, &mut profiling, &mut perf);
        observers.request_begin(index)?;
        let picture = pipeline.generate(image, &mut texts, &mut observers);
        let picture = picture
            .map_err(|error| plan.explain(error))
            .with_context(|| run.progress(index))?;
        observers.request_end(index)?;
        let saving = Instant::now();
        run.save(index, &picture, &settings, &console)
            .with_context(|| run.progress(index))?;
        if run.request.output.save {
            perf.saved(index, saving.elapsed());
        }
        log::report_request(begin.elapsed(), &run, &console);
        if let Some(profiler) = &mut profiling.profiler {
            run.save_trace(index, profiler, &console)
                .with_context(|| run.trace_progress(index))?;
        }
    }

    let report = perf.finish(
        RunFacts {
            commit_hash: commit_hash(),
            device: device::name(&chosen.device),
            model: run.request.model_path.clone(),
        },
        |index| run.request_facts(index),
    )?;
    if let Some(path) = &run.request.perf_dump_path {
        report
            .write(path)
            .context("the pictures are complete, the perf dump is not")?;
        let path = std::path::absolute(path)?;
        console.path(&format!("Metrics dumped to: {}", path.display()));
    }
    log::summarise(&report, &console);
    if json {
        console.json_object(&run.json(&report)?)?;
    }
    Ok(())
}

/// Reads everything but the weights, and opens the device beside that: a GPU's driver takes as long to
/// start as the files take to be read.
fn open(run: &Run, source: &ModelSource) -> Result<(Checkpoint, TextEncodings, Chosen)> {
    let request = &run.request;
    let read = || -> error::Result<_> {
        let checkpoint = Checkpoint::open(source, request.load_format)?;
        let checkpoint = checkpoint.with_loras(&run.loras)?;
        let texts = checkpoint.tokenise(&request.images, &request.sampling)?;
        Ok((checkpoint, texts))
    };
    thread::scope(|scope| {
        let device = thread::Builder::new().spawn_scoped(scope, || request.device.prepare());
        let device = device.context("cannot start threads")?;
        let read = read();
        let device = device.join();
        // What is wrong with the files comes first.
        let (checkpoint, texts) = read?;
        let chosen = device.unwrap_or_else(|panic| panic::resume_unwind(panic))?;
        Ok((checkpoint, texts, chosen))
    })
}

/// Starts the worker threads now: later, a system that refuses them makes rayon panic.
fn start_threads() -> Result<()> {
    let threads = rayon::ThreadPoolBuilder::new();
    // Its error says the same twice when its source is told, too.
    (threads.build_global()).map_err(|error| anyhow!("cannot start threads: {error}"))
}

fn observers<'a>(
    interrupt: &'a mut Interrupt,
    console: &'a mut Console,
    profiling: &'a mut Profiling,
    perf: &'a mut PerfRecorder,
) -> Vec<&'a mut dyn Observer> {
    // The recorder is innermost, so that what the others do is in no stage or step.
    let mut observers: Vec<&mut dyn Observer> = vec![interrupt, console];
    if let Some(nvtx) = &mut profiling.nvtx {
        observers.push(nvtx);
    }
    if let Some(profiler) = &mut profiling.profiler {
        observers.push(profiler);
    }
    observers.push(perf);
    observers
}

/// Who records a run besides the clock.
struct Profiling {
    nvtx: Option<Nvtx>,
    profiler: Option<Profiler>,
}

impl Profiling {
    fn new(request: &GenerateRequest, chosen: &Chosen) -> Self {
        let layerwise = request.layerwise_nvtx;
        let window = request.profile.clone();
        Self {
            nvtx: Nvtx::new(layerwise),
            profiler: window.map(|window| Profiler::new(window, &chosen.device, layerwise)),
        }
    }
}
