//! What stays on the device.

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use crate::memory::{OffloadChoices, PerformanceMode};

/// Upstream's switches: `--flag`, `--flag true` and `--flag false`; without the flag the plan decides.
#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Memory")]
pub(super) struct MemoryArgs {
    /// What to do when not everything fits: `auto` offloads as little as it must, `speed` (`manual` is
    /// the same) nothing, `memory` as much as it can; the switches below overrule it, and the environment's
    /// `QWEN_GEN_MEMORY_LIMIT_GIB` caps what it plans with
    #[arg(
        long,
        visible_alias = "mode",
        value_name = "MODE",
        default_value = "auto"
    )]
    performance_mode: PerformanceModeArg,

    /// Send the text encoder away once the prompts are encoded, before the other networks come
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true, value_parser = BoolishValueParser::new())]
    text_encoder_cpu_offload: Option<bool>,

    /// Load the transformer for each picture's denoising only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true, value_parser = BoolishValueParser::new())]
    dit_cpu_offload: Option<bool>,

    /// Stream the transformer's blocks from pinned host memory, one ahead of use (GPU only)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true, value_parser = BoolishValueParser::new())]
    dit_layerwise_offload: Option<bool>,

    /// Load the VAE to decode only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true, value_parser = BoolishValueParser::new())]
    vae_cpu_offload: Option<bool>,

    /// Decode the picture in bands of rows: the same picture in less memory and more time
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true, value_parser = BoolishValueParser::new())]
    vae_tiling: Option<bool>,

    /// Print what would be in memory when, and stop; a plan that does not fit exits 1
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PerformanceModeArg {
    Auto,
    #[value(alias = "manual")]
    Speed,
    Memory,
}

impl From<&MemoryArgs> for OffloadChoices {
    fn from(args: &MemoryArgs) -> Self {
        Self {
            mode: match args.performance_mode {
                PerformanceModeArg::Auto => PerformanceMode::Auto,
                PerformanceModeArg::Speed => PerformanceMode::Speed,
                PerformanceModeArg::Memory => PerformanceMode::Memory,
            },
            text_encoder: args.text_encoder_cpu_offload,
            dit: args.dit_cpu_offload,
            dit_layerwise: args.dit_layerwise_offload,
            vae: args.vae_cpu_offload,
            vae_tiling: args.vae_tiling,
        }
    }
}
