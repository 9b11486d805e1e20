//! Tensors one after the other.

use candle_core::{Result, Tensor};

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
    use crate::ops::cuda::{self, Arg, Context, TABLE};

    /// As in `cat.cu`.
    const MAX_PARTS: usize = TABLE / 2;

    pub(super) fn cat(tensors: &[&Tensor]) -> Result<Tensor> {
        let (dtype, mut dims) = (tensors[0].dtype(), tensors[0].dims().to_vec());
        dims[0] = 0;
        for tensor in tensors {
            let rows = tensor.dim(0)?;
            check::dims("cat", "a tensor", tensor, &[&[rows], &dims[1..]].concat())?;
            dims[0] += rows;
        }
        let context = cuda::context(tensors[0].device())?;
        let out = cuda::empty(dims, dtype, tensors[0].device())?;
        let parts: Vec<Tensor> = (tensors.iter())
            .map(|tensor| cuda::contiguous(tensor))
            .collect::<Result<_>>()?;
        let mut to = cuda::address(&out, dtype)?;
        for parts in parts.chunks(MAX_PARTS) {
            to += write(&context, parts, dtype, to)?;
        }
        Ok(out)
    }

    /// Writes contiguous parts to the address; returns how many bytes they are.
    fn write(context: &Context, parts: &[Tensor], dtype: DType, to: u64) -> Result<u64> {
        let size = dtype.size_in_bytes();
        let sizes: Vec<usize> = parts.iter().map(|part| part.elem_count() * size).collect();
        let from: Vec<u64> = (parts.iter())
            .map(|part| cuda::address(part, dtype))
            .collect::<Result<_>>()?;
        let is_aligned = cuda::aligned(&from, 16)
            && cuda::aligned(&[to], 16)
            && sizes.iter().all(|bytes| bytes.is_multiple_of(16));
        let unit = if is_aligned { 16 } else { size };
        let mut table = Box::new([0; TABLE]);
        let mut end = 0;
        for (part, (from, bytes)) in from.iter().zip(&sizes).enumerate() {
            end += bytes / unit;
            table[part] = *from;
            table[MAX_PARTS + part] = end as u64;
        }
        if end > 0 {
            let args = [Arg::Table(table), Arg::Ptr(to), Arg::Long(end as u64)];
            context.launch_over("cat", &format!("cat_{unit}"), end, &args)?;
        }
        Ok((end * unit) as u64)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::ops::testing::targets;

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

    #[test]
    fn any_number_of_parts_is_joined() -> Result<()> {
        for target in targets() {
            for width in [3, 8] {
                let all = target.random(150 * width, 2)?;
                let parts = (0..150).map(|i| all.narrow(0, i * width, width));
                let parts: Vec<Tensor> = parts.collect::<Result<_>>()?;
                let joined = cat(&parts.iter().collect::<Vec<_>>())?;
                let values = |t: &Tensor| target.host(t)?.to_vec1::<f32>();
                assert_eq!(values(&joined)?, values(&all)?);
            }
        }
        Ok(())
    }
}
