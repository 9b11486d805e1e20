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
    /// The union of all work, which is in order of start.
    pub(super) fn new(work: &[Work]) -> Self {
        let mut busy = Self::default();
        let mut last: Option<usize> = None;
        for (index, Work { span, .. }) in work.iter().enumerate() {
            let until = last.map_or(span.start, |last| work[last].span.end);
            if span.start > until {
                busy.gaps.push(Gap {
                    span: Span {
                        start: until,
                        end: span.start,
                    },
                    after: last,
                    before: index,
                });
            }
            let span = Span {
                start: span.start.max(until),
                end: span.end,
            };
            if span.end > span.start {
                match busy.spans.last_mut() {
                    Some(before) if before.end == span.start => before.end = span.end,
                    _ => busy.spans.push(span),
                }
            }
            if span.end >= until {
                last = Some(index);
            }
        }
        busy
    }

    /// The part of it within `time`, which ends with a piece of work.
    pub(super) fn within(&self, time: Span) -> Self {
        let cut = |span: Span| {
            let start = span.start.max(time.start);
            let end = span.end.min(time.end);
            (end > start).then_some(Span { start, end })
        };
        let spans = self.spans.partition_point(|span| span.end <= time.start);
        let gaps = self.gaps.partition_point(|gap| gap.span.end <= time.start);
        Self {
            spans: self.spans[spans..]
                .iter()
                .map_while(|&span| cut(span))
                .collect(),
            gaps: (self.gaps[gaps..].iter())
                .map_while(|gap| {
                    Some(Gap {
                        span: cut(gap.span)?,
                        after: gap.after.filter(|_| gap.span.start > time.start),
                        before: gap.before,
                    })
                })
                .collect(),
        }
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
            operator: None,
        };
        spans.iter().map(work).collect()
    }

    #[test]
    fn overlapping_work_is_busy_once_and_gaps_have_neighbours() {
        let work = work(&[(10, 20), (12, 15), (18, 25), (30, 40), (40, 45)]);
        let busy = Busy::new(&work);
        let spans = [(10, 25), (30, 45)].map(|(start, end)| Span { start, end });
        assert_eq!(busy.spans, spans);
        assert_eq!((busy.busy_ns(), busy.idle_ns()), (30, 5));
        let neighbours: Vec<_> = busy
            .gaps
            .iter()
            .map(|gap| (gap.after, gap.before))
            .collect();
        assert_eq!(neighbours, [(Some(2), 3)]);
    }

    #[test]
    fn only_what_lies_within_the_time_counts() {
        let time = Span { start: 5, end: 18 };
        let busy = Busy::new(&work(&[(0, 10), (10, 20)])).within(time);
        assert_eq!((busy.busy_ns(), busy.idle_ns()), (13, 0));
        // What the work before a gap was is not known where the gap alone lies within.
        let busy = Busy::new(&work(&[(0, 3), (7, 8), (10, 20)])).within(time);
        assert_eq!((busy.busy_ns(), busy.idle_ns()), (9, 4));
        assert_eq!(busy.gaps[0].after, None);
        assert_eq!(busy.gaps[1].after, Some(1));
    }

    #[test]
    fn idle_time_before_work_of_no_length_counts() {
        let time = Span { start: 0, end: 60 };
        let busy = Busy::new(&work(&[(0, 20), (60, 60)])).within(time);
        assert_eq!((busy.busy_ns(), busy.idle_ns()), (20, 40));
    }
}
