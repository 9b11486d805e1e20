//! What the operations' tests share: devices and dtypes to run on, random tensors, comparison.

use candle_core::{DType, Device, Result, Shape, Tensor};

use crate::noise::{GeneratorDevice, randn};

/// A device and dtype an operation must be right on.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) device: Device,
    pub(crate) dtype: DType,
}

/// The CPU in f32 and, where there is a GPU, the GPU in f32 and bf16.
pub(crate) fn targets() -> Vec<Target> {
    let on = |device: &Device, dtype| Target {
        device: device.clone(),
        dtype,
    };
    #[allow(unused_mut, reason = "grows with a GPU")]
    let mut targets = vec![on(&Device::Cpu, DType::F32)];
    #[cfg(feature = "cuda")]
    if let Ok(chosen) = crate::device::DeviceChoice::Cuda(0).open() {
        targets.push(on(&chosen.device, DType::F32));
        targets.push(on(&chosen.device, DType::BF16));
    }
    targets
}

impl Target {
    /// Standard normal values of a fixed seed, on the target in its dtype.
    pub(crate) fn random(&self, shape: impl Into<Shape>, seed: u64) -> Result<Tensor> {
        random(shape, seed)?
            .to_dtype(self.dtype)?
            .to_device(&self.device)
    }

    /// A copy on the CPU in f32.
    #[expect(clippy::unused_self, reason = "the other way of `random`")]
    pub(crate) fn host(&self, tensor: &Tensor) -> Result<Tensor> {
        tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)
    }

    /// `tensor`, rounded to the target's dtype and back.
    pub(crate) fn round(&self, tensor: &Tensor) -> Result<Tensor> {
        tensor.to_dtype(self.dtype)?.to_dtype(DType::F32)
    }

    /// The tolerance in f32: `on_cpu` there, 1e-5 on a GPU, whose sums have another order; 1e-2 in bf16.
    pub(crate) fn tolerance(&self, on_cpu: f32) -> f32 {
        match (self.dtype, self.device.is_cpu()) {
            (DType::BF16, _) => 1e-2,
            (_, true) => on_cpu,
            (_, false) => 1e-5,
        }
    }
}

/// Standard normal values of a fixed seed.
pub(crate) fn random(shape: impl Into<Shape>, seed: u64) -> Result<Tensor> {
    let shape = shape.into();
    let values = randn(GeneratorDevice::Cpu, seed, shape.elem_count());
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Fails when the largest difference exceeds `tolerance` times the largest expected value.
pub(crate) fn assert_close(actual: &Tensor, expected: &Tensor, tolerance: f32) -> Result<()> {
    assert_eq!(actual.dims(), expected.dims());
    let flat = |t: &Tensor| {
        t.to_device(&Device::Cpu)?
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()
    };
    let (actual, expected) = (flat(actual)?, flat(expected)?);
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    let (at, difference) = actual
        .iter()
        .zip(&expected)
        .map(|(a, b)| {
            let difference = (a - b).abs();
            // NaN is larger than nothing.
            if difference.is_nan() {
                f32::INFINITY
            } else {
                difference
            }
        })
        .enumerate()
        .fold(
            (0, 0f32),
            |worst, (i, d)| if d > worst.1 { (i, d) } else { worst },
        );
    println!("largest difference {difference:e} at {at}, of {largest:e}");
    assert!(
        difference <= tolerance * largest,
        "element {at}: {} instead of {}",
        actual[at],
        expected[at]
    );
    Ok(())
}
