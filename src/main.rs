//! The `qwen-gen` binary: parse, call the library, turn the result into an exit code.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{ErrorKind, Write};
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;
use std::time::Instant;

use qwen_gen::Error;
use qwen_gen::allocator::{self, Allocator};
use qwen_gen::cli::console::Console;
use qwen_gen::cli::{Command, Refusal, parse, refuse_upstream_flag, tie_texts};
use qwen_gen::commands::{Verdict, compare_perf, completions, doctor, generate, trace};
use qwen_gen::interrupt;

/// The program's exit codes; after a signal it is 128 + the signal's number.
const DONE: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 2;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    let started = Instant::now();
    panic::set_hook(Box::new(report_bug));
    panic::catch_unwind(|| run(started)).unwrap_or(ExitCode::from(FAILED))
}

fn run(started: Instant) -> ExitCode {
    allocator::keep_freed_memory();
    interrupt::survive_file_size_limit();
    let args = tie_texts(std::env::args_os().collect());
    if args.get(1).is_some_and(|verb| verb == "generate")
        && let Some(error) = refuse_upstream_flag(&args)
    {
        return refused(error);
    }
    let cli = match parse(&args) {
        Ok(cli) => cli,
        Err(Refusal::Own(error)) => return refused(error),
        Err(Refusal::Parser(error)) => return said(&error),
    };
    // A check that cannot be made is neither passed nor failed.
    let is_check = matches!(cli.command, Command::ComparePerf(_));
    let code = execute(cli.command, started).unwrap_or_else(|error| {
        Console::error(&error);
        if is_check { USAGE } else { exit_code(&error) }
    });
    ExitCode::from(code)
}

fn refused(error: Error) -> ExitCode {
    Console::error(&error.into());
    ExitCode::from(USAGE)
}

/// Prints what the parser says: help, version, or what is wrong.
fn said(message: &clap::Error) -> ExitCode {
    match message.print() {
        _ if message.use_stderr() => ExitCode::from(USAGE),
        // A closed pipe is no reason to fail.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Console::error(&Error::stdout(error).into());
            ExitCode::from(FAILED)
        }
        _ => ExitCode::from(DONE),
    }
}

fn execute(command: Command, started: Instant) -> anyhow::Result<u8> {
    let out = &mut std::io::stdout();
    match command {
        Command::Generate(args) => generate::run(*args, started)?,
        Command::ComparePerf(args) => return Ok(exit_code_of(compare_perf::run(&args, out)?)),
        Command::Trace(args) => trace::run(&args, out)?,
        Command::Doctor(args) => return Ok(exit_code_of(doctor::run(&args, out)?)),
        Command::Completions { shell } => completions::run(shell, out)?,
    }
    Ok(DONE)
}

fn exit_code_of(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Passed => DONE,
        Verdict::Failed => FAILED,
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Error>() {
        Some(Error::Usage { .. }) => USAGE,
        Some(Error::Interrupted { signal }) => u8::try_from(128 + signal).unwrap_or(FAILED),
        _ => FAILED,
    }
}

/// A panic is a fault of the program: it says so in the form of any other error.
fn report_bug(panic: &PanicHookInfo<'_>) {
    let what = panic.payload_as_str().unwrap_or("panic");
    let place = panic
        .location()
        .map_or(String::new(), |l| format!(" ({l})"));
    let mut report = format!(
        "error: internal error: {what}{place}\nhint: this is a bug in qwen-gen; please report it\n"
    );
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        report += &backtrace.to_string();
    }
    let _ = std::io::stderr().write_all(report.as_bytes());
}
