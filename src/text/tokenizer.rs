//! Qwen's byte-level BPE tokenizer.
//!
//! The `tokenizers` crate does the work of each step; its own pipeline of them is not used because
//! it keeps each piece's place in the text, which costs five times the tokenisation, and does not
//! notice when its regex engine gives up.

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NFC;
use tokenizers::utils::SysRegex;
use tokenizers::{AddedToken, AddedVocabulary, Model, OffsetReferential, OffsetType};

use super::files::{ADDED_TOKENS, MERGES, Parts, TOKENIZER_CONFIG, TOKENIZER_JSON, VOCAB};
use super::template;
use crate::error::{Error, Result};
use crate::weights::{ModelSource, fault};

/// All that a tokenizer can consist of.
pub(crate) const FILES: [&str; 5] = [
    TOKENIZER_JSON,
    VOCAB,
    MERGES,
    ADDED_TOKENS,
    TOKENIZER_CONFIG,
];

/// Whether the files are there without which a tokenizer is another or none.
pub(crate) fn is_complete(source: &ModelSource) -> bool {
    let has = |file: &str| source.contains(file);
    // A link of the cache whose blob has gone is fetched again.
    if FILES
        .iter()
        .any(|file| source.has_entry(file) && !has(file))
    {
        return false;
    }
    if has(TOKENIZER_JSON) {
        return true;
    }
    [VOCAB, MERGES, TOKENIZER_CONFIG].into_iter().all(has)
}

/// The pieces that merges stay within. `\p{N}` without a repeat: each digit is a piece.
pub(super) const SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A templated prompt as the text encoder reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptIds {
    /// Token ids of the templated prompt, cut to [`template::PREFIX_TOKENS`] and `max_sequence_length` more.
    pub input_ids: Vec<u32>,
    /// Tokens that did not fit, the template's ending included; 0 when nothing was cut.
    pub lost_tokens: usize,
}

/// Qwen's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    added: AddedVocabulary,
    split: SysRegex,
    byte_chars: [char; 256],
    bpe: BPE,
    max_id: u32,
}

impl Tokenizer {
    /// Reads a checkpoint's `tokenizer/`: `tokenizer.json` where there is one, else the vocabulary
    /// and its merges.
    ///
    /// # Errors
    /// When a file is missing, and as [`from_files`](Self::from_files).
    pub fn read(source: &ModelSource) -> Result<Self> {
        // One that is there and cannot be read is an error: the other files may say other things.
        if source.has_entry(TOKENIZER_JSON) {
            return Self::from_tokenizer_json(&source.read(TOKENIZER_JSON)?);
        }
        let optional = |file| {
            source
                .has_entry(file)
                .then(|| source.read(file))
                .transpose()
        };
        Self::from_files(
            &source.read(VOCAB)?,
            &source.read(MERGES)?,
            optional(ADDED_TOKENS)?.as_deref(),
            optional(TOKENIZER_CONFIG)?.as_deref(),
        )
    }

    /// Builds the tokenizer of a `tokenizer/` folder from the contents of its files.
    ///
    /// As in transformers, the added tokens are those of `tokenizer_config.json`
    /// (`added_tokens_decoder`) or, when it names none, those of `added_tokens.json`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming the file that is malformed, contradicts itself or another, or
    /// makes no Qwen tokenizer: a byte without a token, or a template prefix of other than
    /// [`template::PREFIX_TOKENS`] tokens.
    pub fn from_files(
        vocab_json: &[u8],
        merges_txt: &[u8],
        added_tokens_json: Option<&[u8]>,
        tokenizer_config_json: Option<&[u8]>,
    ) -> Result<Self> {
        Self::new(Parts::from_files(
            vocab_json,
            merges_txt,
            added_tokens_json,
            tokenizer_config_json,
        )?)
    }

    /// Builds the tokenizer from a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`from_files`](Self::from_files), and when the file states other rules than Qwen's.
    pub fn from_tokenizer_json(json: &[u8]) -> Result<Self> {
        Self::new(Parts::from_tokenizer_json(json)?)
    }

    fn new(parts: Parts) -> Result<Self> {
        let refuse = |e: tokenizers::Error| fault("tokenizer", e.to_string());
        let max_id = parts.vocab.values().max().copied().unwrap_or_default();
        let bpe = BPE::builder()
            .vocab_and_merges(parts.vocab, parts.merges)
            .build()
            .map_err(refuse)?;
        let mut added = AddedVocabulary::new();
        // "Special" is the crate's word for matched exactly, before normalisation.
        let exact = parts.added.into_iter().map(|t| AddedToken::from(t, true));
        added
            .add_tokens(exact, &bpe, None::<&NFC>)
            .map_err(refuse)?;
        let tokenizer = Self {
            added,
            split: SysRegex::new(SPLIT).map_err(refuse)?,
            byte_chars: byte_chars(),
            bpe,
            max_id,
        };

        let prefix = tokenizer.encode(template::PREFIX)?.len();
        if prefix != template::PREFIX_TOKENS {
            return Err(fault(
                "tokenizer",
                format!(
                    "makes {prefix} tokens of the prompt template's prefix, not {}",
                    template::PREFIX_TOKENS
                ),
            ));
        }
        Ok(tokenizer)
    }

    /// The largest id of any token: the embedding needs more rows than this.
    #[must_use]
    pub fn max_id(&self) -> u32 {
        self.max_id
    }

    /// The ids of `text` itself, without a template.
    ///
    /// # Errors
    /// [`Error::Usage`] when the text has a run of blanks too long for the regex engine (a million).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let segments = self.added.extract_and_normalize(Some(&NFC), text);
        let mut ids = Vec::new();
        let mut piece = String::new();
        for (segment, _, added_token) in
            segments.get_splits(OffsetReferential::Normalized, OffsetType::None)
        {
            if let Some(tokens) = added_token {
                ids.extend(tokens.iter().map(|token| token.id));
                continue;
            }
            let mut done = 0;
            for (start, end) in self.split.find_iter(segment) {
                let bytes = segment[start..end].bytes();
                piece.clear();
                piece.extend(bytes.map(|byte| self.byte_chars[usize::from(byte)]));
                let tokens = self
                    .bpe
                    .tokenize(&piece)
                    .map_err(|e| Error::usage(format!("the prompt cannot be tokenised: {e}")))?;
                ids.extend(tokens.iter().map(|token| token.id));
                done = end;
            }
            // Every character belongs to a match; the engine ends the matches when it gives up.
            if done != segment.len() {
                return Err(Error::usage("the prompt has too many blanks in a row"));
            }
        }
        Ok(ids)
    }

    /// The ids of `prompt` in its template, cut so that at most `max_sequence_length` positions
    /// remain after the drop.
    ///
    /// diffusers cuts the ids to 1058, and the encoder's output to `max_sequence_length` after the
    /// drop. The encoder is causal, so cutting the ids at once gives the same positions for less
    /// work.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_prompt(&self, prompt: &str, max_sequence_length: usize) -> Result<PromptIds> {
        let mut input_ids = self.encode(&template::apply(prompt))?;
        let total = input_ids.len();
        input_ids.truncate(template::PREFIX_TOKENS + max_sequence_length);
        Ok(PromptIds {
            lost_tokens: total - input_ids.len(),
            input_ids,
        })
    }
}

/// The character that stands for each byte in tokens: itself if printable, else one from U+0100 on.
///
/// Source: GPT-2 `encoder.py`, `bytes_to_unicode`.
pub(super) fn byte_chars() -> [char; 256] {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..);
    let mut chars = ['\0'; 256];
    for byte in (0..=u8::MAX).filter(printable) {
        chars[usize::from(byte)] = char::from(byte);
    }
    let others = (0..=u8::MAX).filter(|byte| !printable(byte));
    for (byte, char) in others.zip('\u{100}'..) {
        chars[usize::from(byte)] = char;
    }
    chars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_chars_are_gpt2s() {
        let chars = byte_chars();
        assert_eq!(chars[usize::from(b' ')], 'Ġ');
        assert_eq!(chars[usize::from(b'\n')], 'Ċ');
        assert_eq!((chars[0], chars[0xad], chars[0xff]), ('Ā', 'Ń', 'ÿ'));
    }
}
