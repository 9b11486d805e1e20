//! `completions`: a shell's completion script on stdout.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::cli::console::write_result;
use crate::error::Result;

/// Writes the script to `out`.
///
/// # Errors
/// [`Error::Output`](crate::Error::Output) when it cannot be written.
pub fn run(shell: Shell, out: &mut dyn Write) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "qwen-gen", &mut script);
    write_result(out, &script)
}
