//! What a run says of itself: upstream's lines, and a summary of where the time went.

use std::io::{stderr, stdout};
use std::time::Duration;

use super::open::Opened;
use super::plan::Run;
use crate::cli::console::{Console, json_text, write_result};
use crate::cli::generate::LogLevel;
use crate::error::Result;
use crate::human::{escaped, mib};
use crate::memory::MemoryPlan;
use crate::perf::PerfReport;
use crate::pipeline::{Stage, TextEncodings};
use crate::process::peak_host_bytes;
use crate::request::GenerateRequest;
use crate::sampling::Sampling;
use crate::weights::Lora;

/// What the operations tell of on the way (a GPU library that does not do a shape), for those who asked
/// for more.
pub(super) fn show_events(level: LogLevel) {
    if level <= LogLevel::Debug {
        // The process has one subscriber of this kind, and this is it.
        let _ = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(stderr)
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .try_init();
    }
}

/// The prompts that do not fit.
fn warn_of_truncation(texts: &TextEncodings, request: &GenerateRequest, console: &Console) {
    for (text, lost) in texts.truncated() {
        let beginning: String = text.chars().take(40).collect();
        let is_prompt = request.images.iter().any(|image| image.prompt == text);
        let which = if is_prompt {
            "prompt"
        } else {
            "negative prompt"
        };
        console.warning(&format!(
            "--max-sequence-length: {lost} tokens of the {which} that begins with {beginning:?} are cut off, the template's end among them"
        ));
    }
}

/// What `--dry-run` is for.
pub(super) fn show_plan(plan: &MemoryPlan, sampling: &Sampling, json: bool) -> Result<()> {
    let Sampling { width, height, .. } = sampling;
    let text = if json {
        let mut plan = plan.json();
        plan["width"] = (*width).into();
        plan["height"] = (*height).into();
        json_text(&plan)?
    } else {
        format!("{width}x{height}, {plan}\n")
    };
    write_result(&mut stdout(), text.as_bytes())
}

/// What is known before the weights are read, and upstream's lines before the first stage.
pub(super) fn describe(run: &Run, opened: &Opened, console: &Console) {
    warn_of_truncation(&opened.texts, &run.request, console);
    console.info(&format!("Using {}", opened.chosen.reason));
    console.debug(&opened.plan.to_string());
    let request = &run.request;
    let sampling = &request.sampling;
    let text = |text: &str| {
        if console.shows_prompts() {
            escaped(text)
        } else {
            format!("<redacted, len={}>", text.chars().count())
        }
    };
    let prompts: Vec<String> = run.prompts().iter().map(|p| text(p)).collect();
    let seeds: Vec<String> = request.images.iter().map(|i| i.seed.to_string()).collect();
    let paths: Vec<String> = run.paths.iter().map(|p| p.display().to_string()).collect();
    let mut rows = vec![
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
    if let Some(shift) = sampling.flow_shift {
        rows.push(("flow_shift", shift.to_string()));
    }
    let rows: Vec<String> = rows
        .iter()
        .map(|(key, value)| format!("{key:>24}: {value}"))
        .collect();
    for Lora { file, scale } in &opened.settings.loras {
        console.info(&format!("Merging LoRA {file} at scale {scale}"));
    }
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

/// Upstream's lines before a request that is recorded.
pub(super) fn announce_profiling(run: &Run, index: usize, console: &Console) {
    if let Some(window) = &run.request.profile {
        let what = window.mode().replace('_', " ");
        console.info(&format!(
            "Profiling request: {} for {what}...",
            run.request_id(index)
        ));
        console.info("Starting Profiler...");
    }
}

pub(super) fn report_request(duration: Duration, run: &Run, console: &Console) {
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
pub(super) fn summarise(report: &PerfReport, console: &Console) {
    let peak = |what: &str, mib: Option<f64>| {
        mib.map_or(String::new(), |mib| format!(", {what} {mib:.0} MiB"))
    };
    let memory = peak("peak GPU memory", report.peak_gpu_mib())
        + &peak("peak memory", peak_host_bytes().map(mib));
    console.info(&format!("Summary: {}{memory}", report.summary()));
}
