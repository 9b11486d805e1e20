//! The names that LoRA files have for the same thing: which layer a key means, and which part.

use std::collections::HashMap;

/// What a tensor is to its layer. `A` and `B` are peft's names for `Down` and `Up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Down,
    Up,
    A,
    B,
    Alpha,
}

/// How the keys of each part end.
const ENDINGS: [(&str, Part); 7] = [
    (".lora_down.weight", Part::Down),
    (".lora_up.weight", Part::Up),
    (".lora_A.weight", Part::A),
    (".lora_B.weight", Part::B),
    (".lora_A.default.weight", Part::A),
    (".lora_B.default.weight", Part::B),
    (".alpha", Part::Alpha),
];

/// Everything that files call the layers of a component.
pub(super) struct Names<'a>(HashMap<String, &'a str>);

impl<'a> Names<'a> {
    pub(super) fn new(layers: impl Iterator<Item = &'a String>) -> Self {
        let mut names = HashMap::new();
        for layer in layers {
            // In this order: bare, ComfyUI's, diffusers', kohya's.
            names.insert(layer.clone(), layer.as_str());
            names.insert(format!("diffusion_model.{layer}"), layer);
            names.insert(format!("transformer.{layer}"), layer);
            names.insert(format!("lora_unet_{}", layer.replace('.', "_")), layer);
        }
        Self(names)
    }

    /// The layer and the part of it that `key` means.
    pub(super) fn parse(&self, key: &str) -> Option<(&'a str, Part)> {
        ENDINGS.iter().find_map(|(ending, part)| {
            let layer = self.0.get(key.strip_suffix(ending)?)?;
            Some((*layer, *part))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: &str = "transformer_blocks.0.attn.to_out.0";

    #[test]
    fn every_layout_means_the_same_layer() {
        let layers = [LAYER.to_owned()];
        let names = Names::new(layers.iter());
        let kohya = "lora_unet_transformer_blocks_0_attn_to_out_0";
        for (layer, ending, part) in [
            (LAYER, "lora_down.weight", Part::Down),
            (LAYER, "alpha", Part::Alpha),
            (
                "diffusion_model.transformer_blocks.0.attn.to_out.0",
                "lora_up.weight",
                Part::Up,
            ),
            (kohya, "lora_down.weight", Part::Down),
            (kohya, "alpha", Part::Alpha),
            (
                "transformer.transformer_blocks.0.attn.to_out.0",
                "lora_A.weight",
                Part::A,
            ),
            (LAYER, "lora_B.default.weight", Part::B),
        ] {
            let key = format!("{layer}.{ending}");
            assert_eq!(names.parse(&key), Some((LAYER, part)), "{key}");
        }
        for key in [
            "transformer_blocks.1.attn.to_out.0.alpha",
            "transformer_blocks_0_attn_to_out_0.alpha",
            "text_encoder.transformer_blocks.0.attn.to_out.0.alpha",
            "transformer_blocks.0.attn.to_out.0.lora_A.other.weight",
            "transformer_blocks.0.attn.to_out.0.lora_B.bias",
            "transformer_blocks.0.attn.to_out.0.dora_scale",
            "transformer_blocks.0.attn.to_out.0",
            "alpha",
        ] {
            assert_eq!(names.parse(key), None, "{key}");
        }
    }
}
