//! The ids of texts and prompts.

use std::path::Path;

use qwen_gen::text::{PromptIds, Tokenizer, template};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Files, fixtures, root, saved_by_tokenizers};

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

    // As transformers 4 and 5 save it.
    let [a, b] = ["A", "B"].map(|id| json!({"Sequence": {"id": id, "type_id": 0}}));
    for post_processor in [
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true}),
        json!({"type": "TemplateProcessing", "single": [a], "pair": [a, b], "special_tokens": {}}),
    ] {
        json["post_processor"] = post_processor;
        check_text_cases(&Tokenizer::from_tokenizer_json(json.to_string().as_bytes()).unwrap());
    }
    let end = json!({"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}});
    json["post_processor"] =
        json!({"type": "TemplateProcessing", "single": [a, end], "special_tokens": {}});
    assert!(Tokenizer::from_tokenizer_json(json.to_string().as_bytes()).is_err());
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
