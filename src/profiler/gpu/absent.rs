//! Without the `cuda` feature there is no GPU to record.

use candle_core::Device;

use crate::profiler::trace::{DeviceTrace, HostRange};

/// There is none.
#[derive(Debug, Clone)]
pub(in crate::profiler) enum Collector {}

/// There is none.
#[derive(Debug)]
pub(in crate::profiler) enum Session {}

#[expect(clippy::unnecessary_wraps, reason = "as with the feature")]
impl Collector {
    pub(in crate::profiler) fn open(_device: &Device) -> Result<Option<Self>, String> {
        Ok(None)
    }

    pub(in crate::profiler) fn start(&self) -> Result<Session, String> {
        match *self {}
    }
}

impl Session {
    pub(in crate::profiler) fn stop(&mut self) {
        match *self {}
    }

    pub(in crate::profiler) fn finish(
        self,
        _host: &[HostRange],
        _thread: u32,
    ) -> (DeviceTrace, Vec<String>) {
        match self {}
    }
}
