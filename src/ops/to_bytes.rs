//! Pixels to 8 bits, on the device that holds them: a quarter of the bytes cross the bus.

use candle_core::{Result, Tensor};

use super::host::{host_f32, par_rows, to_f32};

/// `round(clamp(x / 2 + 1/2, 0, 1) · 255)`, ties to even; none where a value is not finite.
///
/// # Shapes
/// `pixels`: any shape; result: its elements in order.
///
/// # Errors
/// When the device fails.
pub fn to_bytes(pixels: &Tensor) -> Result<Option<Vec<u8>>> {
    match pixels.device() {
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(device) => fused(pixels, device),
        _ => plain(pixels),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of a byte"
)]
fn plain(pixels: &Tensor) -> Result<Option<Vec<u8>>> {
    let pixels = to_f32(pixels)?;
    let pixels = host_f32(&pixels)?;
    if !pixels.iter().all(|p| p.is_finite()) {
        return Ok(None);
    }
    let byte = |p: f32| (p.mul_add(0.5, 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
    let mut out = vec![0u8; pixels.len()];
    par_rows(&mut out, 1, |first, out| {
        for (out, p) in out.iter_mut().zip(&pixels[first..]) {
            *out = byte(*p);
        }
    });
    Ok(Some(out))
}

#[cfg(feature = "cuda")]
#[expect(unsafe_code, reason = "memory is handed out before it is written")]
fn fused(pixels: &Tensor, device: &candle_core::CudaDevice) -> Result<Option<Vec<u8>>> {
    use candle_core::cuda_backend::cudarc::driver::DevicePtr;

    use super::cuda::{self, Arg};

    let context = cuda::context(pixels.device())?;
    let pixels = pixels.contiguous()?;
    let n = pixels.elem_count();
    // SAFETY: the kernel writes every byte.
    let bytes = unsafe { device.alloc::<u8>(n)? };
    let not_finite = device.alloc_zeros::<u32>(1)?;
    let args = [
        Arg::tensor(&pixels, pixels.dtype())?,
        Arg::Ptr(bytes.device_ptr(&context.stream).0),
        Arg::Ptr(not_finite.device_ptr(&context.stream).0),
        Arg::Long(n as u64),
    ];
    let kernel = format!("to_bytes_{}", cuda::suffix(pixels.dtype())?);
    context.launch_over("to_bytes", &kernel, n, &args)?;
    let is_finite = device.clone_dtoh(&not_finite)? == [0];
    Ok(if is_finite {
        Some(device.clone_dtoh(&bytes)?)
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::targets;

    #[test]
    fn pixels_round_to_nearest_and_nan_is_seen() -> Result<()> {
        for target in targets() {
            let on_target = |values: &[f32]| {
                Tensor::new(values, &candle_core::Device::Cpu)?
                    .to_dtype(target.dtype)?
                    .to_device(&target.device)
            };
            let pixels = on_target(&[9.0, -1.0, 0.0, 1.0, -0.996_093_75, 2.0])?.narrow(0, 1, 5)?;
            assert_eq!(to_bytes(&pixels)?, Some(vec![0, 128, 255, 0, 255]));
            assert_eq!(to_bytes(&on_target(&[0.0, f32::NAN])?)?, None);
            assert_eq!(to_bytes(&on_target(&[f32::INFINITY])?)?, None);
        }
        Ok(())
    }
}
