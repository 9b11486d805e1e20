//! Which adapters of the transformer.

use clap::Args;

use crate::cli::parse::model;
use crate::request;

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "LoRA")]
#[expect(clippy::struct_field_names, reason = "the names of the flags")]
pub(super) struct LoraArgs {
    /// Safetensors file, or folder or repository of the Hugging Face Hub with one, to merge into the
    /// transformer; several add up
    #[arg(long, value_name = "PATH", num_args = 1.., value_parser = model())]
    pub(super) lora_path: Vec<String>,

    /// Strength of every LoRA, or one of each
    #[arg(
        long,
        value_name = "SCALE",
        num_args = 1..,
        default_value = "1",
        requires = "lora_path",
        allow_negative_numbers = true
    )]
    pub(super) lora_scale: Vec<f64>,

    /// Name of the file where a --lora-path folder or repository holds several
    #[arg(long, value_name = "NAME", requires = "lora_path")]
    pub(super) lora_weight_name: Option<String>,
}

impl From<LoraArgs> for request::LoraArgs {
    fn from(args: LoraArgs) -> Self {
        Self {
            paths: args.lora_path,
            scales: args.lora_scale,
            weight_name: args.lora_weight_name,
        }
    }
}
