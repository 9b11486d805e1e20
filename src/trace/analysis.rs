//! From a trace's events to its [`Report`].

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use super::device::Busy;
use super::host::Host;
use super::recorded::{HostKind, Recorded, Span, Work, WorkKind};
use super::report::{
    CopyRow, DeviceUse, KernelRow, Memory, OperatorRow, Report, StageRow, StepRow,
};
use super::{gaps, names::NameId};

pub(super) const STAGE: &str = "STAGE ";
pub(super) const STEP: &str = "ProfilerStep#";

/// A trace with what is derived from it.
#[derive(Debug)]
pub(super) struct Analysis<'a> {
    pub(super) recorded: &'a Recorded,
    pub(super) host: Host<'a>,
    /// The call that launched each piece of work.
    pub(super) calls: Vec<Option<u32>>,
    pub(super) window: Span,
    /// Busy times of all work.
    pub(super) busy: Busy,
    /// Stages with their names.
    pub(super) stages: Parts<&'a str>,
    /// Steps with their numbers.
    pub(super) steps: Parts<u64>,
}

/// Times that follow each other, and the work launched in each.
#[derive(Debug)]
pub(super) struct Parts<T> {
    pub(super) spans: Vec<(T, Span)>,
    /// Indexes of work, for each part.
    pub(super) work: Vec<Vec<usize>>,
    pub(super) busy: Vec<Busy>,
}

impl<'a> Analysis<'a> {
    pub(super) fn new(recorded: &'a Recorded) -> Self {
        let host = Host::new(&recorded.host);
        let calls: Vec<Option<u32>> = (recorded.work.iter())
            .map(|work| host.call(work.correlation))
            .collect();
        let launched: Vec<Option<i64>> = (calls.iter())
            .map(|call| call.map(|call| recorded.host[call as usize].span.start))
            .collect();
        let annotations = || {
            let annotations = recorded.host.iter();
            annotations
                .filter(|range| range.kind == HostKind::Annotation)
                .map(|range| (&**recorded.names.get(range.name), range.span))
        };
        let stages =
            annotations().filter_map(|(name, span)| Some((name.strip_prefix(STAGE)?, span)));
        let steps = annotations()
            .filter_map(|(name, span)| Some((name.strip_prefix(STEP)?.parse().ok()?, span)));
        let busy = Busy::new(&recorded.work);
        Self {
            stages: Parts::new(stages.collect(), &recorded.work, &launched, &busy),
            steps: Parts::new(steps.collect(), &recorded.work, &launched, &busy),
            window: recorded.window.unwrap_or(Span { start: 0, end: 0 }),
            recorded,
            busy,
            host,
            calls,
        }
    }

    pub(super) fn report(&self, trace: String) -> Report {
        let Recorded { work, memory, .. } = self.recorded;
        let peak = |on_device| {
            let samples = memory.iter().filter(|sample| sample.on_device == on_device);
            samples.map(|sample| sample.bytes).max()
        };
        let steps = self.steps.spans.iter().zip(0..);
        Report {
            trace,
            events: self.recorded.count,
            devices: self.recorded.devices.clone(),
            duration_ms: ms(self.window.duration()),
            stages: self.stage_rows(),
            steps: steps
                .map(|((step, span), i)| StepRow {
                    step: *step,
                    host_ms: ms(span.duration()),
                    device: self.steps.device_use(i, work),
                })
                .collect(),
            device: self.whole_device(),
            operators: self.operators(),
            kernels: self.kernels(),
            copies: self.copies(),
            gaps: gaps::longest(self),
            memory: (!memory.is_empty()).then(|| Memory {
                peak_device_bytes: peak(true),
                peak_host_bytes: peak(false),
            }),
        }
    }

    fn stage_rows(&self) -> Vec<StageRow> {
        let stages = self.stages.spans.iter().zip(0..);
        let rows = stages.map(|((name, span), i)| StageRow {
            name: (*name).to_owned(),
            host_ms: ms(span.duration()),
            share_pct: 0.0, // known when all are
            device: self.stages.device_use(i, &self.recorded.work),
        });
        let mut rows: Vec<StageRow> = rows.collect();
        let all_ms: f64 = rows.iter().map(StageRow::ms).sum();
        for row in &mut rows {
            row.share_pct = percent(row.ms(), all_ms);
        }
        rows
    }

    pub(super) fn name(&self, id: NameId) -> String {
        self.recorded.names.get(id).to_string()
    }

    fn whole_device(&self) -> Option<DeviceUse> {
        let work = &self.recorded.work;
        (!work.is_empty()).then(|| DeviceUse::new(&self.busy, work.iter()))
    }

    fn operators(&self) -> Vec<OperatorRow> {
        #[derive(Default)]
        struct Sums {
            count: u64,
            host_ms: f64,
            host_self_ms: f64,
            device_ms: f64,
        }
        let mut sums: HashMap<NameId, Sums> = HashMap::new();
        for (index, range) in self.recorded.host.iter().enumerate() {
            if range.kind == HostKind::Operator {
                let sums = sums.entry(range.name).or_default();
                sums.count += 1;
                sums.host_ms += ms(range.span.duration());
                sums.host_self_ms += ms(self.host.self_ns(index));
            }
        }
        // What a graph launched has no range on the host.
        let mut replayed = HashSet::new();
        for (work, call) in self.recorded.work.iter().zip(&self.calls) {
            let launched_in = || call.and_then(|call| self.host.operator(call));
            let captured_in = work.operator.map(|(name, _)| name);
            let Some(name) = captured_in.or_else(|| Some(launched_in()?.name)) else {
                continue;
            };
            let sums = sums.entry(name).or_default();
            sums.device_ms += ms(work.span.duration());
            if let Some((_, index)) = work.operator
                && replayed.insert((work.correlation, index))
            {
                sums.count += 1;
            }
        }
        let on_device = sums.values().any(|sums| sums.device_ms > 0.0);
        let rows = sums.into_iter().map(|(name, sums)| {
            let (own, mean) = if on_device {
                (sums.device_ms, sums.device_ms)
            } else {
                (sums.host_self_ms, sums.host_ms)
            };
            let row = OperatorRow {
                name: self.name(name),
                count: sums.count,
                host_ms: sums.host_ms,
                host_self_ms: sums.host_self_ms,
                device_ms: sums.device_ms,
                mean_us: mean_us(mean, sums.count),
                share_pct: percent(own, ms(self.window.duration())),
            };
            (own, row)
        });
        longest_first(rows, |row| &row.name)
    }

    fn kernels(&self) -> Vec<KernelRow> {
        let all_ms: f64 = self
            .recorded
            .work
            .iter()
            .map(|work| ms(work.span.duration()))
            .sum();
        let kernels = self
            .recorded
            .work
            .iter()
            .filter(|work| work.kind == WorkKind::Kernel);
        let rows = group_by(kernels, |kernel| kernel.name)
            .into_iter()
            .map(|(name, kernels)| {
                let total_ms = kernels
                    .iter()
                    .map(|kernel| ms(kernel.span.duration()))
                    .sum();
                let row = KernelRow {
                    name: self.name(name),
                    count: kernels.len() as u64,
                    total_ms,
                    mean_us: mean_us(total_ms, kernels.len() as u64),
                    share_pct: percent(total_ms, all_ms),
                    occupancy_pct: occupancy(kernels.into_iter()).map(|(mean, _)| mean),
                };
                (total_ms, row)
            });
        longest_first(rows, |row| &row.name)
    }

    fn copies(&self) -> Vec<CopyRow> {
        let copies = self
            .recorded
            .work
            .iter()
            .filter(|work| work.kind != WorkKind::Kernel);
        let rows = group_by(copies, |copy| copy.name)
            .into_iter()
            .map(|(name, copies)| {
                let total_ms = copies.iter().map(|copy| ms(copy.span.duration())).sum();
                let bytes = copies
                    .iter()
                    .fold(0, |sum: u64, copy| sum.saturating_add(copy.bytes));
                let row = CopyRow {
                    name: self.name(name),
                    count: copies.len() as u64,
                    bytes,
                    total_ms,
                    gb_per_s: ratio(float(bytes) / 1e6, total_ms),
                };
                (total_ms, row)
            });
        longest_first(rows, |row| &row.name)
    }
}

impl<T> Parts<T> {
    fn new(
        mut parts: Vec<(T, Span)>,
        work: &[Work],
        launched: &[Option<i64>],
        whole: &Busy,
    ) -> Self {
        parts.sort_by_key(|(_, span)| *span);
        let mut indexes = vec![Vec::new(); parts.len()];
        for (index, at) in launched.iter().enumerate() {
            if let Some(at) = *at
                && let Some(part) = parts
                    .partition_point(|(_, span)| span.start <= at)
                    .checked_sub(1)
                && parts[part].1.contains(at)
            {
                indexes[part].push(index);
            }
        }
        let mut from: Option<i64> = None;
        let busy = parts.iter().zip(&indexes).map(|((_, span), indexes)| {
            let first = indexes.first().map(|&index| work[index].span.start);
            let end = indexes.iter().map(|&index| work[index].span.end).max();
            // A part has the device from the end of the work of those before it, but not before it
            // begins: what lies between, such as the loading of weights, is no part's.
            let start = from.map(|from| from.max(span.start)).or(first);
            let start = start.unwrap_or(0);
            from = from.max(end);
            // It lasts as long as its own work; the device is busy with whatever runs meanwhile.
            let time = Span {
                start,
                end: end.unwrap_or(start),
            };
            whole.within(time)
        });
        Self {
            busy: busy.collect(),
            spans: parts,
            work: indexes,
        }
    }

    fn device_use(&self, part: usize, work: &[Work]) -> Option<DeviceUse> {
        let indexes = &self.work[part];
        let work = indexes.iter().map(|&index| &work[index]);
        (!indexes.is_empty()).then(|| DeviceUse::new(&self.busy[part], work))
    }
}

impl DeviceUse {
    fn new<'a>(busy: &Busy, work: impl Iterator<Item = &'a Work> + Clone) -> Self {
        let (busy_ms, idle_ms) = (ms(busy.busy_ns()), ms(busy.idle_ns()));
        let kernels = work.clone().filter(|work| work.kind == WorkKind::Kernel);
        let count = kernels.clone().count() as u64;
        let occupancy = occupancy(kernels);
        Self {
            span_ms: busy_ms + idle_ms,
            busy_ms,
            idle_ms,
            busy_pct: percent(busy_ms, busy_ms + idle_ms),
            kernels: count,
            copies: work.count() as u64 - count,
            occupancy_pct: occupancy.map(|(mean, _)| mean),
            occupancy_known_pct: occupancy.map(|(_, known)| known),
        }
    }
}

/// Mean of what is known, weighted by time, and for how much of the time it is.
fn occupancy<'a>(kernels: impl Iterator<Item = &'a Work>) -> Option<(f64, f64)> {
    let (mut all, mut known, mut sum) = (0.0, 0.0, 0.0);
    for kernel in kernels {
        let duration = ms(kernel.span.duration());
        all += duration;
        if let Some(occupancy) = kernel.occupancy_pct {
            known += duration;
            sum += duration * f64::from(occupancy);
        }
    }
    (known > 0.0).then(|| (sum / known, percent(known, all)))
}

fn group_by<T, K: Eq + Hash>(
    items: impl Iterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> HashMap<K, Vec<T>> {
    let mut groups: HashMap<K, Vec<T>> = HashMap::new();
    for item in items {
        groups.entry(key(&item)).or_default().push(item);
    }
    groups
}

/// Sorts rows by time, then by name.
fn longest_first<T>(rows: impl Iterator<Item = (f64, T)>, name: impl Fn(&T) -> &str) -> Vec<T> {
    let mut rows: Vec<(f64, T)> = rows.collect();
    rows.sort_by(|(a_ms, a), (b_ms, b)| b_ms.total_cmp(a_ms).then_with(|| name(a).cmp(name(b))));
    rows.into_iter().map(|(_, row)| row).collect()
}

#[expect(clippy::cast_precision_loss, reason = "exact below 104 days")]
pub(super) fn ms(ns: i64) -> f64 {
    ns as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "exact below 9 PB")]
fn float(number: u64) -> f64 {
    number as f64
}

fn mean_us(total_ms: f64, count: u64) -> f64 {
    ratio(total_ms * 1e3, float(count))
}

pub(super) fn percent(part: f64, whole: f64) -> f64 {
    ratio(part * 100.0, whole)
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}
