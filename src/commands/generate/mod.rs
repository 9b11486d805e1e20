//! `generate`: resolve, check, fetch, load, observe, run, save.

mod fetch;
mod log;
mod open;
mod plan;
mod results;

use std::time::Instant;

use anyhow::{Context, Result};

use self::open::Opened;
use self::plan::Run;
use crate::cli::console::Console;
use crate::cli::generate::GenerateArgs;
use crate::device::{self, Chosen};
use crate::interrupt::Interrupt;
use crate::perf::{PerfRecorder, RunFacts, commit_hash, process_start};
use crate::pipeline::{Observer, Pipeline};
use crate::profiler::{Nvtx, Profiler};
use crate::request::GenerateRequest;

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
    let opened = open::open(&mut run, &mut console, &interrupt)?;
    if run.request.dry_run {
        return Ok(log::show_plan(&opened.plan, json, &console)?);
    }
    let Opened {
        checkpoint,
        mut texts,
        chosen,
        settings,
        plan,
    } = opened;
    log::warn_of_truncation(&texts, &console);
    console.info(&format!("Using {}", chosen.reason));
    let sampling = &run.request.sampling;
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
    // All is in its place; that it was to stop is told all the same.
    Ok(interrupt.check()?)
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
