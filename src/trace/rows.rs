//! What is told of operators, kernels and copies, in text and on a page alike: the columns and what
//! stands in them.

use super::numbers::{fixed, mb, percent};
use super::report::{CopyRow, KernelRow, OperatorRow};

/// A row that has a name.
pub(super) trait Row {
    /// What all of them are.
    const TITLE: &'static str;
    /// What one is.
    const ONE: &'static str;

    fn name(&self) -> &str;

    /// None where a share says nothing.
    fn share_pct(&self) -> Option<f64>;

    /// Headers with what stands under them, after the name.
    fn columns(&self, has_device: bool) -> Vec<(&'static str, String)>;

    /// The headers of all columns, `name` over the names.
    fn header(&self, name: &'static str, has_device: bool) -> Vec<&'static str> {
        let columns = self.columns(has_device).into_iter();
        let headers = columns.map(|(header, _)| header);
        std::iter::once(name).chain(headers).collect()
    }

    /// What stands in the columns after the name.
    fn cells(&self, has_device: bool) -> Vec<String> {
        let columns = self.columns(has_device).into_iter();
        columns.map(|(_, cell)| cell).collect()
    }
}

impl Row for OperatorRow {
    const TITLE: &'static str = "Operators";
    const ONE: &'static str = "operator";

    fn name(&self) -> &str {
        &self.name
    }

    fn share_pct(&self) -> Option<f64> {
        Some(self.share_pct)
    }

    fn columns(&self, has_device: bool) -> Vec<(&'static str, String)> {
        let mut columns = vec![
            ("count", self.count.to_string()),
            ("host ms", fixed(self.host_ms)),
            ("self ms", fixed(self.host_self_ms)),
        ];
        if has_device {
            columns.push(("GPU ms", fixed(self.device_ms)));
        }
        columns.extend([
            ("mean us", fixed(self.mean_us)),
            ("share", percent(self.share_pct)),
        ]);
        columns
    }
}

impl Row for KernelRow {
    const TITLE: &'static str = "Kernels";
    const ONE: &'static str = "kernel";

    fn name(&self) -> &str {
        &self.name
    }

    fn share_pct(&self) -> Option<f64> {
        Some(self.share_pct)
    }

    fn columns(&self, _: bool) -> Vec<(&'static str, String)> {
        let occupancy = self.occupancy_pct.map_or_else(String::new, percent);
        vec![
            ("count", self.count.to_string()),
            ("total ms", fixed(self.total_ms)),
            ("mean us", fixed(self.mean_us)),
            ("share", percent(self.share_pct)),
            ("occupancy", occupancy),
        ]
    }
}

impl Row for CopyRow {
    const TITLE: &'static str = "Copies";
    const ONE: &'static str = "copy";

    fn name(&self) -> &str {
        &self.name
    }

    fn share_pct(&self) -> Option<f64> {
        None
    }

    fn columns(&self, _: bool) -> Vec<(&'static str, String)> {
        vec![
            ("count", self.count.to_string()),
            ("MB", mb(self.bytes)),
            ("total ms", fixed(self.total_ms)),
            ("GB/s", fixed(self.gb_per_s)),
        ]
    }
}
