//! A second stream, for work beside the device's own: see [`beside`](crate::ops::beside).
//!
//! Memory is freed on the stream it was allocated on, and is that stream's to use again in its order. Both
//! streams may therefore drop what the other reads: what is made beside and read on the device's own stream
//! is used again by the next work beside, which begins after that; what is made on the device's own stream and
//! dropped beside is used again by what is issued there next, which begins after the work beside.

use std::cell::Cell;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaSlice, CudaStream};
use candle_core::{Error, Result, Tensor, bail};

use super::Context;
use super::blas::workspace;

thread_local! {
    /// Whether this thread issues beside.
    static BESIDE: Cell<bool> = const { Cell::new(false) };
}

/// The stream, and the events that order it with the device's own.
pub(super) struct Side {
    stream: Arc<CudaStream>,
    workspace: CudaSlice<u8>,
    begin: CudaEvent,
    end: CudaEvent,
}

impl Side {
    pub(super) fn new(main: &Arc<CudaStream>) -> Result<Self> {
        let context = main.context();
        let stream = context.new_stream().map_err(Error::wrap)?;
        let event = || context.new_event(None).map_err(Error::wrap);
        Ok(Self {
            workspace: workspace(&stream)?,
            begin: event()?,
            end: event()?,
            stream,
        })
    }
}

impl Context {
    /// The stream that this thread issues on.
    pub(crate) fn current(&self) -> &Arc<CudaStream> {
        if is_beside() {
            &self.side.stream
        } else {
            &self.stream
        }
    }

    /// Scratch memory of that stream.
    pub(super) fn workspace(&self) -> &CudaSlice<u8> {
        if is_beside() {
            &self.side.workspace
        } else {
            &self.workspace
        }
    }

    /// Issues `large`, and `small` on the second stream; later work waits for both.
    pub(crate) fn beside<S, L>(
        &self,
        small: impl FnOnce() -> Result<S>,
        large: impl FnOnce() -> Result<L>,
    ) -> Result<(S, L)> {
        let Side {
            stream, begin, end, ..
        } = &self.side;
        begin.record(&self.stream).map_err(Error::wrap)?;
        stream.wait(begin).map_err(Error::wrap)?;
        // The large one first: the small one's blocks then take the multiprocessors it leaves idle.
        let large = large();
        BESIDE.set(true);
        let small = small();
        BESIDE.set(false);
        // Even where one has failed: memory that the other reads may be freed next.
        end.record(stream).map_err(Error::wrap)?;
        self.stream.wait(end).map_err(Error::wrap)?;
        let large = large?;
        Ok((small?, large))
    }
}

pub(super) fn is_beside() -> bool {
    BESIDE.get()
}

/// The tensor, copied where its elements do not lie in order; candle copies on the device's own
/// stream, so not beside.
pub(crate) fn contiguous(tensor: &Tensor) -> Result<Tensor> {
    if is_beside() && !tensor.is_contiguous() {
        bail!(
            "a view of shape {:?} cannot be copied beside other work",
            tensor.shape()
        )
    }
    tensor.contiguous()
}
