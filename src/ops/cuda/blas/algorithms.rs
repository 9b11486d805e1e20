//! Which algorithm is fastest, timed once and kept in a file of the user's cache folder.
//!
//! The file has a line of JSON for each shape, `["KEY",[DATA]]`, and only grows: processes that run at the
//! same time keep each other's lines, and a new shape costs one short write.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Result;
use candle_core::cuda_backend::cudarc::cublaslt::sys;
use candle_core::cuda_backend::cudarc::driver::{CudaStream, sys::CUevent_flags};

use crate::files;

/// Timed runs of each candidate, one round after the other: clocks drift within a second. More rounds
/// and more candidates, on a card hot from them, chose no better (237 against 236 ms a step).
const ROUNDS: usize = 5;

/// Where the file stops growing: some 80,000 shapes.
const MAX_BYTES: u64 = 16 << 20;

/// The choices known for this GPU and library version.
pub(super) struct Algorithms {
    /// None without a cache folder.
    file: Option<PathBuf>,
    known: HashMap<String, [u64; 8]>,
}

impl Algorithms {
    /// Reads the file, if there is one.
    pub(super) fn open(stream: &Arc<CudaStream>) -> Self {
        let file = files::cache_folder().map(|folder| folder.join(file_name(stream)));
        // A line that makes no sense says nothing.
        let lines = (file.as_ref()).and_then(|file| files::read_bounded(file, 2 * MAX_BYTES).ok());
        let known = (lines
            .iter()
            .flat_map(|lines| lines.split(|byte| *byte == b'\n')))
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
        Self { file, known }
    }

    pub(super) fn known(&self, key: &str) -> Option<sys::cublasLtMatmulAlgo_t> {
        let data = *self.known.get(key)?;
        Some(sys::cublasLtMatmulAlgo_t { data })
    }

    /// Keeps a choice for the next run too. The file is a courtesy: that it cannot be written is no
    /// reason to fail.
    pub(super) fn keep(&mut self, key: String, algorithm: sys::cublasLtMatmulAlgo_t) {
        if let Some(file) = &self.file {
            let _ = append(file, &(&key, algorithm.data));
        }
        self.known.insert(key, algorithm.data);
    }
}

fn append(file: &Path, line: &(&String, [u64; 8])) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().append(true).create(true).open(file)?;
    if file.metadata()?.len() < MAX_BYTES {
        // In one write, which is not mixed with those of others.
        let line = serde_json::to_string(line)? + "\n";
        file.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// The candidate with the smallest time: what else is on the stream, such as weights on their way, only
/// adds to it.
pub(super) fn fastest(
    stream: &Arc<CudaStream>,
    candidates: &[sys::cublasLtMatmulAlgo_t],
    run: impl Fn(&sys::cublasLtMatmulAlgo_t) -> Result<()>,
) -> Result<sys::cublasLtMatmulAlgo_t> {
    let event = || stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
    let mut times = vec![f32::INFINITY; candidates.len()];
    for round in 0..=ROUNDS {
        for (candidate, time) in candidates.iter().zip(&mut times) {
            let begin = event().map_err(candle_core::Error::wrap)?;
            // One that the heuristic offers but that fails is never chosen.
            let ran = run(candidate).is_ok();
            let end = event().map_err(candle_core::Error::wrap)?;
            let elapsed = begin.elapsed_ms(&end).map_err(candle_core::Error::wrap)?;
            // The first round warms up.
            if round > 0 && ran {
                *time = time.min(elapsed);
            }
        }
    }
    let times = times.iter().enumerate();
    let best = times.min_by(|a, b| a.1.total_cmp(b.1));
    Ok(candidates[best.map_or(0, |(index, _)| index)])
}

fn file_name(stream: &Arc<CudaStream>) -> String {
    let gpu = stream.context().name().unwrap_or_default();
    let gpu: String = gpu
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!("cublaslt-{}-{gpu}.jsonl", library_version())
}

#[expect(unsafe_code, reason = "raw library call")]
pub(super) fn library_version() -> usize {
    // SAFETY: takes and changes nothing.
    unsafe { sys::cublasLtGetVersion() }
}
