//! The VAE's residual block: twice norm, SiLU and 3x3 convolution, beside a shortcut.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::band::CONV_REACH;
use super::{causal_conv, gamma, per_pixel, pointwise};
use crate::ops::{Conv2d, Linear, add, conv2d, rms_norm_silu};

#[derive(Debug)]
pub(super) struct ResnetBlock {
    norm1: Tensor,
    conv1: Conv2d,
    norm2: Tensor,
    conv2: Conv2d,
    /// Where the block changes the number of channels.
    conv_shortcut: Option<Linear>,
}

impl ResnetBlock {
    /// Rows on either side of a pixel that it depends on.
    pub(super) const REACH: usize = 2 * CONV_REACH;

    pub(super) fn new(c_in: usize, c_out: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm1: gamma(c_in, 3, &vb.pp("norm1"))?,
            conv1: causal_conv(c_in, c_out, &vb.pp("conv1"))?,
            norm2: gamma(c_out, 3, &vb.pp("norm2"))?,
            conv2: causal_conv(c_out, c_out, &vb.pp("conv2"))?,
            conv_shortcut: (c_in != c_out)
                .then(|| pointwise((c_out, c_in), 3, &vb.pp("conv_shortcut")))
                .transpose()?,
        })
    }

    /// `[h, w, in]` to `[h, w, out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = conv2d(&rms_norm_silu(x, &self.norm1)?, &self.conv1)?;
        let y = conv2d(&rms_norm_silu(&y, &self.norm2)?, &self.conv2)?;
        match &self.conv_shortcut {
            Some(shortcut) => add(&y, &per_pixel(x, shortcut)?),
            None => add(&y, x),
        }
    }
}
