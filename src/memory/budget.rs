//! How much memory there is.

use candle_core::Device;

use super::HostMemory;
use crate::error::{Error, Result};

/// Caps the plan, in GiB: what a smaller card would do can be tried on a larger one.
const LIMIT_VARIABLE: &str = "QWEN_GEN_MEMORY_LIMIT_GIB";

/// What libraries load and rounding loses on a GPU beside tensors.
const GPU_RESERVE: u64 = 768 << 20;
/// What the program itself takes on the CPU.
const CPU_RESERVE: u64 = 64 << 20;

/// Memory that a run may use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Whether the networks are on a GPU.
    pub on_gpu: bool,
    /// Free where the networks will be.
    pub free: u64,
    /// Of `free`, not for tensors.
    pub reserve: u64,
    /// Free in the host's memory.
    pub host_free: u64,
}

impl Budget {
    /// Asks the device and the system.
    ///
    /// # Errors
    /// When the GPU does not answer, or the limit in the environment is not a number.
    pub fn of(device: &Device) -> Result<Self> {
        let host_free = HostMemory::read().map_or(u64::MAX, |memory| memory.available_bytes);
        let (free, reserve) = match crate::device::free_memory(device)? {
            Some(free) => (free, GPU_RESERVE),
            None => (host_free, CPU_RESERVE),
        };
        Ok(Self {
            on_gpu: !device.is_cpu(),
            free: free.min(limit()?),
            reserve,
            host_free,
        })
    }

    /// What tensors may take.
    #[must_use]
    pub fn usable(&self) -> u64 {
        self.free.saturating_sub(self.reserve)
    }

    /// Where that is.
    #[must_use]
    pub fn place(&self) -> &'static str {
        if self.on_gpu {
            "the GPU"
        } else {
            "this machine"
        }
    }
}

/// The limit in the environment; none is no limit.
fn limit() -> Result<u64> {
    let Some(text) = std::env::var_os(LIMIT_VARIABLE).filter(|text| !text.is_empty()) else {
        return Ok(u64::MAX);
    };
    let gib = text.to_str().and_then(|text| text.parse::<f64>().ok());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number of bytes"
    )]
    match gib.filter(|gib| *gib > 0.0) {
        Some(gib) => Ok((gib * f64::from(1 << 30)) as u64),
        None => Err(Error::usage(format!(
            "{LIMIT_VARIABLE}={}: expected a number of GiB above 0",
            text.display()
        ))),
    }
}
