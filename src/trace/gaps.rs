//! The longest times without device work, and what the host did meanwhile.

use std::collections::HashMap;

use super::analysis::{Analysis, ms};
use super::device::Gap;
use super::recorded::HostKind;
use super::report::{GapRow, HostShare};

/// Gaps that are told.
const GAPS: usize = 10;
/// Parts of a gap that are told.
const SHARES: usize = 3;

/// The longest gaps of the steps, or of the whole recording where it has no steps.
pub(super) fn longest(analysis: &Analysis<'_>) -> Vec<GapRow> {
    let steps = &analysis.steps;
    let mut gaps: Vec<(Option<u64>, Gap)> = if steps.spans.is_empty() {
        let gaps = analysis.busy.gaps.iter().copied();
        gaps.map(|gap| (None, gap)).collect()
    } else {
        let steps = steps.spans.iter().zip(&steps.busy);
        steps
            .flat_map(|((step, _), busy)| busy.gaps.iter().map(|gap| (Some(*step), *gap)))
            .collect()
    };
    gaps.sort_by_key(|(_, gap)| (std::cmp::Reverse(gap.span.duration()), gap.span.start));
    gaps.truncate(GAPS);
    let rows = gaps.into_iter().map(|(step, gap)| row(analysis, step, gap));
    rows.collect()
}

fn row(analysis: &Analysis<'_>, step: Option<u64>, gap: Gap) -> GapRow {
    let name = |work: usize| analysis.name(analysis.recorded.work[work].name);
    GapRow {
        step,
        at_ms: ms(gap.span.start - analysis.window.start),
        us: ms(gap.span.duration()) * 1e3,
        after: gap.after.map(name),
        before: name(gap.before),
        host: meanwhile(analysis, gap),
    }
}

/// What the thread did that launched the work after the gap.
fn meanwhile(analysis: &Analysis<'_>, gap: Gap) -> Vec<HostShare> {
    let Some(call) = analysis.calls[gap.before] else {
        return Vec::new();
    };
    let row = analysis.recorded.host[call as usize].row;
    let during = analysis.host.during(row, gap.span);
    let outside = gap.span.duration() - during.iter().map(|(_, ns)| ns).sum::<i64>();
    let mut shares: HashMap<String, i64> = HashMap::new();
    for (range, ns) in during {
        *shares.entry(what(analysis, range)).or_default() += ns;
    }
    if outside > 0 {
        shares.insert("outside of all ranges".to_owned(), outside);
    }
    let mut shares: Vec<(String, i64)> = shares.into_iter().collect();
    shares.sort_by(|(a, a_ns), (b, b_ns)| b_ns.cmp(a_ns).then_with(|| a.cmp(b)));
    shares.truncate(SHARES);
    let shares = shares.into_iter().map(|(what, ns)| HostShare {
        what,
        us: ms(ns) * 1e3,
    });
    shares.collect()
}

/// A range's name; a call's with where it was made.
fn what(analysis: &Analysis<'_>, range: u32) -> String {
    let innermost = &analysis.recorded.host[range as usize];
    let name = analysis.name(innermost.name);
    match analysis.host.place(range) {
        Some(place) if innermost.kind == HostKind::Call => {
            format!("{name} in {}", analysis.name(place.name))
        }
        _ => name,
    }
}
