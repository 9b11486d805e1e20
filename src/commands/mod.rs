//! The verbs, one file each.

pub mod compare_perf;
pub mod completions;
pub mod doctor;
pub mod generate;
pub mod trace;

/// What a command that checks has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is as it should be.
    Passed,
    /// It is not: a regression, or a run that would be refused.
    Failed,
}
