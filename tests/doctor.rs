//! `doctor`: what it reports, and whether its exit code is what `generate`'s would be.
#![expect(clippy::unwrap_used, reason = "tests")]

mod program;

use std::fs;

use program::{Run, Scratch, copy_checkpoint};
use serde_json::{Value, json};

fn doctor(scratch: &Scratch, args: &[&str]) -> Run {
    scratch.run(&[&["doctor"], args].concat())
}

#[test]
fn json_has_every_fact_of_the_machine() {
    let scratch = Scratch::new();
    let mut command = scratch.command(&["doctor", "--device", "cpu", "--json"]);
    let folders = [
        ("HF_HUB_CACHE", "hub"),
        ("SGLANG_DIFFUSION_TORCH_PROFILER_DIR", "traces"),
        ("", "outputs"),
    ];
    let report = Run::of(command.envs(folders[..2].iter().copied()))
        .success()
        .json();
    let program = &report["program"];
    assert_eq!(program["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(program["commit"], "abc1234");
    assert_eq!(program["cuda"], cfg!(feature = "cuda"));
    assert!(report["cpu"]["threads"].as_u64() >= Some(1));
    let memory = |key: &str| report["memory"][key].as_u64().unwrap();
    assert!(memory("available_bytes") <= memory("total_bytes"));
    assert_eq!(report["device"], "cpu: asked for");
    assert_eq!(
        (&report["model"], &report["refusal"]),
        (&Value::Null, &Value::Null)
    );
    for (folder, (_, name)) in report["folders"].as_array().unwrap().iter().zip(folders) {
        let path = fs::canonicalize(scratch.path(".")).unwrap().join(name);
        assert_eq!(folder["path"], path.to_str().unwrap());
        assert_eq!(
            (&folder["exists"], &folder["writable"]),
            (&json!(false), &json!(true))
        );
        assert!(folder["free_bytes"].as_u64() > Some(0));
    }
    assert_eq!(scratch.names("."), [""; 0]);
}

#[test]
fn a_sound_model_is_measured_by_its_headers() {
    let scratch = Scratch::new();
    let run = doctor(&scratch, &["--model", "builtin:tiny", "--device", "cpu"]).success();
    let last = run.stdout.lines().last().unwrap();
    assert_eq!(last, "generate   would run");
    assert!(
        run.stdout
            .contains("\nmodel      vae: 2.0 million parameters"),
        "{}",
        run.stdout
    );

    let args = ["--model-path", "builtin:tiny", "--device", "cpu", "--json"];
    let report = doctor(&scratch, &args).success().json();
    let components = report["model"]["components"].as_array().unwrap();
    let names: Vec<_> = components
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["text_encoder", "transformer", "vae"]);
    for component in components {
        // Stored in half precision.
        let bytes = 2 * component["parameters"].as_u64().unwrap();
        assert_eq!(component["bytes"], bytes);
    }
    let peak = |size: &[&str]| {
        let report = doctor(&scratch, &[&args, size].concat()).success().json();
        report["model"]["plan"]["peaks"]["DecodingStage"]
            .as_u64()
            .unwrap()
    };
    assert!(peak(&["--width", "1024", "--height", "1024"]) > 5 * peak(&[]));
}

#[test]
fn a_folder_that_generate_could_not_make_is_a_refusal() {
    let scratch = Scratch::new();
    scratch.write("outputs", "");
    let run = doctor(&scratch, &["--device", "cpu"]);
    assert_eq!(run.code, Some(1));
    let last = run.stdout.lines().last().unwrap_or_default();
    assert!(last.starts_with("generate   would be refused: "), "{last}");
    assert!(last.contains("outputs"), "{last}");
}

/// A plan that does not fit is a refusal: it is shown, and the last line says what is missing.
#[test]
fn a_model_that_does_not_fit_is_refused() {
    let scratch = Scratch::new();
    let args = ["doctor", "--model-path", "builtin:tiny", "--device", "cpu"];
    let mut command = scratch.command(&args);
    command.env("QWEN_GEN_MEMORY_LIMIT_GIB", "0.07");
    let run = Run::of(&mut command);
    assert_eq!(run.code, Some(1));
    let error = "generate   would be refused: not enough memory: DecodingStage needs";
    let last = run.stdout.lines().last().unwrap_or_default();
    assert!(last.starts_with(error), "{}", run.stdout);
    assert!(
        run.stdout.contains("\nplan       memory plan for"),
        "{}",
        run.stdout
    );
}

#[test]
fn what_generate_refuses_is_the_last_line() {
    let scratch = Scratch::new();
    copy_checkpoint("tiny-a", &scratch.path("model"));
    let shard = scratch.path("model/vae/diffusion_pytorch_model.safetensors");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() / 2]).unwrap();
    for (args, fault) in [
        (
            &["--model-path", "model"][..],
            "vae/diffusion_pytorch_model.safetensors: ",
        ),
        (
            &["--model-path", "gone"],
            "--model-path `gone`: no such folder",
        ),
        (&["--device", "cuda:63"], "--device cuda:63: "),
    ] {
        let run = doctor(&scratch, args);
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        let last = run.stdout.lines().last().unwrap();
        let reason = last.strip_prefix("generate   would be refused: ").unwrap();
        assert!(reason.starts_with(fault), "{last}");
        assert_eq!(run.stderr, "");

        let json = doctor(&scratch, &[args, &["--json"]].concat());
        assert_eq!(json.code, Some(1));
        let refusal = json.json()["refusal"].clone();
        assert!(reason.starts_with(refusal["reason"].as_str().unwrap()));
    }
}

#[test]
fn bad_usage_is_told_from_a_refusal() {
    let scratch = Scratch::new();
    for args in [&["--device", "gpu"][..], &["--no-such-flag"], &["model"]] {
        assert_eq!(doctor(&scratch, args).code, Some(2), "{args:?}");
    }
}
