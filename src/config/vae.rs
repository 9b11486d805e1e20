//! `vae/config.json`.

use std::array;

use serde::Deserialize;

use super::Rules;
use crate::error::Result;
use crate::weights::parse_json;

/// Path in the checkpoint.
pub const FILE: &str = "vae/config.json";

/// Levels of resolution; the VAE scales by 2 between them, 8 in all.
const LEVELS: usize = 4;

/// The autoencoder. A key that the file omits has diffusers' default.
///
/// Source: diffusers `autoencoder_kl_qwenimage.py`, `AutoencoderKLQwenImage.__init__`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct VaeConfig {
    /// Channels at full resolution, before `dim_mult`.
    pub base_dim: usize,
    /// Latent channels.
    pub z_dim: usize,
    /// Channels of each level over `base_dim`, full resolution first.
    pub dim_mult: [usize; LEVELS],
    /// Residual blocks of an encoder level; a decoder level has one more.
    pub num_res_blocks: usize,
    /// Scales with attention: none.
    pub attn_scales: Vec<f32>,
    /// Which levels also halve the frames (the key is spelt so).
    pub temperal_downsample: [bool; LEVELS - 1],
    /// Channels of the picture: RGB.
    pub input_channels: usize,
    /// Mean of each latent channel.
    pub latents_mean: Vec<f32>,
    /// Standard deviation of each latent channel.
    pub latents_std: Vec<f32>,
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            base_dim: 96,
            z_dim: 16,
            dim_mult: [1, 2, 4, 4],
            num_res_blocks: 2,
            attn_scales: Vec::new(),
            temperal_downsample: [false, true, true],
            input_channels: 3,
            latents_mean: vec![
                -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134,
                -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
            ],
            latents_std: vec![
                2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526,
                2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
            ],
        }
    }
}

impl VaeConfig {
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
        rules.equal("input_channels", self.input_channels, 3, "RGB")?;
        rules.ensure(self.attn_scales.is_empty(), || {
            format!(
                "`attn_scales` has {} values, expected none",
                self.attn_scales.len()
            )
        })?;
        rules.range("base_dim", self.base_dim, 1..=4096)?;
        rules.range("z_dim", self.z_dim, 1..=256)?;
        rules.range("num_res_blocks", self.num_res_blocks, 1..=16)?;
        for mult in self.dim_mult {
            rules.range("dim_mult", mult, 1..=16)?;
        }
        // Every level but the first comes out of an upsampler that halves its channels.
        for dim in self.dim_mult[1..].iter().map(|mult| self.base_dim * mult) {
            rules.ensure(dim.is_multiple_of(2), || {
                format!("`base_dim` times `dim_mult` is {dim}, expected an even number")
            })?;
        }
        for (key, values) in [
            ("latents_mean", &self.latents_mean),
            ("latents_std", &self.latents_std),
        ] {
            let (len, z_dim) = (values.len(), self.z_dim);
            rules.ensure(len == z_dim, || {
                format!("`{key}` has {len} values, expected {z_dim} (z_dim)")
            })?;
            for value in values {
                rules.ensure(value.is_finite(), || {
                    format!("`{key}` holds {value}, expected finite values")
                })?;
            }
        }
        for std in &self.latents_std {
            rules.ensure(*std > 0.0, || {
                format!("`latents_std` holds {std}, expected values above 0")
            })?;
        }
        Ok(())
    }

    /// Channels into and out of each level of the decoder, the deepest first. The upsampler between two
    /// levels halves them.
    #[must_use]
    pub fn decoder_levels(&self) -> [(usize, usize); LEVELS] {
        let mut out = self.dim_mult.map(|mult| mult * self.base_dim);
        out.reverse();
        array::from_fn(|i| {
            let c_in = if i == 0 { out[0] } else { out[i - 1] / 2 };
            (c_in, out[i])
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn omitted_keys_have_the_class_defaults() {
        let config = VaeConfig::parse(br#"{"dropout": 0.0, "dim_mult": [1, 2, 4, 4]}"#).unwrap();
        assert_eq!(config, VaeConfig::default());
    }

    #[test]
    fn refuses_by_name() {
        let std = |value: &str| {
            format!(r#"{{"z_dim": 1, "latents_mean": [0], "latents_std": [{value}]}}"#)
        };
        for (json, message) in [
            (
                r#"{"input_channels": 4}"#.into(),
                "`input_channels` is 4, expected 3 (RGB)",
            ),
            (
                r#"{"attn_scales": [0.5]}"#.into(),
                "`attn_scales` has 1 values, expected none",
            ),
            (
                r#"{"base_dim": 0}"#.into(),
                "`base_dim` is 0, expected 1 to 4096",
            ),
            (
                r#"{"dim_mult": [1, 2, 4, 99]}"#.into(),
                "`dim_mult` is 99, expected 1 to 16",
            ),
            (
                r#"{"base_dim": 3, "dim_mult": [1, 1, 2, 2]}"#.into(),
                "`base_dim` times `dim_mult` is 3, expected an even number",
            ),
            (
                r#"{"z_dim": 8}"#.into(),
                "`latents_mean` has 16 values, expected 8 (z_dim)",
            ),
            (std("0"), "`latents_std` holds 0, expected values above 0"),
            (
                std("-1.0"),
                "`latents_std` holds -1, expected values above 0",
            ),
            (
                std("1e-60"),
                "`latents_std` holds 0, expected values above 0",
            ),
            (
                std("1e60"),
                "`latents_std` holds inf, expected finite values",
            ),
        ] {
            let error = VaeConfig::parse(json.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), format!("{FILE}: {message}"));
        }
    }

    #[test]
    fn refuses_other_numbers_of_levels() {
        let error = VaeConfig::parse(br#"{"dim_mult": [1, 2, 4]}"#).unwrap_err();
        assert!(
            error.to_string().contains("an array of length 4"),
            "{error}"
        );
        assert!(VaeConfig::parse(br#"{"dim_mult": [1, 2, 4, 4, 4]}"#).is_err());
    }
}
