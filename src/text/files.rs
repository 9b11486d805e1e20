//! A checkpoint's tokenizer files: what they say, checked.
//!
//! A checkpoint brings tokens and merges; how text is normalised and split is Qwen's. A
//! `tokenizer.json` that asks for other rules is refused, so no regular expression of a file is
//! ever run.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::models::bpe::{Merges, Vocab};

use super::tokenizer::{SPLIT, byte_chars};
use crate::error::{Error, Result};
use crate::weights::parse_json;

pub(super) const VOCAB: &str = "tokenizer/vocab.json";
pub(super) const MERGES: &str = "tokenizer/merges.txt";
pub(super) const ADDED_TOKENS: &str = "tokenizer/added_tokens.json";
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer/tokenizer_config.json";
pub(super) const TOKENIZER_JSON: &str = "tokenizer/tokenizer.json";

/// Qwen's tokenizer has 22 added tokens; the automaton that finds a million takes many seconds.
const MAX_ADDED_TOKENS: usize = 10_000;

/// What makes a tokenizer: every byte has a token, every token one id of its own, and every merge
/// makes a token of two tokens.
pub(super) struct Parts {
    /// All tokens, the added ones too.
    pub(super) vocab: Vocab,
    /// Pairs of tokens, by rank.
    pub(super) merges: Merges,
    /// The tokens that are found in text as they are.
    pub(super) added: Vec<String>,
}

impl Parts {
    /// See [`Tokenizer::from_files`](super::Tokenizer::from_files).
    pub(super) fn from_files(
        vocab_json: &[u8],
        merges_txt: &[u8],
        added_tokens_json: Option<&[u8]>,
        tokenizer_config_json: Option<&[u8]>,
    ) -> Result<Self> {
        let vocab = parse_json(VOCAB, vocab_json)?;
        let merges = parse_merges(merges_txt)?;

        let config: TokenizerConfig = match tokenizer_config_json {
            Some(json) => parse_json(TOKENIZER_CONFIG, json)?,
            None => TokenizerConfig::default(),
        };
        let decoder = config.added_tokens_decoder;
        let added = match added_tokens_json {
            Some(json) if decoder.is_empty() => {
                let ids: BTreeMap<_, _> = parse_json(ADDED_TOKENS, json)?;
                let exact = |(content, id)| (id, Added::exact(content));
                (ADDED_TOKENS, ids.into_iter().map(exact).collect())
            }
            _ => (TOKENIZER_CONFIG, decoder.into_iter().collect()),
        };
        Self::new((VOCAB, vocab), (MERGES, merges), added)
    }

    /// See [`Tokenizer::from_tokenizer_json`](super::Tokenizer::from_tokenizer_json).
    pub(super) fn from_tokenizer_json(json: &[u8]) -> Result<Self> {
        let file = TOKENIZER_JSON;
        let json: TokenizerJson = parse_json(file, json)?;
        json.check_rules()?;
        let merges = json
            .model
            .merges
            .into_iter()
            .enumerate()
            .map(|(rank, merge)| match merge {
                Merge::Pair(a, b) => Ok((a, b)),
                Merge::Line(line) => parse_merge(&line)
                    .ok_or_else(|| Error::checkpoint(file, format!("merge {rank} is no pair"))),
            })
            .collect::<Result<_>>()?;
        let added = json
            .added_tokens
            .into_iter()
            .map(|AddedWithId { id, token }| (id, token))
            .collect();
        Self::new((file, json.model.vocab), (file, merges), (file, added))
    }

    /// Checks the parts; each comes with the file to blame for it.
    fn new(
        (vocab_file, mut vocab): (&str, Vocab),
        (merges_file, merges): (&str, Merges),
        (added_file, added): (&str, Vec<(u32, Added)>),
    ) -> Result<Self> {
        if added.len() > MAX_ADDED_TOKENS {
            let message = format!(
                "{} added tokens; at most {MAX_ADDED_TOKENS} are supported",
                added.len()
            );
            return Err(Error::checkpoint(added_file, message));
        }
        let mut ids = HashSet::new();
        for (token, &id) in &vocab {
            if !ids.insert(id) {
                return Err(taken(vocab_file, id, token));
            }
        }
        check_bytes(vocab_file, &vocab)?;
        check_merges(merges_file, &vocab, &merges)?;

        let mut contents = Vec::new();
        for (id, token) in added {
            let content = token.content;
            if token.lstrip || token.rstrip || token.single_word {
                let message = format!(
                    "added token {} has `lstrip`, `rstrip` or `single_word`; only exact matches are supported",
                    quote(&content)
                );
                return Err(Error::checkpoint(added_file, message));
            }
            match vocab.get(&content) {
                Some(&known) if known == id => {}
                Some(known) => {
                    let message = format!("token {} has the ids {known} and {id}", quote(&content));
                    return Err(Error::checkpoint(added_file, message));
                }
                None if !ids.insert(id) => return Err(taken(added_file, id, &content)),
                // Given to the model as well: tokens that the model does not know are numbered
                // anew by the `tokenizers` crate.
                None => drop(vocab.insert(content.clone(), id)),
            }
            contents.push(content);
        }
        Ok(Self {
            vocab,
            merges,
            added: contents,
        })
    }
}

/// Without a token for a byte, BPE would leave the byte out of the prompt.
fn check_bytes(file: &str, vocab: &Vocab) -> Result<()> {
    let known = |byte: &char| vocab.contains_key(byte.encode_utf8(&mut [0; 4]) as &str);
    let missing = byte_chars().iter().filter(|byte| !known(byte)).count();
    if missing > 0 {
        let message = format!("no token for {missing} of the 256 bytes");
        return Err(Error::checkpoint(file, message));
    }
    Ok(())
}

/// BPE's builder takes it for granted that the tokens of a merge exist.
fn check_merges(file: &str, vocab: &Vocab, merges: &Merges) -> Result<()> {
    let mut joined = String::new();
    for (rank, (a, b)) in merges.iter().enumerate() {
        joined.clear();
        joined.push_str(a);
        joined.push_str(b);
        for token in [a, b, &joined] {
            if !vocab.contains_key(token) {
                let message = format!("merge {rank} has {}, which is no token", quote(token));
                return Err(Error::checkpoint(file, message));
            }
        }
    }
    Ok(())
}

fn taken(file: &str, id: u32, token: &str) -> Error {
    let message = format!("id {id} of token {} is another token's too", quote(token));
    Error::checkpoint(file, message)
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    added_tokens_decoder: BTreeMap<u32, Added>,
}

/// An added token as the JSON files describe it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Added {
    content: String,
    lstrip: bool,
    rstrip: bool,
    single_word: bool,
}

impl Added {
    fn exact(content: String) -> Self {
        Self {
            content,
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
struct AddedWithId {
    id: u32,
    #[serde(flatten)]
    token: Added,
}

#[derive(Deserialize)]
struct TokenizerJson {
    #[serde(default)]
    added_tokens: Vec<AddedWithId>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    model: ModelJson,
}

#[derive(Deserialize)]
struct ModelJson {
    vocab: Vocab,
    merges: Vec<Merge>,
    #[serde(flatten)]
    rules: HashMap<String, Value>,
}

/// Older files write a merge as one string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

impl TokenizerJson {
    /// Refuses every rule that would give other ids than Qwen's.
    fn check_rules(&self) -> Result<()> {
        let mut pre_tokenizer = self.pre_tokenizer.clone();
        let mut post_processor = self.post_processor.clone();
        // `trim_offsets` is about places in the text, which nobody asks for.
        for byte_level in [
            pre_tokenizer.pointer_mut("/pretokenizers/1"),
            Some(&mut post_processor),
        ] {
            if let Some(fields) = byte_level.and_then(Value::as_object_mut) {
                fields.remove("trim_offsets");
            }
        }
        let split = json!({
            "type": "Split",
            "pattern": {"Regex": SPLIT},
            "behavior": "Isolated",
            "invert": false,
        });
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false});
        let sequence = json!({"type": "Sequence", "pretokenizers": [split, byte_level]});
        let none = Value::Null;
        let model = |field| self.model.rules.get(field).unwrap_or(&none);
        for (field, found, supported) in [
            (
                "normalizer",
                &self.normalizer,
                &[json!({"type": "NFC"})][..],
            ),
            ("pre_tokenizer", &pre_tokenizer, &[sequence]),
            (
                "post_processor",
                &post_processor,
                &[byte_level, json!(null)],
            ),
            ("model.type", model("type"), &[json!("BPE"), json!(null)]),
            ("model.dropout", model("dropout"), &[json!(null)]),
            (
                "model.ignore_merges",
                model("ignore_merges"),
                &[json!(false), json!(null)],
            ),
            (
                "model.continuing_subword_prefix",
                model("continuing_subword_prefix"),
                &[json!(""), json!(null)],
            ),
            (
                "model.end_of_word_suffix",
                model("end_of_word_suffix"),
                &[json!(""), json!(null)],
            ),
        ] {
            if !supported.contains(found) {
                let found = clip(&found.to_string());
                let message = format!("`{field}` is {found}; only {} is supported", supported[0]);
                return Err(Error::checkpoint(TOKENIZER_JSON, message));
            }
        }
        Ok(())
    }
}

/// `merges.txt`: a version line, then a pair a line, by rank.
fn parse_merges(merges_txt: &[u8]) -> Result<Merges> {
    let text =
        std::str::from_utf8(merges_txt).map_err(|e| Error::checkpoint(MERGES, e.to_string()))?;
    let mut lines = (1..).zip(text.lines()).peekable();
    lines.next_if(|(_, line)| line.starts_with("#version"));
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| {
            parse_merge(line).ok_or_else(|| {
                Error::checkpoint(MERGES, format!("line {number} is {}, no pair", quote(line)))
            })
        })
        .collect()
}

fn parse_merge(line: &str) -> Option<(String, String)> {
    let (a, b) = line.split_once(' ')?;
    Some((a.to_owned(), b.to_owned()))
}

/// Text of a file for an error message: escaped, and no more of it than a line.
fn quote(text: &str) -> String {
    format!("{:?}", clip(text))
}

fn clip(text: &str) -> String {
    const MAX_CHARS: usize = 120;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
