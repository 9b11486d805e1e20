//! Timestep embedding: sinusoids of the timestep, then a two-layer MLP.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use crate::ops::{Linear, linear, silu};

/// Width of the sinusoidal embedding.
pub(super) const CHANNELS: usize = 256;

#[derive(Debug)]
pub(super) struct TimestepEmbedder {
    linear_1: Linear,
    linear_2: Linear,
    dtype: DType,
    device: Device,
}

impl TimestepEmbedder {
    pub(super) fn new(d: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            linear_1: Linear::new(CHANNELS, d, &vb.pp("linear_1"))?,
            linear_2: Linear::new(d, d, &vb.pp("linear_2"))?,
            dtype: vb.dtype(),
            device: vb.device().clone(),
        })
    }

    /// `temb` of each timestep (divided by 1000), `[steps, d]`.
    pub(super) fn forward(&self, timesteps_scaled: &[f32]) -> Result<Tensor> {
        let sinusoids = sinusoids(timesteps_scaled);
        let shape = (timesteps_scaled.len(), CHANNELS);
        let x = Tensor::from_vec(sinusoids, shape, &Device::Cpu)?;
        let x = x.to_dtype(self.dtype)?.to_device(&self.device)?;
        linear(&silu(&linear(&x, &self.linear_1)?)?, &self.linear_2)
    }
}

/// `[cos(a), sin(a)]` of each timestep, with `a_k = 1000 t exp(-ln(10000) k / 128)`, in f32.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "k is small; the logarithm is rounded to f32 as torch does"
)]
fn sinusoids(timesteps_scaled: &[f32]) -> Vec<f32> {
    let half = CHANNELS / 2;
    let log_period = -(10_000f64.ln()) as f32;
    let frequencies: Vec<f32> = (0..half)
        .map(|k| (log_period * k as f32 / half as f32).exp())
        .collect();
    let mut out = Vec::with_capacity(timesteps_scaled.len() * CHANNELS);
    for t in timesteps_scaled {
        let angles = frequencies.iter().map(|frequency| 1000.0 * (t * frequency));
        out.extend(angles.clone().map(f32::cos));
        out.extend(angles.map(f32::sin));
    }
    out
}
