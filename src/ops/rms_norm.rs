//! The text's norm, with and without a residual sum before it.

use candle_core::{Result, Tensor};

use super::check;
use super::span::op_span;

/// `x / sqrt(mean(x²) + eps) · weight` of each row.
///
/// # Shapes
/// `x`, result: `[rows, d]`; `weight`: `[d]`.
///
/// # Errors
/// When shapes do not agree.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let _span = op_span!("qwen::rms_norm", x, weight);
    check::dims("rms_norm", "weight", weight, &[x.dims2()?.1])?;
    match x.device() {
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(_) => Ok(fused(x, None, weight, eps)?.1),
        _ => candle_nn::ops::rms_norm(&x.contiguous()?, weight, eps),
    }
}

/// `x + y`, and its [`rms_norm`].
///
/// # Shapes
/// `x`, `y`, results: `[rows, d]`; `weight`: `[d]`.
///
/// # Errors
/// When shapes do not agree.
pub fn residual_rms_norm(
    x: &Tensor,
    y: &Tensor,
    weight: &Tensor,
    eps: f32,
) -> Result<(Tensor, Tensor)> {
    let _span = op_span!("qwen::residual_rms_norm", x, y, weight);
    check::dims("residual_rms_norm", "y", y, x.dims())?;
    check::dims("residual_rms_norm", "weight", weight, &[x.dims2()?.1])?;
    match x.device() {
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(_) => fused(x, Some(y), weight, eps),
        _ => {
            let sum = (x + y)?;
            let normed = candle_nn::ops::rms_norm(&sum, weight, eps)?;
            Ok((sum, normed))
        }
    }
}

/// Both operations in one kernel; without an update the first result is `x`.
#[cfg(feature = "cuda")]
fn fused(x: &Tensor, y: Option<&Tensor>, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)> {
    use super::cuda::{self, Arg};
    const THREADS: usize = 256;

    let ((rows, d), dtype) = (x.dims2()?, x.dtype());
    let empty = || cuda::empty((rows, d), dtype, x.device());
    let y = y.map(cuda::contiguous).transpose()?;
    let sum = y.as_ref().map(|_| empty()).transpose()?;
    let (x, normed) = (cuda::contiguous(x)?, empty()?);
    let or_null = |tensor: Option<&Tensor>| tensor.map_or(Ok(0), |t| cuda::address(t, dtype));
    let addresses = [
        cuda::address(&x, dtype)?,
        or_null(y.as_ref())?,
        cuda::address(weight, dtype)?,
        or_null(sum.as_ref())?,
        cuda::address(&normed, dtype)?,
    ];
    let (kind, _) = cuda::access(dtype, d, &addresses);

    let mut args: Vec<Arg> = addresses.into_iter().map(Arg::Ptr).collect();
    args.extend([Arg::int(d)?, Arg::Float(eps)]);
    let kernel = format!("rms_norm_{}{kind}", cuda::suffix(dtype)?);
    cuda::context(x.device())?.launch("rms_norm", &kernel, rows, THREADS, &args)?;
    Ok((sum.unwrap_or(x), normed))
}

#[cfg(test)]
mod tests {
    use candle_core::D;

    use super::*;
    use crate::ops::testing::{assert_close, targets};

    #[test]
    fn agrees_with_the_formula_on_offset_views() -> Result<()> {
        for target in targets() {
            for d in [5, 96, 3584] {
                let x = target.random((5, d), 1)?.narrow(0, 1, 4)?;
                let (y, weight) = (target.random((4, d), 2)?, target.random(d, 3)?);
                let normed = rms_norm(&x, &weight, 1e-6)?;
                let (sum, sum_normed) = residual_rms_norm(&x, &y, &weight, 1e-6)?;

                let weight = target.host(&weight)?;
                let expected = |x: &Tensor| {
                    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
                    x.broadcast_div(&(mean + 1e-6)?.sqrt()?)?
                        .broadcast_mul(&weight)
                };
                let (x, y) = (target.host(&x)?, target.host(&y)?);
                let tolerance = target.tolerance(1e-6);
                assert_close(&normed, &expected(&x)?, tolerance)?;
                assert_close(&sum, &(&x + &y)?, tolerance)?;
                assert_close(&sum_normed, &expected(&(&x + &y)?)?, tolerance)?;
            }
        }
        Ok(())
    }
}
