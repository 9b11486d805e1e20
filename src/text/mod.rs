//! From a prompt to the ids that the text encoder reads.

mod files;
mod json;
pub mod template;
pub mod tokenizer;

pub use tokenizer::{PromptIds, Tokenizer};
