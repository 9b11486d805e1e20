//! Traces of the whole program, judged by the validator of the trace format and by what is in them.
#![expect(clippy::unwrap_used, reason = "tests")]

mod program;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::read::GzDecoder;
use program::{Run, Scratch, generate_args};
use serde_json::Value;

fn generate(scratch: &Scratch, args: &str) -> Run {
    scratch.generate(&args.split_whitespace().collect::<Vec<_>>())
}

/// Paths of the lines that tell of a saved trace.
fn saved(run: &Run) -> Vec<PathBuf> {
    let lines = run.stdout.lines();
    lines
        .filter_map(|line| line.split_once("] Saved profiler traces to: "))
        .map(|(_, path)| path.into())
        .collect()
}

/// The traces of a run that ended well, each found sound by the validator.
#[track_caller]
fn traces(run: &Run, expected: &[&str]) -> Vec<Value> {
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let paths = saved(run);
    assert!(!paths.is_empty());
    paths
        .iter()
        .map(|path| {
            assert!(path.is_absolute());
            validate(path, expected);
            let file = GzDecoder::new(File::open(path).unwrap());
            serde_json::from_reader(file).unwrap()
        })
        .collect()
}

#[track_caller]
fn trace(run: &Run, expected: &[&str]) -> Value {
    let mut traces = traces(run, expected);
    assert_eq!(traces.len(), 1);
    traces.remove(0)
}

#[track_caller]
fn validate(path: &Path, expected: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/validate_trace.py");
    let output = Command::new("python3")
        .arg(script)
        .args(["--check-name", "--require-cats", "cpu_op,user_annotation"])
        .args(expected)
        .arg(path)
        .output()
        .expect("python3 is installed");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {report}", path.display());
    assert!(report.contains(" 0 warnings;"), "{report}");
}

fn events<'a>(trace: &'a Value, phase: &'a str) -> impl Iterator<Item = &'a Value> {
    let events = trace["traceEvents"].as_array().unwrap().iter();
    events.filter(move |event| event["ph"] == phase)
}

fn count(trace: &Value, name: &str) -> usize {
    (events(trace, "X"))
        .filter(|event| event["name"] == name)
        .count()
}

#[test]
fn five_steps_after_one_warm_up_step_by_default() {
    let scratch = Scratch::new();
    let run = generate(&scratch, "--num-inference-steps 8 --profile --request-id r");
    let trace = trace(&run, &["--expect-steps", "5"]);
    let name = "r-5_steps-global-rank0.trace.json.gz";
    let path = fs::canonicalize(scratch.path("."))
        .unwrap()
        .join("logs")
        .join(name);
    assert_eq!(fs::canonicalize(&saved(&run)[0]).unwrap(), path);
    assert_eq!(scratch.names("logs"), [name]);
    assert_eq!(trace["traceName"], name);

    let told = [
        "] Profiling request: r for 5 steps...",
        "] Starting Profiler...",
        "] Stopping Profiler...",
        "] Saved profiler traces to: ",
    ];
    let places = told.map(|line| run.stdout.find(line).expect(line));
    assert!(places.is_sorted());

    for step in 1..=5 {
        assert_eq!(count(&trace, &format!("ProfilerStep#{step}")), 1);
        assert_eq!(count(&trace, &format!("denoising_step_{step}")), 1);
    }
    assert_eq!(
        count(&trace, "ProfilerStep#0") + count(&trace, "ProfilerStep#6"),
        0
    );
    for (name, each_step) in [("predict_noise", 1), ("scheduler_step", 1), ("block_0", 1)] {
        assert_eq!(count(&trace, name), 5 * each_step, "{name}");
    }
    let linears = count(&trace, "qwen::linear");
    assert!(
        linears > 0 && linears.is_multiple_of(5),
        "every step has as many operators"
    );
}

#[test]
fn operators_tell_shapes_and_types_and_counters_the_loop() {
    let scratch = Scratch::new();
    let args = "--num-inference-steps 3 --profile --num-profiled-timesteps 2";
    let trace = trace(&generate(&scratch, args), &[]);
    let step = (events(&trace, "X")).find(|event| event["name"] == "qwen::guided_euler_step");
    let args = &step.unwrap()["args"];
    assert_eq!(args["Input Dims"], serde_json::json!([[16, 64], [32, 64]]));
    assert_eq!(args["Input type"], serde_json::json!(["float", "float"]));

    let values = |track: &str, key: &str| -> Vec<f64> {
        let counters = events(&trace, "C").filter(|event| event["name"] == track);
        counters
            .map(|event| event["args"][key].as_f64().unwrap())
            .collect()
    };
    assert_eq!(values("denoising", "step"), [1.0, 2.0]);
    let sigmas = values("denoising", "sigma");
    assert!(sigmas[0] > sigmas[1] && sigmas[1] > 0.0);
    assert_eq!(values("latents", "norm").len(), 2);
    assert!(values("latents", "norm").iter().all(|norm| *norm > 0.0));
}

#[test]
fn as_many_steps_as_asked_for() {
    for (steps, asked, recorded) in [("3", "1", "1"), ("12", "10", "10"), ("4", "-1", "3")] {
        let scratch = Scratch::new();
        let args =
            format!("--num-inference-steps {steps} --profile --num-profiled-timesteps {asked}");
        let run = generate(&scratch, &args);
        trace(&run, &["--expect-steps", recorded]);
        assert_eq!(run.stderr, "");
    }
}

#[test]
fn a_short_run_records_what_there_is_and_says_so() {
    let scratch = Scratch::new();
    let run = generate(&scratch, "--num-inference-steps 4 --profile --request-id r");
    let trace = trace(&run, &[]);
    assert!(saved(&run)[0].ends_with("logs/r-5_steps-global-rank0.trace.json.gz"));
    let steps = (1..=5).map(|step| count(&trace, &format!("ProfilerStep#{step}")));
    assert_eq!(steps.sum::<usize>(), 3);
    assert_eq!(
        run.stderr,
        "warning: --num-profiled-timesteps 5: the trace has 3 of the run's 4 steps, the first is the warm-up\n"
    );

    let run = generate(&Scratch::new(), "--num-inference-steps 1 --profile");
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("none is left to record"));
}

#[test]
fn all_stages_hold_all_steps_and_loading_has_its_own_row() {
    let scratch = Scratch::new();
    let args = "--num-inference-steps 3 --profile --profile-all-stages --request-id r";
    let run = generate(&scratch, args);
    assert!(
        run.stdout
            .contains("Profiling request: r for full stages...")
    );
    assert!(saved(&run)[0].ends_with("logs/r-full_stages-global-rank0.trace.json.gz"));
    let trace = trace(&run, &["--expect-steps", "3", "--expect-stages", "t2i"]);
    let loads: Vec<_> = events(&trace, "X")
        .filter(|event| event["tid"] == 0 && event["cat"] == "user_annotation")
        .map(|event| event["name"].as_str().unwrap())
        .collect();
    assert_eq!(loads, ["load text_encoder", "load transformer", "load vae"]);
}

#[test]
fn every_picture_has_its_trace_and_its_id() {
    let scratch = Scratch::new();
    let args = "--prompt x y --num-outputs-per-prompt 2 --num-inference-steps 3 --profile \
                --profile-all-stages --request-id r --perf-dump-path perf.json";
    let run = generate(&scratch, args);
    let traces = traces(&run, &["--expect-steps", "3", "--expect-stages", "t2i"]);
    let name = |index: usize| format!("r-{index}-full_stages-global-rank0.trace.json.gz");
    let names: Vec<_> = traces
        .iter()
        .map(|trace| trace["traceName"].clone())
        .collect();
    assert_eq!(names, [name(0), name(1), name(2), name(3)]);
    let loads = |trace| count(trace, "load vae");
    assert_eq!(traces.iter().map(loads).collect::<Vec<_>>(), [1, 0, 0, 0]);

    let perf = fs::read(scratch.path("perf.json")).unwrap();
    let perf: Value = serde_json::from_slice(&perf).unwrap();
    assert_eq!(perf["request_id"], "r-0");
    assert_eq!(perf["requests"][2]["request_id"], "r-3");
}

#[test]
fn a_warm_up_request_is_not_recorded() {
    let args =
        "--num-inference-steps 3 --warmup-mode request --profile --num-profiled-timesteps -1";
    let scratch = Scratch::new();
    trace(&generate(&scratch, args), &["--expect-steps", "2"]);
}

#[test]
fn wrong_flags_are_usage_errors() {
    for args in [
        "--profile-all-stages",
        "--num-profiled-timesteps 3",
        "--profile --num-profiled-timesteps 0",
        "--profile --num-profiled-timesteps -2",
        "--profile --request-id a/b",
    ] {
        let scratch = Scratch::new();
        assert_eq!(generate(&scratch, args).code, Some(2), "{args}");
        assert_eq!(scratch.names("."), [""; 0], "{args}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_found_before_the_work() {
    let scratch = Scratch::new();
    scratch.write("logs", "a file");
    let run = generate(&scratch, "--num-inference-steps 8 --profile");
    assert_eq!(run.code, Some(1));
    assert!(
        run.stderr.starts_with("error: cannot write logs/"),
        "{}",
        run.stderr
    );
    assert!(!run.stdout.contains("Stage"));
    assert_eq!(scratch.names("."), ["logs"]);
}

#[test]
fn a_full_disk_leaves_no_trace_and_fails() {
    let scratch = Scratch::new();
    let args = [
        "--no-save-output",
        "--num-inference-steps",
        "7",
        "--profile",
    ];
    // Files of at most one block.
    let run = scratch.generate_within("-f 1", &args);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(
        run.stderr
            .starts_with("error: the trace is not saved: cannot write "),
        "{}",
        run.stderr
    );
    assert!(!run.stdout.contains("Saved profiler"));
    assert_eq!(scratch.names("."), ["logs/"]);
}

#[test]
fn an_interrupted_run_leaves_no_trace() {
    let scratch = Scratch::new();
    let args = [
        "--num-inference-steps",
        "1000",
        "--profile",
        "--log-level",
        "debug",
    ];
    let mut child = scratch
        .process(&generate_args(&args))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(stdout).map(Result::unwrap);
    assert!(lines.any(|line| line.contains("[DenoisingStage] started")));
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(scratch.names("."), [""; 0]);
}
