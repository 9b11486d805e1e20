//! `doctor`: what this machine can run, as text or JSON.

use std::io::Write;

use super::Verdict;
use crate::cli::console::{json_text, write_result};
use crate::cli::doctor::DoctorArgs;
use crate::doctor::Report;
use crate::error::Result;
use crate::request::SizeArgs;

/// Writes what was found to `out`; failed where `generate` would refuse the device or the model.
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
        None => Verdict::Passed,
        Some(_) => Verdict::Failed,
    })
}
