//! What the integration tests share: reference cases, checkpoints and comparison.
#![expect(
    clippy::print_stdout,
    reason = "the difference is told on success, too"
)]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result, Tensor};
use qwen_gen::config::ModelConfig;
use qwen_gen::memory::Offload;
use qwen_gen::noise::GeneratorDevice;
use qwen_gen::pipeline::{Checkpoint, Observer, Picture, Pipeline, TextEncodings};
use qwen_gen::sampling::{ImageRequest, Precisions, Sampling};
use qwen_gen::scheduler::FlowMatchSchedule;
use qwen_gen::weights::{ComponentWeights, LoadFormat, ModelSource};
use serde::Deserialize;

/// Largest difference over largest value: embeddings, predictions, latents.
pub const TENSORS: f32 = 1e-5;
/// Largest difference over largest value: decoded pixels.
pub const PIXELS: f32 = 5e-5;

/// `tests/fixtures` under the package; test binaries that were built elsewhere run in its folder.
pub fn fixtures() -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| ".".into());
    Path::new(&root).join("tests/fixtures")
}

/// A run of the reference implementation: its arguments and its tensors.
pub struct Case {
    pub args: CaseArgs,
    pub tensors: HashMap<String, Tensor>,
    pub folder: PathBuf,
}

#[derive(Deserialize)]
pub struct CaseArgs {
    pub ckpt: Option<String>,
    pub prompt: OneOrMany<String>,
    #[serde(alias = "negative")]
    pub negative_prompt: Option<OneOrMany<String>>,
    #[serde(alias = "cfg")]
    pub true_cfg_scale: f32,
    pub width: usize,
    pub height: usize,
    #[serde(alias = "steps")]
    pub num_inference_steps: usize,
    pub seed: OneOrMany<u64>,
    pub sigmas: Option<Vec<f64>>,
    pub do_cfg: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    pub fn get(&self, index: usize) -> T {
        match self {
            Self::One(value) => value.clone(),
            Self::Many(values) => values[index].clone(),
        }
    }
}

impl Case {
    /// `cases/NAME` of a random checkpoint or `builtin/NAME` of the built-in model.
    pub fn read(name: &str) -> Self {
        let folder = fixtures().join(name);
        let args = std::fs::read(folder.join("case.json")).expect("case.json");
        let tensors = folder.join("tensors.safetensors");
        Self {
            args: serde_json::from_slice(&args).expect("case.json"),
            tensors: candle_core::safetensors::load(tensors, &Device::Cpu).expect("tensors"),
            folder,
        }
    }

    pub fn tensor(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }

    pub fn source(&self) -> ModelSource {
        match &self.args.ckpt {
            Some(name) => ModelSource::Folder(fixtures().join("checkpoints").join(name)),
            None => ModelSource::BuiltinTiny,
        }
    }

    pub fn config(&self) -> ModelConfig {
        ModelConfig::read(&self.source()).expect("configs")
    }

    pub fn weights(&self, component: &'static str) -> ComponentWeights {
        ComponentWeights::open(&self.source(), component, LoadFormat::Safetensors).expect("weights")
    }

    pub fn sampling(&self, index: usize) -> Sampling {
        Sampling {
            width: self.args.width / 16 * 16,
            height: self.args.height / 16 * 16,
            num_inference_steps: self.args.num_inference_steps,
            flow_shift: None,
            true_cfg_scale: if self.args.do_cfg {
                self.args.true_cfg_scale
            } else {
                1.0
            },
            negative_prompt: self
                .args
                .negative_prompt
                .as_ref()
                .map_or_else(|| " ".to_owned(), |negative| negative.get(index)),
            generator_device: GeneratorDevice::Cpu,
            max_sequence_length: 512,
        }
    }

    pub fn schedule(&self) -> FlowMatchSchedule {
        let config = self.config().scheduler;
        let tokens = self.sampling(0).image_seq_len();
        if self.args.sigmas.is_some() {
            let values = |name| self.tensor(name).to_vec1::<f32>().expect("f32");
            return FlowMatchSchedule {
                sigmas: values("sigmas"),
                timesteps: values("timesteps"),
            };
        }
        FlowMatchSchedule::new(&config, tokens, self.args.num_inference_steps).expect("schedule")
    }

    /// A pipeline on the CPU in f32, and the texts of `request`.
    pub fn pipeline(&self, request: &ImageRequest, index: usize) -> (Pipeline, TextEncodings) {
        let at = (&Device::Cpu, DType::F32);
        self.pipeline_on(request, index, at, Offload::default())
    }

    pub fn pipeline_on(
        &self,
        request: &ImageRequest,
        index: usize,
        (device, dtype): (&Device, DType),
        offload: Offload,
    ) -> (Pipeline, TextEncodings) {
        let checkpoint =
            Checkpoint::open(&self.source(), LoadFormat::Safetensors).expect("checkpoint");
        let sampling = self.sampling(index);
        let texts = checkpoint
            .tokenise(std::slice::from_ref(request), &sampling)
            .expect("texts");
        let precisions = Precisions {
            text_encoder: dtype,
            dit: dtype,
            vae: dtype,
        };
        let at = (precisions, device);
        // As the program does.
        let rehearses = device.is_cuda() && offload == Offload::default();
        let rehearsal = rehearses.then(|| checkpoint.rehearsal(request, &sampling, &texts, at));
        let pipeline = Pipeline::load(checkpoint, sampling, offload, at, rehearsal, &mut ())
            .expect("pipeline");
        (pipeline, texts)
    }

    /// Runs entry `index`: its picture, and the latents after the last step on the CPU.
    pub fn run(
        &self,
        index: usize,
        at: (&Device, DType),
        offload: Offload,
    ) -> Result<(Picture, Tensor)> {
        let request = ImageRequest {
            prompt: self.args.prompt.get(index),
            seed: self.args.seed.get(index),
        };
        let (mut pipeline, mut texts) = self.pipeline_on(&request, index, at, offload);
        let mut steps = LatentsOfSteps::default();
        let picture = pipeline
            .generate(&request, &mut texts, &mut steps)
            .expect("picture");
        let latents = steps.0.pop().expect("a step").to_device(&Device::Cpu)?;
        Ok((picture, latents))
    }

    /// The reference's latents after the last step.
    pub fn last_latents(&self, index: usize) -> Result<Tensor> {
        let steps = self.args.num_inference_steps;
        match self.tensors.get("latents_steps") {
            Some(all) => all.get(steps - 1)?.get(index),
            None => self.tensor(&format!("latents_step_{steps:03}")).get(0),
        }
    }

    /// How far a run in bf16 is from the reference in f32: its latents relative in L2, its pixels as the mean
    /// absolute difference in steps of 1/255.
    pub fn distance_of_bf16(&self, device: &Device) -> Result<(f32, f32)> {
        let (picture, latents) = self.run(0, (device, DType::BF16), Offload::default())?;
        let expected = self.last_latents(0)?;
        let norm = |t: &Tensor| t.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>();
        let distance = norm(&(&latents - &expected)?)? / norm(&expected)?;
        let expected = read_png(&self.folder.join("image.png"));
        let differences = picture.rgb.iter().zip(&expected.rgb);
        let total: u64 = differences.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        #[expect(clippy::cast_precision_loss, reason = "a mean")]
        let mean = total as f32 / picture.rgb.len() as f32;
        Ok((distance, mean))
    }
}

/// Keeps the latents after every step.
#[derive(Default)]
pub struct LatentsOfSteps(pub Vec<Tensor>);

impl Observer for LatentsOfSteps {
    fn step_end(&mut self, _step: usize, latents: &Tensor) -> qwen_gen::Result<()> {
        self.0.push(latents.clone());
        Ok(())
    }
}

/// Fails when the largest difference exceeds `tolerance` times the largest expected value.
#[track_caller]
pub fn assert_close(what: &str, actual: &Tensor, expected: &Tensor, tolerance: f32) {
    let flat = |t: &Tensor| -> Vec<f32> {
        let flat = t.to_dtype(DType::F32).and_then(|t| t.flatten_all());
        flat.and_then(|t| t.to_vec1()).expect("values")
    };
    let (actual, expected) = (flat(actual), flat(expected));
    assert_eq!(actual.len(), expected.len(), "{what}: number of elements");
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    let difference = actual
        .iter()
        .zip(&expected)
        .map(|(a, b)| {
            if a.is_finite() {
                (a - b).abs()
            } else {
                f32::INFINITY
            }
        })
        .fold(0f32, f32::max);
    println!("{what}: {:.1e} of the largest value", difference / largest);
    assert!(
        difference <= tolerance * largest,
        "{what}: {:e} of the largest value, at most {tolerance:e} is right",
        difference / largest
    );
}

/// The 8-bit pixels of a PNG with their width and height.
pub fn read_png(path: &Path) -> Picture {
    let file = std::io::BufReader::new(std::fs::File::open(path).expect("reference picture"));
    let mut reader = png::Decoder::new(file).read_info().expect("PNG");
    let mut rgb = vec![0; reader.output_buffer_size().expect("size")];
    let info = reader.next_frame(&mut rgb).expect("pixels");
    Picture {
        width: info.width as usize,
        height: info.height as usize,
        rgb,
    }
}

/// Fails when a pixel differs by more than one of 255.
#[track_caller]
pub fn assert_same_picture(picture: &Picture, path: &Path) {
    let expected = read_png(path);
    assert_eq!(
        (expected.width, expected.height),
        (picture.width, picture.height)
    );
    let pairs = picture.rgb.iter().zip(&expected.rgb);
    let worst = pairs.map(|(a, b)| a.abs_diff(*b)).max();
    println!("{}: worst pixel {worst:?}", path.display());
    assert!(
        worst <= Some(1),
        "{}: a pixel differs by {worst:?}",
        path.display()
    );
}
