//! Which files of a repository text-to-image needs, in the order in which they tell whether the rest
//! is worth fetching.

use std::path::Path;

use super::repository::Repository;
use super::{Hub, Listing, Origin, Snapshot};
use crate::config;
use crate::error::Result;
use crate::text::tokenizer;
use crate::weights::{LoadFormat, ModelSource, weight_files};

/// The folders with weights.
const COMPONENTS: [&str; 3] = ["text_encoder", "transformer", "vae"];

/// Finds or fetches what `load_format` needs of a checkpoint.
///
/// # Errors
/// When the pipeline is not supported, before any weight is fetched; when a file is missing, cannot
/// be downloaded or cannot be written to the cache.
pub fn checkpoint(hub: &Hub, repository: &Repository, load_format: LoadFormat) -> Result<Snapshot> {
    let suffices = |folder: &Path| is_complete(folder, load_format);
    let listing = match hub.find(repository, suffices)? {
        Origin::Cached(folder) => return Ok(Snapshot { folder }),
        Origin::Hub(listing) => listing,
    };
    let snapshot = fetch_settings(hub, repository, &listing, load_format)?;
    if load_format != LoadFormat::Dummy {
        let source = ModelSource::Folder(snapshot.folder.clone());
        let mut weights = Vec::new();
        for component in COMPONENTS {
            weights.extend(weight_files(
                &source,
                component,
                &listing.inside(component),
            )?);
        }
        hub.fetch(repository, &listing, &weights)?;
    }
    hub.remember(repository, &listing)?;
    Ok(snapshot)
}

/// All of that but the weights: what tells whether they are worth fetching. They may be there already
/// ([`is_complete`]).
///
/// # Errors
/// As [`checkpoint`].
pub fn settings(hub: &Hub, repository: &Repository, load_format: LoadFormat) -> Result<Snapshot> {
    match hub.find(repository, |folder| is_complete(folder, load_format))? {
        Origin::Cached(folder) => Ok(Snapshot { folder }),
        Origin::Hub(listing) => {
            let snapshot = fetch_settings(hub, repository, &listing, load_format)?;
            if is_complete(&snapshot.folder, load_format) {
                // There is no more to come.
                hub.remember(repository, &listing)?;
            }
            Ok(snapshot)
        }
    }
}

fn fetch_settings(
    hub: &Hub,
    repository: &Repository,
    listing: &Listing,
    load_format: LoadFormat,
) -> Result<Snapshot> {
    let folder = hub.fetch(repository, listing, &[config::MODEL_INDEX])?;
    let source = ModelSource::Folder(folder.clone());
    config::check_pipeline(&source)?;

    let mut small: Vec<String> = config::FILES.map(str::to_owned).to_vec();
    let tokenizer_files = tokenizer::FILES
        .iter()
        .filter(|file| listing.contains(file));
    small.extend(tokenizer_files.map(|&file| file.to_owned()));
    if load_format != LoadFormat::Dummy {
        let is_index = |file: &&String| {
            let folder = file.split('/').next().unwrap_or_default();
            COMPONENTS.contains(&folder) && file.ends_with(".safetensors.index.json")
        };
        small.extend(listing.files.iter().filter(is_index).cloned());
    }
    hub.fetch(repository, listing, &small)?;
    config::ModelConfig::read(&source)?;
    Ok(Snapshot { folder })
}

/// Whether a folder of the cache has all that is needed, without asking what the hub has.
#[must_use]
pub fn is_complete(folder: &Path, load_format: LoadFormat) -> bool {
    let source = ModelSource::Folder(folder.to_owned());
    let has = |file: &str| source.contains(file);
    let has_weights = |component: &&str| {
        let names = source.list(component).unwrap_or_default();
        let files = weight_files(&source, component, &names).unwrap_or_default();
        // A shard without its index is the only file of an unfinished download.
        let is_shard_alone = files.len() == 1
            && files[0].contains("-of-")
            && !names.iter().any(|name| name.ends_with(".index.json"));
        !files.is_empty() && !is_shard_alone && files.iter().all(|file| has(file))
    };
    has(config::MODEL_INDEX)
        && config::FILES.into_iter().all(has)
        && tokenizer::is_complete(&source)
        && (load_format == LoadFormat::Dummy || COMPONENTS.iter().all(has_weights))
}
