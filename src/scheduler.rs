//! The noise levels of a run: flow-match Euler, with exactly the float32 operations of diffusers.
//!
//! Source: diffusers 0.42.1, `FlowMatchEulerDiscreteScheduler.set_timesteps`, and
//! `calculate_shift` of `pipeline_qwenimage.py`.

use crate::config::scheduler::{FILE, SchedulerConfig, TimeShift};
use crate::error::{Error, Result};
use crate::weights::fault;

/// Sigmas and timesteps of one run of `n` steps.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowMatchSchedule {
    /// Share of noise before each step, from high to low, then 0 after the last: `[n + 1]`.
    pub sigmas: Vec<f32>,
    /// `sigma * num_train_timesteps` before each step: `[n]`.
    pub timesteps: Vec<f32>,
}

impl FlowMatchSchedule {
    /// The schedule of `num_inference_steps` evenly spaced steps, shifted for an image of
    /// `image_seq_len` tokens.
    ///
    /// # Errors
    /// [`Error::Usage`] for 0 steps; [`Error::Checkpoint`] when the settings give no decreasing
    /// sigmas.
    pub fn new(
        config: &SchedulerConfig,
        image_seq_len: usize,
        num_inference_steps: usize,
    ) -> Result<Self> {
        if num_inference_steps == 0 {
            return Err(Error::usage("--num-inference-steps must be at least 1"));
        }
        let mut sigmas = linspace_to_zero(num_inference_steps);
        if config.use_dynamic_shifting {
            let mu = mu(config, image_seq_len);
            let e = to_f32(match config.time_shift_type {
                TimeShift::Exponential => mu.exp(),
                TimeShift::Linear => mu,
            });
            for s in &mut sigmas {
                *s = e / (e + (1.0 / *s - 1.0));
            }
        } else {
            let (shift, excess) = (to_f32(config.shift), to_f32(config.shift - 1.0));
            for s in &mut sigmas {
                *s = shift * *s / (1.0 + excess * *s);
            }
        }
        if let Some(terminal) = config.shift_terminal
            && terminal != 0.0
        {
            stretch_to_terminal(&mut sigmas, terminal);
        }
        if !decrease_in_unit_range(&sigmas) {
            return Err(fault(
                FILE,
                format!("the shift for {image_seq_len} image tokens gives no decreasing sigmas"),
            ));
        }
        let scale = to_f32(config.num_train_timesteps.into());
        let timesteps = sigmas.iter().map(|s| s * scale).collect();
        sigmas.push(0.0);
        Ok(Self { sigmas, timesteps })
    }

    /// Number of steps, `n`.
    #[must_use]
    pub fn num_steps(&self) -> usize {
        self.timesteps.len()
    }

    /// What the transformer is given before each step: `timesteps / 1000`, `[n]`.
    #[must_use]
    pub fn timesteps_scaled(&self) -> Vec<f32> {
        self.timesteps.iter().map(|t| t / 1000.0).collect()
    }
}

/// The shift for an image of `image_seq_len` tokens: linear through
/// `(base_image_seq_len, base_shift)` and `(max_image_seq_len, max_shift)`, and beyond both.
#[must_use]
pub fn mu(config: &SchedulerConfig, image_seq_len: usize) -> f64 {
    let (base_len, max_len) = (
        f64::from(config.base_image_seq_len),
        f64::from(config.max_image_seq_len),
    );
    let slope = (config.max_shift - config.base_shift) / (max_len - base_len);
    to_f64(image_seq_len) * slope + (config.base_shift - slope * base_len)
}

/// `n` values from 1 to `1 / n`, with numpy's float64 operations (`linspace`), as float32.
fn linspace_to_zero(n: usize) -> Vec<f32> {
    let last = 1.0 / to_f64(n);
    // `n == 1` makes `step` NaN, and nothing reads it.
    let step = (last - 1.0) / (to_f64(n) - 1.0);
    (0..n)
        .map(|i| match i {
            0 => 1.0,
            i if i == n - 1 => to_f32(last),
            i => to_f32(to_f64(i) * step + 1.0),
        })
        .collect()
}

/// Whether every sigma is in `(0, 1]` and below the one before it; false for NaN.
fn decrease_in_unit_range(sigmas: &[f32]) -> bool {
    sigmas.iter().all(|&s| s > 0.0 && s <= 1.0) && sigmas.is_sorted_by(|a, b| a > b)
}

/// Stretches the distance from 1 so that the last sigma becomes `terminal`.
///
/// A last sigma of 1, which is the case of a single step, has no distance to stretch: diffusers
/// divides zero by zero there. It stays 1, so that one step goes all the way from noise to image.
fn stretch_to_terminal(sigmas: &mut [f32], terminal: f64) {
    let Some(&last) = sigmas.last().filter(|&&last| last < 1.0) else {
        return;
    };
    let factor = (1.0 - last) / to_f32(1.0 - terminal);
    for s in sigmas {
        *s = 1.0 - (1.0 - *s) / factor;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to float32 is what numpy does here"
)]
fn to_f32(x: f64) -> f32 {
    x as f32
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of tokens and steps are far below 2^53"
)]
fn to_f64(x: usize) -> f64 {
    x as f64
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn qwen_image() -> SchedulerConfig {
        SchedulerConfig {
            max_image_seq_len: 8192,
            max_shift: 0.9,
            shift_terminal: Some(0.02),
            use_dynamic_shifting: true,
            ..SchedulerConfig::default()
        }
    }

    #[test]
    fn sigmas_start_at_one_and_end_at_zero() {
        for steps in 1..=100 {
            let schedule = FlowMatchSchedule::new(&qwen_image(), 4096, steps).unwrap();
            assert_eq!(schedule.sigmas.len(), steps + 1);
            assert_eq!(schedule.timesteps.len(), steps);
            assert_eq!(schedule.sigmas.first(), Some(&1.0));
            assert_eq!(schedule.sigmas.last(), Some(&0.0));
            assert!(schedule.sigmas.is_sorted_by(|a, b| a > b));
        }
    }

    #[test]
    fn one_step_goes_from_noise_to_image() {
        let schedule = FlowMatchSchedule::new(&qwen_image(), 4096, 1).unwrap();
        assert_eq!(schedule.sigmas, [1.0, 0.0]);
        assert_eq!(schedule.timesteps, [1000.0]);
    }

    #[test]
    fn mu_is_not_clamped() {
        let config = qwen_image();
        assert!((mu(&config, 256) - 0.5).abs() < 1e-15);
        assert!((mu(&config, 8192) - 0.9).abs() < 1e-15);
        assert!(mu(&config, 16) < 0.5 && mu(&config, 16384) > 0.9);
    }

    #[test]
    fn static_shift_ignores_the_image_size() {
        let config = SchedulerConfig {
            shift: 3.0,
            ..SchedulerConfig::default()
        };
        let schedule = FlowMatchSchedule::new(&config, 4096, 4).unwrap();
        assert_eq!(schedule.sigmas, [1.0, 0.9, 0.75, 0.5, 0.0]);
        assert_eq!(schedule, FlowMatchSchedule::new(&config, 256, 4).unwrap());
    }

    #[test]
    fn flow_shift_of_3_is_lightnings_schedule_at_every_size() {
        let config = qwen_image().with_flow_shift(3.0);
        let schedule = FlowMatchSchedule::new(&config, 4096, 8).unwrap();
        assert_eq!(
            schedule.sigmas,
            [
                1.0,
                0.954_545_5,
                0.9,
                0.833_333_4,
                0.75,
                0.642_857_1,
                0.5,
                0.3,
                0.0
            ]
        );
        assert_eq!(schedule, FlowMatchSchedule::new(&config, 256, 8).unwrap());
    }

    #[test]
    fn every_flow_shift_within_its_range_has_a_schedule() {
        for shift in [0.01, 1.0, 100.0] {
            for steps in [1, 1000] {
                let config = qwen_image().with_flow_shift(shift);
                FlowMatchSchedule::new(&config, 4096, steps).unwrap();
            }
        }
    }

    #[test]
    fn linear_shift_takes_mu_itself() {
        let config = SchedulerConfig {
            base_shift: 3.0,
            max_shift: 3.0,
            use_dynamic_shifting: true,
            time_shift_type: TimeShift::Linear,
            ..SchedulerConfig::default()
        };
        let schedule = FlowMatchSchedule::new(&config, 4096, 4).unwrap();
        assert_eq!(schedule.sigmas, [1.0, 0.9, 0.75, 0.5, 0.0]);
    }

    #[test]
    fn refuses_zero_steps() {
        let error = FlowMatchSchedule::new(&qwen_image(), 4096, 0).unwrap_err();
        assert!(matches!(error, Error::Usage { .. }));
    }

    #[test]
    fn refuses_a_shift_that_overflows() {
        let config = SchedulerConfig {
            max_shift: 1e30,
            ..qwen_image()
        };
        let error = FlowMatchSchedule::new(&config, 4096, 4).unwrap_err();
        assert!(error.to_string().contains("4096 image tokens"));
    }
}
