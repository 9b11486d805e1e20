//! A checkpoint's tokenizer files: what they say, checked.
//!
//! A checkpoint brings tokens and merges; how text is normalised and split is Qwen's.

use std::collections::{BTreeMap, HashSet};

use rayon::prelude::*;
use tokenizers::models::bpe::{Merges, Vocab};

use super::json::{Added, MAX_MERGES, MergeList, TokenMap, TokenizerConfig, TokenizerJson};
use super::tokenizer::byte_chars;
use crate::error::{Error, Result};
use crate::weights::{INCOMPLETE, Object, fault, fault_with_hint, parse_json};

pub(super) const VOCAB: &str = "tokenizer/vocab.json";
pub(super) const MERGES: &str = "tokenizer/merges.txt";
pub(super) const ADDED_TOKENS: &str = "tokenizer/added_tokens.json";
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer/tokenizer_config.json";
pub(super) const TOKENIZER_JSON: &str = "tokenizer/tokenizer.json";

/// Qwen's tokenizer has 22 added tokens; the automaton that finds a million takes many seconds.
const MAX_ADDED_TOKENS: usize = 10_000;

/// Qwen's longest has 20 bytes. The automaton takes 80 bytes of memory for each byte of a token.
const MAX_ADDED_TOKEN_BYTES: usize = 256;
const MAX_ADDED_BYTES: usize = 1 << 20;

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
        let (vocab, merges) = rayon::join(
            || parse_json(VOCAB, vocab_json),
            || parse_merges(merges_txt),
        );
        let (TokenMap(vocab), merges) = (vocab?, merges?);

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
            _ => {
                let with_id = |(id, Object(token))| (id, token);
                (TOKENIZER_CONFIG, decoder.into_iter().map(with_id).collect())
            }
        };
        Self::new((VOCAB, vocab), (MERGES, merges), added)
    }

    /// See [`Tokenizer::from_tokenizer_json`](super::Tokenizer::from_tokenizer_json).
    pub(super) fn from_tokenizer_json(json: &[u8]) -> Result<Self> {
        let file = TOKENIZER_JSON;
        let json: TokenizerJson = parse_json(file, json)?;
        json.check_rules()?;
        let with_id = |Object(token): Object<Added>| {
            let id = token.id.ok_or_else(|| {
                let message = format!("added token {:?} has no id", token.content);
                fault(file, message)
            })?;
            Ok((id, token))
        };
        let added = json.added_tokens.into_iter().map(with_id);
        let added = added.collect::<Result<_>>()?;
        let Object(model) = json.model;
        let (TokenMap(vocab), MergeList(merges)) = (model.vocab, model.merges);
        Self::new((file, vocab), (file, merges), (file, added))
    }

    /// Checks the parts; each comes with the file to blame for it.
    fn new(
        (vocab_file, mut vocab): (&str, Vocab),
        (merges_file, merges): (&str, Merges),
        (added_file, added): (&str, Vec<(u32, Added)>),
    ) -> Result<Self> {
        check_added_bytes(added_file, &added)?;
        let mut ids = HashSet::new();
        for (token, &id) in &vocab {
            if !ids.insert(id) {
                return Err(taken(vocab_file, id, token));
            }
        }
        check_bytes(vocab_file, &vocab)?;
        check_merges((merges_file, &merges), (vocab_file, &vocab), &added)?;

        let mut contents = Vec::new();
        for (id, token) in added {
            let content = token.content;
            if token.lstrip || token.rstrip || token.single_word {
                let message = format!(
                    "added token {content:?} has `lstrip`, `rstrip` or `single_word`; only exact matches are supported"
                );
                return Err(fault(added_file, message));
            }
            match vocab.get(&content) {
                Some(&known) if known == id => {}
                Some(known) => {
                    let message = format!("token {content:?} has the ids {known} and {id}");
                    return Err(fault(added_file, message));
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

/// Refuses what would take much time or memory to look for.
fn check_added_bytes(file: &str, added: &[(u32, Added)]) -> Result<()> {
    let count = added.len();
    let bytes = || added.iter().map(|(_, token)| token.content.len());
    let (longest, sum) = (bytes().max().unwrap_or(0), bytes().sum::<usize>());
    let message = if count > MAX_ADDED_TOKENS {
        format!("{count} added tokens; at most {MAX_ADDED_TOKENS} are supported")
    } else if longest > MAX_ADDED_TOKEN_BYTES {
        format!(
            "one of {count} added tokens has {longest} bytes; at most {MAX_ADDED_TOKEN_BYTES} are supported"
        )
    } else if sum > MAX_ADDED_BYTES {
        format!("{count} added tokens have {sum} bytes; at most {MAX_ADDED_BYTES} are supported")
    } else {
        return Ok(());
    };
    Err(fault(file, message))
}

/// Without a token for a byte, BPE would leave the byte out of the prompt.
fn check_bytes(file: &str, vocab: &Vocab) -> Result<()> {
    let known = |byte: &char| vocab.contains_key(byte.encode_utf8(&mut [0; 4]) as &str);
    let missing = byte_chars().iter().filter(|byte| !known(byte)).count();
    if missing > 0 {
        let message = format!("no token for {missing} of the 256 bytes");
        return Err(fault(file, message));
    }
    Ok(())
}

/// BPE's builder takes it for granted that the tokens of a merge exist. Where tokens are made by no merge, the
/// file was cut short at a line's end: prompts would be read in other tokens.
fn check_merges(
    (file, merges): (&str, &Merges),
    (vocab_file, vocab): (&str, &Vocab),
    added: &[(u32, Added)],
) -> Result<()> {
    let made = (merges.par_iter().enumerate()).map(|(rank, (a, b))| {
        let id = |token: &str| {
            vocab.get(token).copied().ok_or_else(|| {
                let message = format!("merge {rank} has {token:?}, which is no token");
                fault(file, message)
            })
        };
        id(a)?;
        id(b)?;
        id(&[&**a, b].concat())
    });
    // In order, so that the first that is wrong is told.
    let made: Vec<Result<u32>> = made.collect();
    let mut made: HashSet<u32> = made.into_iter().collect::<Result<_>>()?;
    made.extend(added.iter().map(|(id, _)| id));
    let is_unmade =
        |(token, id): &(&String, &u32)| token.chars().nth(1).is_some() && !made.contains(id);
    match vocab.iter().filter(is_unmade).count() {
        0 => Ok(()),
        count => Err(fault_with_hint(
            file,
            format!("no merge makes {count} of the tokens in {vocab_file}"),
            INCOMPLETE,
        )),
    }
}

fn taken(file: &str, id: u32, token: &str) -> Error {
    let message = format!("id {id} of token {token:?} is another token's too");
    fault(file, message)
}

/// `merges.txt`: a version line, then a pair a line, by rank.
fn parse_merges(merges_txt: &[u8]) -> Result<Merges> {
    let text =
        std::str::from_utf8(merges_txt).map_err(|e| fault_with_hint(MERGES, e, INCOMPLETE))?;
    let mut lines = (1..).zip(text.lines()).peekable();
    lines.next_if(|(_, line)| line.starts_with("#version"));
    let mut merges = Merges::new();
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        if merges.len() == MAX_MERGES {
            return Err(fault(MERGES, format!("more than {MAX_MERGES} merges")));
        }
        merges.push(
            parse_merge(line)
                .ok_or_else(|| fault(MERGES, format!("line {number} is {line:?}, no pair")))?,
        );
    }
    Ok(merges)
}

pub(super) fn parse_merge(line: &str) -> Option<(String, String)> {
    let (a, b) = line.split_once(' ')?;
    Some((a.to_owned(), b.to_owned()))
}
