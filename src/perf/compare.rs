//! Compares perf dumps with a baseline, and against a limit.

use jiff::civil::DateTime;

use super::dump::Dump;
use crate::error::Result;

/// What takes less is noise of the clock, or was done in the first request for all.
const LEAST_MS: f64 = 0.1;

/// A baseline and what is compared with it; displayed as upstream's Markdown report.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The baseline.
    pub base: Dump,
    /// One dump or more; a single one gets columns of differences.
    pub new: Vec<Dump>,
    /// Local time of the comparison.
    pub time: DateTime,
}

/// One request checked against the baseline's.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The dump's file name.
    pub file_name: String,
    /// Which of its requests, from 0.
    pub request: usize,
    /// Above 0 is slower.
    pub change_pct: f64,
    /// Whether it is slower by more than the limit.
    pub regressed: bool,
}

impl Comparison {
    /// Checks that no request is slower than the baseline's of the same index by more than
    /// `limit_pct`, as a whole or in one stage.
    ///
    /// # Errors
    /// [`crate::Error::Input`] when a request lacks the stage, the first request's is too short to be
    /// compared, or a dump has more or fewer requests.
    pub fn check(&self, stage: Option<&str>, limit_pct: f64) -> Result<Vec<Check>> {
        for dump in &self.new {
            dump.check_requests(&self.base)?;
        }
        let pairs = self.new.iter().flat_map(|dump| {
            let requests = self.base.requests().zip(dump.requests());
            // The first request encodes the texts of all: there is nothing to compare in the others.
            let is_nothing = |dump: &Dump| {
                let stage = stage.and_then(|name| dump.stage(name));
                stage.is_some_and(|stage| stage.duration_ms < LEAST_MS)
            };
            let requests = requests.enumerate();
            requests.filter(move |(request, (base, new))| {
                *request == 0 || !(is_nothing(base) && is_nothing(new))
            })
        });
        pairs
            .map(|(request, (base, dump))| {
                let ms = |dump: &Dump| match stage.and_then(|name| dump.stage(name)) {
                    // Nothing is a duration there.
                    Some(stage) if request > 0 => Ok(stage.duration_ms),
                    _ => dump.duration_ms(stage),
                };
                let (base, new) = (ms(base)?, ms(dump)?);
                if let Some(name) = stage
                    && base.max(new) < LEAST_MS
                {
                    let why = format!(
                        "stage `{name}` took {new:.4} ms, before {base:.4} ms: less than {LEAST_MS} ms cannot be compared"
                    );
                    return Err(dump.unusable(why));
                }
                // Decimal fractions are not exact: 1.1 is not above 1 by more than 10 %.
                let limit = base * (100.0 + limit_pct) / 100.0 * (1.0 + 1e-12);
                Ok(Check {
                    file_name: dump.file_name(),
                    request,
                    change_pct: if base > 0.0 {
                        change_pct(base, new)
                    } else {
                        f64::INFINITY
                    },
                    regressed: new > limit,
                })
            })
            .collect()
    }

    /// All stages: in the order of the last dump, then what only earlier ones have.
    pub(super) fn stage_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for dump in self.new.iter().rev().chain([&self.base]) {
            for stage in &dump.stages {
                if !names.contains(&&*stage.name) {
                    names.push(&stage.name);
                }
            }
        }
        names
    }
}

/// How much more than `base` is `new`; as upstream, 0 where there is no base.
pub(super) fn change_pct(base: f64, new: f64) -> f64 {
    if base == 0.0 {
        0.0
    } else {
        (new - base) / base * 100.0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(super) mod tests {
    use super::*;
    use crate::perf::dump::tests::read;

    pub(in crate::perf) fn dump(
        name: &str,
        commit: &str,
        total_ms: f64,
        stages: &[(&str, f64)],
    ) -> Dump {
        let stages: Vec<_> = (stages.iter())
            .map(|(name, ms)| serde_json::json!({"name": name, "duration_ms": ms}))
            .collect();
        let json = serde_json::json!({
            "total_duration_ms": total_ms, "steps": stages, "commit_hash": commit,
        });
        read(name, &json.to_string()).unwrap()
    }

    pub(in crate::perf) fn comparison(base: Dump, new: Vec<Dump>) -> Comparison {
        let time = jiff::civil::datetime(2026, 1, 2, 3, 4, 5, 678_901_000);
        Comparison { base, new, time }
    }

    #[test]
    fn runs_of_other_lengths_are_not_checked() {
        let of_steps = |steps: &str| {
            let json = format!(
                r#"{{"total_duration_ms": 1, "steps": [], "denoise_steps_ms": [{steps}]}}"#
            );
            read("d.json", &json).unwrap()
        };
        let check = |base, new| comparison(base, vec![new]).check(None, 5.0);
        let error = check(of_steps("1, 1"), of_steps("1"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("denoising steps in it: 1, in "), "{error}");
        assert!(check(of_steps("1"), of_steps("1")).is_ok());
        assert!(check(of_steps("1"), of_steps("")).is_ok());

        let old = |steps: usize| {
            let steps: Vec<_> = (0..steps)
                .map(|step| (format!("denoising_step_{step}"), 1.0))
                .collect();
            let steps: Vec<_> = steps.iter().map(|(name, ms)| (&**name, *ms)).collect();
            dump("old.json", "", 1.0, &steps)
        };
        assert!(check(old(2), of_steps("1")).is_err());
        assert!(check(old(2), old(3)).is_err());
        assert!(check(old(2), of_steps("1, 1")).is_ok());
    }

    #[test]
    fn a_change_at_the_limit_passes_and_above_it_fails() {
        for (base, new, limit, regressed) in [
            (100.0, 110.0, 10.0, false),
            (100.0, 110.000_001, 10.0, true),
            (100.0, 115.0, 15.0, false),
            (1.0, 1.1, 10.0, false),
            (0.3, 0.321, 7.0, false),
            (100.0, 100.0, 0.0, false),
            (100.0, 100.001, 0.0, true),
            (100.0, 50.0, 0.0, false),
        ] {
            let base = dump("a.json", "", base, &[]);
            let check = comparison(base, vec![dump("b.json", "", new, &[])]).check(None, limit);
            assert_eq!(check.unwrap()[0].regressed, regressed, "{new} at {limit} %");
        }
    }

    #[test]
    fn a_stage_that_the_clock_cannot_tell_is_not_checked() {
        let of_stage = |ms| dump("a.json", "", 100.0, &[("A", ms)]);
        let check =
            |base, new| comparison(of_stage(base), vec![of_stage(new)]).check(Some("A"), 5.0);
        let error = check(0.0001, 0.004).unwrap_err().to_string();
        let why = "took 0.0040 ms, before 0.0001 ms: less than 0.1 ms cannot be compared";
        assert!(error.ends_with(why), "{error}");
        assert!(check(0.05, 0.2).unwrap()[0].regressed);
    }

    #[test]
    fn a_stage_that_has_grown_from_nothing_is_a_regression() {
        let dump = |ms: f64| {
            let request = |stage: f64| {
                serde_json::json!({
                    "total_duration_ms": 100.0,
                    "steps": [{"name": "A", "duration_ms": stage}],
                })
            };
            let mut first = request(10.0);
            first["requests"] = serde_json::json!([request(ms)]);
            read("a.json", &first.to_string()).unwrap()
        };
        for base in [0.0, 0.002] {
            for (new, checks) in [(0.003, vec![false]), (500.0, vec![false, true])] {
                let checked = comparison(dump(base), vec![dump(new)]).check(Some("A"), 5.0);
                let regressed = checked.unwrap().into_iter().map(|check| check.regressed);
                assert_eq!(regressed.collect::<Vec<_>>(), checks, "{base}, {new}");
            }
        }
    }

    #[test]
    fn every_dump_is_checked_in_the_stage_asked_for() {
        let base = dump("a.json", "", 100.0, &[("A", 10.0)]);
        let slower = dump("b.json", "", 50.0, &[("A", 12.5)]);
        let same = dump("c.json", "", 500.0, &[("A", 10.0)]);
        let checks = comparison(base, vec![slower, same])
            .check(Some("A"), 5.0)
            .unwrap();
        let check = |file_name: &str, change_pct, regressed| Check {
            file_name: file_name.into(),
            request: 0,
            change_pct,
            regressed,
        };
        assert_eq!(
            checks,
            [check("b.json", 25.0, true), check("c.json", 0.0, false)]
        );
    }

    #[test]
    fn every_request_is_checked() {
        let with_second = |name: &str, total_ms: f64| {
            let second = serde_json::json!({"total_duration_ms": total_ms, "steps": []});
            let json = serde_json::json!({
                "total_duration_ms": 10, "steps": [], "requests": [second],
            });
            read(name, &json.to_string()).unwrap()
        };
        let (base, slower) = (with_second("a.json", 10.0), with_second("b.json", 20.0));
        let checks = comparison(base, vec![slower]).check(None, 5.0).unwrap();
        let regressed: Vec<_> = checks.iter().map(|c| (c.request, c.regressed)).collect();
        assert_eq!(regressed, [(0, false), (1, true)]);
    }

    #[test]
    fn a_stage_that_any_dump_lacks_is_an_error() {
        let with = dump("a.json", "", 100.0, &[("A", 10.0)]);
        let without = dump("b.json", "", 100.0, &[]);
        assert!(
            comparison(with.clone(), vec![without.clone()])
                .check(Some("A"), 5.0)
                .is_err()
        );
        assert!(
            comparison(without, vec![with])
                .check(Some("A"), 5.0)
                .is_err()
        );
    }
}
