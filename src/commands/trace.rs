//! `trace`: what traces say, as text, JSON or a page.

use std::io::Write;
use std::path::Path;

use crate::cli::console::{json_text, write_result};
use crate::cli::trace::TraceArgs;
use crate::error::{Error, Result};
use crate::files;
use crate::interrupt::Interrupt;
use crate::trace::{self, Comparison, Report, SideBySide, Text};

/// Reads the traces and writes to `out` what they say, or the page to its file.
///
/// # Errors
/// [`Error::Input`] when a trace cannot be used, before anything is written; a usage error when the
/// page would overwrite what it is made of.
pub fn run(args: &TraceArgs, out: &mut dyn Write) -> Result<()> {
    let top = args.top;
    let text = if let Some(path) = &args.html {
        write_page(args, path)?
    } else if let Some(other) = &args.other {
        let comparison = Comparison::new(Report::read(&args.file)?, Report::read(other)?);
        if args.json {
            json_text(&comparison)?
        } else {
            let comparison = &comparison;
            SideBySide { comparison, top }.to_string()
        }
    } else {
        let report = Report::read(&args.file)?;
        if args.json {
            json_text(&report)?
        } else {
            let report = &report;
            Text { report, top }.to_string()
        }
    };
    write_result(out, text.as_bytes())
}

fn write_page(args: &TraceArgs, path: &Path) -> Result<String> {
    for input in [Some(&args.file), args.picture.as_ref()]
        .into_iter()
        .flatten()
    {
        if files::is_same_place(path, input) {
            let input = input.display();
            return Err(Error::usage(format!("--html would overwrite {input}")));
        }
    }
    files::check_writable(path)?;
    let page = trace::page(&args.file, args.picture.as_deref())?;
    // A signal waits for the file, of which it would leave a part.
    let interrupt = Interrupt::install().unwrap_or_default();
    files::write_atomic(path, |out| out.write_all(page.as_bytes()))?;
    interrupt.check()?;
    Ok(format!("Page saved to {}\n", path.display()))
}
