//! JSON files of a checkpoint, parsed within bounds; errors name the file, line and column.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use super::fault::{INCOMPLETE, fault, fault_with_hint};
use crate::error::Result;

/// Deepest nesting of arrays and objects. `serde_json` has the same limit, but only for values it
/// keeps, not for those it skips.
const MAX_NESTING: usize = 128;

/// Most tensors that one file may name; Qwen-Image's transformer has 1,933.
const MAX_TENSORS: usize = 100_000;

/// The safetensors format keeps this key for free text.
const METADATA_KEY: &str = "__metadata__";

/// Parses `bytes`, the content of `file`.
///
/// # Errors
/// Text that is not JSON, is no object, does not fit `T` or is nested too deeply.
pub fn parse_json<'a, T: Deserialize<'a>>(file: &str, bytes: &'a [u8]) -> Result<T> {
    if bytes.is_empty() {
        return Err(fault_with_hint(file, "the file is empty", INCOMPLETE));
    }
    let depth = nesting(bytes);
    if depth > MAX_NESTING {
        return Err(fault(
            file,
            format!("nested {depth} levels deep, expected at most {MAX_NESTING}"),
        ));
    }
    let parsed = serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => fault(file, error),
        Category::Eof => fault_with_hint(file, format!("not valid JSON: {error}"), INCOMPLETE),
        _ => fault(file, format!("not valid JSON: {error}")),
    });
    parsed.map(|Object(value)| value)
}

/// Depth of the deepest array or object.
fn nesting(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A value written as an object; `serde` would take an array of a struct's fields, too, and an empty
/// one for a struct with defaults.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// A JSON object with one entry a tensor: none twice, and not more than [`MAX_TENSORS`].
///
/// The `safetensors` crate's own map keeps the last of two equal keys and buffers every value,
/// 16 bytes of memory for each byte of a hostile header.
#[derive(Debug)]
pub(super) struct TensorMap<V>(pub(super) BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for TensorMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TensorMapVisitor(PhantomData))
    }
}

struct TensorMapVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for TensorMapVisitor<V> {
    type Value = TensorMap<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with one entry for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tensors = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA_KEY {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map
                .next_value()
                .map_err(|error| A::Error::custom(format!("tensor `{name}`: {error}")))?;
            if tensors.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
            if tensors.contains_key(&name) {
                return Err(A::Error::custom(format!("tensor `{name}` appears twice")));
            }
            tensors.insert(name, value);
        }
        Ok(TensorMap(tensors))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::Value;

    use super::*;

    #[test]
    fn nesting_does_not_count_brackets_in_strings() {
        assert_eq!(nesting(br#"{"a": ["[[[", "\"[[", {"b": []}]}"#), 4);
    }

    #[test]
    fn skipped_values_are_bounded_too() {
        #[derive(Deserialize)]
        struct Nothing {}
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        let error = parse_json::<Nothing>("f.json", deep.as_bytes())
            .err()
            .unwrap();
        assert_eq!(
            error.to_string(),
            "f.json: nested 201 levels deep, expected at most 128"
        );
    }

    #[test]
    fn errors_name_file_line_and_column() {
        let error = parse_json::<Value>("f.json", b"{\n  \"a\": NaN\n}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "f.json: not valid JSON: expected value at line 2 column 8"
        );
    }

    #[test]
    fn tensor_maps_name_the_tensor_and_the_place() {
        let parse = |text: &str| parse_json::<TensorMap<u8>>("f", text.as_bytes());
        assert_eq!(parse(r#"{"__metadata__": {}, "a": 1}"#).unwrap().0["a"], 1);
        assert_eq!(
            parse(r#"{"a": 1, "a": 2}"#).unwrap_err().to_string(),
            "f: tensor `a` appears twice at line 1 column 16"
        );
        let error = parse(r#"{"a": -1}"#).unwrap_err().to_string();
        assert!(
            error.starts_with("f: tensor `a`: invalid value: integer `-1`, expected u8 at line 1")
        );
        assert_eq!(error.matches("line").count(), 1, "{error}");
    }
}
