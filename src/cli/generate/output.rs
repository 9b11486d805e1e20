//! What is written, and where.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::cli::parse::{file_path, folder};
use crate::error::{Error, Result};
use crate::profiler::Extent;
use crate::request::{OUTPUT_FOLDER, OutputOptions};

/// Longest request id: with an index and an ending it still names a file.
const MAX_REQUEST_ID: usize = 128;

/// Upstream's.
const DEFAULT_STEPS: Extent = Extent::Steps(5);

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Output")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch")]
pub(super) struct OutputArgs {
    /// Folder of the pictures
    #[arg(long, value_name = "FOLDER", default_value = OUTPUT_FOLDER, value_parser = folder())]
    pub(super) output_path: PathBuf,

    /// Name of the picture; several get `NAME_0`, `NAME_1` [default: made from prompt, time and request id]
    #[arg(long, value_name = "NAME")]
    pub(super) output_file_name: Option<String>,

    /// Folder and name in one
    #[arg(long, value_name = "FILE", value_parser = file_path(), conflicts_with_all = ["output_path", "output_file_name"])]
    pub(super) output_file_path: Option<PathBuf>,

    /// Save the pictures (the default)
    #[arg(long, overrides_with = "no_save_output")]
    pub(super) save_output: bool,

    /// Make the pictures and throw them away
    #[arg(long)]
    pub(super) no_save_output: bool,

    /// Leave the recipe (prompt, seed, settings) out of the PNG
    #[arg(long)]
    pub(super) no_metadata: bool,

    /// Write stage and step times to this file
    #[arg(long, value_name = "FILE", value_parser = file_path())]
    pub(super) perf_dump_path: Option<PathBuf>,

    /// Print one JSON object on stdout, everything else on stderr
    #[arg(long)]
    pub(super) json: bool,

    /// Name of the run in reports, traces and pictures [default: a new UUID]
    #[arg(long, value_name = "ID", value_parser = request_id)]
    pub(super) request_id: Option<String>,
}

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Profiling")]
pub(super) struct ProfilingArgs {
    /// Record a trace of denoising steps for each picture, to be opened in Perfetto; it goes to
    /// ./logs, or where `SGLANG_DIFFUSION_TORCH_PROFILER_DIR` or `SGLANG_TORCH_PROFILER_DIR` says
    #[arg(long)]
    pub(super) profile: bool,

    /// Record all stages and steps
    #[arg(long, requires = "profile")]
    pub(super) profile_all_stages: bool,

    /// Steps recorded after one warm-up step, where not all stages are; -1 for all [default: 5]
    #[arg(
        long,
        value_name = "STEPS",
        requires = "profile",
        allow_negative_numbers = true,
        value_parser = profiled_steps
    )]
    pub(super) num_profiled_timesteps: Option<Extent>,

    /// Mark blocks and operators, too, for Nsight Systems and Nsight Compute (builds with GPU support); no step is a CUDA graph then
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true, value_parser = BoolishValueParser::new())]
    pub(super) enable_layerwise_nvtx_marker: Option<bool>,
}

impl From<OutputArgs> for OutputOptions {
    fn from(args: OutputArgs) -> Self {
        Self {
            folder: args.output_path,
            file_name: args.output_file_name,
            file_path: args.output_file_path,
            save: !args.no_save_output,
            metadata: !args.no_metadata,
        }
    }
}

/// Characters that are plain in a file name everywhere.
fn request_id(text: &str) -> std::result::Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.starts_with('.') || !text.chars().all(plain) {
        return Err("expected letters, digits, `-`, `_` and `.`, and no `.` at the start".into());
    }
    if text.len() > MAX_REQUEST_ID {
        return Err(format!("expected at most {MAX_REQUEST_ID} characters"));
    }
    Ok(text.to_owned())
}

fn profiled_steps(text: &str) -> std::result::Result<Extent, String> {
    match text.parse::<isize>() {
        Ok(-1) => Ok(Extent::AllSteps),
        Ok(steps @ 1..) => Ok(Extent::Steps(steps.unsigned_abs())),
        _ => Err("expected a number of steps, 1 or more, or -1 for all".into()),
    }
}

impl ProfilingArgs {
    /// Whether blocks and operators are marked.
    ///
    /// # Errors
    /// When this build has no marks.
    pub(super) fn layerwise_nvtx(&self) -> Result<bool> {
        let on = self.enable_layerwise_nvtx_marker.unwrap_or(false);
        if on && cfg!(not(feature = "cuda")) {
            return Err(Error::Usage {
                message: "--enable-layerwise-nvtx-marker: this build has no GPU support".to_owned(),
                hint: Some("build with `--features cuda`".to_owned()),
            });
        }
        Ok(on)
    }

    /// What is asked for and has no effect.
    pub(super) fn warning(&self) -> Option<String> {
        let is_idle = self.profile_all_stages && self.num_profiled_timesteps.is_some();
        is_idle
            .then(|| "--num-profiled-timesteps: --profile-all-stages records all steps".to_owned())
    }

    pub(super) fn extent(&self) -> Option<Extent> {
        match (self.profile, self.profile_all_stages) {
            (false, _) => None,
            (true, true) => Some(Extent::AllStages),
            (true, false) => Some(self.num_profiled_timesteps.unwrap_or(DEFAULT_STEPS)),
        }
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
