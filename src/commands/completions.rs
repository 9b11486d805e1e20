//! `completions`: a shell's completion script on stdout.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;

/// Prints the script; a closed pipe is no reason to fail.
pub fn run(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "qwen-gen", &mut script);
    let _ = std::io::stdout().write_all(&script);
}
