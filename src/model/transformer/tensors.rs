//! The transformer's tensors by name, for those who check a checkpoint or change its weights before
//! they are read.

use std::collections::BTreeMap;

use super::timestep;
use crate::config::transformer::TransformerConfig;
use crate::weights::TensorShapes;

/// Name of every linear layer in the checkpoint, and its weight's `[out, in]`.
#[must_use]
pub fn linears(config: &TransformerConfig) -> BTreeMap<String, [usize; 2]> {
    let d = config.inner_dim();
    let embedder = "time_text_embed.timestep_embedder";
    let mut linears = BTreeMap::from([
        ("img_in".to_owned(), [d, config.in_channels]),
        ("txt_in".to_owned(), [d, config.joint_attention_dim]),
        (format!("{embedder}.linear_1"), [d, timestep::CHANNELS]),
        (format!("{embedder}.linear_2"), [d, d]),
        ("norm_out.linear".to_owned(), [2 * d, d]),
        ("proj_out".to_owned(), [config.patch_channels(), d]),
    ]);
    let of_block = [
        ("attn.to_q", [d, d]),
        ("attn.to_k", [d, d]),
        ("attn.to_v", [d, d]),
        ("attn.to_out.0", [d, d]),
        ("attn.add_q_proj", [d, d]),
        ("attn.add_k_proj", [d, d]),
        ("attn.add_v_proj", [d, d]),
        ("attn.to_add_out", [d, d]),
        ("img_mod.1", [6 * d, d]),
        ("img_mlp.net.0.proj", [4 * d, d]),
        ("img_mlp.net.2", [d, 4 * d]),
        ("txt_mod.1", [6 * d, d]),
        ("txt_mlp.net.0.proj", [4 * d, d]),
        ("txt_mlp.net.2", [d, 4 * d]),
    ];
    for i in 0..config.num_layers {
        let named = |(name, shape)| (format!("transformer_blocks.{i}.{name}"), shape);
        linears.extend(of_block.map(named));
    }
    linears
}

/// Every tensor that is read, as it is stored.
pub(crate) fn tensors(config: &TransformerConfig) -> TensorShapes {
    let txt_norm = "txt_norm.weight".to_owned();
    let mut tensors = TensorShapes::from([(txt_norm, vec![config.joint_attention_dim])]);
    for i in 0..config.num_layers {
        let norms = ["norm_q", "norm_k", "norm_added_q", "norm_added_k"];
        let named = |norm| format!("transformer_blocks.{i}.attn.{norm}.weight");
        tensors.extend(norms.map(|norm| (named(norm), vec![config.attention_head_dim])));
    }
    for (name, [out, input]) in linears(config) {
        tensors.insert(format!("{name}.weight"), vec![out, input]);
        tensors.insert(format!("{name}.bias"), vec![out]);
    }
    tensors.retain(|name, _| belongs(config, name));
    tensors
}

/// Whether a tensor of the component belongs to what runs: all but the text's output of the last
/// block, which leads nowhere.
pub(crate) fn belongs(config: &TransformerConfig, name: &str) -> bool {
    let last_block = format!("transformer_blocks.{}.", config.num_layers - 1);
    let text_output = ["attn.to_add_out.", "txt_mlp."];
    name.strip_prefix(&last_block)
        .is_none_or(|name| !text_output.iter().any(|part| name.starts_with(part)))
}

#[cfg(test)]
mod tests {
    use candle_core::Result;

    use super::*;
    use crate::model::testing::{asked_for, parameters, sources};
    use crate::model::transformer::Transformer;

    #[test]
    fn are_those_the_network_asks_for() -> Result<()> {
        for source in sources() {
            let (config, asked) = asked_for(&source, "transformer", |config, vb| {
                Transformer::new(&config.transformer, vb, &[0.5], 0)
            })?;
            assert_eq!(tensors(&config.transformer), asked);
        }
        Ok(())
    }

    #[test]
    fn qwen_images_are_as_many_as_published() {
        let config = TransformerConfig::default();
        let read = tensors(&config);
        assert_eq!(read.len(), 1933 - 6);
        let d = config.inner_dim();
        let unread = 9 * d * d + 6 * d;
        assert_eq!(parameters(&read) + unread, 20_430_401_088);
    }
}
