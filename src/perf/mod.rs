//! Performance of a run: recorded as it runs, reported, and compared with other runs.

mod compare;
mod dump;
mod mark;
mod markdown;
mod recorder;
mod report;
mod summary;

pub use self::compare::{Check, Comparison};
pub use self::dump::{Dump, DumpStage};
pub use self::mark::Mark;
pub use self::recorder::{PerfRecorder, RequestFacts, RunFacts};
pub use self::report::{
    FurtherRequest, Load, MemoryCheckpoint, Meta, PerfReport, RequestRecord, StageDuration,
    StepDuration, commit_hash,
};
pub use self::summary::{RunSummary, StepSummary};
