//! What a trace says, as numbers: the structure of `--json`.

use serde::Serialize;

/// Everything that is said of a trace. Rows are sorted by time, longest first, but stages and steps
/// by when they ran.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The file.
    pub trace: String,
    /// Events in it.
    pub events: u64,
    /// Devices, by name.
    pub devices: Vec<String>,
    /// The recorded time.
    pub duration_ms: f64,
    /// Ranges named `STAGE ...`.
    pub stages: Vec<StageRow>,
    /// Ranges named `ProfilerStep#...`.
    pub steps: Vec<StepRow>,
    /// The device over the whole recording; absent without device work.
    pub device: Option<DeviceUse>,
    /// Operators by name.
    pub operators: Vec<OperatorRow>,
    /// Kernels by name.
    pub kernels: Vec<KernelRow>,
    /// Copies and sets by name.
    pub copies: Vec<CopyRow>,
    /// The longest times without device work.
    pub gaps: Vec<GapRow>,
    /// Most memory seen; absent when the trace has no memory events.
    pub memory: Option<Memory>,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageRow {
    /// Without the prefix.
    pub name: String,
    /// On the host, where a device's work is only issued.
    pub host_ms: f64,
    /// Of the time of all stages: of each the host's or the device's, whichever is longer.
    pub share_pct: f64,
    /// The work that was launched in it.
    pub device: Option<DeviceUse>,
}

impl StageRow {
    /// How long it took: a device's time tells more than the host's, which may only issue work.
    pub(super) fn ms(&self) -> f64 {
        let device_ms = self.device.map_or(0.0, |device| device.span_ms);
        self.host_ms.max(device_ms)
    }
}

/// A denoising step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepRow {
    /// Its number.
    pub step: u64,
    /// On the host.
    pub host_ms: f64,
    /// The work that was launched in it.
    pub device: Option<DeviceUse>,
}

/// A device's time, to the end of the last piece of work: from the end of the work of the stage or step
/// before, or from its own start on the host where that is later. The first of them and the whole
/// recording begin with their first piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeviceUse {
    /// Busy and idle.
    pub span_ms: f64,
    /// With work on any stream.
    pub busy_ms: f64,
    /// Without.
    pub idle_ms: f64,
    /// Busy share of the span.
    pub busy_pct: f64,
    /// Kernels.
    pub kernels: u64,
    /// Copies and sets.
    pub copies: u64,
    /// Estimated occupancy of the kernels of which it is known, weighted by their time.
    pub occupancy_pct: Option<f64>,
    /// Their share of all kernels' time.
    pub occupancy_known_pct: Option<f64>,
}

/// An operator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperatorRow {
    /// Its name.
    pub name: String,
    /// How often it ran, launches with a graph among them, which take it no time on the host.
    pub count: u64,
    /// On the host, with what it called.
    pub host_ms: f64,
    /// On the host, without operators and calls inside it.
    pub host_self_ms: f64,
    /// Work launched in it and in no operator inside it, or captured in it and launched with a graph.
    pub device_ms: f64,
    /// Mean of the host's time, or of the device's where there is a device.
    pub mean_us: f64,
    /// Of the recorded time: the device's, or the host's own where there is no device.
    pub share_pct: f64,
}

/// A kernel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelRow {
    /// Its name.
    pub name: String,
    /// How often it ran.
    pub count: u64,
    /// In all.
    pub total_ms: f64,
    /// Of one.
    pub mean_us: f64,
    /// Of all work.
    pub share_pct: f64,
    /// Occupancy achieved, weighted by time.
    pub occupancy_pct: Option<f64>,
}

/// Copies or sets of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CopyRow {
    /// From where to where.
    pub name: String,
    /// How many.
    pub count: u64,
    /// In all.
    pub bytes: u64,
    /// In all.
    pub total_ms: f64,
    /// Bytes by time.
    pub gb_per_s: f64,
}

/// A time without device work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GapRow {
    /// The step whose work ends it.
    pub step: Option<u64>,
    /// From the start of the recording.
    pub at_ms: f64,
    /// How long.
    pub us: f64,
    /// The work before it; absent where a step begins with the gap.
    pub after: Option<String>,
    /// The work after it.
    pub before: String,
    /// What the launching thread did meanwhile, longest first.
    pub host: Vec<HostShare>,
}

/// A part of a gap.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostShare {
    /// The innermost range; where that is a call, also the nearest range around it that is none.
    pub what: String,
    /// How long.
    pub us: f64,
}

/// Memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Memory {
    /// Most bytes in tensors on a device.
    pub peak_device_bytes: Option<u64>,
    /// Most bytes of the process in memory.
    pub peak_host_bytes: Option<u64>,
}
