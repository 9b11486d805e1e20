//! The initial noise.

use candle_core::{Device, Tensor};

use super::latents::pack_latents;
use crate::config::ModelConfig;
use crate::error::Result;
use crate::noise;
use crate::sampling::Sampling;

/// Standard normal values of `seed`, packed `[s_img, 4 z]`, f32.
///
/// Drawn on the host for every device, so that a seed means one picture everywhere.
pub(super) fn noise(
    seed: u64,
    sampling: &Sampling,
    config: &ModelConfig,
    device: &Device,
) -> Result<Tensor> {
    let (rows, columns) = sampling.grid();
    let shape = (config.vae.z_dim, 2 * rows, 2 * columns);
    let values = noise::randn(sampling.generator_device, seed, shape.0 * shape.1 * shape.2);
    let noise = Tensor::from_vec(values, shape, &Device::Cpu)?;
    Ok(pack_latents(&noise)?.to_device(device)?)
}
