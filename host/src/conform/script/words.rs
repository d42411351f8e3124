//! A line of a script in its words: bare ones, `"quoted"` ones, and a table `{ ... }` at the end.
//!
//! Pure text; what the words mean stands in `parse`.

use serde_json::Value as Json;

use crate::bindings::types::Value;
use crate::event::{DataType, Scalar};

/// What is left of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn new(line: &'a str) -> Self {
        Self { rest: line.trim() }
    }

    /// Everything that was not taken yet.
    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next word, without its quotes.
    pub(super) fn next(&mut self) -> Result<Option<String>, String> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        if self.rest.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
            let text = match values.next() {
                Some(Ok(text)) => text,
                Some(Err(_)) | None => {
                    return Err(
                        "a quoted word has no end, or an escape that JSON does not have".to_owned(),
                    );
                }
            };
            self.rest = self.rest[values.byte_offset()..].trim_start();
            return Ok(Some(text));
        }
        let end = self
            .rest
            .find(char::is_whitespace)
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        Ok(Some(word.to_owned()))
    }

    /// The next word, which must be there.
    pub(super) fn need(&mut self, what: &str) -> Result<String, String> {
        self.next()?.ok_or_else(|| format!("{what} is missing"))
    }

    /// Takes this word if it comes next.
    pub(super) fn skip(&mut self, word: &str) -> bool {
        let mut ahead = *self;
        let is_next = !self.rest.starts_with('"')
            && ahead.next().is_ok_and(|next| next.as_deref() == Some(word));
        if is_next {
            *self = ahead;
        }
        is_next
    }

    /// The number after `key=`, if that comes next.
    pub(super) fn number(&mut self, key: &str) -> Result<Option<u32>, String> {
        let mut ahead = *self;
        let word = ahead.next()?;
        let Some(digits) = word
            .as_deref()
            .and_then(|word| word.strip_prefix(key)?.strip_prefix('='))
        else {
            return Ok(None);
        };
        *self = ahead;
        digits
            .parse()
            .map(Some)
            .map_err(|_| format!("{key}={digits} is no number"))
    }

    /// A table, if it comes next: all the rest of the line, as TOML writes it.
    pub(super) fn table(&mut self) -> Result<Option<Json>, String> {
        if !self.rest.starts_with('{') {
            return Ok(None);
        }
        let text = format!("table = {}", self.rest);
        let parsed: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| error.message().to_owned())?;
        self.rest = "";
        let table = parsed
            .get("table")
            .cloned()
            .unwrap_or(toml::Value::Table(toml::Table::new()));
        serde_json::to_value(table)
            .map(Some)
            .map_err(|error| error.to_string())
    }

    /// A JSON value that comes next, as the value of a tag of this type.
    pub(super) fn value(&mut self, data_type: DataType) -> Result<Value, String> {
        if self.skip("nan") {
            return Ok(Value::Float(f64::NAN));
        }
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<Json>();
        let json = match values.next() {
            Some(Ok(json)) => json,
            Some(Err(_)) | None => {
                return Err(format!(
                    "{:?} begins with no value; write true, 42, 1.5, \"text\", \"hex:0102\" or [1, 2]",
                    self.rest
                ));
            }
        };
        self.rest = self.rest[values.byte_offset()..].trim_start();
        from_json(&json, data_type)
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), String> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(format!("{:?} is too much on this line", self.rest))
        }
    }
}

/// A JSON value as one of a tag of this type.
pub(super) fn from_json(json: &Json, data_type: DataType) -> Result<Value, String> {
    let bad = || format!("{json} is no {data_type}");
    let value = match (json, data_type.elements) {
        (Json::Bool(value), None) => Value::Boolean(*value),
        (Json::Number(_), None) => number(json, data_type.scalar).ok_or_else(bad)?,
        (Json::String(text), None) if data_type.scalar == Scalar::Bytes => {
            let bytes = text
                .strip_prefix("hex:")
                .and_then(|digits| super::super::pattern::Pattern::parse(digits).ok());
            Value::Bytes(
                bytes
                    .and_then(|bytes| bytes.render(&Default::default()).ok())
                    .ok_or_else(bad)?,
            )
        }
        (Json::String(text), None) => Value::Text(text.clone()),
        (Json::Array(all), Some(_)) => array(all, data_type.scalar).ok_or_else(bad)?,
        _ => return Err(bad()),
    };
    if data_type.admits(&value.clone().into()) {
        Ok(value)
    } else {
        Err(bad())
    }
}

fn number(json: &Json, scalar: Scalar) -> Option<Value> {
    match scalar {
        Scalar::Float32 => Some(Value::Float(f64::from(json.as_f64()? as f32))),
        Scalar::Float64 => Some(Value::Float(json.as_f64()?)),
        scalar => {
            let (least, most) = scalar.integer_range()?;
            let fits = |number: i128| (least..=most).contains(&number);
            if least < 0 {
                json.as_i64()
                    .filter(|number| fits((*number).into()))
                    .map(Value::Int)
            } else {
                json.as_u64()
                    .filter(|number| fits((*number).into()))
                    .map(Value::Uint)
            }
        }
    }
}

fn array(all: &[Json], scalar: Scalar) -> Option<Value> {
    match scalar {
        Scalar::Bool => all
            .iter()
            .map(Json::as_bool)
            .collect::<Option<_>>()
            .map(Value::Booleans),
        Scalar::Float32 => {
            let floats = all
                .iter()
                .map(|json| Some(f64::from(json.as_f64()? as f32)));
            floats.collect::<Option<_>>().map(Value::Floats)
        }
        Scalar::Float64 => all
            .iter()
            .map(Json::as_f64)
            .collect::<Option<_>>()
            .map(Value::Floats),
        Scalar::String => all
            .iter()
            .map(|json| json.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .map(Value::Texts),
        scalar => {
            let (least, _) = scalar.integer_range()?;
            if least < 0 {
                all.iter()
                    .map(Json::as_i64)
                    .collect::<Option<_>>()
                    .map(Value::Ints)
            } else {
                all.iter()
                    .map(Json::as_u64)
                    .collect::<Option<_>>()
                    .map(Value::Uints)
            }
        }
    }
}

/// Whether two values say the same. Any form of a number may stand for it, as the ABI lets drivers choose.
pub(super) fn same(expected: &Value, found: &Value) -> bool {
    fn numbers(value: &Value) -> Option<(bool, Vec<f64>, Vec<i128>)> {
        Some(match value {
            Value::Int(value) => (false, vec![*value as f64], vec![i128::from(*value)]),
            Value::Uint(value) => (false, vec![*value as f64], vec![i128::from(*value)]),
            Value::Float(value) => (false, vec![*value], Vec::new()),
            Value::Ints(all) => (
                true,
                all.iter().map(|value| *value as f64).collect(),
                all.iter().map(|value| i128::from(*value)).collect(),
            ),
            Value::Uints(all) => (
                true,
                all.iter().map(|value| *value as f64).collect(),
                all.iter().map(|value| i128::from(*value)).collect(),
            ),
            Value::Floats(all) => (true, all.clone(), Vec::new()),
            _ => return None,
        })
    }
    match (expected, found) {
        (Value::Boolean(a), Value::Boolean(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Booleans(a), Value::Booleans(b)) => a == b,
        (Value::Texts(a), Value::Texts(b)) => a == b,
        (a, b) => match (numbers(a), numbers(b)) {
            (Some((many, floats, whole)), Some((also_many, other_floats, other_whole))) => {
                let exactly =
                    whole.len() == floats.len() && other_whole.len() == other_floats.len();
                many == also_many
                    && floats.len() == other_floats.len()
                    && if exactly {
                        whole == other_whole
                    } else {
                        floats
                            .iter()
                            .zip(&other_floats)
                            .all(|(a, b)| a == b || (a.is_nan() && b.is_nan()))
                    }
            }
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_apart() {
        let mut words = Words::new(
            r#" tag temp "sine(period=10s, max=1)" float64 rw requests=3 { a = [1], b = "x" }"#,
        );
        let mut taken = Vec::new();
        for _ in 0..4 {
            taken.push(words.need("a word").unwrap());
        }
        assert_eq!(taken, ["tag", "temp", "sine(period=10s, max=1)", "float64"]);
        assert!(!words.skip("ro") && words.skip("rw"));
        assert_eq!(words.number("failed"), Ok(None));
        assert_eq!(words.number("requests"), Ok(Some(3)));
        assert_eq!(
            words.table().unwrap().unwrap(),
            serde_json::json!({"a": [1], "b": "x"})
        );
        assert_eq!(words.end(), Ok(()));
        assert!(Words::new("\"open").next().is_err());
    }

    #[test]
    fn values_are_of_their_type() {
        let value = |text: &str, kind: &str| Words::new(text).value(DataType::parse(kind).unwrap());
        assert!(matches!(value("42", "int16"), Ok(Value::Int(42))));
        assert!(matches!(
            value("18446744073709551615", "uint64"),
            Ok(Value::Uint(u64::MAX))
        ));
        assert!(
            matches!(value("0.1", "float32"), Ok(Value::Float(float)) if float == f64::from(0.1_f32))
        );
        assert!(matches!(value("[1, -2] good", "int8[2]"), Ok(Value::Ints(all)) if all == [1, -2]));
        assert!(
            matches!(value("[\"a b\", \"\"] good", "string[2]"), Ok(Value::Texts(all)) if all == ["a b", ""])
        );
        assert!(matches!(value("\"hex:01ff\"", "bytes"), Ok(Value::Bytes(all)) if all == [1, 255]));
        for (text, kind) in [
            ("42", "bool"),
            ("1.5", "int16"),
            ("[1]", "int8[2]"),
            ("\"x\"", "bytes"),
            ("[\"x\"]", "string[2]"),
            ("[\"x\", 1]", "string[2]"),
            ("[\"x\", \"y\"]", "bytes[2]"),
            ("good", "int16"),
        ] {
            assert!(value(text, kind).is_err(), "{text} {kind}");
        }
    }

    #[test]
    fn a_number_is_the_same_in_every_form() {
        assert!(same(&Value::Int(3), &Value::Uint(3)) && same(&Value::Float(3.0), &Value::Uint(3)));
        assert!(!same(
            &Value::Int(i64::MAX),
            &Value::Uint(i64::MAX as u64 - 1)
        ));
        assert!(
            !same(&Value::Int(1), &Value::Boolean(true))
                && !same(&Value::Ints(vec![1]), &Value::Int(1))
        );
        assert!(same(&Value::Float(f64::NAN), &Value::Float(f64::NAN)));
        let texts = |all: &[&str]| Value::Texts(all.iter().map(ToString::to_string).collect());
        assert!(same(&texts(&["a", "b"]), &texts(&["a", "b"])));
        assert!(!same(&texts(&["a", "b"]), &texts(&["b", "a"])));
        assert!(!same(&texts(&["a"]), &Value::Text("a".to_owned())));
    }
}
