//! Adaptive LayerNorm, and the gated residual that precedes it, in one pass over the rows.

use candle_core::{Device, Result, Tensor};

use super::check;
use super::host::{host_f32, par_rows, sum, to_f32};
use super::span::op_span;

/// Epsilon of every LayerNorm of the transformer.
const EPS: f32 = 1e-6;

/// `LN(x) · (1 + scale) + shift`; LayerNorm without affine parameters, biased variance.
///
/// # Shapes
/// `x`, result: `[rows, d]`; `shift`, `scale`: `[d]`.
///
/// # Errors
/// When shapes do not agree.
///
/// Source: diffusers `transformer_qwenimage.py`, `_modulate`.
pub fn adaptive_layer_norm(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let _span = op_span!("qwen::adaptive_layer_norm", x, shift, scale);
    let (rows, d) = x.dims2()?;
    for (name, vector) in [("shift", shift), ("scale", scale)] {
        check::dims("adaptive_layer_norm", name, vector, &[d])?;
    }
    match x.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => Ok(fused(x, None, shift, scale)?.1),
        _ => {
            let (x32, shift, scale) = (to_f32(x)?, to_f32(shift)?, to_f32(scale)?);
            let (x32, shift, scale) = (host_f32(&x32)?, host_f32(&shift)?, host_f32(&scale)?);
            let mut out = vec![0f32; rows * d];
            par_rows(&mut out, d, |first, out| {
                for (y, x) in out
                    .chunks_exact_mut(d)
                    .zip(x32[first * d..].chunks_exact(d))
                {
                    normalise(y, x, &shift, &scale);
                }
            });
            Tensor::from_vec(out, (rows, d), &Device::Cpu)?.to_dtype(x.dtype())
        }
    }
}

/// `x' = x + gate · y`, and the adaptive LayerNorm of `x'`; on a GPU that of the sum before it is rounded.
///
/// # Shapes
/// `x`, `y`, both results: `[rows, d]`; `gate`, `shift`, `scale`: `[d]`.
///
/// # Errors
/// When shapes do not agree.
pub fn gated_residual_layer_norm(
    x: &Tensor,
    y: &Tensor,
    gate: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let _span = op_span!("qwen::gated_residual_layer_norm", x, y, gate, shift, scale);
    let (rows, d) = x.dims2()?;
    check::dims("gated_residual_layer_norm", "y", y, &[rows, d])?;
    for (name, vector) in [("gate", gate), ("shift", shift), ("scale", scale)] {
        check::dims("gated_residual_layer_norm", name, vector, &[d])?;
    }
    match x.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => fused(x, Some((y, gate)), shift, scale),
        _ => {
            let (x32, y, gate) = (to_f32(x)?, to_f32(y)?, to_f32(gate)?);
            let (x32, y, gate) = (host_f32(&x32)?, host_f32(&y)?, host_f32(&gate)?);
            let mut sum = vec![0f32; rows * d];
            par_rows(&mut sum, d, |first, out| {
                let rows = x32[first * d..]
                    .chunks_exact(d)
                    .zip(y[first * d..].chunks_exact(d));
                for (out, (x, y)) in out.chunks_exact_mut(d).zip(rows) {
                    for (((out, x), y), gate) in out.iter_mut().zip(x).zip(y).zip(&*gate) {
                        *out = gate.mul_add(*y, *x);
                    }
                }
            });
            let sum = Tensor::from_vec(sum, (rows, d), &Device::Cpu)?.to_dtype(x.dtype())?;
            let normed = adaptive_layer_norm(&sum, shift, scale)?;
            Ok((sum, normed))
        }
    }
}

/// Both operations in one kernel; without an update the first result is `x`.
#[cfg(feature = "cuda")]
fn fused(
    x: &Tensor,
    update: Option<(&Tensor, &Tensor)>,
    shift: &Tensor,
    scale: &Tensor,
) -> Result<(Tensor, Tensor)> {
    use super::cuda::{self, Arg};
    const MAX_THREADS: usize = 1024;

    let (rows, d) = x.dims2()?;
    let dtype = x.dtype();
    let context = cuda::context(x.device())?;
    let x = cuda::contiguous(x)?;
    let normed = cuda::empty((rows, d), dtype, x.device())?;
    let (y, gate) = update.unzip();
    let y = y.map(cuda::contiguous).transpose()?;
    let new_sum = || cuda::empty((rows, d), dtype, x.device());
    let (name, sum) = match y {
        Some(_) => ("gated_residual_layer_norm", Some(new_sum()?)),
        None => ("adaptive_layer_norm", None),
    };
    let or_null = |tensor: Option<&Tensor>| tensor.map_or(Ok(0), |t| cuda::address(t, dtype));
    let addresses = [
        cuda::address(&x, dtype)?,
        or_null(y.as_ref())?,
        or_null(gate)?,
        cuda::address(shift, dtype)?,
        cuda::address(scale, dtype)?,
        or_null(sum.as_ref())?,
        cuda::address(&normed, dtype)?,
    ];

    let (threads, kind) = match cuda::access(dtype, d, &addresses) {
        (kind @ "_vec", vector) if d <= vector * MAX_THREADS => {
            ((d / vector).next_multiple_of(32), kind)
        }
        _ if d <= 16 * MAX_THREADS => (d.next_multiple_of(32).min(MAX_THREADS), ""),
        _ => candle_core::bail!("layer_norm: rows of {d} are too wide"),
    };
    let kernel = format!("{name}_{}{kind}", cuda::suffix(dtype)?);
    let mut args: Vec<Arg> = addresses.into_iter().map(Arg::Ptr).collect();
    args.push(Arg::int(d)?);
    context.launch("layer_norm", &kernel, rows, threads, &args)?;
    Ok((sum.unwrap_or(x), normed))
}

#[expect(clippy::cast_precision_loss, reason = "a row's width is small")]
fn normalise(y: &mut [f32], x: &[f32], shift: &[f32], scale: &[f32]) {
    let width = x.len() as f32;
    let mean = sum(x, |x| x) / width;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / width;
    let inverse = 1.0 / (variance + EPS).sqrt();
    for (((y, x), shift), scale) in y.iter_mut().zip(x).zip(shift).zip(scale) {
        *y = ((x - mean) * inverse).mul_add(1.0 + scale, *shift);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::D;

    use super::*;
    use crate::ops::testing::{Target, assert_close, targets};

    fn reference(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        centred
            .broadcast_div(&(variance + 1e-6)?.sqrt()?)?
            .broadcast_mul(&(scale + 1.0)?)?
            .broadcast_add(shift)
    }

    #[test]
    fn agrees_with_the_formula_on_offset_views() -> Result<()> {
        for target in targets() {
            for (rows, d) in [(1, 3), (7, 33), (129, 160), (5, 3072)] {
                agrees_with_the_formula(&target, rows, d)?;
            }
        }
        Ok(())
    }

    fn agrees_with_the_formula(target: &Target, rows: usize, d: usize) -> Result<()> {
        let x = target.random((rows + 1, d), 1)?.narrow(0, 1, rows)?;
        let y = target.random((rows, d), 2)?;
        let table = target.random((3, 3 * d), 3)?;
        let part = |i| table.narrow(0, 1, 1)?.narrow(1, i * d, d)?.flatten_all();
        let (shift, scale, gate) = (part(0)?, part(1)?, part(2)?);
        let alone = adaptive_layer_norm(&x, &shift, &scale)?;
        let (sum, normed) = gated_residual_layer_norm(&x, &y, &gate, &shift, &scale)?;
        let [x, y, shift, scale, gate] = [&x, &y, &shift, &scale, &gate].map(|t| target.host(t));
        let (x, shift, scale) = (x?, shift?, scale?);
        let tolerance = target.tolerance(1e-6);
        assert_close(&alone, &reference(&x, &shift, &scale)?, tolerance)?;
        let expected = (&x + y?.broadcast_mul(&gate?)?)?;
        assert_close(&sum, &expected, tolerance)?;
        assert_close(&normed, &reference(&expected, &shift, &scale)?, tolerance)
    }
}
