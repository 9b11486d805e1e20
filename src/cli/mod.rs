//! The command line: what can be typed. Text only, no I/O.

pub mod compare_perf;
pub mod console;
pub mod doctor;
mod download;
pub mod generate;
mod parse;
mod texts;
pub mod trace;
mod upstream;

use clap::{Parser, Subcommand};

pub use self::parse::{Refusal, parse};
pub use self::texts::tie_texts;
pub use self::upstream::refuse_upstream_flag;

/// The program's arguments.
#[derive(Debug, Parser)]
#[command(
    name = "qwen-gen",
    version,
    about = "Turn a prompt into a picture with Qwen-Image",
    infer_long_args = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done as asked, 1 failed, 2 bad usage, 129 hung up, 130 interrupted, 143 terminated."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs. What is not documented here has its own text.
#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "a comment here would replace the arguments' own"
)]
pub enum Command {
    /// Make pictures from prompts
    Generate(Box<generate::GenerateArgs>),
    ComparePerf(compare_perf::ComparePerfArgs),
    Trace(trace::TraceArgs),
    Doctor(doctor::DoctorArgs),
    /// Print a shell completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}
