//! Traces of the whole program, judged by the validator of the trace format and by what is in them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use flate2::read::GzDecoder;
use serde_json::Value;
use tempfile::TempDir;

/// The program on the built-in model, in a folder of its own.
struct Run {
    folder: TempDir,
    output: Output,
}

fn command(folder: &Path, args: &str) -> Command {
    let mut command = Command::new(cargo_bin("qwen-gen"));
    command
        .current_dir(folder)
        .args("generate --model-path builtin:tiny --device cpu".split(' '))
        .args("--width 64 --height 64 --prompt x".split(' '))
        .args(args.split_whitespace())
        .env_remove("SGLANG_DIFFUSION_TORCH_PROFILER_DIR")
        .env_remove("SGLANG_TORCH_PROFILER_DIR");
    command
}

impl Run {
    fn new(args: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = command(folder.path(), args).output().unwrap();
        Self { folder, output }
    }

    fn stdout(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).unwrap()
    }

    fn stderr(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).unwrap()
    }

    /// Paths of the lines that tell of a saved trace.
    fn saved(&self) -> Vec<PathBuf> {
        let stdout = self.stdout();
        let lines = stdout.lines();
        lines
            .filter_map(|line| line.split_once("] Saved profiler traces to: "))
            .map(|(_, path)| path.into())
            .collect()
    }

    /// The traces of a run that ended well, each found sound by the validator.
    fn traces(&self, expected: &[&str]) -> Vec<Value> {
        assert!(self.output.status.success(), "{}", self.stderr());
        let paths = self.saved();
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

    fn trace(&self, expected: &[&str]) -> Value {
        let mut traces = self.traces(expected);
        assert_eq!(traces.len(), 1);
        traces.remove(0)
    }
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

fn file_names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn five_steps_after_one_warm_up_step_by_default() {
    let run = Run::new("--num-inference-steps 8 --profile --request-id r");
    let trace = run.trace(&["--expect-steps", "5"]);
    let name = "r-5_steps-global-rank0.trace.json.gz";
    let path = fs::canonicalize(run.folder.path())
        .unwrap()
        .join("logs")
        .join(name);
    assert_eq!(fs::canonicalize(&run.saved()[0]).unwrap(), path);
    assert_eq!(file_names(&run.folder.path().join("logs")), [name]);
    assert_eq!(trace["traceName"], name);

    let stdout = run.stdout();
    let told = [
        "] Profiling request: r for 5 steps...",
        "] Starting Profiler...",
        "] Stopping Profiler...",
        "] Saved profiler traces to: ",
    ];
    let places = told.map(|line| stdout.find(line).expect(line));
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
    let trace = Run::new("--num-inference-steps 3 --profile --num-profiled-timesteps 2").trace(&[]);
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
    let one = Run::new("--num-inference-steps 3 --profile --num-profiled-timesteps 1");
    one.trace(&["--expect-steps", "1"]);
    let ten = Run::new("--num-inference-steps 12 --profile --num-profiled-timesteps 10");
    ten.trace(&["--expect-steps", "10"]);
    let all = Run::new("--num-inference-steps 4 --profile --num-profiled-timesteps -1");
    all.trace(&["--expect-steps", "3"]);
    for run in [one, ten, all] {
        assert_eq!(run.stderr(), "");
    }
}

#[test]
fn a_short_run_records_what_there_is_and_says_so() {
    let run = Run::new("--num-inference-steps 4 --profile --request-id r");
    let trace = run.trace(&[]);
    assert!(run.saved()[0].ends_with("logs/r-5_steps-global-rank0.trace.json.gz"));
    let steps = (1..=5).map(|step| count(&trace, &format!("ProfilerStep#{step}")));
    assert_eq!(steps.sum::<usize>(), 3);
    assert_eq!(
        run.stderr(),
        "warning: --num-profiled-timesteps 5: the trace has 3 of the run's 4 steps, the first is the warm-up\n"
    );

    let run = Run::new("--num-inference-steps 1 --profile");
    assert_eq!(run.output.status.code(), Some(2));
    assert!(run.stderr().contains("none is left to record"));
}

#[test]
fn all_stages_hold_all_steps_and_loading_has_its_own_row() {
    let run = Run::new("--num-inference-steps 3 --profile --profile-all-stages --request-id r");
    assert!(
        run.stdout()
            .contains("Profiling request: r for full stages...")
    );
    assert!(run.saved()[0].ends_with("logs/r-full_stages-global-rank0.trace.json.gz"));
    let trace = run.trace(&["--expect-steps", "3", "--expect-stages", "t2i"]);
    let loads: Vec<_> = events(&trace, "X")
        .filter(|event| event["tid"] == 0 && event["cat"] == "user_annotation")
        .map(|event| event["name"].as_str().unwrap())
        .collect();
    assert_eq!(loads, ["load text_encoder", "load transformer", "load vae"]);
}

#[test]
fn every_picture_has_its_trace_and_its_id() {
    let args = "y --num-outputs-per-prompt 2 --num-inference-steps 3 --profile \
                --profile-all-stages --request-id r --perf-dump-path perf.json";
    let run = Run::new(args);
    let traces = run.traces(&["--expect-steps", "3", "--expect-stages", "t2i"]);
    let name = |index: usize| format!("r-{index}-full_stages-global-rank0.trace.json.gz");
    let names: Vec<_> = traces
        .iter()
        .map(|trace| trace["traceName"].clone())
        .collect();
    assert_eq!(names, [name(0), name(1), name(2), name(3)]);
    let loads = |trace| count(trace, "load vae");
    assert_eq!(traces.iter().map(loads).collect::<Vec<_>>(), [1, 0, 0, 0]);

    let perf = fs::read(run.folder.path().join("perf.json")).unwrap();
    let perf: Value = serde_json::from_slice(&perf).unwrap();
    assert_eq!(perf["request_id"], "r-0");
    assert_eq!(perf["requests"][2]["request_id"], "r-3");
}

#[test]
fn a_warm_up_request_is_not_recorded() {
    let args =
        "--num-inference-steps 3 --warmup-mode request --profile --num-profiled-timesteps -1";
    Run::new(args).trace(&["--expect-steps", "2"]);
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
        let run = Run::new(args);
        assert_eq!(run.output.status.code(), Some(2), "{args}");
        assert_eq!(file_names(run.folder.path()), [""; 0], "{args}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_found_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("logs"), "a file").unwrap();
    let output = command(folder.path(), "--profile").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error: cannot write logs/"), "{stderr}");
    assert!(!String::from_utf8(output.stdout).unwrap().contains("Stage"));
    assert_eq!(file_names(folder.path()), ["logs"]);
}

#[test]
fn a_full_disk_leaves_no_trace_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let generate = command(
        folder.path(),
        "--no-save-output --num-inference-steps 7 --profile",
    );
    // Files of at most one block; what is too long is then an error and not a signal.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh"])
        .arg(generate.get_program())
        .args(generate.get_args())
        .current_dir(folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.starts_with("error: the trace is not saved: cannot write "),
        "{stderr}"
    );
    assert!(
        !String::from_utf8(output.stdout)
            .unwrap()
            .contains("Saved profiler")
    );
    assert_eq!(file_names(&folder.path().join("logs")), [""; 0]);
}

#[test]
fn an_interrupted_run_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(
        folder.path(),
        "--num-inference-steps 1000 --profile --log-level debug",
    )
    .stdout(std::process::Stdio::piped())
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
    assert_eq!(file_names(folder.path()), [""; 0]);
}
