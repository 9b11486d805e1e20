//! The tokenizer's JSON files as they are written, parsed within bounds.
//!
//! A `tokenizer.json` that asks for other rules than Qwen's is refused, so no regular expression of
//! a file is ever run. What is not needed is skipped, never kept: a parsed value takes many times
//! its text.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokenizers::models::bpe::{Merges, Vocab};

use super::files::{TOKENIZER_JSON, parse_merge};
use super::tokenizer::SPLIT;
use crate::error::Result;
use crate::weights::{Object, fault};

/// Most tokens of a vocabulary; Qwen has 151,643, and a million would take seconds.
const MAX_TOKENS: usize = 500_000;

/// Most merges; Qwen has 151,387.
pub(super) const MAX_MERGES: usize = 500_000;

/// Longest text of one rule; Qwen's longest has a few hundred bytes.
const MAX_RULE_BYTES: usize = 16_384;

#[derive(Default, Deserialize)]
pub(super) struct TokenizerConfig {
    #[serde(default)]
    pub(super) added_tokens_decoder: BTreeMap<u32, Object<Added>>,
}

/// An added token as the JSON files describe it.
///
/// `content` is required: `{}` would let a small file make a great many tokens.
#[derive(Default, Deserialize)]
pub(super) struct Added {
    /// In `tokenizer.json`; elsewhere the id is the key.
    pub(super) id: Option<u32>,
    pub(super) content: String,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default)]
    pub(super) single_word: bool,
}

impl Added {
    pub(super) fn exact(content: String) -> Self {
        Self {
            content,
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
pub(super) struct TokenizerJson<'a> {
    #[serde(default)]
    pub(super) added_tokens: Vec<Object<Added>>,
    #[serde(borrow)]
    normalizer: Rule<'a>,
    #[serde(borrow)]
    pre_tokenizer: Rule<'a>,
    #[serde(borrow)]
    post_processor: Rule<'a>,
    #[serde(borrow)]
    pub(super) model: Object<ModelJson<'a>>,
}

#[derive(Deserialize)]
pub(super) struct ModelJson<'a> {
    pub(super) vocab: TokenMap,
    pub(super) merges: MergeList,
    #[serde(borrow)]
    r#type: Rule<'a>,
    #[serde(borrow)]
    dropout: Rule<'a>,
    #[serde(borrow)]
    ignore_merges: Rule<'a>,
    #[serde(borrow)]
    continuing_subword_prefix: Rule<'a>,
    #[serde(borrow)]
    end_of_word_suffix: Rule<'a>,
}

/// A rule's text; none where it is null or left out.
type Rule<'a> = Option<&'a RawValue>;

impl TokenizerJson<'_> {
    /// Refuses every rule that would give other ids than Qwen's.
    pub(super) fn check_rules(&self) -> Result<()> {
        let split = json!({
            "type": "Split",
            "pattern": {"Regex": SPLIT},
            "behavior": "Isolated",
            "invert": false,
        });
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false});
        let sequence = json!({"type": "Sequence", "pretokenizers": [split, byte_level]});
        // Neither adds a token; transformers 5 writes the template.
        let template = json!({
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {},
        });
        let post_processors = [json!({"type": "ByteLevel"}), template, json!(null)];
        let Object(model) = &self.model;
        for (field, rule, supported) in [
            ("normalizer", self.normalizer, &[json!({"type": "NFC"})][..]),
            ("pre_tokenizer", self.pre_tokenizer, &[sequence]),
            ("post_processor", self.post_processor, &post_processors),
            ("model.type", model.r#type, &[json!("BPE"), json!(null)]),
            ("model.dropout", model.dropout, &[json!(null)]),
            (
                "model.ignore_merges",
                model.ignore_merges,
                &[json!(false), json!(null)],
            ),
            (
                "model.continuing_subword_prefix",
                model.continuing_subword_prefix,
                &[json!(""), json!(null)],
            ),
            (
                "model.end_of_word_suffix",
                model.end_of_word_suffix,
                &[json!(""), json!(null)],
            ),
        ] {
            let mut found = parse_rule(field, rule)?;
            // What is about places in the text and pairs of texts, which nobody asks for, and what splits
            // texts, where they are split already.
            let (rule, without): (_, &[_]) = match field {
                "pre_tokenizer" => (found.pointer_mut("/pretokenizers/1"), &["trim_offsets"]),
                "post_processor" => (
                    Some(&mut found),
                    &["trim_offsets", "add_prefix_space", "use_regex", "pair"],
                ),
                _ => (None, &[]),
            };
            if let Some(fields) = rule.and_then(Value::as_object_mut) {
                fields.retain(|name, _| !without.contains(&&**name));
            }
            if !supported.contains(&found) {
                let message = format!("`{field}` is {found}; only {} is supported", supported[0]);
                return Err(fault(TOKENIZER_JSON, message));
            }
        }
        Ok(())
    }
}

fn parse_rule(field: &str, rule: Rule) -> Result<Value> {
    let text = rule.map_or("null", RawValue::get);
    if text.len() > MAX_RULE_BYTES {
        let message = format!(
            "`{field}` has {} bytes; at most {MAX_RULE_BYTES} are supported",
            text.len()
        );
        return Err(fault(TOKENIZER_JSON, message));
    }
    serde_json::from_str(text).map_err(|error| fault(TOKENIZER_JSON, format!("`{field}`: {error}")))
}

/// Tokens and their ids, at most [`MAX_TOKENS`].
pub(super) struct TokenMap(pub(super) Vocab);

impl<'de> Deserialize<'de> for TokenMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens;
        impl<'de> Visitor<'de> for Tokens {
            type Value = TokenMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the id of each token")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TokenMap, A::Error> {
                let mut vocab = Vocab::new();
                while let Some((token, id)) = map.next_entry()? {
                    if vocab.len() == MAX_TOKENS {
                        return Err(A::Error::custom(format!("more than {MAX_TOKENS} tokens")));
                    }
                    vocab.insert(token, id);
                }
                Ok(TokenMap(vocab))
            }
        }
        deserializer.deserialize_map(Tokens)
    }
}

/// Pairs of tokens by rank, at most [`MAX_MERGES`].
pub(super) struct MergeList(pub(super) Merges);

impl<'de> Deserialize<'de> for MergeList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = MergeList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of merges")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<MergeList, A::Error> {
                let mut merges = Merges::new();
                loop {
                    let rank = merges.len();
                    let next = list.next_element();
                    let next =
                        next.map_err(|error| A::Error::custom(format!("merge {rank}: {error}")))?;
                    match next {
                        None => return Ok(MergeList(merges)),
                        Some(_) if rank == MAX_MERGES => {
                            return Err(A::Error::custom(format!("more than {MAX_MERGES} merges")));
                        }
                        Some(Merge(a, b)) => merges.push((a, b)),
                    }
                }
            }
        }
        deserializer.deserialize_seq(List)
    }
}

struct Merge(String, String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pair;
        impl<'de> Visitor<'de> for Pair {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pair of tokens")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, pair: A) -> Result<Merge, A::Error> {
                let (a, b) = Deserialize::deserialize(SeqAccessDeserializer::new(pair))?;
                Ok(Merge(a, b))
            }

            /// Older files write a merge as one string.
            fn visit_str<E: serde::de::Error>(self, line: &str) -> Result<Merge, E> {
                let (a, b) = parse_merge(line).ok_or_else(|| E::custom("no pair"))?;
                Ok(Merge(a, b))
            }
        }
        deserializer.deserialize_any(Pair)
    }
}
