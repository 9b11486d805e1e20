//! The `qwen-gen` binary.

fn main() {}
