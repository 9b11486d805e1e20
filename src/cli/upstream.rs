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
    "boundary-ratio",
    "cache-dit-config",
    "cache-dit-params",
    "cfg-gate-step",
    "cfg-normalization",
    "cfg-parallel-size",
    "config",
    "cpu-offload-components",
    "data-parallel-size",
    "debug",
    "diffusers-kwargs",
    "disable-autocast",
    "dist-timeout",
    "dit-offload-prefetch-size",
    "dp-size",
    "embedded-cfg-scale",
    "enable-breakable-cuda-graph",
    "enable-cache-dit",
    "enable-cfg-parallel",
    "enable-frame-interpolation",
    "enable-sequence-shard",
    "enable-spectrum",
    "enable-svdquant",
    "enable-teacache",
    "enable-upscaling",
    "fps",
    "guidance-rescale",
    "guidance-scale-2",
    "host",
    "image-path",
    "image-paths",
    "input-save-path",
    "kv-gather-degree",
    "layerwise-offload-components",
    "lora-alpha",
    "lora-merge-mode",
    "lora-nickname",
    "mask-strategy-file-path",
    "master-port",
    "moba-config-path",
    "model-id",
    "model-subfolder",
    "no-override-protected-fields",
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
    "strict-ports",
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
    "frame-interpolation-",
    "hsdp-",
    "kv-cache-",
    "otlp-",
    "return-trajectory-",
    "upscaling-",
    "webui",
];
const ENDING: &str = "-weights-path";

/// The refusal of the first of `args` that is such a flag.
///
/// To be asked before parsing: a parser that takes prefixes may read upstream's flag as one of its own.
#[must_use]
pub fn refuse_upstream_flag(args: &[OsString]) -> Option<Error> {
    let flag = upstream_flag(args)?;
    Some(Error::usage(format!(
        "{flag} is a flag of `sglang generate` that qwen-gen does not have"
    )))
}

/// The flag as it is typed, without its value.
fn upstream_flag(args: &[OsString]) -> Option<&str> {
    args.iter().find_map(|arg| {
        let flag = arg.to_str()?.split('=').next()?;
        let name = flag.strip_prefix("--")?;
        // Settings of a part: `--vae-config.use-tiling`.
        let is_upstreams = name.split_once('.').is_some_and(|(part, _)| is_word(part))
            || FLAGS.contains(&name)
            || name.ends_with(ENDING)
            || BEGINNINGS.iter().any(|family| name.starts_with(family));
        is_upstreams.then_some(flag)
    })
}

/// Whether a flag could have this name; a prompt may begin with hyphens, too.
fn is_word(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
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
            found(&["--vae-config.use-tiling", "x"]).as_deref(),
            Some("--vae-config.use-tiling")
        );
        assert_eq!(
            found(&["--otlp-traces-endpoint", "x"]).as_deref(),
            Some("--otlp-traces-endpoint")
        );
        assert_eq!(
            found(&[
                "--no-such-flag",
                "--prompt=--tp-size",
                "tp-size",
                "--",
                "-- a.b"
            ]),
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
