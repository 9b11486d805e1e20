//! A weight with a low-rank product added: what merging a LoRA does to each layer.

use candle_core::{DType, Result, Tensor};

use super::{Linear, linear};

/// `w + up · down`, summed in f32 and rounded once, to `dtype`.
///
/// # Shapes
/// `w`, result: `[n, k]`; `up`: `[n, r]` f32; `down`: `[r, k]` f32.
///
/// # Errors
/// When shapes do not agree.
pub fn merge_low_rank(w: &Tensor, up: &Tensor, down: &Tensor, dtype: DType) -> Result<Tensor> {
    let ((n, k), (rows, r)) = (w.dims2()?, up.dims2()?);
    if rows != n || down.dims2()? != (r, k) {
        candle_core::bail!("merge_low_rank: {:?} + {up:?} · {down:?}", w.shape())
    }
    match w.device() {
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(_) => fused(w, up, down, dtype),
        _ => {
            let product = linear(up, &Linear::from_tensors(down.t()?.contiguous()?, None))?;
            (w.to_dtype(DType::F32)? + product)?.to_dtype(dtype)
        }
    }
}

#[cfg(feature = "cuda")]
fn fused(w: &Tensor, up: &Tensor, down: &Tensor, dtype: DType) -> Result<Tensor> {
    use super::cuda::{self, Arg};
    /// Rows and columns of a block's tile.
    const TILE: usize = 64;
    const THREADS: usize = 256;

    let (n, k) = w.dims2()?;
    let w = match w.dtype() {
        DType::BF16 | DType::F32 => w.contiguous()?,
        _ => super::cast(w, DType::F32)?,
    };
    let (up, down) = (up.contiguous()?, down.contiguous()?);
    let out = cuda::empty((n, k), dtype, w.device())?;
    let kernel = format!(
        "merge_{}_{}",
        cuda::suffix(w.dtype())?,
        cuda::suffix(dtype)?
    );
    let args = [
        Arg::tensor(&w, w.dtype())?,
        Arg::tensor(&up, DType::F32)?,
        Arg::tensor(&down, DType::F32)?,
        Arg::tensor(&out, dtype)?,
        Arg::int(n)?,
        Arg::int(k)?,
        Arg::int(up.dim(1)?)?,
    ];
    let tiles = n.div_ceil(TILE) * k.div_ceil(TILE);
    cuda::context(out.device())?.launch("merge_low_rank", &kernel, tiles, THREADS, &args)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random, targets};

    #[test]
    fn adds_the_product() -> Result<()> {
        for (n, k, r) in [(70, 131, 17), (3, 5, 1), (64, 64, 16)] {
            let (up, down) = (random((n, r), 2)?, random((r, k), 3)?);
            for target in targets() {
                let w = target.random((n + 1, k), 1)?.narrow(0, 1, n)?;
                let expected = (target.host(&w)? + up.matmul(&down)?)?;
                let (up, down) = (
                    up.to_device(&target.device)?,
                    down.to_device(&target.device)?,
                );
                for dtype in [DType::F32, target.dtype] {
                    let merged = target.host(&merge_low_rank(&w, &up, &down, dtype)?)?;
                    assert_close(&merged, &expected, target.tolerance(2e-5))?;
                }
            }
        }
        Ok(())
    }
}
