//! What Linux tells in `/proc`: when this process started, how much memory it has used.

use std::fs;
use std::time::{Duration, Instant};

/// Clock ticks of `/proc`: `USER_HZ`, which is 100 on every machine this program runs on.
const TICKS_PER_SECOND: f64 = 100.0;

const STATUS: &str = "/proc/self/status";

/// When the process started, to 10 ms; `main_started` where `/proc` cannot tell.
#[must_use]
pub fn process_start(main_started: Instant) -> Instant {
    let stat = fs::read_to_string("/proc/self/stat");
    let uptime = fs::read_to_string("/proc/uptime");
    stat.ok()
        .zip(uptime.ok())
        .and_then(|(stat, uptime)| age(&stat, &uptime))
        .and_then(|age| Instant::now().checked_sub(age))
        // Sandboxes give the host's uptime or their own; a start after `main` is impossible.
        .filter(|start| *start < main_started)
        .unwrap_or(main_started)
}

/// Largest resident memory of the process so far, in bytes; `None` where `/proc` cannot tell.
#[must_use]
pub fn peak_host_bytes() -> Option<u64> {
    bytes(&fs::read_to_string(STATUS).ok()?, "VmHWM")
}

/// Resident memory of the process, in bytes; `None` where `/proc` cannot tell.
#[must_use]
pub fn resident_host_bytes() -> Option<u64> {
    bytes(&fs::read_to_string(STATUS).ok()?, "VmRSS")
}

/// Largest anonymous memory of the process so far, in bytes; `None` where `/proc` cannot tell.
///
/// The kernel keeps the peak of all resident memory only. What files and shared memory hold now
/// is taken off it, so the value is exact while mapped files stay mapped, and never below what is
/// anonymous now.
#[must_use]
pub fn peak_host_anon_bytes() -> Option<u64> {
    peak_anon(&fs::read_to_string(STATUS).ok()?)
}

/// Whether the process was started with a signal ignored (`nohup`); no where `/proc` cannot tell.
#[must_use]
pub fn ignores(signal: i32) -> bool {
    let status = fs::read_to_string(STATUS).unwrap_or_default();
    let mask = (status.lines()).find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

fn age(stat: &str, uptime: &str) -> Option<Duration> {
    // The second field is the program's name in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let start_ticks: f64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(uptime - start_ticks / TICKS_PER_SECOND).ok()
}

fn peak_anon(status: &str) -> Option<u64> {
    let of = |key| bytes(status, key);
    let mapped = of("RssFile")?.checked_add(of("RssShmem")?)?;
    let peak = of("VmHWM")?.saturating_sub(mapped);
    Some(peak.max(of("RssAnon")?))
}

/// A size of `/proc/self/status` or `/proc/meminfo`, which have lines of a key and KiB.
pub(crate) fn bytes(text: &str, key: &str) -> Option<u64> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(key));
    let value = values.find_map(|rest| rest.strip_prefix(':'))?;
    let kib: u64 = value.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn age_is_uptime_less_start() {
        let stat = "7 (a) b) R 1 1 1 0 -1 4194304 100 0 0 0 0 0 0 0 20 0 1 0 74756 3133440 384";
        let age = age(stat, "750.06 486.86\n").unwrap();
        assert!((age.as_secs_f64() - 2.5).abs() < 1e-9);
        assert_eq!(super::age(stat, "1.0 0.0"), None);
        assert_eq!(super::age("", ""), None);
    }

    #[test]
    fn peak_is_the_resident_peak_less_file_pages() {
        let status =
            "VmHWM:\t 10240 kB\nRssAnon:\t 1024 kB\nRssFile:\t 2048 kB\nRssShmem:\t 0 kB\n";
        assert_eq!(peak_anon(status), Some(8 << 20));
        assert_eq!(peak_anon("VmHWM:\t 10240 kB\n"), None);
    }
}
