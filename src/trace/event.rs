//! One event of a trace file, as far as it is reported on.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::recorded::Span;
use crate::weights::Object;

/// Beyond 60 years a time is none. An event may begin and last that long, before the epoch, too: the
/// difference of two ends is three times this, which fits.
const MAX_NS: f64 = 2e18;

/// An event; times are in microseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "ph")]
    pub(super) phase: Phase,
    #[serde(rename = "cat")]
    pub(super) category: Category,
    pub(super) name: String,
    pid: Number,
    tid: Number,
    ts: f64,
    dur: f64,
    args: Option<Object<Args>>,
}

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(field_identifier)]
pub(super) enum Phase {
    #[serde(rename = "X")]
    Range,
    #[serde(rename = "i")]
    Instant,
    #[serde(rename = "C")]
    Counter,
    #[default]
    #[serde(other)]
    Other,
}

/// What a range shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
pub(super) enum Category {
    CpuOp,
    UserAnnotation,
    CudaRuntime,
    CudaDriver,
    Kernel,
    GpuMemcpy,
    GpuMemset,
    #[serde(rename = "Trace")]
    Trace,
    #[default]
    #[serde(other)]
    Other,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    correlation: Number,
    operator: Text,
    #[serde(rename = "operator index")]
    operator_index: Number,
    bytes: Number,
    #[serde(rename = "est. achieved occupancy %")]
    occupancy: Number,
    #[serde(rename = "warps per SM")]
    warps: Number,
    #[serde(rename = "Total Allocated")]
    allocated: Number,
    #[serde(rename = "Device Type")]
    device_type: Number,
    #[serde(rename = "resident MiB")]
    resident: Number,
}

impl Event {
    pub(super) fn span(&self) -> Span {
        let start = nanoseconds(self.ts);
        let end = start.saturating_add(nanoseconds(self.dur).max(0));
        Span { start, end }
    }

    /// Process and thread; rows with other names than numbers are no threads.
    pub(super) fn row(&self) -> Option<(i64, i64)> {
        self.pid.integer().zip(self.tid.integer())
    }

    fn arg<T>(&self, get: impl FnOnce(&Args) -> Option<T>) -> Option<T> {
        self.args.as_ref().and_then(|Object(args)| get(args))
    }

    pub(super) fn correlation(&self) -> Option<u32> {
        self.arg(|args| args.correlation.positive())
    }

    /// The operator that a graph's node was captured in, and which of the graph's that is.
    pub(super) fn operator(&self) -> Option<(&str, u32)> {
        let Object(args) = self.args.as_ref()?;
        let operator = args.operator.0.as_deref()?;
        Some((operator, args.operator_index.positive()?))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.arg(|args| args.bytes.bytes(1.0)).unwrap_or(0)
    }

    pub(super) fn occupancy_pct(&self) -> Option<f32> {
        self.arg(|args| {
            // Kineto writes 0 where it could not tell; one warp of 64 is 2 % already.
            let is_told = args.warps.0 < Some(1.0);
            (args.occupancy.percent()).filter(|percent| is_told || *percent > 0.0)
        })
    }

    /// Bytes in tensors on a device.
    pub(super) fn device_allocated(&self) -> Option<u64> {
        self.arg(|args| {
            let is_device = args.device_type.integer() == Some(1);
            args.allocated.bytes(1.0).filter(|_| is_device)
        })
    }

    /// Bytes of the process in memory.
    pub(super) fn host_resident(&self) -> Option<u64> {
        self.arg(|args| args.resident.bytes(1024.0 * 1024.0))
    }
}

/// A text, or something else that is passed over.
#[derive(Debug, Default)]
struct Text(Option<String>);

/// A number, or something else that is passed over: old traces have text in its place.
#[derive(Debug, Clone, Copy, Default)]
struct Number(Option<f64>);

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate"
)]
impl Number {
    fn integer(self) -> Option<i64> {
        self.0.map(|number| number as i64)
    }

    fn positive(self) -> Option<u32> {
        let number = u32::try_from(self.integer()?).ok()?;
        (number > 0).then_some(number)
    }

    fn bytes(self, unit: f64) -> Option<u64> {
        let bytes = self.0? * unit;
        (bytes >= 0.0).then_some(bytes as u64)
    }

    fn percent(self) -> Option<f32> {
        let percent = self.0.filter(|number| (0.0..=100.0).contains(number))?;
        Some(percent as f32)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "clamped")]
fn nanoseconds(microseconds: f64) -> i64 {
    (microseconds * 1e3).round().clamp(-MAX_NS, MAX_NS) as i64
}

/// What is kept of a value. Of another kind of value nothing is, however large it is.
trait Kept: Default {
    fn of_number(_number: f64) -> Self {
        Self::default()
    }

    fn of_text(_text: &str) -> Self {
        Self::default()
    }
}

impl Kept for Number {
    fn of_number(number: f64) -> Self {
        Self(Some(number))
    }

    fn of_text(text: &str) -> Self {
        Self(text.parse().ok().filter(|number: &f64| number.is_finite()))
    }
}

impl Kept for Text {
    fn of_text(text: &str) -> Self {
        Self(Some(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeptVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeptVisitor(PhantomData))
    }
}

struct KeptVisitor<T>(PhantomData<T>);

#[expect(
    clippy::cast_precision_loss,
    reason = "byte counts and ids are below 2^53"
)]
impl<'de, T: Kept> Visitor<'de> for KeptVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a text")
    }

    fn visit_u64<E>(self, number: u64) -> Result<T, E> {
        Ok(T::of_number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<T, E> {
        Ok(T::of_number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<T, E> {
        Ok(T::of_number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok(T::of_text(text))
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(T::default())
    }
}
