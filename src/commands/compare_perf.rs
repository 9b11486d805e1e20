//! `compare-perf`: perf dumps side by side, as a check where a limit is given.

use std::fmt::Write as _;
use std::io::Write;

use jiff::ZonedDateTime;

use super::Verdict;
use crate::cli::compare_perf::ComparePerfArgs;
use crate::cli::console::write_result;
use crate::error::Result;
use crate::perf::{Comparison, Dump};

/// Writes the report to `out` and checks the limit; failed where a dump is slower than it allows.
///
/// # Errors
/// [`Error::Input`](crate::Error::Input) when a dump cannot be used, before anything is written.
pub fn run(args: &ComparePerfArgs, out: &mut dyn Write) -> Result<Verdict> {
    let new = args.new.iter().map(|path| Dump::read(path));
    let comparison = Comparison {
        base: Dump::read(&args.base)?,
        new: new.collect::<Result<_>>()?,
        time: ZonedDateTime::now().datetime(),
    };
    let mut report = comparison.to_string();
    let mut verdict = Verdict::Passed;
    if let Some(limit) = args.fail_above {
        let what = args.stage.as_deref().unwrap_or("E2E Latency");
        report += "\n#### 3. Check\n";
        for check in comparison.check(args.stage.as_deref(), limit)? {
            let mark = if check.regressed { "❌" } else { "✅" };
            let (mut file, change) = (check.file_name, check.change_pct);
            if check.request > 0 {
                let _ = write!(file, ", request {}", check.request);
            }
            let change = if change.is_finite() {
                format!("{change:+.1}%")
            } else {
                "from 0 ms".to_owned()
            };
            let _ = writeln!(report, "- {mark} {file}: {what} {change}, limit +{limit}%");
            if check.regressed {
                verdict = Verdict::Failed;
            }
        }
    }
    write_result(out, report.as_bytes())?;
    Ok(verdict)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::Error;

    /// Runs on dumps of these totals, the first being the baseline.
    fn compare(totals: &[f64], fail_above: Option<f64>) -> (Result<Verdict>, String) {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = totals.iter().enumerate().map(|(i, total)| {
            let path = folder.path().join(format!("{i}.json"));
            fs::write(
                &path,
                format!(r#"{{"total_duration_ms": {total}, "steps": []}}"#),
            )
            .unwrap();
            path
        });
        let args = ComparePerfArgs {
            base: paths.next().unwrap(),
            new: paths.collect(),
            fail_above,
            stage: None,
        };
        let mut out = Vec::new();
        let verdict = run(&args, &mut out);
        (verdict, String::from_utf8(out).unwrap())
    }

    #[test]
    fn without_a_limit_only_the_report_is_written() {
        let (verdict, report) = compare(&[100.0, 900.0], None);
        assert_eq!(verdict.unwrap(), Verdict::Passed);
        assert!(report.ends_with("</details>\n"));
    }

    #[test]
    fn any_dump_beyond_the_limit_is_a_regression() {
        let (verdict, report) = compare(&[100.0, 105.0, 106.5], Some(5.0));
        assert_eq!(verdict.unwrap(), Verdict::Failed);
        let (_, check) = report.split_once("#### 3. Check\n").unwrap();
        assert_eq!(
            check,
            "- ✅ 1.json: E2E Latency +5.0%, limit +5%\n\
             - ❌ 2.json: E2E Latency +6.5%, limit +5%\n"
        );
        assert_eq!(
            compare(&[100.0, 105.0], Some(5.0)).0.unwrap(),
            Verdict::Passed
        );
    }

    #[test]
    fn an_unusable_dump_is_an_error_and_writes_nothing() {
        let (verdict, report) = compare(&[100.0, -1.0], None);
        assert!(matches!(verdict, Err(Error::Input { .. })));
        assert_eq!(report, "");
    }
}
