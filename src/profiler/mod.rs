//! Records where a run's time goes, into a trace that Perfetto and PyTorch's tools read.

pub mod clock;
mod event;
mod json;
mod nesting;
mod rows;
pub mod schedule;
#[cfg(test)]
mod testing;
pub mod trace;
mod wire;
pub mod writer;

pub use self::clock::Timestamp;
pub use self::schedule::{Extent, Window};
pub use self::trace::Trace;
