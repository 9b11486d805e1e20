//! Rotary embedding of the text encoder: pairs `(i, i + dh/2)` of each q and k head.

use candle_core::{Device, Result, Tensor};

use super::host::{host_f32, par_rows, to_f32};
use super::span::op_span;
use super::{AttentionShape, check};

/// Rotates the q and k heads of fused rows; v is kept as it is.
///
/// # Shapes
/// `qkv`, result: `[rows, (heads + 2 kv_heads) · dh]`; `cos`, `sin`: `[rows, dh/2]` f32.
///
/// # Errors
/// When shapes do not agree.
///
/// Source: transformers `modeling_qwen2_5_vl.py`, `rotate_half`.
pub fn rope_half(
    qkv: &Tensor,
    shape: &AttentionShape,
    (cos, sin): (&Tensor, &Tensor),
) -> Result<Tensor> {
    let _span = op_span!("qwen::rope_half", qkv, cos, sin);
    let rows = qkv.dim(0)?;
    let (width, dh, half) = (shape.qkv_width(), shape.head_dim, shape.head_dim / 2);
    if !dh.is_multiple_of(2) {
        candle_core::bail!("rope_half: heads of {dh} are not pairs")
    }
    check::dims("rope_half", "qkv", qkv, &[rows, width])?;
    check::dims("rope_half", "cos", cos, &[rows, half])?;
    check::dims("rope_half", "sin", sin, &[rows, half])?;
    match qkv.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => fused(qkv, shape, (cos, sin)),
        _ => {
            let rotated = (shape.heads + shape.kv_heads) * dh;
            let qkv32 = to_f32(qkv)?;
            let (input, cos, sin) = (host_f32(&qkv32)?, host_f32(cos)?, host_f32(sin)?);
            let mut out = input.to_vec();
            par_rows(&mut out, width, |first, out| {
                for (i, row) in out.chunks_exact_mut(width).enumerate() {
                    let angles = (first + i) * half..(first + i + 1) * half;
                    let (cos, sin) = (&cos[angles.clone()], &sin[angles]);
                    for head in row[..rotated].chunks_exact_mut(dh) {
                        let (low, high) = head.split_at_mut(half);
                        for (((a, b), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                        }
                    }
                }
            });
            Tensor::from_vec(out, (rows, width), &Device::Cpu)?.to_dtype(qkv.dtype())
        }
    }
}

#[cfg(feature = "cuda")]
fn fused(qkv: &Tensor, shape: &AttentionShape, (cos, sin): (&Tensor, &Tensor)) -> Result<Tensor> {
    use candle_core::DType;

    use super::cuda::{self, Arg};

    let ((rows, width), dtype) = (qkv.dims2()?, qkv.dtype());
    let context = cuda::context(qkv.device())?;
    let qkv = qkv.contiguous()?;
    let out = cuda::empty((rows, width), dtype, qkv.device())?;
    let args = [
        Arg::tensor(&qkv, dtype)?,
        Arg::tensor(&out, dtype)?,
        Arg::tensor(cos, DType::F32)?,
        Arg::tensor(sin, DType::F32)?,
        Arg::int(shape.heads + shape.kv_heads)?,
        Arg::int(shape.head_dim)?,
        Arg::int(width)?,
    ];
    context.launch(
        "rope_half",
        &format!("rope_half_{}", cuda::suffix(dtype)?),
        rows,
        256,
        &args,
    )?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random, targets};

    #[test]
    fn agrees_with_candle() -> Result<()> {
        let shape = AttentionShape {
            heads: 3,
            kv_heads: 1,
            head_dim: 8,
            causal: true,
        };
        let rows = 9;
        let (cos, sin) = (random((rows, 4), 2)?, random((rows, 4), 3)?);
        for target in targets() {
            let qkv = target.random((rows + 1, 5 * 8), 1)?.narrow(0, 1, rows)?;
            let rope = (
                cos.to_device(&target.device)?,
                sin.to_device(&target.device)?,
            );
            let out = target.host(&rope_half(&qkv, &shape, (&rope.0, &rope.1))?)?;
            let qkv = target.host(&qkv)?;
            // [1, h, rows, dh]
            let heads = qkv
                .reshape((1, rows, 5, 8))?
                .transpose(1, 2)?
                .contiguous()?;
            let expected = candle_nn::rotary_emb::rope(&heads, &cos, &sin)?;
            let expected = expected.transpose(1, 2)?.reshape((rows, 40))?;
            assert_close(
                &out.narrow(1, 0, 32)?,
                &expected.narrow(1, 0, 32)?,
                target.tolerance(1e-6),
            )?;
            assert_close(&out.narrow(1, 32, 8)?, &qkv.narrow(1, 32, 8)?, 0.0)?;
        }
        Ok(())
    }
}
