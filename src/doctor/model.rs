//! A checkpoint's components and what they would take on the device.

use std::sync::mpsc;

use serde::Serialize;

use crate::device::Chosen;
use crate::error::Result;
use crate::hub::{self, Hub};
use crate::memory::{Budget, MemoryPlan, OffloadChoices};
use crate::pipeline::Checkpoint;
use crate::request::{ModelName, PrecisionChoices, SizeArgs};
use crate::sampling::{ImageRequest, Sampling};
use crate::weights::{LoadFormat, ModelSource, StoredSize};

/// A model that `generate` could load.
#[derive(Debug, Serialize)]
pub struct Model {
    /// As the headers of its files describe them.
    pub components: Vec<Component>,
    /// What would be on the device when.
    pub plan: serde_json::Value,
    /// The plan for people.
    #[serde(skip)]
    pub plan_text: String,
}

/// One component of a checkpoint.
#[derive(Debug, Serialize)]
pub struct Component {
    /// Its folder.
    pub name: &'static str,
    /// What its files hold.
    #[serde(flatten)]
    pub stored: StoredSize,
}

/// Opens the checkpoint as `generate` does and plans a picture of this size, with guidance; of a
/// repository that the cache does not have it says that nothing can be told without a download.
pub(super) fn look_at(
    model_path: &str,
    size: SizeArgs,
    chosen: &Chosen,
) -> Result<Result<Model, String>> {
    let name = ModelName::resolve(model_path, None)?;
    let (width, height) = size.resolve(name.default_size(), &mut Vec::new())?;
    let is_from_hub = matches!(name, ModelName::Repository(_));
    let source = match name {
        ModelName::Source(source) => source,
        ModelName::Repository(repository) => {
            let hub = Hub::new(|variable| std::env::var_os(variable), mpsc::channel().0)?;
            let Some(folder) = hub::cached(&hub, &repository, LoadFormat::default())? else {
                return Ok(Err(format!(
                    "{repository}: not in the cache; generate would download it"
                )));
            };
            ModelSource::Folder(folder)
        }
    };
    let checkpoint = Checkpoint::open(&source, LoadFormat::default());
    let checkpoint = checkpoint.map_err(|error| match &source {
        ModelSource::Folder(folder) if is_from_hub => hub::with_way_out(folder, error),
        _ => error,
    })?;
    let component = |(name, stored)| Component { name, stored };
    let components = checkpoint.stored_sizes().map(component).into();

    let sampling = Sampling {
        width,
        height,
        ..Sampling::default()
    };
    let image = ImageRequest {
        prompt: String::new(),
        seed: 0,
    };
    checkpoint.schedule(&sampling)?;
    let texts = checkpoint.tokenise(&[image], &sampling)?;
    let precisions = PrecisionChoices::default().or_default(&chosen.device);
    let at = (precisions, &chosen.device);
    let footprint = checkpoint.footprint(&sampling, at, &texts, false);
    let budget = Budget::of(&chosen.device)?;
    let plan = MemoryPlan::new(footprint, OffloadChoices::default(), budget)?;
    Ok(Ok(Model {
        components,
        plan: plan.json(),
        plan_text: format!("{width}x{height}, {plan}"),
    }))
}
