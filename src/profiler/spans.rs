//! Host ranges of one thread: those the profiler names, and the `tracing` spans opened in between.
//!
//! A span with `dims` and `types` is an operator; one with an `index` is named after it
//! (`block_3`). Recording is installed for the calling thread while it lasts; the rest of the
//! time an unwatched span costs a branch.

use std::collections::HashMap;
use std::fmt::{self, Debug, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, Interest};
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher};

use super::clock::Timestamp;
use super::trace::{HostKind, HostRange, Inputs, Name};

/// Ranges kept: 190 MB, and more than a run of 1000 steps of the full-size model opens.
pub(super) const MAX_RANGES: usize = 2 << 20;

/// The id of spans beyond [`MAX_RANGES`].
const LOST: u64 = u64::MAX;

/// Told when a span begins and ends.
pub(super) trait SpanListener: Debug + Send + Sync {
    fn begin(&self, name: &Name);
    fn end(&self);
}

/// Collects the ranges of a thread.
#[derive(Debug)]
pub(super) struct SpanRecorder {
    thread: u32,
    max_ranges: usize,
    listener: Option<Box<dyn SpanListener>>,
    ranges: Mutex<Ranges>,
    /// Who is told of events.
    events: Dispatch,
}

#[derive(Debug, Default)]
struct Ranges {
    all: Vec<HostRange>,
    lost: u64,
    inputs: HashMap<String, Arc<Inputs>>,
    fields: Fields,
}

/// Ranges of a recording that has ended.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    pub(super) ranges: Vec<HostRange>,
    /// Ranges beyond [`MAX_RANGES`].
    pub(super) lost: u64,
}

impl SpanRecorder {
    pub(super) fn new(thread: u32, listener: Option<Box<dyn SpanListener>>) -> Self {
        Self {
            thread,
            max_ranges: MAX_RANGES,
            listener,
            ranges: Mutex::default(),
            events: dispatcher::get_default(Clone::clone),
        }
    }

    /// Receives the calling thread's spans until the guard is dropped.
    pub(super) fn install(self: &Arc<Self>) -> Installed {
        Installed(Some(tracing::subscriber::set_default(self.clone())))
    }

    /// Begins an annotation; the result ends it.
    pub(super) fn begin(&self, name: Name) -> u64 {
        let mut ranges = self.lock();
        let id = self.add(HostKind::Annotation, name, None, &mut ranges);
        start(ranges.get_mut(id));
        id
    }

    /// Ends the range that [`SpanRecorder::begin`] began.
    pub(super) fn end(&self, id: u64) {
        let now = Timestamp::now();
        if let Some(range) = self.lock().get_mut(id) {
            range.end = now;
        }
    }

    /// Takes what was recorded. What is still open ends now.
    pub(super) fn take(&self) -> Recorded {
        let mut ranges = self.lock();
        let mut recorded = Recorded {
            ranges: std::mem::take(&mut ranges.all),
            lost: std::mem::take(&mut ranges.lost),
        };
        let now = Timestamp::now();
        let mut last = Timestamp::default();
        for range in &mut recorded.ranges {
            if range.start == Timestamp::default() {
                // A span that was never entered.
                (range.start, range.end) = (last, last);
            } else if range.end < range.start {
                range.end = now;
            }
            last = range.start;
        }
        recorded
    }

    fn add(
        &self,
        kind: HostKind,
        name: Name,
        inputs: Option<Arc<Inputs>>,
        ranges: &mut Ranges,
    ) -> u64 {
        if ranges.all.len() >= self.max_ranges {
            ranges.lost += 1;
            return LOST;
        }
        let external_id = ranges.all.len() as u64 + 1;
        ranges.all.push(HostRange {
            kind,
            name,
            external_id,
            thread: self.thread,
            start: Timestamp::default(),
            end: Timestamp::default(),
            inputs,
        });
        external_id
    }

    fn lock(&self) -> MutexGuard<'_, Ranges> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(range: Option<&mut HostRange>) {
    if let Some(range) = range {
        range.start = Timestamp::now();
    }
}

impl Ranges {
    fn get_mut(&mut self, id: u64) -> Option<&mut HostRange> {
        self.all.get_mut(usize::try_from(id).ok()?.checked_sub(1)?)
    }

    /// Inputs of the fields just read; equal ones are kept once.
    fn intern_inputs(&mut self) -> Option<Arc<Inputs>> {
        let Fields { text, types_at, .. } = &self.fields;
        if *types_at == 0 {
            return None;
        }
        if let Some(known) = self.inputs.get(text) {
            return Some(known.clone());
        }
        let (dims, types) = text.split_at(*types_at);
        let inputs = Arc::new(Inputs {
            dims: serde_json::from_str(dims).ok()?,
            types: serde_json::from_str(types).ok()?,
        });
        self.inputs.insert(text.clone(), inputs.clone());
        Some(inputs)
    }
}

/// The fields of a span.
#[derive(Debug, Default)]
struct Fields {
    index: Option<u64>,
    /// `dims`, then `types`, as lists that are JSON, too.
    text: String,
    /// Where `types` begin.
    types_at: usize,
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "index" {
            self.index = Some(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "dims" => {}
            "types" => self.types_at = self.text.len(),
            _ => return,
        }
        let _ = write!(self.text, "{value:?}");
    }
}

impl Subscriber for SpanRecorder {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_event() {
            self.events.register_callsite(metadata)
        } else if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.is_event() {
            return self.events.enabled(metadata);
        }
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut ranges = self.lock();
        let fields = &mut ranges.fields;
        fields.index = None;
        fields.text.clear();
        fields.types_at = 0;
        span.record(fields);
        let name = span.metadata().name();
        let name = match fields.index {
            Some(index) => Name::Numbered(name, '_', index),
            None => Name::Static(name),
        };
        let inputs = ranges.intern_inputs();
        let kind = match inputs {
            Some(_) => HostKind::Operator,
            None => HostKind::Annotation,
        };
        Id::from_u64(self.add(kind, name, inputs, &mut ranges))
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.events.event(event);
    }

    fn enter(&self, span: &Id) {
        let mut ranges = self.lock();
        let range = ranges.get_mut(span.into_u64());
        if let (Some(range), Some(listener)) = (&range, &self.listener) {
            listener.begin(&range.name);
        }
        start(range);
    }

    fn exit(&self, span: &Id) {
        let id = span.into_u64();
        self.end(id);
        if id != LOST
            && let Some(listener) = &self.listener
        {
            listener.end();
        }
    }
}

/// While it lives, the thread that installed it is recorded.
pub(super) struct Installed(Option<DefaultGuard>);

impl Drop for Installed {
    fn drop(&mut self) {
        self.0.take();
        // Without it spans would still ask for a subscriber that is gone.
        tracing::callsite::rebuild_interest_cache();
    }
}

impl fmt::Debug for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Installed")
    }
}

#[cfg(test)]
mod tests;
