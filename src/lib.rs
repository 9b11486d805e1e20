//! Qwen-Image text-to-image: from a prompt to a picture, with its profiler built in.
//!
//! The crate flows one way:
//!
//! ```text
//! cli -> request -> weights/config -> model -> pipeline -> output
//!                                               |
//!                                     Observer: perf, profiler
//! ```

pub mod config;
pub mod error;
pub mod noise;
pub mod pipeline;
pub mod scheduler;
pub mod text;
pub mod timing;

pub use error::{Error, Result};
