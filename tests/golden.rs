//! Every stage against the reference implementation's tensors, in f32, each from the reference's own
//! input; then whole runs, step by step to the picture.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use common::{Case, LatentsOfSteps, PIXELS, TENSORS, assert_close, assert_same_picture};
use qwen_gen::model::text_encoder::TextEncoder;
use qwen_gen::model::transformer::{Transformer, linears};
use qwen_gen::model::vae::VaeDecoder;
use qwen_gen::noise::{GeneratorDevice, randn};
use qwen_gen::ops::guided_euler_step;
use qwen_gen::sampling::ImageRequest;
use qwen_gen::weights::{ComponentWeights, Lora};

const RANDOM: [&str; 5] = [
    "cases/a_ascii_seed0",
    "cases/a_batch2_masked",
    "cases/a_cfg1_off",
    "cases/b_custom_sigmas",
    "cases/b_oddsize_seed42",
];
const BUILTIN: [&str; 4] = [
    "builtin/logo_seed0",
    "builtin/stars_cfg1",
    "builtin/two_shapes",
    "builtin/wide_word",
];
/// Leading tokens of the template, which the embeddings do not hold.
const PREFIX: usize = 34;
/// A wrong LayerNorm epsilon moves the first prediction by 4e-6 only.
const FIRST_PREDICTION: f32 = 2e-6;

fn names() -> impl Iterator<Item = &'static str> {
    RANDOM.into_iter().chain(BUILTIN)
}

/// Rows of the batch's entry that its mask keeps.
fn kept(case: &Case, name: &str, index: usize) -> Result<Tensor> {
    let row = case.tensor(name).get(index)?;
    let mask = if name.ends_with("ids") {
        name.replace("input_ids", "attention_mask")
    } else {
        format!("{name}_mask")
    };
    let length = match case.tensors.get(&mask) {
        Some(mask) => mask
            .get(index)?
            .to_vec1::<i64>()?
            .iter()
            .filter(|m| **m != 0)
            .count(),
        None => row.dim(0)?,
    };
    row.narrow(0, 0, length)
}

fn batch(case: &Case) -> Result<usize> {
    case.tensor("input_ids").dim(0)
}

/// Prefixes of the branches' tensors.
fn branches(case: &Case) -> &'static [&'static str] {
    if case.args.do_cfg {
        &["", "negative_"]
    } else {
        &[""]
    }
}

#[test]
fn embeddings() -> Result<()> {
    for name in names() {
        let case = Case::read(name);
        let weights = case.weights("text_encoder");
        let vb = weights.var_builder(DType::F32, &Device::Cpu);
        let encoder = TextEncoder::new(&case.config().text_encoder, &vb)?;
        let mut ids = Vec::new();
        let mut expected = Vec::new();
        for index in 0..batch(&case)? {
            for branch in branches(&case) {
                let row = kept(&case, &format!("{branch}input_ids"), index)?;
                ids.push(row.to_dtype(DType::U32)?.to_vec1::<u32>()?);
                expected.push(kept(&case, &format!("{branch}prompt_embeds"), index)?);
            }
        }
        // All prompts in one pass, as a run encodes them.
        let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        for (hidden, expected) in encoder.forward(&ids)?.iter().zip(&expected) {
            let embeds = hidden.narrow(0, PREFIX, hidden.dim(0)? - PREFIX)?;
            assert_close(name, &embeds, expected, TENSORS);
        }
    }
    Ok(())
}

#[test]
fn sigmas_timesteps_and_noise_to_the_bit() -> Result<()> {
    for name in names() {
        let case = Case::read(name);
        if case.args.sigmas.is_none() {
            let schedule = case.schedule();
            let expected = case.tensor("sigmas").to_vec1::<f32>()?;
            assert_eq!(schedule.sigmas, expected, "{name}");
            if let Some(timesteps) = case.tensors.get("timesteps") {
                assert_eq!(schedule.timesteps, timesteps.to_vec1::<f32>()?, "{name}");
            }
        }
        for index in 0..batch(&case)? {
            let expected = case
                .tensor("noise")
                .get(index)?
                .flatten_all()?
                .to_vec1::<f32>()?;
            let noise = randn(
                GeneratorDevice::Cpu,
                case.args.seed.get(index),
                expected.len(),
            );
            assert_eq!(noise, expected, "{name}");
        }
    }
    Ok(())
}

fn transformer(case: &Case) -> Result<Transformer> {
    transformer_of(case, &case.weights("transformer"))
}

fn transformer_of(case: &Case, weights: &ComponentWeights) -> Result<Transformer> {
    let vb = weights.var_builder(DType::F32, &Device::Cpu);
    let timesteps = case.schedule().timesteps_scaled();
    Transformer::new(&case.config().transformer, &vb, &timesteps, 0)
}

fn embeds_of_branches(case: &Case, index: usize) -> Result<Vec<Tensor>> {
    let embeds = |branch: &&str| kept(case, &format!("{branch}prompt_embeds"), index);
    branches(case).iter().map(embeds).collect()
}

#[test]
fn first_prediction_of_both_branches() -> Result<()> {
    for name in RANDOM {
        let case = Case::read(name);
        let transformer = transformer(&case)?;
        for index in 0..batch(&case)? {
            let embeds = embeds_of_branches(&case, index)?;
            let grid = case.sampling(index).grid();
            let conditioning = transformer.condition(&embeds.iter().collect::<Vec<_>>(), grid)?;
            let latents = case.tensor("latents_init").get(index)?;
            let pred = transformer.forward(&latents, &transformer.modulation(0)?, &conditioning)?;
            for (branch, expected) in ["step0_cond", "step0_uncond"]
                .iter()
                .enumerate()
                .take(embeds.len())
            {
                let pred = pred.narrow(0, branch * latents.dim(0)?, latents.dim(0)?)?;
                let expected = case.tensor(expected).get(index)?;
                assert_close(name, &pred, &expected, FIRST_PREDICTION);
            }
        }
    }
    Ok(())
}

#[test]
fn first_prediction_with_a_lora() -> Result<()> {
    let case = Case::read("cases/b_oddsize_seed42");
    let folder = common::fixtures().join("lora");
    let lora = Lora {
        file: folder.join("lightning.safetensors").display().to_string(),
        scale: 1.0,
    };
    let weights = case
        .weights("transformer")
        .with_loras(&[lora], &linears(&case.config().transformer))
        .expect("a LoRA of this transformer");
    let transformer = transformer_of(&case, &weights)?;
    let embeds = kept(&case, "prompt_embeds", 0)?;
    let conditioning = transformer.condition(&[&embeds], case.sampling(0).grid())?;
    let latents = case.tensor("latents_init").get(0)?;
    let pred = transformer.forward(&latents, &transformer.modulation(0)?, &conditioning)?;
    let expected =
        candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu)?;
    assert_close(
        "lora",
        &pred,
        &expected["lightning_1.0"].get(0)?,
        FIRST_PREDICTION,
    );
    Ok(())
}

#[test]
fn latents_of_the_callers_sigmas() -> Result<()> {
    let case = Case::read("cases/b_custom_sigmas");
    let transformer = transformer(&case)?;
    let embeds = embeds_of_branches(&case, 0)?;
    let grid = case.sampling(0).grid();
    let conditioning = transformer.condition(&embeds.iter().collect::<Vec<_>>(), grid)?;
    let mut latents = case.tensor("latents_init").get(0)?;
    for (step, sigma) in case.schedule().sigmas.windows(2).enumerate() {
        let pred = transformer.forward(&latents, &transformer.modulation(step)?, &conditioning)?;
        latents = guided_euler_step(
            &latents,
            &pred,
            case.args.true_cfg_scale,
            sigma[1] - sigma[0],
        )?;
        let expected = case.tensor("latents_steps").get(step)?.get(0)?;
        assert_close(&format!("step {step}"), &latents, &expected, TENSORS);
    }
    Ok(())
}

#[test]
fn decoded_pixels() -> Result<()> {
    for name in RANDOM {
        let case = Case::read(name);
        let weights = case.weights("vae");
        let vb = weights.var_builder(DType::F32, &Device::Cpu);
        let vae = VaeDecoder::new(&case.config().vae, &vb)?;
        for index in 0..batch(&case)? {
            let latents = case.tensor("vae_input").get(index)?.squeeze(1)?;
            let bands = vae.decode(&latents.permute((1, 2, 0))?, usize::MAX)?;
            let pixels = Tensor::cat(&bands.collect::<Result<Vec<_>>>()?, 0)?;
            let expected = case.tensor("decoded").get(index)?;
            let pixels = pixels.permute((2, 0, 1))?.clamp(-1f32, 1f32)?;
            assert_close(name, &pixels, &expected, PIXELS);
        }
    }
    Ok(())
}

fn whole_run(name: &str) -> Result<()> {
    let case = Case::read(name);
    for index in 0..batch(&case)? {
        let request = ImageRequest {
            prompt: case.args.prompt.get(index),
            seed: case.args.seed.get(index),
        };
        let (mut pipeline, mut texts) = case.pipeline(&request, index);
        let mut steps = LatentsOfSteps::default();
        let picture = pipeline
            .generate(&request, &mut texts, &mut steps)
            .expect("picture");
        assert_eq!(steps.0.len(), case.args.num_inference_steps);
        for (step, latents) in steps.0.iter().enumerate() {
            // Random checkpoints keep all steps in one tensor, the built-in model every tenth.
            let expected = match case.tensors.get("latents_steps") {
                Some(all) => Some(all.get(step)?.get(index)?),
                None => case
                    .tensors
                    .get(&format!("latents_step_{:03}", step + 1))
                    .cloned(),
            };
            if let Some(expected) = expected {
                assert_close(&format!("{name} step {step}"), latents, &expected, TENSORS);
            }
        }
        let picture_file = if batch(&case)? == 1 {
            "image.png".to_owned()
        } else {
            format!("image{index}.png")
        };
        assert_same_picture(&picture, &case.folder.join(picture_file));
    }
    Ok(())
}

#[test]
fn whole_runs_of_random_checkpoints() -> Result<()> {
    let with_schedule_of_their_own = |name: &&&str| !name.ends_with("custom_sigmas");
    RANDOM
        .iter()
        .filter(with_schedule_of_their_own)
        .try_for_each(|name| whole_run(name))
}

/// No further from the f32 reference than its own bf16 run is.
#[test]
fn whole_runs_in_bf16() -> Result<()> {
    for (name, latents, pixels) in [(BUILTIN[1], 0.0026, 0.23), (BUILTIN[2], 0.0080, 0.45)] {
        let (distance, mean) = Case::read(name).distance_of_bf16(&Device::Cpu)?;
        assert!(
            distance <= latents && mean <= pixels,
            "{name}: {distance}, {mean}"
        );
    }
    Ok(())
}

#[test]
fn whole_run_of_a_logo() -> Result<()> {
    whole_run(BUILTIN[0])
}

#[test]
fn whole_run_without_guidance() -> Result<()> {
    whole_run(BUILTIN[1])
}

#[test]
fn whole_run_of_two_shapes() -> Result<()> {
    whole_run(BUILTIN[2])
}

#[test]
fn whole_run_that_is_not_square() -> Result<()> {
    whole_run(BUILTIN[3])
}
