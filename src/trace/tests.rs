//! Reports on a made-up trace, whose numbers are known, and on a real one.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use super::analysis::Analysis;
use super::read::parse;
use super::{Comparison, Report, SideBySide, Text, page};
use crate::Error;

/// Two steps in a stage; the second waits 70 us for the host, 60 of them in a call.
const TRACE: &str = r#"{
  "schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "NVIDIA H100", "numSms": 132}],
  "traceEvents": [
    {"ph": "M", "name": "process_name", "pid": 9, "tid": 0, "ts": 0, "args": {"name": "x"}},
    {"ph": "X", "cat": "Trace", "name": "PyTorch Profiler (0)", "pid": "Spans", "tid": "PyTorch Profiler", "ts": 0, "dur": 500},
    {"ph": "X", "cat": "user_annotation", "name": "STAGE DenoisingStage", "pid": 9, "tid": 9, "ts": 0.000, "dur": 400, "args": {"External id": 1}},
    {"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#3", "pid": 9, "tid": 9, "ts": 10, "dur": 90},
    {"ph": "X", "cat": "cpu_op", "name": "qwen::linear", "pid": 9, "tid": 9, "ts": 20, "dur": 50.5},
    {"ph": "X", "cat": "cuda_driver", "name": "cuLaunchKernel", "pid": 9, "tid": 9, "ts": 30, "dur": 10, "args": {"correlation": 1}},
    {"ph": "s", "cat": "ac2g", "name": "ac2g", "id": 1, "pid": 9, "tid": 9, "ts": 30},
    {"ph": "X", "cat": "cuda_runtime", "name": "cudaMemcpyAsync", "pid": 9, "tid": 9, "ts": 50, "dur": 5, "args": {"correlation": 2}},
    {"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#4", "pid": 9, "tid": 9, "ts": 110, "dur": 200},
    {"ph": "X", "cat": "cpu_op", "name": "qwen::attention", "pid": 9, "tid": 9, "ts": 120, "dur": 150},
    {"ph": "X", "cat": "cpu_op", "name": "qwen::linear", "pid": 9, "tid": 9, "ts": 130, "dur": 130},
    {"ph": "X", "cat": "cuda_driver", "name": "cuLaunchKernel", "pid": 9, "tid": 9, "ts": 140, "dur": 100, "args": {"correlation": 3}},
    {"ph": "X", "cat": "kernel", "name": "gemm", "pid": 0, "tid": 7, "ts": 60, "dur": 100, "args": {"correlation": 1, "est. achieved occupancy %": 40}},
    {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy HtoD (Pageable -> Device)", "pid": 0, "tid": 7, "ts": 170, "dur": 10, "args": {"correlation": 2, "bytes": 20000}},
    {"ph": "X", "cat": "kernel", "name": "gemm", "pid": 0, "tid": 7, "ts": 250, "dur": 300, "args": {"correlation": 3, "est. achieved occupancy %": 80}},
    {"ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "s": "t", "pid": 9, "tid": 9, "ts": 25, "args": {"Total Allocated": 3000000, "Device Type": 1}},
    {"ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "s": "t", "pid": 9, "tid": 9, "ts": 26, "args": {"Total Allocated": 9000000, "Device Type": 0}}
  ],
  "traceName": "x"
}"#;

fn report(json: &str) -> Report {
    let recorded = parse(json.as_bytes()).unwrap();
    Analysis::new(&recorded).report("x.trace.json".to_owned())
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/traces/torch_profiler_cut.trace.json.gz")
}

fn text(report: &Report) -> String {
    Text { report, top: 3 }.to_string()
}

#[test]
fn time_goes_to_steps_operators_kernels_and_gaps() {
    let report = report(TRACE);
    insta::assert_snapshot!(text(&report));
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&report).unwrap());
}

#[test]
fn pytorchs_traces_are_read() {
    let mut report = Report::read(&fixture()).unwrap();
    report.trace = "cut".to_owned();
    insta::assert_snapshot!(text(&report));
}

#[test]
fn hidden_rows_do_not_widen_the_names_of_shown_ones() {
    let kernel = |middle: &str, us: u32| {
        let (head, tail) = ("a".repeat(100), "z".repeat(100));
        format!(
            r#"{{"ph": "X", "cat": "kernel", "name": "{head}{middle}{tail}", "ts": 0, "dur": {us}}}"#
        )
    };
    let trace = format!(
        r#"{{"traceEvents": [{}, {}]}}"#,
        kernel("1", 2),
        kernel("2", 1)
    );
    let report = report(&trace);
    let widest = |top| {
        let text = Text {
            report: &report,
            top,
        }
        .to_string();
        text.lines().map(|line| line.chars().count()).max().unwrap()
    };
    assert!(widest(1) < widest(0));
    let comparison = Comparison::new(report.clone(), report.clone());
    let side_by_side = |top| {
        let comparison = SideBySide {
            comparison: &comparison,
            top,
        };
        let text = comparison.to_string();
        text.lines().map(|line| line.chars().count()).max().unwrap()
    };
    assert!(side_by_side(1) < side_by_side(0));
}

#[test]
fn two_traces_side_by_side() {
    let base = report(TRACE);
    let slower = TRACE
        .replace("\"dur\": 300", "\"dur\": 360")
        .replace("qwen::attention", "qwen::joint_qkv");
    let comparison = Comparison::new(base, report(&slower));
    let comparison = SideBySide {
        comparison: &comparison,
        top: 0,
    };
    insta::assert_snapshot!(comparison.to_string());
}

#[test]
fn rows_of_one_name_are_compared_as_their_sum() {
    let stage = |at| {
        format!(
            r#"{{"ph": "X", "cat": "user_annotation", "name": "STAGE Decoding", "pid": 1, "tid": 1, "ts": {at}, "dur": 500}}"#
        )
    };
    let trace = format!(r#"{{"traceEvents": [{}, {}]}}"#, stage(0), stage(1000));
    let comparison = Comparison::new(report(&trace), report(&trace));
    let stages = &comparison.differences[1].differences;
    assert_eq!(stages.len(), 1);
    let amount = stages[0].base.unwrap();
    assert_eq!((amount.ms, amount.count), (1.0, 2));
}

#[test]
fn a_graphs_kernels_are_of_the_operators_that_they_were_captured_in() {
    let launch = |correlation: u32, at: u32| {
        format!(
            r#"{{"ph": "X", "cat": "cpu_op", "name": "qwen::replay", "pid": 1, "tid": 1, "ts": {at}, "dur": 5}},
            {{"ph": "X", "cat": "cuda_driver", "name": "cuGraphLaunch", "pid": 1, "tid": 1, "ts": {at}, "dur": 3, "args": {{"correlation": {correlation}}}}}"#
        )
    };
    let kernel = |correlation: u32, args: &str, at: u32| {
        format!(
            r#"{{"ph": "X", "cat": "kernel", "name": "k", "ts": {at}, "dur": 10, "args": {{"correlation": {correlation}{args}}}}}"#
        )
    };
    let linear = |index| format!(r#", "operator": "qwen::linear", "operator index": {index}"#);
    let replay = |correlation, at| {
        [
            launch(correlation, at),
            kernel(correlation, &linear(1), at + 10),
            kernel(correlation, &linear(1), at + 20),
            kernel(correlation, &linear(2), at + 30),
            kernel(correlation, "", at + 40),
        ]
        .join(",")
    };
    let trace = format!(
        r#"{{"traceEvents": [{}, {}]}}"#,
        replay(7, 0),
        replay(8, 100)
    );
    let operators = report(&trace).operators.into_iter();
    let operators: Vec<_> = operators
        .map(|row| (row.name, row.count, row.mean_us.round()))
        .collect();
    let expected = [
        ("qwen::linear".to_owned(), 4, 15.0),
        ("qwen::replay".to_owned(), 2, 10.0),
    ];
    assert_eq!(operators, expected);
}

#[test]
fn what_is_launched_between_stages_is_in_neither() {
    let stage = |name: &str, at: u32, dur: u32| {
        format!(
            r#"{{"ph": "X", "cat": "user_annotation", "name": "STAGE {name}", "pid": 1, "tid": 1, "ts": {at}, "dur": {dur}}}"#
        )
    };
    let work = |category: &str, correlation: u32, launched: u32, at: u32, dur: u32| {
        let args = format!(r#"{{"correlation": {correlation}}}"#);
        format!(
            r#"{{"ph": "X", "cat": "cuda_runtime", "name": "launch", "pid": 1, "tid": 1, "ts": {launched}, "dur": 1, "args": {args}}},
            {{"ph": "X", "cat": "{category}", "name": "work", "ts": {at}, "dur": {dur}, "args": {args}}}"#
        )
    };
    let events = [
        stage("A", 0, 100),
        work("kernel", 1, 10, 20, 30),
        work("gpu_memcpy", 2, 110, 120, 280),
        stage("B", 500, 30),
        work("kernel", 3, 510, 520, 60),
        // Queued while the work of the stage before still runs.
        stage("C", 540, 20),
        work("kernel", 4, 550, 600, 50),
    ];
    let report = report(&format!(r#"{{"traceEvents": [{}]}}"#, events.join(", ")));
    let stages = report.stages.iter().map(|stage| {
        let device = stage.device.unwrap();
        assert_eq!((device.kernels, device.copies), (1, 0));
        format!(
            "{}: {:.3} ms, {:.3} idle, {:.1} %",
            stage.name, device.span_ms, device.idle_ms, stage.share_pct
        )
    });
    assert_eq!(
        stages.collect::<Vec<_>>(),
        [
            "A: 0.030 ms, 0.000 idle, 40.0 %",
            "B: 0.080 ms, 0.020 idle, 32.0 %",
            "C: 0.070 ms, 0.020 idle, 28.0 %",
        ]
    );
}

#[test]
fn a_step_that_ends_with_work_of_no_length_waits_for_it() {
    let range = |category: &str, name: &str, at: u32, dur: u32| {
        format!(
            r#"{{"ph": "X", "cat": "{category}", "name": "{name}", "pid": 9, "tid": 9, "ts": {at}, "dur": {dur}, "args": {{"correlation": {at}}}}}"#
        )
    };
    let work = |category: &str, launched: u32, at: u32, dur: u32| {
        let call = range("cuda_driver", "launch", launched, 1);
        let args = format!(r#"{{"correlation": {launched}}}"#);
        format!(
            r#"{call}, {{"ph": "X", "cat": "{category}", "name": "work", "ts": {at}, "dur": {dur}, "args": {args}}}"#
        )
    };
    let events = [
        range("user_annotation", "ProfilerStep#1", 100, 90),
        work("kernel", 101, 110, 20),
        work("gpu_memset", 150, 170, 0),
        range("user_annotation", "ProfilerStep#2", 200, 90),
        work("kernel", 201, 210, 20),
        work("gpu_memset", 250, 270, 0),
    ];
    let report = report(&format!(r#"{{"traceEvents": [{}]}}"#, events.join(", ")));
    let steps = report.steps.iter().map(|step| {
        let device = step.device.unwrap();
        format!("{:.3} ms, {:.3} idle", device.span_ms, device.idle_ms)
    });
    assert_eq!(
        steps.collect::<Vec<_>>(),
        ["0.060 ms, 0.040 idle", "0.070 ms, 0.050 idle"]
    );
}

#[test]
fn occupancy_is_told_with_how_much_of_it_is_known() {
    let kernel = |dur, args| {
        format!(
            r#"{{"ph": "X", "cat": "kernel", "name": "k", "ts": 0, "dur": {dur}, "args": {args}}}"#
        )
    };
    let known = kernel(300, r#"{"est. achieved occupancy %": 90}"#);
    let trace = format!(r#"{{"traceEvents": [{known}, {}]}}"#, kernel(700, "{}"));
    let report = report(&trace);
    let device = report.device.unwrap();
    assert_eq!(device.occupancy_pct, Some(90.0));
    assert_eq!(device.occupancy_known_pct, Some(30.0));
    let told = "; est. occupancy 90.0 % (known for 30.0 % of the kernels' time)\n";
    assert!(text(&report).contains(told));
}

#[test]
fn no_occupancy_is_not_an_occupancy_of_nothing() {
    let occupancy = |warps: &str| {
        let args = format!(r#"{{"est. achieved occupancy %": 0, "warps per SM": {warps}}}"#);
        let kernel = format!(
            r#"{{"ph": "X", "cat": "kernel", "name": "k", "ts": 0, "dur": 1, "args": {args}}}"#
        );
        report(&format!(r#"{{"traceEvents": [{kernel}]}}"#)).kernels[0].occupancy_pct
    };
    assert_eq!(occupancy("8.7"), None);
    assert_eq!(occupancy("0.24"), Some(0.0));
}

#[test]
fn an_empty_list_of_events_is_a_trace() {
    let report = report("{\"traceEvents\": []}");
    assert_eq!(report.events, 0);
    assert_eq!(text(&report), "x.trace.json: 0.000 ms, 0 events\n");
}

#[test]
fn what_is_no_trace_is_an_error() {
    for (json, why) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "expected an object with `traceEvents`"),
        ("{\"steps\": []}", "missing field `traceEvents`"),
        ("{\"traceEvents\": {}}", "expected a list of events"),
        ("{\"traceEvents\": [1]}", "expected an object"),
        (
            r#"{"traceEvents": [{"ph": "X", "cat": "other", "name": "a", "dur": 5}]}"#,
            "no range of a kind that is known",
        ),
        (
            "{\"traceEvents\": [{\"ph\": \"X\", \"ts\": \"soon\"}]}",
            "expected f64",
        ),
        (
            r#"{"traceEvents": [{"args": {"bytes": 1, "bytes": 2}}]}"#,
            "duplicate field `bytes`",
        ),
        ("{\"traceEvents\": []} x", "trailing characters"),
        (&TRACE[..TRACE.len() / 2], "EOF"),
    ] {
        let error = parse(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(why), "{json}: {error}");
    }
    let devices = "{\"name\": \"x\"},".repeat(65);
    let many = format!(
        "{{\"deviceProperties\": [{}]}}",
        devices.trim_end_matches(',')
    );
    let error = parse(many.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("more than 64 devices"), "{error}");
    let step =
        r#"{"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#1", "pid": 1, "tid": 1},"#;
    let steps = step.repeat(10_001);
    let steps = format!("{{\"traceEvents\": [{}]}}", steps.trim_end_matches(','));
    let error = parse(steps.as_bytes()).unwrap_err().to_string();
    assert!(
        error.contains("more than 10000 stages and steps"),
        "{error}"
    );
    let nested = format!("{{\"traceEvents\": [{}", "[".repeat(100_000));
    assert!(parse(nested.as_bytes()).is_err());
}

#[test]
fn odd_events_are_passed_over() {
    let odd = r#"{"traceEvents": [
        {}, {"ph": "X"}, {"ph": "Q", "cat": 7},
        {"ph": "X", "cat": "kernel", "name": "k", "ts": -1e300, "dur": 1e300, "args": null},
        {"ph": "X", "cat": "kernel", "name": "k", "ts": 1e300, "dur": -5, "args": {"correlation": [1, {"a": 2}], "bytes": -1, "operator": [{}], "operator index": 1}},
        {"ph": "X", "cat": "cpu_op", "name": "op", "pid": "1", "tid": "2", "ts": 0, "dur": 1, "args": {"correlation": "3"}},
        {"ph": "X", "cat": "kernel", "name": "k", "ts": 1e300, "dur": 1e300, "args": {"operator": "op", "operator index": -1}},
        {"ph": "X", "cat": "kernel", "name": "k", "ts": -1e300, "dur": 0}
    ]}"#;
    // A category is text.
    assert!(parse(odd.as_bytes()).is_err());
    let report = report(&odd.replace(", \"cat\": 7", ""));
    assert_eq!((report.events, report.kernels[0].count), (8, 4));
    assert_eq!(report.operators[0].count, 1);
    assert!(!text(&report).is_empty());
}

#[test]
fn files_are_read_zipped_or_not_and_errors_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let zipped = std::fs::read(fixture()).unwrap();
    let cut = folder.path().join("cut.trace.json.gz");
    std::fs::write(&cut, &zipped[..zipped.len() - 9]).unwrap();
    let plain = folder.path().join("plain.json");
    std::fs::write(&plain, TRACE).unwrap();
    assert_eq!(Report::read(&plain).unwrap().events, 17);
    for path in [&cut, &folder.path().join("missing"), folder.path()] {
        let error = Report::read(path).unwrap_err();
        assert!(matches!(error, Error::Input { .. }));
        assert!(error.to_string().starts_with(&path.display().to_string()));
    }
}

#[test]
fn a_page_loads_nothing_and_escapes_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("<i>.json");
    let hostile = TRACE
        .replace("gemm", "<script>alert('x')</script>\\u0000&\\\"")
        .replace("STAGE DenoisingStage", "STAGE <b>");
    std::fs::write(&path, hostile).unwrap();
    let html = page(&path, None).unwrap();
    for wrong in [
        "<script", "<b>", "<i>", "http", "\u{0}", "src=", "@import", "url(",
    ] {
        assert!(!html.contains(wrong), "{wrong}");
    }
    for right in [
        "&lt;script&gt;alert(&#39;x&#39;)",
        "<h2>Stages",
        "<h2>Steps",
        "<h2>GPU busy",
        "memory",
    ] {
        assert!(html.contains(right), "{right}");
    }
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
}

#[test]
fn a_page_shows_the_picture_and_its_recipe() {
    let picture = Path::new(env!("CARGO_MANIFEST_DIR"));
    let picture = picture.join("tests/fixtures/builtin/logo_seed0/image.png");
    let html = page(&fixture(), Some(&picture)).unwrap();
    assert!(html.contains("src=\"data:image/png;base64,iVBORw0KGgo"));
    assert!(!html.contains("<tr><td>seed"), "another program made it");
    assert!(page(&fixture(), Some(&fixture())).is_err());
}
