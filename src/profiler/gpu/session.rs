//! Recording of a device's activity, from its start to the device's part of a trace.

use candle_core::Device;

use super::convert::device_trace;
use super::cupti::Cupti;
use super::facts;
use super::layout::kind;
use super::nodes;
use super::parse::Parser;
use super::records::Facts;
use crate::device::memory_use;
use crate::profiler::trace::{DeviceProperties, DeviceTrace, HostRange, Versions};

/// Without these there is nothing to see of a device.
const NEEDED: [(u32, &str); 2] = [
    (kind::CONCURRENT_KERNEL, "kernels"),
    (kind::DRIVER, "driver calls"),
];
/// What else is recorded.
const OTHERS: [(u32, &str); 7] = [
    (kind::RUNTIME, "runtime calls"),
    (kind::MEMCPY, "copies"),
    (kind::MEMSET, "sets"),
    (kind::SYNCHRONIZATION, "waits"),
    (kind::CUDA_EVENT, "links from waits to what they wait for"),
    (kind::OVERHEAD, "overheads"),
    (kind::MEMORY2, "memory events"),
];

/// Can record a device.
#[derive(Debug, Clone)]
pub(in crate::profiler) struct Collector {
    cupti: &'static Cupti,
    device: Device,
    properties: DeviceProperties,
    versions: Versions,
}

/// Records a device until it is stopped or dropped.
#[derive(Debug)]
pub(in crate::profiler) struct Session {
    collector: Collector,
    facts: Facts,
    warnings: Vec<String>,
    active: bool,
}

impl Collector {
    /// Opens CUPTI for a GPU; `None` on the CPU.
    ///
    /// # Errors
    /// Says why a GPU cannot be recorded.
    pub(in crate::profiler) fn open(device: &Device) -> Result<Option<Self>, String> {
        let Device::Cuda(cuda) = device else {
            return Ok(None);
        };
        let cupti = Cupti::get()?;
        let properties = facts::properties(cuda).map_err(|error| error.to_string())?;
        let collector = Self {
            cupti,
            device: device.clone(),
            properties,
            versions: facts::versions(cupti),
        };
        // The first time takes CUPTI a tenth of a second; it shall not be a step's.
        drop(collector.start()?);
        Ok(Some(collector))
    }

    /// Starts recording.
    ///
    /// # Errors
    /// Says what is refused.
    pub(in crate::profiler) fn start(&self) -> Result<Session, String> {
        // What another session left is not this one's.
        drop(self.cupti.take());
        let _ = self.cupti.dropped();
        let memory = memory_use(&self.device);
        let mut session = Session {
            collector: self.clone(),
            facts: Facts {
                properties: self.properties.clone(),
                versions: self.versions,
                allocated: memory.map_or(0, |memory| memory.allocated),
                reserved: memory.map_or(0, |memory| memory.reserved),
            },
            warnings: Vec::new(),
            active: true,
        };
        for (kind, what) in NEEDED {
            let enabled = self.cupti.enable(kind);
            enabled.map_err(|why| format!("{what} cannot be recorded: {why}"))?;
        }
        for (kind, what) in OTHERS {
            if let Err(why) = self.cupti.enable(kind) {
                session
                    .warnings
                    .push(format!("the trace has no {what}: {why}"));
            }
        }
        self.cupti.leave_out_questions();
        if let Err(why) = nodes::subscribe(self.cupti) {
            session.warnings.push(format!(
                "the trace does not tell the operators of a CUDA graph's kernels: {why}"
            ));
        }
        Ok(session)
    }
}

impl Session {
    /// Stops recording; the device has ended its work.
    pub(in crate::profiler) fn stop(&mut self) {
        if std::mem::take(&mut self.active) {
            // The times of a graph's kernels are overwritten when it is launched again.
            self.collector.cupti.flush();
            for (kind, _) in NEEDED.into_iter().chain(OTHERS) {
                self.collector.cupti.disable(kind);
            }
        }
    }

    /// What was recorded, joined with the ranges of `thread`, and what is missing.
    pub(in crate::profiler) fn finish(
        mut self,
        host: &[HostRange],
        thread: u32,
    ) -> (DeviceTrace, Vec<String>) {
        self.stop();
        let cupti = self.collector.cupti;
        let (buffers, lost_bytes) = cupti.take();
        let parser = Parser::new(cupti, self.facts.properties.id, thread);
        let mut records = parser.parse(buffers);
        records.lost_bytes = lost_bytes;
        records.dropped = cupti.dropped();
        records.operators = nodes::take_operators();
        let (trace, more) = device_trace(records, self.facts.clone(), host);
        self.warnings.extend(more);
        (trace, std::mem::take(&mut self.warnings))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop();
    }
}
