//! Operators of launches that are captured into a CUDA graph.
//!
//! Nothing of them runs, so they are no ranges of a trace. What they launch runs again and again later, out of
//! the host's sight: who records that asks here, while a node is made, which operator it belongs to.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, subscriber};

/// An operator's name, and which operator of the capture it is, from 1.
pub(crate) type CapturedOperator = (&'static str, u64);

thread_local! {
    /// The operators that this thread is in, outermost first.
    static OPEN: RefCell<Vec<CapturedOperator>> = const { RefCell::new(Vec::new()) };
}

/// The innermost operator that this thread captures; none outside [`captured`].
pub(crate) fn innermost() -> Option<CapturedOperator> {
    OPEN.with_borrow(|open| open.last().copied())
}

/// Calls `capture`, whose operators nobody but [`innermost`] learns of.
pub(crate) fn captured<T>(capture: impl FnOnce() -> T) -> T {
    let result = subscriber::with_default(Operators::default(), capture);
    // Without it spans would still ask for a subscriber that is gone.
    tracing::callsite::rebuild_interest_cache();
    result
}

/// Hears of spans that are operators.
#[derive(Default)]
struct Operators(Mutex<Vec<&'static str>>);

impl Subscriber for Operators {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.fields().field("dims").is_some()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.push(span.metadata().name());
        Id::from_u64(names.len() as u64)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, _event: &Event<'_>) {}

    fn enter(&self, span: &Id) {
        let index = span.into_u64();
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = usize::try_from(index - 1).ok().and_then(|at| names.get(at));
        let name = name.copied().unwrap_or_default();
        OPEN.with_borrow_mut(|open| open.push((name, index)));
    }

    fn exit(&self, _span: &Id) {
        OPEN.with_borrow_mut(Vec::pop);
    }
}

#[cfg(test)]
mod tests {
    use tracing::trace_span;

    use super::*;
    use crate::profiler::testing::recording_alone;

    #[test]
    fn the_innermost_operator_is_known_while_it_is_captured() {
        let _alone = recording_alone();
        let outer = || trace_span!("outer", dims = 1);
        let inner = || trace_span!("inner", dims = 2);
        let seen = captured(|| {
            let _step = trace_span!("step").entered();
            let mut seen = vec![innermost()];
            outer().in_scope(|| {
                seen.push(innermost());
                inner().in_scope(|| seen.push(innermost()));
                inner().in_scope(|| seen.push(innermost()));
                seen.push(innermost());
            });
            seen.push(innermost());
            seen
        });
        let first = Some(("outer", 1));
        let (second, third) = (Some(("inner", 2)), Some(("inner", 3)));
        assert_eq!(seen, [None, first, second, third, first, None]);
        let _later = outer().entered();
        assert_eq!(innermost(), None);
    }
}
