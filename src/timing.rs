//! Durations of device work: marks in the device's own order of execution.
//!
//! On the CPU work is done when the call returns, so a mark is the monotonic clock. On a GPU a mark is
//! an event on its stream: it costs the host two microseconds and the device nothing, and nobody
//! waits until the durations are read.

use std::time::Instant;

use candle_core::Device;

use crate::error::Result;

/// A point in a device's work.
#[derive(Debug, Clone)]
pub struct Mark(Point);

#[derive(Debug, Clone)]
enum Point {
    Host(Instant),
    #[cfg(feature = "cuda")]
    Device(std::sync::Arc<candle_core::cuda_backend::cudarc::driver::CudaEvent>),
}

/// Sets marks on one device and reads the time between them.
#[derive(Debug, Clone)]
pub struct Timer {
    #[cfg_attr(
        not(feature = "cuda"),
        expect(dead_code, reason = "the CPU needs no handle")
    )]
    device: Device,
}

impl Timer {
    /// A timer for `device`.
    #[must_use]
    pub fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
        }
    }

    /// Marks the end of the work issued so far.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn mark(&self) -> Result<Mark> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = &self.device {
            use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
            let event = device
                .cuda_stream()
                .record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
                .map_err(candle_core::Error::wrap)?;
            return Ok(Mark(Point::Device(std::sync::Arc::new(event))));
        }
        Ok(Mark(Point::Host(Instant::now())))
    }

    /// Milliseconds between two marks; waits until both have been passed.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn elapsed_ms(&self, from: &Mark, to: &Mark) -> Result<f64> {
        match (&from.0, &to.0) {
            (Point::Host(from), Point::Host(to)) => {
                Ok(to.duration_since(*from).as_secs_f64() * 1e3)
            }
            #[cfg(feature = "cuda")]
            (Point::Device(from), Point::Device(to)) => Ok(from
                .elapsed_ms(to)
                .map_err(candle_core::Error::wrap)?
                .into()),
            #[cfg(feature = "cuda")]
            _ => unreachable!("a timer's marks are of one device"),
        }
    }
}
