//! Weights that wait in pinned host memory and are copied to the device one group ahead of use.
//!
//! Two slots on the device take turns: while one group is at work the next is copied into the other, on a
//! stream of its own. Events keep the order: a copy waits until the slot's last group has done its work,
//! work waits until its copy is complete.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, result};
use candle_core::{DType, Device, Error, Result, Shape, Tensor};

use super::pinned::Pinned;
use super::{address, context, empty};

/// The tensors of one group, one after the other.
#[derive(Debug)]
pub(crate) struct Parked {
    memory: Pinned,
    tensors: Vec<Description>,
}

/// What a tensor in a group is like.
#[derive(Debug)]
struct Description {
    shape: Shape,
    dtype: DType,
}

impl Description {
    fn of(tensor: &Tensor) -> Self {
        Self {
            shape: tensor.shape().clone(),
            dtype: tensor.dtype(),
        }
    }

    fn bytes(&self) -> usize {
        self.shape.elem_count() * self.dtype.size_in_bytes()
    }
}

impl Parked {
    /// Copies contiguous tensors from their GPU.
    ///
    /// # Errors
    /// When the host's memory cannot be had, or a copy fails.
    #[expect(unsafe_code, reason = "raw copies")]
    pub(crate) fn new(device: &Device, tensors: &[&mut Tensor]) -> Result<Self> {
        let stream = &context(device)?.stream;
        let described: Vec<_> = tensors.iter().map(|t| Description::of(t)).collect();
        let total = described.iter().map(Description::bytes).sum();
        let mut memory = Pinned::new(stream.context(), total)?;
        let mut rest = memory.as_mut_slice();
        let mut copy = |tensor: &Tensor, description: &Description| {
            let (part, others) = std::mem::take(&mut rest).split_at_mut(description.bytes());
            rest = others;
            let address = address(tensor, description.dtype)?;
            // SAFETY: the tensor has as many bytes as the part, and both outlive the copy.
            unsafe { result::memcpy_dtoh_async(part, address, stream.cu_stream()) }
                .map_err(Error::wrap)
        };
        let mut pairs = tensors.iter().zip(&described);
        let copied = pairs.try_for_each(|(tensor, description)| copy(tensor, description));
        // A copy that was issued writes to the memory, whatever became of the next.
        stream.synchronize().map_err(Error::wrap)?;
        copied?;
        Ok(Self {
            memory,
            tensors: described,
        })
    }
}

/// Groups of tensors that are used one after the other, over and over.
#[derive(Debug)]
pub(crate) struct Streaming {
    groups: Vec<Parked>,
    slots: [Slot; 2],
    work: Arc<CudaStream>,
    copies: Arc<CudaStream>,
    progress: Mutex<Progress>,
}

/// Where one group is while it is at work.
#[derive(Debug)]
struct Slot {
    tensors: Vec<Tensor>,
    /// The last copy into it is complete.
    ready: CudaEvent,
    /// The last group in it has done its work.
    free: CudaEvent,
}

/// Counted over all passes.
#[derive(Debug, Default)]
struct Progress {
    used: usize,
    copied: usize,
}

impl Streaming {
    /// Makes slots for tensors like the first group's; others may have fewer of them.
    ///
    /// # Errors
    /// When the device's memory is used up.
    pub(crate) fn new(device: &Device, groups: Vec<Parked>) -> Result<Self> {
        let work = context(device)?.stream.clone();
        let copies = work.context().new_stream().map_err(Error::wrap)?;
        let slot = || -> Result<Slot> {
            let first = groups.first().map_or(&[][..], |group| &group.tensors);
            let like = |t: &Description| empty(&t.shape, t.dtype, device);
            Ok(Slot {
                tensors: first.iter().map(like).collect::<Result<_>>()?,
                ready: work.context().new_event(None).map_err(Error::wrap)?,
                // Memory belongs to the stream it is allocated on until that says so.
                free: work.record_event(None).map_err(Error::wrap)?,
            })
        };
        Ok(Self {
            slots: [slot()?, slot()?],
            groups,
            work,
            copies,
            progress: Mutex::default(),
        })
    }

    /// Number of groups.
    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
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
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.used % self.groups.len() != index {
            // The last pass was not finished.
            (progress.used, progress.copied) = (index, index);
        }
        while progress.copied < progress.used + 2 {
            self.copy(progress.copied)?;
            progress.copied += 1;
        }
        let slot = &self.slots[progress.used % 2];
        self.work.wait(&slot.ready).map_err(Error::wrap)?;
        work(&slot.tensors)?;
        slot.free.record(&self.work).map_err(Error::wrap)?;
        progress.used += 1;
        Ok(())
    }

    #[expect(unsafe_code, reason = "raw copies")]
    fn copy(&self, position: usize) -> Result<()> {
        let slot = &self.slots[position % 2];
        let group = &self.groups[position % self.groups.len()];
        let copies = &self.copies;
        copies.wait(&slot.free).map_err(Error::wrap)?;
        let mut rest = group.memory.as_slice();
        for (tensor, description) in slot.tensors.iter().zip(&group.tensors) {
            let (part, others) = rest.split_at(description.bytes());
            // SAFETY: the slot's tensor is as large as the group's, and the host's memory lives
            // until `copies` is done.
            unsafe {
                result::memcpy_htod_async(
                    address(tensor, description.dtype)?,
                    part,
                    copies.cu_stream(),
                )
            }
            .map_err(Error::wrap)?;
            rest = others;
        }
        slot.ready.record(copies).map_err(Error::wrap)
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        // What is copied must not lose its source or its target; a failed device copies nothing.
        let _ = self.copies.synchronize();
    }
}
