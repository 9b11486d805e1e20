//! Arguments of `generate`, by topic, and their conversion to a [`GenerateRequest`].

mod compat;
mod lora;
mod memory;
mod model;
mod output;
mod runtime;
mod sampling;

use clap::Args;

use self::compat::CompatArgs;
use self::lora::LoraArgs;
use self::memory::MemoryArgs;
use self::model::ModelArgs;
use self::output::{OutputArgs, ProfilingArgs};
pub use self::runtime::LogLevel;
use self::runtime::RuntimeArgs;
use self::sampling::{PromptArgs, SamplingArgs};
use crate::error::{Error, Result};
use crate::request::{self, GenerateRequest};

/// All arguments of `generate`.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  qwen-gen generate --model-path builtin:tiny --prompt \"a red circle on a blue background\"
  qwen-gen generate --model-path Qwen/Qwen-Image --prompt \"A cat\" \"A dog\" --seed 1 2 3
  qwen-gen generate --model-path ./Qwen-Image --prompt-path prompts.txt --perf-dump-path perf.json
  qwen-gen generate --model-path ./Qwen-Image --prompt \"A logo\" --profile
  qwen-gen generate --model-path ./Qwen-Image --prompt \"A cat\" --num-inference-steps 8 \\
    --guidance-scale 1 --flow-shift 3 --lora-path Qwen-Image-Lightning-8steps.safetensors

Exit codes: 0 done as asked, 1 failed, 2 bad usage, 129 hung up, 130 interrupted, 143 terminated."
)]
pub struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    profiling: ProfilingArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
    #[command(flatten)]
    compat: CompatArgs,
}

impl GenerateArgs {
    /// How much to print.
    #[must_use]
    pub fn log_level(&self) -> LogLevel {
        self.runtime.log_level()
    }

    /// Whether stdout holds one JSON object.
    #[must_use]
    pub fn json(&self) -> bool {
        self.output.json
    }

    /// Resolves every default and checks every value that needs no model.
    ///
    /// # Errors
    /// When a value is wrong or the prompt file cannot be read.
    pub fn into_request(self) -> Result<GenerateRequest> {
        let Self {
            model,
            lora,
            prompt,
            sampling,
            output,
            profiling,
            memory,
            runtime,
            compat: _,
        } = self;
        let model_path = model.model_path.ok_or_else(|| Error::Usage {
            message: "--model-path is required".to_owned(),
            hint: Some(
                "pass the folder of a Qwen-Image checkpoint, a repository of the Hugging Face Hub (Qwen/Qwen-Image), or builtin:tiny for the model inside this program"
                    .to_owned(),
            ),
        })?;
        let prompts = match &prompt.prompt_path {
            Some(path) => request::read_prompt_file(path)?,
            None => prompt.prompt,
        };
        let warning = profiling.warning();
        let mut request = GenerateRequest::resolve(request::Choices {
            model_path,
            revision: model.revision,
            load_format: model.load_format.into(),
            lora: lora.into(),
            prompts,
            prompt_file: prompt.prompt_path,
            negative_prompt: prompt.negative_prompt,
            max_sequence_length: prompt.max_sequence_length,
            size: sampling.size(),
            num_inference_steps: sampling.num_inference_steps,
            flow_shift: sampling.flow_shift,
            guidance_scale: sampling.guidance_scale,
            true_cfg_scale: sampling.true_cfg_scale,
            seeds: sampling.seed,
            generator_device: sampling.generator_device.into(),
            num_outputs_per_prompt: sampling.num_outputs_per_prompt,
            perf_dump_path: output.perf_dump_path.clone(),
            request_id: output.request_id.clone(),
            output: output.into(),
            profile: profiling.extent(),
            layerwise_nvtx: profiling.layerwise_nvtx()?,
            device: runtime.device,
            precisions: runtime.precisions(),
            offload: (&memory).into(),
            dry_run: memory.dry_run,
            warmup_steps: runtime.warmup_steps()?,
        })?;
        request.warnings.extend(warning);
        Ok(request)
    }
}
