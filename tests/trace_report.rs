//! `qwen-gen trace` on the program's own traces, and on what is none.
#![expect(clippy::unwrap_used, reason = "tests")]

mod program;

use std::fs;
use std::process::Stdio;

use program::{Run, Scratch};
use serde_json::Value;

/// The path of the trace of a run with these arguments.
fn record(scratch: &Scratch, args: &[&str]) -> String {
    let profile = ["--profile", "--request-id", "r"];
    scratch.generate(&[args, &profile].concat()).success();
    let names = scratch.names("logs");
    assert_eq!(names.len(), 1, "{names:?}");
    format!("logs/{}", names[0])
}

fn trace(scratch: &Scratch, args: &[&str]) -> Run {
    scratch.run(&[&["trace"], args].concat())
}

#[test]
fn the_programs_own_traces_are_reported_on() {
    let scratch = Scratch::new();
    let args = ["--profile-all-stages", "--num-inference-steps", "4"];
    let picture = ["--prompt", "<script>x", "--output-file-name", "p"];
    let path = &*record(&scratch, &[&args[..], &picture].concat());

    let report = trace(&scratch, &[path, "--json"]).success().json();
    let names = |key: &str| -> Vec<&str> {
        let rows = report[key].as_array().unwrap().iter();
        rows.map(|row| row["name"].as_str().unwrap()).collect()
    };
    assert_eq!(names("stages").len(), 6);
    assert_eq!(report["steps"].as_array().unwrap().len(), 4);
    assert!(names("operators").contains(&"qwen::attention"));
    assert_eq!(report["device"], Value::Null);
    let stages = report["stages"].as_array().unwrap().iter();
    let stages: Vec<f64> = stages
        .map(|stage| stage["host_ms"].as_f64().unwrap())
        .collect();
    let steps = report["steps"].as_array().unwrap().iter();
    let steps: f64 = steps.map(|step| step["host_ms"].as_f64().unwrap()).sum();
    // Of the stages the fifth is denoising.
    assert!(
        steps > 0.0 && steps <= stages[4],
        "{steps} of {stages:?} ms"
    );
    let stages: f64 = stages.iter().sum();
    let all = report["duration_ms"].as_f64().unwrap();
    assert!(stages <= all, "{stages} of {all} ms");

    let text = trace(&scratch, &[path, path, "--top", "1"])
        .success()
        .stdout;
    assert!(text.starts_with("base: ") && text.contains("and 5 more (--top 0 shows all)"));

    let page = ["--html", "page.html", "--picture", "outputs/p.png"];
    let run = trace(&scratch, &[&[path], &page[..]].concat()).success();
    assert_eq!(run.stdout, "Page saved to page.html\n");
    let page = fs::read_to_string(scratch.path("page.html")).unwrap();
    assert!(page.contains("<tr><td><span class=\"name\" title=\"DenoisingStage\">"));
    assert!(page.contains("<tr><td>prompt</td><td>&lt;script&gt;x</td></tr>"));
    assert!(!page.contains("<script"));

    let picture = fs::read(scratch.path("outputs/p.png")).unwrap();
    scratch.write("cut.png", &picture[..picture.len() - 100]);
    let page = [path, "--html", "cut.html", "--picture", "cut.png"];
    let error = trace(&scratch, &page).failure(1);
    assert!(
        error.starts_with("error: cut.png: not a PNG that can be shown: "),
        "{error}"
    );
    assert!(!scratch.path("cut.html").exists());
}

#[test]
fn what_is_no_trace_is_one_error_that_names_the_file() {
    let scratch = Scratch::new();
    scratch.write("perf.json", "{\"steps\": []}");
    for args in [
        &["perf.json"][..],
        &["missing.json"],
        &["perf.json", "--html", "page.html"],
    ] {
        let run = trace(&scratch, args);
        assert_eq!((run.stderr.lines().count(), &*run.stdout), (1, ""));
        let error = run.failure(1);
        assert!(
            error.starts_with(&format!("error: {}: ", args[0])),
            "{error}"
        );
    }
    assert_eq!(scratch.names("."), ["perf.json"]);
    let both = trace(&scratch, &["a", "--json", "--html", "b"]);
    assert_eq!(both.code, Some(2));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let scratch = Scratch::new();
    let path = record(&scratch, &["--num-inference-steps", "2"]);
    let mut child = scratch
        .process(&["trace", &path])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stderr, b"");
}
