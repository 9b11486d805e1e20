//! The perf dump: upstream's file, key by key in its order, then ours.

use std::path::Path;

use candle_core::Device;
use serde::{Serialize, Serializer};

use crate::device;
use crate::error::Result;
use crate::files::write_atomic;
use crate::human::mib;
use crate::process::peak_host_anon_bytes;

/// What `--perf-dump-path` holds.
///
/// The first request is the record that upstream's tools read; further prompts and outputs follow
/// in [`PerfReport::requests`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PerfReport {
    /// The first request.
    #[serde(flatten)]
    pub first: RequestRecord,
    /// What the model ran on.
    pub device: String,
    /// Weights by component, in the order they were loaded.
    #[serde(serialize_with = "as_object")]
    pub load: Vec<(&'static str, Load)>,
    /// From the start of the process to the first stage.
    pub cold_start_ms: f64,
    /// Encoding and writing the first request's picture; `null` when it was not saved.
    pub save_ms: Option<f64>,
    /// The requests after the first.
    pub requests: Vec<FurtherRequest>,
}

/// A request after the first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FurtherRequest {
    /// The same record as the first request's.
    #[serde(flatten)]
    pub record: RequestRecord,
    /// Encoding and writing its picture; `null` when it was not saved.
    pub save_ms: Option<f64>,
}

/// One request in upstream's keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RequestRecord {
    /// When the request began: UTC, ISO 8601 with microseconds.
    pub timestamp: String,
    /// The run's or, of several, the request's id.
    pub request_id: String,
    /// What was measured.
    pub commit_hash: String,
    /// Always `cli_generate`.
    pub tag: &'static str,
    /// From the request's start to the last stage's end; without loading and saving.
    pub total_duration_ms: f64,
    /// The stages, in the order they ran.
    #[serde(rename = "steps")]
    pub stages: Vec<StageDuration>,
    /// The denoising steps; both predictions of a step are in it.
    pub denoise_steps_ms: Vec<StepDuration>,
    /// Memory in use, by name of the moment.
    #[serde(serialize_with = "as_object")]
    pub memory_checkpoints: Vec<(&'static str, MemoryCheckpoint)>,
    /// What was asked for.
    pub meta: Meta,
}

/// How long a stage took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageDuration {
    /// Upstream's name of the stage.
    pub name: &'static str,
    /// GPU work included.
    pub duration_ms: f64,
}

/// How long a denoising step took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepDuration {
    /// Counts from 0.
    pub step: usize,
    /// GPU work included.
    pub duration_ms: f64,
}

/// Memory at one moment, in MiB; a stage's peaks count from the end of the stage
/// before, with what is loaded in between, `load_peak` from the process's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct MemoryCheckpoint {
    /// Device memory in tensors.
    pub allocated_mb: f64,
    /// Device memory held by the allocator.
    pub reserved_mb: f64,
    /// Largest `allocated_mb`.
    pub peak_allocated_mb: f64,
    /// Largest `reserved_mb`.
    pub peak_reserved_mb: f64,
    /// Largest anonymous memory of the process.
    pub peak_host_anon_mb: f64,
}

/// The request as it was typed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Meta {
    /// Prompts of the command line; `null` when they came from a file.
    pub prompt: Option<Vec<String>>,
    /// The text given to `--model-path`.
    pub model: String,
}

/// Loading of one component.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Load {
    /// Read for it.
    pub bytes: u64,
    /// Until it was ready.
    pub duration_ms: f64,
}

impl PerfReport {
    /// Writes the report.
    ///
    /// # Errors
    /// [`crate::Error::Output`] when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, |out| Ok(serde_json::to_writer_pretty(out, self)?))
    }
}

/// What is measured: `SGLANG_GIT_COMMIT`, else the commit this program was built from, else `N/A`.
#[must_use]
pub fn commit_hash() -> String {
    std::env::var("SGLANG_GIT_COMMIT")
        .ok()
        .filter(|hash| !hash.is_empty())
        .or_else(|| option_env!("QWEN_GEN_COMMIT").map(Into::into))
        .unwrap_or_else(|| "N/A".into())
}

impl MemoryCheckpoint {
    /// The GPU's memory now, with the peaks since they were last reset; none on the CPU.
    #[must_use]
    pub fn now(device: &Device) -> Option<Self> {
        let memory = device::memory_use(device)?;
        Some(Self {
            allocated_mb: mib(memory.allocated),
            reserved_mb: mib(memory.reserved),
            peak_allocated_mb: mib(memory.peak_allocated),
            peak_reserved_mb: mib(memory.peak_reserved),
            peak_host_anon_mb: peak_host_anon_bytes().map_or(0.0, mib),
        })
    }

    /// Takes the other's peaks where they are higher.
    pub fn raise_peaks(&mut self, other: &Self) {
        self.peak_allocated_mb = self.peak_allocated_mb.max(other.peak_allocated_mb);
        self.peak_reserved_mb = self.peak_reserved_mb.max(other.peak_reserved_mb);
    }
}

/// Pairs as a JSON object that keeps their order.
fn as_object<V: Serialize, S: Serializer>(
    pairs: &[(&'static str, V)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(request_id: &str, steps: &[f64]) -> RequestRecord {
        let stage = |name, duration_ms| StageDuration { name, duration_ms };
        RequestRecord {
            timestamp: "2026-01-02T03:04:05.678901+00:00".into(),
            request_id: request_id.into(),
            commit_hash: "N/A".into(),
            tag: "cli_generate",
            total_duration_ms: 2.0 + steps.iter().sum::<f64>() + 4.0,
            stages: vec![
                stage("TextEncodingStage", 2.0),
                stage("DenoisingStage", steps.iter().sum()),
                stage("DecodingStage", 4.0),
            ],
            denoise_steps_ms: (steps.iter().enumerate())
                .map(|(step, &duration_ms)| StepDuration { step, duration_ms })
                .collect(),
            memory_checkpoints: vec![],
            meta: Meta {
                prompt: Some(vec!["一只猫".into()]),
                model: "builtin:tiny".into(),
            },
        }
    }

    pub(crate) fn report() -> PerfReport {
        let mut first = record("5f0c2a1e:0", &[10.0, 30.0, 20.0]);
        let memory = MemoryCheckpoint {
            allocated_mb: 41798.0,
            peak_host_anon_mb: 812.5,
            ..MemoryCheckpoint::default()
        };
        first.memory_checkpoints = vec![("before_forward", memory), ("after_forward", memory)];
        let load = |bytes, duration_ms| Load { bytes, duration_ms };
        PerfReport {
            first,
            device: "cpu".into(),
            load: vec![("vae", load(1, 5.0)), ("text_encoder", load(2, 6.5))],
            cold_start_ms: 100.25,
            save_ms: Some(7.5),
            requests: vec![FurtherRequest {
                record: record("5f0c2a1e:1", &[50.0]),
                save_ms: None,
            }],
        }
    }

    #[test]
    fn keys_and_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("perf.json");
        report().write(&path).unwrap();
        insta::assert_snapshot!(std::fs::read_to_string(path).unwrap());
    }
}
