//! Files from the Hugging Face Hub, through the cache that Python's `huggingface_hub` uses too.
//!
//! [`Hub`] resolves a revision to a commit, lists its files and puts those asked for into the
//! commit's snapshot folder; [`fetch_configs`] and [`fetch_weights`] know which files text-to-image needs. A
//! file gets its final name only once its size, and its hash where the hub states one, are right.
//!
//! The client is written on `ureq` and not on the `hf-hub` crate: of what is promised here, that
//! crate leaves out `HF_TOKEN`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE`, checks neither length nor hash,
//! never adopts a complete partial file and panics without a home folder. Around it there would be
//! as much code, with its faults beneath.
//!
//! Everything here blocks. A caller that must stay responsive runs it on a thread of its own and
//! watches the [`Event`]s; that thread can be abandoned at any point, and the cache stays resumable.

mod cache;
mod checkpoint;
mod checksum;
mod client;
mod download;
mod environment;
mod event;
mod fault;
mod listing;
mod lock;
mod repository;
mod uri;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use self::cache::{Cache, RepositoryCache};
pub use self::checkpoint::{cached, fetch_configs, fetch_weights, with_way_out};
use self::client::Client;
use self::environment::Settings;
pub use self::environment::hides_progress;
pub use self::event::Event;
use self::fault::{Attempts, Fault};
pub use self::listing::Listing;
pub use self::repository::{Repository, RepositoryId, Revision};
use crate::error::Result;

/// Where the environment's variables say that the cache is.
///
/// # Errors
/// A usage error naming the variable whose value is wrong.
pub fn cache_folder(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    Ok(Settings::read(variable)?.cache)
}

/// The hub and the cache of its files.
#[derive(Debug)]
pub struct Hub {
    cache: Cache,
    client: Client,
    /// The variable that forbids requests.
    offline: Option<&'static str>,
    events: Sender<Event>,
}

/// Where a revision's files are to be had from.
enum Origin {
    /// A folder of the cache that has all that is needed.
    Cached(PathBuf),
    /// The hub, which has these.
    Hub(Listing),
}

impl Hub {
    /// The hub that the environment's variables describe; what happens is told to `events`.
    ///
    /// # Errors
    /// A usage error naming the variable whose value is wrong.
    pub fn new(variable: impl Fn(&str) -> Option<OsString>, events: Sender<Event>) -> Result<Self> {
        let settings = Settings::read(variable)?;
        Ok(Self {
            cache: Cache::new(settings.cache),
            client: Client::new(settings.endpoint, settings.token),
            offline: settings.offline,
            events,
        })
    }

    /// The file that `pick` takes among the names of a repository's files, told where they are: its path in the
    /// cache.
    ///
    /// # Errors
    /// When the hub does not answer, refuses, or does not know the repository or revision; those of
    /// `pick`; when the file cannot be downloaded or written to the cache.
    pub fn file(
        &self,
        repository: &Repository,
        pick: impl Fn(Vec<String>, &str) -> Result<String>,
    ) -> Result<PathBuf> {
        let place = self.offline.map_or("there".to_owned(), |variable| {
            format!("in the cache, and {variable} is set")
        });
        let picked = |folder: &Path| pick(cache::names_in(folder), &place);
        let suffices = |folder: &Path| match self.offline {
            // What is wrong is then the choice, not the cache.
            Some(_) => folder.is_dir(),
            None => picked(folder).is_ok(),
        };
        match self.find(repository, suffices)? {
            Origin::Cached(folder) => Ok(folder.join(picked(&folder)?)),
            Origin::Hub(listing) => {
                let file = pick(listing.files.clone(), &place)?;
                let folder = self.fetch(repository, &listing, &[&file])?;
                self.remember(repository, &listing)?;
                Ok(folder.join(file))
            }
        }
    }

    /// The cache where it will do, else what the hub has.
    ///
    /// A commit never changes, so a cached one needs no network; a branch may have moved, which one
    /// request tells. A hub that cannot be asked is no reason to fail while the cache has an answer.
    fn find(&self, repository: &Repository, suffices: impl Fn(&Path) -> bool) -> Result<Origin> {
        match self.cached(repository, suffices)? {
            Some(folder) if self.offline.is_some() || repository.revision.is_commit() => {
                Ok(Origin::Cached(folder))
            }
            Some(folder) => match self.list(repository, Attempts::One) {
                Ok(listing) => Ok(Origin::Hub(listing)),
                Err(error) => {
                    self.tell(Event::CacheUsed {
                        reason: error.to_string(),
                    });
                    Ok(Origin::Cached(folder))
                }
            },
            None => {
                let listing = self.list(repository, Attempts::Several)?;
                Ok(Origin::Hub(listing))
            }
        }
    }

    /// The revision's folder in the cache, where it will do; an error where it will not and the hub
    /// must not be asked.
    fn cached(
        &self,
        repository: &Repository,
        suffices: impl Fn(&Path) -> bool,
    ) -> Result<Option<PathBuf>> {
        let folder = self.cache_of(repository).snapshot(&repository.revision);
        let folder = folder.filter(|folder| suffices(folder));
        match self.offline {
            Some(variable) if folder.is_none() => {
                Err(Fault::offline(self.cache.root(), variable).of(repository, None))
            }
            _ => Ok(folder),
        }
    }

    /// Puts files of the listed commit into its snapshot folder, which is returned.
    fn fetch<S: AsRef<str>>(
        &self,
        repository: &Repository,
        listing: &Listing,
        files: &[S],
    ) -> Result<PathBuf> {
        let cache = self.cache_of(repository);
        let folder = cache.snapshot_of(&listing.commit);
        let mut missing = Vec::new();
        for file in files.iter().map(AsRef::as_ref) {
            if !folder.join(file).is_file() {
                missing.push(self.describe(repository, listing, file)?);
            }
        }
        download::all(self, repository, &listing.commit, &missing)?;
        Ok(folder)
    }

    /// Notes, for runs without a network, which commit the revision is.
    fn remember(&self, repository: &Repository, listing: &Listing) -> Result<()> {
        self.cache_of(repository)
            .set_commit(&repository.revision, &listing.commit)
    }

    fn cache_of(&self, repository: &Repository) -> RepositoryCache {
        self.cache.of(&repository.id)
    }

    fn tell(&self, event: Event) {
        // Nobody listens when the run is already over.
        let _ = self.events.send(event);
    }
}
