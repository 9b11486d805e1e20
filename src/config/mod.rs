//! What the checkpoint's JSON files say about the model, checked before any weight is read.
//!
//! Struct fields are named as the keys; keys that are not needed are ignored, keys that would change
//! the computation in a way this program does not know are refused by name.

pub mod scheduler;
pub mod text_encoder;
pub mod transformer;
pub mod vae;

use std::fmt::Debug;
use std::ops::RangeInclusive;

use serde::Deserialize;

pub use scheduler::SchedulerConfig;
pub use text_encoder::TextEncoderConfig;
pub use transformer::TransformerConfig;
pub use vae::VaeConfig;

use crate::error::Result;
pub(crate) use crate::weights::MODEL_INDEX;
use crate::weights::{ModelSource, fault, fault_with_hint, parse_json};

/// The components' configurations.
pub(crate) const FILES: [&str; 4] = [
    scheduler::FILE,
    text_encoder::FILE,
    transformer::FILE,
    vae::FILE,
];
const PIPELINE: &str = "QwenImagePipeline";
const SUPPORTED: &str = "supported are Qwen/Qwen-Image, Qwen/Qwen-Image-2512 and their fine-tunes";

/// The configuration of a whole checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Noise schedule.
    pub scheduler: SchedulerConfig,
    /// Language model that reads the prompt.
    pub text_encoder: TextEncoderConfig,
    /// Denoiser.
    pub transformer: TransformerConfig,
    /// Latents to pixels.
    pub vae: VaeConfig,
}

impl ModelConfig {
    /// Reads and checks the JSON files.
    ///
    /// # Errors
    /// Another pipeline than `QwenImagePipeline`, an unknown component class, a file that is missing
    /// or malformed, a value out of range or parts that do not fit together.
    pub fn read(source: &ModelSource) -> Result<Self> {
        check_pipeline(source)?;
        let config = Self {
            scheduler: SchedulerConfig::from_json(&source.read(scheduler::FILE)?)?,
            text_encoder: TextEncoderConfig::parse(&source.read(text_encoder::FILE)?)?,
            transformer: TransformerConfig::parse(&source.read(transformer::FILE)?)?,
            vae: VaeConfig::parse(&source.read(vae::FILE)?)?,
        };
        config.validate()?;
        Ok(config)
    }

    /// Checks that the parts fit together.
    fn validate(&self) -> Result<()> {
        let rules = Rules(transformer::FILE);
        let packed_channels = self.vae.z_dim * self.transformer.patch_size.pow(2);
        rules.equal(
            "in_channels",
            self.transformer.in_channels,
            packed_channels,
            "z_dim of vae/config.json times 4",
        )?;
        rules.equal(
            "joint_attention_dim",
            self.transformer.joint_attention_dim,
            self.text_encoder.hidden_size,
            "hidden_size of text_encoder/config.json",
        )
    }
}

/// `model_index.json`: which classes the checkpoint is made for.
#[derive(Debug, Deserialize)]
struct ModelIndex {
    #[serde(rename = "_class_name")]
    class_name: String,
    scheduler: Option<Component>,
    text_encoder: Option<Component>,
    tokenizer: Option<Component>,
    transformer: Option<Component>,
    vae: Option<Component>,
}

/// Library and class; both null when the pipeline does without.
type Component = (Option<String>, Option<String>);

/// Checks in `model_index.json` that the checkpoint is for the one supported pipeline.
///
/// # Errors
/// Another pipeline than `QwenImagePipeline`, an unknown component class, a file that is missing or
/// malformed.
pub(crate) fn check_pipeline(source: &ModelSource) -> Result<()> {
    let index: ModelIndex = parse_json(MODEL_INDEX, &source.read(MODEL_INDEX)?)?;
    if index.class_name != PIPELINE {
        let message = format!(
            "`_class_name` is `{}`, expected `{PIPELINE}`",
            index.class_name
        );
        return Err(fault_with_hint(MODEL_INDEX, message, SUPPORTED));
    }
    let known: [(&str, &Option<Component>, &[&str]); 5] = [
        (
            "scheduler",
            &index.scheduler,
            &["FlowMatchEulerDiscreteScheduler"],
        ),
        (
            "text_encoder",
            &index.text_encoder,
            &["Qwen2_5_VLForConditionalGeneration"],
        ),
        (
            "tokenizer",
            &index.tokenizer,
            &["Qwen2Tokenizer", "Qwen2TokenizerFast"],
        ),
        (
            "transformer",
            &index.transformer,
            &["QwenImageTransformer2DModel"],
        ),
        ("vae", &index.vae, &["AutoencoderKLQwenImage"]),
    ];
    for (key, component, classes) in known {
        let found = component.as_ref().and_then(|(_, class)| class.as_deref());
        if found.is_none_or(|class| !classes.contains(&class)) {
            let found = found.map_or("missing".to_owned(), |class| format!("`{class}`"));
            let message = format!("`{key}` is {found}, expected `{}`", classes.join("` or `"));
            return Err(fault_with_hint(MODEL_INDEX, message, SUPPORTED));
        }
    }
    Ok(())
}

/// Checks of one file's values; errors name the file, the key, and both values.
struct Rules(&'static str);

impl Rules {
    fn range<T: Copy + PartialOrd + Debug>(
        &self,
        key: &str,
        value: T,
        range: RangeInclusive<T>,
    ) -> Result<()> {
        let (low, high) = (range.start(), range.end());
        self.ensure(range.contains(&value), || {
            format!("`{key}` is {value:?}, expected {low:?} to {high:?}")
        })
    }

    /// `origin` says where the expected value comes from.
    fn equal(&self, key: &str, value: usize, expected: usize, origin: &str) -> Result<()> {
        self.ensure(value == expected, || {
            format!("`{key}` is {value}, expected {expected} ({origin})")
        })
    }

    /// `key` turns on something that this program cannot do.
    fn off(&self, key: &str, value: bool) -> Result<()> {
        self.ensure(!value, || {
            format!("`{key}` is true, which is not supported")
        })
    }

    fn ensure(&self, holds: bool, message: impl FnOnce() -> String) -> Result<()> {
        if holds {
            Ok(())
        } else {
            Err(fault(self.0, message()))
        }
    }
}
