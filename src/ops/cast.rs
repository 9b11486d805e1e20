//! Another dtype.

use candle_core::{DType, Result, Tensor};

use super::span::op_span;

/// The tensor in `dtype`, rounded once; itself where it is.
///
/// # Errors
/// When the device fails.
pub fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype {
        return Ok(x.clone());
    }
    let _span = op_span!("qwen::cast", x);
    match x.device() {
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(_) => fused::cast(x, dtype),
        _ => x.to_dtype(dtype),
    }
}

#[cfg(feature = "cuda")]
mod fused {
    use candle_core::{DType, Result, Tensor};

    use crate::ops::cuda::{self, Arg};

    pub(super) fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
        let out = cuda::empty(x.shape(), dtype, x.device())?;
        let (from, n) = (x.dtype(), x.elem_count());
        if n == 0 {
            return Ok(out);
        }
        let x = cuda::contiguous(x)?;
        let addresses = [cuda::address(&x, from)?, cuda::address(&out, dtype)?];
        let (kind, vector) = match from {
            DType::F16 | DType::F64 => ("", 1),
            _ if from == DType::F32 => cuda::access(from, n, &addresses),
            _ => cuda::access(dtype, n, &addresses),
        };
        let args = [
            Arg::Ptr(addresses[0]),
            Arg::Ptr(addresses[1]),
            Arg::Long(n as u64),
        ];
        let kernel = format!("cast_{}_{}{kind}", from.as_str(), cuda::suffix(dtype)?);
        cuda::context(x.device())?.launch_over("cast", &kernel, n / vector, &args)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{random, targets};

    #[test]
    fn every_dtype_is_cast_as_candle_does_on_the_cpu() -> Result<()> {
        for target in targets() {
            // The second is a view whose elements are not aligned.
            let x = random((5, 24), 1)?;
            for x in [x.clone(), x.flatten_all()?.narrow(0, 3, 65)?] {
                for from in [DType::F32, DType::BF16, DType::F16, DType::F64] {
                    let x = x.to_dtype(from)?;
                    let expected = x.to_dtype(target.dtype)?;
                    let out = cast(&x.to_device(&target.device)?, target.dtype)?;
                    assert_eq!(out.dtype(), target.dtype);
                    let values = |t: &Tensor| target.host(t)?.flatten_all()?.to_vec1::<f32>();
                    assert_eq!(values(&out)?, values(&expected)?, "{from:?}");
                }
            }
        }
        Ok(())
    }
}
