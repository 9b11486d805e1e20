//! Whole runs of `generate`: what each flag does, what is written where.

#![expect(clippy::unwrap_used, reason = "tests")]

mod log;
mod outputs;
mod pictures;
#[path = "../program/mod.rs"]
mod program;

use program::Picture;

/// Most that a pixel may move when only the order of sums changes.
const SAME: u8 = 1;

fn is_same(a: &Picture, b: &Picture) -> bool {
    let mut pixels = a.rgb.iter().zip(&b.rgb);
    a.size == b.size && pixels.all(|(a, b)| a.abs_diff(*b) <= SAME)
}
