//! LoRA adapters in whole runs of `generate`.

#![expect(clippy::unwrap_used, reason = "tests")]

mod program;

use program::Scratch;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

/// Width of the built-in model.
const D: usize = 160;
const LAYER: &str = "transformer_blocks.2.attn.to_q";

/// A file with a pair of rank 1 for the layer of this name.
fn lora(layer: &str) -> Vec<u8> {
    let bytes: Vec<u8> = (0..D).flat_map(|_| 0.5_f32.to_le_bytes()).collect();
    let tensor = |shape: [usize; 2]| TensorView::new(Dtype::F32, shape.to_vec(), &bytes).unwrap();
    let tensors = [
        (format!("{layer}.lora_down.weight"), tensor([1, D])),
        (format!("{layer}.lora_up.weight"), tensor([D, 1])),
    ];
    safetensors::serialize(tensors, None).unwrap()
}

#[test]
fn the_plan_counts_what_merging_holds_twice() {
    let scratch = Scratch::new();
    scratch.write("a.safetensors", lora(LAYER));
    let peak = |args: &[&str]| {
        let plan = ["--dry-run", "--json", "--dit-precision", "bf16"];
        let plan = scratch.generate(&[&plan, args].concat()).success().json();
        plan["peaks"]["DenoisingStage"].as_u64().unwrap()
    };
    assert!(peak(&["--lora-path", "a.safetensors"]) > peak(&[]));
}

#[test]
fn a_scale_of_0_keeps_the_picture_and_1_does_not() {
    let scratch = Scratch::new();
    scratch.write("loras/a.safetensors", lora(LAYER));
    let default = scratch.picture(&[]);
    let off = scratch.picture(&["--lora-path", "loras", "--lora-scale", "0"]);
    assert_eq!(off.rgb, default.rgb);
    let on = scratch.picture(&["--lora-path", "loras"]);
    assert_ne!(on.rgb, default.rgb);
    let file = "loras/a.safetensors";
    let twice = ["--lora-path", file, file, "--lora-scale", "1.5", "-0.5"];
    let sum = scratch.picture(&twice);
    assert!(sum.difference(&on) < 0.01, "{}", sum.difference(&on));
    let dummy = scratch.picture(&["--load-format", "dummy"]);
    let adapted = scratch.picture(&["--load-format", "dummy", "--lora-path", file]);
    assert_ne!(dummy.rgb, adapted.rgb);
}

#[test]
fn a_run_says_which_adapters_and_which_schedule() {
    let scratch = Scratch::new();
    scratch.write("a.safetensors", lora(LAYER));
    scratch.write("b.safetensors", lora(LAYER));
    let args = [
        "--lora-path",
        ".",
        "b.safetensors",
        "--lora-scale",
        "0.5",
        "2",
        "--flow-shift",
        "3",
    ];
    let message = scratch.generate(&args).failure(2);
    assert_eq!(
        message,
        "error: --lora-path `.`: several files: a.safetensors, b.safetensors"
    );
    let args = [&["--lora-path", "a.safetensors"], &args[2..]].concat();
    let picture = scratch.picture(&args);
    let expected = json!([
        {"file": "a.safetensors", "scale": 0.5},
        {"file": "b.safetensors", "scale": 2.0},
    ]);
    assert_eq!(picture.recipe()["loras"], expected);
    assert_eq!(picture.recipe()["flow_shift"], 3.0);
    let settings = "Flow shift: 3, LoRA: \"a.safetensors: 0.5, b.safetensors: 2\", Version";
    assert!(picture.text["parameters"].contains(settings));
    let run = scratch
        .generate(&[&args[..], &["--json"]].concat())
        .success();
    assert_eq!(run.json()["loras"], expected);
    assert_eq!(run.json()["flow_shift"], 3.0);
    for line in ["Merging LoRA a.safetensors at scale 0.5", "flow_shift: 3"] {
        assert!(run.stderr.contains(line), "{}", run.stderr);
    }
}

#[test]
fn a_file_for_another_model_is_one_error_before_anything_is_loaded() {
    let scratch = Scratch::new();
    scratch.write("a.safetensors", lora("double_blocks.0.img_attn_qkv"));
    let run = scratch.generate(&["--lora-path", "a.safetensors"]);
    assert!(!run.stdout.contains("Using"), "{}", run.stdout);
    assert_eq!(
        run.failure(1),
        "error: a.safetensors: 2 of 2 tensors are unknown: \
         double_blocks.0.img_attn_qkv.lora_down.weight, double_blocks.0.img_attn_qkv.lora_up.weight"
    );
}
