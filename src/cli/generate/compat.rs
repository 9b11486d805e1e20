//! Flags of upstream that choose among ways to do what is done in one way here: taken where they ask
//! for nothing else, so that command lines that have them run.

use clap::builder::{BoolishValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "For command lines of sglang generate")]
pub(super) struct CompatArgs {
    /// GPUs to use; this program uses one
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=1))]
    num_gpus: u8,

    /// Changes nothing: attention is exact, as with each of these; backends that approximate are refused
    #[arg(long, value_name = "BACKEND")]
    attention_backend: Option<ExactAttention>,

    /// Changes nothing: kernels are compiled before the program runs
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true, value_parser = BoolishValueParser::new())]
    enable_torch_compile: Option<bool>,

    /// Changes nothing: text-to-image has no image encoder
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true, value_parser = BoolishValueParser::new())]
    image_encoder_cpu_offload: Option<bool>,

    /// Host memory that a GPU reads from is always pinned
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true, value_parser = BoolishValueParser::new().try_map(pinned))]
    pin_cpu_memory: Option<bool>,
}

fn pinned(on: bool) -> Result<bool, &'static str> {
    if on {
        Ok(on)
    } else {
        Err("it cannot be switched off")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExactAttention {
    Auto,
    #[value(alias = "fa3", alias = "fa4")]
    Fa,
    Fa2,
    #[value(name = "torch_sdpa")]
    TorchSdpa,
}
