//! Which device a run uses, and why.

use candle_core::{DType, Device};

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
            Self::Cpu => Ok(Chosen {
                device: Device::Cpu,
                reason: "cpu: asked for".to_owned(),
            }),
            Self::Auto => Ok(Chosen {
                device: Device::Cpu,
                reason: "cpu: this build has no GPU support".to_owned(),
            }),
            Self::Cuda(index) => Err(Error::Device {
                message: format!("--device cuda:{index}: this build has no GPU support"),
                hint: Some("build with `--features cuda`, or use --device cpu".to_owned()),
            }),
        }
    }
}

/// The name reports use: `cpu`, `cuda:0`.
#[must_use]
pub fn name(device: &Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        other => format!("{:?}", other.location()).to_lowercase(),
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
