//! The verbs, one file each.

pub mod compare_perf;
pub mod completions;
pub mod doctor;
pub mod generate;
pub mod trace;
