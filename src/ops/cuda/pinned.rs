//! Large pieces of pinned host memory, on huge pages where the system has them.
//!
//! The driver's own allocation makes and pins 4 KiB pages one by one, 2 GB/s on an H100 host. Pages that
//! all threads have touched before, and that are larger, are pinned much faster.

use std::ptr::{self, NonNull};
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError, sys};
use candle_core::{Error, Result};
use rayon::prelude::*;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// A huge page's size on x86-64 and most of ARM64.
pub(super) const PAGE: usize = 2 << 20;

/// The size of the pages there are without huge ones, at least.
const SMALL_PAGE: usize = 4 << 10;

/// Memory that a GPU reads and writes at the speed of the bus.
#[derive(Debug)]
pub(crate) struct Pinned {
    start: NonNull<u8>,
    len: usize,
    context: Arc<CudaContext>,
}

// SAFETY: the memory is owned, and reached through `&self` and `&mut self` only.
#[expect(unsafe_code, reason = "a raw pointer to owned memory")]
unsafe impl Send for Pinned {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "a raw pointer to owned memory")]
unsafe impl Sync for Pinned {}

impl Pinned {
    /// `len` bytes of zeros.
    ///
    /// # Errors
    /// When the host's memory is used up, or may not be pinned.
    #[expect(unsafe_code, reason = "raw mapping")]
    pub(crate) fn new(context: &Arc<CudaContext>, len: usize) -> Result<Self> {
        let len = len.next_multiple_of(PAGE);
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, wherever the system likes.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), len, flags, MapFlags::PRIVATE) }
            .map_err(Error::wrap)?;
        let Some(start) = NonNull::new(start.cast::<u8>()) else {
            candle_core::bail!("the system mapped memory at address 0")
        };
        // SAFETY: the mapping above. Without huge pages it is only slower.
        let _ = unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxHugepage) };
        let mut pinned = Self {
            start,
            len,
            context: context.clone(),
        };
        let touch = |page: &mut [u8]| page.iter_mut().step_by(SMALL_PAGE).for_each(|b| *b = 0);
        pinned.as_mut_slice().par_chunks_mut(PAGE).for_each(touch);
        context.bind_to_thread().map_err(Error::wrap)?;
        // SAFETY: mapped memory that is unregistered before it is unmapped.
        let code = unsafe { sys::cuMemHostRegister_v2(start.as_ptr().cast(), len, 0) };
        code.result().map_err(|error| refused(len, error))?;
        Ok(pinned)
    }

    #[expect(unsafe_code, reason = "raw memory")]
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: `len` mapped bytes.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    #[expect(unsafe_code, reason = "raw memory")]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: `len` mapped bytes, borrowed with `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// The driver's error in words of its own: its "out of memory" is not the GPU's here.
fn refused(len: usize, error: DriverError) -> Error {
    let what = match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => "there is not enough of it".to_owned(),
        _ => error.to_string(),
    };
    Error::Msg(format!(
        "{} MiB of host memory cannot be pinned: {what}",
        len >> 20
    ))
}

impl Drop for Pinned {
    #[expect(unsafe_code, reason = "raw mapping")]
    fn drop(&mut self) {
        let _ = self.context.bind_to_thread();
        // SAFETY: mapped by `new`, and nobody else has it. What was never registered is refused.
        unsafe {
            let _ = sys::cuMemHostUnregister(self.start.as_ptr().cast());
            let _ = munmap(self.start.as_ptr().cast(), self.len);
        }
    }
}
