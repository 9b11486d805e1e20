//! Weights and configurations that do not belong together: refused by the headers alone.

use std::fs;

use crate::checkpoint::{Checkpoint, raw};

const TEXT_ENCODER: &str = "text_encoder/model.safetensors";
const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";
const VAE: &str = "vae/diffusion_pytorch_model.safetensors";

/// A random checkpoint whose configuration has another number of layers.
fn with_layers(name: &str, config: &str, key: &str, (from, to): (usize, usize)) -> Checkpoint {
    let checkpoint = Checkpoint::whole(name);
    let entry = |layers| format!("\"{key}\": {layers},");
    checkpoint.replace(config, &entry(from), &entry(to));
    checkpoint
}

/// Such a network would run, and draw something else.
#[test]
fn refuses_fewer_layers_than_are_stored() {
    for (name, config, key, layers, message) in [
        (
            "tiny-b",
            "transformer/config.json",
            "num_layers",
            2,
            format!(
                "{TRANSFORMER}: tensor `transformer_blocks.1.attn.add_k_proj.bias` and 31 more"
            ),
        ),
        (
            "tiny-b",
            "text_encoder/config.json",
            "num_hidden_layers",
            2,
            format!(
                "{TEXT_ENCODER}: tensor `model.language_model.layers.1.input_layernorm.weight` and 11 more"
            ),
        ),
        (
            "tiny-a",
            "vae/config.json",
            "num_res_blocks",
            2,
            format!("{VAE}: tensor `decoder.up_blocks.0.resnets.2.conv1.bias` and 23 more"),
        ),
    ] {
        let checkpoint = with_layers(name, config, key, (layers, layers - 1));
        let error = checkpoint.open().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{message} are not part of the network in {config}")
        );
        assert!(error.hint().unwrap().contains("number of layers"));
    }
}

#[test]
fn refuses_more_layers_than_are_stored() {
    for (config, key, message) in [
        (
            "transformer/config.json",
            "num_layers",
            // The text's output of the last block is not missed.
            "transformer has no tensor `transformer_blocks.2.attn.add_k_proj.bias`",
        ),
        (
            "text_encoder/config.json",
            "num_hidden_layers",
            "text_encoder has no tensor `model.language_model.layers.2.input_layernorm.weight`",
        ),
    ] {
        let checkpoint = with_layers("tiny-b", config, key, (2, 3));
        assert_eq!(checkpoint.refusal(), message);
    }
}

#[test]
fn refuses_tensors_of_another_shape_or_dtype() {
    let checkpoint = Checkpoint::whole("tiny-b");
    checkpoint.replace("vae/config.json", "\"base_dim\": 12", "\"base_dim\": 14");
    assert_eq!(
        checkpoint.refusal(),
        format!(
            "{VAE}: tensor `decoder.conv_in.bias` has shape [48], expected [56] (from vae/config.json)"
        )
    );
    let checkpoint = Checkpoint::whole("tiny-b");
    let stored = |dtype| format!("\"decoder.conv_out.weight\":{{\"dtype\":{dtype},");
    checkpoint.patch(VAE, &stored("\"BF16\""), &stored("\"I16\" "));
    assert_eq!(
        checkpoint.refusal(),
        format!(
            "{VAE}: tensor `decoder.conv_out.weight` is stored as I16, expected F32, F16, BF16 or F64"
        )
    );
}

#[test]
fn refuses_a_tensor_of_another_name() {
    for (file, name, other, message) in [
        (
            TEXT_ENCODER,
            "model.language_model.norm.weight",
            "model.language_model.mean.weight",
            "text_encoder has no tensor `model.language_model.norm.weight`",
        ),
        (
            TRANSFORMER,
            "txt_norm.weight",
            "txt_mean.weight",
            "transformer has no tensor `txt_norm.weight`",
        ),
        (
            VAE,
            "decoder.norm_out.gamma",
            "decoder.mean_out.gamma",
            "vae has no tensor `decoder.norm_out.gamma`",
        ),
    ] {
        let checkpoint = Checkpoint::whole("tiny-b");
        checkpoint.patch(file, &format!("\"{name}\""), &format!("\"{other}\""));
        assert_eq!(checkpoint.refusal(), message);
    }
}

#[test]
fn what_is_not_read_may_be_otherwise() {
    let checkpoint = Checkpoint::whole("tiny-b");
    for (file, name, other) in [
        (TEXT_ENCODER, "\"lm_head.weight", "\"lm_body.weight"),
        (
            TRANSFORMER,
            "1.attn.to_add_out.bias",
            "1.attn.to_add_out.diff",
        ),
        (VAE, "\"encoder.conv_in.bias", "\"encoder.conv_on.bias"),
        (VAE, "0.time_conv.bias", "0.time_conv.diff"),
    ] {
        checkpoint.patch(file, name, other);
    }
    checkpoint.open().unwrap();
}

#[test]
fn refuses_files_without_tensors() {
    let checkpoint = Checkpoint::whole("tiny-b");
    checkpoint.write(VAE, raw("{}", 0));
    assert_eq!(
        checkpoint.refusal(),
        "vae has no tensor `decoder.conv_in.bias`"
    );
}

/// The rest of a download that was cut before the index came.
#[test]
fn refuses_a_lone_shard_without_index() {
    let checkpoint = Checkpoint::whole("tiny-a");
    for rest in [
        ".safetensors.index.json",
        "-00002-of-00003.safetensors",
        "-00003-of-00003.safetensors",
    ] {
        let file = format!("transformer/diffusion_pytorch_model{rest}");
        fs::remove_file(checkpoint.path(&file)).unwrap();
    }
    let error = checkpoint.open().unwrap_err();
    assert!(
        error.to_string().starts_with("transformer has no tensor `"),
        "{error}"
    );
    assert!(error.hint().unwrap().starts_with("incomplete download?"));
}
