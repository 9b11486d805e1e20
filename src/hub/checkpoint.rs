//! Which files of a repository text-to-image needs, in the order in which they tell whether the rest
//! is worth fetching.

use std::path::{Path, PathBuf};

use super::repository::Repository;
use super::{Hub, Listing, Origin, cache};
use crate::config;
use crate::error::{Error, Result};
use crate::text::tokenizer;
use crate::weights::{INCOMPLETE, LoadFormat, ModelSource, weight_files};

/// The folders with weights.
const COMPONENTS: [&str; 3] = ["text_encoder", "transformer", "vae"];

/// A complete checkpoint of the cache, if it has one; nobody is asked.
///
/// # Errors
/// When there is none, and the environment says not to ask the hub.
pub fn cached(
    hub: &Hub,
    repository: &Repository,
    load_format: LoadFormat,
) -> Result<Option<PathBuf>> {
    hub.cached(repository, |folder| is_complete(folder, load_format))
}

/// Finds what `load_format` needs of a checkpoint, or fetches all of it but the weights: what tells
/// whether they are worth fetching. While they are missing, [`fetch_weights`] takes the listing.
///
/// # Errors
/// When the pipeline is not supported; when a file is missing, cannot be downloaded or cannot be
/// written to the cache.
pub fn fetch_configs(
    hub: &Hub,
    repository: &Repository,
    load_format: LoadFormat,
) -> Result<(PathBuf, Option<Listing>)> {
    let listing = match hub.find(repository, |folder| is_complete(folder, load_format))? {
        Origin::Cached(folder) => return Ok((folder, None)),
        Origin::Hub(listing) => listing,
    };
    let folder = hub.fetch(repository, &listing, &[config::MODEL_INDEX])?;
    let source = ModelSource::Folder(folder.clone());
    let way_out = |error| with_way_out(&folder, error);
    config::check_pipeline(&source).map_err(way_out)?;
    hub.fetch(repository, &listing, &small_files(&listing, load_format))?;
    config::ModelConfig::read(&source).map_err(way_out)?;
    let missing = if has_weights(&source, load_format) {
        hub.remember(repository, &listing)?;
        None
    } else {
        Some(listing)
    };
    Ok((folder, missing))
}

/// The error with what can be done about a file of the cache that is cut, in a snapshot's folder or by its whole
/// path: it is there, so it is not fetched again by itself.
#[must_use]
pub fn with_way_out(folder: &Path, error: Error) -> Error {
    match error {
        Error::Checkpoint {
            file,
            message,
            hint: Some(hint),
        } if hint == INCOMPLETE => {
            let blob = folder.join(&file).canonicalize().ok();
            let hint = match blob.filter(|blob| cache::is_blob(blob)) {
                Some(blob) => format!(
                    "delete {}, and the next run fetches it again",
                    blob.display()
                ),
                None => hint,
            };
            Error::Checkpoint {
                file,
                message,
                hint: Some(hint),
            }
        }
        other => other,
    }
}

/// Fetches the weights of the commit whose [`fetch_configs`] are there.
///
/// # Errors
/// When it is not clear which files they are; when one cannot be downloaded or cannot be written to
/// the cache.
pub fn fetch_weights(hub: &Hub, repository: &Repository, listing: &Listing) -> Result<()> {
    let folder = hub.cache_of(repository).snapshot_of(&listing.commit);
    let source = ModelSource::Folder(folder.clone());
    let mut files = Vec::new();
    for component in COMPONENTS {
        let names = listing.inside(component);
        let found = weight_files(&source, component, &names);
        files.extend(found.map_err(|error| with_way_out(&folder, error))?);
    }
    hub.fetch(repository, listing, &files)?;
    hub.remember(repository, listing)
}

/// The files beside the model's index that are read before weights are.
fn small_files(listing: &Listing, load_format: LoadFormat) -> Vec<String> {
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
    small
}

/// Whether a folder of the cache has all that is needed, without asking what the hub has.
fn is_complete(folder: &Path, load_format: LoadFormat) -> bool {
    let source = ModelSource::Folder(folder.to_owned());
    let has = |file: &str| source.contains(file);
    has(config::MODEL_INDEX)
        && config::FILES.into_iter().all(has)
        && tokenizer::is_complete(&source)
        && has_weights(&source, load_format)
}

/// Whether the weights that are needed are there.
fn has_weights(source: &ModelSource, load_format: LoadFormat) -> bool {
    let has_those_of = |component: &str| {
        let names = source.list(component).unwrap_or_default();
        let files = weight_files(source, component, &names).unwrap_or_default();
        // A shard without its index is the only file of an unfinished download.
        let is_shard_alone = files.len() == 1
            && files[0].contains("-of-")
            && !names.iter().any(|name| name.ends_with(".index.json"));
        !files.is_empty() && !is_shard_alone && files.iter().all(|file| source.contains(file))
    };
    load_format == LoadFormat::Dummy || COMPONENTS.into_iter().all(has_those_of)
}
