//! Prompts to embeddings, all prompts of a run in one pass.

use std::collections::HashMap;

use candle_core::Tensor;

use super::{ImageRequest, Sampling};
use crate::error::Result;
use crate::model::text_encoder::TextEncoder;
use crate::text::tokenizer::{PromptIds, Tokenizer};

/// The encoded texts of a run; filled by the first request.
#[derive(Debug, Clone)]
pub struct TextEncodings {
    texts: Vec<String>,
    embeds: HashMap<String, Tensor>,
    lost_tokens: Vec<(String, usize)>,
}

impl TextEncodings {
    /// For all `requests` of a run and its negative prompt.
    #[must_use]
    pub fn new(requests: &[ImageRequest], sampling: &Sampling) -> Self {
        let negative = sampling
            .uses_guidance()
            .then_some(&sampling.negative_prompt);
        let mut texts: Vec<String> = Vec::new();
        for text in requests.iter().map(|r| &r.prompt).chain(negative) {
            if !texts.contains(text) {
                texts.push(text.clone());
            }
        }
        Self {
            texts,
            embeds: HashMap::new(),
            lost_tokens: Vec::new(),
        }
    }

    /// Texts that were cut, with the number of tokens each lost; known once they are encoded.
    pub fn truncated(&self) -> impl Iterator<Item = (&str, usize)> {
        self.lost_tokens
            .iter()
            .map(|(text, lost)| (text.as_str(), *lost))
    }

    /// Encodes all texts, the first time.
    pub(super) fn encode(
        &mut self,
        tokenizer: &Tokenizer,
        encoder: &TextEncoder,
        sampling: &Sampling,
    ) -> Result<()> {
        if !self.embeds.is_empty() {
            return Ok(());
        }
        let prompts = self
            .texts
            .iter()
            .map(|text| tokenizer.encode_prompt(text, sampling.max_sequence_length))
            .collect::<Result<Vec<PromptIds>>>()?;
        let ids: Vec<&[u32]> = prompts.iter().map(|p| p.input_ids.as_slice()).collect();
        let hidden_states = encoder.forward(&ids)?;
        for ((text, prompt), hidden) in self.texts.iter().zip(&prompts).zip(hidden_states) {
            let kept = hidden.dim(0)? - prompt.drop;
            let embeds = hidden.narrow(0, prompt.drop, kept)?;
            self.embeds.insert(text.clone(), embeds);
            if prompt.lost_tokens > 0 {
                self.lost_tokens.push((text.clone(), prompt.lost_tokens));
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
