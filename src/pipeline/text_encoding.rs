//! Prompts to embeddings, all prompts of a run at once.

use std::collections::{HashMap, HashSet};

use candle_core::Tensor;

use crate::error::Result;
use crate::memory::TextTokens;
use crate::model::text_encoder::TextEncoder;
use crate::sampling::{ImageRequest, Sampling};
use crate::text::template::PREFIX_TOKENS;
use crate::text::tokenizer::{PromptIds, Tokenizer};

/// Most tokens in one pass of the encoder: enough to use the device fully, and a bound for its
/// memory however many prompts a run has.
const MAX_PASS_TOKENS: usize = 4096;

/// The distinct texts of a run, tokenised; the first request encodes them.
#[derive(Debug, Clone)]
pub struct TextEncodings {
    texts: Vec<(String, PromptIds)>,
    embeds: HashMap<String, Tensor>,
}

impl TextEncodings {
    /// Tokenises the prompts of all `requests` and the negative prompt.
    pub(super) fn new(
        tokenizer: &Tokenizer,
        requests: &[ImageRequest],
        sampling: &Sampling,
    ) -> Result<Self> {
        let mut seen = HashSet::new();
        let negative = (sampling.uses_guidance()).then_some(&*sampling.negative_prompt);
        let mut prompts = requests.iter().map(|request| request.prompt.as_str());
        // What the first request needs comes first.
        let texts = (prompts.next().into_iter().chain(negative).chain(prompts))
            .filter(|text| seen.insert(*text))
            .map(|text| {
                let ids = tokenizer.encode_prompt(text, sampling.max_sequence_length)?;
                Ok((text.to_owned(), ids))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            texts,
            embeds: HashMap::new(),
        })
    }

    /// Texts that were cut, with the number of tokens each lost.
    pub fn truncated(&self) -> impl Iterator<Item = (&str, usize)> {
        (self.texts.iter())
            .map(|(text, ids)| (text.as_str(), ids.lost_tokens))
            .filter(|(_, lost_tokens)| *lost_tokens > 0)
    }

    /// How long they are.
    pub(super) fn tokens(&self) -> TextTokens {
        let lengths = || self.texts.iter().map(|(_, ids)| ids.input_ids.len());
        let longest = lengths().max().unwrap_or_default();
        let total = lengths().sum();
        TextTokens {
            longest,
            at_once: longest.max(MAX_PASS_TOKENS).min(total),
            total,
        }
    }

    /// Those of the encoder's first pass, not encoded.
    pub(super) fn first_pass(&self) -> Self {
        let texts = passes(&self.texts, MAX_PASS_TOKENS).next();
        Self {
            texts: texts.unwrap_or_default().to_vec(),
            embeds: HashMap::new(),
        }
    }

    /// Encodes all texts, the first time; later there may be no encoder.
    pub(super) fn encode(&mut self, encoder: Option<&TextEncoder>) -> Result<()> {
        let Some(encoder) = encoder.filter(|_| self.embeds.is_empty()) else {
            return Ok(());
        };
        for texts in passes(&self.texts, MAX_PASS_TOKENS) {
            let ids: Vec<&[u32]> = texts.iter().map(|(_, ids)| &*ids.input_ids).collect();
            for ((text, _), hidden) in texts.iter().zip(encoder.forward(&ids)?) {
                let kept = hidden.dim(0)? - PREFIX_TOKENS;
                let embeds = hidden.narrow(0, PREFIX_TOKENS, kept)?;
                self.embeds.insert(text.clone(), embeds);
            }
        }
        Ok(())
    }

    /// Embeddings `[s_txt, hidden]` of the request's branches, conditional first.
    pub(super) fn of_branches(
        &self,
        request: &ImageRequest,
        sampling: &Sampling,
    ) -> Result<Vec<Tensor>> {
        let negative = sampling
            .uses_guidance()
            .then_some(&sampling.negative_prompt);
        std::iter::once(&request.prompt)
            .chain(negative)
            .map(|text| match self.embeds.get(text) {
                Some(embeds) => Ok(embeds.clone()),
                None => candle_core::bail!("a prompt was not among those of the run"),
            })
            .collect::<candle_core::Result<_>>()
            .map_err(Into::into)
    }
}

/// Consecutive texts that together have at most `max_tokens`; one alone may have more.
fn passes(
    mut texts: &[(String, PromptIds)],
    max_tokens: usize,
) -> impl Iterator<Item = &[(String, PromptIds)]> {
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fitting = texts.iter().take_while(|(_, ids)| {
            tokens += ids.input_ids.len();
            tokens <= max_tokens
        });
        let count = fitting.count().max(1);
        let pass;
        (pass, texts) = texts.split_at_checked(count)?;
        Some(pass)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_has_a_bounded_number_of_tokens() {
        let text = |tokens| {
            let ids = PromptIds {
                input_ids: vec![0; tokens],
                lost_tokens: 0,
            };
            (tokens.to_string(), ids)
        };
        let texts = [3, 3, 4, 1, 20, 2].map(text);
        let passes: Vec<usize> = passes(&texts, 10).map(<[_]>::len).collect();
        assert_eq!(passes, [3, 1, 1, 1]);
    }
}
