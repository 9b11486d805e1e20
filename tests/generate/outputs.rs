//! Which files a run writes, and what is in them beside pixels.

use std::fs;

use serde_json::{Value, json};

use crate::program::{Picture, Scratch, copy_checkpoint};

#[test]
fn prompts_seeds_and_outputs_multiply() {
    let scratch = Scratch::new();
    let seeds = |args: &[&str]| -> (Vec<String>, Value) {
        let args = [&["--json", "--no-save-output"], args].concat();
        let json = scratch.generate(&args).success().json();
        let outputs = json["outputs"].as_array().unwrap();
        let prompts = outputs
            .iter()
            .map(|o| o["prompt"].as_str().unwrap().to_owned());
        (
            prompts.collect(),
            outputs.iter().map(|o| o["seed"].clone()).collect(),
        )
    };
    let prompts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        seeds(&["--prompt", "a", "b", "--num-outputs", "2"]),
        (prompts(&["a", "a", "b", "b"]), json!([42, 43, 42, 43]))
    );
    assert_eq!(
        seeds(&["--prompt", "a", "--prompt", "b", "--seed", "7", "5"]),
        (prompts(&["a", "a", "b", "b"]), json!([7, 5, 7, 5]))
    );
    scratch.write("prompts.txt", "\u{feff} a cat \r\n\n\tb\n");
    for flag in ["--prompt-path", "--prompt-file-path"] {
        assert_eq!(
            seeds(&[flag, "prompts.txt"]),
            (prompts(&["a cat", "b"]), json!([42, 42]))
        );
    }
    assert_eq!(scratch.names("."), ["prompts.txt"]);
}

#[test]
fn pictures_of_several_prompts_are_named_after_them_and_each_is_its_own() {
    let scratch = Scratch::new();
    let run = scratch
        .generate(&[
            "--prompt",
            "one: é",
            "二",
            "--num-outputs",
            "2",
            "--output-path",
            "a/b",
        ])
        .success();
    let names = scratch.names("a/b");
    assert_eq!(names.len(), 4, "{names:?}");
    let said: Vec<_> = run
        .stdout
        .lines()
        .filter_map(|line| line.split_once("Output saved to a/b/"))
        .map(|(_, name)| name)
        .collect();
    assert!(
        said[0].starts_with("one_e_20") && said[0].ends_with("_0.png"),
        "{said:?}"
    );
    assert!(
        said[2].starts_with("20") && said[2].ends_with("_2.png"),
        "{said:?}"
    );
    for (name, seed) in said.iter().zip([42, 43, 42, 43]) {
        let together = Picture::read(&scratch.path("a/b").join(name));
        let (prompt, seed) = (&together.recipe()["prompt"], seed.to_string());
        let alone = scratch.picture(&["--prompt", prompt.as_str().unwrap(), "--seed", &seed]);
        assert!(together.rgb == alone.rgb, "{name}");
    }
}

#[test]
fn a_file_path_is_folder_and_name() {
    let scratch = Scratch::new();
    scratch
        .generate(&["--output-file-path", "a/b.c/d", "--num-outputs", "2"])
        .success();
    assert_eq!(scratch.names("a/b.c"), ["d_0.png", "d_1.png"]);
    scratch.generate(&["--output-file-path", "e.png"]).success();
    assert_eq!(
        scratch.names("."),
        ["a/", "a/b.c/", "a/b.c/d_0.png", "a/b.c/d_1.png", "e.png"]
    );
}

#[test]
fn what_a_run_reads_it_does_not_write() {
    let scratch = Scratch::new();
    copy_checkpoint("tiny-b", &scratch.path("model"));
    scratch.write("prompts.txt", "a");
    for (output, why) in [
        ("prompts.txt", "prompts.txt: it is an input of this run"),
        (
            "model/vae/../model_index.json",
            "model/vae/../model_index.json: it is an input of this run",
        ),
        (
            "model/vae/diffusion_pytorch_model.safetensors",
            "model/vae/diffusion_pytorch_model.safetensors: it is an input of this run",
        ),
    ] {
        let before = fs::read(scratch.path(output)).unwrap();
        let args = ["--model-path", "model", "--prompt-path", "prompts.txt"];
        let run = scratch.generate(&[&args[..], &["--perf-dump-path", output]].concat());
        assert_eq!(run.failure(2), format!("error: {why}"));
        assert_eq!(fs::read(scratch.path(output)).unwrap(), before);
    }
}

#[test]
fn nothing_is_saved_when_nothing_is_to_be() {
    let scratch = Scratch::new();
    let run = scratch
        .generate(&["--save-output", "--no-save-output"])
        .success();
    assert!(!run.stdout.contains("Output saved"));
    assert_eq!(scratch.names("."), [""; 0]);
    scratch
        .generate(&["--no-save-output", "--save-output"])
        .success();
    assert_eq!(scratch.names("outputs").len(), 1);
}

#[test]
fn the_picture_carries_its_recipe() {
    let scratch = Scratch::new();
    let args = [
        "--prompt",
        "ein Kreis,\nrot 红",
        "--negative-prompt",
        " blue ",
        "--guidance-scale",
        "3.3",
        "--seed",
        "9",
        "--generator-device",
        "cpu",
    ];
    let picture = scratch.picture(&args);
    let mut recipe = picture.recipe();
    let id = recipe["request_id"].take();
    assert_eq!(id.as_str().unwrap().len(), 36);
    assert_eq!(
        recipe,
        json!({
            "version": env!("CARGO_PKG_VERSION"), "model": "builtin:tiny", "model_commit": null, "dummy_weights": false, "vae_tiling": false, "device": "cpu", "request_id": null,
            "prompt": "ein Kreis,\nrot 红", "negative_prompt": "blue", "width": 64, "height": 64,
            "num_inference_steps": 2, "flow_shift": null, "loras": [], "true_cfg_scale": 3.3, "seed": 9, "generator_device": "cpu",
            "dit_precision": "fp32", "vae_precision": "fp32", "text_encoder_precision": "fp32",
            "max_sequence_length": 1024,
        })
    );
    assert_eq!(
        picture.text["parameters"],
        format!(
            "ein Kreis,\nrot 红\nNegative prompt: blue\nSteps: 2, Sampler: Euler, CFG scale: 3.3, Seed: 9, \
             Size: 64x64, Model: \"builtin:tiny\", Version: qwen-gen {}",
            env!("CARGO_PKG_VERSION")
        )
    );
    let bare = scratch.picture(&[&args[..], &["--no-metadata"]].concat());
    assert!(bare.text.is_empty());
    assert_eq!(bare.rgb, picture.rgb);
    // Pixels are compressed.
    let file = fs::metadata(scratch.path("picture.png")).unwrap();
    assert!(file.len() < picture.rgb.len() as u64);
}

#[test]
fn what_a_run_was_is_told_in_recipe_and_json() {
    let scratch = Scratch::new();
    let flags = ["--load-format", "dummy", "--vae-tiling", "--json"];
    let profile = ["--profile", "--num-profiled-timesteps", "1"];
    let run = scratch.generate(&[&flags[..], &profile].concat()).success();
    let output = &run.json()["outputs"][0];
    let path = |key: &str| scratch.path(output[key].as_str().unwrap());
    let recipe = Picture::read(&path("path")).recipe();
    assert_eq!(
        (&recipe["dummy_weights"], &recipe["vae_tiling"]),
        (&json!(true), &json!(true))
    );
    let parameters = Picture::read(&path("path")).text["parameters"].clone();
    assert!(parameters.contains("Weights: random"), "{parameters}");
    assert!(path("trace_path").is_file());
}
