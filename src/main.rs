//! The `qwen-gen` binary: parse, call the library, turn the result into an exit code.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use qwen_gen::Error;
use qwen_gen::cli::console::Console;
use qwen_gen::cli::{Cli, Command, refusal_of_upstream_flag};
use qwen_gen::commands::{compare_perf, completions, generate};

/// The program's exit codes; after a signal it is 128 + the signal's number.
const DONE: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let started = Instant::now();
    qwen_gen::allocator::keep_freed_memory();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let result = match cli.command {
        Command::Generate(args) => generate::run(*args, started).map(|()| DONE),
        Command::ComparePerf(args) => compare_perf::run(&args, &mut std::io::stdout())
            .map(|verdict| match verdict {
                compare_perf::Verdict::Passed => DONE,
                compare_perf::Verdict::Regressed => FAILED,
            })
            .map_err(anyhow::Error::from)
            .or_else(|error| {
                Console::error(&error);
                Ok(USAGE)
            }),
        Command::Completions { shell } => {
            completions::run(shell);
            Ok(DONE)
        }
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            Console::error(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Error>() {
        Some(Error::Usage { .. }) => USAGE,
        Some(Error::Interrupted { signal }) => u8::try_from(128 + signal).unwrap_or(FAILED),
        _ => FAILED,
    }
}

/// Prints clap's own message, or that the flag is one of upstream's.
fn refuse(error: &clap::Error) -> ExitCode {
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) if error.kind() == ErrorKind::UnknownArgument => {
            refusal_of_upstream_flag(flag)
        }
        _ => None,
    };
    match flag {
        Some(message) => Console::error(&Error::usage(message).into()),
        // A closed pipe is no reason to fail.
        None => drop(error.print()),
    }
    ExitCode::from(if error.use_stderr() { USAGE } else { DONE })
}
