//! Two pieces of work at once: a small one beside one that fills the GPU.
//!
//! A product of few rows takes as long as its weights take to be read, and leaves the GPU's arithmetic
//! idle; a large product leaves multiprocessors idle in its last wave, and memory all along. Beside
//! each other, the small one costs next to nothing.

use candle_core::{Device, Result};

/// Runs `small` and `large`, on a GPU at the same time: both begin after what was issued before, and what
/// is issued afterwards begins after both.
///
/// `small` is made of [`linear`](super::linear), [`linear_gelu`](super::linear_gelu) and the norms of
/// [`layer_norm`](super::layer_norm), on contiguous tensors. `large` reads nothing that an earlier `small` made:
/// dropped by it, such memory would be this one's to write while `large` still reads.
///
/// # Errors
/// Those of `large`, else those of `small`.
pub(crate) fn beside<S, L>(
    device: &Device,
    small: impl FnOnce() -> Result<S>,
    large: impl FnOnce() -> Result<L>,
) -> Result<(S, L)> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => super::cuda::context(device)?.beside(small, large),
        _ => {
            let large = large()?;
            Ok((small()?, large))
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;
    use crate::ops::testing::{assert_close, targets};
    use crate::ops::{Linear, adaptive_layer_norm, gated_residual_layer_norm, linear, linear_gelu};

    /// A sublayer on `rows`, twice: what it makes is dropped and read in either order.
    fn sublayers(rows: &Tensor, layers: [&Linear; 2], vector: &Tensor) -> Result<Tensor> {
        let mut normed = adaptive_layer_norm(rows, vector, vector)?;
        let mut sum = rows.clone();
        for _ in 0..2 {
            let update = linear(&linear_gelu(&normed, layers[0])?, layers[1])?;
            (sum, normed) = gated_residual_layer_norm(&sum, &update, vector, vector, vector)?;
        }
        linear(&normed, layers[1])
    }

    #[test]
    fn both_pieces_are_as_alone() -> Result<()> {
        for target in targets() {
            let d = 768;
            let layer = |seed| -> Result<Linear> {
                let weight = (target.random((d, d), seed)? * 0.05)?;
                Ok(Linear::from_tensors(weight, Some(target.random(d, seed)?)))
            };
            let (up, down) = (layer(1)?, layer(2)?);
            let vector = (target.random(d, 3)? * 0.1)?;
            let mut small = target.random((13, d), 4)?;
            let rows = if target.device.is_cpu() { 64 } else { 4096 };
            let mut large = target.random((rows, d), 5)?;
            let run = |rows: &Tensor| sublayers(rows, [&up, &down], &vector);
            let (mut small_alone, mut large_alone) = (small.clone(), large.clone());
            for _ in 0..8 {
                (small, large) = beside(&target.device, || run(&small), || run(&large))?;
            }
            for _ in 0..8 {
                (small_alone, large_alone) = (run(&small_alone)?, run(&large_alone)?);
            }
            assert_close(&small, &small_alone, 0.0)?;
            assert_close(&large, &large_alone, 0.0)?;
        }
        Ok(())
    }

    #[test]
    fn a_failure_of_either_is_the_failure() -> Result<()> {
        for target in targets() {
            let fails = || -> Result<()> { candle_core::bail!("no") };
            assert!(beside(&target.device, fails, || Ok(())).is_err());
            assert!(beside(&target.device, || Ok(()), fails).is_err());
            // What follows runs as before.
            let x = target.random((3, 4), 1)?;
            let ((), y) = beside(&target.device, || Ok(()), || Ok(x.clone()))?;
            assert_close(&y, &target.host(&x)?, 0.0)?;
        }
        Ok(())
    }
}
