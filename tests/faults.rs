//! Runs of `generate` that must fail, and what must not fail one: refusals before any work, bad
//! weights, full disks, closed pipes.

#![expect(clippy::unwrap_used, reason = "tests")]

mod program;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use program::{Run, Scratch, copy_checkpoint, generate_args};
use serde_json::Value;

#[test]
fn outputs_are_checked_before_the_model_is_looked_at() {
    let scratch = Scratch::new();
    scratch.write("file", "");
    scratch.write("broken/model_index.json", "{");
    fs::create_dir_all(scratch.path("folder.png")).unwrap();
    let before = scratch.names(".");
    for (flags, why) in [
        (
            &["--output-path", "file"][..],
            "cannot create the folder file: Not a directory",
        ),
        (
            &["--output-path", "file/x"],
            "cannot create the folder file/x: Not a directory",
        ),
        (
            &["--output-file-path", "folder.png"],
            "cannot write folder.png: it is a folder",
        ),
        (
            &["--perf-dump-path", "folder.png"],
            "cannot write folder.png: it is a folder",
        ),
        (
            &["--perf-dump-path", "file/perf.json"],
            "cannot write file/perf.json: cannot create the folder file",
        ),
        (
            &["--perf-dump-path", "/proc/perf.json"],
            "cannot write /proc/perf.json: cannot write to the folder /proc",
        ),
        (
            &["--perf-dump-path", "/dev/null"],
            "cannot write /dev/null: it is not a regular file",
        ),
    ] {
        let no_picture = if flags[0] == "--perf-dump-path" {
            &["--no-save-output"][..]
        } else {
            &[]
        };
        let error = scratch
            .generate(&[&["--model-path", "broken"], flags, no_picture].concat())
            .failure(1);
        assert!(error.contains(why), "{flags:?}: {error}");
    }
    let error = scratch
        .generate(&["--model-path", "broken", "--no-save-output"])
        .failure(1);
    assert!(
        error.starts_with("error: model_index.json: not valid JSON"),
        "{error}"
    );
    assert_eq!(scratch.names("."), before);
}

#[test]
fn two_outputs_do_not_go_to_one_place() {
    let scratch = Scratch::new();
    let refused = |args: &[&str], one: &str, other: &str| {
        let error = scratch.generate(args).failure(2);
        let why = "outputs of this run, and only one can be there";
        assert_eq!(error, format!("error: {one} and {other}: {why}"));
    };
    let args = ["--output-file-path", "a/b.png", "--perf-dump-path"];
    let (same, inside) = ("a/../a/b.png", "a/b.png/p.json");
    refused(&[&args[..], &[same]].concat(), same, "a/b.png");
    refused(&[&args[..], &[inside]].concat(), "a/b.png", inside);
    let args = [
        "--output-file-path",
        "a.json/b.png",
        "--perf-dump-path",
        "a.json",
    ];
    refused(&args, "a.json", "a.json/b.png");
    let (folder, name) = ("logs", "logs/r-5_steps-global-rank0.trace.json.gz");
    let args = ["--perf-dump-path", folder, "--profile", "--request-id", "r"];
    refused(
        &[&args[..], &["--num-inference-steps", "7"]].concat(),
        folder,
        name,
    );
    fs::create_dir(scratch.path("o")).unwrap();
    symlink("c_1.png", scratch.path("o/c_0.png")).unwrap();
    let args = ["--output-file-path", "o/c.png", "--num-outputs", "2"];
    refused(&args, "o/c_0.png", "o/c_1.png");
    assert_eq!(scratch.names("."), ["o/", "o/c_0.png"]);
}

#[test]
fn paths_that_json_cannot_hold_are_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let scratch = Scratch::new();
    for flag in ["--output-path", "--output-file-path", "--perf-dump-path"] {
        let mut command = scratch.command(&generate_args(&[]));
        command.arg(flag).arg(OsStr::from_bytes(b"a\xff"));
        let error = Run::of(&mut command).failure(2);
        assert_eq!(error, format!("error: {flag} a\u{fffd}: not UTF-8"));
    }
    let mut command = scratch.command(&generate_args(&["--profile"]));
    command.env("SGLANG_TORCH_PROFILER_DIR", OsStr::from_bytes(b"a\xff"));
    let error = Run::of(&mut command).failure(2);
    assert_eq!(error, "error: trace folder a\u{fffd}: not UTF-8");
    command.env("SGLANG_TORCH_PROFILER_DIR", "a\nb");
    let error = Run::of(&mut command).failure(2);
    assert_eq!(
        error,
        "error: trace folder \"a\\nb\": it has a control character"
    );
    assert_eq!(scratch.names("."), [""; 0]);
}

#[test]
fn a_prompt_file_is_never_waited_for() {
    let scratch = Scratch::new();
    let made = Command::new("mkfifo")
        .arg(scratch.path("fifo.txt"))
        .status()
        .unwrap();
    assert!(made.success());
    let error = scratch.generate(&["--prompt-path", "fifo.txt"]).failure(2);
    assert_eq!(error, "error: --prompt-path fifo.txt: not a regular file");
}

#[test]
fn a_prompt_that_cannot_be_tokenised_is_refused_before_loading() {
    let scratch = Scratch::new();
    scratch.write("blanks.txt", format!("a{}b", " ".repeat(1_500_000)));
    let run = scratch.generate(&["--prompt-path", "blanks.txt"]);
    assert!(!run.stdout.contains("Stage"));
    assert_eq!(
        run.failure(2),
        "error: the prompt has too many blanks in a row"
    );
}

#[test]
fn a_tokenizer_larger_than_the_embedding_is_refused() {
    let scratch = Scratch::new();
    copy_checkpoint("tiny-a", &scratch.path("model"));
    let file = scratch.path("model/text_encoder/config.json");
    let config = fs::read_to_string(&file).unwrap();
    let vocab_size =
        serde_json::from_str::<Value>(&config).unwrap()["text_config"]["vocab_size"].clone();
    fs::write(
        &file,
        config.replace(
            &format!("\"vocab_size\": {vocab_size}"),
            "\"vocab_size\": 700",
        ),
    )
    .unwrap();
    let error = scratch.generate(&["--model-path", "model"]).failure(1);
    assert!(
        error.starts_with(
            "error: text_encoder/config.json: `vocab_size` is 700, but the tokenizer has the id "
        ),
        "{error}"
    );
}

#[test]
fn weights_that_lack_a_tensor_are_refused_before_any_work() {
    let scratch = Scratch::new();
    copy_checkpoint("tiny-b", &scratch.path("model"));
    let vae = "model/vae/diffusion_pytorch_model.safetensors";
    // A header without tensors.
    scratch.write(vae, b"\x02\0\0\0\0\0\0\0{}");
    let why = "vae has no tensor `decoder.conv_in.bias`";
    for flags in [&["--dry-run"][..], &["--vae-cpu-offload"]] {
        let run = scratch.generate(&[&["--model-path", "model"], flags].concat());
        assert!(!run.stdout.contains("Stage"), "{}", run.stdout);
        assert_eq!(run.failure(1), format!("error: {why}"));
    }
    let doctor = scratch.run(&["doctor", "--model-path", "model", "--device", "cpu"]);
    assert_eq!(doctor.code, Some(1));
    let verdict = format!("would be refused: {why}");
    assert!(doctor.stdout.contains(&verdict), "{}", doctor.stdout);
    assert_eq!(scratch.names("outputs"), [""; 0]);
}

/// Overwrites an f32 tensor of the random checkpoint.
fn poison(file: &Path, tensor: &str, value: f32) {
    let mut bytes = fs::read(file).unwrap();
    let header_bytes = usize::try_from(u64::from_le_bytes(*bytes.first_chunk().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
    let offset = |i: usize| {
        8 + header_bytes
            + usize::try_from(header[tensor]["data_offsets"][i].as_u64().unwrap()).unwrap()
    };
    for element in bytes[offset(0)..offset(1)].chunks_exact_mut(4) {
        element.copy_from_slice(&value.to_le_bytes());
    }
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_result_that_is_not_finite_is_no_picture() {
    let transformer = "transformer/diffusion_pytorch_model.safetensors";
    let vae = "vae/diffusion_pytorch_model.safetensors";
    for (file, tensor, value, what) in [
        (
            transformer,
            "proj_out.bias",
            f32::NAN,
            "the denoised latents",
        ),
        (
            vae,
            "decoder.conv_out.bias",
            f32::NAN,
            "the decoded picture",
        ),
        (
            vae,
            "decoder.conv_out.bias",
            f32::INFINITY,
            "the decoded picture",
        ),
    ] {
        let scratch = Scratch::new();
        copy_checkpoint("tiny-b", &scratch.path("model"));
        poison(&scratch.path("model").join(file), tensor, value);
        let run = scratch.generate(&["--model-path", "model", "--perf-dump-path", "perf.json"]);
        assert_eq!(
            run.failure(1),
            format!("error: the picture was not made: NaN or infinity in {what}")
        );
        assert_eq!(scratch.names("outputs"), [""; 0]);
        assert!(!scratch.path("perf.json").exists());
    }
}

/// A file size limit makes each write fail in turn.
#[test]
fn a_failed_write_leaves_no_part_of_a_file() {
    let scratch = Scratch::new();
    let args = [
        "--output-file-path",
        "out/a.png",
        "--perf-dump-path",
        "out/perf.json",
    ];
    let limited = |blocks| scratch.generate_within(&format!("-f {blocks}"), &args);
    for blocks in [0, 1, 4] {
        let error = limited(blocks).failure(1);
        assert_eq!(
            error,
            "error: the picture was not made: cannot write out/a.png: File too large (os error 27)"
        );
        assert_eq!(scratch.names("out"), [""; 0]);
    }
    limited(10_000).success();
    assert_eq!(scratch.names("out"), ["a.png", "perf.json"]);
    let old = fs::read(scratch.path("out/a.png")).unwrap();
    limited(1).failure(1);
    assert_eq!(fs::read(scratch.path("out/a.png")).unwrap(), old);
    assert_eq!(scratch.names("out"), ["a.png", "perf.json"]);
}

#[test]
fn what_was_done_before_a_failure_is_told_and_stays() {
    let scratch = Scratch::new();
    // The recipe of a long prompt makes the file longer than the limit.
    let long = "word ".repeat(20_000);
    let prompts = ["--output-path", "out", "--prompt", "a", &long, "b"];
    let error = scratch.generate_within("-f 64", &prompts).failure(1);
    let told = "error: picture 2 of 3 was not made, those before it are saved: cannot write ";
    assert!(error.starts_with(told), "{error}");
    let names = scratch.names("out");
    assert!(names.len() == 1 && names[0].starts_with("a_"), "{names:?}");

    let dump = ["--no-save-output", "--perf-dump-path", "perf.json"];
    let error = scratch.generate_within("-f 0", &dump).failure(1);
    let told = "error: the perf dump is not saved: cannot write perf.json: ";
    assert!(error.starts_with(told), "{error}");
    assert!(!scratch.path("perf.json").exists());
    let run = scratch.generate_within("-f 0", &[&dump[..], &["--json"]].concat());
    assert_eq!(run.code, Some(1));
    assert_eq!(run.json()["perf_dump_path"], Value::Null);
}

#[test]
fn memory_that_runs_out_is_an_error() {
    let scratch = Scratch::new();
    let size = ["--width", "4096", "--height", "4096"];
    // The stacks of many threads would be what does not fit.
    let limits = "-v 120000; export RAYON_NUM_THREADS=2";
    let error = scratch.generate_within(limits, &size).failure(1);
    assert!(error.starts_with("error: out of memory: "), "{error}");
    assert_eq!(scratch.names("outputs"), [""; 0]);
}

#[test]
fn nothing_that_becomes_of_its_streams_stops_a_run() {
    let scratch = Scratch::new();
    let args = generate_args(&["--output-file-path", "out/a.png"]);
    for (redirection, code) in [
        ("| true", "0"),
        (">&-", "0"),
        (">&- 2>&-", "0"),
        ("<&- >&- 2>&-", "0"),
        ("2>/dev/full", "0"),
        // Scripts read these lines; the picture is there all the same.
        (">/dev/full", "1"),
    ] {
        let line = format!("{{ \"$0\" \"$@\"; echo $? >code; }} {redirection}");
        scratch.shell(&line, &args).output().unwrap();
        assert_eq!(
            fs::read_to_string(scratch.path("code")).unwrap(),
            format!("{code}\n"),
            "{redirection}"
        );
        assert_eq!(scratch.names("out"), ["a.png"], "{redirection}");
        fs::remove_dir_all(scratch.path("out")).unwrap();
    }
}
