//! What the operations' tests share: random tensors and comparison at a named tolerance.

use candle_core::{DType, Device, Result, Shape, Tensor};

use crate::noise::{GeneratorDevice, randn};

/// Standard normal values of a fixed seed.
pub(crate) fn random(shape: impl Into<Shape>, seed: u64) -> Result<Tensor> {
    let shape = shape.into();
    let values = randn(GeneratorDevice::Cpu, seed, shape.elem_count());
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Fails when the largest difference exceeds `tolerance` times the largest expected value.
pub(crate) fn assert_close(actual: &Tensor, expected: &Tensor, tolerance: f32) -> Result<()> {
    assert_eq!(actual.dims(), expected.dims());
    let flat = |t: &Tensor| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let (actual, expected) = (flat(actual)?, flat(expected)?);
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    let (at, difference) = actual
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        .enumerate()
        .fold((0, 0f32), |worst, (i, d)| {
            if d > worst.1 || d.is_nan() {
                (i, d)
            } else {
                worst
            }
        });
    println!("largest difference {difference:e} at {at}, of {largest:e}");
    assert!(
        difference <= tolerance * largest,
        "element {at}: {} instead of {}",
        actual[at],
        expected[at]
    );
    Ok(())
}
