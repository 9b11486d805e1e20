//! Whole runs of `generate`: what each flag does, what is written where.

#![expect(clippy::unwrap_used, reason = "tests")]

mod log;
mod outputs;
mod pictures;
#[path = "../program/mod.rs"]
mod program;
