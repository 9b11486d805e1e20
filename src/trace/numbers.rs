//! Numbers as people read them.

/// Fewer decimals the larger the number is.
fn decimals(number: f64) -> usize {
    match number.abs() {
        1e4.. => 0,
        1e2.. => 1,
        1.0.. => 2,
        _ => 3,
    }
}

pub(super) fn fixed(number: f64) -> String {
    format!("{number:.*}", decimals(number))
}

pub(super) fn signed(number: f64) -> String {
    format!("{number:+.*}", decimals(number))
}

pub(super) fn percent(number: f64) -> String {
    format!("{number:.1} %")
}

#[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
pub(super) fn mb(bytes: u64) -> String {
    fixed(bytes as f64 / 1e6)
}

/// How many there are of what is called `one`, or `many` where it is not one.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
