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
    if shell == Shell::Bash {
        // clap_complete 4.6 has two names for a verb where the program's has a hyphen, and completes neither.
        let text = String::from_utf8_lossy(&script);
        script = text
            .replace("qwen__subcmd__gen__", "qwen__gen__")
            .into_bytes();
    }
    write_result(out, &script)
}
