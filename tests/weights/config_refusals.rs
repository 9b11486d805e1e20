//! JSON files that must be refused, each with the file and the reason.

use std::fs;

use crate::checkpoint::Checkpoint;

#[test]
fn refuses_other_pipelines_and_classes() {
    for class in [
        "QwenImageEditPipeline",
        "QwenImage21Pipeline",
        "FluxPipeline",
    ] {
        let checkpoint = Checkpoint::new();
        checkpoint.replace("model_index.json", "QwenImagePipeline", class);
        assert_eq!(
            checkpoint.config_refusal(),
            format!("model_index.json: `_class_name` is `{class}`, expected `QwenImagePipeline`")
        );
    }
    let checkpoint = Checkpoint::new();
    checkpoint.replace(
        "model_index.json",
        "AutoencoderKLQwenImage",
        "AutoencoderKL",
    );
    assert_eq!(
        checkpoint.config_refusal(),
        "model_index.json: `vae` is `AutoencoderKL`, expected `AutoencoderKLQwenImage`"
    );
    checkpoint.replace("model_index.json", "\"vae\"", "\"vea\"");
    assert_eq!(
        checkpoint.config_refusal(),
        "model_index.json: `vae` is missing, expected `AutoencoderKLQwenImage`"
    );
    fs::remove_file(checkpoint.path("model_index.json")).unwrap();
    assert!(
        checkpoint
            .config_refusal()
            .starts_with("model_index.json: not found in ")
    );
}

#[test]
fn refuses_hostile_configurations() {
    const FILE: &str = "transformer/config.json";
    for (content, why) in [
        (vec![], "the file is empty"),
        (
            vec![b' '; 17_000_000],
            "17000000 bytes, expected at most 16000000",
        ),
        (
            format!("{{\"x\":{}", "[".repeat(100_000)).into_bytes(),
            "nested 100001 levels deep",
        ),
        (
            b"{\"num_layers\": NaN}".to_vec(),
            "not valid JSON: expected value at line 1 column 16",
        ),
        (
            b"{\"num_layers\": -1}".to_vec(),
            "invalid value: integer `-1`, expected usize at line 1 column 17",
        ),
        (
            b"{\"num_layers\": 1e30}".to_vec(),
            "invalid type: floating point `1e+30`, expected usize",
        ),
        (
            b"{\"num_layers\": 1000000}".to_vec(),
            "`num_layers` is 1000000, expected 1 to 1000",
        ),
        (
            b"{\"num_layers\": 1, \"num_layers\": 2}".to_vec(),
            "duplicate field `num_layers`",
        ),
        (b"\xff\xfe".to_vec(), "not valid JSON"),
    ] {
        let message = Checkpoint::with(FILE, content).config_refusal();
        assert!(
            message.starts_with(&format!("{FILE}: {why}")),
            "{message}\nexpected {why}"
        );
    }
}

#[test]
fn refuses_arrays_in_place_of_objects() {
    for file in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "transformer/config.json",
        "vae/config.json",
    ] {
        for content in ["[]", "[1]", "[\"QwenImagePipeline\"]"] {
            let message = Checkpoint::with(file, content).config_refusal();
            let expected = format!("{file}: invalid type: sequence, expected an object");
            assert!(message.starts_with(&expected), "{message}");
        }
    }
    let checkpoint = Checkpoint::with("text_encoder/config.json", "{\"text_config\": []}");
    assert_eq!(
        checkpoint.config_refusal(),
        "text_encoder/config.json: invalid type: sequence, expected an object at line 1 column 16"
    );
}

#[test]
fn refuses_parts_that_do_not_fit_together() {
    let checkpoint = Checkpoint::new();
    checkpoint.replace(
        "transformer/config.json",
        "\"joint_attention_dim\": 64",
        "\"joint_attention_dim\": 65",
    );
    assert_eq!(
        checkpoint.config_refusal(),
        "transformer/config.json: `joint_attention_dim` is 65, expected 64 (hidden_size of text_encoder/config.json)"
    );
    let checkpoint = Checkpoint::new();
    checkpoint.replace(
        "transformer/config.json",
        "\"in_channels\": 64",
        "\"in_channels\": 32",
    );
    checkpoint.replace(
        "transformer/config.json",
        "\"out_channels\": 16",
        "\"out_channels\": 8",
    );
    assert_eq!(
        checkpoint.config_refusal(),
        "transformer/config.json: `in_channels` is 32, expected 64 (z_dim of vae/config.json times 4)"
    );
}
