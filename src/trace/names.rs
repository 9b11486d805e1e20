//! Names, each kept once: a trace repeats few of them millions of times.

use std::collections::HashMap;
use std::sync::Arc;

/// A name in [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NameId(u32);

/// The names of a trace.
#[derive(Debug, Default)]
pub(super) struct Names {
    ids: HashMap<Arc<str>, NameId>,
    names: Vec<Arc<str>>,
}

impl Names {
    /// The id of `name`.
    pub(super) fn id(&mut self, name: &str) -> NameId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = NameId(u32::try_from(self.names.len()).expect("events are fewer than 2^32"));
        let name: Arc<str> = name.into();
        self.ids.insert(name.clone(), id);
        self.names.push(name);
        id
    }

    /// The name of `id`.
    pub(super) fn get(&self, id: NameId) -> &Arc<str> {
        &self.names[id.0 as usize]
    }
}
