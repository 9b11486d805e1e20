//! What devices did: when they were busy, and the gaps in between.

use super::recorded::{Span, Work};

/// When a device was busy during a time, and when it was not.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Busy {
    /// Disjoint, in order.
    pub(super) spans: Vec<Span>,
    pub(super) gaps: Vec<Gap>,
}

/// A time between two pieces of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) span: Span,
    /// Index of the work before it; none when it is the first of its time.
    pub(super) after: Option<usize>,
    /// Index of the work after it.
    pub(super) before: usize,
}

impl Busy {
    /// The union of the work at `indexes`, which are in order of start, within `time`.
    pub(super) fn new(work: &[Work], indexes: impl Iterator<Item = usize>, time: Span) -> Self {
        let mut busy = Self::default();
        let mut until = time.start;
        let mut last = None;
        for index in indexes {
            let Span { start, end } = work[index].span;
            let end = end.min(time.end);
            if start > until {
                busy.gaps.push(Gap {
                    span: Span {
                        start: until,
                        end: start,
                    },
                    after: last,
                    before: index,
                });
            }
            let start = start.max(until);
            if end > start {
                match busy.spans.last_mut() {
                    Some(span) if span.end == start => span.end = end,
                    _ => busy.spans.push(Span { start, end }),
                }
            }
            if end >= until {
                until = end;
                last = Some(index);
            }
        }
        busy
    }

    /// Nanoseconds of work.
    pub(super) fn busy_ns(&self) -> i64 {
        self.spans.iter().map(|span| span.duration()).sum()
    }

    /// Nanoseconds of gaps.
    pub(super) fn idle_ns(&self) -> i64 {
        self.gaps.iter().map(|gap| gap.span.duration()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::names::Names;
    use crate::trace::recorded::WorkKind;

    fn work(spans: &[(i64, i64)]) -> Vec<Work> {
        let name = Names::default().id("");
        let work = |&(start, end): &(i64, i64)| Work {
            span: Span { start, end },
            kind: WorkKind::Kernel,
            name,
            correlation: None,
            bytes: 0,
            occupancy_pct: None,
        };
        spans.iter().map(work).collect()
    }

    #[test]
    fn overlapping_work_is_busy_once_and_gaps_have_neighbours() {
        let work = work(&[(10, 20), (12, 15), (18, 25), (30, 40), (40, 45)]);
        let busy = Busy::new(&work, 0..5, Span { start: 8, end: 45 });
        let spans = [(10, 25), (30, 45)].map(|(start, end)| Span { start, end });
        assert_eq!(busy.spans, spans);
        assert_eq!((busy.busy_ns(), busy.idle_ns()), (30, 7));
        let neighbours: Vec<_> = busy
            .gaps
            .iter()
            .map(|gap| (gap.after, gap.before))
            .collect();
        assert_eq!(neighbours, [(None, 0), (Some(2), 3)]);
    }

    #[test]
    fn only_what_lies_within_the_time_counts() {
        let time = Span { start: 5, end: 18 };
        let busy = Busy::new(&work(&[(0, 10), (10, 20)]), 0..2, time);
        assert_eq!((busy.busy_ns(), busy.idle_ns()), (13, 0));
    }
}
