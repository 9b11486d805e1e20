//! What the host did: which range is in which, and which was innermost at a time.

use std::collections::HashMap;

use super::recorded::{HostKind, HostRange, Span};

/// The ranges of all threads, related to each other.
#[derive(Debug)]
pub(super) struct Host<'a> {
    ranges: &'a [HostRange],
    /// The nearest range around each range that is no call.
    places: Vec<Option<u32>>,
    /// The operator that each range is in, or is.
    operators: Vec<Option<u32>>,
    /// Time in each range and in none inside it.
    self_ns: Vec<i64>,
    /// Times with their innermost range, by thread, in order.
    innermost: HashMap<u32, Vec<(Span, u32)>>,
    calls: HashMap<u32, u32>,
}

impl<'a> Host<'a> {
    /// Relates ranges that are sorted by row and start, the outer ones first.
    pub(super) fn new(ranges: &'a [HostRange]) -> Self {
        let mut host = Self {
            ranges,
            places: vec![None; ranges.len()],
            operators: vec![None; ranges.len()],
            self_ns: vec![0; ranges.len()],
            innermost: HashMap::new(),
            calls: HashMap::new(),
        };
        let mut first = 0;
        for row in ranges.chunk_by(|a, b| a.row == b.row) {
            let segments = host.sweep(first..first + row.len());
            host.innermost.insert(row[0].row, segments);
            first += row.len();
        }
        for (index, range) in (0..).zip(ranges) {
            if range.kind == HostKind::Call
                && let Some(correlation) = range.correlation
            {
                host.calls.entry(correlation).or_insert(index);
            }
        }
        host
    }

    /// Goes through a row in time.
    fn sweep(&mut self, row: std::ops::Range<usize>) -> Vec<(Span, u32)> {
        let mut segments = Vec::new();
        let mut open: Vec<u32> = Vec::new();
        let mut now = i64::MIN;
        let mut pass = |range: u32, until: i64, now: &mut i64, self_ns: &mut [i64]| {
            let span = Span {
                start: *now,
                end: until,
            };
            if span.end > span.start {
                self_ns[range as usize] += span.duration();
                segments.push((span, range));
            }
            *now = until.max(*now);
        };
        for index in row {
            let Span { start, .. } = self.ranges[index].span;
            while let Some(&top) = open.last()
                && self.ranges[top as usize].span.end <= start
            {
                pass(
                    top,
                    self.ranges[top as usize].span.end,
                    &mut now,
                    &mut self.self_ns,
                );
                open.pop();
            }
            if let Some(&top) = open.last() {
                pass(top, start, &mut now, &mut self.self_ns);
                self.places[index] = match self.ranges[top as usize].kind {
                    HostKind::Call => self.places[top as usize],
                    _ => Some(top),
                };
                self.operators[index] = self.operators[top as usize];
            }
            now = now.max(start);
            let range = u32::try_from(index).expect("events are fewer than 2^32");
            if self.ranges[index].kind == HostKind::Operator {
                self.operators[index] = Some(range);
            }
            open.push(range);
        }
        while let Some(top) = open.pop() {
            pass(
                top,
                self.ranges[top as usize].span.end,
                &mut now,
                &mut self.self_ns,
            );
        }
        segments
    }

    /// Time in a range and in none inside it.
    pub(super) fn self_ns(&self, range: usize) -> i64 {
        self.self_ns[range]
    }

    /// The call with a correlation.
    pub(super) fn call(&self, correlation: Option<u32>) -> Option<u32> {
        self.calls.get(&correlation?).copied()
    }

    /// The nearest range around a range that is no call.
    pub(super) fn place(&self, range: u32) -> Option<&'a HostRange> {
        let place = self.places[range as usize]?;
        Some(&self.ranges[place as usize])
    }

    /// The operator that a range is in, or is.
    pub(super) fn operator(&self, range: u32) -> Option<&'a HostRange> {
        let operator = self.operators[range as usize]?;
        Some(&self.ranges[operator as usize])
    }

    /// What was innermost on a thread during `span`, with the time it took of it.
    pub(super) fn during(&self, row: u32, span: Span) -> Vec<(u32, i64)> {
        let Some(segments) = self.innermost.get(&row) else {
            return Vec::new();
        };
        let first = segments.partition_point(|(segment, _)| segment.end <= span.start);
        (segments[first..].iter())
            .take_while(|(segment, _)| segment.start < span.end)
            .map(|(segment, range)| (*range, segment.overlap(span)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::names::Names;

    fn ranges(spans: &[(u32, i64, i64)]) -> Vec<HostRange> {
        let name = Names::default().id("");
        let range = |&(row, start, end): &(u32, i64, i64)| HostRange {
            row,
            span: Span { start, end },
            kind: HostKind::Operator,
            name,
            correlation: None,
        };
        spans.iter().map(range).collect()
    }

    #[test]
    fn time_belongs_to_the_innermost_range() {
        let ranges = ranges(&[
            (0, 0, 100),
            (0, 10, 30),
            (0, 20, 30),
            (0, 50, 60),
            (1, 0, 5),
        ]);
        let host = Host::new(&ranges);
        assert_eq!(host.places, [None, Some(0), Some(1), Some(0), None]);
        assert_eq!(host.self_ns, [70, 10, 10, 10, 5]);
        let span = Span { start: 15, end: 55 };
        assert_eq!(host.during(0, span), [(1, 5), (2, 10), (0, 20), (3, 5)]);
        assert_eq!(host.during(2, span), []);
    }

    #[test]
    fn a_place_is_around_a_range_and_no_call() {
        let mut ranges = ranges(&[(0, 0, 100), (0, 10, 40), (0, 20, 30), (0, 50, 60)]);
        ranges[1].kind = HostKind::Call;
        let host = Host::new(&ranges);
        assert_eq!(host.places, [None, Some(0), Some(0), Some(0)]);
    }

    #[test]
    fn ranges_that_overlap_in_part_count_no_time_twice() {
        let ranges = ranges(&[(0, 0, 10), (0, 5, 15), (0, 12, 20)]);
        let host = Host::new(&ranges);
        assert_eq!(host.self_ns, [5, 7, 8]);
    }
}
