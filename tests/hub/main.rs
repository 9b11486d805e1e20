//! Checkpoints from the Hugging Face Hub: a server on this machine plays the hub and its faults.

#![expect(clippy::unwrap_used, reason = "tests")]

mod cache;
mod faults;
mod integrity;
#[path = "../program/mod.rs"]
mod program;
mod server;
mod token;

use std::fs;
use std::process::{self, Stdio};

use assert_cmd::Command;

use program::{Run, Scratch, bounded, generate_args};
use server::{COMMIT, Hub, REPOSITORY, etag};

/// A large file whose download goes wrong.
const SHARD: &str = "transformer/diffusion_pytorch_model-00001-of-00002.safetensors";
/// A file that is not large.
const CONFIG: &str = "vae/config.json";

/// `generate` from the repository of a hub, with a cache of its own.
fn command(scratch: &Scratch, hub: &Hub, args: &[&str]) -> Command {
    let args = generate_args(&[&["--model-path", REPOSITORY], args].concat());
    bounded(connected(scratch.process(&args), scratch, hub))
}

/// The command with this hub, and with a cache of its own.
fn connected(mut command: process::Command, scratch: &Scratch, hub: &Hub) -> process::Command {
    let unwanted = ["HF_", "HUGGING", "TRANSFORMERS_"];
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy().to_ascii_uppercase();
        if unwanted.iter().any(|begin| name.starts_with(*begin)) || name.ends_with("_PROXY") {
            command.env_remove(variable);
        }
    }
    command
        .env("HF_ENDPOINT", &hub.endpoint)
        .env("HF_HOME", scratch.path("hf"));
    command
}

fn generate(scratch: &Scratch, hub: &Hub, args: &[&str]) -> Run {
    Run::of(&mut command(scratch, hub, args))
}

/// The same as a process to watch.
fn process(scratch: &Scratch, hub: &Hub) -> process::Command {
    let args = generate_args(&["--model-path", REPOSITORY, "--no-save-output"]);
    let mut process = connected(scratch.process(&args), scratch, hub);
    process.stdout(Stdio::null()).stderr(Stdio::piped());
    process
}

/// The repository's folder in the cache.
const CACHE: &str = "hf/hub/models--test--tiny";

fn snapshot(file: &str) -> String {
    format!("{CACHE}/snapshots/{COMMIT}/{file}")
}

fn partial(file: &str) -> String {
    format!("{CACHE}/blobs/{}.incomplete", etag(file))
}

/// What is in the cache under a final name is what the hub has.
#[track_caller]
fn assert_blobs_are_whole(scratch: &Scratch) {
    let whole: Vec<_> = server::files()
        .into_iter()
        .map(|file| (etag(&file), fs::read(server::model().join(file)).unwrap()))
        .collect();
    for name in scratch.names(&format!("{CACHE}/blobs")) {
        if !name.ends_with(".incomplete") {
            let content = fs::read(scratch.path(&format!("{CACHE}/blobs/{name}"))).unwrap();
            assert!(whole.contains(&(name.clone(), content)), "{name}");
        }
    }
}
