//! Names, each kept once: a trace repeats few of them millions of times.

use std::collections::HashMap;
use std::sync::Arc;

/// What a name takes besides its text, about.
const OVERHEAD_BYTES: usize = 64;

/// A name in [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NameId(u32);

/// The names of a trace.
#[derive(Debug, Default)]
pub(super) struct Names {
    ids: HashMap<Arc<str>, NameId>,
    all: Vec<Arc<str>>,
    /// What they take.
    pub(super) bytes: usize,
}

impl Names {
    /// The id of `name`.
    pub(super) fn id(&mut self, name: &str) -> NameId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = NameId(u32::try_from(self.all.len()).expect("events are fewer than 2^32"));
        self.bytes += name.len() + OVERHEAD_BYTES;
        let name: Arc<str> = name.into();
        self.ids.insert(name.clone(), id);
        self.all.push(name);
        id
    }

    /// The name of `id`.
    pub(super) fn get(&self, id: NameId) -> &Arc<str> {
        &self.all[id.0 as usize]
    }
}
