//! What the driver knows of a device.

use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::DriverError;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUDA_VERSION, CUdevice_attribute_enum as Attribute,
};

use super::cupti::Cupti;
use crate::device::driver_version;
use crate::profiler::trace::{DeviceProperties, Versions};

/// The properties that traces tell and occupancy follows from.
pub(super) fn properties(device: &CudaDevice) -> Result<DeviceProperties, DriverError> {
    let stream = device.cuda_stream();
    let context = stream.context();
    let get = |attribute| Ok(context.attribute(attribute)?.unsigned_abs());
    Ok(DeviceProperties {
        id: u32::try_from(context.ordinal()).unwrap_or(u32::MAX),
        name: context.name()?,
        total_global_mem: context.total_mem()? as u64,
        compute_major: get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        compute_minor: get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        max_threads_per_block: get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        max_threads_per_multiprocessor: get(
            Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR,
        )?,
        regs_per_block: get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK)?,
        warp_size: get(Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE)?,
        shared_mem_per_block: get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK)?,
        num_sms: get(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        regs_per_multiprocessor: get(
            Attribute::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR,
        )?,
        shared_mem_per_block_optin: get(
            Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
        )?,
        shared_mem_per_multiprocessor: get(
            Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR,
        )?,
        max_blocks_per_multiprocessor: get(
            Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR,
        )?,
        reserved_shared_mem_per_block: get(
            Attribute::CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK,
        )?,
    })
}

/// CUPTI's version, the runtime's that the program was built with, and the driver's.
pub(super) fn versions(cupti: &Cupti) -> Versions {
    Versions {
        cupti: cupti.version(),
        runtime: CUDA_VERSION,
        driver: driver_version(),
    }
}
