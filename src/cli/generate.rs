//! Arguments of `generate`, by topic, and their conversion to a [`GenerateRequest`].

use std::path::PathBuf;

use candle_core::DType;
use clap::{Args, ValueEnum};

use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::noise::GeneratorDevice;
use crate::profiler::Extent;
use crate::request::{self, GenerateRequest, OutputOptions, PrecisionChoices, SizeArgs};
use crate::weights::LoadFormat;

/// Longest request id: with an index and an ending it still names a file.
const MAX_REQUEST_ID: usize = 128;

/// All arguments of `generate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  qwen-gen generate --model-path builtin:tiny --prompt \"a red circle on a blue background\"
  qwen-gen generate --model-path ./Qwen-Image --prompt \"A cat\" \"A dog\" --seed 1 2 3
  qwen-gen generate --model-path ./Qwen-Image --prompt-path prompts.txt --perf-dump-path perf.json
  qwen-gen generate --model-path ./Qwen-Image --prompt \"A logo\" --profile

Exit codes: 0 done as asked, 1 failed, 2 bad usage, 130 interrupted, 143 terminated.")]
pub struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    profiling: ProfilingArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
struct ModelArgs {
    /// Folder of a Qwen-Image checkpoint, or `builtin:tiny`, the model inside this program
    #[arg(long, visible_alias = "model", value_name = "MODEL")]
    model_path: Option<String>,

    /// Where weights come from; `dummy` needs the JSON files only and fills in random numbers
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    load_format: LoadFormatArg,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Prompt")]
struct PromptArgs {
    /// What to draw; several prompts share one load
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    prompt: Vec<String>,

    /// File (.txt) with one prompt on each line that is not blank; wins over --prompt
    #[arg(long, value_name = "FILE", alias = "prompt-file-path")]
    prompt_path: Option<PathBuf>,

    /// What to stay away from [default: one space]
    #[arg(long, value_name = "TEXT")]
    negative_prompt: Option<String>,

    /// Prompt tokens kept; the rest is cut with a warning
    #[arg(long, value_name = "TOKENS", default_value_t = 1024)]
    max_sequence_length: usize,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch")]
struct SamplingArgs {
    /// Pixels, rounded down to a multiple of 16 [default: 1280; builtin:tiny 256]
    #[arg(long, value_name = "PIXELS")]
    width: Option<usize>,

    /// Pixels, rounded down to a multiple of 16 [default: 720; builtin:tiny 256]
    #[arg(long, value_name = "PIXELS")]
    height: Option<usize>,

    /// 3840x2160
    #[arg(long = "4k")]
    uhd: bool,

    /// 2560x1440
    #[arg(long = "2k")]
    qhd: bool,

    /// 1920x1080
    #[arg(long = "1080p")]
    full_hd: bool,

    /// 1280x720
    #[arg(long = "720p")]
    hd: bool,

    /// Denoising steps
    #[arg(long, value_name = "STEPS", default_value_t = 50)]
    num_inference_steps: usize,

    /// True CFG scale; at 1 and below guidance is off
    #[arg(
        long,
        value_name = "SCALE",
        default_value_t = 4.0,
        allow_negative_numbers = true
    )]
    guidance_scale: f32,

    /// Overrides --guidance-scale
    #[arg(long, value_name = "SCALE", allow_negative_numbers = true)]
    true_cfg_scale: Option<f32>,

    /// Seed; output k uses SEED + k, several seeds make one output each
    #[arg(long, value_name = "SEED", num_args = 1.., default_value = "42", allow_negative_numbers = true)]
    seed: Vec<u64>,

    /// Whose noise a seed stands for: PyTorch's CUDA or CPU generator (both run anywhere)
    #[arg(long, value_name = "DEVICE", default_value = "cuda")]
    generator_device: GeneratorDeviceArg,

    /// Pictures of each prompt [default: 1, or as many as seeds]
    #[arg(long, visible_alias = "num-outputs", value_name = "COUNT")]
    num_outputs_per_prompt: Option<usize>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch")]
struct OutputArgs {
    /// Folder of the pictures
    #[arg(long, value_name = "FOLDER", default_value = "outputs")]
    output_path: PathBuf,

    /// Name of the picture [default: made from prompt, time and request id]
    #[arg(long, value_name = "NAME")]
    output_file_name: Option<String>,

    /// Folder and name in one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output_path", "output_file_name"])]
    output_file_path: Option<PathBuf>,

    /// Save the pictures (the default)
    #[arg(long, overrides_with = "no_save_output")]
    save_output: bool,

    /// Make the pictures and throw them away
    #[arg(long)]
    no_save_output: bool,

    /// Leave the recipe (prompt, seed, settings) out of the PNG
    #[arg(long)]
    no_metadata: bool,

    /// Write stage and step times to this file
    #[arg(long, value_name = "FILE")]
    perf_dump_path: Option<PathBuf>,

    /// Print one JSON object on stdout, everything else on stderr
    #[arg(long)]
    json: bool,

    /// Name of the run in reports, traces and pictures [default: a new UUID]
    #[arg(long, value_name = "ID", value_parser = request_id)]
    request_id: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Profiling")]
struct ProfilingArgs {
    /// Record a trace of denoising steps for each picture, to be opened in Perfetto; it goes to
    /// ./logs, or where `SGLANG_DIFFUSION_TORCH_PROFILER_DIR` or `SGLANG_TORCH_PROFILER_DIR` says
    #[arg(long)]
    profile: bool,

    /// Record all stages and steps
    #[arg(long, requires = "profile")]
    profile_all_stages: bool,

    /// Steps recorded after one warm-up step; -1 for all
    #[arg(
        long,
        value_name = "STEPS",
        default_value = "5",
        requires = "profile",
        allow_negative_numbers = true,
        value_parser = profiled_steps
    )]
    num_profiled_timesteps: Extent,

    /// Mark blocks and operators, too, for Nsight Systems and Nsight Compute
    #[cfg(feature = "cuda")]
    #[arg(long)]
    enable_layerwise_nvtx_marker: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Runtime")]
struct RuntimeArgs {
    /// auto, cuda, cuda:N or cpu
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,

    /// GPUs to use; this program uses one
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=1))]
    num_gpus: u8,

    /// Precision of the transformer [default: bf16 on a GPU, fp32 on the CPU]
    #[arg(long, value_name = "PRECISION")]
    dit_precision: Option<PrecisionArg>,

    /// Precision of the VAE [default: bf16 on a GPU, fp32 on the CPU]
    #[arg(long, value_name = "PRECISION")]
    vae_precision: Option<PrecisionArg>,

    /// Precision of the text encoder [default: bf16 on a GPU, fp32 on the CPU]
    #[arg(long, value_name = "PRECISION")]
    text_encoder_precisions: Option<PrecisionArg>,

    /// `request` runs one unrecorded request of the same size first
    #[arg(long, value_name = "MODE", default_value = "off")]
    warmup_mode: WarmupMode,

    /// Steps of the warm-up request
    #[arg(long, value_name = "STEPS", default_value_t = 1)]
    warmup_steps: usize,

    /// Least severe lines to print
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LogLevel,

    /// Print paths and warnings only
    #[arg(short, long, conflicts_with_all = ["verbose", "log_level"])]
    quiet: bool,

    /// Print more (as --log-level debug)
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "log_level")]
    verbose: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LoadFormatArg {
    Auto,
    Safetensors,
    Dummy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GeneratorDeviceArg {
    Cuda,
    Cpu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PrecisionArg {
    Bf16,
    Fp32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WarmupMode {
    Off,
    Request,
}

/// How much is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum LogLevel {
    /// Everything, prompts included.
    Debug,
    /// What a run does.
    Info,
    /// Warnings, errors and the paths of outputs.
    Warning,
    /// Errors and the paths of outputs.
    Error,
}

impl From<PrecisionArg> for DType {
    fn from(precision: PrecisionArg) -> Self {
        match precision {
            PrecisionArg::Bf16 => Self::BF16,
            PrecisionArg::Fp32 => Self::F32,
        }
    }
}

/// Characters that are plain in a file name everywhere.
fn request_id(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.starts_with('.') || !text.chars().all(plain) {
        return Err("expected letters, digits, `-`, `_` and `.`, and no `.` at the start".into());
    }
    if text.len() > MAX_REQUEST_ID {
        return Err(format!("expected at most {MAX_REQUEST_ID} characters"));
    }
    Ok(text.to_owned())
}

fn profiled_steps(text: &str) -> Result<Extent, String> {
    match text.parse::<isize>() {
        Ok(-1) => Ok(Extent::AllSteps),
        Ok(steps @ 1..) => Ok(Extent::Steps(steps.unsigned_abs())),
        _ => Err("expected a number of steps, 1 or more, or -1 for all".into()),
    }
}

impl ProfilingArgs {
    #[cfg(feature = "cuda")]
    fn layerwise_nvtx(&self) -> bool {
        self.enable_layerwise_nvtx_marker
    }

    #[cfg(not(feature = "cuda"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    fn layerwise_nvtx(&self) -> bool {
        false
    }

    fn extent(&self) -> Option<Extent> {
        match (self.profile, self.profile_all_stages) {
            (false, _) => None,
            (true, true) => Some(Extent::AllStages),
            (true, false) => Some(self.num_profiled_timesteps),
        }
    }
}

impl GenerateArgs {
    /// How much to print.
    #[must_use]
    pub fn log_level(&self) -> LogLevel {
        match (self.runtime.quiet, self.runtime.verbose) {
            (true, _) => LogLevel::Warning,
            (_, 0) => self.runtime.log_level,
            _ => LogLevel::Debug,
        }
    }

    /// Whether stdout holds one JSON object.
    #[must_use]
    pub fn json(&self) -> bool {
        self.output.json
    }

    /// Resolves every default and checks every value that needs no model.
    ///
    /// # Errors
    /// When a value is wrong or the prompt file cannot be read.
    pub fn into_request(self) -> Result<GenerateRequest> {
        let Self {
            model,
            prompt,
            sampling,
            output,
            profiling,
            runtime,
        } = self;
        let model_path = model.model_path.ok_or_else(|| Error::Usage {
            message: "--model-path is required".to_owned(),
            hint: Some(
                "pass the folder of a Qwen-Image checkpoint, or builtin:tiny for the model inside this program"
                    .to_owned(),
            ),
        })?;
        let size = SizeArgs {
            width: sampling.width,
            height: sampling.height,
            preset: [
                (sampling.uhd, (3840, 2160)),
                (sampling.qhd, (2560, 1440)),
                (sampling.full_hd, (1920, 1080)),
                (sampling.hd, (1280, 720)),
            ]
            .into_iter()
            .find_map(|(on, size)| on.then_some(size)),
        };
        let (prompts, prompts_from_file) = match prompt.prompt_path {
            Some(path) => (request::read_prompt_file(&path)?, true),
            None => (prompt.prompt, false),
        };
        let precision = |choice: Option<PrecisionArg>| choice.map(DType::from);
        GenerateRequest::resolve(request::Choices {
            model_path,
            load_format: match model.load_format {
                LoadFormatArg::Auto => LoadFormat::Auto,
                LoadFormatArg::Safetensors => LoadFormat::Safetensors,
                LoadFormatArg::Dummy => LoadFormat::Dummy,
            },
            prompts,
            prompts_from_file,
            negative_prompt: prompt.negative_prompt,
            max_sequence_length: prompt.max_sequence_length,
            size,
            num_inference_steps: sampling.num_inference_steps,
            guidance_scale: sampling.guidance_scale,
            true_cfg_scale: sampling.true_cfg_scale,
            seeds: sampling.seed,
            generator_device: match sampling.generator_device {
                GeneratorDeviceArg::Cuda => GeneratorDevice::Cuda,
                GeneratorDeviceArg::Cpu => GeneratorDevice::Cpu,
            },
            num_outputs_per_prompt: sampling.num_outputs_per_prompt,
            output: OutputOptions {
                folder: output.output_path,
                file_name: output.output_file_name,
                file_path: output.output_file_path,
                save: !output.no_save_output,
                metadata: !output.no_metadata,
            },
            perf_dump_path: output.perf_dump_path,
            request_id: output.request_id,
            profile: profiling.extent(),
            layerwise_nvtx: profiling.layerwise_nvtx(),
            device: runtime.device,
            precisions: PrecisionChoices {
                dit: precision(runtime.dit_precision),
                vae: precision(runtime.vae_precision),
                text_encoder: precision(runtime.text_encoder_precisions),
            },
            warmup_steps: (runtime.warmup_mode == WarmupMode::Request)
                .then_some(runtime.warmup_steps),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiled_steps_are_positive_or_all() {
        assert_eq!(profiled_steps("5"), Ok(Extent::Steps(5)));
        assert_eq!(profiled_steps("-1"), Ok(Extent::AllSteps));
        for text in ["0", "-2", "", "1.5", "five", "99999999999999999999"] {
            assert!(profiled_steps(text).is_err(), "{text}");
        }
    }

    #[test]
    fn request_ids_are_plain_file_names() {
        for id in ["a", "5f0c2a1e-7c1b-4c69-9d0e-0d9a5c3a4b11", "Run_1.b"] {
            assert_eq!(request_id(id), Ok(id.to_owned()));
        }
        for id in ["", ".", "..", ".a", "a/b", "a\\b", "a b", "é", "a:0", "a\n"] {
            assert!(request_id(id).is_err(), "{id:?}");
        }
        assert!(request_id(&"a".repeat(MAX_REQUEST_ID)).is_ok());
        assert!(request_id(&"a".repeat(MAX_REQUEST_ID + 1)).is_err());
    }
}
