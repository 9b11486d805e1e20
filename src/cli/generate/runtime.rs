//! On what it runs, and how much it says.

use candle_core::DType;
use clap::{Args, ValueEnum};

use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::request::PrecisionChoices;

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Runtime")]
pub(super) struct RuntimeArgs {
    /// auto, cuda, cuda:N or cpu
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(super) device: DeviceChoice,

    /// Precision of the transformer [default: bf16 on a GPU, fp32 on the CPU]
    #[arg(long, value_name = "PRECISION")]
    pub(super) dit_precision: Option<PrecisionArg>,

    /// Precision of the VAE [default: bf16 on a GPU, fp32 on the CPU]
    #[arg(long, value_name = "PRECISION")]
    pub(super) vae_precision: Option<PrecisionArg>,

    /// Precision of the text encoder [default: bf16 on a GPU, fp32 on the CPU]
    #[arg(long, value_name = "PRECISION")]
    pub(super) text_encoder_precisions: Option<PrecisionArg>,

    /// `request` runs one unrecorded request of the same size first
    #[arg(long, value_name = "MODE", default_value = "off")]
    pub(super) warmup_mode: WarmupMode,

    /// Steps of the warm-up request [default: 1]
    #[arg(long, value_name = "STEPS", allow_negative_numbers = true)]
    pub(super) warmup_steps: Option<usize>,

    /// Least severe lines to print
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: LogLevel,

    /// Print paths and warnings only
    #[arg(short, long, conflicts_with_all = ["verbose", "log_level"])]
    pub(super) quiet: bool,

    /// Print more (as --log-level debug)
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "log_level")]
    pub(super) verbose: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PrecisionArg {
    Bf16,
    Fp32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum WarmupMode {
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

impl RuntimeArgs {
    pub(super) fn log_level(&self) -> LogLevel {
        match (self.quiet, self.verbose) {
            (true, _) => LogLevel::Warning,
            (_, 0) => self.log_level,
            _ => LogLevel::Debug,
        }
    }

    pub(super) fn precisions(&self) -> PrecisionChoices {
        let precision = |choice: Option<PrecisionArg>| choice.map(DType::from);
        PrecisionChoices {
            dit: precision(self.dit_precision),
            vae: precision(self.vae_precision),
            text_encoder: precision(self.text_encoder_precisions),
        }
    }

    /// Steps of the warm-up request, where there is one.
    ///
    /// # Errors
    /// When there are steps for a warm-up that there is not.
    pub(super) fn warmup_steps(&self) -> Result<Option<usize>> {
        match (self.warmup_mode, self.warmup_steps) {
            (WarmupMode::Request, steps) => Ok(Some(steps.unwrap_or(1))),
            (WarmupMode::Off, None) => Ok(None),
            (WarmupMode::Off, Some(_)) => {
                Err(Error::usage("--warmup-steps is for --warmup-mode request"))
            }
        }
    }
}
