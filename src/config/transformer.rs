//! `transformer/config.json`.

use serde::Deserialize;

use super::Rules;
use crate::error::Result;
use crate::weights::parse_json;

/// Path in the checkpoint.
pub const FILE: &str = "transformer/config.json";

/// The denoiser. A key that the file omits has diffusers' default.
///
/// Source: diffusers `transformer_qwenimage.py`, `QwenImageTransformer2DModel.__init__`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the file's own keys")]
pub struct TransformerConfig {
    /// Latent pixels on a token's side.
    pub patch_size: usize,
    /// Width of a packed token.
    pub in_channels: usize,
    /// Latent channels; a packed token has four pixels of them.
    pub out_channels: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Width of a head.
    pub attention_head_dim: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Width of the prompt embedding.
    pub joint_attention_dim: usize,
    /// Parts of a head that the frame, row and column positions rotate.
    pub axes_dims_rope: [usize; 3],
    /// Guidance distillation: refused.
    pub guidance_embeds: bool,
    /// Second timestep for reference images (Qwen-Image-Edit-2511): refused.
    pub zero_cond_t: bool,
    /// Extra condition on the timestep (Qwen-Image-Layered): refused.
    pub use_additional_t_cond: bool,
    /// Positions of layers (Qwen-Image-Layered): refused.
    pub use_layer3d_rope: bool,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            patch_size: 2,
            in_channels: 64,
            out_channels: 16,
            num_layers: 60,
            attention_head_dim: 128,
            num_attention_heads: 24,
            joint_attention_dim: 3584,
            axes_dims_rope: [16, 56, 56],
            guidance_embeds: false,
            zero_cond_t: false,
            use_additional_t_cond: false,
            use_layer3d_rope: false,
        }
    }
}

impl TransformerConfig {
    /// Parses and checks the file's content.
    ///
    /// # Errors
    /// Malformed JSON, and what [`validate`](Self::validate) refuses.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let config: Self = parse_json(FILE, json)?;
        config.validate()?;
        Ok(config)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// A value out of range, values that do not fit together, a feature that is not supported.
    pub fn validate(&self) -> Result<()> {
        let rules = Rules(FILE);
        rules.off("guidance_embeds", self.guidance_embeds)?;
        rules.off("zero_cond_t", self.zero_cond_t)?;
        rules.off("use_additional_t_cond", self.use_additional_t_cond)?;
        rules.off("use_layer3d_rope", self.use_layer3d_rope)?;
        rules.equal("patch_size", self.patch_size, 2, "the only size supported")?;
        rules.range("out_channels", self.out_channels, 1..=256)?;
        rules.equal(
            "in_channels",
            self.in_channels,
            4 * self.out_channels,
            "out_channels times 4",
        )?;
        rules.range("num_layers", self.num_layers, 1..=1000)?;
        rules.range("num_attention_heads", self.num_attention_heads, 1..=512)?;
        rules.range("joint_attention_dim", self.joint_attention_dim, 1..=65_536)?;
        for dim in self.axes_dims_rope {
            rules.ensure(dim.is_multiple_of(2) && (2..=1024).contains(&dim), || {
                format!("`axes_dims_rope` holds {dim}, expected even numbers from 2 to 1024")
            })?;
        }
        rules.equal(
            "attention_head_dim",
            self.attention_head_dim,
            self.axes_dims_rope.iter().sum(),
            "the sum of axes_dims_rope",
        )?;
        rules.range(
            "attention_head_dim times num_attention_heads",
            self.inner_dim(),
            1..=65_536,
        )
    }

    /// Width of a predicted image token.
    #[must_use]
    pub fn patch_channels(&self) -> usize {
        self.patch_size.pow(2) * self.out_channels
    }

    /// Width of the token streams, `d`.
    #[must_use]
    pub fn inner_dim(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn omitted_keys_have_the_class_defaults() {
        let config = TransformerConfig::parse(br#"{"pooled_projection_dim": 768}"#).unwrap();
        assert_eq!(config, TransformerConfig::default());
        assert_eq!(config.inner_dim(), 3072);
    }

    #[test]
    fn refuses_by_name() {
        for (json, message) in [
            (
                r#"{"guidance_embeds": true}"#,
                "`guidance_embeds` is true, which is not supported",
            ),
            (
                r#"{"zero_cond_t": true}"#,
                "`zero_cond_t` is true, which is not supported",
            ),
            (
                r#"{"use_additional_t_cond": true}"#,
                "`use_additional_t_cond` is true, which is not supported",
            ),
            (
                r#"{"use_layer3d_rope": true}"#,
                "`use_layer3d_rope` is true, which is not supported",
            ),
            (
                r#"{"patch_size": 1}"#,
                "`patch_size` is 1, expected 2 (the only size supported)",
            ),
            (
                r#"{"in_channels": 63}"#,
                "`in_channels` is 63, expected 64 (out_channels times 4)",
            ),
            (
                r#"{"num_layers": 0}"#,
                "`num_layers` is 0, expected 1 to 1000",
            ),
            (
                r#"{"num_attention_heads": 18446744073709551615}"#,
                "`num_attention_heads` is 18446744073709551615, expected 1 to 512",
            ),
            (
                r#"{"axes_dims_rope": [16, 57, 55]}"#,
                "`axes_dims_rope` holds 57, expected even numbers from 2 to 1024",
            ),
            (
                r#"{"attention_head_dim": 64}"#,
                "`attention_head_dim` is 64, expected 128 (the sum of axes_dims_rope)",
            ),
            (
                r#"{"axes_dims_rope": [0, 64, 64]}"#,
                "`axes_dims_rope` holds 0, expected even numbers from 2 to 1024",
            ),
            (
                r#"{"num_layers": -1}"#,
                "invalid value: integer `-1`, expected usize at line 1 column 17",
            ),
        ] {
            let error = TransformerConfig::parse(json.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), format!("{FILE}: {message}"));
        }
    }
}
