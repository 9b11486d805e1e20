//! The chat template around a text-to-image prompt.
//!
//! Source: diffusers 0.42.1 `pipeline_qwenimage.py`, `prompt_template_encode`.

/// What comes before the prompt.
pub const PREFIX: &str = "<|im_start|>system\n\
    Describe the image by detailing the color, shape, size, texture, quantity, text, \
    spatial relationships of the objects and background:<|im_end|>\n\
    <|im_start|>user\n";

/// What comes after the prompt.
pub const SUFFIX: &str = "<|im_end|>\n<|im_start|>assistant\n";

/// Tokens of [`PREFIX`]: so many leading positions of the text encoder's output are dropped.
pub const PREFIX_TOKENS: usize = 34;

/// The most positions that may remain after the drop.
pub const MAX_SEQUENCE_LENGTH: usize = 1024;

/// The prompt in its template.
#[must_use]
pub fn apply(prompt: &str) -> String {
    [PREFIX, prompt, SUFFIX].concat()
}
