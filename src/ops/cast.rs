//! Another dtype, and tensors one after the other.

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

/// The rows of all tensors, one after the other.
///
/// # Shapes
/// `[rows, ...]`, alike but for the rows; result: `[Σ rows, ...]`.
///
/// # Errors
/// When shapes or dtypes differ, or there is no tensor.
pub fn cat(tensors: &[&Tensor]) -> Result<Tensor> {
    let Some(first) = tensors.first() else {
        candle_core::bail!("cat: no tensor")
    };
    if let Some(other) = tensors
        .iter()
        .find(|tensor| tensor.dtype() != first.dtype())
    {
        candle_core::bail!("cat: {:?} and {:?}", first.dtype(), other.dtype())
    }
    match first.device() {
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(_) => fused::cat(tensors),
        _ => Tensor::cat(tensors, 0),
    }
}

#[cfg(feature = "cuda")]
mod fused {
    use candle_core::{DType, Result, Tensor};

    use crate::ops::check;
    use crate::ops::cuda::{self, Arg};

    pub(super) fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
        let out = cuda::empty(x.shape(), dtype, x.device())?;
        write(&cuda::contiguous(x)?, cuda::address(&out, dtype)?, dtype)?;
        Ok(out)
    }

    pub(super) fn cat(tensors: &[&Tensor]) -> Result<Tensor> {
        let (dtype, mut dims) = (tensors[0].dtype(), tensors[0].dims().to_vec());
        dims[0] = 0;
        for tensor in tensors {
            let rows = tensor.dim(0)?;
            check::dims("cat", "a tensor", tensor, &[&[rows], &dims[1..]].concat())?;
            dims[0] += rows;
        }
        let out = cuda::empty(dims, dtype, tensors[0].device())?;
        let mut to = cuda::address(&out, dtype)?;
        for tensor in tensors {
            let tensor = cuda::contiguous(tensor)?;
            write(&tensor, to, dtype)?;
            to += (tensor.elem_count() * dtype.size_in_bytes()) as u64;
        }
        Ok(out)
    }

    /// Writes the elements of a contiguous tensor to the address.
    fn write(x: &Tensor, to: u64, dtype: DType) -> Result<()> {
        let (from, n) = (x.dtype(), x.elem_count());
        if n == 0 {
            return Ok(());
        }
        let addresses = [cuda::address(x, from)?, to];
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
        cuda::context(x.device())?.launch_over("cast", &kernel, n / vector, &args)
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

    #[test]
    fn rows_lie_one_after_the_other() -> Result<()> {
        for target in targets() {
            for width in [1, 7, 16] {
                let all = target.random((9, width), 2)?;
                let parts = [(0, 4), (4, 1), (5, 0), (5, 4)];
                let parts = parts.map(|(at, rows)| all.narrow(0, at, rows));
                let parts: Vec<Tensor> = parts.into_iter().collect::<Result<_>>()?;
                let joined = cat(&parts.iter().collect::<Vec<_>>())?;
                let values = |t: &Tensor| target.host(t)?.to_vec2::<f32>();
                assert_eq!(values(&joined)?, values(&all)?);
                let other = target.random((2, width + 1), 3)?;
                assert!(cat(&[&all, &other]).is_err());
                let other = all.to_dtype(DType::F64)?;
                assert!(cat(&[&all, &other]).is_err() && cat(&[]).is_err());
            }
        }
        Ok(())
    }
}
