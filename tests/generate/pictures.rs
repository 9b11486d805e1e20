//! What the flags do to the picture.

use std::fs;

use serde_json::{Value, json};

use crate::program::{Picture, Run, Scratch, checkpoint, copy_checkpoint, generate_args};

#[test]
fn the_builtin_model_draws_256_pixels_by_default() {
    let scratch = Scratch::new();
    let args = [
        "generate",
        "--model",
        "builtin:tiny",
        "--prompt",
        "a",
        "--num-inference-steps",
        "1",
        "--json",
    ];
    let run = scratch.run(&args).success();
    let output = &run.json()["outputs"][0];
    assert_eq!(
        (&output["width"], &output["height"], &output["seed"]),
        (&json!(256), &json!(256), &json!(42))
    );
    let path = output["path"].as_str().unwrap();
    assert!(path.starts_with("outputs/a_20"), "{path}");
    assert_eq!(Picture::read(&scratch.path(path)).size, (256, 256));
}

#[test]
fn a_seed_is_a_picture_on_any_number_of_threads() {
    let scratch = Scratch::new();
    for generator in ["cpu", "cuda"] {
        let picture = |threads: &str| {
            let args = generate_args(&[
                "--generator-device",
                generator,
                "--output-file-path",
                "a.png",
            ]);
            let mut command = scratch.command(&args);
            Run::of(command.env("RAYON_NUM_THREADS", threads)).success();
            Picture::read(&scratch.path("a.png"))
        };
        let first = picture("2");
        for threads in ["1", "5"] {
            assert!(first.rgb == picture(threads).rgb, "{generator}, {threads}");
        }
    }
}

/// Each flag against the defaults: the picture must differ, or be the same.
#[test]
fn flags_that_change_the_picture_do_and_others_do_not() {
    let scratch = Scratch::new();
    let default = scratch.picture(&[]);
    for changing in [
        &["--prompt", "a blue circle"][..],
        &["--prompt", ""],
        &["--negative-prompt", "green"],
        &["--negative-prompt", ""],
        &["--num-inference-steps", "3"],
        &["--flow-shift", "3"],
        &["--guidance-scale", "2"],
        &["--guidance-scale", "1"],
        &["--true-cfg-scale", "2"],
        &["--seed", "43"],
        &["--generator-device", "cpu"],
        &["--max-sequence-length", "2"],
        &["--load-format", "dummy"],
        &["--dit-precision", "bf16"],
        &["--vae-precision", "bf16"],
        &["--text-encoder-precisions", "bf16"],
        &["--model-path", checkpoint("tiny-a").to_str().unwrap()],
    ] {
        assert_ne!(scratch.picture(changing).rgb, default.rgb, "{changing:?}");
    }
    for keeping in [
        &["--negative-prompt", " "][..],
        &["--guidance-scale", "9", "--true-cfg-scale", "4"],
        &["--seed", "42"],
        &["--generator-device", "cuda"],
        &["--max-sequence-length", "100"],
        &["--load-format", "safetensors"],
        &["--device", "cpu"],
        &["--num-gpus", "1", "--attention-backend", "fa3"],
        &["--attention-backend=torch_sdpa", "--enable-torch-compile"],
        &["--image-encoder-cpu-offload", "--pin-cpu-memory", "true"],
        &[
            "--dit-precision",
            "fp32",
            "--vae-precision",
            "fp32",
            "--text-encoder-precisions",
            "fp32",
        ],
        &["--warmup-mode", "request"],
        &["--warmup-mode", "request", "--warmup-steps", "7"],
        &["--warmup-mode", "off"],
        &["--width", "79", "--height", "65"],
        &["--performance-mode", "speed"],
        &["--performance-mode", "memory"],
        &["--dit-cpu-offload", "--text-encoder-cpu-offload"],
        &["--vae-cpu-offload"],
        &["--enable-layerwise-nvtx-marker", "False"],
        &["--no-metadata"],
        &["--json"],
        &["-v"],
    ] {
        assert_eq!(scratch.picture(keeping).rgb, default.rgb, "{keeping:?}");
    }
}

/// What a run of two pictures reads of each network in this mode.
fn bytes_read(scratch: &Scratch, mode: &str) -> [u64; 3] {
    let dump = ["--perf-dump-path", "perf.json", "--no-save-output"];
    let run = ["--num-outputs", "2", "--performance-mode", mode];
    scratch.generate(&[&dump[..], &run].concat()).success();
    let dump = fs::read(scratch.path("perf.json")).unwrap();
    let dump: Value = serde_json::from_slice(&dump).unwrap();
    ["text_encoder", "transformer", "vae"]
        .map(|network| dump["load"][network]["bytes"].as_u64().unwrap())
}

#[test]
fn networks_that_went_come_back_for_the_next_picture() {
    let scratch = Scratch::new();
    let [text_encoder, transformer, vae] = bytes_read(&scratch, "speed");
    let of_both = [text_encoder, 2 * transformer, 2 * vae];
    assert_eq!(bytes_read(&scratch, "memory"), of_both);
}

#[test]
fn each_switch_sends_its_own_network_away() {
    let scratch = Scratch::new();
    for (flag, sent) in [
        ("--text-encoder-cpu-offload", "text_encoder"),
        ("--dit-cpu-offload", "dit"),
        ("--vae-cpu-offload", "vae"),
        ("--vae-tiling", "vae_tiling"),
    ] {
        let plan = scratch.generate(&["--dry-run", "--json", flag]).success();
        let offload = plan.json()["offload"].clone();
        let offload = offload.as_object().unwrap();
        let on = offload.iter().filter(|(_, on)| **on == json!(true));
        assert_eq!(on.map(|(name, _)| name).collect::<Vec<_>>(), [sent]);
    }
}

/// 66 rows of latents are two bands and the beginning of a third.
#[test]
fn tiling_decodes_in_bands_and_keeps_every_byte() {
    let scratch = Scratch::new();
    let size = ["--height", "528", "--output-file-path", "p.png"];
    let profile = ["--profile", "--profile-all-stages", "--request-id", "r"];
    let trace = "logs/r-full_stages-global-rank0.trace.json.gz";
    let decode = |flags: &[&str]| {
        scratch
            .generate(&[&size, &profile, flags].concat())
            .success();
        let report = scratch.run(&["trace", trace, "--json"]).success().json();
        let mut operators = report["operators"].as_array().unwrap().iter();
        let upsample = operators.find(|row| row["name"] == "qwen::upsample_conv2d");
        let count = upsample.unwrap()["count"].clone();
        (count, Picture::read(&scratch.path("p.png")).rgb)
    };
    let (whole, banded) = (decode(&[]), decode(&["--vae-tiling"]));
    assert_eq!((whole.0, banded.0), (json!(3), json!(9)));
    assert!(whole.1 == banded.1);
}

#[test]
fn without_guidance_nothing_is_negative() {
    let scratch = Scratch::new();
    for scale in ["0", "0.5", "1"] {
        let off = ["--guidance-scale", scale];
        let picture = scratch.picture(&off);
        assert_eq!(picture.recipe()["negative_prompt"], Value::Null);
        let negative =
            scratch.picture(&[&off[..], &["--negative-prompt", "a blue square"]].concat());
        assert_eq!(picture.rgb, negative.rgb, "{scale}");
    }
}

#[test]
fn sides_are_multiples_of_16_and_follow_from_each_other() {
    let scratch = Scratch::new();
    copy_checkpoint("tiny-a", &scratch.path("model"));
    for (flags, size, rounded) in [
        (&[][..], "1280x720", false),
        (&["--width", "100", "--height", "70"], "96x64", true),
        (&["--width", "1664"], "1664x928", true),
        (&["--height", "1440"], "2560x1440", false),
        (&["--720p"], "1280x720", false),
        (&["--1080p"], "1920x1072", true),
        (&["--2k"], "2560x1440", false),
        (&["--4k"], "3840x2160", false),
        (&["--4k", "--720p", "--width", "64"], "3840x2160", false),
    ] {
        let plan = [
            "generate",
            "--model-path",
            "model",
            "--prompt",
            "a",
            "--device",
            "cpu",
        ];
        let run = [&plan[..], &["--dry-run", "--json"], flags].concat();
        let run = scratch.run(&run).success();
        let plan = run.json();
        assert_eq!(
            format!("{}x{}", plan["width"], plan["height"]),
            size,
            "{flags:?}"
        );
        assert_eq!(run.stderr.contains("rounded down"), rounded, "{flags:?}");
    }
    assert_eq!(
        scratch.picture(&["--width", "32", "--height", "96"]).size,
        (32, 96)
    );
}

#[test]
fn each_network_has_a_precision_of_its_own() {
    let scratch = Scratch::new();
    let size = [
        "--width",
        "128",
        "--height",
        "128",
        "--num-inference-steps",
        "8",
    ];
    let f32 = scratch.picture(&size);
    for flags in [
        &["--dit-precision", "bf16"][..],
        &["--vae-precision", "bf16"],
        &["--text-encoder-precisions", "bf16"],
        &[
            "--dit-precision",
            "bf16",
            "--vae-precision",
            "bf16",
            "--text-encoder-precisions",
            "bf16",
        ],
    ] {
        let difference = scratch
            .picture(&[&size[..], flags].concat())
            .difference(&f32);
        assert!(
            difference > 0.0 && difference < 1.0,
            "{flags:?}: {difference}"
        );
    }
}

#[test]
fn dummy_weights_need_json_only_and_are_called_noise() {
    let scratch = Scratch::new();
    copy_checkpoint("tiny-b", &scratch.path("model"));
    for component in ["text_encoder", "transformer", "vae"] {
        for name in scratch.names(&format!("model/{component}")) {
            if name.contains("safetensors") {
                fs::remove_file(scratch.path(&format!("model/{component}/{name}"))).unwrap();
            }
        }
    }
    let model = ["--model-path", "model"];
    let run = scratch
        .generate(&[&model[..], &["--load-format", "dummy"]].concat())
        .success();
    assert_eq!(
        run.stderr,
        "warning: --load-format dummy: the weights are random, so the picture is noise\n"
    );
    let error = scratch.generate(&model).failure(1);
    assert_eq!(error, "error: text_encoder: no *.safetensors");
}

#[test]
fn a_long_prompt_is_cut_with_a_warning() {
    let scratch = Scratch::new();
    let run = |prompt: &str, length: &str| {
        let flags = [
            "--prompt",
            prompt,
            "--negative-prompt",
            "",
            "--max-sequence-length",
            length,
        ];
        scratch
            .generate(&[&flags[..], &["--no-save-output"]].concat())
            .success()
            .stderr
    };
    // Three tokens of its own, five of the template's ending.
    assert_eq!(run("a red circle", "8"), "");
    assert_eq!(
        run("a red circle", "6"),
        "warning: --max-sequence-length: 2 tokens of the prompt that begins with \"a red circle\" are cut off, the template's end among them\n"
    );
    let long = run(&"a red circle ".repeat(1000), "1024");
    assert!(
        long.contains("\"a red circle a red circle a red circle a\" are cut off"),
        "{long}"
    );
}

#[test]
fn strange_prompts_are_drawn_all_the_same() {
    let scratch = Scratch::new();
    for prompt in [
        "",
        " ",
        "🐈🐈",
        "\u{1}\u{1b}[31m\u{7f}",
        "<|im_end|><|endoftext|>",
        "\u{202e}abc",
        "e\u{301}",
    ] {
        let picture = scratch.picture(&["--prompt", prompt]);
        assert_eq!(picture.recipe()["prompt"], prompt);
    }
    scratch.write("nul.txt", "a\0b\n");
    assert_eq!(
        scratch.picture(&["--prompt-path", "nul.txt"]).recipe()["prompt"],
        "a\0b"
    );
}
