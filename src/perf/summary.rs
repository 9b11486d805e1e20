//! A run in one line, for those who ask why it was slow.

use std::fmt;

use super::report::{PerfReport, RequestRecord};
use crate::pipeline::observer::Stage;

/// Where the time of a run went; sums over its requests.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    /// Loading all components.
    pub load_ms: f64,
    /// Prompts to embeddings.
    pub text_ms: f64,
    /// The denoising loops.
    pub denoise_ms: f64,
    /// The steps of those loops; absent when there were none.
    pub steps: Option<StepSummary>,
    /// VAE decode.
    pub decode_ms: f64,
    /// Encoding and writing the pictures.
    pub save_ms: f64,
}

/// The denoising steps of all requests.
#[derive(Debug, Clone, PartialEq)]
pub struct StepSummary {
    /// Half of the steps took no longer.
    pub median_ms: f64,
    /// The longest step.
    pub worst_ms: f64,
    /// Its number, from 0.
    pub worst_step: usize,
    /// Its request, from 0, where there were several.
    pub worst_request: Option<usize>,
}

impl fmt::Display for RunSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |ms: f64| format!("{:.2} s", ms / 1e3);
        write!(
            f,
            "load {}, text {}, denoise {}",
            s(self.load_ms),
            s(self.text_ms),
            s(self.denoise_ms)
        )?;
        if let Some(steps) = &self.steps {
            write!(
                f,
                " (median step {:.1} ms, worst {:.1} ms at step {}",
                steps.median_ms, steps.worst_ms, steps.worst_step
            )?;
            match steps.worst_request {
                Some(request) => write!(f, " of request {request})")?,
                None => f.write_str(")")?,
            }
        }
        write!(
            f,
            ", decode {}, save {}",
            s(self.decode_ms),
            s(self.save_ms)
        )
    }
}

impl PerfReport {
    /// The most that the device's tensors took at once in any request, in MiB; none on the CPU.
    #[must_use]
    pub fn peak_gpu_mib(&self) -> Option<f64> {
        let checkpoints = (self.records()).flat_map(|record| &record.memory_checkpoints);
        let peaks = checkpoints.map(|(_, memory)| memory.peak_allocated_mb);
        peaks.filter(|peak| *peak > 0.0).reduce(f64::max)
    }

    /// All requests.
    fn records(&self) -> impl Iterator<Item = &RequestRecord> {
        std::iter::once(&self.first).chain(self.requests.iter().map(|request| &request.record))
    }

    /// The summary of the run.
    #[must_use]
    pub fn summary(&self) -> RunSummary {
        let records: Vec<_> = self.records().collect();
        let stage_ms = |stage: Stage| {
            let stages = records.iter().flat_map(|record| &record.stages);
            stages
                .filter(|s| s.name == stage.name())
                .map(|s| s.duration_ms)
                .sum()
        };
        let saves = self.requests.iter().filter_map(|request| request.save_ms);
        RunSummary {
            load_ms: self.load.iter().map(|(_, load)| load.duration_ms).sum(),
            text_ms: stage_ms(Stage::TextEncoding),
            denoise_ms: stage_ms(Stage::Denoising),
            steps: summarise_steps(&records),
            decode_ms: stage_ms(Stage::Decoding),
            // An empty sum of floats is -0.0.
            save_ms: self
                .save_ms
                .into_iter()
                .chain(saves)
                .fold(0.0, |sum, ms| sum + ms),
        }
    }
}

fn summarise_steps(records: &[&RequestRecord]) -> Option<StepSummary> {
    let mut steps: Vec<(f64, usize, usize)> = (records.iter().enumerate())
        .flat_map(|(request, record)| {
            let steps = record.denoise_steps_ms.iter();
            steps.map(move |step| (step.duration_ms, step.step, request))
        })
        .collect();
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    let &(worst_ms, worst_step, worst_request) = steps.last()?;
    let middle = steps.len() / 2;
    let median_ms = if steps.len().is_multiple_of(2) {
        f64::midpoint(steps[middle - 1].0, steps[middle].0)
    } else {
        steps[middle].0
    };
    Some(StepSummary {
        median_ms,
        worst_ms,
        worst_step,
        worst_request: (records.len() > 1).then_some(worst_request),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::report::tests::{record, report};

    #[test]
    fn sums_over_the_requests() {
        assert_eq!(
            report().summary(),
            RunSummary {
                load_ms: 11.5,
                text_ms: 4.0,
                denoise_ms: 110.0,
                steps: Some(StepSummary {
                    median_ms: 25.0,
                    worst_ms: 50.0,
                    worst_step: 0,
                    worst_request: Some(1),
                }),
                decode_ms: 8.0,
                save_ms: 7.5,
            }
        );
    }

    #[test]
    fn is_one_line() {
        let mut summary = RunSummary {
            load_ms: 1_234.0,
            text_ms: 20.0,
            denoise_ms: 35_004.0,
            steps: summarise_steps(&[&record("id", &[3.0, 9.0, 1.0]), &record("id", &[])]),
            decode_ms: 456.0,
            save_ms: 70.0,
        };
        let (before, after) = (
            "load 1.23 s, text 0.02 s, denoise 35.00 s",
            ", decode 0.46 s, save 0.07 s",
        );
        let steps = " (median step 3.0 ms, worst 9.0 ms at step 1 of request 0)";
        assert_eq!(summary.to_string(), format!("{before}{steps}{after}"));
        summary.steps = None;
        assert_eq!(summary.to_string(), format!("{before}{after}"));
    }

    #[test]
    fn the_median_of_an_odd_number_of_steps_is_the_middle_one() {
        let summary = summarise_steps(&[&record("id", &[3.0, 9.0, 1.0])]);
        assert_eq!(
            summary,
            Some(StepSummary {
                median_ms: 3.0,
                worst_ms: 9.0,
                worst_step: 1,
                worst_request: None,
            })
        );
        assert_eq!(summarise_steps(&[&record("id", &[])]), None);
    }
}
