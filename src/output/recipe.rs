//! How a picture was made, as it stands in its own file.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::weights::Lora;

/// Every resolved setting that a picture depends on, and the version that made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Version of qwen-gen.
    pub version: String,
    /// The text given to `--model-path`.
    pub model: String,
    /// Commit of the repository it is from; absent when it is a folder.
    pub model_commit: Option<String>,
    /// Whether the weights are random values in place of the model's.
    pub dummy_weights: bool,
    /// Adapters merged into the transformer.
    pub loras: Vec<Lora>,
    /// The prompt.
    pub prompt: String,
    /// The negative prompt; absent when guidance is off.
    pub negative_prompt: Option<String>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Denoising steps.
    pub num_inference_steps: usize,
    /// Shift of the noise schedule; absent when it is the checkpoint's.
    pub flow_shift: Option<f64>,
    /// Classic guidance.
    pub true_cfg_scale: f32,
    /// Seed of this picture's noise.
    pub seed: u64,
    /// Whose generator the noise follows: `cuda` or `cpu`.
    pub generator_device: String,
    /// What the model ran on.
    pub device: String,
    /// Element type of the transformer.
    pub dit_precision: String,
    /// Element type of the VAE.
    pub vae_precision: String,
    /// Element type of the text encoder.
    pub text_encoder_precision: String,
    /// Whether the picture was decoded in bands.
    pub vae_tiling: bool,
    /// Tokens at which prompts were cut.
    pub max_sequence_length: usize,
    /// The run.
    pub request_id: String,
}

impl Recipe {
    /// The form that A1111 introduced and most viewers read: prompt, negative prompt, and one
    /// line of settings.
    #[must_use]
    pub fn parameters(&self) -> String {
        let mut text = self.prompt.clone();
        // Readers trim the line, and leave it out when it is blank.
        let negative_prompt = self.negative_prompt.as_deref().unwrap_or_default();
        if !negative_prompt.trim().is_empty() {
            text += "\nNegative prompt: ";
            text += negative_prompt;
        }
        let _ = write!(
            text,
            "\nSteps: {}, Sampler: Euler, CFG scale: {}, Seed: {}, Size: {}x{}, Model: {}, ",
            self.num_inference_steps,
            self.true_cfg_scale,
            self.seed,
            self.width,
            self.height,
            quoted(&self.model),
        );
        if let Some(shift) = self.flow_shift {
            let _ = write!(text, "Flow shift: {shift}, ");
        }
        if !self.loras.is_empty() {
            let named = |Lora { file, scale }: &Lora| format!("{file}: {scale}");
            let loras: Vec<_> = self.loras.iter().map(named).collect();
            let _ = write!(text, "LoRA: {}, ", quoted(&loras.join(", ")));
        }
        if self.dummy_weights {
            text += "Weights: random, ";
        }
        let _ = write!(text, "Version: qwen-gen {}", self.version);
        text
    }
}

/// A value of the settings line: a JSON string where it would break the line's grammar.
fn quoted(value: &str) -> String {
    if value.contains([',', ':', '\n', '"']) {
        serde_json::Value::from(value).to_string()
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn recipe(prompt: &str) -> Recipe {
        Recipe {
            version: "0.1.0".into(),
            model: "Qwen/Qwen-Image".into(),
            model_commit: None,
            dummy_weights: false,
            loras: Vec::new(),
            prompt: prompt.into(),
            negative_prompt: Some(" ".into()),
            width: 3,
            height: 2,
            num_inference_steps: 50,
            flow_shift: None,
            true_cfg_scale: 4.0,
            seed: 42,
            generator_device: "cuda".into(),
            device: "cpu".into(),
            dit_precision: "fp32".into(),
            vae_precision: "fp32".into(),
            text_encoder_precision: "fp32".into(),
            vae_tiling: false,
            max_sequence_length: 1024,
            request_id: "5f0c2a1e-7c1b-4c69-9d0e-0d9a5c3a4b11".into(),
        }
    }

    #[test]
    fn parameters_are_in_the_a1111_form() {
        let mut recipe = recipe("a cat,\nsitting");
        assert_eq!(
            recipe.parameters(),
            "a cat,\nsitting\n\
             Steps: 50, Sampler: Euler, CFG scale: 4, Seed: 42, Size: 3x2, \
             Model: Qwen/Qwen-Image, Version: qwen-gen 0.1.0"
        );
        recipe.negative_prompt = Some("blurry".into());
        recipe.true_cfg_scale = 3.5;
        recipe.model = "builtin:tiny".into();
        assert_eq!(
            recipe.parameters(),
            "a cat,\nsitting\nNegative prompt: blurry\n\
             Steps: 50, Sampler: Euler, CFG scale: 3.5, Seed: 42, Size: 3x2, \
             Model: \"builtin:tiny\", Version: qwen-gen 0.1.0"
        );
        recipe.flow_shift = Some(3.0);
        let file = "lightning.safetensors".into();
        recipe.loras = vec![Lora { file, scale: 0.5 }];
        assert!(recipe.parameters().ends_with(
            ", Model: \"builtin:tiny\", Flow shift: 3, LoRA: \"lightning.safetensors: 0.5\", \
             Version: qwen-gen 0.1.0"
        ));
    }
}
