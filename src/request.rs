//! A request with every default resolved and every value checked that needs no model.

use std::path::{Path, PathBuf};

use candle_core::DType;

use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::files;
use crate::noise::GeneratorDevice;
use crate::pipeline::{ImageRequest, Precisions, Sampling};
use crate::profiler::{Extent, Window};
use crate::weights::{LoadFormat, ModelSource};

/// Sides of a picture in pixels.
const SIDE: std::ops::RangeInclusive<usize> = 16..=4096;
/// Most denoising steps: one for each of the training timesteps.
const MAX_STEPS: usize = 1000;
/// Most pictures of one run.
const MAX_PICTURES: usize = 10_000;
/// Tokens the text encoder is given after the template's prefix.
const MAX_SEQUENCE_LENGTH: usize = 1024;
/// Largest prompt file.
const MAX_PROMPT_FILE_BYTES: u64 = 16 << 20;

/// What was typed, before defaults.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the flags of the same names")]
pub struct Choices {
    pub model_path: String,
    pub load_format: LoadFormat,
    pub prompts: Vec<String>,
    pub prompts_from_file: bool,
    pub negative_prompt: Option<String>,
    pub max_sequence_length: usize,
    pub size: SizeArgs,
    pub num_inference_steps: usize,
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
    pub warmup_steps: Option<usize>,
}

/// The flags that set the size.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the flags of the same names")]
pub struct SizeArgs {
    pub width: Option<usize>,
    pub height: Option<usize>,
    /// Width and height of the largest preset given; wins over the others.
    pub preset: Option<(usize, usize)>,
}

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
    pub fn or_default(self, default: DType) -> Precisions {
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
    pub source: ModelSource,
    /// Weights from files, or random ones.
    pub load_format: LoadFormat,
    /// Distinct pictures to make: outputs of the first prompt, then of the second.
    pub images: Vec<ImageRequest>,
    /// Number of prompts among them.
    pub num_prompts: usize,
    /// Whether the prompts were typed or came from a file.
    pub prompts_from_file: bool,
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
    /// Steps of the warm-up request, if there is one.
    pub warmup_steps: Option<usize>,
    /// What was changed on the way, for the user.
    pub warnings: Vec<String>,
}

impl GenerateRequest {
    /// Resolves defaults and checks values.
    ///
    /// # Errors
    /// A usage error naming the flag.
    pub fn resolve(choices: Choices) -> Result<Self> {
        let source = ModelSource::resolve(&choices.model_path)?;
        let default_size = match source {
            ModelSource::BuiltinTiny => (256, 256),
            ModelSource::Folder(_) => (1280, 720),
        };
        let mut warnings = Vec::new();
        let (width, height) = resolve_size(choices.size, default_size, &mut warnings)?;
        let steps = choices.num_inference_steps;
        in_range("--num-inference-steps", steps, 1..=MAX_STEPS)?;
        in_range(
            "--max-sequence-length",
            choices.max_sequence_length,
            1..=MAX_SEQUENCE_LENGTH,
        )?;
        if let Some(steps) = choices.warmup_steps {
            in_range("--warmup-steps", steps, 1..=MAX_STEPS)?;
        }
        let true_cfg_scale = resolve_scale(choices.guidance_scale, choices.true_cfg_scale)?;
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
            source,
            load_format: choices.load_format,
            images,
            num_prompts: choices.prompts.len(),
            prompts_from_file: choices.prompts_from_file,
            sampling: Sampling {
                width,
                height,
                num_inference_steps: steps,
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

/// One prompt for each line that is not blank.
///
/// # Errors
/// A usage error when the file's name does not end in `.txt`, it cannot be read, is not UTF-8 or
/// holds no prompt.
pub fn read_prompt_file(path: &Path) -> Result<Vec<String>> {
    if path.extension().is_none_or(|extension| extension != "txt") {
        return Err(Error::usage(format!(
            "--prompt-path {}: expected a .txt file",
            path.display()
        )));
    }
    let bytes = files::read_bounded(path, MAX_PROMPT_FILE_BYTES)
        .map_err(|error| Error::usage(format!("--prompt-path {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Error::usage(format!(
            "--prompt-path {}: {}",
            path.display(),
            error.utf8_error()
        ))
    })?;
    let prompts: Vec<String> = text
        .trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    if prompts.is_empty() {
        return Err(Error::usage(format!(
            "--prompt-path {}: holds no prompt",
            path.display()
        )));
    }
    Ok(prompts)
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

/// One space by default, so that guidance has something to stay away from; other text is stripped.
fn resolve_negative_prompt(given: Option<String>) -> String {
    match given {
        None => " ".to_owned(),
        Some(text) if text.trim().is_empty() => text,
        Some(text) => text.trim().to_owned(),
    }
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

/// Paths of outputs are printed and written to JSON.
fn check_paths(output: &OutputOptions, perf_dump_path: Option<&Path>) -> Result<()> {
    let paths = [
        ("--output-path", Some(output.folder.as_path())),
        ("--output-file-path", output.file_path.as_deref()),
        ("--perf-dump-path", perf_dump_path),
    ];
    for (flag, path) in paths {
        if let Some(path) = path.filter(|path| path.to_str().is_none()) {
            let message = format!("{flag} {}: not UTF-8", path.display());
            return Err(Error::usage(message));
        }
    }
    Ok(())
}

/// Width and height: a preset, what was given, the missing side in the default's proportion.
fn resolve_size(
    size: SizeArgs,
    default: (usize, usize),
    warnings: &mut Vec<String>,
) -> Result<(usize, usize)> {
    // Upstream derives a missing side from 16:9, not from its default of 1280x720 pixels.
    let (across, down) = if default.0 == default.1 {
        (1, 1)
    } else {
        (16, 9)
    };
    for (flag, side) in [("--width", size.width), ("--height", size.height)] {
        if let Some(side) = side {
            in_range(flag, side, SIDE)?;
        }
    }
    let (width, height) = match (size.preset, size.width, size.height) {
        (Some(preset), ..) => preset,
        (None, None, None) => default,
        (None, Some(width), None) => (width, width * down / across),
        (None, None, Some(height)) => (height * across / down, height),
        (None, Some(width), Some(height)) => (width, height),
    };
    in_range("--width", width, SIDE)?;
    in_range("--height", height, SIDE)?;
    let rounded = (width / 16 * 16, height / 16 * 16);
    if rounded != (width, height) {
        warnings.push(format!(
            "{width}x{height} is rounded down to {}x{}: sides are multiples of 16",
            rounded.0, rounded.1
        ));
    }
    Ok(rounded)
}

/// The seed of every picture, prompt by prompt.
fn resolve_seeds(given: &[u64], outputs: Option<usize>, prompts: usize) -> Result<Vec<u64>> {
    if let Some(outputs) = outputs {
        in_range("--num-outputs-per-prompt", outputs, 1..=MAX_PICTURES)?;
    }
    let per_prompt = match (given, outputs) {
        ([seed], outputs) => (0..outputs.unwrap_or(1) as u64)
            .map(|k| {
                seed.checked_add(k).ok_or_else(|| {
                    Error::usage(format!("--seed {seed}: seed + {k} does not fit in 64 bits"))
                })
            })
            .collect::<Result<Vec<_>>>()?,
        (seeds, None) => seeds.to_vec(),
        (seeds, Some(outputs)) if seeds.len() == outputs => seeds.to_vec(),
        (seeds, Some(outputs)) if seeds.len() == outputs * prompts => return Ok(seeds.to_vec()),
        (seeds, Some(outputs)) => {
            return Err(Error::usage(format!(
                "--seed has {} values: expected 1, {outputs} (outputs of a prompt) or {} (pictures in all)",
                seeds.len(),
                outputs * prompts
            )));
        }
    };
    let pictures = per_prompt.len() * prompts;
    if pictures > MAX_PICTURES {
        return Err(Error::usage(format!(
            "{prompts} prompts with {} pictures each are {pictures} pictures, at most {MAX_PICTURES} in one run",
            per_prompt.len()
        )));
    }
    Ok(per_prompt.repeat(prompts))
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

    fn size(width: Option<usize>, height: Option<usize>) -> Result<(usize, usize)> {
        let preset = None;
        let size = SizeArgs {
            width,
            height,
            preset,
        };
        resolve_size(size, (1280, 720), &mut Vec::new())
    }

    #[test]
    fn a_missing_side_follows_from_16_to_9() -> Result<()> {
        assert_eq!(size(None, None)?, (1280, 720));
        assert_eq!(size(Some(1664), None)?, (1664, 928));
        assert_eq!(size(None, Some(720))?, (1280, 720));
        assert!(size(Some(15), None).is_err());
        assert!(size(Some(usize::MAX), None).is_err());
        Ok(())
    }

    #[test]
    fn sides_are_rounded_down_with_a_warning() -> Result<()> {
        let mut warnings = Vec::new();
        let (width, height) = (Some(100), Some(70));
        let preset = None;
        let size = SizeArgs {
            width,
            height,
            preset,
        };
        assert_eq!(resolve_size(size, (1280, 720), &mut warnings)?, (96, 64));
        assert_eq!(warnings.len(), 1);
        Ok(())
    }

    #[test]
    fn every_prompt_restarts_at_the_seed() -> Result<()> {
        assert_eq!(resolve_seeds(&[7], Some(2), 2)?, [7, 8, 7, 8]);
        assert_eq!(resolve_seeds(&[7, 9], None, 2)?, [7, 9, 7, 9]);
        assert_eq!(resolve_seeds(&[1, 2, 3, 4], Some(2), 2)?, [1, 2, 3, 4]);
        assert!(resolve_seeds(&[1, 2, 3], Some(2), 1).is_err());
        assert!(resolve_seeds(&[u64::MAX], Some(2), 1).is_err());
        assert!(resolve_seeds(&[0], Some(100), 100).is_ok());
        assert!(resolve_seeds(&[0], Some(100), 101).is_err());
        Ok(())
    }

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

    #[test]
    fn only_blank_negative_prompts_keep_their_blanks() {
        assert_eq!(resolve_negative_prompt(None), " ");
        assert_eq!(resolve_negative_prompt(Some(String::new())), "");
        assert_eq!(resolve_negative_prompt(Some(" a b ".to_owned())), "a b");
    }
}
