//! Which device a run uses, and why.

mod memory;

use candle_core::{DType, Device};
use serde::Serialize;

pub use self::memory::{MemoryUse, free_memory, memory_use, out_of_memory, reset_peak_memory};
use crate::error::{Error, Result};

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
#[expect(unsafe_code, reason = "candle's switch")]
fn open_gpu(index: usize) -> Result<Chosen, NoGpu> {
    use candle_core::cuda_backend::cudarc::driver::CudaContext;

    let no_gpu = |error: &candle_core::Error| NoGpu {
        reason: match CudaContext::device_count() {
            Ok(1) if index > 0 => "the only GPU here is cuda:0".to_owned(),
            Ok(count @ 1..) if index >= count.unsigned_abs() as usize => {
                format!("the GPUs here are cuda:0 to cuda:{}", count - 1)
            }
            _ => format!(
                "no GPU works here: {}{}",
                crate::error::message_of(error).replace(NO_TEXT, ""),
                older_driver()
            ),
        },
        way_out: "see `nvidia-smi` for the GPUs and the driver, or use --device cpu",
    };
    let device = Device::new_cuda_with_stream(index).map_err(|error| no_gpu(&error))?;
    let cuda = device.as_cuda_device().map_err(|error| no_gpu(&error))?;
    // SAFETY: tensors are used on one stream, which keeps their order; what runs on another orders
    // itself by events (`ops::cuda::side`, `ops::cuda::streaming`).
    unsafe { cuda.disable_event_tracking() };
    memory::keep_freed_memory(cuda);
    let name = cuda.cuda_stream().context().name().unwrap_or_default();
    Ok(Chosen {
        device,
        reason: format!("cuda:{index}: {name}"),
    })
}

/// The CUDA version that the driver is for; 0 without a driver.
#[cfg(feature = "cuda")]
pub(crate) fn driver_version() -> u32 {
    use candle_core::cuda_backend::cudarc::driver::sys::cuDriverGetVersion;

    let mut driver = 0;
    // SAFETY: `driver` is a place for the result.
    #[expect(unsafe_code, reason = "a C function")]
    let _ = unsafe { cuDriverGetVersion(&raw mut driver) };
    driver.unsigned_abs()
}

/// What to add to a failure where the driver is older than this program's CUDA.
#[cfg(feature = "cuda")]
fn older_driver() -> String {
    use candle_core::cuda_backend::cudarc::driver::sys::CUDA_VERSION;

    let version = |number: u32| format!("{}.{}", number / 1000, number % 1000 / 10);
    match driver_version() {
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
