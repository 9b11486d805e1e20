//! The initial noise: `torch.randn` of torch's CPU and CUDA generators, value for value.
//!
//! A seed gives the picture that diffusers gives only if the noise is the same to the last bit,
//! so this is not the place for a nicer generator.

mod cephes;
mod cpu;
mod cuda;
mod mt19937;

pub use cpu::CpuGenerator;

/// Which of torch's generators draws the noise; not where the model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeneratorDevice {
    /// `torch.Generator("cpu")`.
    Cpu,
    /// `torch.Generator("cuda")` of an H100 or H200.
    Cuda,
}

impl GeneratorDevice {
    /// Torch's name of the device.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// The first `n` standard normal values after `manual_seed(seed)`, as
/// `torch.randn(n, generator=..., dtype=torch.float32)` draws them.
///
/// CPU values equal torch's bit for bit from 16 values on, CUDA values to about 1e-6: the device
/// uses approximate sines and logarithms. In bf16 and f16 torch draws these values and rounds them.
#[must_use]
pub fn randn(device: GeneratorDevice, seed: u64, n: usize) -> Vec<f32> {
    match device {
        GeneratorDevice::Cpu => CpuGenerator::new(seed).randn(n),
        GeneratorDevice::Cuda => cuda::randn(seed, n),
    }
}
