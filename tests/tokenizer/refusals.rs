//! Files that no tokenizer can be made of.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use qwen_gen::text::Tokenizer;
use qwen_gen::weights::ModelSource;
use serde_json::{Value, json};

use crate::{Files, fixtures, refusal, saved_by_tokenizers};

#[test]
fn what_cannot_be_read_is_not_taken_for_absent() {
    let checkpoint = fixtures().join("checkpoints/tiny-a/tokenizer");
    for name in ["tokenizer.json", "added_tokens.json"] {
        for spoil in [
            (|path| symlink("gone", path).unwrap()) as fn(&Path),
            |path| symlink(path.file_name().unwrap(), path).unwrap(),
            |path| fs::create_dir(path).unwrap(),
            |path| {
                assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
            },
        ] {
            let folder = tempfile::tempdir().unwrap();
            let tokenizer = folder.path().join("tokenizer");
            fs::create_dir(&tokenizer).unwrap();
            for file in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
                fs::copy(checkpoint.join(file), tokenizer.join(file)).unwrap();
            }
            let source = ModelSource::Folder(folder.path().to_owned());
            Tokenizer::read(&source).unwrap();
            spoil(&tokenizer.join(name));
            let message = refusal(Tokenizer::read(&source));
            assert!(
                message.starts_with(&format!("tokenizer/{name}: ")),
                "{message}"
            );
        }
    }
}

#[test]
fn added_tokens_of_the_config_come_before_added_tokens_json() {
    let mut files = Files::tiny();
    files.added_tokens = None;
    files.build().unwrap();
    files.added_tokens = Some(b"not read".to_vec());
    files.build().unwrap();
    files.config = Some(b"{}".to_vec());
    assert!(files.refusal().starts_with("tokenizer/added_tokens.json: "));
    files.added_tokens = None;
    assert!(files.refusal().contains("template's prefix, not 34"));
}

#[test]
fn malformed_files_are_named() {
    let full = Files::tiny();
    for bytes in [
        &b""[..],
        b"{",
        b"[]",
        b"\xff",
        br#"{"a": -1}"#,
        br#"{"a": 4294967296}"#,
        br#"{"a": 1.5}"#,
        br#"{"\ud800": 1}"#,
        br#"{"a": 1}"#,
        br#"{"a": 1, "b": 1}"#,
    ] {
        let vocab = Files {
            vocab: bytes.to_vec(),
            ..Files::tiny()
        };
        assert!(vocab.refusal().starts_with("tokenizer/vocab.json: "));
        let added = Files {
            added_tokens: Some(bytes.to_vec()),
            config: None,
            ..Files::tiny()
        };
        let message = added.refusal();
        let text = String::from_utf8_lossy(bytes);
        assert!(message.starts_with("tokenizer"), "{text}: {message}");
        let json = refusal(Tokenizer::from_tokenizer_json(bytes));
        assert!(json.starts_with("tokenizer/tokenizer.json: "), "{json}");
    }
    for (bytes, named) in [
        (&b"a"[..], "line 1 is \"a\""),
        (b"#version: 0.2\nq no-token\n", "\"no-token\""),
        (b"#version: 0.2\na b c\n", "\"b c\""),
        (b"q \x1b[31m\n", "\\u{1b}"),
        (b"\xff\n", "utf-8"),
    ] {
        let merges = Files {
            merges: bytes.to_vec(),
            ..Files::tiny()
        };
        let message = merges.refusal();
        assert!(message.starts_with("tokenizer/merges.txt: "), "{message}");
        assert!(message.contains(named), "{message}");
    }
    // Tokens that exist, joined to one that does not and is longer than any that does.
    let vocab: std::collections::BTreeMap<String, u32> =
        serde_json::from_slice(&full.vocab).unwrap();
    let longest = vocab.keys().max_by_key(|token| token.len()).unwrap();
    let merges = Files {
        merges: format!("{longest} {longest}\n").into_bytes(),
        ..full
    };
    assert!(merges.refusal().contains("which is no token"));
}

/// The file is well-formed, and texts would be read in other tokens.
#[test]
fn merges_that_were_cut_at_a_line_are_refused() {
    let whole = Files::tiny().merges;
    let lines: Vec<_> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    for left in [0, lines.len() - 1] {
        let cut = Files {
            merges: lines[..left].concat(),
            ..Files::tiny()
        };
        let message = cut.refusal();
        assert!(
            message.starts_with("tokenizer/merges.txt: no merge makes "),
            "{message}"
        );
    }
}

#[test]
fn added_tokens_that_contradict_are_refused() {
    for (config, named) in [
        (json!({"0": {"content": "<|im_start|>"}}), "another token's"),
        (json!({"1063": {"content": "!"}}), "\"!\" has the ids"),
        (
            json!({"1063": {"content": "<|im_start|>"}, "1064": {"content": "<|im_start|>"}}),
            "has the ids 1063 and 1064",
        ),
        (
            json!({"1063": {"content": "<|im_start|>", "lstrip": true}}),
            "only exact",
        ),
    ] {
        let files = Files {
            config: Some(
                json!({"added_tokens_decoder": config})
                    .to_string()
                    .into_bytes(),
            ),
            ..Files::tiny()
        };
        let message = files.refusal();
        assert!(message.contains(named), "{message}");
        assert!(message.starts_with("tokenizer/tokenizer_config.json"));
    }
}

#[test]
fn tokenizer_json_with_other_rules_is_refused() {
    let saved: Value = serde_json::from_slice(&saved_by_tokenizers(&Files::tiny())).unwrap();
    for (pointer, value, named) in [
        ("/normalizer", json!(null), "`normalizer` is null"),
        ("/normalizer", json!({"type": "NFKC"}), "NFKC"),
        (
            "/pre_tokenizer",
            json!({"type": "Whitespace"}),
            "Whitespace",
        ),
        (
            "/pre_tokenizer/pretokenizers/0/pattern/Regex",
            json!("(a+)+$"),
            "(a+)+$",
        ),
        ("/post_processor", json!({"type": "Bert"}), "Bert"),
        ("/model/type", json!("Unigram"), "Unigram"),
        ("/model/dropout", json!(0.5), "0.5"),
        ("/model/ignore_merges", json!(true), "ignore_merges"),
        (
            "/model/continuing_subword_prefix",
            json!("##"),
            "continuing_subword_prefix",
        ),
        ("/model/end_of_word_suffix", json!("</w>"), "</w>"),
        ("/model/merges", json!([["q", "no-token"]]), "no-token"),
        ("/model/merges", json!(["q"]), "merge 0: no pair"),
        ("/model/merges", json!([7]), "merge 0: invalid type"),
        ("/added_tokens/0/id", json!(null), "has no id"),
        ("/added_tokens/0", json!({"id": 7}), "`content`"),
        ("/added_tokens/0", json!([7, "a"]), "expected an object"),
        ("/model", json!([{}, []]), "expected an object"),
        ("/model/vocab", json!({}), "256 bytes"),
        ("/model/vocab/!", json!(7), "another token's"),
    ] {
        let mut json = saved.clone();
        *json.pointer_mut(pointer).unwrap() = value;
        let message = refusal(Tokenizer::from_tokenizer_json(json.to_string().as_bytes()));
        assert!(message.contains(named), "{pointer}: {message}");
    }
}

#[test]
fn a_million_added_tokens_are_refused() {
    let added: serde_json::Map<String, Value> = (10_000..1_010_000)
        .map(|id| (format!("<|{id}|>"), json!(id)))
        .collect();
    let files = Files {
        added_tokens: Some(Value::Object(added).to_string().into_bytes()),
        config: None,
        ..Files::tiny()
    };
    assert!(files.refusal().contains("1000000 added tokens; at most"));
}

#[test]
fn large_added_tokens_are_refused() {
    for (count, bytes, why) in [
        (10, 300, "one of 10 added tokens has 300 bytes; at most 256"),
        (9000, 200, "9000 added tokens have 1800000 bytes; at most"),
    ] {
        let added: serde_json::Map<String, Value> = (10_000..10_000 + count)
            .map(|id| (format!("{id:0bytes$}"), json!(id)))
            .collect();
        let files = Files {
            added_tokens: Some(Value::Object(added).to_string().into_bytes()),
            config: None,
            ..Files::tiny()
        };
        let message = files.refusal();
        assert!(message.starts_with("tokenizer/added_tokens.json: "));
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn more_tokens_and_merges_than_any_model_has_are_refused() {
    let merges = Files {
        merges: "q q\n".repeat(500_001).into_bytes(),
        ..Files::tiny()
    };
    let message = merges.refusal();
    assert!(message.contains("more than 500000 merges"), "{message}");
    let tokens = (0..=500_000).map(|id| format!("\"{id}\":{id}"));
    let tokens = tokens.collect::<Vec<_>>().join(",");
    let vocab = Files {
        vocab: format!("{{{tokens}}}").into_bytes(),
        ..Files::tiny()
    };
    let message = vocab.refusal();
    assert!(message.contains("more than 500000 tokens"), "{message}");
    let pairs = vec![r#"["q","q"]"#; 500_001].join(",");
    let json = format!(r#"{{"model": {{"merges": [{pairs}]}}}}"#);
    let message = refusal(Tokenizer::from_tokenizer_json(json.as_bytes()));
    assert!(message.contains("more than 500000 merges"), "{message}");
}

#[test]
fn a_rule_of_megabytes_is_refused_and_any_other_key_is_skipped() {
    let saved: Value = serde_json::from_slice(&saved_by_tokenizers(&Files::tiny())).unwrap();
    let large: Value = (0..1_000_000).collect();
    for (pointer, key) in [
        ("", "normalizer"),
        ("", "pre_tokenizer"),
        ("", "post_processor"),
        ("/model", "dropout"),
    ] {
        let mut json = saved.clone();
        json.pointer_mut(pointer).unwrap()[key] = large.clone();
        let message = refusal(Tokenizer::from_tokenizer_json(json.to_string().as_bytes()));
        assert!(message.contains("bytes; at most 16384"), "{message}");
        assert!(message.contains(key), "{message}");
    }
    for pointer in ["", "/model", "/added_tokens/0"] {
        let mut json = saved.clone();
        json.pointer_mut(pointer).unwrap()["x"] = large.clone();
        Tokenizer::from_tokenizer_json(json.to_string().as_bytes()).unwrap();
    }
    let mut json = saved;
    json["model"]["merges"] = json!([["q", "u", "v"]]);
    refusal(Tokenizer::from_tokenizer_json(json.to_string().as_bytes()));
}
