//! Two traces side by side.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::numbers::{fixed, signed};
use super::report::{OperatorRow, Report, StageRow};
use super::table::Table;
use crate::human::escaped;

/// Two reports and where the second differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What is compared with.
    pub base: Report,
    /// What is compared.
    pub new: Report,
    /// Differences by kind of row, the largest first.
    pub differences: Vec<Section>,
}

/// Rows of a kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Section {
    /// What they are.
    pub rows: &'static str,
    /// The rows.
    pub differences: Vec<Difference>,
}

/// A row in both traces, or in one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Its name.
    pub name: String,
    /// Time in the first, and how often it occurs.
    pub base: Option<Amount>,
    /// The same in the second.
    pub new: Option<Amount>,
    /// Time in the second less that in the first; nothing counts as 0.
    pub change_ms: f64,
    /// Of the first's time; absent where that is 0.
    pub change_pct: Option<f64>,
}

/// How long and how often.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Amount {
    /// Milliseconds.
    pub ms: f64,
    /// Times.
    pub count: u64,
}

impl Comparison {
    /// Compares `new` with `base`.
    #[must_use]
    pub fn new(base: Report, new: Report) -> Self {
        let section = |rows, amounts: &dyn for<'a> Fn(&'a Report) -> Vec<Named<'a>>| Section {
            rows,
            differences: differences(amounts(&base), amounts(&new)),
        };
        // Launches return at once: where both ran on a GPU its time is what differs.
        let on_device = base.device.is_some() && new.device.is_some();
        let [stages, operators] = if on_device {
            ["Stages, GPU", "Operators, GPU"]
        } else {
            ["Stages", "Operators"]
        };
        let differences = vec![
            section("Totals", &totals),
            section(stages, &|report| {
                let ms = |row: &StageRow| match row.device {
                    Some(device) if on_device => device.span_ms,
                    None if on_device => 0.0,
                    _ => row.host_ms,
                };
                let rows = report.stages.iter();
                rows.map(|row| amount(&row.name, ms(row), 1)).collect()
            }),
            section(operators, &|report| {
                let ms = |row: &OperatorRow| {
                    if on_device {
                        row.device_ms
                    } else {
                        row.host_ms
                    }
                };
                let rows = report.operators.iter();
                rows.map(|row| amount(&row.name, ms(row), row.count))
                    .collect()
            }),
            section("Kernels", &|report| {
                let rows = report.kernels.iter();
                rows.map(|row| amount(&row.name, row.total_ms, row.count))
                    .collect()
            }),
            section("Copies", &|report| {
                let rows = report.copies.iter();
                rows.map(|row| amount(&row.name, row.total_ms, row.count))
                    .collect()
            }),
        ];
        Self {
            base,
            new,
            differences,
        }
    }
}

type Named<'a> = (&'a str, Amount);

fn amount(name: &str, ms: f64, count: u64) -> Named<'_> {
    (name, Amount { ms, count })
}

/// The recording and its steps.
fn totals(report: &Report) -> Vec<Named<'_>> {
    let mut totals = vec![amount("recording", report.duration_ms, 1)];
    let mut mean = |name, times: Vec<f64>| {
        if !times.is_empty() {
            #[expect(clippy::cast_precision_loss, reason = "steps are few")]
            let ms = times.iter().sum::<f64>() / times.len() as f64;
            totals.push(amount(name, ms, times.len() as u64));
        }
    };
    let steps = || report.steps.iter();
    let devices = || steps().filter_map(|step| step.device);
    mean(
        "mean step, host",
        steps().map(|step| step.host_ms).collect(),
    );
    mean(
        "mean step, GPU",
        devices().map(|device| device.span_ms).collect(),
    );
    mean(
        "mean step, GPU busy",
        devices().map(|device| device.busy_ms).collect(),
    );
    if let Some(device) = &report.device {
        totals.push(amount("GPU busy", device.busy_ms, 1));
        totals.push(amount("GPU idle", device.idle_ms, 1));
    }
    totals
}

/// Rows of the same name, added up, side by side.
fn differences(base: Vec<Named<'_>>, new: Vec<Named<'_>>) -> Vec<Difference> {
    let mut pairs: Vec<(&str, [Option<Amount>; 2])> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (side, amounts) in [base, new].into_iter().enumerate() {
        for (name, amount) in amounts {
            let place = *places.entry(name).or_insert(pairs.len());
            if place == pairs.len() {
                pairs.push((name, [None, None]));
            }
            let sum = pairs[place].1[side].get_or_insert(Amount { ms: 0.0, count: 0 });
            sum.ms += amount.ms;
            sum.count += amount.count;
        }
    }
    let ms = |amount: Option<Amount>| amount.map_or(0.0, |amount| amount.ms);
    let rows = pairs.into_iter().map(|(name, [base, new])| {
        let change_ms = ms(new) - ms(base);
        Difference {
            name: name.to_owned(),
            base,
            new,
            change_ms,
            // What only one of them has is not faster or slower.
            change_pct: (new.is_some() && ms(base) > 0.0).then(|| change_ms / ms(base) * 100.0),
        }
    });
    let mut rows: Vec<Difference> = rows.collect();
    rows.sort_by(|a, b| b.change_ms.abs().total_cmp(&a.change_ms.abs()));
    rows
}

/// A comparison with the number of rows to show of each table; 0 is all.
#[derive(Debug)]
pub struct SideBySide<'a> {
    /// The comparison.
    pub comparison: &'a Comparison,
    /// Rows of a table.
    pub top: usize,
}

impl fmt::Display for SideBySide<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison {
            base,
            new,
            differences,
        } = self.comparison;
        writeln!(f, "base: {}", escaped(&base.trace))?;
        writeln!(f, "new:  {}", escaped(&new.trace))?;
        for section in differences {
            let header = [
                section.rows,
                "base",
                "new",
                "base ms",
                "new ms",
                "diff ms",
                "diff",
            ];
            let cells = |row: &Difference| {
                let count = |amount: &Option<Amount>| {
                    amount.map_or_else(|| "-".to_owned(), |amount| amount.count.to_string())
                };
                let ms = |amount: &Option<Amount>| {
                    amount.map_or_else(|| "-".to_owned(), |amount| fixed(amount.ms))
                };
                let percent = |percent: f64| format!("{percent:+.1} %");
                vec![
                    count(&row.base),
                    count(&row.new),
                    ms(&row.base),
                    ms(&row.new),
                    signed(row.change_ms),
                    row.change_pct.map_or_else(String::new, percent),
                ]
            };
            let table = Table::new(&header);
            table
                .named_rows(&section.differences, self.top, |row| &row.name, cells)
                .fmt(f)?;
        }
        Ok(())
    }
}
