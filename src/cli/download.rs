//! Progress of downloads: a bar on a terminal, now and then a line elsewhere.

use std::fmt::Write as _;
use std::io::{Write as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::console::PLAIN_PROGRESS_EVERY;

/// What has come of the files that were missing.
#[derive(Debug)]
pub(super) struct Download {
    pub(super) bar: ProgressBar,
    total: u64,
    /// May be past the total for a moment: what is thrown away is subtracted later.
    received: i64,
    started: Instant,
    last_told: Instant,
}

impl Download {
    pub(super) fn new(total: u64, target: ProgressDrawTarget) -> Self {
        let style = ProgressStyle::with_template(
            "downloading {wide_bar} {binary_bytes}/{binary_total_bytes}, {binary_bytes_per_sec}, {eta} remaining",
        );
        let bar = ProgressBar::with_draw_target(Some(total), target)
            .with_style(style.expect("the template is well-formed"));
        Self {
            bar,
            total,
            received: 0,
            started: Instant::now(),
            last_told: Instant::now(),
        }
    }

    pub(super) fn advance(&mut self, bytes: i64, tells: bool) {
        self.received += bytes;
        let received = u64::try_from(self.received).unwrap_or(0).min(self.total);
        self.bar.set_position(received);
        if tells && self.bar.is_hidden() && self.last_told.elapsed() >= PLAIN_PROGRESS_EVERY {
            self.last_told = Instant::now();
            // A closed pipe does not stop a run.
            let _ = writeln!(stderr(), "{}", self.line(received));
        }
    }

    fn line(&self, received: u64) -> String {
        let mut line = format!(
            "downloading: {} of {}",
            BinaryBytes(received),
            BinaryBytes(self.total)
        );
        let per_second = received / self.started.elapsed().as_secs().max(1);
        if let Some(seconds) = (self.total - received).checked_div(per_second) {
            let rest = Duration::from_secs(seconds);
            // Writing to a string cannot fail.
            let _ = write!(
                line,
                ", {}/s, {:#} remaining",
                BinaryBytes(per_second),
                HumanDuration(rest)
            );
        }
        line
    }
}
