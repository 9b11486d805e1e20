//! `scheduler/scheduler_config.json`: how the noise levels of a run are laid out.

use serde::Deserialize;

use super::Rules;
use crate::error::Result;
use crate::weights::parse_json;

/// The file these settings come from, for error messages.
pub(crate) const FILE: &str = "scheduler/scheduler_config.json";

/// The one scheduler class this program implements.
const CLASS_NAME: &str = "FlowMatchEulerDiscreteScheduler";

/// Settings of diffusers' `FlowMatchEulerDiscreteScheduler`.
///
/// Missing fields take the defaults of that class, which are not those of Qwen-Image's file.
/// Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the file")]
pub struct SchedulerConfig {
    /// The scheduler class that the file is for.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// Image tokens at which the shift is `base_shift`.
    pub base_image_seq_len: u32,
    /// The shift `mu` at `base_image_seq_len` tokens.
    pub base_shift: f64,
    /// Image tokens at which the shift is `max_shift`.
    pub max_image_seq_len: u32,
    /// The shift `mu` at `max_image_seq_len` tokens.
    pub max_shift: f64,
    /// Timestep of pure noise: `timestep = sigma * num_train_timesteps`.
    pub num_train_timesteps: u32,
    /// Shift of every image size when `use_dynamic_shifting` is off.
    pub shift: f64,
    /// The last sigma before zero; none or zero leaves the shifted sigmas as they are.
    pub shift_terminal: Option<f64>,
    /// How the dynamic shift enters.
    pub time_shift_type: TimeShift,
    /// Whether the shift follows the image size.
    pub use_dynamic_shifting: bool,
    /// Not supported.
    pub invert_sigmas: bool,
    /// Not supported.
    pub stochastic_sampling: bool,
    /// Not supported.
    pub use_beta_sigmas: bool,
    /// Not supported.
    pub use_exponential_sigmas: bool,
    /// Not supported.
    pub use_karras_sigmas: bool,
}

/// How the dynamic shift `mu` enters `s = e / (e + (1 / u - 1))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeShift {
    /// `e = exp(mu)`.
    Exponential,
    /// `e = mu`.
    Linear,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            class_name: CLASS_NAME.to_owned(),
            base_image_seq_len: 256,
            base_shift: 0.5,
            max_image_seq_len: 4096,
            max_shift: 1.15,
            num_train_timesteps: 1000,
            shift: 1.0,
            shift_terminal: None,
            time_shift_type: TimeShift::Exponential,
            use_dynamic_shifting: false,
            invert_sigmas: false,
            stochastic_sampling: false,
            use_beta_sigmas: false,
            use_exponential_sigmas: false,
            use_karras_sigmas: false,
        }
    }
}

impl SchedulerConfig {
    /// Parses and checks the file's contents.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] when it is not JSON, a field has the wrong type, or
    /// [`validate`](Self::validate) refuses it.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let config: Self = parse_json(FILE, json)?;
        config.validate()?;
        Ok(config)
    }

    /// The same with one shift for every image size and no stretch to a terminal sigma:
    /// `s = shift * u / (1 + (shift - 1) * u)`.
    ///
    /// Computed as the dynamic shift whose `e` is `shift` at every size, so that a shift of 3 is to
    /// the bit what Lightning's authors run: `base_shift = max_shift = ln 3`, `shift_terminal`
    /// null.
    #[must_use]
    pub fn with_flow_shift(self, shift: f64) -> Self {
        Self {
            base_shift: shift,
            max_shift: shift,
            shift_terminal: None,
            time_shift_type: TimeShift::Linear,
            use_dynamic_shifting: true,
            ..self
        }
    }

    /// Refuses what the program does not do, and numbers that give no schedule.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] naming the field, its value and what is supported.
    pub fn validate(&self) -> Result<()> {
        let rules = Rules(FILE);
        rules.ensure(self.class_name == CLASS_NAME, || {
            let name = &self.class_name;
            format!("`_class_name` is {name:?}; only {CLASS_NAME} is supported")
        })?;
        rules.off("invert_sigmas", self.invert_sigmas)?;
        rules.off("stochastic_sampling", self.stochastic_sampling)?;
        rules.off("use_beta_sigmas", self.use_beta_sigmas)?;
        rules.off("use_exponential_sigmas", self.use_exponential_sigmas)?;
        rules.off("use_karras_sigmas", self.use_karras_sigmas)?;
        let (base, max) = (self.base_image_seq_len, self.max_image_seq_len);
        rules.ensure(max > base, || {
            format!("`max_image_seq_len` is {max}, not above `base_image_seq_len`, which is {base}")
        })?;
        rules.ensure(self.num_train_timesteps > 0, || {
            "`num_train_timesteps` is 0".to_owned()
        })?;
        for (field, shift) in [
            ("base_shift", self.base_shift),
            ("max_shift", self.max_shift),
        ] {
            rules.ensure(shift.is_finite(), || {
                format!("`{field}` is {shift}, not a finite number")
            })?;
        }
        rules.ensure(self.shift.is_finite() && self.shift > 0.0, || {
            format!("`shift` is {}, not a number above 0", self.shift)
        })?;
        let terminal = self.shift_terminal.unwrap_or(0.0);
        rules.ensure((0.0..1.0).contains(&terminal), || {
            format!("`shift_terminal` is {terminal}, not a number from 0 to below 1")
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn refusal(json: &str) -> String {
        SchedulerConfig::from_json(json.as_bytes())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn unknown_fields_are_ignored_and_missing_ones_take_the_class_defaults() {
        let config =
            SchedulerConfig::from_json(br#"{"_diffusers_version": "1", "max_shift": 0.9}"#)
                .unwrap();
        let expected = SchedulerConfig {
            max_shift: 0.9,
            ..SchedulerConfig::default()
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn null_shift_terminal_is_none() {
        let config = SchedulerConfig::from_json(br#"{"shift_terminal": null}"#).unwrap();
        assert_eq!(config.shift_terminal, None);
    }

    #[test]
    fn refuses_what_is_not_supported() {
        for (json, named) in [
            (r#"{"_class_name": "UniPCMultistepScheduler"}"#, "UniPC"),
            (r#"{"invert_sigmas": true}"#, "`invert_sigmas`"),
            (r#"{"stochastic_sampling": true}"#, "`stochastic_sampling`"),
            (r#"{"use_karras_sigmas": true}"#, "`use_karras_sigmas`"),
            (r#"{"use_exponential_sigmas": true}"#, "`use_exponential"),
            (r#"{"use_beta_sigmas": true}"#, "`use_beta_sigmas`"),
            (r#"{"time_shift_type": "cubic"}"#, "cubic"),
            (r#"{"num_train_timesteps": 0}"#, "`num_train_timesteps`"),
            (r#"{"num_train_timesteps": -1}"#, "-1"),
            (r#"{"max_image_seq_len": 256}"#, "`max_image_seq_len`"),
            (r#"{"shift": 0}"#, "`shift`"),
            (r#"{"shift_terminal": 1}"#, "`shift_terminal`"),
            (r#"{"shift_terminal": -0.1}"#, "`shift_terminal`"),
            (r#"{"base_shift": 1e999}"#, "out of range"),
            ("", "empty"),
        ] {
            let message = refusal(json);
            assert!(message.starts_with(FILE), "{message}");
            assert!(message.contains(named), "{json}: {message}");
        }
    }

    #[test]
    fn refuses_numbers_that_are_not_finite() {
        let config = SchedulerConfig {
            max_shift: f64::NAN,
            ..SchedulerConfig::default()
        };
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains("`max_shift` is NaN"), "{message}");
    }
}
