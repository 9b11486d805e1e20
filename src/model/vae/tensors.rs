//! The decoder's tensors by name, for those who check a checkpoint before it is read.

use crate::config::vae::VaeConfig;
use crate::weights::TensorShapes;

/// Every tensor that is read, as it is stored: whole kernels, of which one temporal slice is kept.
pub(crate) fn tensors(config: &VaeConfig) -> TensorShapes {
    let z = config.z_dim;
    let levels = config.decoder_levels();
    let (deepest, first) = (levels[0].0, levels[levels.len() - 1].1);

    let mut tensors = Tensors::default();
    tensors.conv("post_quant_conv", (z, z), &[1, 1, 1]);
    tensors.conv("decoder.conv_in", (z, deepest), &[3, 3, 3]);
    for block in ["resnets.0", "resnets.1"] {
        tensors.resnet(&format!("decoder.mid_block.{block}"), (deepest, deepest));
    }
    let attention = "decoder.mid_block.attentions.0";
    tensors.gamma(&format!("{attention}.norm"), deepest, &[1, 1]);
    tensors.conv(
        &format!("{attention}.to_qkv"),
        (deepest, 3 * deepest),
        &[1, 1],
    );
    tensors.conv(&format!("{attention}.proj"), (deepest, deepest), &[1, 1]);
    for (i, (c_in, c_out)) in levels.into_iter().enumerate() {
        let block = format!("decoder.up_blocks.{i}");
        for j in 0..=config.num_res_blocks {
            let c_in = if j == 0 { c_in } else { c_out };
            tensors.resnet(&format!("{block}.resnets.{j}"), (c_in, c_out));
        }
        if i + 1 < levels.len() {
            let upsampler = format!("{block}.upsamplers.0.resample.1");
            tensors.conv(&upsampler, (c_out, c_out / 2), &[3, 3]);
        }
    }
    tensors.gamma("decoder.norm_out", first, &[1, 1, 1]);
    tensors.conv("decoder.conv_out", (first, 3), &[3, 3, 3]);
    tensors.0
}

/// Whether a tensor of the component belongs to what runs: the decoder but for the convolutions over
/// frames, of which a picture has one.
pub(crate) fn belongs(name: &str) -> bool {
    name.starts_with("decoder.") && !name.contains(".time_conv.")
}

#[derive(Default)]
struct Tensors(TensorShapes);

impl Tensors {
    fn resnet(&mut self, name: &str, (c_in, c_out): (usize, usize)) {
        self.gamma(&format!("{name}.norm1"), c_in, &[1, 1, 1]);
        self.conv(&format!("{name}.conv1"), (c_in, c_out), &[3, 3, 3]);
        self.gamma(&format!("{name}.norm2"), c_out, &[1, 1, 1]);
        self.conv(&format!("{name}.conv2"), (c_out, c_out), &[3, 3, 3]);
        if c_in != c_out {
            self.conv(&format!("{name}.conv_shortcut"), (c_in, c_out), &[1, 1, 1]);
        }
    }

    fn conv(&mut self, name: &str, (c_in, c_out): (usize, usize), kernel: &[usize]) {
        let weight = [&[c_out, c_in], kernel].concat();
        self.0.insert(format!("{name}.weight"), weight);
        self.0.insert(format!("{name}.bias"), vec![c_out]);
    }

    fn gamma(&mut self, name: &str, channels: usize, axes: &[usize]) {
        let gamma = [&[channels], axes].concat();
        self.0.insert(format!("{name}.gamma"), gamma);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Result;

    use super::*;
    use crate::model::testing::{asked_for, parameters, sources};
    use crate::model::vae::VaeDecoder;

    #[test]
    fn are_those_the_network_asks_for() -> Result<()> {
        for source in sources() {
            let (config, asked) = asked_for(&source, "vae", |config, vb| {
                VaeDecoder::new(&config.vae, vb)
            })?;
            assert_eq!(tensors(&config.vae), asked);
        }
        Ok(())
    }

    #[test]
    fn qwen_images_are_as_many_as_published() {
        let c = 384;
        let over_frames = 2 * (2 * c * c * 3 + 2 * c);
        let read = tensors(&VaeConfig::default());
        assert_eq!(parameters(&read) + over_frames, 73_295_603);
    }
}
