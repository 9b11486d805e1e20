//! The command line as text: what can be typed, without I/O.

pub mod compare_perf;
