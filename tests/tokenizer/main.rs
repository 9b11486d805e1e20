//! Token ids against transformers', and what malformed tokenizer files lead to.

#![expect(clippy::unwrap_used, reason = "tests")]

mod ids;
mod refusals;

use std::path::{Path, PathBuf};

use qwen_gen::Error;
use qwen_gen::text::Tokenizer;
use serde_json::Value;
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
