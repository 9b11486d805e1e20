//! What SIGINT, SIGTERM and SIGHUP do to a run.

#![expect(clippy::unwrap_used, reason = "tests")]

mod program;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use program::{Scratch, copy_checkpoint, generate_args};

/// A run that has printed `line`.
fn run_until(line: &str, scratch: &Scratch, args: &[&str]) -> Child {
    // Whoever runs the tests may have a hangup ignored, which processes inherit.
    run_until_with("signal.SIG_DFL", line, scratch, args)
}

/// A run that has printed `line`, and does with a hangup what Python calls `hangup`.
fn run_until_with(hangup: &str, line: &str, scratch: &Scratch, args: &[&str]) -> Child {
    let log = fs::File::create(scratch.path("log")).unwrap();
    let python = format!(
        "import os, signal, sys; signal.signal(signal.SIGHUP, {hangup}); os.execv(sys.argv[1], sys.argv[1:])"
    );
    let program = format!("exec python3 -c '{python}' \"$0\" \"$@\"");
    let child = scratch
        .shell(&program, &generate_args(args))
        .stdout(log)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !fs::read_to_string(scratch.path("log"))
        .unwrap()
        .contains(line)
    {
        assert!(
            started.elapsed() < Duration::from_mins(1),
            "it does not come to {line:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// A run of very many steps, once it is denoising.
fn long_run(scratch: &Scratch) -> Child {
    let args = [
        "--num-inference-steps",
        "1000",
        "--width",
        "256",
        "--height",
        "256",
        "--output-file-path",
        "out/a.png",
        "--perf-dump-path",
        "out/perf.json",
    ];
    run_until("[DenoisingStage] started", scratch, &args)
}

/// Sends signals one after the other; the process sees them all at once.
fn send(signals: &[&str], child: &Child) {
    let kill = |signal: &&str| format!("kill -{signal} {}", child.id());
    let kills = ["STOP"].iter().chain(signals).chain(&["CONT"]).map(kill);
    let line = kills.collect::<Vec<_>>().join("; ");
    assert!(
        Command::new("sh")
            .args(["-c", &line])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn a_signal_stops_the_run_at_the_next_step() {
    for (signal, code, what) in [
        ("INT", 130, "interrupted"),
        ("TERM", 143, "terminated"),
        ("HUP", 129, "hung up"),
    ] {
        let scratch = Scratch::new();
        let child = long_run(&scratch);
        send(&[signal], &child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr, format!("error: the picture was not made: {what}\n"));
        assert_eq!(scratch.names("out"), [""; 0]);
    }
}

#[test]
fn a_hangup_that_is_ignored_stops_nothing() {
    let scratch = Scratch::new();
    let args = [
        "--num-inference-steps",
        "50",
        "--output-file-path",
        "out/a.png",
    ];
    let started = "[DenoisingStage] started";
    let child = run_until_with("signal.SIG_IGN", started, &scratch, &args);
    send(&["HUP"], &child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    assert_eq!(scratch.names("out"), ["a.png"]);
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let scratch = Scratch::new();
    let child = long_run(&scratch);
    send(&["INT", "TERM"], &child);
    let output = child.wait_with_output().unwrap();
    assert!(
        matches!(output.status.code(), Some(130 | 143)),
        "{:?}",
        output.status
    );
    // The first would have been told at the end of the step.
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(scratch.names("out"), [""; 0]);
}

#[test]
fn a_signal_while_weights_are_read_ends_the_process_at_once() {
    let scratch = Scratch::new();
    copy_checkpoint("tiny-a", &scratch.path("deep"));
    let config = "deep/transformer/config.json";
    let text = fs::read_to_string(scratch.path(config)).unwrap();
    let deep = text.replace("\"num_layers\": 3", "\"num_layers\": 400");
    scratch.write(config, deep);
    let args = [
        "--model-path",
        "deep",
        "--load-format",
        "dummy",
        "-v",
        "--output-file-path",
        "out/a.png",
    ];
    let child = run_until("loading transformer", &scratch, &args);
    send(&["TERM"], &child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143));
    let log = fs::read_to_string(scratch.path("log")).unwrap();
    assert!(!log.contains("loading vae"), "{log}");
    assert_eq!(scratch.names("out"), [""; 0]);
}
