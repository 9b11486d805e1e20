//! What a GPU does meanwhile, as CUPTI's activity records tell it.
//!
//! CUPTI is opened when the program runs; without it, or where it may not record, a trace has its
//! host rows and says what is missing. The records become events after the run, in plain code.

#[cfg(any(feature = "cuda", test))]
mod convert;
#[cfg(any(feature = "cuda", test))]
mod occupancy;
#[cfg(any(feature = "cuda", test))]
mod records;
#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
mod cupti;
#[cfg(feature = "cuda")]
mod facts;
#[cfg(feature = "cuda")]
mod layout;
#[cfg(feature = "cuda")]
mod nodes;
#[cfg(feature = "cuda")]
mod parse;
#[cfg(feature = "cuda")]
mod session;

#[cfg(feature = "cuda")]
pub(crate) use self::cupti::version as cupti_version;
#[cfg(feature = "cuda")]
pub(super) use self::session::{Collector, Session};

#[cfg(not(feature = "cuda"))]
mod absent;
#[cfg(not(feature = "cuda"))]
pub(super) use self::absent::{Collector, Session};

/// Bytes of records kept: some eight million, 35 times what 50 steps of the full-size model make.
#[cfg(any(feature = "cuda", test))]
const MAX_RECORD_BYTES: usize = 1 << 30;
