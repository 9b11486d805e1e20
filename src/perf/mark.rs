//! Durations of device work: marks in the device's own order of execution.
//!
//! On the CPU work is done when the call returns, so a mark is the monotonic clock. On a GPU a mark is
//! an event on its stream: it costs the host two microseconds and the device nothing, and nobody
//! waits until the durations are read.

use std::time::Instant;

use candle_core::Device;

use crate::error::Result;

/// A point in a device's work.
#[derive(Debug)]
pub struct Mark(Point);

#[derive(Debug)]
enum Point {
    Host(Instant),
    #[cfg(feature = "cuda")]
    Device(candle_core::cuda_backend::cudarc::driver::CudaEvent),
}

impl Mark {
    /// The end of the work issued to `device` so far.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn now(device: &Device) -> Result<Self> {
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => {
                use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
                let event = device
                    .cuda_stream()
                    .record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
                    .map_err(candle_core::Error::wrap)?;
                Ok(Self(Point::Device(event)))
            }
            _ => Ok(Self(Point::Host(Instant::now()))),
        }
    }

    /// Milliseconds from this mark to a later one of the same device; waits until both have been passed.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn elapsed_ms(&self, to: &Self) -> Result<f64> {
        match (&self.0, &to.0) {
            (Point::Host(from), Point::Host(to)) => {
                Ok(to.duration_since(*from).as_secs_f64() * 1e3)
            }
            #[cfg(feature = "cuda")]
            (Point::Device(from), Point::Device(to)) => Ok(from
                .elapsed_ms(to)
                .map_err(candle_core::Error::wrap)?
                .into()),
            #[cfg(feature = "cuda")]
            _ => unreachable!("both marks are of one device"),
        }
    }
}
