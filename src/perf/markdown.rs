//! A comparison as upstream's `compare_perf` prints it, in Markdown.

use std::fmt;

use super::compare::{Comparison, change_pct};
use super::dump::{DENOISING_LOOP, Dump};

/// End-to-end latency moves by this much without a mark.
const E2E_TOLERANCE_PCT: f64 = 2.0;

/// A stage moves by this share, and by at least this time, without a mark.
const STAGE_TOLERANCE: f64 = 0.1;
const STAGE_TOLERANCE_MS: f64 = 120.0;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### Performance Comparison Report\n")?;
        match &*self.new {
            [new] => self.fmt_pair(f, new)?,
            _ => self.fmt_columns(f)?,
        }
        writeln!(f, "\n\n<details>\n<summary>Metadata</summary>\n")?;
        writeln!(f, "- Baseline Commit: `{}`", cell(&self.base.commit_hash))?;
        for dump in &self.new {
            let label = match self.new.len() {
                1 => "New".into(),
                _ => cell(&dump.file_name()),
            };
            writeln!(f, "- {label} Commit: `{}`", cell(&dump.commit_hash))?;
        }
        if let requests @ 2.. = self.base.requests().count() {
            writeln!(
                f,
                "- Requests: the first of {requests}; `--fail-above` checks all"
            )?;
        }
        writeln!(
            f,
            "- Timestamp: {}",
            self.time.strftime("%Y-%m-%dT%H:%M:%S%.6f")
        )?;
        writeln!(f, "</details>")
    }
}

impl Comparison {
    fn fmt_pair(&self, f: &mut fmt::Formatter<'_>, new: &Dump) -> fmt::Result {
        let (base_ms, new_ms) = (self.base.total_ms, new.total_ms);
        let (diff, pct) = (new_ms - base_ms, change_pct(base_ms, new_ms));
        writeln!(f, "#### 1. High-level Summary")?;
        writeln!(f, "| Metric | Baseline | New | Diff | Status |")?;
        writeln!(f, "| :--- | :--- | :--- | :--- | :--- |")?;
        writeln!(
            f,
            "| **E2E Latency** | {base_ms:.2} ms | {new_ms:.2} ms | **{diff:+.2} ms ({pct:+.1}%)** | {} |",
            e2e_mark(pct)
        )?;
        writeln!(
            f,
            "| **Throughput** | {:.2} req/s | {:.2} req/s | - | - |",
            1e3 / base_ms,
            1e3 / new_ms
        )?;
        writeln!(f, "\n\n#### 2. Stage Breakdown")?;
        writeln!(
            f,
            "| Stage Name | Baseline (ms) | New (ms) | Diff (ms) | Diff (%) | Status |"
        )?;
        writeln!(f, "| :--- | :--- | :--- | :--- | :--- | :--- |")?;
        for name in self.stage_names() {
            let (base_ms, new_ms) = (shown_ms(&self.base, name), shown_ms(new, name));
            let (diff, pct) = (new_ms - base_ms, change_pct(base_ms, new_ms));
            writeln!(
                f,
                "| {}{} | {base_ms:.2} | {new_ms:.2} | {diff:+.2} | {pct:+.1}% | {} |",
                cell(name),
                step_counts(name, &self.base, new),
                stage_mark(base_ms, new_ms)
            )?;
        }
        Ok(())
    }

    fn fmt_columns(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = |f: &mut fmt::Formatter<'_>, first: &str| {
            write!(f, "| {first} | Baseline |")?;
            for dump in &self.new {
                write!(f, " {} |", cell(&dump.file_name()))?;
            }
            writeln!(f, "\n| :--- | :--- |{}", " :--- |".repeat(self.new.len()))
        };
        writeln!(f, "#### 1. High-level Summary")?;
        head(f, "Metric")?;
        let base_ms = self.base.total_ms;
        write!(f, "| **E2E Latency** | {base_ms:.2} ms |")?;
        for dump in &self.new {
            let pct = change_pct(base_ms, dump.total_ms);
            write!(
                f,
                " {:.2} ms ({pct:+.1}%) {} |",
                dump.total_ms,
                e2e_mark(pct)
            )?;
        }
        writeln!(f, "\n\n\n#### 2. Stage Breakdown")?;
        head(f, "Stage Name")?;
        for name in self.stage_names() {
            let base_ms = shown_ms(&self.base, name);
            write!(f, "| {} | {base_ms:.2} |", cell(name))?;
            for dump in &self.new {
                let new_ms = shown_ms(dump, name);
                let (pct, mark) = (change_pct(base_ms, new_ms), stage_mark(base_ms, new_ms));
                write!(f, " {new_ms:.2} ({pct:+.1}%) {mark} |")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// As upstream, a stage that a dump lacks is shown as 0.
fn shown_ms(dump: &Dump, name: &str) -> f64 {
    dump.stage(name).map_or(0.0, |stage| stage.duration_ms)
}

fn step_counts(name: &str, base: &Dump, new: &Dump) -> String {
    let count = |dump: &Dump| dump.stage(name).map_or(1, |stage| stage.count);
    match (count(base), count(new)) {
        _ if name != DENOISING_LOOP => String::new(),
        (base, new) if base == new => format!(" ({new} steps)"),
        (base, new) => format!(" ({base}->{new} steps)"),
    }
}

fn e2e_mark(change_pct: f64) -> &'static str {
    if change_pct < -E2E_TOLERANCE_PCT {
        "✅"
    } else if change_pct > E2E_TOLERANCE_PCT {
        "❌"
    } else {
        "⚪️"
    }
}

fn stage_mark(base: f64, new: f64) -> &'static str {
    let slower = (base * (1.0 + STAGE_TOLERANCE)).max(base + STAGE_TOLERANCE_MS);
    let faster = (base * (1.0 - STAGE_TOLERANCE)).min(base - STAGE_TOLERANCE_MS);
    if new > slower {
        "🔴"
    } else if new < faster {
        "🟢"
    } else {
        "⚪️"
    }
}

/// Text from a file that neither ends a table cell nor a line.
fn cell(text: &str) -> String {
    text.replace(char::is_control, " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::compare::tests::{comparison, dump};

    /// As upstream wrote it before `denoise_steps_ms`.
    fn old(name: &str, steps: usize) -> Dump {
        let steps: Vec<_> = (0..steps).map(|i| format!("denoising_step_{i}")).collect();
        let mut stages = vec![("TextEncodingStage", 834.0), ("ConditioningStage", 0.25)];
        stages.extend(steps.iter().map(|name| (&**name, 422.0)));
        dump(name, "0a1b2c", 2850.0, &stages)
    }

    fn new(name: &str) -> Dump {
        let stages = [
            ("TextEncodingStage", 232.03),
            ("DenoisingStage", 1240.5),
            ("DecodingStage", 17.7),
        ];
        dump(name, "3d4e5f", 1490.23, &stages)
    }

    #[test]
    fn two_dumps_get_columns_of_differences() {
        insta::assert_snapshot!(comparison(old("a.json", 3), vec![new("b.json")]));
    }

    #[test]
    fn old_dumps_show_their_step_counts() {
        insta::assert_snapshot!(comparison(old("a.json", 2), vec![old("b.json", 3)]));
    }

    #[test]
    fn more_dumps_get_a_column_each() {
        let base = new("base.json");
        let new = vec![old("old|3.json", 3), new("same.json")];
        insta::assert_snapshot!(comparison(base, new));
    }

    #[test]
    fn stage_marks_need_a_tenth_and_120_ms() {
        for (base, new, mark) in [
            (100.0, 220.0, "⚪️"),
            (100.0, 220.5, "🔴"),
            (10_000.0, 11_001.0, "🔴"),
            (10_000.0, 10_999.0, "⚪️"),
            (10_000.0, 8_999.0, "🟢"),
            (100.0, 0.0, "⚪️"),
        ] {
            assert_eq!(stage_mark(base, new), mark, "{base} {new}");
        }
    }
}
