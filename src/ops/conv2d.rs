//! 3x3 convolutions of the VAE, channels last, padding 1; with nearest 2x upsampling before it, too.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::check;
use super::host::{self, Matrix, host_f32, to_f32};
use super::span::op_span;

/// A 3x3 kernel as the product reads it, with its bias.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// `[out, 9 · in]`, the nine taps row by row, channels innermost.
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
}

impl Conv2d {
    /// Arranges a kernel `[out, in, 3, 3]` with bias `[out]`; of a kernel `[out, in, frames, 3, 3]` the last
    /// frame, which is all that a causal convolution has for a picture.
    ///
    /// # Errors
    /// When the shapes are others.
    pub fn from_tensors(kernel: &Tensor, bias: Tensor) -> Result<Self> {
        let (&[c_out, c_in, 3, 3] | &[c_out, c_in, _, 3, 3]) = kernel.dims() else {
            candle_core::bail!("conv2d: a kernel of shape {:?} is not 3x3", kernel.shape())
        };
        let kernel = kernel.reshape((c_out, c_in, ()))?;
        let weight = match kernel.device() {
            #[cfg(feature = "cuda")]
            Device::Cuda(_) => fused::arrange(&kernel)?,
            _ => {
                let frame = kernel.narrow(2, kernel.dim(2)? - 9, 9)?;
                frame.transpose(1, 2)?.reshape((c_out, 9 * c_in))?
            }
        };
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
    let _span = op_span!("qwen::conv2d", x, conv.weight, conv.bias);
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
    let _span = op_span!("qwen::upsample_conv2d", x, conv.weight, conv.bias);
    apply(x, conv, 2)
}

fn apply(x: &Tensor, conv: &Conv2d, factor: usize) -> Result<Tensor> {
    let (h, w, c_in) = x.dims3()?;
    let c_out = conv.weight.dim(0)?;
    check::dims("conv2d", "weight", &conv.weight, &[c_out, 9 * c_in])?;
    check::dims("conv2d", "bias", &conv.bias, &[c_out])?;
    match x.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => fused::conv2d(x, conv, factor, (h, w, c_in, c_out)),
        _ => plain(x, conv, factor, (h, w, c_in, c_out)),
    }
}

/// Floats of the patches gathered at once: half of a common L2 cache.
const PATCH_FLOATS: usize = 64 * 1024;

/// Gathers the 3x3 patches of a run of pixels and multiplies them with the kernel, run by run.
///
/// The last run is multiplied at full length, too: the product's library adds in another order for
/// few rows, and a pixel's value must not depend on where it lies.
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
        || (vec![0f32; run * taps], vec![0f32; run * c_out]),
        |(patches, product), (i, out)| {
            let pixels = out.len() / c_out;
            for (p, patch) in patches.chunks_exact_mut(taps).take(pixels).enumerate() {
                let (y, x) = ((i * run + p) / out_w, (i * run + p) % out_w);
                gather(patch, &input, (y, x), (out_h, out_w), factor, c_in);
            }
            host::matmul(
                product,
                c_out,
                (run, c_out, taps),
                Matrix::rows(patches, taps),
                Matrix::rows(&weight, taps).t(),
                false,
            );
            let rows = out.chunks_exact_mut(c_out).zip(product.chunks_exact(c_out));
            for (out, product) in rows {
                let values = out.iter_mut().zip(product).zip(&*bias);
                values.for_each(|((out, product), bias)| *out = product + bias);
            }
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

#[cfg(feature = "cuda")]
mod fused {
    //! cuDNN's convolution where it does the shape, else patches of a band of pixels and a product.

    use candle_core::{DType, Result, Tensor};

    use super::Conv2d;
    use crate::ops::cuda::blas::{Epilogue, Operand, Product};
    use crate::ops::cuda::cudnn::ConvPlan;
    use crate::ops::cuda::{self, Arg, Context};

    /// Largest matrix of patches.
    const MAX_PATCHES_BYTES: usize = 256 << 20;

    pub(super) fn conv2d(
        x: &Tensor,
        conv: &Conv2d,
        factor: usize,
        (h, w, c_in, c_out): (usize, usize, usize, usize),
    ) -> Result<Tensor> {
        let context = cuda::context(x.device())?;
        let (x, dtype) = (x.contiguous()?, x.dtype());
        let (out_h, out_w) = (h * factor, w * factor);
        let out = cuda::empty((out_h, out_w, c_out), dtype, x.device())?;
        // cuDNN reads pixels of 16 bytes.
        if dtype == DType::BF16
            && c_in % 8 == 0
            && let Some(cudnn) = context.cudnn().as_mut()
        {
            let x = if factor == 2 {
                upsample(&context, &x)?
            } else {
                x.clone()
            };
            let plan = ConvPlan {
                h: out_h,
                w: out_w,
                c_in,
                c_out,
            };
            let addresses = (
                cuda::address(&x, dtype)?,
                cuda::address(&conv.weight, dtype)?,
                cuda::address(&conv.bias, dtype)?,
                cuda::address(&out, dtype)?,
            );
            if cudnn.conv(plan, addresses)? {
                return Ok(out);
            }
        }
        by_product(&context, &x, conv, factor, &out)?;
        Ok(out)
    }

    /// The last nine taps of `[out, in, taps]`, channels innermost: `[out, 9 · in]`.
    pub(super) fn arrange(kernel: &Tensor) -> Result<Tensor> {
        let ((c_out, c_in, taps), dtype) = (kernel.dims3()?, kernel.dtype());
        let out = cuda::empty((c_out, 9 * c_in), dtype, kernel.device())?;
        let args = [
            Arg::tensor(kernel, dtype)?,
            Arg::tensor(&out, dtype)?,
            Arg::int(c_out)?,
            Arg::int(c_in)?,
            Arg::int(taps)?,
        ];
        let name = format!("arrange_{}", cuda::suffix(dtype)?);
        cuda::context(kernel.device())?.launch_over("conv2d", &name, out.elem_count(), &args)?;
        Ok(out)
    }

    fn upsample(context: &Context, x: &Tensor) -> Result<Tensor> {
        let (h, w, c) = x.dims3()?;
        let out = cuda::empty((2 * h, 2 * w, c), x.dtype(), x.device())?;
        let dtype = x.dtype();
        let addresses = [cuda::address(x, dtype)?, cuda::address(&out, dtype)?];
        let (kind, vector) = cuda::access(dtype, c, &addresses);
        let args = [
            Arg::Ptr(addresses[0]),
            Arg::Ptr(addresses[1]),
            Arg::int(h)?,
            Arg::int(w)?,
            Arg::int(c)?,
        ];
        let kernel = format!("upsample_{}{kind}", cuda::suffix(x.dtype())?);
        context.launch_over("conv2d", &kernel, 4 * h * w * c / vector, &args)?;
        Ok(out)
    }

    fn by_product(
        context: &Context,
        x: &Tensor,
        conv: &Conv2d,
        factor: usize,
        out: &Tensor,
    ) -> Result<()> {
        let (h, w, c_in) = x.dims3()?;
        let (out_h, out_w, c_out) = out.dims3()?;
        let taps = 9 * c_in;
        let (dtype, element) = (x.dtype(), x.dtype().size_in_bytes());
        let pixels = out_h * out_w;
        let band = (MAX_PATCHES_BYTES / (taps * element)).clamp(1, pixels);
        for first in (0..pixels).step_by(band) {
            let pixels = band.min(pixels - first);
            let patches = cuda::empty((pixels, taps), x.dtype(), x.device())?;
            let args = [
                Arg::tensor(x, dtype)?,
                Arg::tensor(&patches, dtype)?,
                Arg::int(h)?,
                Arg::int(w)?,
                Arg::int(c_in)?,
                Arg::int(factor)?,
                Arg::int(first)?,
                Arg::int(pixels)?,
            ];
            let kernel = format!("patches_{}", cuda::suffix(x.dtype())?);
            context.launch_over("conv2d", &kernel, pixels * taps, &args)?;
            context.product(&Product {
                m: pixels,
                n: c_out,
                k: taps,
                a: Operand::new(cuda::address(&patches, dtype)?, taps),
                b: Operand::new(cuda::address(&conv.weight, dtype)?, taps),
                b_is_weight: true,
                out: Operand::new(
                    cuda::address(out, dtype)? + (first * c_out * element) as u64,
                    c_out,
                ),
                batch: 1,
                dtype,
                out_dtype: dtype,
                epilogue: Epilogue::Bias,
                bias: cuda::address(&conv.bias, dtype)?,
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Target, assert_close, targets};

    #[test]
    fn agrees_with_candle_on_odd_sizes() -> Result<()> {
        for target in targets() {
            for shape in [
                (1, 1, 3, 2),
                (5, 7, 3, 4),
                (33, 70, 24, 12),
                (16, 24, 96, 96),
            ] {
                agrees_with_candle(&target, shape)?;
            }
        }
        Ok(())
    }

    fn agrees_with_candle(
        target: &Target,
        (h, w, c_in, c_out): (usize, usize, usize, usize),
    ) -> Result<()> {
        let x = target.random((h + 1, w, c_in), 1)?.narrow(0, 1, h)?;
        let frames = target.random((c_out, c_in, 3, 3, 3), 2)?;
        let kernel = frames.narrow(2, 2, 1)?.squeeze(2)?.contiguous()?;
        let bias = target.random(c_out, 3)?;
        let conv = Conv2d::from_tensors(&kernel, bias.clone())?;
        let causal = Conv2d::from_tensors(&frames, bias.clone())?;
        assert_close(&causal.weight, &conv.weight, 0.0)?;
        let (same, doubled) = (conv2d(&x, &conv)?, upsample_conv2d(&x, &conv)?);

        let (x, kernel, bias) = (target.host(&x)?, target.host(&kernel)?, target.host(&bias)?);
        let nchw = x.permute((2, 0, 1))?.unsqueeze(0)?.contiguous()?;
        let expected = |x: &Tensor| {
            x.conv2d(&kernel, 1, 1, 1, 1)?
                .squeeze(0)?
                .permute((1, 2, 0))?
                .broadcast_add(&bias)
        };
        let tolerance = target.tolerance(1e-5);
        assert_close(&same, &expected(&nchw)?, tolerance)?;
        let nchw = nchw.upsample_nearest2d(2 * h, 2 * w)?;
        assert_close(&doubled, &expected(&nchw)?, tolerance)
    }
}
