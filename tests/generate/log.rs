//! What a run prints.

use serde_json::Value;

use crate::program::{Scratch, generate_args};

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
            "model_commit",
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
    let args = generate_args(&["--json", "--no-save-output", "--quiet"]);
    let full = scratch
        .shell("exec \"$0\" \"$@\" >/dev/full", &args)
        .output();
    assert_eq!(full.unwrap().status.code(), Some(1));
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
