//! Groups of weights that wait in host memory and come to the device one group ahead of use.
//!
//! On the CPU weights are where they would wait, and are used there.

use candle_core::{Device, Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda::streaming as pinned;

/// The tensors of one group while they wait.
#[derive(Debug)]
pub(crate) enum Parked {
    Here(Vec<Tensor>),
    #[cfg(feature = "cuda")]
    Pinned(pinned::Parked),
}

impl Parked {
    /// Takes the tensors from their device and leaves one element in the place of each.
    ///
    /// # Errors
    /// When the host's memory cannot be had, or a copy fails.
    pub(crate) fn take(device: &Device, tensors: Vec<&mut Tensor>) -> Result<Self> {
        let parked = match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(_) => Self::Pinned(pinned::Parked::new(device, &tensors)?),
            _ => Self::Here(tensors.iter().map(|tensor| (**tensor).clone()).collect()),
        };
        for tensor in tensors {
            *tensor = Tensor::zeros(1, tensor.dtype(), device)?;
        }
        Ok(parked)
    }
}

/// Groups of tensors that are used one after the other, over and over.
#[derive(Debug)]
pub(crate) enum Streaming {
    Here(Vec<Vec<Tensor>>),
    #[cfg(feature = "cuda")]
    Pinned(pinned::Streaming),
}

impl Streaming {
    /// The first group has the most tensors; those that others have are like its own.
    ///
    /// # Errors
    /// When the device's memory is used up.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(
            unused_variables,
            clippy::unnecessary_wraps,
            reason = "for a GPU's slots"
        )
    )]
    pub(crate) fn new(device: &Device, groups: Vec<Parked>) -> Result<Self> {
        let mut here = Vec::new();
        #[cfg(feature = "cuda")]
        let mut away = Vec::new();
        for group in groups {
            match group {
                Parked::Here(tensors) => here.push(tensors),
                #[cfg(feature = "cuda")]
                Parked::Pinned(group) => away.push(group),
            }
        }
        #[cfg(feature = "cuda")]
        if device.is_cuda() {
            return Ok(Self::Pinned(pinned::Streaming::new(device, away)?));
        }
        Ok(Self::Here(here))
    }

    /// Number of groups.
    pub(crate) fn groups(&self) -> usize {
        match self {
            Self::Here(groups) => groups.len(),
            #[cfg(feature = "cuda")]
            Self::Pinned(streaming) => streaming.groups(),
        }
    }

    /// Does `work` with the tensors of group `index`, and has the next one copied meanwhile.
    ///
    /// # Errors
    /// Those of `work`, or when a copy cannot be issued.
    pub(crate) fn with(
        &self,
        index: usize,
        work: impl FnOnce(&[Tensor]) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Here(groups) => work(&groups[index]),
            #[cfg(feature = "cuda")]
            Self::Pinned(streaming) => streaming.with(index, work),
        }
    }
}
