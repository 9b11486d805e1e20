//! A request with every default resolved and every value checked that needs no model.

mod lora;
mod model;
mod prompts;
mod seeds;
mod size;

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

pub(crate) use self::lora::pick_lora;
use self::lora::resolve_loras;
pub use self::lora::{LoraArgs, LoraName, LoraPlace};
pub use self::model::ModelName;
pub use self::prompts::read_prompt_file;
use self::prompts::resolve_negative_prompt;
use self::seeds::resolve_seeds;
pub use self::size::SizeArgs;
use crate::device::{self, DeviceChoice};
use crate::error::{Error, Result};
use crate::memory::OffloadChoices;
use crate::noise::GeneratorDevice;
use crate::profiler::{Extent, Window};
use crate::sampling::{ImageRequest, Precisions, Sampling};
use crate::text::template;
use crate::weights::LoadFormat;

/// Most denoising steps: one for each of the training timesteps.
const MAX_STEPS: usize = 1000;

/// What was typed, before defaults.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the flags of the same names")]
pub struct Choices {
    pub model_path: String,
    pub revision: Option<String>,
    pub load_format: LoadFormat,
    pub lora: LoraArgs,
    pub prompts: Vec<String>,
    pub prompt_file: Option<PathBuf>,
    pub negative_prompt: Option<String>,
    pub max_sequence_length: usize,
    pub size: SizeArgs,
    pub num_inference_steps: usize,
    pub flow_shift: Option<f64>,
    pub guidance_scale: f32,
    pub true_cfg_scale: Option<f32>,
    pub seeds: Vec<u64>,
    pub generator_device: GeneratorDevice,
    pub num_outputs_per_prompt: Option<usize>,
    pub output: OutputOptions,
    pub perf_dump_path: Option<PathBuf>,
    pub request_id: Option<String>,
    pub profile: Option<Extent>,
    pub layerwise_nvtx: bool,
    pub device: DeviceChoice,
    pub precisions: PrecisionChoices,
    pub offload: OffloadChoices,
    pub dry_run: bool,
    pub warmup_steps: Option<usize>,
}

/// Folder of the pictures where none is named.
pub const OUTPUT_FOLDER: &str = "outputs";

/// Where pictures go.
#[derive(Debug, Clone)]
pub struct OutputOptions {
    /// Folder of the pictures.
    pub folder: PathBuf,
    /// Name, used as it is.
    pub file_name: Option<String>,
    /// Folder and name in one.
    pub file_path: Option<PathBuf>,
    /// Whether pictures are saved at all.
    pub save: bool,
    /// Whether the recipe goes into the file.
    pub metadata: bool,
}

/// Precisions asked for; what is not follows the device.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the networks of the same names")]
pub struct PrecisionChoices {
    pub dit: Option<DType>,
    pub vae: Option<DType>,
    pub text_encoder: Option<DType>,
}

impl PrecisionChoices {
    /// Fills in what was not asked for.
    #[must_use]
    pub fn or_default(self, device: &Device) -> Precisions {
        let default = device::default_dtype(device);
        Precisions {
            text_encoder: self.text_encoder.unwrap_or(default),
            dit: self.dit.unwrap_or(default),
            vae: self.vae.unwrap_or(default),
        }
    }
}

/// One run of `generate`.
#[derive(Debug, Clone)]
pub struct GenerateRequest {
    /// The text given to `--model-path`.
    pub model_path: String,
    /// The checkpoint it names.
    pub model: ModelName,
    /// Weights from files, or random ones.
    pub load_format: LoadFormat,
    /// Adapters merged into the transformer.
    pub loras: Vec<LoraName>,
    /// Distinct pictures to make: outputs of the first prompt, then of the second.
    pub images: Vec<ImageRequest>,
    /// Number of prompts among them.
    pub num_prompts: usize,
    /// The file that the prompts are from, when they were not typed.
    pub prompt_file: Option<PathBuf>,
    /// What all pictures share.
    pub sampling: Sampling,
    /// Where they go.
    pub output: OutputOptions,
    /// The perf dump's path.
    pub perf_dump_path: Option<PathBuf>,
    /// The run's id; a new one where it is not given.
    pub request_id: Option<String>,
    /// What the traces record, if there are to be any.
    pub profile: Option<Window>,
    /// Whether blocks and operators are marked for other profilers.
    pub layerwise_nvtx: bool,
    /// Device asked for.
    pub device: DeviceChoice,
    /// Precisions asked for.
    pub precisions: PrecisionChoices,
    /// What may leave the device while it is not at work.
    pub offload: OffloadChoices,
    /// Whether the memory plan is all that is wanted.
    pub dry_run: bool,
    /// Steps of the warm-up request, if there is one.
    pub warmup_steps: Option<usize>,
    /// What was changed on the way, for the user.
    pub warnings: Vec<String>,
}

impl GenerateRequest {
    /// Files that a run reads, besides those of a model.
    pub fn input_files(&self) -> impl Iterator<Item = &Path> {
        let loras = self.loras.iter().filter_map(|lora| match &lora.place {
            LoraPlace::File(file) => Some(Path::new(file)),
            LoraPlace::Repository(..) => None,
        });
        self.prompt_file.as_deref().into_iter().chain(loras)
    }

    /// Resolves defaults and checks values.
    ///
    /// # Errors
    /// A usage error naming the flag.
    pub fn resolve(choices: Choices) -> Result<Self> {
        let model = ModelName::resolve(&choices.model_path, choices.revision.as_deref())?;
        let loras = resolve_loras(&choices.lora)?;
        let mut warnings = Vec::new();
        let (width, height) = choices.size.resolve(model.default_size(), &mut warnings)?;
        let steps = choices.num_inference_steps;
        in_range("--num-inference-steps", steps, 1..=MAX_STEPS)?;
        in_range(
            "--max-sequence-length",
            choices.max_sequence_length,
            1..=template::MAX_SEQUENCE_LENGTH,
        )?;
        if let Some(steps) = choices.warmup_steps {
            in_range("--warmup-steps", steps, 1..=MAX_STEPS)?;
        }
        if let Some(warmup) = choices.warmup_steps.filter(|warmup| *warmup > steps) {
            warnings.push(format!(
                "--warmup-steps {warmup}: a request has {steps} steps"
            ));
        }
        if let (Some(true), Some(true)) = (choices.offload.dit, choices.offload.dit_layerwise) {
            return Err(Error::usage(
                "--dit-cpu-offload and --dit-layerwise-offload: the transformer goes as a whole or streams, not both",
            ));
        }
        let flow_shift = choices.flow_shift.map(resolve_shift).transpose()?;
        let true_cfg_scale = resolve_scale(choices.guidance_scale, choices.true_cfg_scale)?;
        if choices.negative_prompt.is_some() && true_cfg_scale <= 1.0 {
            warnings.push(format!(
                "--negative-prompt has no effect: guidance is off at a scale of {true_cfg_scale}"
            ));
        }
        check_paths(&choices.output, choices.perf_dump_path.as_deref())?;
        let profile = choices
            .profile
            .map(|extent| resolve_profile(extent, steps, &mut warnings))
            .transpose()?;
        if choices.load_format == LoadFormat::Dummy {
            warnings.push(
                "--load-format dummy: the weights are random, so the picture is noise".to_owned(),
            );
        }
        if choices.prompts.is_empty() {
            return Err(Error::Usage {
                message: "--prompt or --prompt-path is required".to_owned(),
                hint: Some("an empty prompt is allowed when given: --prompt \"\"".to_owned()),
            });
        }
        let seeds = resolve_seeds(
            &choices.seeds,
            choices.num_outputs_per_prompt,
            choices.prompts.len(),
        )?;
        let outputs = seeds.len() / choices.prompts.len();
        let images = choices
            .prompts
            .iter()
            .flat_map(|prompt| std::iter::repeat_n(prompt, outputs))
            .zip(seeds)
            .map(|(prompt, seed)| ImageRequest {
                prompt: prompt.clone(),
                seed,
            })
            .collect();
        Ok(Self {
            model_path: choices.model_path,
            model,
            load_format: choices.load_format,
            loras,
            images,
            num_prompts: choices.prompts.len(),
            prompt_file: choices.prompt_file,
            sampling: Sampling {
                width,
                height,
                num_inference_steps: steps,
                flow_shift,
                true_cfg_scale,
                negative_prompt: resolve_negative_prompt(choices.negative_prompt),
                generator_device: choices.generator_device,
                max_sequence_length: choices.max_sequence_length,
            },
            output: choices.output,
            perf_dump_path: choices.perf_dump_path,
            request_id: choices.request_id,
            profile,
            layerwise_nvtx: choices.layerwise_nvtx,
            device: choices.device,
            precisions: choices.precisions,
            offload: choices.offload,
            dry_run: choices.dry_run,
            warmup_steps: choices.warmup_steps,
            warnings,
        })
    }

    /// Pictures of each prompt.
    #[must_use]
    pub fn outputs_per_prompt(&self) -> usize {
        self.images.len() / self.num_prompts
    }
}

/// The window of a run of `steps` steps.
fn resolve_profile(extent: Extent, steps: usize, warnings: &mut Vec<String>) -> Result<Window> {
    let window = Window::new(extent, steps).ok_or_else(|| Error::Usage {
        message: format!(
            "--profile with --num-inference-steps {steps}: the first step is the warm-up, none is left to record"
        ),
        hint: Some("--profile-all-stages records every step".to_owned()),
    })?;
    if let Some(asked) = window.asked_for_more() {
        warnings.push(format!(
            "--num-profiled-timesteps {asked}: the trace has {} of the run's {steps} steps, the first is the warm-up",
            window.steps().len()
        ));
    }
    Ok(window)
}

/// The scale of guidance: `--true-cfg-scale` where it is given.
fn resolve_scale(guidance_scale: f32, true_cfg_scale: Option<f32>) -> Result<f32> {
    let (flag, scale) = match true_cfg_scale {
        Some(scale) => ("--true-cfg-scale", scale),
        None => ("--guidance-scale", guidance_scale),
    };
    if (0.0..=1000.0).contains(&scale) {
        return Ok(scale);
    }
    Err(Error::usage(format!(
        "{flag} {scale}: expected a number from 0 to 1000"
    )))
}

/// Within the range every number of steps has sigmas that decrease.
fn resolve_shift(shift: f64) -> Result<f64> {
    if (0.01..=100.0).contains(&shift) {
        return Ok(shift);
    }
    Err(Error::usage(format!(
        "--flow-shift {shift}: expected a number from 0.01 to 100"
    )))
}

fn check_paths(output: &OutputOptions, perf_dump_path: Option<&Path>) -> Result<()> {
    let paths = [
        ("--output-path", Some(output.folder.as_path())),
        (
            "--output-file-name",
            output.file_name.as_deref().map(Path::new),
        ),
        ("--output-file-path", output.file_path.as_deref()),
        ("--perf-dump-path", perf_dump_path),
    ];
    for (flag, path) in paths {
        if let Some(path) = path {
            check_path(flag, path)?;
        }
    }
    Ok(())
}

/// Refuses a path that would break the line it is printed on, or has no form in JSON.
///
/// # Errors
/// A usage error that begins with `what`.
pub(crate) fn check_path(what: &str, path: &Path) -> Result<()> {
    let Some(text) = path.to_str() else {
        let message = format!("{what} {}: not UTF-8", path.display());
        return Err(Error::usage(message));
    };
    if text.contains(char::is_control) {
        let message = format!("{what} {text:?}: it has a control character");
        return Err(Error::usage(message));
    }
    Ok(())
}

fn in_range(flag: &str, value: usize, range: std::ops::RangeInclusive<usize>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{flag} {value}: expected {} to {}",
        range.start(),
        range.end()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_number_and_its_error_names_the_flag() {
        assert_eq!(resolve_scale(4.0, Some(1.5)).ok(), Some(1.5));
        assert_eq!(resolve_scale(0.0, None).ok(), Some(0.0));
        for scale in [f32::NAN, f32::INFINITY, -1.0, 1001.0] {
            for (given, flag) in [
                (None, "--guidance-scale"),
                (Some(scale), "--true-cfg-scale"),
            ] {
                let error = resolve_scale(scale, given).expect_err("no scale");
                assert!(error.to_string().starts_with(flag), "{error}");
            }
        }
    }
}
