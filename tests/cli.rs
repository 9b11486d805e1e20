//! What can be typed: help, version, and every way to be refused before any work.

#![expect(clippy::unwrap_used, reason = "tests")]

mod program;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use program::Scratch;

/// Runs the command lines and writes down what each says; all must end with `code`.
fn transcript(code: i32, command_lines: &[&[&str]]) -> String {
    let scratch = Scratch::new();
    scratch.write("empty.txt", "\n \n");
    scratch.write("latin1.txt", b"caf\xe9\n");
    scratch.write("prompts.md", "a\n");
    scratch.write("file", "");
    let mut transcript = String::new();
    for args in command_lines {
        let run = scratch.run(args);
        assert_eq!(run.code, Some(code), "{args:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{args:?}");
        let args: Vec<_> = args.iter().map(|arg| quoted(arg)).collect();
        writeln!(transcript, "$ qwen-gen {}\n{}", args.join(" "), run.stderr).unwrap();
    }
    let left = ["empty.txt", "file", "latin1.txt", "prompts.md"];
    assert_eq!(scratch.names("."), left, "a refusal has no side effect");
    transcript
}

fn quoted(arg: &str) -> String {
    if arg.is_empty() || arg.contains([' ', '"']) {
        format!("'{arg}'")
    } else {
        arg.to_owned()
    }
}

fn help(args: &[&str]) -> String {
    Scratch::new().run(args).success().stdout
}

#[test]
fn help_of_the_program() {
    insta::assert_snapshot!(help(&["--help"]));
    assert_eq!(help(&["-h"]), help(&["--help"]));
}

#[test]
fn help_of_generate() {
    insta::assert_snapshot!(help(&["generate", "-h"]));
}

#[test]
fn help_of_compare_perf() {
    insta::assert_snapshot!(help(&["compare-perf", "--help"]));
}

#[test]
fn help_comes_at_once_and_fits_any_terminal() {
    let scratch = Scratch::new();
    let fastest = (0..5)
        .map(|_| {
            let started = Instant::now();
            scratch.run(&["generate", "--help"]).success();
            started.elapsed()
        })
        .min();
    // 2 ms on an idle machine.
    assert!(fastest.unwrap() < Duration::from_millis(200), "{fastest:?}");
    for columns in ["0", "1", "7", "1000", "x"] {
        let mut command = scratch.command(&["generate", "--help"]);
        program::Run::of(command.env("COLUMNS", columns)).success();
    }
}

#[test]
fn version() {
    let expected = format!("qwen-gen {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(help(&["--version"]), expected);
    assert_eq!(help(&["-V"]), expected);
}

#[test]
fn completions_of_every_shell_know_the_flags() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = help(&["completions", shell]);
        assert!(script.contains("num-inference-steps"), "{shell}");
    }
}

#[test]
fn bash_completes_the_flags_of_a_verb() {
    let script = help(&["completions", "bash"])
        + "COMP_WORDS=(qwen-gen generate --dev); COMP_CWORD=2; \
           _qwen__gen qwen-gen --dev generate; echo \"${COMPREPLY[@]}\"";
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .output();
    assert_eq!(
        String::from_utf8_lossy(&output.unwrap().stdout),
        "--device\n"
    );
}

#[test]
fn usage_errors() {
    let mut lines: Vec<Vec<&str>> = vec![
        vec![],
        vec!["paint"],
        vec!["generate"],
        vec!["generate", "--prompt", "a"],
        vec!["generate", "--model-path", "builtin:tiny"],
        vec!["generate", "--model-path", "builtin:huge", "--prompt", "a"],
        vec!["generate", "--model-path", "nowhere", "--prompt", "a"],
        vec!["generate", "--model-path", "file", "--prompt", "a"],
        vec![
            "generate",
            "--model-path",
            "Qwen/Qwen-Image",
            "--revision",
            "../x",
            "--prompt",
            "a",
        ],
    ];
    let values: [&[&str]; 50] = [
        &["--revision", "main"],
        &["--no-such-flag"],
        &["--num-inference-step-count", "3"],
        &["--num", "3"],
        &["--width", "8"],
        &["--height", "4097"],
        &["--width", "4096.0"],
        &["--width", "-5"],
        &["--lora-path"],
        &["--lora-path", "loras/nowhere.safetensors"],
        &["--lora-path", ".", "--lora-weight-name", "a.safetensors"],
        &["--lora-scale", "1"],
        &["--lora-weight-name", "a.safetensors"],
        &["--flow-shift", "0"],
        &["--num-inference-steps", "0"],
        &["--num-inference-steps", "1001"],
        &["--guidance-scale", "nan"],
        &["--guidance-scale", "-1"],
        &["--guidance-scale", "four"],
        &["--true-cfg-scale", "inf"],
        &["--seed", "-1"],
        &["--seed", "18446744073709551616"],
        &["--seed", "18446744073709551615", "--num-outputs", "2"],
        &["--seed", "1", "2", "3", "--num-outputs", "2"],
        &["--seed"],
        &["--num-outputs-per-prompt", "0"],
        &["--num-outputs-per-prompt", "10001"],
        &["--generator-device", "musa"],
        &["--perf-dump-path", ""],
        &["--max-sequence-length", "0"],
        &["--max-sequence-length", "1025"],
        &["--prompt-path", "missing.txt"],
        &["--prompt-path", "empty.txt"],
        &["--prompt-path", "latin1.txt"],
        &["--prompt-path", "prompts.md"],
        &["--output-path", ""],
        &["--output-file-name", "a/b.png"],
        &["--output-file-name", "a.jpg"],
        &["--output-file-name", "a\nb.png"],
        &["--perf-dump-path", "p\nOutput saved to x"],
        &["--output-file-path", "folder/"],
        &["--output-file-path", "a.png", "--output-path", "folder"],
        &["--output-file-name", "a.png", "--prompt", "b"],
        &["--device", "tpu"],
        &["--num-gpus", "2"],
        &["--attention-backend", "sage_attn"],
        &["--pin-cpu-memory", "false"],
        &["--dit-precision", "fp16"],
        &["--warmup-mode", "request", "--warmup-steps", "0"],
        &["--quiet", "--log-level", "debug"],
    ];
    for flags in values {
        let run = ["generate", "--model-path", "builtin:tiny", "--prompt", "a"];
        lines.push([&run, flags].concat());
    }
    lines.push(vec!["completions", "tcsh"]);
    lines.push(vec!["compare-perf", "a.json"]);
    lines.push(vec!["compare-perf", "a.json", "b.json"]);
    lines.push(vec!["compare-perf", "a", "b", "--fail-above", "NaN"]);
    lines.push(vec!["compare-perf", "a", "b", "--stage", "DenoisingStage"]);
    let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
    insta::assert_snapshot!(transcript(2, &lines));
}

#[test]
fn flags_of_upstream_are_refused_by_name() {
    let generate = |flags: &[&'static str]| {
        let run = ["generate", "--model-path", "builtin:tiny", "--prompt", "a"];
        [&run, flags].concat()
    };
    let lines = [
        generate(&["--tp-size", "2"]),
        generate(&["--vae-sp=true"]),
        generate(&["--warmup"]),
        generate(&["--lora-nickname", "a"]),
        generate(&["--output-quality", "low"]),
        generate(&["--component-attention-backends.transformer", "fa"]),
        vec!["generate", "--vae-path=x", "--help"],
    ];
    let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
    insta::assert_snapshot!(transcript(2, &lines));
}

/// Ends before any work, with the line that shows the size.
#[test]
fn prefixes_and_values_in_both_spellings() {
    let scratch = Scratch::new();
    let run = |args: &[&str]| {
        let run = scratch.run(&[&["generate"], args].concat());
        run.failure(2)
    };
    let full = run(&[
        "--model-path",
        "builtin:tiny",
        "--prompt",
        "a",
        "--width",
        "8",
    ]);
    assert_eq!(full, "error: --width 8: expected 16 to 4096");
    assert_eq!(run(&["--model=builtin:tiny", "--prompt=a", "--wi=8"]), full);
    assert_eq!(
        run(&["--model=builtin:tiny", "--prompt", "- a", "b", "--wi=8"]),
        full
    );
    let upstreams = ["--mode=manual", "--model=builtin:tiny", "--prompt=a"];
    assert_eq!(run(&[&upstreams[..], &["--wi=8"]].concat()), full);
    assert_eq!(
        run(&["--model-p", "builtin:tiny", "--prompt-f", "missing.txt"])
            .split(' ')
            .nth(1),
        Some("--prompt-path")
    );
}

#[test]
fn a_closed_pipe_is_no_error_and_a_full_disk_is() {
    let scratch = Scratch::new();
    let shell = |line| {
        let command = scratch.shell(line, &["completions", "bash"]);
        program::Run::of(&mut program::bounded(command))
    };
    let closed = shell("{ \"$0\" \"$@\"; echo $? >&2; } | true");
    assert_eq!(closed.stderr, "0\n");
    let full = shell("\"$0\" \"$@\" >/dev/full").failure(1);
    assert_eq!(
        full,
        "error: cannot write standard output: No space left on device (os error 28)"
    );
}

#[test]
fn a_prompt_may_begin_like_a_flag_of_upstream() {
    let scratch = Scratch::new();
    let args = [
        "--prompt",
        "--fps. A cat",
        "--component-wise drawing",
        "--dry-run",
    ];
    scratch.generate(&args).success();
}

#[test]
fn what_is_not_utf8_is_named() {
    let scratch = Scratch::new();
    let line = "\"$0\" generate --prompt \"$(printf '\\377')\"";
    let mut command = program::bounded(scratch.shell(line, &[""; 0]));
    let error = program::Run::of(&mut command).failure(2);
    assert_eq!(error, "error: --prompt \u{fffd}: not UTF-8");
}

#[test]
fn help_that_is_lost_is_an_error() {
    let scratch = Scratch::new();
    let command = scratch.shell("\"$0\" \"$@\" >/dev/full", &["--help"]);
    let error = program::Run::of(&mut program::bounded(command)).failure(1);
    assert!(
        error.starts_with("error: cannot write standard output: "),
        "{error}"
    );
}

#[test]
fn names_that_no_disk_takes_are_refused_before_the_work() {
    let scratch = Scratch::new();
    let long = "d".repeat(300);
    for path in [format!("{long}/a"), format!("new/{long}/a"), long] {
        let args = ["--num-inference-steps", "1000", "--perf-dump-path", &path];
        let error = scratch.generate(&args).failure(1);
        assert!(error.ends_with(": a name in it is too long"), "{error}");
    }
}

#[test]
fn what_has_no_effect_is_told() {
    let scratch = Scratch::new();
    for (args, warning) in [
        (
            &["--negative-prompt", "blurry", "--guidance-scale", "1"][..],
            "--negative-prompt has no effect: guidance is off at a scale of 1",
        ),
        (
            &[
                "--profile",
                "--profile-all-stages",
                "--num-profiled-timesteps",
                "1",
            ],
            "--num-profiled-timesteps: --profile-all-stages records all steps",
        ),
        (
            &["--720p"],
            "--width and --height have no effect beside a size by name",
        ),
    ] {
        let run = scratch.generate(&[args, &["--dry-run"]].concat()).success();
        assert_eq!(run.stderr, format!("warning: {warning}\n"));
    }
}
