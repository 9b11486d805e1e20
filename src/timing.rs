//! Durations of device work: marks in the device's own order of execution.
//!
//! On the CPU work is done when the call returns, so a mark is the monotonic clock.

use std::time::Instant;

use candle_core::Device;

use crate::error::Result;

/// A point in a device's work.
#[derive(Debug, Clone)]
pub struct Mark(Instant);

/// Sets marks on one device and reads the time between them.
#[derive(Debug, Clone)]
pub struct Timer;

impl Timer {
    /// A timer for `device`.
    ///
    /// # Errors
    /// When the device cannot make events.
    pub fn new(_device: &Device) -> Result<Self> {
        Ok(Self)
    }

    /// Marks the end of the work issued so far.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn mark(&self) -> Result<Mark> {
        Ok(Mark(Instant::now()))
    }

    /// Milliseconds between two marks; waits until both have been passed.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn elapsed_ms(&self, from: &Mark, to: &Mark) -> Result<f64> {
        Ok(to.0.duration_since(from.0).as_secs_f64() * 1e3)
    }
}
