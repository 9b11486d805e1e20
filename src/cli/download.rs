//! Progress of downloads: a bar on a terminal, now and then a line elsewhere.

use std::io::{Write as _, stderr};
use std::time::Instant;

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::console::PLAIN_PROGRESS_EVERY;

/// What has come of the files that were missing.
#[derive(Debug)]
pub(super) struct Download {
    pub(super) bar: ProgressBar,
    total: u64,
    /// May be past the total for a moment: what is thrown away is subtracted later.
    received: i64,
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
            last_told: Instant::now(),
        }
    }

    pub(super) fn advance(&mut self, bytes: i64, tells: bool) {
        self.received += bytes;
        let received = u64::try_from(self.received).unwrap_or(0).min(self.total);
        self.bar.set_position(received);
        if tells && self.bar.is_hidden() && self.last_told.elapsed() >= PLAIN_PROGRESS_EVERY {
            self.last_told = Instant::now();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate"
            )]
            let per_second = self.bar.per_sec() as u64;
            // A closed pipe does not stop a run.
            let _ = writeln!(
                stderr(),
                "downloading: {} of {}, {}/s, {:#} remaining",
                BinaryBytes(received),
                BinaryBytes(self.total),
                BinaryBytes(per_second),
                HumanDuration(self.bar.eta())
            );
        }
    }
}
