//! Whether the ranges of each row nest: viewers drop a range that only partly overlaps another.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::clock::Timestamp;
use super::trace::{Trace, WorkKind};

/// A range of a row, for sorting and telling.
pub(super) type Range<'a> = (Timestamp, Timestamp, &'a dyn Display);

impl Trace {
    /// Two ranges of one row that overlap in part, if there are any.
    #[must_use]
    pub fn first_overlap(&self) -> Option<String> {
        let mut rows: BTreeMap<(u32, u32, u32), Vec<Range<'_>>> = BTreeMap::new();
        for range in self.loads.iter().chain(&self.host) {
            let row = rows.entry((0, self.process, range.thread)).or_default();
            row.push((range.start, range.end, &range.name));
        }
        for call in &self.device.calls {
            let row = rows.entry((0, self.process, call.thread)).or_default();
            row.push((call.start, call.end, &call.name));
        }
        for annotation in &self.device.annotations {
            let (device, stream) = (annotation.queue.device, annotation.queue.stream);
            let row = rows.entry((1, device, stream)).or_default();
            row.push((annotation.start, annotation.end, &annotation.name));
        }
        for work in &self.device.work {
            let row = rows.entry((1, work.queue.device, work.queue.stream));
            let name: &dyn Display = match &work.kind {
                WorkKind::Kernel(kernel) => &kernel.name,
                WorkKind::Copy { direction, .. } => direction,
                WorkKind::Set { memory, .. } => memory,
            };
            row.or_default().push((work.start, work.end, name));
        }
        rows.into_values().find_map(overlap)
    }
}

/// A range that ends after one it began in.
fn overlap(mut row: Vec<Range<'_>>) -> Option<String> {
    row.sort_by_key(|&(start, end, _)| (start, std::cmp::Reverse(end)));
    let mut open: Vec<Range<'_>> = Vec::new();
    for (start, end, name) in row {
        while open.last().is_some_and(|&(_, until, _)| until <= start) {
            open.pop();
        }
        if let Some((_, until, around)) = open.last()
            && end > *until
        {
            return Some(format!(
                "`{name}` from {start} to {end} began in `{around}`, which ends at {until}"
            ));
        }
        open.push((start, end, name));
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::profiler::testing::one_of_each;

    #[test]
    fn finds_what_overlaps_in_part() {
        let mut trace = one_of_each();
        assert_eq!(trace.first_overlap(), None);
        trace.device.work[0].end.0 += 1;
        let found = trace.first_overlap().expect("the copy began in the kernel");
        assert!(found.starts_with("`HtoD` from 34.903 to 38.999"), "{found}");
        trace.device.work[0].end.0 -= 1;
        trace.host[1].end.0 = 4001;
        assert!(trace.first_overlap().is_some());
    }
}
