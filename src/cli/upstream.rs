//! Flags of `sglang generate` that this program does not have: refused by name, never ignored.

/// Upstream's flags without a counterpart here.
const FLAGS: &[&str] = &[
    "adjust-frames",
    "allow-bf16-reduced-precision-reduction",
    "allow-cudnn-tf32",
    "attention-backend",
    "attention-backend-config",
    "attention-backend-override",
    "backend",
    "bcg-text-buckets",
    "cache-dit-config",
    "cache-dit-params",
    "cfg-gate-step",
    "cfg-normalization",
    "cfg-parallel-size",
    "component-attention-backends",
    "component-paths",
    "component-residency",
    "config",
    "cpu-offload-components",
    "debug",
    "diffusers-kwargs",
    "disable-autocast",
    "dist-timeout",
    "dit-cpu-offload",
    "dit-layerwise-offload",
    "enable-breakable-cuda-graph",
    "enable-cache-dit",
    "enable-cfg-parallel",
    "enable-frame-interpolation",
    "enable-layerwise-nvtx-marker",
    "enable-spectrum",
    "enable-svdquant",
    "enable-teacache",
    "enable-torch-compile",
    "enable-upscaling",
    "fps",
    "guidance-rescale",
    "host",
    "image-encoder-cpu-offload",
    "image-path",
    "image-paths",
    "kv-gather-degree",
    "layerwise-offload-components",
    "lora-alpha",
    "lora-merge-mode",
    "lora-nickname",
    "lora-path",
    "lora-scale",
    "lora-weight-name",
    "master-port",
    "mode",
    "model-id",
    "model-subfolder",
    "num-frames",
    "offload-during-compile",
    "output-compression",
    "output-quality",
    "performance-mode",
    "pin-cpu-memory",
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
    "revision",
    "ring-degree",
    "scheduler-port",
    "sp-degree",
    "text-encoder-cpu-offload",
    "tp-size",
    "transformer-path",
    "transformer-weights-path",
    "trust-remote-code",
    "ulysses-degree",
    "use-fsdp-inference",
    "vae-cpu-offload",
    "vae-path",
    "vae-sp",
    "vae-tiling",
    "warmup",
    "warmup-resolutions",
    "warmup-sampling-params",
];

/// Says that `argument` is upstream's, if it is.
#[must_use]
pub fn refusal_of_upstream_flag(argument: &str) -> Option<String> {
    let name = argument.strip_prefix("--")?;
    let name = name.split(['=', '.']).next().unwrap_or(name);
    FLAGS
        .contains(&name)
        .then(|| format!("--{name} is a flag of `sglang generate` that qwen-gen does not have"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_upstreams_flags_in_both_spellings() {
        assert!(refusal_of_upstream_flag("--tp-size").is_some());
        assert!(refusal_of_upstream_flag("--tp-size=2").is_some());
        assert!(refusal_of_upstream_flag("--no-such-flag").is_none());
    }
}
