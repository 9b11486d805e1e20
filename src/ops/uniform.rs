//! Seeded uniform values, each of the seed and its own index only, so that threads need not share a state.

use candle_core::{DType, Device, Result, Shape, Tensor};
use rayon::prelude::*;

/// A tensor of `shape` with values of this mean, spread over `width`; value `i` comes from `SplitMix64`'s
/// state `i`.
///
/// # Errors
/// When the device fails.
pub fn uniform(
    seed: u64,
    (mean, width): (f32, f32),
    shape: &Shape,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => fused(seed, (mean, width), shape, dtype, device),
        _ => {
            let values = plain(seed, (mean, width), shape.elem_count());
            Tensor::from_vec(values, shape, device)?.to_dtype(dtype)
        }
    }
}

fn plain(seed: u64, (mean, width): (f32, f32), count: usize) -> Vec<f32> {
    (0..count as u64)
        .into_par_iter()
        .map(|i| {
            let mut z = seed.wrapping_add(i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            #[expect(clippy::cast_precision_loss, reason = "24 bits fit a float's mantissa")]
            let unit = ((z ^ (z >> 31)) >> 40) as f32 / 16_777_216.0;
            mean + width * (unit - 0.5)
        })
        .collect()
}

#[cfg(feature = "cuda")]
fn fused(
    seed: u64,
    (mean, width): (f32, f32),
    shape: &Shape,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    use super::cuda::{self, Arg};

    let out = cuda::empty(shape, dtype, device)?;
    let n = shape.elem_count();
    let args = [
        Arg::tensor(&out, dtype)?,
        Arg::Long(seed),
        Arg::Float(mean),
        Arg::Float(width),
        Arg::Long(n as u64),
    ];
    let kernel = format!("uniform_{}", cuda::suffix(dtype)?);
    cuda::context(device)?.launch_over("uniform", &kernel, n, &args)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::targets;

    #[test]
    fn every_device_draws_the_same_values() -> Result<()> {
        let shape = Shape::from((3, 1001));
        for target in targets() {
            let draw = |seed, device: &Device| {
                let drawn = uniform(seed, (0.25, 2.0), &shape, target.dtype, device)?;
                drawn.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()
            };
            let values = draw(7, &target.device)?;
            assert_eq!(values, draw(7, &Device::Cpu)?);
            assert_ne!(values, draw(8, &target.device)?);
            assert!(values.iter().all(|v| (-0.75..=1.25).contains(v)));
        }
        Ok(())
    }
}
