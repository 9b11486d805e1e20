//! Files from the Hugging Face Hub, while the console and the signals are looked after.

use std::panic;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cli::console::Console;
use crate::error::{self, Error};
use crate::hub::{self, Hub, Listing, Repository};
use crate::interrupt::Interrupt;
use crate::request::{GenerateRequest, LoraName, LoraPlace, ModelName, pick_lora};
use crate::weights::{LoadFormat, Lora, ModelSource};

/// How soon a signal is noticed.
const POLL: Duration = Duration::from_millis(100);

/// What there is of a checkpoint.
pub(super) struct Files {
    pub(super) source: ModelSource,
    /// Of the repository they are from.
    pub(super) commit: Option<String>,
    /// Where to fetch the weights from, where they are not here yet.
    missing: Option<(Repository, Listing)>,
}

impl Files {
    /// What can be read of it now.
    pub(super) fn load_format(&self, asked: LoadFormat) -> LoadFormat {
        match self.missing {
            Some(_) => LoadFormat::Dummy,
            None => asked,
        }
    }

    /// An error in reading them or an adapter, with what can be done about it.
    pub(super) fn with_way_out(&self, error: Error) -> Error {
        match (&self.source, &self.commit) {
            (ModelSource::Folder(folder), Some(_)) => hub::with_way_out(folder, error),
            // Adapters may be from a hub all the same; their whole path replaces the folder.
            _ => hub::with_way_out(Path::new("/"), error),
        }
    }

    /// Whether nothing is left to fetch.
    pub(super) fn are_complete(&self) -> bool {
        self.missing.is_none()
    }
}

/// The checkpoint's files; of a repository those that the cache lacks are downloaded, all but the
/// weights.
pub(super) fn configs(
    request: &GenerateRequest,
    console: &mut Console,
    interrupt: &Interrupt,
) -> Result<Files> {
    let repository = match &request.model {
        ModelName::Source(source) => {
            return Ok(Files {
                source: source.clone(),
                commit: None,
                missing: None,
            });
        }
        ModelName::Repository(repository) => repository.clone(),
    };
    let (fetched, load_format) = (repository.clone(), request.load_format);
    let (folder, listing) = watched(console, interrupt, move |hub| {
        hub::fetch_configs(hub, &fetched, load_format)
    })?;
    Ok(Files {
        // A snapshot's folder is named after its commit.
        commit: folder.file_name().map(|name| name.display().to_string()),
        source: ModelSource::Folder(folder),
        missing: listing.map(|listing| (repository, listing)),
    })
}

/// The rest of the files.
pub(super) fn weights(files: Files, console: &mut Console, interrupt: &Interrupt) -> Result<Files> {
    let Some((repository, listing)) = files.missing else {
        return Ok(files);
    };
    watched(console, interrupt, move |hub| {
        hub::fetch_weights(hub, &repository, &listing)
    })?;
    Ok(Files {
        missing: None,
        ..files
    })
}

/// The adapters' files; those of a repository are downloaded as a model's are.
pub(super) fn loras(
    request: &GenerateRequest,
    console: &mut Console,
    interrupt: &Interrupt,
) -> Result<Vec<Lora>> {
    let mut loras = Vec::new();
    for LoraName { place, scale } in &request.loras {
        let file = match place.clone() {
            LoraPlace::File(file) => file,
            // The plan counts adapters without a look at them.
            LoraPlace::Repository(..) if request.dry_run => continue,
            LoraPlace::Repository(repository, name) => {
                let path = watched(console, interrupt, move |hub| {
                    let id = repository.id.as_str();
                    hub.file(&repository, |names, place| {
                        pick_lora(id, names, place, name.as_deref())
                    })
                })?;
                path.display().to_string()
            }
        };
        loras.push(Lora {
            file,
            scale: *scale,
        });
    }
    Ok(loras)
}

/// Runs `work` on a thread of its own, which a signal abandons: a stalled connection cannot hold up
/// the end of the run.
///
/// # Errors
/// Those of `work`; [`Error::Interrupted`](error::Error::Interrupted).
pub(super) fn watched<T: Send + 'static>(
    console: &mut Console,
    interrupt: &Interrupt,
    work: impl FnOnce(&Hub) -> error::Result<T> + Send + 'static,
) -> Result<T> {
    let (events, inbox) = mpsc::channel();
    let work = move || work(&Hub::new(|variable| std::env::var_os(variable), events)?);
    let worker = thread::Builder::new().spawn(work);
    let worker = worker.context("cannot start a thread")?;
    let watched = loop {
        if let Err(error) = interrupt.check() {
            break Err(error);
        }
        match inbox.recv_timeout(POLL) {
            Ok(event) => console.hub_event(&event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break Ok(()),
        }
    };
    console.end_download();
    watched?;
    let result = worker.join();
    Ok(result.unwrap_or_else(|panic| panic::resume_unwind(panic))?)
}
