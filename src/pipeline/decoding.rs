//! Latents to 8-bit pixels.

use candle_core::{DType, Device, Tensor};

use super::Sampling;
use super::latents::unpack_latents;
use crate::config::vae::VaeConfig;
use crate::error::{Error, Result};
use crate::model::vae::VaeDecoder;

/// An 8-bit RGB picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// `height · width · 3` bytes, row by row.
    pub rgb: Vec<u8>,
}

/// Decodes packed latents `[s_img, 4 z]`.
pub(super) fn decode(
    latents: &Tensor,
    sampling: &Sampling,
    config: &VaeConfig,
    vae: &VaeDecoder,
    dtype: DType,
) -> Result<Picture> {
    check_finite(latents, "the denoised latents")?;
    let latents = unpack_latents(latents, sampling.grid())?;
    let pixels = vae.decode(&denormalise(&latents, config, dtype)?)?;
    let pixels = pixels.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
    let pixels: Vec<f32> = pixels.flatten_all()?.to_vec1()?;
    Ok(Picture {
        width: sampling.width,
        height: sampling.height,
        rgb: to_bytes(&pixels)?,
    })
}

/// `latents · std + mean` per channel, `[h8, w8, z]`, in the VAE's dtype.
fn denormalise(latents: &Tensor, config: &VaeConfig, dtype: DType) -> candle_core::Result<Tensor> {
    let statistic = |values: &[f32]| Tensor::new(values, latents.device());
    latents
        .broadcast_mul(&statistic(&config.latents_std)?)?
        .broadcast_add(&statistic(&config.latents_mean)?)?
        .to_dtype(dtype)
}

/// `[-1, 1]` to `0..=255`, rounded to nearest, ties to even.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of a byte"
)]
fn to_bytes(pixels: &[f32]) -> Result<Vec<u8>> {
    if !pixels.iter().all(|p| p.is_finite()) {
        return Err(not_finite("the decoded picture"));
    }
    Ok(pixels
        .iter()
        .map(|p| (p.mul_add(0.5, 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8)
        .collect())
}

fn check_finite(tensor: &Tensor, what: &str) -> Result<()> {
    let sum = tensor.abs()?.sum_all()?.to_scalar::<f32>()?;
    if sum.is_finite() {
        Ok(())
    } else {
        Err(not_finite(what))
    }
}

fn not_finite(what: &str) -> Error {
    Error::NonFinite {
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_round_to_nearest() -> Result<()> {
        assert_eq!(
            to_bytes(&[-1.0, 0.0, 1.0, -0.9961, 2.0])?,
            [0, 128, 255, 0, 255]
        );
        assert!(to_bytes(&[f32::NAN]).is_err());
        Ok(())
    }
}
