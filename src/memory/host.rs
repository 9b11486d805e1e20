//! The host's memory, as the system tells it.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::cgroup::{self, Limit};
use crate::process::bytes;

/// The machine's memory, or what a container leaves of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HostMemory {
    /// All of it.
    pub total_bytes: u64,
    /// What new work can have without swapping.
    pub available_bytes: u64,
}

impl HostMemory {
    /// Asks the system; `None` where it does not tell.
    #[must_use]
    pub fn read() -> Option<Self> {
        let memory = Self::parse(&fs::read_to_string("/proc/meminfo").ok()?)?;
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Some(match cgroup::limit(&groups, Path::new("/sys/fs/cgroup")) {
            Some(limit) => memory.within(limit),
            None => memory,
        })
    }

    fn parse(meminfo: &str) -> Option<Self> {
        Some(Self {
            total_bytes: bytes(meminfo, "MemTotal")?,
            available_bytes: bytes(meminfo, "MemAvailable")?,
        })
    }

    fn within(self, limit: Limit) -> Self {
        Self {
            total_bytes: self.total_bytes.min(limit.total),
            available_bytes: self.available_bytes.min(limit.room),
        }
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

    #[test]
    fn a_container_has_what_its_limit_leaves() {
        let memory = HostMemory {
            total_bytes: 4 << 30,
            available_bytes: 1 << 30,
        };
        let limit = Limit {
            total: 2 << 30,
            room: 1 << 20,
        };
        let limited = memory.within(limit);
        assert_eq!(limited.total_bytes, 2 << 30);
        assert_eq!(limited.available_bytes, 1 << 20);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory() {
        let available = HostMemory::read().map(|memory| memory.available_bytes);
        assert!(available.is_some_and(|bytes| (1 << 20..1 << 50).contains(&bytes)));
    }
}
