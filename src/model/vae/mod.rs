//! The VAE's decoder: for one frame a plain 2-D network, channels last.
//!
//! With a single frame every causal 3-D convolution sees only zeros before it, so only the last
//! temporal slice of its kernel counts, and the upsamplers' temporal convolutions are skipped.
//!
//! Source: diffusers `autoencoder_kl_qwenimage.py` at 58eb52c.

mod attention;
mod resnet;
#[cfg(test)]
mod stages;
mod upsample;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use tracing::trace_span;

use self::attention::AttentionBlock;
use self::resnet::ResnetBlock;
use self::upsample::UpBlock;
use crate::config::vae::VaeConfig;
use crate::ops::{Conv2d, Linear, conv2d, linear, rms_norm_silu};
use crate::weights::last_temporal_slice;

/// Decodes latents to a picture.
#[derive(Debug)]
pub struct VaeDecoder {
    post_quant_conv: Linear,
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    norm_out: Tensor,
    conv_out: Conv2d,
}

impl VaeDecoder {
    /// Reads `decoder.*` and `post_quant_conv`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(config: &VaeConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let z = config.z_dim;
        let decoder = vb.pp("decoder");
        let dims: Vec<usize> = config
            .dim_mult
            .iter()
            .map(|m| config.base_dim * m)
            .collect();
        let (first, deepest) = (dims[0], dims[dims.len() - 1]);

        let mut up_blocks = Vec::new();
        let mut channels = deepest;
        for (i, &out) in dims.iter().rev().enumerate() {
            let vb = decoder.pp("up_blocks").pp(i);
            let has_upsampler = i + 1 < dims.len();
            up_blocks.push(UpBlock::new(
                (channels, out),
                config.num_res_blocks + 1,
                has_upsampler,
                &vb,
            )?);
            channels = if has_upsampler { out / 2 } else { out };
        }
        Ok(Self {
            post_quant_conv: pointwise(z, z, &vb.pp("post_quant_conv"))?,
            conv_in: causal_conv(z, deepest, &decoder.pp("conv_in"))?,
            mid_block: MidBlock::new(deepest, &decoder.pp("mid_block"))?,
            up_blocks,
            norm_out: gamma(first, 3, &decoder.pp("norm_out"))?,
            conv_out: causal_conv(first, 3, &decoder.pp("conv_out"))?,
        })
    }

    /// Decodes to pixels in `[-1, 1]`.
    ///
    /// # Shapes
    /// `latents`: de-normalised `[h/8, w/8, z]`; result: `[h, w, 3]`.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let x = per_pixel(latents, &self.post_quant_conv)?;
        let x = conv2d(&x, &self.conv_in)?;
        let mut x = self.mid_block.forward(&x)?;
        for (index, block) in (0u64..).zip(&self.up_blocks) {
            let _span = trace_span!("up_block", index).entered();
            x = block.forward(&x)?;
        }
        let x = rms_norm_silu(&x, &self.norm_out)?;
        conv2d(&x, &self.conv_out)?.clamp(-1f32, 1f32)
    }
}

#[derive(Debug)]
struct MidBlock {
    before: ResnetBlock,
    attention: AttentionBlock,
    after: ResnetBlock,
}

impl MidBlock {
    fn new(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            before: ResnetBlock::new(channels, channels, &vb.pp("resnets.0"))?,
            attention: AttentionBlock::new(channels, &vb.pp("attentions.0"))?,
            after: ResnetBlock::new(channels, channels, &vb.pp("resnets.1"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let _span = trace_span!("mid_block").entered();
        let x = self.before.forward(x)?;
        self.after.forward(&self.attention.forward(&x)?)
    }
}

/// A causal 3x3x3 convolution as one frame sees it.
fn causal_conv(c_in: usize, c_out: usize, vb: &VarBuilder<'_>) -> Result<Conv2d> {
    let kernel = last_temporal_slice(vb, (c_out, c_in, 3, 3, 3), "weight")?;
    Conv2d::from_tensors(&kernel, vb.get(c_out, "bias")?)
}

/// A causal 1x1x1 convolution: a product over each pixel's channels.
fn pointwise(c_in: usize, c_out: usize, vb: &VarBuilder<'_>) -> Result<Linear> {
    let kernel = vb.get((c_out, c_in, 1, 1, 1), "weight")?;
    let weight = kernel.reshape((c_out, c_in))?;
    Ok(Linear::from_tensors(weight, Some(vb.get(c_out, "bias")?)))
}

/// The weight of a norm, stored with `axes` axes of size 1 after the channels.
fn gamma(channels: usize, axes: usize, vb: &VarBuilder<'_>) -> Result<Tensor> {
    let mut shape = vec![channels];
    shape.resize(1 + axes, 1);
    vb.get(shape, "gamma")?.flatten_all()
}

/// Applies `layer` to every pixel of `[h, w, c]`.
fn per_pixel(x: &Tensor, layer: &Linear) -> Result<Tensor> {
    let (h, w, c) = x.dims3()?;
    linear(&x.reshape((h * w, c))?, layer)?.reshape((h, w, ()))
}
