//! Limits that control groups set: a container's, a batch job's, a service's.
//!
//! Every group above the process's own limits it, too. What a group's files hold in the page cache is
//! given back when memory is needed, so it counts as room.
//!
//! Source: the kernel's `admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst`.

use std::fs;
use std::path::Path;

/// Memory in the tightest group, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    /// All that its processes may have.
    pub(super) total: u64,
    /// What is left of it.
    pub(super) room: u64,
}

/// Names of one version's files.
struct Files {
    limit: &'static str,
    usage: &'static str,
    /// The keys of what can be given back, in `memory.stat`.
    cache: [&'static str; 2],
}

const V2: Files = Files {
    limit: "memory.max",
    usage: "memory.current",
    cache: ["inactive_file", "active_file"],
};
const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
};

/// The limit on this process, where there is one. `groups` is the text of `/proc/self/cgroup`, `mounted`
/// where the groups are mounted.
pub(super) fn limit(groups: &str, mounted: &Path) -> Option<Limit> {
    let limits = groups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or(""), fields.next().unwrap_or("/"));
        let (root, files) = if controllers.is_empty() {
            (mounted.to_owned(), &V2)
        } else if controllers.split(',').any(|name| name == "memory") {
            (mounted.join("memory"), &V1)
        } else {
            return Vec::new();
        };
        let own = Path::new(path.trim_start_matches('/'));
        // In a container the path may be the host's, which is not mounted; its root is.
        let groups = own.ancestors().map(|group| root.join(group));
        groups.filter_map(|group| files.read(&group)).collect()
    });
    let limits: Vec<Limit> = limits.collect();
    Some(Limit {
        total: limits.iter().map(|limit| limit.total).min()?,
        room: limits.iter().map(|limit| limit.room).min()?,
    })
}

impl Files {
    fn read(&self, group: &Path) -> Option<Limit> {
        let text = |file: &str| fs::read_to_string(group.join(file)).ok();
        let number = |file: &str| text(file)?.trim().parse::<u64>().ok();
        // `max`, which is no number, where there is no limit.
        let total = number(self.limit)?;
        let stat = text("memory.stat").unwrap_or_default();
        let stat = stat.lines().filter_map(|line| line.split_once(' '));
        let cache = stat.filter(|(key, _)| self.cache.contains(key));
        let cache = cache.filter_map(|(_, bytes)| bytes.parse::<u64>().ok());
        let used = number(self.usage).unwrap_or(0);
        let used = cache.fold(used, u64::saturating_sub);
        Some(Limit {
            total,
            room: total.saturating_sub(used),
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn group(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_tightest_group_counts_with_what_it_uses() {
        let mounted = tempfile::tempdir().unwrap();
        let at = |path: &str| mounted.path().join(path);
        group(
            &at("job"),
            &[
                ("memory.max", "1000\n"),
                ("memory.current", "700\n"),
                (
                    "memory.stat",
                    "anon 400\ninactive_file 100\nactive_file 200\nfile 300\n",
                ),
            ],
        );
        group(
            &at("job/step"),
            &[("memory.max", "max\n"), ("memory.current", "50\n")],
        );
        let found = limit("0::/job/step\n", mounted.path());
        assert_eq!(
            found,
            Some(Limit {
                total: 1000,
                room: 600
            })
        );
        assert_eq!(limit("0::/other\n", mounted.path()), None);
    }

    #[test]
    fn the_older_version_is_read_and_a_path_of_the_hosts_is_the_root() {
        let mounted = tempfile::tempdir().unwrap();
        group(
            &mounted.path().join("memory"),
            &[
                ("memory.limit_in_bytes", "500\n"),
                ("memory.usage_in_bytes", "600\n"),
            ],
        );
        let groups = "4:cpu,cpuacct:/\n3:memory:/docker/abc\n";
        let found = limit(groups, mounted.path());
        assert_eq!(
            found,
            Some(Limit {
                total: 500,
                room: 0
            })
        );
    }
}
