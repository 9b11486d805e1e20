//! Which part of a request is recorded: a pure function of what was asked and of how many steps run.

use std::ops::Range;

/// Steps before the recorded ones when stages are not recorded.
const WARM_UP_STEPS: usize = 1;

/// What the profiling flags ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// This many denoising steps after one warm-up step.
    Steps(usize),
    /// All denoising steps after one warm-up step.
    AllSteps,
    /// All stages, with all steps.
    AllStages,
}

/// The recorded part of a request of a known number of steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    extent: Extent,
    steps: Range<usize>,
}

impl Window {
    /// The window of a request with `num_inference_steps` steps; `None` when it holds no step.
    #[must_use]
    pub fn new(extent: Extent, num_inference_steps: usize) -> Option<Self> {
        let steps = match extent {
            Extent::Steps(n) => {
                WARM_UP_STEPS..num_inference_steps.min(n.saturating_add(WARM_UP_STEPS))
            }
            Extent::AllSteps => WARM_UP_STEPS..num_inference_steps,
            Extent::AllStages => 0..num_inference_steps,
        };
        (!steps.is_empty()).then_some(Self { extent, steps })
    }

    /// Whether everything from the first stage to the last is recorded.
    #[must_use]
    pub fn records_stages(&self) -> bool {
        self.extent == Extent::AllStages
    }

    /// The recorded steps.
    #[must_use]
    pub fn steps(&self) -> Range<usize> {
        self.steps.clone()
    }

    /// How many steps were asked for, where fewer are recorded.
    #[must_use]
    pub fn asked_for_more(&self) -> Option<usize> {
        match self.extent {
            Extent::Steps(n) if n > self.steps.len() => Some(n),
            _ => None,
        }
    }

    /// The part of the trace's file name that tells what is in it.
    #[must_use]
    pub fn mode(&self) -> String {
        match self.extent {
            Extent::Steps(n) => format!("{n}_steps"),
            Extent::AllSteps => format!("{}_steps", self.steps.len()),
            Extent::AllStages => "full_stages".to_owned(),
        }
    }

    /// The name of the trace of a request.
    #[must_use]
    pub fn file_name(&self, request_id: &str) -> String {
        format!("{request_id}-{}-global-rank0.trace.json.gz", self.mode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warm_up_step_then_exactly_as_many_as_asked() {
        use Extent::{AllStages, AllSteps, Steps};
        let table = [
            (Steps(5), 50, 1..6, None, "5_steps"),
            (Steps(5), 7, 1..6, None, "5_steps"),
            (Steps(5), 6, 1..6, None, "5_steps"),
            (Steps(5), 5, 1..5, Some(5), "5_steps"),
            (Steps(5), 2, 1..2, Some(5), "5_steps"),
            (Steps(1), 2, 1..2, None, "1_steps"),
            (
                Steps(usize::MAX),
                3,
                1..3,
                Some(usize::MAX),
                "18446744073709551615_steps",
            ),
            (AllSteps, 50, 1..50, None, "49_steps"),
            (AllSteps, 2, 1..2, None, "1_steps"),
            (AllStages, 50, 0..50, None, "full_stages"),
            (AllStages, 1, 0..1, None, "full_stages"),
        ];
        for (extent, run, steps, asked, mode) in table {
            let window = Window::new(extent, run).expect("holds a step");
            assert_eq!(window.steps(), steps, "{extent:?} of {run}");
            assert_eq!(window.asked_for_more(), asked, "{extent:?} of {run}");
            assert_eq!(window.mode(), mode, "{extent:?} of {run}");
            assert_eq!(window.records_stages(), extent == AllStages);
        }
    }

    #[test]
    fn a_single_step_is_the_warm_up_and_leaves_nothing_to_record() {
        assert_eq!(Window::new(Extent::Steps(5), 1), None);
        assert_eq!(Window::new(Extent::AllSteps, 1), None);
    }
}
