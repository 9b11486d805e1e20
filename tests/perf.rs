//! The perf dump of whole runs: its schema, its sums, and `compare-perf` on it.

#![expect(clippy::unwrap_used, reason = "tests")]

mod program;

use std::fs;

use program::Scratch;
use serde_json::Value;

const STAGES: [&str; 6] = [
    "InputValidationStage",
    "TextEncodingStage",
    "LatentPreparationStage",
    "TimestepPreparationStage",
    "DenoisingStage",
    "DecodingStage",
];

fn dump(scratch: &Scratch, flags: &[&str]) -> String {
    let to = ["--no-save-output", "--perf-dump-path", "perf.json"];
    let run = scratch.generate(&[flags, &to].concat()).success();
    let said = format!(
        "Metrics dumped to: {}\n",
        scratch.path("perf.json").display()
    );
    assert!(run.stdout.contains(&said), "{}", run.stdout);
    fs::read_to_string(scratch.path("perf.json")).unwrap()
}

fn parse(dump: &str) -> Value {
    serde_json::from_str(dump).unwrap()
}

fn ms(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Every measured value by its kind; keys, their order, counts and names stay.
fn without_measurements(dump: &str) -> String {
    let line = |line: &str| {
        let Some((key, value)) = line.split_once(": ") else {
            return line.to_owned();
        };
        let (value, comma) = match value.strip_suffix(',') {
            Some(value) => (value, ","),
            None => (value, ""),
        };
        let value = match key.trim().trim_matches('"') {
            "timestamp" => "<UTC time>",
            "request_id" => "<UUID>",
            _ if value.starts_with(['[', '{']) => value,
            key if key.ends_with("_ms") || key.ends_with("_mb") => {
                assert!(
                    value == "null" || value.parse::<f64>().unwrap() >= 0.0,
                    "{line}"
                );
                "<number>"
            }
            _ => value,
        };
        format!("{key}: {value}{comma}")
    };
    dump.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Checks the record's sums. Between stages the console writes, which takes what the reader of its pipe takes.
fn check_sums(record: &Value, steps: usize) {
    let stages = record["steps"].as_array().unwrap();
    assert!(stages.iter().map(|stage| &stage["name"]).eq(STAGES));
    let denoise_steps = record["denoise_steps_ms"].as_array().unwrap();
    assert!(
        denoise_steps
            .iter()
            .map(|step| step["step"].as_u64().unwrap())
            .eq(0..steps as u64)
    );
    let sum = |records: &[Value]| records.iter().map(|r| ms(&r["duration_ms"])).sum::<f64>();
    let total = ms(&record["total_duration_ms"]);
    let (all_stages, denoising) = (sum(stages), ms(&stages[4]["duration_ms"]));
    assert!(all_stages <= total, "{all_stages} of {total}");
    // Text encoding and decoding.
    assert!(ms(&stages[1]["duration_ms"]) > 0.0 && ms(&stages[5]["duration_ms"]) > 0.1);
    let steps = sum(denoise_steps);
    assert!(
        steps <= denoising && steps > 0.5 * denoising,
        "{steps} of {denoising}"
    );
}

#[test]
fn the_schema() {
    let scratch = Scratch::new();
    insta::assert_snapshot!(without_measurements(&dump(
        &scratch,
        &["--prompt", "é", "b"]
    )));
}

#[test]
fn durations_add_up_in_every_request() {
    let scratch = Scratch::new();
    let flags = [
        "--num-outputs",
        "3",
        "--num-inference-steps",
        "3",
        "--warmup-mode",
        "request",
    ];
    let dump = parse(&dump(&scratch, &flags));
    let further = dump["requests"].as_array().unwrap();
    assert_eq!(further.len(), 2);
    for record in further.iter().chain([&dump]) {
        check_sums(record, 3);
        let id = record["request_id"].as_str().unwrap();
        let run = dump["request_id"].as_str().unwrap();
        assert_eq!(id[..36], run[..36]);
    }
    let load: f64 = dump["load"]
        .as_object()
        .unwrap()
        .values()
        .map(|l| ms(&l["duration_ms"]))
        .sum();
    assert!(ms(&dump["cold_start_ms"]) >= load);
}

#[test]
fn a_saved_picture_has_a_save_time_and_prompts_of_a_file_are_not_told() {
    let scratch = Scratch::new();
    scratch.write("prompts.txt", "a\n");
    let flags = [
        "--prompt-path",
        "prompts.txt",
        "--output-file-path",
        "a.png",
    ];
    let perf = ["--perf-dump-path", "new/folder/perf.json"];
    scratch.generate(&[&flags[..], &perf].concat()).success();
    let dump = parse(&fs::read_to_string(scratch.path("new/folder/perf.json")).unwrap());
    assert!(ms(&dump["save_ms"]) > 0.0);
    assert_eq!(dump["meta"]["prompt"], Value::Null);
    assert_eq!(
        scratch.names("."),
        [
            "a.png",
            "new/",
            "new/folder/",
            "new/folder/perf.json",
            "prompts.txt"
        ]
    );
}

#[test]
fn what_a_warm_up_loads_is_in_the_dump() {
    let scratch = Scratch::new();
    let flags = ["--warmup-mode", "request", "--text-encoder-cpu-offload"];
    let dump = parse(&dump(&scratch, &flags));
    let mut loaded: Vec<_> = dump["load"].as_object().unwrap().keys().collect();
    loaded.sort();
    assert_eq!(loaded, ["text_encoder", "transformer", "vae"]);
}

#[test]
fn dumps_of_two_runs_compare() {
    let scratch = Scratch::new();
    fs::write(scratch.path("base.json"), dump(&scratch, &[])).unwrap();
    dump(&scratch, &["--width", "256", "--height", "256"]);
    let compare = |flags: &[&str]| {
        scratch.run(&[&["compare-perf", "base.json", "perf.json"], flags].concat())
    };
    let report = compare(&[]).success().stdout;
    assert!(
        report.starts_with("### Performance Comparison Report\n"),
        "{report}"
    );
    assert!(
        STAGES.iter().all(|stage| report.contains(stage)),
        "{report}"
    );
    let limits = |stage: &'static str, limit| ["--fail-above", limit, "--stage", stage];
    compare(&limits("DenoisingStage", "1000000")).success();
    let slower = compare(&limits("DenoisingStage", "20"));
    assert_eq!(slower.code, Some(1), "{}", slower.stdout);
    fs::rename(scratch.path("perf.json"), scratch.path("slow.json")).unwrap();
    dump(&scratch, &["--num-inference-steps", "3"]);
    let longer = compare(&limits("DenoisingStage", "20")).failure(2);
    assert!(longer.contains("denoising steps in it: 3"), "{longer}");
    fs::rename(scratch.path("slow.json"), scratch.path("perf.json")).unwrap();
    let unknown = compare(&limits("PaintingStage", "100")).failure(2);
    assert!(unknown.contains("PaintingStage"), "{unknown}");
    let foreign = scratch
        .run(&["compare-perf", "base.json", "missing.json"])
        .failure(2);
    assert!(foreign.contains("missing.json"), "{foreign}");
}
