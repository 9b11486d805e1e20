//! Whole runs on the GPU against the reference implementation: exact in f32, near in bf16.
//!
//! The operations' own tests (`cargo test --features cuda ops::`) come first; without a GPU these
//! tests say so and pass.
#![cfg(feature = "cuda")]
#![expect(clippy::print_stdout, reason = "the figures are told on success, too")]

mod common;

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use common::{Case, assert_close, assert_same_picture};
use qwen_gen::config::ModelConfig;
use qwen_gen::device::DeviceChoice;
use qwen_gen::memory::Offload;
use qwen_gen::model::transformer::Transformer;
use qwen_gen::weights::{ComponentWeights, LoadFormat, ModelSource};

/// Products and sums have another order than the reference's on the CPU.
const LATENTS: f32 = 2e-5;
/// Mean over the built-in cases of the distance between the reference's own bf16 and f32 runs.
const BF16_LATENTS: f32 = 0.0056;
/// The same for the pictures: mean absolute difference in steps of 1/255.
const BF16_PIXELS: f32 = 0.31;

const RANDOM: [&str; 4] = [
    "cases/a_ascii_seed0",
    "cases/a_batch2_masked",
    "cases/a_cfg1_off",
    "cases/b_oddsize_seed42",
];
const BUILTIN: [&str; 4] = [
    "builtin/logo_seed0",
    "builtin/stars_cfg1",
    "builtin/two_shapes",
    "builtin/wide_word",
];

fn gpu() -> Option<Device> {
    match DeviceChoice::Cuda(0).open() {
        Ok(chosen) => Some(chosen.device),
        Err(error) => {
            println!("not run: {error}");
            None
        }
    }
}

#[test]
fn f32_pictures_are_the_references() -> Result<()> {
    let Some(device) = gpu() else { return Ok(()) };
    for name in RANDOM.into_iter().chain(BUILTIN) {
        let case = Case::read(name);
        let batch = case.tensor("input_ids").dim(0)?;
        for index in 0..batch {
            let at = (&device, DType::F32);
            let (picture, latents) = case.run(index, at, Offload::default())?;
            assert_close(name, &latents, &case.last_latents(index)?, LATENTS);
            let file = match batch {
                1 => "image.png".to_owned(),
                _ => format!("image{index}.png"),
            };
            assert_same_picture(&picture, &case.folder.join(file));
        }
    }
    Ok(())
}

#[test]
fn bf16_pictures_are_as_near_as_the_references_own() -> Result<()> {
    let Some(device) = gpu() else { return Ok(()) };
    let (mut latents_sum, mut pixels_sum) = (0f32, 0f32);
    for name in BUILTIN {
        let (distance, mean) = Case::read(name).distance_of_bf16(&device)?;
        println!("{name}: latents {distance:.4}, pixels {mean:.3}");
        latents_sum += distance;
        pixels_sum += mean;
    }
    let (latents, pixels) = (latents_sum / 4.0, pixels_sum / 4.0);
    println!("mean: latents {latents:.4} of {BF16_LATENTS}, pixels {pixels:.3} of {BF16_PIXELS}");
    assert!(latents <= BF16_LATENTS && pixels <= BF16_PIXELS);
    Ok(())
}

#[test]
fn networks_that_leave_and_blocks_that_stream_make_the_same_picture() -> Result<()> {
    let Some(device) = gpu() else { return Ok(()) };
    let case = Case::read("builtin/logo_seed0");
    let at = (&device, DType::BF16);
    let (resident, latents) = case.run(0, at, Offload::default())?;
    let leaving = Offload {
        text_encoder: true,
        dit: true,
        vae: true,
        ..Offload::default()
    };
    let streaming = |blocks| Offload {
        dit_streamed_blocks: blocks,
        ..Offload::default()
    };
    let blocks = case.config().transformer.num_layers;
    for offload in [
        leaving,
        streaming(1),
        streaming(blocks / 2),
        streaming(blocks),
    ] {
        let (picture, others) = case.run(0, at, offload)?;
        assert_eq!(
            others.to_vec2::<f32>()?,
            latents.to_vec2::<f32>()?,
            "{offload:?}"
        );
        assert_eq!(picture.rgb, resident.rgb, "{offload:?}");
    }
    Ok(())
}

/// Hands a component's bf16 tensors out as f32: the same weights in higher precision.
struct Widened<'a>(VarBuilder<'a>);

impl SimpleBackend for Widened<'_> {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, _: &Device) -> Result<Tensor> {
        self.0.get(shape, name)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name} is asked for without a shape")
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.contains_tensor(name)
    }
}

/// All 60 blocks with random weights, one step at 1024x1024 with guidance.
#[test]
fn full_size_prediction_in_bf16_is_near_that_in_f32() -> Result<()> {
    let Some(device) = gpu() else { return Ok(()) };
    let source = ModelSource::Folder("benches/full-size".into());
    let config = ModelConfig::read(&source)
        .expect("configuration")
        .transformer;
    let format = LoadFormat::Dummy;
    let weights = ComponentWeights::open(&source, "transformer", format).expect("weights");
    let texts = [51, 6].map(|tokens| {
        let shape = (tokens, config.joint_attention_dim);
        Tensor::randn(0f32, 1.0, shape, &device).expect("random values")
    });
    let latents = Tensor::randn(0f32, 1.0, (64 * 64, config.in_channels), &device)?;
    let predict = |vb: &VarBuilder<'_>| -> Result<Tensor> {
        let transformer = Transformer::new(&config, vb, &[0.7], 0)?;
        let conditioning = transformer.condition(&[&texts[0], &texts[1]], (64, 64))?;
        let prediction =
            transformer.forward(&latents, &transformer.modulation(0)?, &conditioning)?;
        prediction.to_dtype(DType::F32)?.to_device(&Device::Cpu)
    };
    let stored = weights.var_builder(DType::BF16, &device);
    let bf16 = predict(&stored)?;
    let widened = Box::new(Widened(stored));
    let f32 = predict(&VarBuilder::from_backend(
        widened,
        DType::F32,
        device.clone(),
    ))?;
    let norm = |x: &Tensor| x.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>();
    let error = norm(&(&bf16 - &f32)?)? / norm(&f32)?;
    println!("full-size prediction, bf16 against f32: relative error {error:.4}");
    assert!(error < 0.02, "{error}");
    Ok(())
}
