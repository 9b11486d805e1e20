//! The VAE's norm: each pixel's channels scaled to length `sqrt(c)`, with and without SiLU after it.

use candle_core::{D, Device, Result, Tensor};

use super::check;
use super::host::{self, host_f32, par_rows, sum, to_f32};
use super::span::op_span;

/// Lengths below this are divided by this.
const MIN_LENGTH: f32 = 1e-12;

/// `x / max(‖x‖₂, 1e-12) · sqrt(c) · gamma` over the channels of each pixel.
///
/// # Shapes
/// `x`, result: `[.., c]`; `gamma`: `[c]`.
///
/// # Errors
/// When shapes do not agree.
///
/// Source: diffusers `autoencoder_kl_qwenimage.py`, `QwenImageRMS_norm`.
pub fn rms_norm_channels(x: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    let _span = op_span!("qwen::rms_norm_channels", x, gamma);
    apply(x, gamma, false)
}

/// [`rms_norm_channels`] followed by SiLU.
///
/// # Errors
/// When shapes do not agree.
pub fn rms_norm_silu(x: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    let _span = op_span!("qwen::rms_norm_silu", x, gamma);
    apply(x, gamma, true)
}

fn apply(x: &Tensor, gamma: &Tensor, silu: bool) -> Result<Tensor> {
    check::dims("rms_norm_channels", "gamma", gamma, &[x.dim(D::Minus1)?])?;
    match x.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => fused(x, gamma, silu),
        _ => plain(x, gamma, silu),
    }
}

#[cfg(feature = "cuda")]
fn fused(x: &Tensor, gamma: &Tensor, silu: bool) -> Result<Tensor> {
    use super::cuda::{self, Arg};
    const WARPS: usize = 8;

    let (c, dtype) = (gamma.dim(0)?, x.dtype());
    let context = cuda::context(x.device())?;
    let x = x.contiguous()?;
    let out = cuda::empty(x.shape(), dtype, x.device())?;
    let pixels = x.elem_count() / c;
    let addresses = [
        cuda::address(&x, dtype)?,
        cuda::address(gamma, dtype)?,
        cuda::address(&out, dtype)?,
    ];
    let is_vector = c % 4 == 0 && cuda::aligned(&addresses, 16);
    let kind = if is_vector { "_vec" } else { "" };
    let args = [
        Arg::Ptr(addresses[0]),
        Arg::Ptr(addresses[1]),
        Arg::Ptr(addresses[2]),
        Arg::int(pixels)?,
        Arg::int(c)?,
        Arg::Int(silu.into()),
    ];
    let kernel = format!("rms_norm_silu_{}{kind}", cuda::suffix(dtype)?);
    context.launch(
        "rms_norm_silu",
        &kernel,
        pixels.div_ceil(WARPS),
        32 * WARPS,
        &args,
    )?;
    Ok(out)
}

#[expect(clippy::cast_precision_loss, reason = "channels are few")]
fn plain(x: &Tensor, gamma: &Tensor, silu: bool) -> Result<Tensor> {
    let c = gamma.dim(0)?;
    let (x32, gamma) = (to_f32(x)?, to_f32(gamma)?);
    let (input, gamma) = (host_f32(&x32)?, host_f32(&gamma)?);
    let root = (c as f32).sqrt();
    let mut out = vec![0f32; input.len()];
    par_rows(&mut out, c, |first, out| {
        for (y, x) in out
            .chunks_exact_mut(c)
            .zip(input[first * c..].chunks_exact(c))
        {
            let factor = root / sum(x, |x| x * x).sqrt().max(MIN_LENGTH);
            for ((y, x), gamma) in y.iter_mut().zip(x).zip(&*gamma) {
                *y = x * factor * gamma;
            }
        }
        if silu {
            for y in out {
                *y = host::silu(*y);
            }
        }
    });
    Tensor::from_vec(out, x.shape(), &Device::Cpu)?.to_dtype(x.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, targets};

    #[test]
    fn agrees_with_the_formula() -> Result<()> {
        for target in targets() {
            for c in [13u16, 96, 384] {
                let x = target.random((6, 7, c.into()), 1)?.narrow(0, 1, 5)?;
                let gamma = target.random(usize::from(c), 2)?;
                let (normed, activated) =
                    (rms_norm_channels(&x, &gamma)?, rms_norm_silu(&x, &gamma)?);
                let x = target.host(&x)?;
                let length = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
                let expected = (x.broadcast_div(&length)? * f64::from(c).sqrt())?
                    .broadcast_mul(&target.host(&gamma)?)?;
                let tolerance = target.tolerance(1e-6);
                assert_close(&normed, &expected, tolerance)?;
                assert_close(&activated, &expected.silu()?, tolerance)?;
            }
        }
        Ok(())
    }

    #[test]
    fn a_black_pixel_stays_black() -> Result<()> {
        for target in targets() {
            let x = Tensor::zeros((1, 1, 4), target.dtype, &target.device)?;
            assert_close(&rms_norm_channels(&x, &target.random(4, 1)?)?, &x, 0.0)?;
        }
        Ok(())
    }
}
