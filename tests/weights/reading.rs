//! What opens, and what is read from it.

use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use qwen_gen::Error;
use qwen_gen::config::ModelConfig;
use qwen_gen::weights::{ComponentWeights, LoadFormat, ModelSource};
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

use crate::checkpoint::{Checkpoint, INDEX, SHARD, fixture, index, shard};

const COMPONENTS: [&str; 3] = ["text_encoder", "transformer", "vae"];

#[test]
fn fixtures_and_the_builtin_model_open_and_read() {
    let mut sources = vec![ModelSource::resolve("builtin:tiny").unwrap()];
    for name in ["tiny-a", "tiny-b"] {
        sources.push(ModelSource::resolve(fixture(name).to_str().unwrap()).unwrap());
    }
    for source in sources {
        let config = ModelConfig::read(&source).unwrap();
        assert!(source.contains("tokenizer/vocab.json"));
        assert!(!source.contains("tokenizer/tokenizer.json"));
        for component in COMPONENTS {
            ComponentWeights::open(&source, component, LoadFormat::Safetensors).unwrap();
        }
        let weights =
            ComponentWeights::open(&source, "transformer", LoadFormat::Safetensors).unwrap();
        let vb = weights.var_builder(DType::F32, &Device::Cpu);
        let d = config.transformer.inner_dim();
        let weight = vb.pp("img_in").get((d, 64), "weight").unwrap();
        assert_eq!(weight.dtype(), DType::F32);
        assert!(vb.contains_tensor("img_in.weight") && !vb.contains_tensor("img_in"));
        let bytes = weights.bytes_read();
        assert!(bytes == (d * 64 * 2) as u64 || bytes == (d * 64 * 4) as u64);
    }
}

#[test]
fn embedded_files_are_those_of_the_assets_folder() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/builtin-model");
    let mut files = vec!["model_index.json".to_owned()];
    for folder in [
        "scheduler",
        "text_encoder",
        "tokenizer",
        "transformer",
        "vae",
    ] {
        for entry in fs::read_dir(assets.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            files.push(format!("{folder}/{name}"));
        }
    }
    let source = ModelSource::BuiltinTiny;
    for file in files {
        assert_eq!(
            source.read(&file).unwrap(),
            fs::read(assets.join(&file)).unwrap()
        );
    }
    assert!(source.read("README.md").is_err());
}

#[test]
fn every_plain_float_is_read_and_converted() {
    let values = [0.5_f32, -1.25, 3.0, 4096.0, 1e-3, -0.0];
    let half = |bits: fn(f32) -> u16| -> Vec<u8> {
        values.iter().flat_map(|v| bits(*v).to_le_bytes()).collect()
    };
    let stored = [
        ("a.f32", Dtype::F32, values.map(f32::to_le_bytes).concat()),
        (
            "b.f64",
            Dtype::F64,
            values.map(|v| f64::from(v).to_le_bytes()).concat(),
        ),
        ("c.f16", Dtype::F16, half(|v| f16::from_f32(v).to_bits())),
        ("d.bf16", Dtype::BF16, half(|v| bf16::from_f32(v).to_bits())),
    ];
    let views = stored
        .iter()
        .map(|(name, dtype, data)| (*name, TensorView::new(*dtype, vec![2, 3], data).unwrap()));
    let checkpoint = Checkpoint::with(SHARD, safetensors::serialize(views, None).unwrap());
    let weights = checkpoint.weights().unwrap();
    for dtype in [DType::F32, DType::BF16] {
        let vb = weights.var_builder(dtype, &Device::Cpu);
        for (name, _, _) in &stored {
            let tensor = vb.get((2, 3), name).unwrap();
            assert_eq!(tensor.dtype(), dtype);
            // Through what is stored to what is asked for.
            let expected = values.map(|value| {
                let stored = match *name {
                    "c.f16" => f16::from_f32(value).to_f32(),
                    "d.bf16" => bf16::from_f32(value).to_f32(),
                    _ => value,
                };
                match dtype {
                    DType::BF16 => bf16::from_f32(stored).to_f32(),
                    _ => stored,
                }
            });
            assert_eq!(flat(&tensor), expected, "{name} as {dtype:?}");
        }
    }
    assert_eq!(weights.bytes_read(), 2 * 6 * (4 + 8 + 2 + 2));
}

/// More values than one thread reads at a time, so that chunks must meet exactly.
#[test]
fn large_tensors_are_read_whole() {
    let values: Vec<f32> = (0_u16..40_000)
        .map(f32::from)
        .cycle()
        .take(1_200_001)
        .collect();
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![values.len()], &data).unwrap();
    let checkpoint = Checkpoint::with(SHARD, safetensors::serialize([("x", view)], None).unwrap());
    let weights = checkpoint.weights().unwrap();
    let tensor = weights
        .var_builder(DType::F32, &Device::Cpu)
        .get(values.len(), "x")
        .unwrap();
    assert!(flat(&tensor) == values);
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let checkpoint = Checkpoint::with(SHARD, shard(&["x"]));
    let weights = checkpoint.weights().unwrap();
    let vb = weights.var_builder(DType::F32, &Device::Cpu);
    let message = |result: candle_core::Result<Tensor>| result.unwrap_err().to_string();
    assert_eq!(message(vb.pp("a").get(2, "b")), "vae has no tensor `a.b`");
    assert_eq!(
        message(vb.get((2, 1), "x")),
        "vae/model.safetensors: tensor `x` has shape [2], expected [2, 1] (from vae/config.json)"
    );
    assert_eq!(weights.bytes_read(), 0);
}

#[test]
fn dummy_weights_need_no_files() {
    let source = Checkpoint::new().source();
    let weights = ComponentWeights::open(&source, "vae", LoadFormat::Dummy).unwrap();
    let vb = weights.var_builder(DType::BF16, &Device::Cpu);
    let tensor = vb.get((3, 5), "x.weight").unwrap();
    assert_eq!(
        (tensor.dtype(), tensor.dims()),
        (DType::BF16, [3, 5].as_slice())
    );
    assert_eq!(flat(&tensor), flat(&vb.get((3, 5), "x.weight").unwrap()));
}

/// Links lead out of the folder in the Hugging Face cache.
#[test]
fn symbolic_links_are_followed() {
    let blob = TempDir::new().unwrap();
    let target = blob.path().join("0123abcd");
    fs::write(&target, shard(&["x"])).unwrap();
    let checkpoint = Checkpoint::with(INDEX, index(&[("x", "a.safetensors")]));
    std::os::unix::fs::symlink(target, checkpoint.path("vae/a.safetensors")).unwrap();
    checkpoint.weights().unwrap();
}

#[test]
fn model_paths_are_told_apart() {
    let refuse = |path: &str| {
        let error = ModelSource::resolve(path).unwrap_err();
        assert!(matches!(error, Error::Usage { .. }));
        (error.to_string(), error.hint().unwrap().to_owned())
    };
    let (message, hint) = refuse("builtin:other");
    assert_eq!(
        message,
        "--model-path `builtin:other`: no such built-in model"
    );
    assert_eq!(hint, "the built-in model is builtin:tiny");
    let (message, hint) = refuse("/does/not/exist");
    assert_eq!(message, "--model-path `/does/not/exist`: no such folder");
    assert!(hint.contains("Hugging Face") && hint.contains("builtin:tiny"));
    assert!(refuse("Cargo.toml").0.ends_with("not a folder"));
    assert!(refuse("").0.ends_with("no such folder"));
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor
        .to_dtype(DType::F32)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}
