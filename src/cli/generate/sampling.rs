//! What to draw, and how.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::parse::file_path;
use crate::noise::GeneratorDevice;
use crate::request::SizeArgs;
use crate::sampling::Sampling;

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Prompt")]
pub(super) struct PromptArgs {
    /// What to draw; several prompts share one load, given again it adds to them
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    pub(super) prompt: Vec<String>,

    /// File (.txt) with one prompt on each line that is not blank; wins over --prompt
    #[arg(long, value_name = "FILE", value_parser = file_path(), visible_alias = "prompt-file-path")]
    pub(super) prompt_path: Option<PathBuf>,

    /// What to stay away from [default: one space]
    #[arg(long, value_name = "TEXT")]
    pub(super) negative_prompt: Option<String>,

    /// Prompt tokens kept; the rest is cut with a warning
    #[arg(long, allow_negative_numbers = true, value_name = "TOKENS", default_value_t = Sampling::default().max_sequence_length)]
    pub(super) max_sequence_length: usize,
}

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Sampling")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch")]
pub(super) struct SamplingArgs {
    /// Pixels, rounded down to a multiple of 16 [default: 1280, builtin:tiny 256; 16:9 of --height, builtin:tiny
    /// 1:1]
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true)]
    pub(super) width: Option<usize>,

    /// Pixels, rounded down to a multiple of 16 [default: 720, builtin:tiny 256; 16:9 of --width, builtin:tiny
    /// 1:1]
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true)]
    pub(super) height: Option<usize>,

    /// 3840x2160; of several sizes by name the largest is taken
    #[arg(long = "4k")]
    pub(super) uhd: bool,

    /// 2560x1440
    #[arg(long = "2k")]
    pub(super) qhd: bool,

    /// 1920x1080
    #[arg(long = "1080p")]
    pub(super) full_hd: bool,

    /// 1280x720
    #[arg(long = "720p")]
    pub(super) hd: bool,

    /// Denoising steps
    #[arg(long, allow_negative_numbers = true, value_name = "STEPS", default_value_t = Sampling::default().num_inference_steps)]
    pub(super) num_inference_steps: usize,

    /// Noise schedule of this shift at every size, without the stretch to a last sigma, in place of
    /// the checkpoint's; Lightning LoRAs need 3
    #[arg(long, value_name = "SHIFT", allow_negative_numbers = true)]
    pub(super) flow_shift: Option<f64>,

    /// True CFG scale; at 1 and below guidance is off
    #[arg(
        long,
        value_name = "SCALE",
        default_value_t = Sampling::default().true_cfg_scale,
        allow_negative_numbers = true
    )]
    pub(super) guidance_scale: f32,

    /// Overrides --guidance-scale
    #[arg(long, value_name = "SCALE", allow_negative_numbers = true)]
    pub(super) true_cfg_scale: Option<f32>,

    /// Seed; output k uses SEED + k, several seeds make one output each, given again it adds to them
    #[arg(long, value_name = "SEED", num_args = 1.., default_value = "42", allow_negative_numbers = true, value_parser = seed)]
    pub(super) seed: Vec<u64>,

    /// Whose noise a seed stands for: PyTorch's CUDA or CPU generator (both run anywhere)
    #[arg(long, value_name = "DEVICE", default_value = "cuda")]
    pub(super) generator_device: GeneratorDeviceArg,

    /// Pictures of each prompt [default: 1, or as many as seeds]
    #[arg(
        long,
        visible_alias = "num-outputs",
        allow_negative_numbers = true,
        value_name = "COUNT"
    )]
    pub(super) num_outputs_per_prompt: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum GeneratorDeviceArg {
    Cuda,
    Cpu,
}

fn seed(text: &str) -> Result<u64, String> {
    let expected = || format!("expected a whole number from 0 to {}", u64::MAX);
    text.parse().map_err(|_| expected())
}

impl SamplingArgs {
    pub(super) fn size(&self) -> SizeArgs {
        SizeArgs {
            width: self.width,
            height: self.height,
            preset: [
                (self.uhd, (3840, 2160)),
                (self.qhd, (2560, 1440)),
                (self.full_hd, (1920, 1080)),
                (self.hd, (1280, 720)),
            ]
            .into_iter()
            .find_map(|(on, size)| on.then_some(size)),
        }
    }
}

impl From<GeneratorDeviceArg> for GeneratorDevice {
    fn from(device: GeneratorDeviceArg) -> Self {
        match device {
            GeneratorDeviceArg::Cuda => Self::Cuda,
            GeneratorDeviceArg::Cpu => Self::Cpu,
        }
    }
}
