//! Files that are not what the hub says they are: refused, or fetched again.

use std::fs;
use std::os::unix::fs::symlink;

use crate::faults::refused;
use crate::program::Scratch;
use crate::server::{Answer, Hub, Request, etag};
use crate::{CONFIG, SHARD, assert_blobs_are_whole, generate, partial, snapshot};

#[test]
fn a_wrong_hash_is_refused() {
    let (error, stderr) = refused(
        |request, hub| {
            let mut answer = hub.answer(request);
            if request.is_cdn && request.gets(SHARD) {
                answer.body[5000] ^= 1;
            }
            Some(answer)
        },
        SHARD,
    );
    let expected = format!("error: test/tiny, {SHARD}: its SHA-256 is ");
    assert!(error.starts_with(&expected), "{error}");
    assert!(
        error.ends_with(&format!("expected {}", etag(SHARD))),
        "{error}"
    );
    assert!(stderr.contains("hint: "), "{stderr}");
}

#[test]
fn a_changed_line_of_a_small_file_is_refused() {
    let (error, stderr) = refused(
        |request, hub| {
            let mut answer = hub.answer(request);
            if request.gets(CONFIG) {
                let text = String::from_utf8(answer.body).unwrap();
                answer.body = text.replace("\"z_dim\": 16", "\"z_dim\": 61").into();
                assert_ne!(text.as_bytes(), answer.body);
            }
            Some(answer)
        },
        CONFIG,
    );
    let expected = format!("error: test/tiny, {CONFIG}: its git blob id is ");
    assert!(error.starts_with(&expected), "{error}");
    assert!(error.ends_with(&etag(CONFIG)), "{error}");
    assert!(
        stderr.contains("hint: the download was altered"),
        "{stderr}"
    );
}

#[test]
fn a_spoilt_beginning_is_fetched_again() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    scratch.write(&partial(SHARD), vec![7; 5000]);
    scratch.write(&partial(CONFIG), vec![7; 50]);
    let run = generate(&scratch, &hub, &[]).success();
    assert_eq!(run.stderr.matches("trying again").count(), 2);
    assert_blobs_are_whole(&scratch);
    let requests = hub.requests();
    let ranges: Vec<_> = requests
        .iter()
        .filter(|request| request.gets(CONFIG))
        .map(Request::range)
        .collect();
    assert_eq!(ranges, [Some(50), None]);
}

#[test]
fn a_beginning_that_the_server_cannot_go_on_from_is_fetched_again() {
    let refusals: [fn() -> Answer; 2] = [
        || Answer::status(416),
        || {
            Answer::ok("x")
                .with_status(206)
                .with("content-range", "bytes 5-5/6")
        },
    ];
    for refusal in refusals {
        let hub = Hub::with(move |request, _| {
            let continues = request.gets(CONFIG) && request.range().is_some();
            continues.then(refusal)
        });
        let scratch = Scratch::new();
        scratch.write(&partial(CONFIG), vec![7; 50]);
        generate(&scratch, &hub, &[]).success();
        assert_blobs_are_whole(&scratch);
    }
}

/// Every try makes progress, and none comes to an end.
#[test]
fn what_is_altered_each_time_is_not_fetched_for_ever() {
    let hub = Hub::with(|request, hub| {
        let mut answer = hub.answer(request);
        if !(request.is_cdn && request.gets(SHARD)) {
            return None;
        }
        match request.range() {
            None => answer.cut = Some(2_000_000),
            Some(_) => answer.body.iter_mut().for_each(|byte| *byte ^= 1),
        }
        Some(answer)
    });
    let scratch = Scratch::new();
    let run = generate(&scratch, &hub, &[]);
    let stderr = run.stderr.clone();
    assert!(run.failure(1).contains("SHA-256"), "{stderr}");
    assert!(
        stderr.contains("hint: the download was altered"),
        "{stderr}"
    );
    let requests = hub.requests();
    let of_shard = requests.iter().filter(|r| r.is_cdn && r.gets(SHARD));
    let ranges: Vec<_> = of_shard.map(Request::range).collect();
    assert_eq!(ranges, [None, Some(2_000_000), None, Some(2_000_000)]);
}

#[test]
fn a_beginning_longer_than_the_file_is_fetched_again() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    scratch.write(&partial(CONFIG), vec![7; 50_000]);
    generate(&scratch, &hub, &[]).success();
    assert_blobs_are_whole(&scratch);
}

#[test]
fn a_file_cut_in_the_cache_is_fetched_again_once_it_is_deleted() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    generate(&scratch, &hub, &[]).success();
    let index = "transformer/diffusion_pytorch_model.safetensors.index.json";
    for file in [SHARD, CONFIG, index, "tokenizer/merges.txt"] {
        let blob = fs::canonicalize(scratch.path(&snapshot(file))).unwrap();
        let whole = fs::read(&blob).unwrap();
        // Not at the end of a line.
        let half = whole.len() / 2;
        let end = half - usize::from(whole[half - 1] == b'\n');
        fs::write(&blob, &whole[..end]).unwrap();
        let run = generate(&scratch, &hub, &["-q"]);
        let hint = format!("hint: delete {}, and the next run", blob.display());
        assert!(run.stderr.contains(&hint), "{}", run.stderr);
        let error = run.failure(1);
        assert!(error.starts_with(&format!("error: {file}: ")), "{error}");
        fs::remove_file(&blob).unwrap();
        generate(&scratch, &hub, &[]).success();
        assert!(fs::read(&blob).unwrap() == whole);
    }
    // What is the user's own is not fetched by anybody.
    scratch.write("mine.safetensors", "");
    let run = generate(&scratch, &hub, &["-q", "--lora-path", "mine.safetensors"]);
    assert!(!run.stderr.contains("delete"), "{}", run.stderr);
    run.failure(1);
}

#[test]
fn a_link_in_the_place_of_a_download_is_not_followed() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    scratch.write("mine", "old");
    scratch.write(&partial(CONFIG), "");
    fs::remove_file(scratch.path(&partial(CONFIG))).unwrap();
    symlink(scratch.path("mine"), scratch.path(&partial(CONFIG))).unwrap();
    generate(&scratch, &hub, &["-q"]).failure(1);
    assert_eq!(fs::read_to_string(scratch.path("mine")).unwrap(), "old");
}

#[test]
fn a_wrong_length_is_refused() {
    // Longer than any file, and told or not.
    for (bytes, is_told) in [(2, true), (6_000_000, true), (6_000_000, false)] {
        let (error, _) = refused(
            move |request, _| {
                let mut answer = Answer::ok(vec![b' '; bytes]);
                if !is_told {
                    answer.headers.clear();
                }
                (request.is_cdn && request.gets(SHARD)).then_some(answer)
            },
            SHARD,
        );
        let expected = format!("error: test/tiny, {SHARD}: HTTP 200, but ");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn a_web_page_is_no_file_and_no_listing() {
    let page = || {
        let body = "<!doctype html><title>Log in</title>";
        Answer::ok(body).with("content-type", "text/html; charset=utf-8")
    };
    for file in [SHARD, CONFIG] {
        let (error, stderr) = refused(move |request, _| request.gets(file).then(page), file);
        assert_eq!(
            error,
            format!("error: test/tiny, {file}: HTTP 200, but a web page (text/html)")
        );
        assert!(
            stderr.contains("hint: does the network ask for a login?"),
            "{stderr}"
        );
    }
    let (error, _) = refused(
        |request, _| request.is_listing().then(|| Answer::status(204)),
        CONFIG,
    );
    assert!(
        error.starts_with("error: test/tiny: HTTP 204, but the answer is not the hub's"),
        "{error}"
    );
    let (error, _) = refused(move |request, _| request.is_listing().then(page), CONFIG);
    assert!(
        error.starts_with("error: test/tiny: HTTP 200, but the answer is not the hub's"),
        "{error}"
    );
}
