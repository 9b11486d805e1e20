//! Whole runs of `generate`: what each flag does, what is written where.

#![expect(clippy::unwrap_used, reason = "tests")]

mod program;

use std::fs;
use std::process::Command;

use program::{Picture, Run, Scratch, checkpoint, copy_checkpoint, generate_args};
use serde_json::{Value, json};

/// Most that a pixel may move when only the order of sums changes.
const SAME: u8 = 1;

fn is_same(a: &Picture, b: &Picture) -> bool {
    let mut pixels = a.rgb.iter().zip(&b.rgb);
    a.size == b.size && pixels.all(|(a, b)| a.abs_diff(*b) <= SAME)
}

/// Replaces what differs from run to run: the time of each line and what was measured.
fn without_measurements(log: &str) -> String {
    let word = |word: &str, in_summary: bool| {
        let number = word.trim_matches(['[', ']', ')', ',']);
        let is_number = number.starts_with(|c: char| c.is_ascii_digit())
            && number.ends_with(|c: char| c.is_ascii_digit());
        // Sizes, counts and seeds stay.
        if is_number && (in_summary || number.contains(['.', ':', '-'])) {
            word.replace(number, "#")
        } else {
            word.to_owned()
        }
    };
    let line = |line: &str| {
        let in_summary = line.contains("Summary: ");
        let words: Vec<_> = line.split(' ').map(|w| word(w, in_summary)).collect();
        words.join(" ")
    };
    log.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_run_says_what_it_does_and_makes_one_file() {
    let scratch = Scratch::new();
    let run = scratch
        .generate(&["--output-file-name", "circle"])
        .success();
    assert_eq!(run.stderr, "");
    assert_eq!(scratch.names("."), ["outputs/", "outputs/circle.png"]);
    insta::assert_snapshot!(without_measurements(&run.stdout));
}

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
        assert!(is_same(&together, &alone), "{name}");
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
fn json_has_stdout_for_itself() {
    let scratch = Scratch::new();
    let run = scratch
        .generate(&[
            "--json",
            "--output-file-path",
            "a.png",
            "--perf-dump-path",
            "p.json",
        ])
        .success();
    let json = run.json();
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(
        keys(&json),
        [
            "cold_start_ms",
            "device",
            "flow_shift",
            "load",
            "loras",
            "model",
            "outputs",
            "perf_dump_path",
            "request_id"
        ]
    );
    assert_eq!(
        keys(&json["outputs"][0]),
        [
            "denoise_steps_ms",
            "height",
            "path",
            "prompt",
            "request_id",
            "save_ms",
            "seed",
            "stages",
            "total_duration_ms",
            "trace_path",
            "width"
        ]
    );
    assert_eq!(json["outputs"][0]["path"], "a.png");
    assert_eq!(json["perf_dump_path"], "p.json");
    assert!(run.stderr.contains("Output saved to a.png"));
    let full = Command::new("sh")
        .args([
            "-c",
            "exec \"$0\" \"$@\" >/dev/full",
            env!("CARGO_BIN_EXE_qwen-gen"),
        ])
        .args(generate_args(&["--json", "--no-save-output", "--quiet"]))
        .output()
        .unwrap();
    assert_eq!(full.status.code(), Some(1));
}

#[test]
fn the_log_level_decides_what_is_printed() {
    let scratch = Scratch::new();
    let run = |args: &[&str]| {
        scratch
            .generate(&[args, &["--output-file-path", "a.png", "--width", "70"]].concat())
            .success()
    };
    let warning = "warning: 70x64 is rounded down to 64x64: sides are multiples of 16\n";
    for flag in [&["-q"][..], &["--quiet"], &["--log-level", "warning"]] {
        let quiet = run(flag);
        assert_eq!(quiet.stdout.lines().count(), 1, "{}", quiet.stdout);
        assert!(quiet.stdout.ends_with("Output saved to a.png\n"));
        assert_eq!(quiet.stderr, warning);
    }
    assert_eq!(run(&["--log-level", "error"]).stderr, "");
    let default = run(&[]);
    assert!(
        default.stdout.contains("DenoisingStage") && default.stdout.contains("<redacted, len=12>")
    );
    assert_eq!(default.stderr, warning);
    for flag in [&["-v"][..], &["-vv"], &["--log-level", "debug"]] {
        let verbose = run(flag).stdout;
        assert!(
            verbose.contains("a red circle") && verbose.contains("loading vae"),
            "{verbose}"
        );
    }
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
            "version": env!("CARGO_PKG_VERSION"), "model": "builtin:tiny", "device": "cpu", "request_id": null,
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
        assert_eq!(first.rgb, picture("2").rgb, "{generator}");
        assert!(
            is_same(&first, &picture("1")) && is_same(&first, &picture("5")),
            "{generator}"
        );
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
        &["--num-gpus", "1"],
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
        &["--no-metadata"],
        &["--json"],
        &["-v"],
    ] {
        assert_eq!(scratch.picture(keeping).rgb, default.rgb, "{keeping:?}");
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
    // Loading fails, after the size has been told.
    copy_checkpoint("tiny-a", &scratch.path("model"));
    fs::copy(
        scratch.path("model/vae/diffusion_pytorch_model.safetensors"),
        scratch.path("model/text_encoder/model-00001-of-00002.safetensors"),
    )
    .unwrap();
    fs::remove_file(scratch.path("model/text_encoder/model.safetensors.index.json")).unwrap();
    fs::remove_file(scratch.path("model/text_encoder/model-00002-of-00002.safetensors")).unwrap();
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
        let model = [
            "generate",
            "--model-path",
            "model",
            "--prompt",
            "a",
            "--no-save-output",
        ];
        let run = scratch.run(&[&model, flags].concat());
        let line = |key: &str| {
            let value = run
                .stdout
                .lines()
                .find_map(|line| line.trim().strip_prefix(key));
            value.unwrap().to_owned()
        };
        assert_eq!(
            format!("{}x{}", line("width: "), line("height: ")),
            size,
            "{flags:?}"
        );
        assert_eq!(run.stderr.contains("rounded down"), rounded, "{flags:?}");
        let error = run.failure(1);
        assert_eq!(
            error,
            "error: cannot load model: text_encoder has no tensor `model.embed_tokens.weight`"
        );
    }
    assert_eq!(
        scratch.picture(&["--width", "32", "--height", "96"]).size,
        (32, 96)
    );
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
        "warning: 2 tokens of the prompt that begins with \"a red circle\" are cut off\n"
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

#[test]
fn bf16_is_near_f32() {
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
fn a_warm_up_is_not_told_of_but_in_one_line() {
    let scratch = Scratch::new();
    let lines = |flags: &[&str]| {
        let run = scratch
            .generate(&[flags, &["--no-save-output"]].concat())
            .success();
        without_measurements(&run.stdout)
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let cold = lines(&[]);
    let mut warm = lines(&["--warmup-mode", "request"]);
    let extra = warm
        .iter()
        .position(|line| line.contains("Warmed-up request processed in"))
        .unwrap();
    assert_eq!(
        warm.remove(extra),
        "[# #] Warmed-up request processed in # seconds (with warmup excluded)"
    );
    assert_eq!(warm, cold);
}
