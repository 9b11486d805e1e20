//! Qwen-Image text-to-image: from a prompt to a picture, with its profiler built in.
//!
//! The crate flows one way; who watches a run hangs off the pipeline and is never called by name:
//!
//! ```text
//! cli -> request -> hub -> weights/config -> model -> pipeline -> output
//!                                                      |
//!                                            Observer: perf, profiler, console
//! ```

pub mod allocator;
pub mod cli;
pub mod commands;
pub mod config;
pub mod device;
pub mod doctor;
pub mod error;
pub mod files;
pub mod hub;
mod human;
pub mod interrupt;
pub mod memory;
pub mod model;
pub mod noise;
pub mod ops;
pub mod output;
pub mod perf;
pub mod pipeline;
pub mod process;
pub mod profiler;
pub mod request;
pub mod sampling;
pub mod scheduler;
pub mod text;
pub mod trace;
pub mod weights;

pub use error::{Error, Result};
