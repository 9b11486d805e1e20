//! The CPU and the machine's memory.

use std::fs;
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

/// The machine's memory.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct HostMemory {
    /// All of it.
    pub total_bytes: u64,
    /// What new work can have without swapping.
    pub available_bytes: u64,
}

impl HostMemory {
    pub(super) fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/meminfo").ok()?)
    }

    fn parse(meminfo: &str) -> Option<Self> {
        let bytes = |key: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
            let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
            kib.checked_mul(1024)
        };
        Some(Self {
            total_bytes: bytes("MemTotal:")?,
            available_bytes: bytes("MemAvailable:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes_or_not_at_all() {
        let meminfo = "MemTotal:  2048 kB\nMemFree:  1 kB\nMemAvailable:    1024 kB\n";
        let memory = HostMemory {
            total_bytes: 2 << 20,
            available_bytes: 1 << 20,
        };
        assert_eq!(HostMemory::parse(meminfo), Some(memory));
        assert_eq!(HostMemory::parse("MemTotal: many kB\n"), None);
    }
}
