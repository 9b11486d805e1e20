//! The text encoder's tensors by name, for those who check a checkpoint before it is read.

use crate::config::text_encoder::TextEncoderConfig;
use crate::weights::TensorShapes;

/// What the language model's names begin with, one way in the released checkpoints and another in
/// re-saved ones.
pub(crate) fn prefix(is_stored: impl Fn(&str) -> bool) -> &'static str {
    const RESAVED: &str = "model.language_model";
    if is_stored(&format!("{RESAVED}.embed_tokens.weight")) {
        RESAVED
    } else {
        "model"
    }
}

/// Every tensor that is read, as it is stored.
pub(crate) fn tensors(config: &TextEncoderConfig, prefix: &str) -> TensorShapes {
    let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
    let q_width = config.num_attention_heads * config.head_dim();
    let kv_width = config.num_key_value_heads * config.head_dim();
    let of_layer = [
        ("input_layernorm.weight", vec![hidden]),
        ("self_attn.q_proj.weight", vec![q_width, hidden]),
        ("self_attn.q_proj.bias", vec![q_width]),
        ("self_attn.k_proj.weight", vec![kv_width, hidden]),
        ("self_attn.k_proj.bias", vec![kv_width]),
        ("self_attn.v_proj.weight", vec![kv_width, hidden]),
        ("self_attn.v_proj.bias", vec![kv_width]),
        ("self_attn.o_proj.weight", vec![hidden, q_width]),
        ("post_attention_layernorm.weight", vec![hidden]),
        ("mlp.gate_proj.weight", vec![mlp, hidden]),
        ("mlp.up_proj.weight", vec![mlp, hidden]),
        ("mlp.down_proj.weight", vec![hidden, mlp]),
    ];
    let mut tensors = TensorShapes::from([
        (
            format!("{prefix}.embed_tokens.weight"),
            vec![config.vocab_size, hidden],
        ),
        (format!("{prefix}.norm.weight"), vec![hidden]),
    ]);
    for i in 0..config.num_hidden_layers {
        for (name, shape) in &of_layer {
            tensors.insert(format!("{prefix}.layers.{i}.{name}"), shape.clone());
        }
    }
    tensors
}

/// Whether a tensor of the component belongs to a layer that runs. The language model's head and the
/// vision tower are not used.
pub(crate) fn belongs(prefix: &str, name: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|name| name.starts_with(".layers."))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use candle_core::Result;

    use super::*;
    use crate::config::ModelConfig;
    use crate::model::testing::{asked_for, parameters, sources};
    use crate::model::text_encoder::TextEncoder;
    use crate::weights::ModelSource;

    #[test]
    fn are_those_the_network_asks_for() -> Result<()> {
        for source in sources() {
            let (config, asked) = asked_for(&source, "text_encoder", |config, vb| {
                TextEncoder::new(&config.text_encoder, vb)
            })?;
            let prefix = prefix(|name| asked.contains_key(name));
            assert_eq!(tensors(&config.text_encoder, prefix), asked);
        }
        Ok(())
    }

    #[test]
    fn qwen_images_are_as_many_as_published() {
        let full_size = ModelSource::Folder(PathBuf::from("benches/full-size"));
        let config = ModelConfig::read(&full_size).expect("a sound checkpoint");
        let read = tensors(&config.text_encoder, "model");
        assert_eq!(parameters(&read), 7_070_619_136);
    }
}
