//! A report as text.

use std::fmt::{self, Write as _};

use super::numbers::{counted, fixed, mb, percent};
use super::report::{DeviceUse, GapRow, Report, StepRow};
use super::rows::Row;
use super::table::{Table, short};
use crate::human::escaped;

/// A report with the number of rows to show of each table; 0 is all.
#[derive(Debug)]
pub struct Text<'a> {
    /// The report.
    pub report: &'a Report,
    /// Rows of a table.
    pub top: usize,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { report, top } = *self;
        f.write_str(&heading(report))?;
        let has_device = report.device.is_some();

        let header = ["Stages", "host ms", "share"];
        let stages = report.stages.iter().map(|stage| {
            let cells = [
                short(&stage.name),
                fixed(stage.host_ms),
                percent(stage.share_pct),
            ];
            with_device(cells.to_vec(), stage.device.as_ref(), has_device)
        });
        table(&header, has_device).rows(stages).fmt(f)?;

        let header = ["Steps", "host ms"];
        let step = |step: &StepRow| {
            let cells = vec![step.step.to_string(), fixed(step.host_ms)];
            with_device(cells, step.device.as_ref(), has_device)
        };
        let steps = report.steps.iter().map(step);
        table(&header, has_device).rows(steps).fmt(f)?;

        section(&report.operators, has_device, top).fmt(f)?;
        section(&report.kernels, has_device, top).fmt(f)?;
        section(&report.copies, has_device, top).fmt(f)?;
        gaps(&report.gaps, f)
    }
}

/// What the trace is of, in a few lines.
pub(super) fn heading(report: &Report) -> String {
    let mut text = String::new();
    // A string takes everything.
    let _ = write_heading(report, &mut text);
    text
}

fn write_heading(report: &Report, f: &mut String) -> fmt::Result {
    let steps = match report.steps.len() {
        0 => String::new(),
        steps => counted(steps as u64, "step", "steps") + ", ",
    };
    write!(
        f,
        "{}: {steps}{} ms, {}",
        escaped(&report.trace),
        fixed(report.duration_ms),
        counted(report.events, "event", "events")
    )?;
    for device in &report.devices {
        write!(f, ", {}", escaped(device))?;
    }
    writeln!(f)?;
    if let Some(device) = &report.device {
        write!(
            f,
            "GPU busy {} of {} ms ({}), idle {} ms; {}, {}",
            fixed(device.busy_ms),
            fixed(device.span_ms),
            percent(device.busy_pct),
            fixed(device.idle_ms),
            counted(device.kernels, "kernel", "kernels"),
            counted(device.copies, "copy", "copies")
        )?;
        if let (Some(mean), Some(known)) = (device.occupancy_pct, device.occupancy_known_pct) {
            write!(f, "; est. occupancy {}", percent(mean))?;
            if known < 99.0 {
                write!(f, " (known for {} of the kernels' time)", percent(known))?;
            }
        }
        writeln!(f)?;
    }
    if let Some(memory) = &report.memory {
        let peaks = [
            ("GPU", memory.peak_device_bytes),
            ("host", memory.peak_host_bytes),
        ];
        let peaks = peaks
            .into_iter()
            .filter_map(|(what, bytes)| Some((what, bytes?)));
        let peaks: Vec<String> = peaks
            .map(|(what, bytes)| format!("{what} {} MB", mb(bytes)))
            .collect();
        writeln!(f, "Peak memory: {}", peaks.join(", "))?;
    }
    Ok(())
}

const DEVICE_HEADER: [&str; 5] = ["GPU ms", "busy ms", "idle ms", "busy", "kernels"];

/// A table of host times, and of device times where there are any.
fn table(header: &[&str], has_device: bool) -> Table {
    let device: &[&str] = if has_device { &DEVICE_HEADER } else { &[] };
    Table::new(&[header, device].concat())
}

fn with_device(
    mut cells: Vec<String>,
    device: Option<&DeviceUse>,
    has_device: bool,
) -> Vec<String> {
    if let Some(device) = device {
        cells.extend([
            fixed(device.span_ms),
            fixed(device.busy_ms),
            fixed(device.idle_ms),
            percent(device.busy_pct),
            device.kernels.to_string(),
        ]);
    } else if has_device {
        cells.extend(DEVICE_HEADER.map(|_| "-".to_owned()));
    }
    cells
}

/// A table of what has names.
fn section<R: Row>(rows: &[R], has_device: bool, top: usize) -> Table {
    let first = rows.first();
    let header = first.map_or_else(Vec::new, |row| row.header(R::TITLE, has_device));
    Table::new(&header).named_rows(rows, top, R::name, |row| row.cells(has_device))
}

/// A line for each gap, and one for what the host did.
fn gaps(gaps: &[GapRow], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if gaps.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nLongest gaps of the GPU")?;
    for gap in gaps {
        let step = gap
            .step
            .map_or_else(String::new, |step| format!("step {step}, "));
        let before = short(&gap.before);
        let place = match &gap.after {
            Some(after) => format!("between {} and {before}", short(after)),
            None => format!("before {before}"),
        };
        writeln!(
            f,
            "{:>10} us  {step}at {} ms, {place}",
            fixed(gap.us),
            fixed(gap.at_ms)
        )?;
        let host: Vec<String> = (gap.host.iter())
            .map(|share| format!("{} {} us", short(&share.what), fixed(share.us)))
            .collect();
        if !host.is_empty() {
            writeln!(f, "               host: {}", host.join(", "))?;
        }
    }
    Ok(())
}
