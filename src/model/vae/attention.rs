//! The VAE's attention block: one head over all pixels.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{gamma, pointwise};
use crate::ops::{AttentionShape, Linear, add, attention, linear, rms_norm_channels};

#[derive(Debug)]
pub(super) struct AttentionBlock {
    norm: Tensor,
    to_qkv: Linear,
    proj: Linear,
    shape: AttentionShape,
}

impl AttentionBlock {
    pub(super) fn new(c: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm: gamma(c, 2, &vb.pp("norm"))?,
            to_qkv: pointwise((3 * c, c), 2, &vb.pp("to_qkv"))?,
            proj: pointwise((c, c), 2, &vb.pp("proj"))?,
            shape: AttentionShape {
                heads: 1,
                kv_heads: 1,
                head_dim: c,
                causal: false,
            },
        })
    }

    /// `[h, w, c]` to the same.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (h, w, c) = x.dims3()?;
        let rows = rms_norm_channels(x, &self.norm)?.reshape((h * w, c))?;
        let qkv = linear(&rows, &self.to_qkv)?;
        let attended = attention(&qkv, &self.shape, std::slice::from_ref(&(0..h * w)))?;
        add(x, &linear(&attended, &self.proj)?.reshape((h, w, c))?)
    }
}
