//! The VAE's decoder: for one frame a plain 2-D network, channels last.
//!
//! With a single frame every causal 3-D convolution sees only zeros before it, so only the last
//! temporal slice of its kernel counts, and the upsamplers' temporal convolutions are skipped.
//!
//! Only the mid block's attention sees the whole picture, and it runs at the latents' resolution.
//! Everything after it reads a few rows around a pixel, so it can run over one band of rows after
//! another, and the picture is the same one: memory then grows with the width alone.
//!
//! Source: diffusers `autoencoder_kl_qwenimage.py` at 58eb52c.

mod attention;
mod band;
mod resnet;
mod tensors;
#[cfg(test)]
mod tests;
mod upsample;

use std::ops::Range;

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;
use tracing::trace_span;

use self::attention::AttentionBlock;
use self::band::{Band, CONV_REACH};
use self::resnet::ResnetBlock;
pub(crate) use self::tensors::{belongs, tensors};
use self::upsample::UpBlock;
use crate::config::vae::VaeConfig;
use crate::ops::{Conv2d, Linear, conv2d, linear, rms_norm_silu};

/// Latent rows of a band: 256 rows of the picture, as high as upstream's tiles.
///
/// From the full-size decoder's shapes: behind the mid block four tensors of the picture's size and 96
/// channels are alive at once, in bf16 0.81 GB at 1024x1024 and 3.2 GB at 2048x2048. A band of this
/// height, with 28 rows beside it at every resolution, has 0.22 and 0.45 GB. The rows beside it are a
/// fifth (1024x1024) to a quarter (2048x2048) more work; bands half as high would be half more.
/// On the CPU in f32 at 1024x1024 the process grew by 0.57 GB where the whole picture took 1.84 GB.
pub const BAND_ROWS: usize = 32;

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
        let levels = config.decoder_levels();
        let (deepest, first) = (levels[0].0, levels[levels.len() - 1].1);

        let up_block = |(i, channels)| {
            let has_upsampler = i + 1 < levels.len();
            let vb = decoder.pp("up_blocks").pp(i);
            UpBlock::new(channels, config.num_res_blocks + 1, has_upsampler, &vb)
        };
        let up_blocks = levels.into_iter().enumerate().map(up_block);
        let up_blocks = up_blocks.collect::<Result<_>>()?;
        Ok(Self {
            post_quant_conv: pointwise((z, z), 3, &vb.pp("post_quant_conv"))?,
            conv_in: causal_conv(z, deepest, &decoder.pp("conv_in"))?,
            mid_block: MidBlock::new(deepest, &decoder.pp("mid_block"))?,
            up_blocks,
            norm_out: gamma(first, 3, &decoder.pp("norm_out"))?,
            conv_out: causal_conv(first, 3, &decoder.pp("conv_out"))?,
        })
    }

    /// What it computes in.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.norm_out.dtype()
    }

    /// Decodes to pixels, `band_rows` latent rows at a time; at [`usize::MAX`] all at once. Black is -1,
    /// white is 1; what lies beyond is not clamped, so that what is not finite can still be told.
    ///
    /// # Shapes
    /// `latents`: de-normalised `[h/8, w/8, z]`; results: `[8 · rows, w, 3]`, from top to bottom.
    ///
    /// # Errors
    /// When an operation fails.
    ///
    /// # Panics
    /// When `band_rows` is 0.
    pub fn decode<'a>(
        &'a self,
        latents: &Tensor,
        band_rows: usize,
    ) -> Result<impl Iterator<Item = Result<Tensor>> + use<'a>> {
        let x = per_pixel(latents, &self.post_quant_conv)?;
        let x = conv2d(&x, &self.conv_in)?;
        let x = self.mid_block.forward(&x)?;
        let height = x.dim(0)?;
        Ok((0..height).step_by(band_rows).map(move |first| {
            let end = first.saturating_add(band_rows).min(height);
            self.decode_rows(&x, first..end)
        }))
    }

    /// The pixels of `rows` of the mid block's result.
    fn decode_rows(&self, x: &Tensor, rows: Range<usize>) -> Result<Tensor> {
        let mut band = Band::cut(x, &rows, self.halo())?;
        for (index, block) in (0u64..).zip(&self.up_blocks) {
            let _span = trace_span!("up_block", index).entered();
            band = block.forward(band)?;
        }
        let band = band.apply(CONV_REACH, |x| {
            conv2d(&rms_norm_silu(&x, &self.norm_out)?, &self.conv_out)
        })?;
        let scale = 1 << self.up_blocks.iter().filter(|b| b.doubles()).count();
        band.rows(scale * rows.start..scale * rows.end)
    }

    /// Rows of the mid block's result on either side of a band that its pixels depend on, found by
    /// walking back from the picture.
    fn halo(&self) -> usize {
        let blocks = self.up_blocks.iter().rev();
        blocks.fold(CONV_REACH, |rows, block| block.halo(rows))
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
    let kernel = vb.get((c_out, c_in, 3, 3, 3), "weight")?;
    Conv2d::from_tensors(&kernel, vb.get(c_out, "bias")?)
}

/// A convolution of `(out, in)` channels over one pixel, stored with `axes` axes of size 1 after them: a
/// product over the channels.
fn pointwise(channels: (usize, usize), axes: usize, vb: &VarBuilder<'_>) -> Result<Linear> {
    let mut shape = vec![channels.0, channels.1];
    shape.resize(2 + axes, 1);
    let weight = vb.get(shape, "weight")?.reshape(channels)?;
    Ok(Linear::from_tensors(
        weight,
        Some(vb.get(channels.0, "bias")?),
    ))
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
