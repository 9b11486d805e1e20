//! 3x3 convolutions of the VAE, channels last, padding 1; with nearest 2x upsampling before it, too.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::host::{self, Matrix, host_f32, to_f32};

/// A 3x3 kernel as the product reads it, with its bias.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// `[out, 9 · in]`, the nine taps row by row, channels innermost.
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
}

impl Conv2d {
    /// Arranges a kernel `[out, in, 3, 3]` with bias `[out]`.
    ///
    /// # Errors
    /// When the shapes are others.
    pub fn from_tensors(kernel: &Tensor, bias: Tensor) -> Result<Self> {
        let (c_out, c_in, 3, 3) = kernel.dims4()? else {
            candle_core::bail!("conv2d: a kernel of shape {:?} is not 3x3", kernel.shape())
        };
        let weight = kernel.permute((0, 2, 3, 1))?.reshape((c_out, 9 * c_in))?;
        Ok(Self { weight, bias })
    }
}

/// 3x3 convolution with padding 1.
///
/// # Shapes
/// `x`: `[h, w, in]`; result: `[h, w, out]`.
///
/// # Errors
/// When shapes do not agree.
pub fn conv2d(x: &Tensor, conv: &Conv2d) -> Result<Tensor> {
    apply(x, conv, 1)
}

/// [`conv2d`] of the picture with each pixel repeated 2x2.
///
/// # Shapes
/// `x`: `[h, w, in]`; result: `[2h, 2w, out]`.
///
/// # Errors
/// When shapes do not agree.
pub fn upsample_conv2d(x: &Tensor, conv: &Conv2d) -> Result<Tensor> {
    apply(x, conv, 2)
}

fn apply(x: &Tensor, conv: &Conv2d, factor: usize) -> Result<Tensor> {
    let (h, w, c_in) = x.dims3()?;
    let (c_out, taps) = conv.weight.dims2()?;
    if taps != 9 * c_in {
        candle_core::bail!("conv2d: input has {c_in} channels, the kernel {}", taps / 9)
    }
    match x.device() {
        Device::Cpu => plain(x, conv, factor, (h, w, c_in, c_out)),
        _ => candle_core::bail!("conv2d: no implementation for this device"),
    }
}

/// Floats of the patches gathered at once: half of a common L2 cache.
const PATCH_FLOATS: usize = 64 * 1024;

/// Gathers the 3x3 patches of a run of pixels and multiplies them with the kernel, run by run.
fn plain(
    x: &Tensor,
    conv: &Conv2d,
    factor: usize,
    (h, w, c_in, c_out): (usize, usize, usize, usize),
) -> Result<Tensor> {
    let (input, weight, bias) = (to_f32(x)?, to_f32(&conv.weight)?, to_f32(&conv.bias)?);
    let (input, weight, bias) = (host_f32(&input)?, host_f32(&weight)?, host_f32(&bias)?);
    let (out_h, out_w) = (h * factor, w * factor);
    let taps = 9 * c_in;
    let run = (PATCH_FLOATS / taps).max(16);

    let mut out = vec![0f32; out_h * out_w * c_out];
    out.par_chunks_mut(run * c_out).enumerate().for_each_init(
        || vec![0f32; run * taps],
        |patches, (i, out)| {
            let pixels = out.len() / c_out;
            for (p, patch) in patches.chunks_exact_mut(taps).take(pixels).enumerate() {
                let (y, x) = ((i * run + p) / out_w, (i * run + p) % out_w);
                gather(patch, &input, (y, x), (out_h, out_w), factor, c_in);
            }
            out.chunks_exact_mut(c_out)
                .for_each(|y| y.copy_from_slice(&bias));
            host::matmul(
                out,
                c_out,
                (pixels, c_out, taps),
                Matrix::rows(patches, taps),
                Matrix::rows(&weight, taps).t(),
                true,
                false,
            );
        },
    );
    Tensor::from_vec(out, (out_h, out_w, c_out), &Device::Cpu)?.to_dtype(x.dtype())
}

/// The 3x3 neighbourhood of output pixel `(y, x)`, zero outside the picture.
fn gather(
    patch: &mut [f32],
    input: &[f32],
    (y, x): (usize, usize),
    (out_h, out_w): (usize, usize),
    factor: usize,
    c: usize,
) {
    let row_stride = out_w / factor * c;
    let inside = x > 0 && x + 1 < out_w;
    for (dy, taps) in patch.chunks_exact_mut(3 * c).enumerate() {
        let Some(y) = (y + dy).checked_sub(1).filter(|&y| y < out_h) else {
            taps.fill(0.0);
            continue;
        };
        let row = &input[y / factor * row_stride..][..row_stride];
        if inside && factor == 1 {
            taps.copy_from_slice(&row[(x - 1) * c..(x + 2) * c]);
            continue;
        }
        for (dx, tap) in taps.chunks_exact_mut(c).enumerate() {
            match (x + dx).checked_sub(1).filter(|&x| x < out_w) {
                Some(x) => tap.copy_from_slice(&row[x / factor * c..][..c]),
                None => tap.fill(0.0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};

    #[test]
    fn agrees_with_candle_on_odd_sizes() -> Result<()> {
        for (h, w, c_in, c_out) in [(1, 1, 3, 2), (5, 7, 3, 4), (33, 70, 24, 12)] {
            let x = random((h + 1, w, c_in), 1)?.narrow(0, 1, h)?;
            let kernel = random((c_out, c_in, 3, 3), 2)?;
            let bias = random(c_out, 3)?;
            let conv = Conv2d::from_tensors(&kernel, bias.clone())?;
            let nchw = x.permute((2, 0, 1))?.unsqueeze(0)?.contiguous()?;
            let expected = |x: &Tensor| {
                x.conv2d(&kernel, 1, 1, 1, 1)?
                    .squeeze(0)?
                    .permute((1, 2, 0))?
                    .broadcast_add(&bias)
            };
            assert_close(&conv2d(&x, &conv)?, &expected(&nchw)?, 1e-5)?;
            let doubled = nchw.upsample_nearest2d(2 * h, 2 * w)?;
            assert_close(&upsample_conv2d(&x, &conv)?, &expected(&doubled)?, 1e-5)?;
        }
        Ok(())
    }
}
