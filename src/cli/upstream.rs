//! Flags of `sglang generate` that this program does not have: refused by name, never ignored.

use std::ffi::OsString;

use crate::error::Error;

/// Upstream's flags without a counterpart here.
const FLAGS: &[&str] = &[
    "adjust-frames",
    "allow-bf16-reduced-precision-reduction",
    "allow-cudnn-tf32",
    "attention-backend-config",
    "attention-backend-override",
    "backend",
    "bcg-text-buckets",
    "cache-dit-config",
    "cache-dit-params",
    "cfg-gate-step",
    "cfg-normalization",
    "cfg-parallel-size",
    "config",
    "cpu-offload-components",
    "debug",
    "diffusers-kwargs",
    "disable-autocast",
    "dist-timeout",
    "enable-breakable-cuda-graph",
    "enable-cache-dit",
    "enable-cfg-parallel",
    "enable-frame-interpolation",
    #[cfg(not(feature = "cuda"))]
    "enable-layerwise-nvtx-marker",
    "enable-spectrum",
    "enable-svdquant",
    "enable-teacache",
    "enable-upscaling",
    "fps",
    "guidance-rescale",
    "host",
    "image-path",
    "image-paths",
    "kv-gather-degree",
    "layerwise-offload-components",
    "lora-alpha",
    "lora-merge-mode",
    "lora-nickname",
    "master-port",
    "model-id",
    "model-subfolder",
    "num-frames",
    "offload-during-compile",
    "output-compression",
    "output-quality",
    "port",
    "progressive-delta",
    "progressive-levels",
    "progressive-mode",
    "quality",
    "quantization",
    "quantization-precision",
    "quantization-rank",
    "regional-compile",
    "return-file-paths-only",
    "return-frames",
    "ring-degree",
    "scheduler-path",
    "scheduler-port",
    "sp-degree",
    "text-encoder-path",
    "tokenizer-path",
    "tp-size",
    "transformer-path",
    "trust-remote-code",
    "ulysses-degree",
    "use-fsdp-inference",
    "vae-path",
    "vae-sp",
    "warmup",
    "warmup-resolutions",
    "warmup-sampling-params",
];

/// How whole families of its flags begin and end.
const BEGINNINGS: &[&str] = &[
    "batching-",
    "component-",
    "disaggregation-",
    "enable-metrics",
    "kv-cache-",
    "otlp-",
    "upscaling-",
    "webui",
];
const ENDING: &str = "-weights-path";

/// The refusal of the first of `args` that is such a flag.
///
/// To be asked before parsing: a parser that takes prefixes may read upstream's flag as one of its own.
#[must_use]
pub fn refuse_upstream_flag(args: &[OsString]) -> Option<Error> {
    Some(match upstream_flag(args)? {
        // With the feature it is a flag of its own.
        flag @ "--enable-layerwise-nvtx-marker" => Error::Usage {
            message: format!("{flag}: this build has no GPU support"),
            hint: Some("build with `--features cuda`".to_owned()),
        },
        flag => Error::usage(format!(
            "{flag} is a flag of `sglang generate` that qwen-gen does not have"
        )),
    })
}

/// The flag as it is typed, without its value.
fn upstream_flag(args: &[OsString]) -> Option<&str> {
    args.iter().find_map(|arg| {
        let flag = arg.to_str()?.split(['=', '.']).next()?;
        let name = flag.strip_prefix("--")?;
        let is_upstreams = FLAGS.contains(&name)
            || name.ends_with(ENDING)
            || BEGINNINGS.iter().any(|family| name.starts_with(family));
        is_upstreams.then_some(flag)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn found(args: &[&str]) -> Option<String> {
        let args: Vec<OsString> = args.iter().map(Into::into).collect();
        upstream_flag(&args).map(str::to_owned)
    }

    #[test]
    fn finds_upstreams_flags_in_every_spelling() {
        assert_eq!(
            found(&["--seed", "1", "--tp-size", "2"]).as_deref(),
            Some("--tp-size")
        );
        assert_eq!(found(&["--tp-size=2"]).as_deref(), Some("--tp-size"));
        assert_eq!(
            found(&["--component-paths.vae", "x"]).as_deref(),
            Some("--component-paths")
        );
        assert_eq!(
            found(&["--otlp-traces-endpoint", "x"]).as_deref(),
            Some("--otlp-traces-endpoint")
        );
        assert_eq!(
            found(&["--no-such-flag", "--prompt=--tp-size", "tp-size", "--"]),
            None
        );
    }

    /// A flag that this program has must not be refused.
    #[test]
    fn none_is_a_flag_of_generate() {
        let mut cli = Cli::command();
        let generate = cli.find_subcommand_mut("generate").expect("a verb");
        for flag in generate
            .get_arguments()
            .filter_map(clap::Arg::get_long_and_visible_aliases)
            .flatten()
        {
            let args = [OsString::from(format!("--{flag}"))];
            assert_eq!(upstream_flag(&args), None);
        }
    }
}
