//! `text_encoder/config.json`, in the three shapes that exist.
//!
//! The oldest files have the language model's keys at top level only, those of transformers 4.5x
//! there and in `text_config`, those of transformers 5 in `text_config` only, with
//! `rope_parameters` in place of `rope_theta` and `rope_scaling`.

use serde::Deserialize;

use super::Rules;
use crate::error::Result;
use crate::weights::{Object, parse_json};

/// Path in the checkpoint.
pub const FILE: &str = "text_encoder/config.json";

/// The language model of Qwen2.5-VL; its vision tower is not used.
#[derive(Debug, Clone, PartialEq)]
pub struct TextEncoderConfig {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; each serves an equal share of the query heads.
    pub num_key_value_heads: usize,
    /// Added to the mean square in the norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
}

/// Which object of the file holds the keys.
#[derive(Deserialize)]
struct File {
    text_config: Option<Object<Keys>>,
}

/// The keys as they are in the file; an omitted one has transformers' default.
///
/// Source: transformers `configuration_qwen2_5_vl.py`, `Qwen2_5_VLTextConfig`.
#[derive(Deserialize)]
#[serde(default)]
struct Keys {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    hidden_act: String,
    rms_norm_eps: f64,
    use_sliding_window: bool,
    layer_types: Option<Vec<String>>,
    rope_theta: f64,
    rope_scaling: Option<Object<Rotary>>,
    rope_parameters: Option<Object<Rotary>>,
}

#[derive(Deserialize)]
struct Rotary {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
    r#type: Option<String>,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            vocab_size: 152_064,
            hidden_size: 8192,
            intermediate_size: 29_568,
            num_hidden_layers: 80,
            num_attention_heads: 64,
            num_key_value_heads: 8,
            hidden_act: "silu".to_owned(),
            rms_norm_eps: 1e-5,
            use_sliding_window: false,
            layer_types: None,
            rope_theta: 1e6,
            rope_scaling: None,
            rope_parameters: None,
        }
    }
}

impl TextEncoderConfig {
    /// Parses and checks the file's content.
    ///
    /// # Errors
    /// Malformed JSON, a computation that is not supported (another activation, sliding windows,
    /// scaled rotary positions), and what [`validate`](Self::validate) refuses.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let keys = match parse_json::<File>(FILE, json)?.text_config {
            Some(Object(keys)) => keys,
            None => parse_json::<Keys>(FILE, json)?,
        };
        keys.refuse_other_computations()?;
        let rope = keys.rope_parameters.or(keys.rope_scaling);
        let config = Self {
            vocab_size: keys.vocab_size,
            hidden_size: keys.hidden_size,
            intermediate_size: keys.intermediate_size,
            num_hidden_layers: keys.num_hidden_layers,
            num_attention_heads: keys.num_attention_heads,
            num_key_value_heads: keys.num_key_value_heads,
            rms_norm_eps: keys.rms_norm_eps,
            rope_theta: rope
                .and_then(|rope| rope.0.rope_theta)
                .unwrap_or(keys.rope_theta),
        };
        config.validate()?;
        Ok(config)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// A value out of range, or values that do not fit together.
    pub fn validate(&self) -> Result<()> {
        let rules = Rules(FILE);
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        let kv_heads = self.num_key_value_heads;
        rules.range("vocab_size", self.vocab_size, 1..=1_000_000)?;
        rules.range("hidden_size", hidden, 2..=65_536)?;
        rules.range("intermediate_size", self.intermediate_size, 1..=1_000_000)?;
        rules.range("num_hidden_layers", self.num_hidden_layers, 1..=1000)?;
        rules.range("num_attention_heads", heads, 1..=1024)?;
        rules.range("num_key_value_heads", kv_heads, 1..=heads)?;
        rules.ensure(hidden.is_multiple_of(heads), || {
            format!(
                "`hidden_size` is {hidden}, expected a multiple of num_attention_heads, {heads}"
            )
        })?;
        rules.ensure(self.head_dim().is_multiple_of(2), || {
            format!("head width is {}, expected an even number", self.head_dim())
        })?;
        rules.ensure(heads.is_multiple_of(kv_heads), || {
            format!("`num_key_value_heads` is {kv_heads}, expected a divisor of {heads}")
        })?;
        rules.range("rms_norm_eps", self.rms_norm_eps, 1e-12..=1e-2)?;
        rules.range("rope_theta", self.rope_theta, 1.0..=1e12)
    }

    /// Width of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}

impl Keys {
    fn refuse_other_computations(&self) -> Result<()> {
        let rules = Rules(FILE);
        rules.ensure(self.hidden_act == "silu", || {
            format!("`hidden_act` is `{}`, expected `silu`", self.hidden_act)
        })?;
        rules.off("use_sliding_window", self.use_sliding_window)?;
        for layer in self.layer_types.iter().flatten() {
            rules.ensure(layer == "full_attention", || {
                format!("`layer_types` holds `{layer}`, expected `full_attention`")
            })?;
        }
        for (key, rope) in [
            ("rope_scaling", &self.rope_scaling),
            ("rope_parameters", &self.rope_parameters),
        ] {
            let types = rope
                .iter()
                .flat_map(|Object(rope)| [&rope.rope_type, &rope.r#type]);
            for kind in types.flatten() {
                // transformers reads the older name `mrope` as `default`.
                rules.ensure(matches!(kind.as_str(), "default" | "mrope"), || {
                    format!("`{key}` has type `{kind}`, expected `default`")
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

    use super::*;

    const SIZES: &str = r#""vocab_size": 99, "hidden_size": 64, "intermediate_size": 160,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6"#;

    fn parse(json: &str) -> Result<TextEncoderConfig> {
        TextEncoderConfig::parse(json.as_bytes())
    }

    #[test]
    fn three_shapes_of_the_file_mean_the_same() {
        let rope =
            r#""rope_theta": 5e5, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}"#;
        let oldest = parse(&format!("{{{SIZES}, {rope}}}")).unwrap();
        let both = format!(r#"{{"hidden_size": 1, "text_config": {{{SIZES}, {rope}}}}}"#);
        let newest = format!(
            r#"{{"text_config": {{{SIZES},
                "rope_parameters": {{"rope_theta": 5e5, "rope_type": "default"}}}}}}"#
        );
        assert_eq!(oldest.rope_theta, 5e5);
        assert_eq!(oldest.head_dim(), 16);
        assert_eq!(parse(&both).unwrap(), oldest);
        assert_eq!(parse(&newest).unwrap(), oldest);
    }

    #[test]
    fn omitted_keys_have_the_class_defaults() {
        let config = parse("{}").unwrap();
        assert_eq!(config.vocab_size, 152_064);
        assert_eq!(config.rope_theta, 1e6);
    }

    #[test]
    fn refuses_by_name() {
        for (json, message) in [
            (
                r#"{"hidden_act": "gelu"}"#,
                "`hidden_act` is `gelu`, expected `silu`",
            ),
            (
                r#"{"text_config": {"use_sliding_window": true}}"#,
                "`use_sliding_window` is true, which is not supported",
            ),
            (
                r#"{"layer_types": ["sliding_attention"]}"#,
                "`layer_types` holds `sliding_attention`, expected `full_attention`",
            ),
            (
                r#"{"rope_scaling": {"rope_type": "yarn"}}"#,
                "`rope_scaling` has type `yarn`, expected `default`",
            ),
            (
                r#"{"vocab_size": 0}"#,
                "`vocab_size` is 0, expected 1 to 1000000",
            ),
            (
                r#"{"hidden_size": 100}"#,
                "`hidden_size` is 100, expected a multiple of num_attention_heads, 64",
            ),
            (
                r#"{"hidden_size": 64}"#,
                "head width is 1, expected an even number",
            ),
            (
                r#"{"num_key_value_heads": 5}"#,
                "`num_key_value_heads` is 5, expected a divisor of 64",
            ),
            (
                r#"{"rms_norm_eps": 0}"#,
                "`rms_norm_eps` is 0.0, expected 1e-12 to 0.01",
            ),
        ] {
            let error = parse(json).unwrap_err();
            assert_eq!(error.to_string(), format!("{FILE}: {message}"));
        }
    }
}
