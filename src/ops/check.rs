//! What operations demand of their inputs before a device sees them.

use candle_core::{Result, Tensor, bail};

/// Fails unless `tensor` has these dimensions.
pub(crate) fn dims(operation: &str, name: &str, tensor: &Tensor, dims: &[usize]) -> Result<()> {
    if tensor.dims() != dims {
        bail!(
            "{operation}: `{name}` has shape {:?} where {dims:?} is needed",
            tensor.dims()
        )
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Result;

    use crate::ops::testing::targets;
    use crate::ops::{
        AttentionShape, Conv2d, Linear, adaptive_layer_norm, attention, conv2d,
        gated_residual_layer_norm, linear, rms_norm_channels, rope_half,
    };

    #[test]
    fn operands_that_do_not_fit_are_refused() -> Result<()> {
        let shape = AttentionShape {
            heads: 2,
            kv_heads: 1,
            head_dim: 4,
            causal: true,
        };
        for target in targets() {
            let random = |dims: &[usize]| target.random(dims, 1);
            let (x, qkv) = (random(&[6, 8])?, random(&[6, 16])?);
            let (whole, short) = (random(&[8])?, random(&[7])?);
            let layer = Linear::from_tensors(random(&[3, 8])?, Some(random(&[4])?));
            let conv = Conv2d::from_tensors(&random(&[3, 8, 3, 3])?, random(&[4])?)?;
            let refused = [
                linear(&x, &layer).err(),
                conv2d(&random(&[2, 3, 8])?, &conv).err(),
                adaptive_layer_norm(&x, &whole, &short).err(),
                gated_residual_layer_norm(&x, &random(&[5, 8])?, &whole, &whole, &whole).err(),
                gated_residual_layer_norm(&x, &x, &short, &whole, &whole).err(),
                rms_norm_channels(&x, &short).err(),
                rope_half(&qkv, &shape, (&random(&[6, 2])?, &random(&[5, 2])?)).err(),
                attention(&qkv, &shape, &[0..4, 3..5]).err(),
                attention(&qkv, &shape, &[0..4, 4..7]).err(),
            ];
            for (i, error) in refused.into_iter().enumerate() {
                assert!(error.is_some(), "{i} on {:?}", target.device);
            }
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn a_kernel_is_not_given_another_dtype() -> Result<()> {
        use candle_core::DType;

        for target in targets().into_iter().filter(|t| t.device.is_cuda()) {
            let other = match target.dtype {
                DType::F32 => DType::BF16,
                _ => DType::F32,
            };
            let x = target.random((6, 8), 1)?;
            let vector = target.random(8, 2)?;
            let other_vector = vector.to_dtype(other)?;
            let layer = Linear::from_tensors(target.random((3, 8), 3)?.to_dtype(other)?, None);
            assert!(linear(&x, &layer).is_err());
            assert!(adaptive_layer_norm(&x, &vector, &other_vector).is_err());
            assert!(rms_norm_channels(&x, &other_vector).is_err());
        }
        Ok(())
    }
}
