//! Records where a run's time goes, into a trace that Perfetto and PyTorch's tools read.

pub mod schedule;

pub use self::schedule::{Extent, Window};
