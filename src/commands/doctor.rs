//! `doctor`: what this machine can run, as text or JSON.

use std::io::Write;

use crate::cli::console::{json_text, write_result};
use crate::cli::doctor::DoctorArgs;
use crate::doctor::Report;
use crate::error::Result;
use crate::request::SizeArgs;

/// Whether `generate` would run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It would.
    Runs,
    /// The device or the model would be refused.
    Refused,
}

/// Writes what was found to `out`.
///
/// # Errors
/// [`Error::Output`](crate::Error::Output) when it cannot be written.
pub fn run(args: &DoctorArgs, out: &mut dyn Write) -> Result<Verdict> {
    let size = SizeArgs {
        width: args.width,
        height: args.height,
        preset: None,
    };
    let report = Report::gather(args.model_path.as_deref(), size, args.device);
    let text = if args.json {
        json_text(&report)?
    } else {
        report.to_string()
    };
    write_result(out, text.as_bytes())?;
    Ok(match report.refusal {
        None => Verdict::Runs,
        Some(_) => Verdict::Refused,
    })
}
