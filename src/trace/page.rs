//! A report as one HTML page: charts, tables, the picture; nothing is loaded from elsewhere.

use std::fmt::{self, Write as _};

use super::analysis::Analysis;
use super::numbers::{fixed, percent};
use super::picture::Picture;
use super::recorded::Span;
use super::report::Report;
use super::rows::Row;
use super::svg::{self, StepBar, escape, share};
use super::text::heading;

/// Rows of a table.
const TOP: usize = 15;

/// What the page shows.
pub(super) struct Page<'a> {
    pub(super) analysis: &'a Analysis<'a>,
    pub(super) report: &'a Report,
    pub(super) picture: Option<&'a Picture>,
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        let name = report.trace.rsplit('/').next().unwrap_or(&report.trace);
        writeln!(
            f,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>\n{style}</style></head><body>\n<h1>{title}</h1>",
            title = escape(name),
            style = include_str!("page.css"),
        )?;
        for line in heading(report).lines() {
            writeln!(f, "<p>{}</p>", escape(line))?;
        }
        self.picture(f)?;
        self.stages(f)?;
        self.steps(f)?;
        self.device(f)?;
        self.memory(f)?;
        self.rows(&report.operators, f)?;
        self.rows(&report.kernels, f)?;
        self.rows(&report.copies, f)?;
        self.gaps(f)?;
        writeln!(f, "</body></html>")
    }
}

impl Page<'_> {
    fn picture(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(picture) = self.picture else {
            return Ok(());
        };
        writeln!(
            f,
            "<div class=\"picture\"><img alt=\"the picture\" src=\"{}\">",
            picture.data_url()
        )?;
        if let Some(recipe) = &picture.recipe {
            let rows = [
                ("prompt", recipe.prompt.clone()),
                (
                    "negative prompt",
                    recipe.negative_prompt.clone().unwrap_or_default(),
                ),
                ("model", recipe.model.clone()),
                ("size", format!("{}x{}", recipe.width, recipe.height)),
                ("steps", recipe.num_inference_steps.to_string()),
                ("guidance", recipe.true_cfg_scale.to_string()),
                (
                    "seed",
                    format!("{} ({})", recipe.seed, recipe.generator_device),
                ),
                (
                    "device",
                    format!("{}, {}", recipe.device, recipe.dit_precision),
                ),
                ("request", recipe.request_id.clone()),
            ];
            write!(f, "<table>")?;
            for (key, value) in rows {
                write!(f, "<tr><td>{key}</td><td>{}</td></tr>", escape(&value))?;
            }
            write!(f, "</table>")?;
        }
        writeln!(f, "</div>")
    }

    fn stages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.report.stages.is_empty() {
            return Ok(());
        }
        let stages = self.report.stages.iter();
        let parts: Vec<(String, f64)> = stages
            .map(|stage| (stage.name.clone(), stage.ms()))
            .collect();
        writeln!(f, "<h2>Stages</h2>\n{}", svg::stacked(&parts))?;
        let rows = self.report.stages.iter().map(|stage| {
            let cells = vec![fixed(stage.ms()), percent(stage.share_pct)];
            (stage.name.as_str(), stage.share_pct / 100.0, cells)
        });
        table(f, &["stage", "ms", "share"], rows)
    }

    fn steps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.report.steps.is_empty() {
            return Ok(());
        }
        let bars = self.report.steps.iter().map(|step| StepBar {
            step: step.step,
            ms: step.device.map_or(step.host_ms, |device| device.span_ms),
            busy_ms: step.device.map(|device| device.busy_ms),
        });
        let bars: Vec<StepBar> = bars.collect();
        writeln!(f, "<h2>Steps, ms</h2>\n{}", svg::steps(&bars))?;
        if bars.iter().any(|bar| bar.busy_ms.is_some()) {
            writeln!(
                f,
                "<p class=\"key\"><span></span>GPU busy<span class=\"off\"></span>idle</p>"
            )?;
        }
        Ok(())
    }

    fn device(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let busy = &self.analysis.busy.spans;
        let Some((first, last)) = busy.first().zip(busy.last()) else {
            return Ok(());
        };
        let window = Span {
            start: first.start,
            end: last.end,
        };
        let steps = &self.analysis.steps;
        let marks = steps
            .spans
            .iter()
            .zip(&steps.busy)
            .filter_map(|((step, _), busy)| {
                let (first, last) = busy.spans.first().zip(busy.spans.last())?;
                let span = Span {
                    start: first.start,
                    end: last.end,
                };
                Some((format!("step {step}"), span))
            });
        let marks: Vec<(String, Span)> = marks.collect();
        writeln!(f, "<h2>GPU busy</h2>\n{}", svg::busy(window, busy, &marks))
    }

    fn memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = &self.analysis.recorded.memory;
        let on_device = all.iter().any(|sample| sample.on_device);
        let samples: Vec<_> = (all.iter().copied())
            .filter(|sample| sample.on_device == on_device)
            .collect();
        if samples.is_empty() {
            return Ok(());
        }
        let what = if on_device {
            "GPU memory in tensors"
        } else {
            "Host memory"
        };
        let chart = svg::memory(self.analysis.window, &samples);
        writeln!(f, "<h2>{what}</h2>\n{chart}")
    }

    /// A table of the first rows; nothing without any.
    fn rows<R: Row>(&self, rows: &[R], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = rows.first() else {
            return Ok(());
        };
        let has_device = self.report.device.is_some();
        let header = first.header(R::ONE, has_device);
        let rows = rows.iter().take(TOP).map(|row| {
            let bar = row.share_pct().unwrap_or(0.0) / 100.0;
            (row.name(), bar, row.cells(has_device))
        });
        section(f, R::TITLE, &header, rows)
    }

    fn gaps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gaps = &self.report.gaps;
        let names: Vec<String> = (gaps.iter())
            .map(|gap| {
                let mut name = format!("before {}", gap.before);
                for share in &gap.host {
                    let _ = write!(name, "\n{}: {} us", share.what, fixed(share.us));
                }
                name
            })
            .collect();
        let longest = gaps.first().map_or(0.0, |gap| gap.us);
        let rows = gaps.iter().zip(&names).map(|(gap, name)| {
            let step = gap.step.map_or_else(String::new, |step| step.to_string());
            let cells = vec![step, fixed(gap.at_ms), fixed(gap.us)];
            (name.as_str(), share(gap.us, longest), cells)
        });
        section(
            f,
            "Longest gaps of the GPU",
            &["gap, and the host meanwhile", "step", "at ms", "us"],
            rows,
        )
    }
}

/// A table under a heading; nothing without rows.
fn section<'a>(
    f: &mut fmt::Formatter<'_>,
    heading: &str,
    header: &[&str],
    rows: impl Iterator<Item = (&'a str, f64, Vec<String>)>,
) -> fmt::Result {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    writeln!(f, "<h2>{heading}</h2>")?;
    table(f, header, rows)
}

/// Rows with a name, a bar from 0 to 1 under it, and numbers.
fn table<'a>(
    f: &mut fmt::Formatter<'_>,
    header: &[&str],
    rows: impl Iterator<Item = (&'a str, f64, Vec<String>)>,
) -> fmt::Result {
    write!(f, "<table><tr>")?;
    for cell in header {
        write!(f, "<th>{cell}</th>")?;
    }
    writeln!(f, "</tr>")?;
    for (name, bar, cells) in rows {
        let name = escape(name);
        write!(
            f,
            "<tr><td><span class=\"name\" title=\"{name}\">{}</span>",
            name.replace('\n', "<br>")
        )?;
        if bar > 0.0 {
            write!(
                f,
                "<div style=\"width:{:.1}%\"></div>",
                bar.min(1.0) * 100.0
            )?;
        }
        write!(f, "</td>")?;
        for cell in cells {
            write!(f, "<td>{}</td>", escape(&cell))?;
        }
        writeln!(f, "</tr>")?;
    }
    writeln!(f, "</table>")
}
