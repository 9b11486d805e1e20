//! Latents to 8-bit pixels.

use candle_core::{Device, Tensor};

use super::latents::unpack_latents;
use crate::config::vae::VaeConfig;
use crate::error::{Error, Result};
use crate::model::vae::{BAND_ROWS, VaeDecoder};
use crate::ops::to_bytes;
use crate::sampling::Sampling;

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

/// Decodes packed latents `[s_img, 4 z]`, in bands of rows or all at once.
pub(super) fn decode(
    latents: &Tensor,
    sampling: &Sampling,
    config: &VaeConfig,
    vae: &VaeDecoder,
    in_bands: bool,
) -> Result<Picture> {
    // They are few, and the host has them at once.
    let host = latents.to_device(&Device::Cpu)?;
    check_finite(&host, "the denoised latents")?;
    let host = denormalise(&unpack_latents(&host, sampling.grid())?, config)?;
    let latents = host.to_dtype(vae.dtype())?.to_device(latents.device())?;
    let band_rows = if in_bands { BAND_ROWS } else { usize::MAX };
    let (width, height) = (sampling.width, sampling.height);
    let mut rgb = Vec::with_capacity(height * width * 3);
    for pixels in vae.decode(&latents, band_rows)? {
        rgb.extend(to_bytes(&pixels?)?.ok_or_else(|| not_finite("the decoded picture"))?);
    }
    Ok(Picture { width, height, rgb })
}

/// `latents · std + mean` per channel, `[h8, w8, z]`.
fn denormalise(latents: &Tensor, config: &VaeConfig) -> candle_core::Result<Tensor> {
    let statistic = |values: &[f32]| Tensor::new(values, latents.device());
    latents
        .broadcast_mul(&statistic(&config.latents_std)?)?
        .broadcast_add(&statistic(&config.latents_mean)?)
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
