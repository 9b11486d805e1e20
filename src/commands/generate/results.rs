//! What comes out of a run: pictures with their recipes, traces, the JSON object.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::plan::Run;
use crate::cli::console::Console;
use crate::output::{self, Recipe};
use crate::perf::PerfReport;
use crate::pipeline::Picture;
use crate::profiler::{self, Profiler};
use crate::request::GenerateRequest;
use crate::sampling::Precisions;
use crate::weights::{LoadFormat, Lora};

/// What a request leaves to the device, the memory plan and the files.
pub(super) struct Settings {
    pub(super) device: String,
    pub(super) precisions: Precisions,
    pub(super) vae_tiling: bool,
    /// Of the repository that the model is from.
    pub(super) model_commit: Option<String>,
    pub(super) loras: Vec<Lora>,
}

impl Settings {
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
            model_commit: self.model_commit.clone(),
            dummy_weights: run.request.load_format == LoadFormat::Dummy,
            loras: self.loras.clone(),
            prompt: images[index].prompt.clone(),
            negative_prompt: sampling
                .uses_guidance()
                .then(|| sampling.negative_prompt.clone()),
            width: u32::try_from(sampling.width).unwrap_or(u32::MAX),
            height: u32::try_from(sampling.height).unwrap_or(u32::MAX),
            num_inference_steps: sampling.num_inference_steps,
            flow_shift: sampling.flow_shift,
            true_cfg_scale: sampling.true_cfg_scale,
            seed: images[index].seed,
            generator_device: sampling.generator_device.name().to_owned(),
            device: self.device.clone(),
            dit_precision: name(self.precisions.dit),
            vae_precision: name(self.precisions.vae),
            text_encoder_precision: name(self.precisions.text_encoder),
            vae_tiling: self.vae_tiling,
            max_sequence_length: sampling.max_sequence_length,
            request_id: run.request_id(index),
        }
    }
}

impl Run {
    /// Writes the picture of request `index`, unless pictures are not saved, and tells where it is.
    pub(super) fn save(
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

    /// Writes the trace of request `index` and tells where it is.
    pub(super) fn save_trace(
        &self,
        index: usize,
        profiler: &mut Profiler,
        console: &Console,
    ) -> Result<()> {
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

    /// Writes the perf dump, where one is asked for, and gives its path.
    pub(super) fn save_report(
        &self,
        report: &PerfReport,
        console: &Console,
    ) -> Result<Option<&Path>> {
        let Some(path) = &self.request.perf_dump_path else {
            return Ok(None);
        };
        let progress = if self.request.output.save {
            "the pictures are saved, the perf dump is not"
        } else {
            "the perf dump is not saved"
        };
        report.write(path).context(progress)?;
        let absolute = std::path::absolute(path)?;
        console.path(&format!("Metrics dumped to: {}", absolute.display()));
        Ok(Some(path))
    }

    /// The object of `--json`; `dump` is the perf dump that was written.
    pub(super) fn json(
        &self,
        settings: &Settings,
        report: &PerfReport,
        dump: Option<&Path>,
    ) -> Result<serde_json::Value> {
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
            "model_commit": settings.model_commit,
            "loras": settings.loras,
            "flow_shift": self.request.sampling.flow_shift,
            "device": report["device"],
            "cold_start_ms": report["cold_start_ms"],
            "load": report["load"],
            "outputs": outputs,
            "perf_dump_path": dump,
        }))
    }
}
