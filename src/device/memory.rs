//! The memory of a GPU: what is free, what this process holds of it, what it means when there is no more.

use candle_core::Device;

use crate::error::{Error, Result, message_of};
use crate::human::size;

/// Device memory of this process in bytes, from the pool that all tensors live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    /// Held by tensors.
    pub allocated: u64,
    /// Held by the pool.
    pub reserved: u64,
    /// Largest `allocated` since the last reset.
    pub peak_allocated: u64,
    /// Largest `reserved` since the last reset.
    pub peak_reserved: u64,
}

/// The GPU's memory in use; none on the CPU.
#[must_use]
pub fn memory_use(device: &Device) -> Option<MemoryUse> {
    #[cfg(feature = "cuda")]
    return pool::memory_use(device);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = device;
        None
    }
}

/// Free bytes of a GPU's memory; none on the CPU.
///
/// # Errors
/// When the driver does not answer.
pub fn free_memory(device: &Device) -> Result<Option<u64>> {
    #[cfg(feature = "cuda")]
    if let Ok(device) = device.as_cuda_device() {
        let memory = device.cuda_stream().context().mem_get_info();
        let (free, _) = memory.map_err(candle_core::Error::wrap)?;
        return Ok(Some(free as u64));
    }
    #[cfg(not(feature = "cuda"))]
    let _ = device;
    Ok(None)
}

/// The refusal that a failed allocation on a GPU means; none for other errors.
#[must_use]
pub fn out_of_memory(error: &candle_core::Error) -> Option<Error> {
    let message = message_of(error);
    if !message.contains("CUDA_ERROR_OUT_OF_MEMORY") {
        return None;
    }
    #[cfg(feature = "cuda")]
    let memory = candle_core::cuda_backend::cudarc::driver::result::mem_get_info().ok();
    #[cfg(not(feature = "cuda"))]
    let memory: Option<(usize, usize)> = None;
    let free = memory.map_or(String::new(), |(free, total)| {
        format!("; {} of {} are free", size(free as u64), size(total as u64))
    });
    Some(Error::OutOfMemory {
        message: format!("the GPU's memory is used up (CUDA_ERROR_OUT_OF_MEMORY){free}"),
        hint: "free the GPU of other programs, or ask for a smaller picture".to_owned(),
    })
}

/// Starts counting peaks anew; nothing to do on the CPU.
pub fn reset_peak_memory(device: &Device) {
    #[cfg(feature = "cuda")]
    pool::reset_peaks(device);
    #[cfg(not(feature = "cuda"))]
    let _ = device;
}

#[cfg(feature = "cuda")]
pub(super) use pool::keep_freed_memory;

/// The driver's memory pool of a GPU.
#[cfg(feature = "cuda")]
#[expect(unsafe_code, reason = "raw driver calls")]
mod pool {
    use candle_core::cuda_backend::cudarc::driver::{result, sys};
    use candle_core::{CudaDevice, Device};
    use sys::CUmemPool_attribute as Attribute;

    use super::MemoryUse;

    fn of(device: &CudaDevice) -> Option<sys::CUmemoryPool> {
        let device = device.cuda_stream().context().cu_device();
        // SAFETY: a live device.
        unsafe { result::device::get_default_mem_pool(device) }.ok()
    }

    /// Memory that is freed stays in the pool for the next operation.
    pub(in crate::device) fn keep_freed_memory(device: &CudaDevice) {
        set(
            device,
            Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            u64::MAX,
        );
    }

    pub(super) fn memory_use(device: &Device) -> Option<MemoryUse> {
        let pool = of(device.as_cuda_device().ok()?)?;
        let get = |attribute| {
            let mut value = 0u64;
            // SAFETY: these attributes are 64-bit numbers.
            unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut value).cast()) }
                .ok()
                .map(|()| value)
        };
        Some(MemoryUse {
            allocated: get(Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
            reserved: get(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?,
            peak_allocated: get(Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
            peak_reserved: get(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)?,
        })
    }

    pub(super) fn reset_peaks(device: &Device) {
        if let Ok(device) = device.as_cuda_device() {
            // Peaks can only be set to zero, which means the present value.
            set(device, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0);
            set(device, Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH, 0);
        }
    }

    /// What is lost where the driver refuses is a little speed or a peak, never the run.
    fn set(device: &CudaDevice, attribute: Attribute, mut value: u64) {
        if let Some(pool) = of(device) {
            // SAFETY: these attributes are 64-bit numbers.
            let _ = unsafe {
                result::mem_pool::set_attribute(pool, attribute, (&raw mut value).cast())
            };
        }
    }
}
