//! A hub that does not do what it should: repeated where that may help, else refused with nothing
//! under a final name.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::program::{Run, Scratch, bounded, generate_args};
use crate::server::{Answer, Hub, REPOSITORY, Request, etag};
use crate::{
    CACHE, CONFIG, SHARD, assert_blobs_are_whole, connected, generate, partial, process, snapshot,
};

/// Runs against a hub with this fault: the error, and the run's whole stderr.
#[track_caller]
pub(crate) fn refused(
    fault: impl Fn(&Request, &Hub) -> Option<Answer> + Send + Sync + 'static,
    file: &str,
) -> (String, String) {
    let scratch = Scratch::new();
    let hub = Hub::with(fault);
    let run = generate(&scratch, &hub, &[]);
    let stderr = run.stderr.clone();
    let error = run.failure(1);
    assert!(!scratch.path(&snapshot(file)).exists());
    assert!(
        !scratch
            .path(&format!("{CACHE}/blobs/{}", etag(file)))
            .exists()
    );
    assert!(!scratch.path(&format!("{CACHE}/refs")).exists());
    assert_blobs_are_whole(&scratch);
    assert_eq!(scratch.names("outputs"), [""; 0]);
    (error, stderr)
}

#[test]
fn a_cut_download_is_resumed() {
    let hub = Hub::with(|request, hub| {
        let cuts = request.is_cdn && request.gets(SHARD) && request.earlier < 2;
        cuts.then(|| Answer {
            cut: Some(100_000),
            ..hub.answer(request)
        })
    });
    let scratch = Scratch::new();
    let run = generate(&scratch, &hub, &[]).success();
    let warning = format!("warning: test/tiny, {SHARD}: broke off after 100000 of ");
    assert!(run.stderr.starts_with(&warning), "{}", run.stderr);
    let requests = hub.requests();
    let of_shard = requests.iter().filter(|r| r.is_cdn && r.gets(SHARD));
    let ranges: Vec<_> = of_shard.map(Request::range).collect();
    assert_eq!(ranges, [None, Some(100_000), Some(200_000)]);
    assert_blobs_are_whole(&scratch);
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let hub = Hub::with(|request, hub| {
        let mut plain = request.clone();
        plain.headers.remove("range");
        let cuts = request.is_cdn && request.gets(SHARD) && request.earlier < 2;
        Some(Answer {
            cut: cuts.then_some(1_500_000),
            ..hub.answer(&plain)
        })
    });
    let scratch = Scratch::new();
    let run = generate(&scratch, &hub, &[]).success();
    // The same bytes again are no progress, after which patience would begin anew.
    for wait in ["in 1 s", "in 2 s"] {
        assert!(run.stderr.contains(wait), "{}", run.stderr);
    }
    assert_blobs_are_whole(&scratch);
}

#[test]
fn what_the_disk_cannot_hold_is_not_begun() {
    let (error, _) = refused(
        |request, hub| {
            let mut answer = hub.answer(request);
            if request.path.ends_with(SHARD) {
                assert_eq!(request.method, "HEAD", "nothing of it is asked for");
                answer.headers.retain(|(name, _)| *name != "x-linked-size");
                answer = answer.with("x-linked-size", (1_u64 << 60).to_string());
            }
            Some(answer)
        },
        SHARD,
    );
    let (bytes, free) = error
        .split_once(" are to be downloaded, but the cache folder ")
        .unwrap();
    assert!(
        bytes.starts_with("error: test/tiny: 1073741824."),
        "{error}"
    );
    assert!(free.ends_with(" free"), "{error}");
}

#[test]
fn refusals_name_repository_file_status_and_a_way_out() {
    for (status, code, message, hint) in [
        (
            401,
            "GatedRepo",
            "HTTP 401: the repository is gated",
            "hint: accept its licence at http",
        ),
        (
            403,
            "GatedRepo",
            "HTTP 403: the repository is gated",
            "then set HF_TOKEN",
        ),
        (
            401,
            "",
            "HTTP 401: no such repository, or a private or gated one",
            "set HF_TOKEN",
        ),
        (403, "", "HTTP 403: access denied", "/test/tiny"),
        (
            404,
            "RepoNotFound",
            "HTTP 404: not found",
            "hint: check the name",
        ),
        (
            404,
            "RevisionNotFound",
            "HTTP 404: no such revision",
            "hint: check --revision",
        ),
        (418, "", "HTTP 418: unexpected answer", ""),
    ] {
        let answer = move || Answer::status(status).with("x-error-code", code);
        let (error, stderr) = refused(move |request, _| request.is_listing().then(answer), CONFIG);
        assert_eq!(error, format!("error: test/tiny: {message}"));
        assert!(stderr.contains(hint), "{stderr}");
        let (error, _) = refused(
            move |request, _| request.path.ends_with(CONFIG).then(answer),
            CONFIG,
        );
        assert_eq!(error, format!("error: test/tiny, {CONFIG}: {message}"));
    }
    let (error, _) = refused(
        |request, _| {
            let is_gone = request.path.ends_with(CONFIG);
            is_gone.then(|| Answer::status(404).with("x-error-code", "EntryNotFound"))
        },
        CONFIG,
    );
    assert_eq!(
        error,
        format!("error: test/tiny, {CONFIG}: HTTP 404: no such file in the repository")
    );
}

#[test]
fn a_revision_that_is_not_there_is_named() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    let error = generate(&scratch, &hub, &["--revision", "refs/pr/7"]).failure(1);
    assert_eq!(
        error,
        "error: test/tiny at refs/pr/7: HTTP 404: no such revision"
    );
    assert_eq!(
        hub.requests()[0].path,
        "/api/models/test/tiny/revision/refs%2Fpr%2F7"
    );
}

#[test]
fn busy_servers_are_asked_again() {
    let hub = Hub::with(|request, _| match request.earlier {
        0 if request.is_listing() => Some(Answer::status(429).with("retry-after", "2")),
        0 if request.gets(CONFIG) => Some(Answer::status(503).with("retry-after", "3")),
        0 if request.is_cdn && request.gets(SHARD) => Some(Answer::status(500)),
        // An address that has expired: the hub hands out another.
        1 if request.is_cdn && request.gets(SHARD) => Some(Answer::status(403)),
        _ => None,
    });
    let scratch = Scratch::new();
    let run = generate(&scratch, &hub, &[]).success();
    let first = "warning: test/tiny: HTTP 429: too many requests; trying again in 2 s\n";
    assert!(run.stderr.starts_with(first), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 4, "{}", run.stderr);
    assert!(run.stderr.contains("HTTP 503"), "{}", run.stderr);
    assert!(run.stderr.contains("trying again in 3 s"), "{}", run.stderr);
    assert_blobs_are_whole(&scratch);
}

#[test]
fn patience_has_an_end() {
    let begin = Instant::now();
    let (error, stderr) = refused(
        |request, _| {
            request
                .is_listing()
                .then(|| Answer::status(429).with("retry-after", "3600"))
        },
        CONFIG,
    );
    assert_eq!(
        error,
        "error: test/tiny: HTTP 429: too many requests; the server asks to wait 3600 s"
    );
    assert!(
        stderr.contains("hint: try again later, or set HF_TOKEN"),
        "{stderr}"
    );
    assert!(begin.elapsed() < Duration::from_secs(10));

    let (error, stderr) = refused(
        |request, _| request.gets(CONFIG).then(|| Answer::status(502)),
        CONFIG,
    );
    assert_eq!(
        error,
        format!("error: test/tiny, {CONFIG}: HTTP 502: the server has a fault")
    );
    assert_eq!(stderr.matches("trying again in").count(), 4, "{stderr}");
}

#[test]
fn a_refusal_ends_the_waits_for_other_files() {
    const OTHER: &str = "transformer/diffusion_pytorch_model-00002-of-00002.safetensors";
    let begin = Instant::now();
    let (error, _) = refused(
        |request, hub| {
            if request.gets(OTHER) {
                return Some(Answer::status(429).with("retry-after", "60"));
            }
            if !request.gets(SHARD) {
                return None;
            }
            // By then the other has begun to wait.
            let is_other = |request: &Request| request.gets(OTHER);
            while !hub.requests().iter().any(is_other) {
                thread::sleep(Duration::from_millis(20));
            }
            thread::sleep(Duration::from_millis(500));
            Some(Answer::status(404).with("x-error-code", "EntryNotFound"))
        },
        SHARD,
    );
    assert_eq!(
        error,
        format!("error: test/tiny, {SHARD}: HTTP 404: no such file in the repository")
    );
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
fn redirects_end() {
    let (error, _) = refused(
        |request, _| {
            request
                .gets(SHARD)
                .then(|| Answer::redirect(request.path.clone()))
        },
        SHARD,
    );
    assert_eq!(
        error,
        format!("error: test/tiny, {SHARD}: more than 10 redirects")
    );
    let (error, _) = refused(
        |request, _| {
            request
                .gets(SHARD)
                .then(|| Answer::redirect("file:///etc/passwd"))
        },
        SHARD,
    );
    assert_eq!(
        error,
        format!(
            "error: test/tiny, {SHARD}: redirected to `file:///etc/passwd`, which is not followed"
        )
    );
}

#[test]
fn an_interrupted_download_is_resumed_by_the_next_run() {
    let hub = Hub::with(|request, hub| {
        let stalls = request.is_cdn && request.gets(SHARD) && request.earlier == 0;
        stalls.then(|| Answer {
            cut: Some(100_000),
            stalls: true,
            ..hub.answer(request)
        })
    });
    let scratch = Scratch::new();
    let child = process(&scratch, &hub).spawn().unwrap();
    let began = Instant::now();
    let length = || fs::metadata(scratch.path(&partial(SHARD))).map_or(0, |file| file.len());
    while length() < 100_000 {
        assert!(began.elapsed() < Duration::from_mins(1));
        thread::sleep(Duration::from_millis(20));
    }
    let signalled = Instant::now();
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(signalled.elapsed() < Duration::from_secs(5));
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: interrupted\n"
    );
    assert_blobs_are_whole(&scratch);

    generate(&scratch, &hub, &[]).success();
    let requests = hub.requests();
    let last = requests
        .iter()
        .rfind(|r| r.is_cdn && r.gets(SHARD))
        .unwrap();
    assert_eq!(last.range(), Some(100_000));
    assert_blobs_are_whole(&scratch);
}

/// A file size limit stands for a full disk.
#[test]
fn a_full_disk_is_named_and_what_is_there_is_kept() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    let line = "ulimit -f 400; exec \"$0\" \"$@\"";
    let args = generate_args(&["--model-path", REPOSITORY, "--no-save-output"]);
    let limited = connected(scratch.shell(line, &args), &scratch, &hub);
    let error = Run::of(&mut bounded(limited)).failure(1);
    let cache = format!(
        "cannot write to the cache folder {}: ",
        scratch.path("hf/hub").display()
    );
    assert!(error.contains(&cache), "{error}");
    assert_blobs_are_whole(&scratch);
    generate(&scratch, &hub, &[]).success();
    assert_blobs_are_whole(&scratch);
}
