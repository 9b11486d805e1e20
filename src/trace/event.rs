//! One event of a trace file, as far as it is reported on.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::names::{NameId, Names};

/// Beyond 60 years a time is none. An event may begin and last that long, before the epoch, too: the
/// difference of two ends is three times this, which fits.
const MAX_NS: f64 = 2e18;

/// An event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) phase: Phase,
    pub(super) category: Category,
    pub(super) name: NameId,
    /// Where the row is a number.
    pub(super) pid: Option<i64>,
    pub(super) tid: Option<i64>,
    /// Nanoseconds.
    pub(super) at: i64,
    pub(super) duration: i64,
    pub(super) args: Args,
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

/// The arguments of an event.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Args {
    pub(super) correlation: Option<u32>,
    pub(super) bytes: u64,
    pub(super) occupancy_pct: Option<f32>,
    /// Bytes in tensors on a device.
    pub(super) device_allocated: Option<u64>,
    /// Bytes of the process in memory.
    pub(super) host_resident: Option<u64>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Ph,
    Cat,
    Name,
    Pid,
    Tid,
    Ts,
    Dur,
    Args,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(field_identifier)]
enum ArgKey {
    #[serde(rename = "correlation")]
    Correlation,
    #[serde(rename = "bytes")]
    Bytes,
    #[serde(rename = "est. achieved occupancy %")]
    Occupancy,
    #[serde(rename = "warps per SM")]
    Warps,
    #[serde(rename = "Total Allocated")]
    Allocated,
    #[serde(rename = "Device Type")]
    DeviceType,
    #[serde(rename = "resident MiB")]
    Resident,
    #[serde(other)]
    Other,
}

/// Reads an event; its name goes into the names.
pub(super) struct EventSeed<'a>(pub(super) &'a mut Names);

impl<'de> DeserializeSeed<'de> for EventSeed<'_> {
    type Value = Event;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Event, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EventSeed<'_> {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let mut event = Event {
            phase: Phase::Other,
            category: Category::Other,
            name: self.0.id(""),
            pid: None,
            tid: None,
            at: 0,
            duration: 0,
            args: Args::default(),
        };
        while let Some(key) = map.next_key()? {
            match key {
                Key::Ph => event.phase = map.next_value()?,
                Key::Cat => event.category = map.next_value()?,
                Key::Name => event.name = map.next_value_seed(NameSeed(self.0))?,
                Key::Pid => event.pid = map.next_value::<Number>()?.integer(),
                Key::Tid => event.tid = map.next_value::<Number>()?.integer(),
                Key::Ts => event.at = nanoseconds(map.next_value()?),
                Key::Dur => event.duration = nanoseconds(map.next_value()?),
                Key::Args => event.args = map.next_value::<Option<_>>()?.unwrap_or_default(),
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(event)
    }
}

impl<'de> Deserialize<'de> for Args {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ArgsVisitor)
    }
}

struct ArgsVisitor;

impl<'de> Visitor<'de> for ArgsVisitor {
    type Value = Args;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("arguments")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Args, A::Error> {
        let mut args = Args::default();
        let (mut allocated, mut device_type, mut warps) = (None, None, None);
        while let Some(key) = map.next_key()? {
            if matches!(key, ArgKey::Other) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let number: Number = map.next_value()?;
            match key {
                ArgKey::Correlation => args.correlation = number.positive(),
                ArgKey::Bytes => args.bytes = number.bytes(1.0).unwrap_or(0),
                ArgKey::Occupancy => args.occupancy_pct = number.percent(),
                ArgKey::Warps => warps = number.0,
                ArgKey::Allocated => allocated = number.bytes(1.0),
                ArgKey::DeviceType => device_type = number.integer(),
                ArgKey::Resident => args.host_resident = number.bytes(1024.0 * 1024.0),
                ArgKey::Other => {}
            }
        }
        // Kineto writes 0 where it could not tell; one warp of 64 is 2 % already.
        if warps >= Some(1.0) {
            args.occupancy_pct = args.occupancy_pct.filter(|percent| *percent > 0.0);
        }
        if device_type == Some(1) {
            args.device_allocated = allocated;
        }
        Ok(args)
    }
}

/// Interns a string.
struct NameSeed<'a>(&'a mut Names);

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = NameId;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<NameId, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed<'_> {
    type Value = NameId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<NameId, E> {
        Ok(self.0.id(name))
    }
}

/// A number, or something else that is passed over: old traces have text in its place.
#[derive(Debug, Clone, Copy)]
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

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor)
    }
}

struct NumberVisitor;

#[expect(
    clippy::cast_precision_loss,
    reason = "byte counts and ids are below 2^53"
)]
impl<'de> Visitor<'de> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
        Ok(Number(Some(number as f64)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
        Ok(Number(Some(number as f64)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
        Ok(Number(Some(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Number, E> {
        Ok(Number(
            text.parse().ok().filter(|number: &f64| number.is_finite()),
        ))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Number, E> {
        Ok(Number(None))
    }

    fn visit_unit<E>(self) -> Result<Number, E> {
        Ok(Number(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Number, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Number(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Number, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Number(None))
    }
}
