//! Which device a run uses, and why.

use candle_core::{DType, Device};
use serde::Serialize;

use crate::error::{Error, Result, message_of};
use crate::human::size;

/// `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A GPU where one works, else the CPU.
    #[default]
    Auto,
    /// The GPU of this index.
    Cuda(usize),
    /// The CPU.
    Cpu,
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "expected auto, cuda, cuda:N or cpu".to_owned()),
        }
    }
}

/// A device and the reason it was taken.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The device.
    pub device: Device,
    /// For the log (`cpu: this build has no GPU support`).
    pub reason: String,
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// When a GPU was asked for and there is none, or this build has no GPU support.
    pub fn open(self) -> Result<Chosen> {
        match self {
            Self::Cpu => Ok(Chosen::cpu("asked for")),
            Self::Auto => Ok(open_gpu(0).unwrap_or_else(|why| Chosen::cpu(&why.reason))),
            Self::Cuda(index) => open_gpu(index).map_err(|why| Error::Device {
                message: format!("--device cuda:{index}: {}", why.reason),
                hint: Some(why.way_out.to_owned()),
            }),
        }
    }

    /// Opens the device with all that its operations stand on: kernels and libraries.
    ///
    /// # Errors
    /// As [`open`](Self::open); when a library that is needed is not there.
    pub fn prepare(self) -> Result<Chosen> {
        let chosen = self.open()?;
        #[cfg(feature = "cuda")]
        if chosen.device.is_cuda()
            && let Err(error) = crate::ops::cuda::context(&chosen.device)
        {
            // Another program's memory is no reason to be slow and say nothing.
            if let Some(full) = out_of_memory(&error) {
                return Err(full);
            }
            let reason = format!(
                "{}: kernels for sm_{} and libraries do not load on it: {error}",
                chosen.reason,
                env!("QWEN_GEN_ARCHITECTURES"),
            );
            return match self {
                Self::Auto => Ok(Chosen::cpu(&reason)),
                _ => Err(Error::Device {
                    message: reason,
                    hint: Some("build for this GPU (CUDA_COMPUTE_CAP), see `qwen-gen doctor` for the libraries, or use --device cpu".to_owned()),
                }),
            };
        }
        Ok(chosen)
    }
}

impl Chosen {
    fn cpu(reason: &str) -> Self {
        Self {
            device: Device::Cpu,
            reason: format!("cpu: {reason}"),
        }
    }
}

/// Why there is no GPU.
struct NoGpu {
    reason: String,
    way_out: &'static str,
}

#[cfg(not(feature = "cuda"))]
fn open_gpu(_index: usize) -> Result<Chosen, NoGpu> {
    Err(NoGpu {
        reason: "this build has no GPU support".to_owned(),
        way_out: "build with `--features cuda`, or use --device cpu",
    })
}

/// What a driver that did not start has for its errors' texts.
#[cfg(feature = "cuda")]
const NO_TEXT: &str = ", \"<Failure when calling cuGetErrorString()>\"";

/// Opens the GPU on a stream of its own.
///
/// What is issued on others (`ops::beside`, the copies of blocks that stream) orders itself, so candle need not track
/// events; memory that is freed stays with the process for the next operation.
#[cfg(feature = "cuda")]
#[expect(
    unsafe_code,
    reason = "candle's switch and the driver's pool attribute"
)]
fn open_gpu(index: usize) -> Result<Chosen, NoGpu> {
    let no_gpu = |error: &candle_core::Error| NoGpu {
        reason: format!(
            "no GPU works here: {}{}",
            message_of(error).replace(NO_TEXT, ""),
            older_driver()
        ),
        way_out: "see `nvidia-smi` for the GPUs and the driver, or use --device cpu",
    };
    let device = Device::new_cuda_with_stream(index).map_err(|error| no_gpu(&error))?;
    let cuda = device.as_cuda_device().map_err(|error| no_gpu(&error))?;
    // SAFETY: tensors are used on one stream, which keeps their order; what runs on another orders
    // itself by events (`ops::cuda::side`, `ops::cuda::streaming`).
    unsafe { cuda.disable_event_tracking() };
    pool::keep_freed_memory(cuda);
    let name = cuda.cuda_stream().context().name().unwrap_or_default();
    Ok(Chosen {
        device,
        reason: format!("cuda:{index}: {name}"),
    })
}

/// What to add to a failure where the driver is older than this program's CUDA.
#[cfg(feature = "cuda")]
fn older_driver() -> String {
    use candle_core::cuda_backend::cudarc::driver::sys::CUDA_VERSION;

    let version = |number: u32| format!("{}.{}", number / 1000, number % 1000 / 10);
    match crate::profiler::driver_version() {
        0 | CUDA_VERSION.. => String::new(),
        found => format!(
            "; the driver is for CUDA {}, this program needs {}",
            version(found),
            version(CUDA_VERSION)
        ),
    }
}

/// A GPU as the driver knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// N of `cuda:N`.
    pub index: usize,
    /// `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// `9.0`.
    pub compute_capability: String,
    /// All of its memory.
    pub total_bytes: u64,
    /// What nobody holds.
    pub free_bytes: u64,
}

/// The GPUs that work here; none without GPU support.
#[must_use]
pub fn gpus() -> Vec<Gpu> {
    #[cfg(feature = "cuda")]
    {
        use candle_core::cuda_backend::cudarc::driver::CudaContext;

        let count = CudaContext::device_count().unwrap_or(0);
        let gpu = |index| {
            let context = CudaContext::new(index).ok()?;
            let (free, total) = context.mem_get_info().ok()?;
            let (major, minor) = context.compute_capability().ok()?;
            Some(Gpu {
                index,
                name: context.name().ok()?,
                compute_capability: format!("{major}.{minor}"),
                total_bytes: total as u64,
                free_bytes: free as u64,
            })
        };
        let count = usize::try_from(count).unwrap_or(0);
        (0..count).filter_map(gpu).collect()
    }
    #[cfg(not(feature = "cuda"))]
    Vec::new()
}

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
    pub(super) fn keep_freed_memory(device: &CudaDevice) {
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

/// Waits for all work of the device, whichever stream it is on.
///
/// # Errors
/// When the device has failed.
pub fn synchronize(device: &Device) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = device {
        let context = cuda.cuda_stream().context().clone();
        return Ok(context.synchronize().map_err(candle_core::Error::wrap)?);
    }
    Ok(device.synchronize()?)
}

/// The name reports use: `cpu`, `cuda:0`.
#[must_use]
pub fn name(device: &Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        other => match other.location() {
            candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            location => format!("{location:?}").to_lowercase(),
        },
    }
}

/// The precision a device computes in when none is asked for.
#[must_use]
pub fn default_dtype(device: &Device) -> DType {
    if device.is_cpu() {
        DType::F32
    } else {
        DType::BF16
    }
}
