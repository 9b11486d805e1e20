//! What is fetched, where it goes, and when the cache is enough.

use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use qwen_gen::hub::{Hub as Client, Repository, RepositoryId, Revision};
use safetensors::tensor::{Dtype, TensorView};

use crate::program::{Picture, Run, Scratch, bounded};
use crate::server::{Answer, COMMIT, Hub, REPOSITORY, Request, etag, files, model};
use crate::{
    CACHE, CONFIG, SHARD, assert_blobs_are_whole, command, connected, generate, partial, process,
    snapshot,
};

#[test]
fn a_repository_is_fetched_once_into_pythons_layout() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    let picture = ["--output-file-name", "a.png"];
    let run = generate(&scratch, &hub, &picture).success();
    assert_eq!(run.stderr, "");
    let recipe = Picture::read(&scratch.path("outputs/a.png")).recipe();
    assert_eq!(recipe["model_commit"], COMMIT);
    for request in hub.requests() {
        let Request { method, path, .. } = &request;
        assert_eq!(request.earlier, 0, "{method} {path} again");
    }

    // All that the program reads, and nothing else.
    let unread = [
        "README.md",
        "tokenizer/special_tokens_map.json",
        "text_encoder/generation_config.json",
    ];
    for file in files() {
        let path = scratch.path(&snapshot(&file));
        if unread.contains(&file.as_str()) {
            assert!(!path.exists(), "{file}");
        } else {
            let up = if file.contains('/') {
                "../../.."
            } else {
                "../.."
            };
            let blob = format!("{up}/blobs/{}", etag(&file));
            assert_eq!(fs::read_link(&path).unwrap(), Path::new(&blob));
        }
    }
    let main = fs::read_to_string(scratch.path(&format!("{CACHE}/refs/main"))).unwrap();
    assert_eq!(main, COMMIT);
    assert_blobs_are_whole(&scratch);

    let before = hub.requests().len();
    generate(&scratch, &hub, &picture).success();
    let requests = hub.requests();
    assert_eq!(requests.len(), before + 1);
    assert!(requests[before].is_listing());
}

#[test]
fn dummy_weights_need_no_weight_files() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    generate(&scratch, &hub, &["--load-format", "dummy"]).success();
    assert!(
        !hub.requests()
            .iter()
            .any(|r| r.path.contains(".safetensors"))
    );
    // The same commit with weights fetches what is missing.
    generate(&scratch, &hub, &[]).success();
    assert!(scratch.path(&snapshot(SHARD)).is_file());
}

#[test]
fn a_branch_that_leads_to_a_commit_in_the_cache_is_noted() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    generate(&scratch, &hub, &["--revision", COMMIT]).success();
    let main = scratch.path(&format!("{CACHE}/refs/main"));
    assert!(!main.exists());
    generate(&scratch, &hub, &[]).success();
    assert_eq!(fs::read_to_string(main).unwrap(), COMMIT);
}

#[test]
fn what_needs_no_weights_is_refused_before_they_are_fetched() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    let has_weights = || {
        let requests = hub.requests();
        (requests.iter())
            .any(|r| r.path.contains(".safetensors") && !r.path.contains(".index.json"))
    };
    generate(&scratch, &hub, &["--dry-run"]).success();
    let error = generate(&scratch, &hub, &["--dit-layerwise-offload"]).failure(2);
    assert!(error.contains("--dit-layerwise-offload"), "{error}");
    scratch.write("bad.safetensors", "no adapter");
    generate(&scratch, &hub, &["--lora-path", "bad.safetensors"]).failure(1);
    let mut limited = command(&scratch, &hub, &[]);
    let error = Run::of(limited.env("QWEN_GEN_MEMORY_LIMIT_GIB", "24G")).failure(2);
    assert!(error.contains("QWEN_GEN_MEMORY_LIMIT_GIB"), "{error}");
    assert!(!has_weights());
    generate(&scratch, &hub, &[]).success();
    assert!(has_weights());
}

#[test]
fn another_pipeline_is_refused_before_anything_else_is_fetched() {
    let hub = Hub::with(|request, _| {
        let is_index = request.path.ends_with("model_index.json");
        is_index.then(|| Answer::ok(r#"{"_class_name": "FluxPipeline"}"#).with("etag", "\"a\""))
    });
    let scratch = Scratch::new();
    let error = generate(&scratch, &hub, &[]).failure(1);
    assert_eq!(
        error,
        "error: model_index.json: `_class_name` is `FluxPipeline`, expected `QwenImagePipeline`"
    );
    assert_eq!(hub.requests().len(), 3);
}

#[test]
fn a_commit_needs_no_network_once_it_is_complete() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    let args = ["--revision", COMMIT];
    generate(&scratch, &hub, &args).success();
    assert!(!scratch.path(&format!("{CACHE}/refs")).exists());
    let before = hub.requests().len();
    generate(&scratch, &hub, &args).success();
    assert_eq!(hub.requests().len(), before);
}

#[test]
fn a_branch_falls_back_to_the_cache_when_the_hub_is_away() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    generate(&scratch, &hub, &[]).success();
    // Nobody listens there.
    let run = Run::of(command(&scratch, &hub, &[]).env("HF_ENDPOINT", "http://127.0.0.1:9"));
    let stderr = run.success().stderr;
    assert!(
        stderr.starts_with("warning: using the cached files: test/tiny: cannot reach 127.0.0.1: "),
        "{stderr}"
    );
}

#[test]
fn offline_asks_nobody() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    let offline = |args: &[&str]| Run::of(command(&scratch, &hub, args).env("HF_HUB_OFFLINE", "1"));
    let cache = scratch.path("hf/hub");
    for variable in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        let run = Run::of(command(&scratch, &hub, &[]).env(variable, "1"));
        let hint = format!("\nhint: unset {variable} for one run");
        assert!(run.stderr.contains(&hint), "{}", run.stderr);
        assert_eq!(
            run.failure(1),
            format!(
                "error: test/tiny: not complete in the cache folder {}, and {variable} is set",
                cache.display()
            )
        );
    }
    assert_eq!(hub.requests().len(), 0);
    assert!(!scratch.path("hf").exists());

    generate(&scratch, &hub, &["--load-format", "dummy"]).success();
    let before = hub.requests().len();
    offline(&["--load-format", "dummy"]).success();
    offline(&[]).failure(1);
    assert_eq!(hub.requests().len(), before);

    generate(&scratch, &hub, &[]).success();
    offline(&[]).success();
    fs::remove_file(scratch.path(&snapshot(SHARD))).unwrap();
    offline(&[]).failure(1);
}

#[test]
fn doctor_looks_into_the_cache_and_asks_nobody() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    let doctor = || {
        let model = ["--model-path", REPOSITORY];
        let args = [&["doctor", "--device", "cpu", "--json"], &model[..]].concat();
        bounded(connected(scratch.process(&args), &scratch, &hub))
    };
    let report = Run::of(&mut doctor()).success().json();
    assert_eq!(
        report["model_unknown"],
        "test/tiny: not in the cache; generate would download it"
    );
    let run = Run::of(doctor().env("TRANSFORMERS_OFFLINE", "1"));
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let report = run.json();
    let refusal = &report["refusal"];
    let text = |key: &str| refusal[key].as_str().unwrap();
    assert!(
        text("reason").ends_with(", and TRANSFORMERS_OFFLINE is set"),
        "{refusal}"
    );
    assert!(
        text("hint").starts_with("unset TRANSFORMERS_OFFLINE "),
        "{refusal}"
    );
    assert_eq!(hub.requests().len(), 0);

    generate(&scratch, &hub, &[]).success();
    let before = hub.requests().len();
    for offline in ["0", "1"] {
        let run = Run::of(doctor().env("TRANSFORMERS_OFFLINE", offline));
        let report = run.success().json();
        let components = report["model"]["components"].as_array();
        assert_eq!(components.map(Vec::len), Some(3), "{report}");
    }
    assert_eq!(hub.requests().len(), before);
}

#[test]
fn a_complete_partial_file_is_adopted() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    let content = fs::read(model().join(SHARD)).unwrap();
    scratch.write(&partial(SHARD), &content);
    generate(&scratch, &hub, &[]).success();
    assert!(!hub.requests().iter().any(|request| request.gets(SHARD)));
    assert!(!scratch.path(&partial(SHARD)).exists());
}

#[test]
fn a_blob_of_the_wrong_length_and_a_dead_link_are_replaced() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    scratch.write(&format!("{CACHE}/blobs/{}", etag(SHARD)), "cut");
    let link = scratch.path(&snapshot(CONFIG));
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("../../../blobs/gone", &link).unwrap();
    generate(&scratch, &hub, &[]).success();
    assert_blobs_are_whole(&scratch);
}

#[test]
fn a_second_process_waits_and_says_so() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    let lock = format!("hf/hub/.locks/models--test--tiny/{}.lock", etag(SHARD));
    scratch.write(&lock, "");
    let held = File::open(scratch.path(&lock)).unwrap();
    held.lock().unwrap();
    let release = thread::spawn(move || {
        thread::sleep(Duration::from_secs(2));
        drop(held);
    });
    let run = generate(&scratch, &hub, &[]).success();
    let line = format!("Waiting for another process, which is downloading {SHARD}");
    assert!(run.stdout.contains(&line), "{}", run.stdout);
    release.join().unwrap();
}

#[test]
fn two_processes_download_a_file_once() {
    let hub = Hub::with(|request, _| {
        if request.is_cdn {
            thread::sleep(Duration::from_millis(500));
        }
        None
    });
    let scratch = Scratch::new();
    let children: Vec<_> = (0..2)
        .map(|_| process(&scratch, &hub).spawn().unwrap())
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
    }
    assert_blobs_are_whole(&scratch);
    for request in hub.requests().iter().filter(|request| request.is_cdn) {
        assert_eq!(request.earlier, 0, "{}", request.path);
    }
}

#[test]
fn a_cache_that_cannot_be_written_to_is_named() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    let mut run = command(&scratch, &hub, &[]);
    // Not even root makes folders there.
    let error = Run::of(run.env("HF_HUB_CACHE", "/proc/hub")).failure(1);
    assert!(error.contains("the cache folder /proc/hub "), "{error}");
}

#[test]
fn a_read_only_cache_serves_while_it_is_complete() {
    use std::os::unix::fs::PermissionsExt;
    let (scratch, hub) = (Scratch::new(), Hub::start());
    let root = scratch.path("hf/hub");
    fs::create_dir_all(&root).unwrap();
    let allow = |mode| fs::set_permissions(&root, fs::Permissions::from_mode(mode)).unwrap();
    allow(0o555);
    if File::create(root.join("probe")).is_ok() {
        eprintln!("not run: root may write anywhere");
        return;
    }
    allow(0o755);
    generate(&scratch, &hub, &[]).success();
    allow(0o555);
    generate(&scratch, &hub, &[]).success();
    allow(0o755);
}

#[test]
fn one_file_can_be_had_alone() {
    let (scratch, hub) = (Scratch::new(), Hub::start());
    let (events, _inbox) = mpsc::channel();
    let home = scratch.path("hf");
    let client = Client::new(
        |variable| match variable {
            "HF_ENDPOINT" => Some(hub.endpoint.clone().into()),
            "HF_HOME" => Some(home.clone().into()),
            _ => None,
        },
        events,
    );
    let client = client.unwrap();
    let repository = Repository {
        id: RepositoryId::parse("test/tiny").unwrap(),
        revision: Revision::default(),
    };
    let named = |name: &'static str| {
        move |names: Vec<String>, _: &str| {
            let found = names.into_iter().find(|found| found == name);
            found.ok_or_else(|| qwen_gen::Error::Input {
                path: name.into(),
                message: "not there".to_owned(),
            })
        }
    };
    let path = client.file(&repository, named(CONFIG)).unwrap();
    assert_eq!(path, scratch.path(&snapshot(CONFIG)));
    assert!(path.is_file());
    let error = client.file(&repository, named("vae/none")).unwrap_err();
    assert_eq!(error.to_string(), "vae/none: not there");
}

#[test]
fn an_adapter_comes_from_a_repository_too() {
    const D: usize = 160;
    let bytes: Vec<u8> = (0..D).flat_map(|_| 0.5_f32.to_le_bytes()).collect();
    let tensor = |shape: [usize; 2]| TensorView::new(Dtype::F32, shape.to_vec(), &bytes).unwrap();
    let layer = "transformer_blocks.2.attn.to_q";
    let tensors = [
        (format!("{layer}.lora_down.weight"), tensor([1, D])),
        (format!("{layer}.lora_up.weight"), tensor([D, 1])),
    ];
    let adapter = safetensors::serialize(tensors, None).unwrap();
    let hub = Hub::with(move |request, _| {
        if request.path == "/api/models/test/lora/revision/main" {
            let names = ["a.safetensors", "b.safetensors", "README.md"];
            let siblings = names.map(|name| serde_json::json!({ "rfilename": name }));
            let info = serde_json::json!({ "sha": COMMIT, "siblings": siblings });
            return Some(Answer::ok(info.to_string()));
        }
        let path = format!("/test/lora/resolve/{COMMIT}/b.safetensors");
        (request.path == path).then(|| Answer::ok(adapter.clone()).with("etag", "\"b\""))
    });
    let scratch = Scratch::new();
    let from_hub = ["--lora-path", "test/lora"];
    let error = generate(&scratch, &hub, &from_hub).failure(2);
    assert_eq!(
        error,
        "error: --lora-path `test/lora`: several files: a.safetensors, b.safetensors"
    );
    let named = [
        &from_hub[..],
        &["--lora-weight-name", "b.safetensors", "--json"],
    ]
    .concat();
    let json = generate(&scratch, &hub, &named).success().json();
    let file = json["loras"][0]["file"].as_str().unwrap();
    assert!(
        file.ends_with(&format!("snapshots/{COMMIT}/b.safetensors")),
        "{file}"
    );
    // What is here is all there is without a network.
    let asked = hub.requests().len();
    let mut offline = command(&scratch, &hub, &from_hub);
    Run::of(offline.env("HF_HUB_OFFLINE", "1")).success();
    let another = [&from_hub[..], &["--lora-weight-name", "a.safetensors"]].concat();
    let mut offline = command(&scratch, &hub, &another);
    let error = Run::of(offline.env("HF_HUB_OFFLINE", "1")).failure(2);
    assert_eq!(
        error,
        "error: --lora-path `test/lora`: no `a.safetensors` in the cache, and HF_HUB_OFFLINE is set"
    );
    assert_eq!(hub.requests().len(), asked);
}
