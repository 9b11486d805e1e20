//! Tables for a terminal: the first column to the left, the others to the right.

use std::collections::HashSet;
use std::fmt::{self, Write as _};

use crate::human::escaped;

/// Wider names lose their middle, unless they would look like another.
const MAX_NAME: usize = 60;
/// Even those are cut here.
const MAX_NAME_APART: usize = 240;

/// A table with a title.
#[derive(Debug)]
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Rows that are not shown.
    hidden: usize,
}

impl Table {
    /// The first header is the table's title.
    pub(super) fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
            hidden: 0,
        }
    }

    /// Adds rows.
    pub(super) fn rows(mut self, rows: impl Iterator<Item = Vec<String>>) -> Self {
        self.rows.extend(rows);
        self
    }

    /// Adds a row for each of the first `top` of `all`, of which `name` and `cells` make the first cell and the
    /// others; 0 is all. Names are as short as tells those apart that are shown.
    pub(super) fn named_rows<T>(
        mut self,
        all: &[T],
        top: usize,
        name: impl Fn(&T) -> &str,
        cells: impl Fn(&T) -> Vec<String>,
    ) -> Self {
        let shown = match top {
            0 => all,
            _ => &all[..top.min(all.len())],
        };
        let names: Vec<&str> = shown.iter().map(name).collect();
        let rows = shown.iter().zip(short_apart(&names)).map(|(row, name)| {
            let mut cells = cells(row);
            cells.insert(0, name);
            cells
        });
        self.hidden += all.len() - shown.len();
        self.rows(rows)
    }
}

impl fmt::Display for Table {
    /// Nothing without rows; else the table after an empty line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return Ok(());
        }
        let lines = || std::iter::once(&self.header).chain(&self.rows);
        let width = |column: usize| {
            let cells = lines().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        writeln!(f)?;
        for line in lines() {
            let mut text = String::new();
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                // Into a string, which takes everything.
                let _ = match column {
                    0 => write!(text, "{cell:<width$}"),
                    _ => write!(text, "  {cell:>width$}"),
                };
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        if self.hidden > 0 {
            writeln!(f, "and {} more (--top 0 shows all)", self.hidden)?;
        }
        Ok(())
    }
}

/// A name that fits, on one line.
pub(super) fn short(name: &str) -> String {
    shortened(name, MAX_NAME)
}

/// Different names on one line each, as short as [`short`] where they then still differ.
fn short_apart(names: &[&str]) -> Vec<String> {
    let mut width = MAX_NAME;
    loop {
        let short: Vec<String> = names.iter().map(|name| shortened(name, width)).collect();
        let differ = short.iter().collect::<HashSet<_>>().len() == names.len();
        if differ || width >= MAX_NAME_APART {
            return short;
        }
        width *= 2;
    }
}

fn shortened(name: &str, width: usize) -> String {
    let name: Vec<char> = escaped(name).chars().collect();
    if name.len() <= width {
        return name.into_iter().collect();
    }
    let (head, tail) = (width * 2 / 3, width / 3 - 1);
    let tail = &name[name.len() - tail..];
    name[..head].iter().chain(&['…']).chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_hidden_rows_are_counted() {
        let rows = [["a", "1.0"], ["bcd", "10.0"], ["e", "0.1"]];
        let cells = |row: &[&str; 2]| vec![row[1].to_owned()];
        let table = Table::new(&["Kernels", "ms"]).named_rows(&rows, 2, |row| row[0], cells);
        assert_eq!(
            table.to_string(),
            "\nKernels    ms\na         1.0\nbcd      10.0\nand 1 more (--top 0 shows all)\n"
        );
        assert_eq!(Table::new(&["Empty", "ms"]).to_string(), "");
    }

    #[test]
    fn long_and_hostile_names_fit_on_a_line() {
        let long = format!("{}{}", "a".repeat(100), "z".repeat(100));
        let name = short(&long);
        assert_eq!(name.chars().count(), MAX_NAME);
        assert!(name.starts_with("aaa") && name.contains('…') && name.ends_with("zzz"));
        let other = format!("{}-{}", &long[..70], &long[71..]);
        let apart = short_apart(&[&long, &other]);
        assert_ne!(apart[0], apart[1]);
        assert_eq!(apart[0].chars().count(), 2 * MAX_NAME);
        assert_eq!(short("a\u{1b}[31m\nb"), r"a\u{1b}[31m\nb");
    }
}
