//! The CPU.

use std::thread;

use serde::Serialize;

/// The CPU.
#[derive(Debug, Serialize)]
pub struct Cpu {
    /// Threads that this process may run at a time.
    pub threads: usize,
    /// `x86_64`.
    pub architecture: &'static str,
    /// Extensions that products gain from, of those looked for.
    pub extensions: Vec<&'static str>,
}

impl Cpu {
    pub(super) fn read() -> Self {
        Self {
            threads: thread::available_parallelism().map_or(1, Into::into),
            architecture: std::env::consts::ARCH,
            extensions: extensions(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn extensions() -> Vec<&'static str> {
    [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ]
    .into_iter()
    .filter_map(|(name, found)| found.then_some(name))
    .collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn extensions() -> Vec<&'static str> {
    Vec::new()
}
