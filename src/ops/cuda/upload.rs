//! From files to a GPU: positioned reads into pinned buffers, each copied while others are read.
//!
//! A copy from ordinary memory goes through the driver's own small buffer on one thread (7 GB/s);
//! from pinned memory it takes the whole bus. All threads read, since one of them copies from the page
//! cache no faster than 6 GB/s.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, DriverError, result};
use candle_core::{Error, Result, Tensor};
use rayon::prelude::*;

use super::address;
use super::pinned::{self, Pinned};

/// Bytes of one read and one copy. An H100 host loads 19, 27, 30, 26 and 25 GB/s with 0.5, 1, 2, 4 and 8 MiB.
const CHUNK: usize = pinned::PAGE;

/// Buffers that are in no thread's hands; each thread has at most one.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Mutex<VecDeque<Buffer>>);

#[derive(Debug)]
struct Buffer {
    memory: Pinned,
    /// Recorded after the last copy out of it.
    copied: CudaEvent,
}

impl Uploads {
    /// Fills a contiguous tensor of `bytes` bytes with what `read(buffer, offset)` gives.
    ///
    /// The copies are issued, not finished, when it returns.
    ///
    /// # Errors
    /// Outer: the device's; inner: those of `read`.
    pub(crate) fn fill(
        &self,
        tensor: &Tensor,
        bytes: usize,
        read: impl Fn(&mut [u8], usize) -> io::Result<()> + Sync,
    ) -> Result<io::Result<()>> {
        let stream = &tensor.device().as_cuda_device()?.cuda_stream();
        let address = address(tensor, tensor.dtype())?;
        let fill_chunk = |offset: usize| -> Result<io::Result<()>> {
            let mut buffer = self.take(stream)?;
            let len = CHUNK.min(bytes - offset);
            let done = buffer.fill(stream, len, address + offset as u64, |part| {
                read(part, offset)
            });
            self.give_back(buffer);
            done.map_err(Error::wrap)
        };
        let chunks = bytes.div_ceil(CHUNK);
        let chunks = (0..chunks).into_par_iter().map(|i| fill_chunk(i * CHUNK));
        chunks.try_reduce(|| Ok(()), |one, other| Ok(one.and(other)))
    }

    /// The buffer whose copy is oldest, once there are two for each thread.
    fn take(&self, stream: &Arc<CudaStream>) -> Result<Buffer> {
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() > rayon::current_num_threads()
            && let Some(buffer) = buffers.pop_front()
        {
            return Ok(buffer);
        }
        drop(buffers);
        Buffer::new(stream)
    }

    fn give_back(&self, buffer: Buffer) {
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buffers.push_back(buffer);
    }
}

impl Buffer {
    fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        let context = stream.context();
        Ok(Self {
            memory: Pinned::new(context, CHUNK)?,
            copied: context.new_event(None).map_err(Error::wrap)?,
        })
    }

    /// Reads `len` bytes and issues their copy to the device's `address`.
    #[expect(unsafe_code, reason = "a copy to a raw address")]
    fn fill(
        &mut self,
        stream: &CudaStream,
        len: usize,
        address: u64,
        read: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> std::result::Result<io::Result<()>, DriverError> {
        stream.context().bind_to_thread()?;
        // A thread that sleeps until then wakes too late to keep the bus busy; this one leaves its core to others.
        while !self.copied.try_is_complete()? {
            thread::yield_now();
        }
        let part = &mut self.memory.as_mut_slice()[..len];
        if let Err(error) = read(part) {
            return Ok(Err(error));
        }
        // SAFETY: the tensor has `len` bytes from `address` on; the buffer is neither written nor
        // freed before `copied`.
        unsafe { result::memcpy_htod_async(address, part, stream.cu_stream()) }?;
        self.copied.record(stream)?;
        Ok(Ok(()))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // The memory may go when nothing is copied from it. A device that failed copies nothing.
        let _ = self.copied.synchronize();
    }
}
