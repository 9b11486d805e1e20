//! Makes checkpoints to open: whole, spoilt, or hand-written.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qwen_gen::Error;
use qwen_gen::config::ModelConfig;
use qwen_gen::pipeline;
use qwen_gen::weights::{ComponentWeights, LoadFormat, ModelSource};
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

pub(crate) const SHARD: &str = "vae/model.safetensors";
pub(crate) const INDEX: &str = "vae/model.safetensors.index.json";

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/checkpoints")
        .join(name)
}

/// A checkpoint folder to be spoilt: the JSON files of a good one, and no weights.
pub(crate) struct Checkpoint(TempDir);

impl Checkpoint {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        for file in [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "transformer/config.json",
            "vae/config.json",
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::copy(fixture("tiny-a").join(file), path).unwrap();
        }
        Self(dir)
    }

    /// One of the random checkpoints with all its files.
    pub(crate) fn whole(name: &str) -> Self {
        let checkpoint = Self::new();
        for folder in [
            "scheduler",
            "text_encoder",
            "tokenizer",
            "transformer",
            "vae",
        ] {
            fs::create_dir_all(checkpoint.path(folder)).unwrap();
            for entry in fs::read_dir(fixture(name).join(folder)).unwrap() {
                let entry = entry.unwrap();
                let target = checkpoint.path(folder).join(entry.file_name());
                fs::copy(entry.path(), target).unwrap();
            }
        }
        checkpoint
    }

    pub(crate) fn with(file: &str, bytes: impl AsRef<[u8]>) -> Self {
        let checkpoint = Self::new();
        checkpoint.write(file, bytes);
        checkpoint
    }

    pub(crate) fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(file), bytes).unwrap();
    }

    pub(crate) fn replace(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from));
        self.write(file, text.replacen(from, to, 1));
    }

    /// Replaces the first of these bytes by as many others.
    pub(crate) fn patch(&self, file: &str, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        let mut bytes = fs::read(self.path(file)).unwrap();
        let mut windows = bytes.windows(from.len());
        let at = windows.position(|window| window == from.as_bytes());
        let at = at.expect(from);
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        self.write(file, bytes);
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    pub(crate) fn source(&self) -> ModelSource {
        ModelSource::resolve(self.0.path().to_str().unwrap()).unwrap()
    }

    pub(crate) fn weights(&self) -> Result<ComponentWeights, Error> {
        ComponentWeights::open(&self.source(), "vae", LoadFormat::Safetensors)
    }

    /// Why the weights are refused, which must not take long.
    pub(crate) fn weights_refusal(&self) -> String {
        timed(|| self.weights().unwrap_err().to_string())
    }

    /// What the headers tell of the networks.
    pub(crate) fn open(&self) -> Result<(), Error> {
        pipeline::Checkpoint::open(&self.source(), LoadFormat::Safetensors).map(drop)
    }

    /// Why the checkpoint is refused by its headers.
    pub(crate) fn refusal(&self) -> String {
        self.open().unwrap_err().to_string()
    }

    /// Why the configuration is refused.
    pub(crate) fn config_refusal(&self) -> String {
        timed(|| ModelConfig::read(&self.source()).unwrap_err().to_string())
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    assert!(start.elapsed() < Duration::from_secs(1));
    result
}

/// A good safetensors file with one small tensor of each name.
pub(crate) fn shard(names: &[&str]) -> Vec<u8> {
    let data = [1.0_f32, 2.0].map(f32::to_le_bytes).concat();
    let tensor = || TensorView::new(Dtype::F32, vec![2], &data).unwrap();
    safetensors::serialize(names.iter().map(|name| (*name, tensor())), None).unwrap()
}

/// A file with any header, and `data_bytes` zeros after it.
pub(crate) fn raw(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + data_bytes, 0);
    file
}

pub(crate) fn index(entries: &[(&str, &str)]) -> String {
    let map: serde_json::Map<_, _> = entries
        .iter()
        .map(|(tensor, file)| ((*tensor).to_owned(), (*file).into()))
        .collect();
    serde_json::json!({ "metadata": {"total_size": 16}, "weight_map": map }).to_string()
}
