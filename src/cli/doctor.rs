//! What can be typed after `doctor`.

use clap::Args;

use super::parse::model;
use crate::device::DeviceChoice;

/// Tell what this machine can run: GPUs, CUDA libraries, memory, folders and a model
///
/// Exit codes: 0 `generate` would run with these arguments, 1 it would be refused (the last line says
/// why), 2 bad usage.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Also look at this model, as `generate` names it; nothing is downloaded
    #[arg(long, visible_alias = "model", value_name = "MODEL", value_parser = model())]
    pub model_path: Option<String>,

    /// Width of the pictures that the memory plan is for [default: as `generate`]
    #[arg(
        long,
        value_name = "PIXELS",
        requires = "model_path",
        allow_negative_numbers = true
    )]
    pub width: Option<usize>,

    /// Height of the pictures that the memory plan is for [default: as `generate`]
    #[arg(
        long,
        value_name = "PIXELS",
        requires = "model_path",
        allow_negative_numbers = true
    )]
    pub height: Option<usize>,

    /// auto, cuda, cuda:N or cpu
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
