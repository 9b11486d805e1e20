//! The text encoder against an independent implementation: candle-transformers' Qwen2, in f32.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::Activation;
use candle_transformers::models::qwen2;
use common::{TENSORS, assert_close, fixtures};
use qwen_gen::config::{ModelConfig, TextEncoderConfig};
use qwen_gen::model::text_encoder::TextEncoder;
use qwen_gen::weights::{ComponentWeights, LoadFormat, ModelSource};

fn twin_config(config: &TextEncoderConfig) -> qwen2::Config {
    qwen2::Config {
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        num_key_value_heads: config.num_key_value_heads,
        max_position_embeddings: 4096,
        sliding_window: 4096,
        max_window_layers: config.num_hidden_layers,
        tie_word_embeddings: false,
        rope_theta: config.rope_theta,
        rms_norm_eps: config.rms_norm_eps,
        use_sliding_window: false,
        hidden_act: Activation::Silu,
    }
}

/// Ids of the whole vocabulary, in no order that a model could like.
fn ids(count: u32, vocab_size: usize) -> Vec<u32> {
    let vocab_size = u32::try_from(vocab_size).expect("small");
    (0..count).map(|i| (i * 7919 + 13) % vocab_size).collect()
}

#[test]
fn hidden_states_are_those_of_the_twin() -> Result<()> {
    // Both have their keys below `model.`, as the twin expects.
    let tiny_a = ModelSource::Folder(fixtures().join("checkpoints/tiny-a"));
    for source in [tiny_a, ModelSource::BuiltinTiny] {
        let config = ModelConfig::read(&source).expect("configs").text_encoder;
        let weights = ComponentWeights::open(&source, "text_encoder", LoadFormat::Safetensors);
        let weights = weights.expect("weights");
        let vb = weights.var_builder(DType::F32, &Device::Cpu);
        let encoder = TextEncoder::new(&config, &vb)?;
        let mut twin = qwen2::Model::new(&twin_config(&config), vb)?;

        let prompts = [1, 2, 61, 700].map(|count| ids(count, config.vocab_size));
        let hidden_states = encoder.forward(&prompts.each_ref().map(Vec::as_slice))?;
        for (prompt, hidden) in prompts.iter().zip(hidden_states) {
            twin.clear_kv_cache();
            let ids = Tensor::new(prompt.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
            let expected = twin.forward(&ids, 0, None)?;
            let what = format!("{} tokens", prompt.len());
            assert_close(&what, &hidden, &expected, TENSORS);
        }
    }
    Ok(())
}
