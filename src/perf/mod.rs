//! Performance of a run: recorded as it runs, reported, and compared with other runs.

mod compare;
mod dump;
mod markdown;
mod process;
mod recorder;
mod report;
mod summary;

pub use self::compare::{Check, Comparison};
pub use self::dump::{Dump, DumpStage};
pub use self::process::{peak_host_anon_mb, peak_host_mib, process_start, resident_host_mib};
pub use self::recorder::{PerfRecorder, RequestFacts, RunFacts};
pub use self::report::{
    FurtherRequest, Load, MemoryCheckpoint, Meta, PerfReport, RequestRecord, StageDuration,
    StepDuration, commit_hash, mib,
};
pub use self::summary::{RunSummary, StepSummary};
