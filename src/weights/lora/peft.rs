//! peft's configuration of an adapter, as diffusers keeps it in a safetensors header: the only
//! place where files with `lora_A` and `lora_B` say their alpha.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::Result;
use crate::weights::fault::fault;
use crate::weights::json::parse_json;

/// Key of the configuration in the header's `__metadata__`.
const KEY: &str = "lora_adapter_metadata";

/// The longest configuration; one with an alpha for every layer has 50 thousand.
const MAX_BYTES: usize = 1 << 20;

/// What the configuration says of the transformer's adapter; the rest is in the tensors.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PeftConfig {
    #[serde(rename = "transformer.lora_alpha")]
    lora_alpha: Option<f64>,
    /// Alphas of layers that differ.
    #[serde(rename = "transformer.alpha_pattern")]
    alpha_pattern: BTreeMap<String, f64>,
    /// Whether alpha is over the root of the rank.
    #[serde(rename = "transformer.use_rslora")]
    use_rslora: bool,
}

impl PeftConfig {
    /// Parses the configuration of `file`.
    pub(super) fn parse(file: &str, json: &str) -> Result<Self> {
        let place = format!("{file}: {KEY}");
        if json.len() > MAX_BYTES {
            let message = format!("{} bytes, expected at most {MAX_BYTES}", json.len());
            return Err(fault(&place, message));
        }
        let config: Self = parse_json(&place, json.as_bytes())?;
        let alphas = config
            .lora_alpha
            .iter()
            .chain(config.alpha_pattern.values());
        if let Some(alpha) = alphas.into_iter().find(|alpha| !alpha.is_finite()) {
            return Err(fault(&place, format!("an alpha is {alpha}")));
        }
        // peft reads the names as regular expressions. Dots match themselves well enough.
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        let names = config.alpha_pattern.keys();
        let is_plain = |name: &&String| name.trim_start_matches('^').chars().all(is_name);
        match names.into_iter().find(|name| !is_plain(name)) {
            Some(name) => Err(fault(
                &place,
                format!("alpha_pattern has `{name}`, expected the name of a layer"),
            )),
            None => Ok(config),
        }
    }

    /// What the product of a layer's matrices is multiplied by; 1 where the file does not say.
    pub(super) fn scaling(&self, layer: &str, rank: f64) -> f64 {
        let mut pattern = self.alpha_pattern.iter();
        let own = pattern.find(|(name, _)| means(name, layer));
        let alpha = own.map(|(_, alpha)| *alpha).or(self.lora_alpha);
        let over = if self.use_rslora { rank.sqrt() } else { rank };
        alpha.map_or(1.0, |alpha| alpha / over)
    }
}

/// peft's rule: the whole name of the layer or, unless anchored, its last parts.
fn means(name: &str, layer: &str) -> bool {
    match name.strip_prefix('^') {
        Some(name) => name == layer,
        None => layer
            .strip_suffix(name)
            .is_some_and(|before| before.is_empty() || before.ends_with('.')),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    #![expect(clippy::float_cmp, reason = "exact quotients")]

    use super::*;

    fn scaling(json: &str, layer: &str) -> f64 {
        PeftConfig::parse("f", json).unwrap().scaling(layer, 4.0)
    }

    #[test]
    fn alpha_is_the_layers_own_or_the_common_one() {
        let json = r#"{
            "transformer.lora_alpha": 8, "transformer.r": 4, "transformer.use_rslora": false,
            "transformer.alpha_pattern": {"to_q": 2, "^img_in": 1},
            "text_encoder.lora_alpha": 100
        }"#;
        assert_eq!(scaling(json, "transformer_blocks.0.attn.to_k"), 2.0);
        assert_eq!(scaling(json, "transformer_blocks.0.attn.to_q"), 0.5);
        assert_eq!(scaling(json, "transformer_blocks.0.attn.into_q"), 2.0);
        assert_eq!(scaling(json, "img_in"), 0.25);
        assert_eq!(scaling(json, "x.img_in"), 2.0);
    }

    #[test]
    fn rank_stabilised_adapters_divide_by_the_root() {
        let json = r#"{"transformer.lora_alpha": 8, "transformer.use_rslora": true}"#;
        assert_eq!(scaling(json, "img_in"), 4.0);
    }

    #[test]
    fn a_configuration_that_is_too_long_is_not_parsed() {
        let error = PeftConfig::parse("f", &" ".repeat(MAX_BYTES + 1)).unwrap_err();
        assert!(error.to_string().contains("expected at most"), "{error}");
    }

    #[test]
    fn without_alpha_nothing_is_scaled() {
        assert_eq!(scaling(r#"{"text_encoder.lora_alpha": 8}"#, "img_in"), 1.0);
        assert_eq!(PeftConfig::default().scaling("img_in", 4.0), 1.0);
    }

    #[test]
    fn refuses_what_it_would_read_wrongly() {
        let refusal = |json: &str| PeftConfig::parse("f", json).unwrap_err().to_string();
        assert_eq!(
            refusal(r#"{"transformer.alpha_pattern": {"to_(q|k)": 2}}"#),
            "f: lora_adapter_metadata: alpha_pattern has `to_(q|k)`, expected the name of a layer"
        );
        assert!(refusal(r#"{"transformer.lora_alpha": "8"}"#).contains("expected f64"));
        assert!(refusal("{").contains("not valid JSON"));
    }
}
