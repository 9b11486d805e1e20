//! LoRA files: every layout merges to the same weights, and how the rest is refused.

use std::collections::HashMap;
use std::fs;

use candle_core::{DType, Device, Tensor};
use qwen_gen::config::ModelConfig;
use qwen_gen::model::transformer::linears;
use qwen_gen::weights::{ComponentWeights, LoadFormat, Lora, ModelSource};
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

use crate::checkpoint::raw;

const LAYER: &str = "transformer_blocks.0.attn.to_out.0";
const KOHYA: &str = "lora_unet_transformer_blocks_0_attn_to_out_0";
/// Width of the built-in model.
const D: usize = 160;
const RANK: usize = 2;
const ALPHA: f32 = 3.0;
const PEFT_ALPHA: &str = r#"{"transformer.lora_alpha": 3, "transformer.r": 2}"#;

/// Made-up files for the built-in model's transformer.
struct Files(TempDir);

/// Key, shape and first value; the values after it grow.
type Entry<'a> = (String, &'a [usize], f32);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> String {
        self.0.path().join("lora.safetensors").display().to_string()
    }

    fn write(&self, entries: &[Entry<'_>], notes: Option<&str>) {
        let bytes: Vec<Vec<u8>> = entries
            .iter()
            .map(|(_, shape, first)| to_bytes(&values(*first, shape.iter().product())))
            .collect();
        let tensors = entries.iter().zip(&bytes).map(|((key, shape, _), bytes)| {
            (
                key,
                TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap(),
            )
        });
        let notes = notes.map(|notes| HashMap::from([(NOTES_KEY.to_owned(), notes.to_owned())]));
        fs::write(self.path(), safetensors::serialize(tensors, notes).unwrap()).unwrap();
    }

    fn loras(&self, scales: &[f64]) -> Vec<Lora> {
        let lora = |scale: &f64| Lora {
            file: self.path(),
            scale: *scale,
        };
        scales.iter().map(lora).collect()
    }

    fn refusal(&self) -> String {
        let refusal = merge(LoadFormat::Safetensors, &self.loras(&[1.0]))
            .unwrap_err()
            .to_string();
        let file = self.path() + ": ";
        refusal
            .strip_prefix(&file)
            .expect("the file's name")
            .to_owned()
    }
}

const NOTES_KEY: &str = "lora_adapter_metadata";

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "small")]
fn values(first: f32, count: usize) -> Vec<f32> {
    (0..count).map(|i| first + i as f32 / 1024.0).collect()
}

fn down(layer: &str, ending: &str) -> Entry<'static> {
    (format!("{layer}.{ending}"), &[RANK, D], -0.1)
}

fn up(layer: &str, ending: &str) -> Entry<'static> {
    (format!("{layer}.{ending}"), &[D, RANK], 0.2)
}

fn alpha(layer: &str) -> Entry<'static> {
    (format!("{layer}.alpha"), &[], ALPHA)
}

fn kohya_style(layer: &str) -> Vec<Entry<'static>> {
    vec![
        down(layer, "lora_down.weight"),
        up(layer, "lora_up.weight"),
        alpha(layer),
    ]
}

fn merge(format: LoadFormat, loras: &[Lora]) -> qwen_gen::Result<ComponentWeights> {
    let source = ModelSource::BuiltinTiny;
    let linears = linears(&ModelConfig::read(&source)?.transformer);
    ComponentWeights::open(&source, "transformer", format)?.with_loras(loras, &linears)
}

fn weight(weights: &ComponentWeights, dtype: DType) -> Tensor {
    let vb = weights.var_builder(dtype, &Device::Cpu);
    vb.get((D, D), &format!("{LAYER}.weight")).unwrap()
}

/// `W + factor · up · down`.
fn expected(format: LoadFormat, factor: f32) -> Tensor {
    let matrix = |first, shape: (usize, usize)| {
        Tensor::from_vec(values(first, shape.0 * shape.1), shape, &Device::Cpu).unwrap()
    };
    let product = matrix(0.2, (D, RANK))
        .matmul(&matrix(-0.1, (RANK, D)))
        .unwrap();
    let own = weight(&merge(format, &[]).unwrap(), DType::F32);
    (own + (product * f64::from(factor)).unwrap()).unwrap()
}

#[track_caller]
fn assert_merged(what: &str, weights: &ComponentWeights, expected: &Tensor) {
    let difference = (weight(weights, DType::F32) - expected)
        .unwrap()
        .abs()
        .unwrap();
    let worst = difference.max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(worst < 1e-5, "{what}: {worst}");
}

#[test]
fn every_layout_merges_to_the_same_weight() {
    let files = Files::new();
    let comfy = format!("diffusion_model.{LAYER}");
    let diffusers = format!("transformer.{LAYER}");
    let peft = |layer: &str, a: &str, b: &str| vec![down(layer, a), up(layer, b)];
    let (a, b) = ("lora_A.weight", "lora_B.weight");
    let named = ("lora_A.default.weight", "lora_B.default.weight");
    for (layout, entries, notes) in [
        ("lightning", kohya_style(LAYER), None),
        ("diffusion_model", kohya_style(&comfy), None),
        ("kohya", kohya_style(KOHYA), None),
        ("diffusers", peft(&diffusers, a, b), Some(PEFT_ALPHA)),
        (
            "adapter name",
            peft(&diffusers, named.0, named.1),
            Some(PEFT_ALPHA),
        ),
    ] {
        files.write(&entries, notes);
        for format in [LoadFormat::Safetensors, LoadFormat::Dummy] {
            for strength in [1.0_f32, 0.5, -1.0] {
                let weights = merge(format, &files.loras(&[strength.into()])).unwrap();
                let expected = expected(format, strength * ALPHA / 2.0);
                assert_merged(layout, &weights, &expected);
            }
        }
    }
}

#[test]
fn without_alpha_the_product_is_taken_as_it_is() {
    let files = Files::new();
    let merged = || merge(LoadFormat::Safetensors, &files.loras(&[1.0])).unwrap();
    let plain = expected(LoadFormat::Safetensors, 1.0);
    files.write(&kohya_style(LAYER)[..2], None);
    assert_merged("no alpha", &merged(), &plain);
    // diffusers drops the tensor of this layout.
    let layer = format!("transformer.{LAYER}");
    let peft = [
        down(&layer, "lora_A.weight"),
        up(&layer, "lora_B.weight"),
        alpha(&layer),
    ];
    files.write(&peft, None);
    assert_merged("peft", &merged(), &plain);
}

#[test]
fn adapters_add_up_and_the_sum_is_rounded_once() {
    let files = Files::new();
    files.write(&kohya_style(LAYER), None);
    let expected = expected(LoadFormat::Safetensors, 1.5 * ALPHA / 2.0);
    let weights = merge(LoadFormat::Safetensors, &files.loras(&[1.0, 0.5])).unwrap();
    assert_merged("two", &weights, &expected);
    let once = weight(&weights, DType::F32).to_dtype(DType::BF16).unwrap();
    let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<half::bf16>().unwrap();
    assert_eq!(bits(&weight(&weights, DType::BF16)), bits(&once));
    // Other layers are left alone.
    let other = |weights: &ComponentWeights| {
        let vb = weights.var_builder(DType::F32, &Device::Cpu);
        let weight = vb.get((D, D), "transformer_blocks.1.attn.to_out.0.weight");
        weight.unwrap().to_vec2::<f32>().unwrap()
    };
    assert_eq!(
        other(&weights),
        other(&merge(LoadFormat::Safetensors, &[]).unwrap())
    );
}

#[test]
fn refuses_keys_that_it_does_not_know() {
    let files = Files::new();
    let mut entries = kohya_style(LAYER);
    entries.push(("lora_te_layers_0_mlp_fc1.alpha".to_owned(), &[], 1.0));
    files.write(&entries, None);
    assert_eq!(
        files.refusal(),
        "1 of 4 tensors are unknown: lora_te_layers_0_mlp_fc1.alpha"
    );
    let unknown = |i| {
        (
            format!("double_blocks.{i}.qkv.lora_A.weight"),
            &[1][..],
            1.0,
        )
    };
    files.write(&(0..9).map(unknown).collect::<Vec<_>>(), None);
    let refusal = files.refusal();
    assert!(
        refusal.starts_with("9 of 9 tensors are unknown: double_blocks.0.qkv"),
        "{refusal}"
    );
    assert!(
        refusal.ends_with("double_blocks.3.qkv.lora_A.weight, …"),
        "{refusal}"
    );
    files.write(&[], None);
    assert_eq!(files.refusal(), "holds no tensor");
}

#[test]
fn refuses_what_makes_no_pair() {
    let files = Files::new();
    let refusal = |entries: &[Entry<'_>]| {
        files.write(entries, None);
        files.refusal()
    };
    let key = |ending: &str| format!("{LAYER}.{ending}");
    let halves = [down(LAYER, "lora_down.weight"), alpha(LAYER)];
    assert_eq!(
        refusal(&halves),
        format!(
            "expected two matrices of a layer, found {}, {}",
            key("lora_down.weight"),
            key("alpha")
        )
    );
    let mixed = [down(LAYER, "lora_down.weight"), up(LAYER, "lora_B.weight")];
    assert!(refusal(&mixed).starts_with("expected two matrices"));
    let twice = [kohya_style(LAYER), kohya_style(KOHYA)].concat();
    assert!(refusal(&twice).ends_with("are the same matrix"));
    for (ending, shape, expected) in [
        ("lora_down.weight", &[RANK, D + 1][..], "[rank, 160]"),
        ("lora_down.weight", &[RANK, D, 1, 1], "[rank, 160]"),
        ("lora_down.weight", &[RANK + 1, D], "[160, 3]"),
        ("lora_up.weight", &[D, RANK + 1], "[160, 2]"),
        ("lora_up.weight", &[D + 1, RANK], "[160, 2]"),
        ("alpha", &[2], "one value"),
    ] {
        let mut entries = kohya_style(LAYER);
        let entry = entries.iter_mut().find(|(name, ..)| name.ends_with(ending));
        entry.unwrap().1 = shape;
        let refusal = refusal(&entries);
        assert!(
            refusal.ends_with(&format!("expected {expected}")),
            "{refusal}"
        );
    }
    let mut entries = kohya_style(LAYER);
    entries[2].2 = f32::NAN;
    assert_eq!(
        refusal(&entries),
        format!("tensor `{}` is NaN", key("alpha"))
    );
}

#[test]
fn an_integer_is_an_alpha() {
    let files = Files::new();
    let key = |ending: &str| format!("{LAYER}.{ending}");
    let [down, up] = [-0.1, 0.2].map(|first| to_bytes(&values(first, RANK * D)));
    for (dtype, alpha) in [
        (Dtype::I64, &(-3_i64).to_le_bytes()[..]),
        (Dtype::I32, &(-3_i32).to_le_bytes()),
    ] {
        let tensor =
            |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        let tensors = [
            (
                key("lora_down.weight"),
                tensor(Dtype::F32, &[RANK, D], &down),
            ),
            (key("lora_up.weight"), tensor(Dtype::F32, &[D, RANK], &up)),
            (key("alpha"), tensor(dtype, &[], alpha)),
        ];
        fs::write(files.path(), safetensors::serialize(tensors, None).unwrap()).unwrap();
        let merged = merge(LoadFormat::Safetensors, &files.loras(&[1.0])).unwrap();
        assert_merged("integer", &merged, &expected(LoadFormat::Safetensors, -1.5));
    }
}

#[test]
fn refuses_dtypes_and_notes_that_it_cannot_read() {
    let files = Files::new();
    let bytes = [0; RANK * D];
    let tensor = |shape: [usize; 2]| TensorView::new(Dtype::I8, shape.to_vec(), &bytes).unwrap();
    let quantised = [
        (format!("{LAYER}.lora_down.weight"), tensor([RANK, D])),
        (format!("{LAYER}.lora_up.weight"), tensor([D, RANK])),
    ];
    fs::write(
        files.path(),
        safetensors::serialize(quantised, None).unwrap(),
    )
    .unwrap();
    assert!(files.refusal().contains("is stored as I8"));
    fs::write(
        files.path(),
        raw(r#"{"__metadata__": {"lora_adapter_metadata": 1}}"#, 0),
    )
    .unwrap();
    assert!(
        files
            .refusal()
            .starts_with("__metadata__: invalid type: integer `1`, expected a string")
    );
    files.write(
        &kohya_style(LAYER),
        Some("{\"transformer.lora_alpha\": null"),
    );
    assert!(
        files
            .refusal()
            .starts_with("lora_adapter_metadata: not valid JSON")
    );
}

#[test]
fn refuses_files_that_are_none() {
    let files = Files::new();
    assert!(
        files
            .refusal()
            .starts_with("cannot be opened: No such file")
    );
    fs::write(files.path(), "short").unwrap();
    assert!(files.refusal().starts_with("5 bytes, too short"));
    fs::write(files.path(), u64::MAX.to_le_bytes()).unwrap();
    assert!(files.refusal().contains("expected at most 100000000"));
    let whole = {
        files.write(&kohya_style(LAYER), None);
        fs::read(files.path()).unwrap()
    };
    fs::write(files.path(), &whole[..whole.len() - 1]).unwrap();
    assert!(files.refusal().contains("the header describes"));
}
