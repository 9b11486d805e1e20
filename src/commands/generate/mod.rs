//! `generate`: resolve, check, load, observe, run, save.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::json;

use crate::cli::console::Console;
use crate::cli::generate::GenerateArgs;
use crate::device::{self, Chosen};
use crate::error::Error;
use crate::files;
use crate::interrupt::Interrupt;
use crate::output::{self, Naming, Recipe};
use crate::perf::{
    PerfRecorder, PerfReport, RequestFacts, RunFacts, commit_hash, peak_host_mb, process_start,
};
use crate::pipeline::{Checkpoint, Observer, Picture, Pipeline, Precisions, Stage, TextEncodings};
use crate::profiler::{self, Nvtx, Profiler};
use crate::request::GenerateRequest;

/// Runs the command; `started` is when `main` did.
///
/// # Errors
/// Whatever stops the run; nothing is left half-written.
pub fn run(args: GenerateArgs, started: Instant) -> Result<()> {
    let mut console = Console::new(args.log_level(), args.json());
    let json = args.json();
    let mut interrupt = Interrupt::install()?;

    let request = args.into_request()?;
    request.warnings.iter().for_each(|w| console.warning(w));
    let run = Run::plan(request)?;
    let checkpoint = Checkpoint::open(&run.request.source, run.request.load_format)?;
    let mut texts = checkpoint.tokenise(&run.request.images, &run.request.sampling)?;
    warn_of_truncation(&texts, &console);
    start_threads()?;
    let chosen = run.request.device.open()?;
    let settings = Settings::new(&run.request, &chosen);
    console.info(&format!("Using {}", chosen.reason));
    describe(&run, &console);

    let mut profiling = run.profiling(&chosen);
    let mut perf = PerfRecorder::new(&chosen.device, process_start(started));
    let pipeline = Pipeline::load(
        checkpoint,
        run.request.sampling.clone(),
        &chosen.device,
        settings.precisions,
        &mut observers(&mut interrupt, &mut console, &mut profiling, &mut perf),
    )
    .with_context(|| format!("cannot load {}", run.request.model_path))?;

    perf.end_cold_start();
    if let Some(steps) = run.request.warmup_steps {
        console.set_warming_up(true);
        let mut observers: Vec<&mut dyn Observer> = vec![&mut interrupt, &mut console];
        // Texts of its own: the recorded request encodes them again.
        let mut texts = texts.clone();
        pipeline.warm_up(&run.request.images[0], &mut texts, steps, &mut observers)?;
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
        let picture = picture.with_context(|| run.progress(index))?;
        observers.request_end(index)?;
        let saving = Instant::now();
        run.save(index, &picture, &settings, &console)
            .with_context(|| run.progress(index))?;
        if run.request.output.save {
            perf.saved(index, saving.elapsed());
        }
        report_request(begin.elapsed(), &run, &console);
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
    summarise(&report, &console);
    if json {
        console.json_object(&run.json(&report)?)?;
    }
    Ok(())
}

fn warn_of_truncation(texts: &TextEncodings, console: &Console) {
    for (text, lost) in texts.truncated() {
        let beginning: String = text.chars().take(40).collect();
        console.warning(&format!(
            "{lost} tokens of the prompt that begins with {beginning:?} are cut off"
        ));
    }
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

/// A request with its id and the paths of its pictures, all found writable.
struct Run {
    request: GenerateRequest,
    id: String,
    /// One for each picture; none when they are not saved.
    paths: Vec<PathBuf>,
    /// Of each request; empty where none is recorded.
    trace_paths: Vec<PathBuf>,
}

impl Run {
    fn plan(request: GenerateRequest) -> Result<Self> {
        let new_id = || uuid::Uuid::new_v4().to_string();
        let id = request.request_id.clone().unwrap_or_else(new_id);
        let mut paths = output_paths(&request, &id)?;
        if !request.output.save {
            paths.clear();
        }
        let mut outputs = paths.iter().chain(&request.perf_dump_path);
        outputs.try_for_each(|path| files::check_writable(path))?;
        if let Some(dump) = &request.perf_dump_path
            && paths.iter().any(|path| files::is_same_place(path, dump))
        {
            let message = format!("--perf-dump-path {}: a picture goes there", dump.display());
            return Err(Error::usage(message).into());
        }
        let mut run = Self {
            request,
            id,
            paths,
            trace_paths: Vec::new(),
        };
        if let Some(window) = &run.request.profile {
            let folder = profiler::trace_folder(|variable| std::env::var_os(variable));
            run.trace_paths = (0..run.request.images.len())
                .map(|index| folder.join(window.file_name(&run.request_id(index))))
                .collect();
            run.trace_paths
                .iter()
                .try_for_each(|path| files::check_writable(path))?;
        }
        Ok(run)
    }

    fn profiling(&self, chosen: &Chosen) -> Profiling {
        let layerwise = self.request.layerwise_nvtx;
        let window = self.request.profile.clone();
        Profiling {
            nvtx: Nvtx::new(layerwise),
            profiler: window.map(|window| Profiler::new(window, &chosen.device, layerwise)),
        }
    }

    /// The id of one of several requests carries its index.
    fn request_id(&self, index: usize) -> String {
        match self.request.images.len() {
            1 => self.id.clone(),
            _ => format!("{}-{index}", self.id),
        }
    }

    fn request_facts(&self, index: usize) -> RequestFacts {
        RequestFacts {
            request_id: self.request_id(index),
            prompt: (!self.request.prompts_from_file).then(|| self.prompts()),
        }
    }

    fn prompts(&self) -> Vec<String> {
        let outputs = self.request.outputs_per_prompt();
        let images = self.request.images.iter().step_by(outputs);
        images.map(|image| image.prompt.clone()).collect()
    }

    /// What was done when request `index` failed.
    fn progress(&self, index: usize) -> String {
        let (number, all) = (index + 1, self.request.images.len());
        match number {
            _ if all == 1 => "the picture was not made".to_owned(),
            2.. if self.request.output.save => {
                format!("picture {number} of {all} was not made, those before it are saved")
            }
            _ => format!("picture {number} of {all} was not made"),
        }
    }

    fn save(
        &self,
        index: usize,
        picture: &Picture,
        settings: &Settings,
        console: &Console,
    ) -> Result<()> {
        let Some(path) = self.paths.get(index) else {
            return Ok(());
        };
        let recipe = settings.recipe(self, index);
        let recipe = self.request.output.metadata.then_some(&recipe);
        output::write_png(
            path,
            &picture.rgb,
            u32::try_from(picture.width)?,
            u32::try_from(picture.height)?,
            recipe,
        )?;
        console.path(&format!("Output saved to {}", path.display()));
        Ok(())
    }

    fn save_trace(&self, index: usize, profiler: &mut Profiler, console: &Console) -> Result<()> {
        console.info("Stopping Profiler...");
        let profile = profiler.take()?.context("nothing was recorded")?;
        profile.warnings.iter().for_each(|w| console.warning(w));
        let path = std::path::absolute(&self.trace_paths[index])?;
        let written = profiler::writer::write(&profile.trace, &path)?;
        console.path(&format!("Saved profiler traces to: {}", path.display()));
        console.info(&written.to_string());
        if written.is_slow_to_view() {
            console.warning("viewers are slow on a trace of this size; record fewer steps");
        }
        Ok(())
    }

    /// What was done when the trace of request `index` failed.
    fn trace_progress(&self, index: usize) -> String {
        let made = index + 1;
        match (self.request.images.len(), self.request.output.save) {
            (1, true) => "the picture is saved, its trace is not".to_owned(),
            (1, false) => "the trace is not saved".to_owned(),
            (all, _) => format!("picture {made} of {all} was made, its trace is not saved"),
        }
    }

    fn json(&self, report: &PerfReport) -> Result<serde_json::Value> {
        let report = serde_json::to_value(report)?;
        let further = report["requests"].as_array().cloned().unwrap_or_default();
        let outputs: Vec<_> = std::iter::once(&report)
            .chain(&further)
            .zip(&self.request.images)
            .enumerate()
            .map(|(index, (record, image))| {
                json!({
                    "request_id": record["request_id"],
                    "path": self.paths.get(index),
                    "prompt": image.prompt,
                    "seed": image.seed,
                    "width": self.request.sampling.width,
                    "height": self.request.sampling.height,
                    "total_duration_ms": record["total_duration_ms"],
                    "stages": record["steps"],
                    "denoise_steps_ms": record["denoise_steps_ms"],
                    "save_ms": record["save_ms"],
                    "trace_path": self.trace_paths.get(index),
                })
            })
            .collect();
        Ok(json!({
            "request_id": self.id,
            "model": self.request.model_path,
            "device": report["device"],
            "cold_start_ms": report["cold_start_ms"],
            "load": report["load"],
            "outputs": outputs,
            "perf_dump_path": self.request.perf_dump_path,
        }))
    }
}

fn output_paths(request: &GenerateRequest, id: &str) -> Result<Vec<PathBuf>> {
    let output = &request.output;
    let (folder, given) = match (&output.file_path, &output.file_name) {
        (Some(path), _) => {
            let (folder, name) = output::split_file_path(path)?;
            (folder, Some(("--output-file-path", name)))
        }
        (None, Some(name)) => (
            output.folder.clone(),
            Some(("--output-file-name", name.clone())),
        ),
        (None, None) => (output.folder.clone(), None),
    };
    let naming = match &given {
        Some((flag, name)) => Naming::Given { name, flag },
        None => Naming::Automatic {
            time: jiff::ZonedDateTime::now().datetime(),
            request_id: id,
        },
    };
    let outputs = request.outputs_per_prompt();
    let prompts: Vec<String> = request
        .images
        .iter()
        .step_by(outputs)
        .map(|image| image.prompt.clone())
        .collect();
    let names = output::output_names(naming, &prompts, outputs)?;
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// What the device decides.
struct Settings {
    device: String,
    precisions: Precisions,
}

impl Settings {
    fn new(request: &GenerateRequest, chosen: &Chosen) -> Self {
        let default = device::default_dtype(&chosen.device);
        Self {
            device: device::name(&chosen.device),
            precisions: request.precisions.or_default(default),
        }
    }

    fn recipe(&self, run: &Run, index: usize) -> Recipe {
        let GenerateRequest {
            sampling, images, ..
        } = &run.request;
        let name = |dtype: candle_core::DType| match dtype {
            candle_core::DType::F32 => "fp32".to_owned(),
            other => other.as_str().to_owned(),
        };
        Recipe {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: run.request.model_path.clone(),
            prompt: images[index].prompt.clone(),
            negative_prompt: sampling
                .uses_guidance()
                .then(|| sampling.negative_prompt.clone()),
            width: u32::try_from(sampling.width).unwrap_or(u32::MAX),
            height: u32::try_from(sampling.height).unwrap_or(u32::MAX),
            num_inference_steps: sampling.num_inference_steps,
            true_cfg_scale: sampling.true_cfg_scale.into(),
            seed: images[index].seed,
            generator_device: sampling.generator_device.name().to_owned(),
            device: self.device.clone(),
            dit_precision: name(self.precisions.dit),
            vae_precision: name(self.precisions.vae),
            text_encoder_precision: name(self.precisions.text_encoder),
            max_sequence_length: sampling.max_sequence_length,
            request_id: run.request_id(index),
        }
    }
}

/// Upstream's lines before the first stage.
fn describe(run: &Run, console: &Console) {
    let request = &run.request;
    let sampling = &request.sampling;
    let text = |text: &str| {
        if console.shows_prompts() {
            text.to_owned()
        } else {
            format!("<redacted, len={}>", text.chars().count())
        }
    };
    let prompts: Vec<String> = run.prompts().iter().map(|p| text(p)).collect();
    let seeds: Vec<String> = request.images.iter().map(|i| i.seed.to_string()).collect();
    let paths: Vec<String> = run.paths.iter().map(|p| p.display().to_string()).collect();
    let rows = [
        ("width", sampling.width.to_string()),
        ("height", sampling.height.to_string()),
        ("prompt", prompts.join(", ")),
        ("neg_prompt", text(&sampling.negative_prompt)),
        ("seed", seeds.join(", ")),
        ("infer_steps", sampling.num_inference_steps.to_string()),
        (
            "num_outputs_per_prompt",
            request.outputs_per_prompt().to_string(),
        ),
        ("guidance_scale", sampling.true_cfg_scale.to_string()),
        ("save_output", request.output.save.to_string()),
        ("output_file_path", paths.join(", ")),
    ];
    let rows: Vec<String> = rows
        .map(|(key, value)| format!("{key:>24}: {value}"))
        .to_vec();
    console.info(&format!(
        "Processing {} grouped request(s)",
        request.images.len()
    ));
    console.info(&format!("Sampling params:\n{}", rows.join("\n")));
    let stages: Vec<String> = Stage::ALL
        .map(|stage| format!("'{}'", stage.name()))
        .to_vec();
    console.info(&format!("Running pipeline stages: [{}]", stages.join(", ")));
}

fn report_request(duration: Duration, run: &Run, console: &Console) {
    let seconds = duration.as_secs_f64();
    console.info(&format!(
        "Pixel data generated successfully in {seconds:.2} seconds"
    ));
    if run.request.warmup_steps.is_some() {
        console.info(&format!(
            "Warmed-up request processed in {seconds:.2} seconds (with warmup excluded)"
        ));
    }
}

/// Where the time went, in one line.
fn summarise(report: &PerfReport, console: &Console) {
    let summary = report.summary();
    let s = |ms: f64| format!("{:.2} s", ms / 1e3);
    let steps = summary.steps.map_or(String::new(), |steps| {
        format!(
            " (median step {:.1} ms, worst {:.1} ms at step {})",
            steps.median_ms, steps.worst_ms, steps.worst_step
        )
    });
    let memory = peak_host_mb().map_or(String::new(), |mb| format!(", peak memory {mb:.0} MB"));
    console.info(&format!(
        "Summary: load {}, text {}, denoise {}{steps}, decode {}, save {}{memory}",
        s(summary.load_ms),
        s(summary.text_ms),
        s(summary.denoise_ms),
        s(summary.decode_ms),
        s(summary.save_ms),
    ));
}
