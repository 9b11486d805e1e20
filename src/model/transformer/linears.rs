//! The transformer's linear layers by name, for those who change weights before they are read.

use std::collections::BTreeMap;

use super::timestep;
use crate::config::transformer::TransformerConfig;

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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn a_checkpoint_has_exactly_these() {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/checkpoints/tiny-b/transformer"
        );
        let config = std::fs::read(format!("{folder}/config.json")).unwrap();
        let weights = std::fs::read(format!("{folder}/diffusion_pytorch_model.safetensors"));
        let weights = weights.unwrap();
        let stored = SafeTensors::deserialize(&weights).unwrap();
        let stored: BTreeMap<_, _> = stored
            .iter()
            .filter_map(|(name, tensor)| {
                let shape = <[usize; 2]>::try_from(tensor.shape()).ok()?;
                Some((name.strip_suffix(".weight")?.to_owned(), shape))
            })
            .collect();
        assert_eq!(linears(&TransformerConfig::parse(&config).unwrap()), stored);
    }
}
