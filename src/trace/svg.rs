//! Charts as SVG: no scripts, a tooltip on every mark.

use std::fmt::Write as _;

use super::analysis::ms;
use super::numbers::fixed;
use super::recorded::{MemorySample, Span};

/// Width of all charts.
const WIDTH: f64 = 960.0;

/// Text for HTML.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c if c.is_control() && c != '\n' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A chart that is being drawn: its SVG so far, without the end.
struct Drawing(String);

impl Drawing {
    fn new(height: f64, what: &str) -> Self {
        Self(format!(
            r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{}">"#,
            escape(what)
        ))
    }

    /// A rectangle with a tooltip; `class` sets its colour.
    fn bar(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64), tip: &str) {
        let _ = write!(
            self.0,
            r#"<rect class="{class}" x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}"><title>{}</title></rect>"#,
            escape(tip)
        );
    }

    fn text(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let _ = write!(
            self.0,
            r#"<text class="{class}" x="{x:.2}" y="{y:.2}">{}</text>"#,
            escape(text)
        );
    }

    fn end(mut self) -> String {
        self.0 += "</svg>\n";
        self.0
    }
}

/// Parts of a whole as one bar; names stand on parts that are wide enough.
pub(super) fn stacked(parts: &[(String, f64)]) -> String {
    let whole: f64 = parts.iter().map(|(_, ms)| ms).sum();
    let mut drawing = Drawing::new(44.0, "time by stage");
    let mut x = 0.0;
    for (index, (name, ms)) in parts.iter().enumerate() {
        let width = share(*ms, whole) * WIDTH;
        let tip = format!("{name}: {} ms", fixed(*ms));
        drawing.bar(&format!("part{}", index % 6), (x, 0.0), (width, 28.0), &tip);
        #[expect(clippy::cast_precision_loss, reason = "names are short")]
        if width > name.chars().count() as f64 * 8.0 {
            drawing.text("on", (x + 6.0, 19.0), name);
        }
        x += width;
    }
    drawing.end()
}

/// A step's bar: what it took, and of that the busy part where there is a device.
pub(super) struct StepBar {
    pub(super) step: u64,
    pub(super) ms: f64,
    pub(super) busy_ms: Option<f64>,
}

/// A bar for each step, from zero up.
pub(super) fn steps(bars: &[StepBar]) -> String {
    const HEIGHT: f64 = 160.0;
    let most = bars.iter().map(|bar| bar.ms).fold(0.0, f64::max);
    let mut drawing = Drawing::new(HEIGHT + 34.0, "time of each step");
    #[expect(clippy::cast_precision_loss, reason = "steps are few")]
    let pitch = WIDTH / bars.len().max(1) as f64;
    let width = (pitch * 0.8).min(80.0);
    let mut x = 0.0;
    for bar in bars {
        let height = share(bar.ms, most) * HEIGHT;
        let busy = share(bar.busy_ms.unwrap_or(bar.ms), most) * HEIGHT;
        let tip = match bar.busy_ms {
            Some(busy) => format!(
                "step {}: {} ms, GPU busy {} ms",
                bar.step,
                fixed(bar.ms),
                fixed(busy)
            ),
            None => format!("step {}: {} ms", bar.step, fixed(bar.ms)),
        };
        let top = 14.0 + HEIGHT;
        drawing.bar("idle", (x, top - height), (width, height - busy), &tip);
        drawing.bar("busy", (x, top - busy), (width, busy), &tip);
        if pitch >= 44.0 {
            drawing.text(
                "value",
                (x + width / 2.0, top - height - 4.0),
                &fixed(bar.ms),
            );
        }
        if pitch >= 18.0 {
            drawing.text("axis", (x + width / 2.0, top + 16.0), &bar.step.to_string());
        }
        x += pitch;
    }
    drawing.end()
}

/// How busy the device was over the window, in columns, with the starts of steps as lines.
pub(super) fn busy(window: Span, busy: &[Span], marks: &[(String, Span)]) -> String {
    const COLUMNS: u32 = 480;
    const HEIGHT: f64 = 60.0;
    let mut drawing = Drawing::new(HEIGHT + 34.0, "busy share of the device over time");
    let width = WIDTH / f64::from(COLUMNS);
    let edge = |column: u32| {
        let part = i128::from(window.duration()) * i128::from(column) / i128::from(COLUMNS);
        window.start + i64::try_from(part).unwrap_or(i64::MAX)
    };
    let mut first = 0;
    for column in 0..COLUMNS {
        let span = Span {
            start: edge(column),
            end: edge(column + 1),
        };
        first += busy[first..].partition_point(|busy| busy.end <= span.start);
        let inside = busy[first..]
            .iter()
            .take_while(|busy| busy.start < span.end);
        let ns: i64 = inside.map(|busy| busy.overlap(span)).sum();
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let part = share(ns as f64, span.duration() as f64);
        let height = part * HEIGHT;
        let at = (f64::from(column) * width, HEIGHT - height);
        drawing.bar(
            "busy",
            at,
            (width, height),
            &format!("{:.0} % busy", part * 100.0),
        );
    }
    drawing.text("label", (0.0, HEIGHT + 30.0), "0 ms");
    let end = format!("{} ms", fixed(ms(window.duration())));
    drawing.text("end", (WIDTH, HEIGHT + 30.0), &end);
    for (name, span) in marks {
        let x = position(span.start, window);
        drawing.bar("mark", (x, 0.0), (1.0, HEIGHT), name);
        if position(span.end, window) - x > 40.0 {
            drawing.text("label", (x + 3.0, HEIGHT + 14.0), name);
        }
    }
    drawing.end()
}

/// Memory over the window as a line from zero up.
pub(super) fn memory(window: Span, samples: &[MemorySample]) -> String {
    const HEIGHT: f64 = 100.0;
    const MOST_POINTS: usize = 4000;
    #[expect(clippy::cast_precision_loss, reason = "drawn")]
    let mb = |sample: &MemorySample| sample.bytes as f64 / 1e6;
    let most = samples.iter().map(mb).fold(0.0, f64::max);
    let mut drawing = Drawing::new(HEIGHT + 24.0, "memory over time");
    // The highest of each run of samples, and the last, which stays.
    let runs = samples.chunks(samples.len().div_ceil(MOST_POINTS).max(1));
    let highest = runs.filter_map(|run| run.iter().max_by_key(|sample| sample.bytes));
    let last = samples.last().copied().map(|sample| MemorySample {
        at: window.end,
        ..sample
    });
    let mut line = String::new();
    for sample in highest.chain(&last) {
        let x = position(sample.at, window);
        let y = 18.0 + HEIGHT * (1.0 - share(mb(sample), most));
        let _ = write!(line, "{x:.2},{y:.2} ");
    }
    let _ = write!(
        drawing.0,
        r#"<polyline class="line" points="{}"/>"#,
        line.trim_end()
    );
    drawing.text("label", (0.0, 12.0), &format!("{} MB", fixed(most)));
    drawing.text("label", (0.0, HEIGHT + 22.0), "0");
    drawing.end()
}

#[expect(clippy::cast_precision_loss, reason = "drawn")]
fn position(at: i64, window: Span) -> f64 {
    let offset = at.saturating_sub(window.start) as f64;
    share(offset, window.duration() as f64) * WIDTH
}

/// `part` of `whole`, from 0 to 1.
pub(super) fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 {
        (part / whole).clamp(0.0, 1.0)
    } else {
        0.0
    }
}
