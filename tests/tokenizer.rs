//! Token ids against transformers', and what malformed tokenizer files lead to.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use qwen_gen::Error;
use qwen_gen::text::{PromptIds, Tokenizer, template};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn fixtures() -> PathBuf {
    root().join("tests/fixtures")
}

/// The files of a `tokenizer/` folder.
struct Files {
    vocab: Vec<u8>,
    merges: Vec<u8>,
    added_tokens: Option<Vec<u8>>,
    config: Option<Vec<u8>>,
}

impl Files {
    fn read(folder: impl AsRef<Path>) -> Self {
        let read = |name| std::fs::read(folder.as_ref().join(name)).ok();
        Self {
            vocab: read("vocab.json").unwrap(),
            merges: read("merges.txt").unwrap(),
            added_tokens: read("added_tokens.json"),
            config: read("tokenizer_config.json"),
        }
    }

    fn tiny() -> Self {
        Self::read(fixtures().join("checkpoints/tiny-a/tokenizer"))
    }

    fn full() -> Self {
        Self::read(fixtures().join("tokenizer/qwen"))
    }

    fn build(&self) -> qwen_gen::Result<Tokenizer> {
        Tokenizer::from_files(
            &self.vocab,
            &self.merges,
            self.added_tokens.as_deref(),
            self.config.as_deref(),
        )
    }

    /// The message of the refusal, which must blame the checkpoint.
    fn refusal(&self) -> String {
        refusal(self.build())
    }
}

fn refusal(result: qwen_gen::Result<Tokenizer>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Checkpoint { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.starts_with("tokenizer"), "{message}");
    assert!(message.len() < 500 && !message.contains('\n'), "{message}");
    message
}

/// `tokenizer.json` of a folder's files, written by the `tokenizers` crate.
fn saved_by_tokenizers(files: &Files) -> Vec<u8> {
    let merges = std::str::from_utf8(&files.merges).unwrap();
    let merges = merges
        .lines()
        .filter_map(|line| line.split_once(' '))
        .skip(1)
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect();
    let vocab: tokenizers::models::bpe::Vocab = serde_json::from_slice(&files.vocab).unwrap();
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .build()
        .unwrap();
    let split = Split::new(
        SplitPattern::Regex(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
                .to_owned(),
        ),
        SplitDelimiterBehavior::Isolated,
        false,
    )
    .unwrap();
    let byte_level = ByteLevel::new(false, true, false);
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(NFC))
        .unwrap()
        .with_pre_tokenizer(Some(Sequence::new(vec![split.into(), byte_level.into()])))
        .with_post_processor(Some(byte_level));
    let mut added: Vec<(String, u32)> = serde_json::from_slice::<serde_json::Map<String, Value>>(
        files.added_tokens.as_deref().unwrap(),
    )
    .unwrap()
    .into_iter()
    .map(|(content, id)| (content, serde_json::from_value(id).unwrap()))
    .collect();
    added.sort_by_key(|(_, id)| *id);
    tokenizer
        .add_tokens(added.iter().map(|(token, _)| AddedToken::from(token, true)))
        .unwrap();
    tokenizer.to_string(false).unwrap().into_bytes()
}

#[derive(Deserialize)]
struct TextCase {
    text: String,
    ids: Vec<u32>,
    templated: Vec<u32>,
}

fn text_cases() -> Vec<TextCase> {
    let json = std::fs::read(fixtures().join("tokenizer/cases.json")).unwrap();
    let cases: Vec<TextCase> = serde_json::from_slice(&json).unwrap();
    assert_eq!(cases.len(), 14);
    cases
}

fn check_text_cases(tokenizer: &Tokenizer) {
    for case in text_cases() {
        assert_eq!(
            tokenizer.encode(&case.text).unwrap(),
            case.ids,
            "{:?}",
            case.text
        );
        assert_eq!(
            tokenizer.encode_prompt(&case.text, 1024).unwrap(),
            PromptIds {
                input_ids: case.templated,
                drop: 34,
                lost_tokens: 0
            },
            "{:?}",
            case.text
        );
    }
}

#[test]
fn full_tokenizer_gives_the_ids_of_transformers() {
    let tokenizer = Files::full().build().unwrap();
    assert_eq!(tokenizer.max_id(), 151_664);
    check_text_cases(&tokenizer);
}

#[test]
fn tokenizer_json_gives_the_ids_of_transformers() {
    let json = saved_by_tokenizers(&Files::full());
    check_text_cases(&Tokenizer::from_tokenizer_json(&json).unwrap());

    // Older files write a merge as one string.
    let mut json: Value = serde_json::from_slice(&json).unwrap();
    for merge in json["model"]["merges"].as_array_mut().unwrap() {
        *merge = format!(
            "{} {}",
            merge[0].as_str().unwrap(),
            merge[1].as_str().unwrap()
        )
        .into();
    }
    check_text_cases(&Tokenizer::from_tokenizer_json(json.to_string().as_bytes()).unwrap());
}

/// The ids of every prompt in `case.json` equal the tensors of the case.
fn check_case(folder: &Path, tokenizer: &Tokenizer) {
    let case: Value =
        serde_json::from_slice(&std::fs::read(folder.join("case.json")).unwrap()).unwrap();
    let file = std::fs::read(folder.join("tensors.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let i64s = |name: &str| -> Option<(usize, Vec<i64>)> {
        let tensor = tensors.tensor(name).ok()?;
        let (chunks, _) = tensor.data().as_chunks();
        let values = chunks.iter().map(|&b| i64::from_le_bytes(b)).collect();
        Some((tensor.shape()[1], values))
    };
    for (prompts, tensor, mask) in [
        (&case["prompt"], "input_ids", "attention_mask"),
        (
            case.get("negative").unwrap_or(&case["negative_prompt"]),
            "negative_input_ids",
            "negative_attention_mask",
        ),
    ] {
        let Some((length, ids)) = i64s(tensor) else {
            assert_eq!(case["do_cfg"], json!(false), "{tensor}");
            continue;
        };
        let mask = i64s(mask).map_or_else(|| vec![1; ids.len()], |(_, mask)| mask);
        let prompts = match prompts {
            Value::Array(prompts) => prompts.clone(),
            prompt => vec![prompt.clone()],
        };
        assert_eq!(prompts.len() * length, ids.len());
        for (prompt, (ids, mask)) in prompts
            .iter()
            .zip(ids.chunks(length).zip(mask.chunks(length)))
        {
            let expected: Vec<u32> = ids
                .iter()
                .zip(mask)
                .filter(|(_, mask)| **mask == 1)
                .map(|(id, _)| u32::try_from(*id).unwrap())
                .collect();
            let prompt = prompt.as_str().unwrap();
            let actual = tokenizer.encode_prompt(prompt, 1024).unwrap();
            assert_eq!(
                actual.input_ids,
                expected,
                "{} {prompt:?}",
                folder.display()
            );
        }
    }
}

#[test]
fn prompts_of_the_cases_give_their_ids() {
    for case in [
        "a_ascii_seed0",
        "a_batch2_masked",
        "a_cfg1_off",
        "b_custom_sigmas",
        "b_oddsize_seed42",
    ] {
        let checkpoint = format!("checkpoints/tiny-{}/tokenizer", &case[..1]);
        let files = Files::read(fixtures().join(checkpoint));
        let folder = fixtures().join("cases").join(case);
        check_case(&folder, &files.build().unwrap());
        let json = saved_by_tokenizers(&files);
        check_case(&folder, &Tokenizer::from_tokenizer_json(&json).unwrap());
    }
    let builtin = Files::read(root().join("assets/builtin-model/tokenizer"))
        .build()
        .unwrap();
    for case in ["logo_seed0", "stars_cfg1", "two_shapes", "wide_word"] {
        check_case(&fixtures().join("builtin").join(case), &builtin);
    }
}

#[test]
fn long_prompts_are_cut_at_the_end() {
    let tokenizer = Files::full().build().unwrap();
    let prompt = "a cat ".repeat(1000);
    let all = tokenizer.encode(&template::apply(&prompt)).unwrap();
    for max in [1, 512, 1024] {
        let ids = tokenizer.encode_prompt(&prompt, max).unwrap();
        assert_eq!(ids.input_ids, all[..34 + max]);
        assert_eq!(ids.lost_tokens, all.len() - 34 - max);
    }
    for max in [0, 1025] {
        let error = tokenizer.encode_prompt(&prompt, max).unwrap_err();
        assert!(matches!(error, Error::Usage { .. }), "{error:?}");
    }
}

#[test]
fn a_leading_newline_joins_the_template() {
    let tokenizer = Files::full().build().unwrap();
    let ids = tokenizer.encode_prompt("\nA cat", 1024).unwrap().input_ids;
    assert_eq!(ids[33..37], [271, 32, 8251, 151_645]);
}

#[test]
fn a_megabyte_of_text_is_tokenised() {
    let tokenizer = Files::full().build().unwrap();
    for text in ["a cat, 12 dogs\n", "熊猫坐在竹林里，", "a", "! "] {
        let prompt = text.repeat(1_000_000 / text.len());
        let ids = tokenizer.encode_prompt(&prompt, 1024).unwrap();
        assert_eq!(ids.input_ids.len(), 1058, "{text:?}");
    }
}

#[test]
fn blanks_are_split_or_refused() {
    let tokenizer = Files::full().build().unwrap();
    for (blank, tail) in [
        (" ", " x12"),
        ("\t", "\tx12"),
        ("\n", "x12"),
        ("\u{3000}", "\u{3000}x12"),
    ] {
        // The word takes one blank of the run, unless that ends a line.
        let ids = tokenizer
            .encode(&format!("{}x12", blank.repeat(900_000)))
            .unwrap();
        let tail = tokenizer.encode(tail).unwrap();
        assert!(ids.ends_with(&tail), "{blank:?}");
    }
    let error = tokenizer.encode(&" ".repeat(1_100_000)).unwrap_err();
    assert!(error.to_string().contains("blanks in a row"), "{error}");
}

#[test]
fn any_text_gives_the_ids_of_the_tokenizers_pipeline() {
    let json = saved_by_tokenizers(&Files::full());
    let ours = Tokenizer::from_tokenizer_json(&json).unwrap();
    let theirs = tokenizers::Tokenizer::from_bytes(&json).unwrap();
    let alphabet = [
        "a",
        "The",
        "'s",
        "'LL",
        "'\u{17f}",
        "1",
        "٣",
        "Ⅻ",
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\u{3000}",
        "\u{85}",
        "!",
        "...",
        "é",
        "e\u{301}",
        "\u{212b}",
        "ǅ",
        "ª",
        "क्षि",
        "한국",
        "熊猫",
        "，",
        "😀",
        "👩\u{200d}👧",
        "Ⓐ",
        "\u{0}",
        "\u{ad}",
        "<|im_end|>",
        "<|im_",
        "<tool_call>",
        "\u{338}",
        "_",
    ];
    // A linear congruential generator: the same texts in every run.
    let mut state = 1_u64;
    for _ in 0..2000 {
        let text: String = (0..12)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                alphabet[usize::try_from(state >> 33).unwrap() % alphabet.len()]
            })
            .collect();
        let expected = theirs.encode_fast(text.as_str(), false).unwrap();
        assert_eq!(ours.encode(&text).unwrap(), expected.get_ids(), "{text:?}");
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
    // No merges at all: Qwen's tokens are not reached.
    let none = Files {
        merges: Vec::new(),
        ..Files::tiny()
    };
    assert!(none.refusal().contains("template's prefix, not 34"));
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
        ("/model/merges", json!(["q"]), "merge 0"),
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
