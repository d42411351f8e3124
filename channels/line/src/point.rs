//! A tag, as the sensor knows it: a name, and how the text of its value is read and written.

use bulkhead_sdk::{DataType, DeviceId, Scalar, TagId, Value};

use crate::protocol::MAX_NAME;

/// What an address looks like, for people.
pub const HELP: &str = "The name of a value as the sensor knows it, such as temp: 1 to 32 of a-z A-Z 0-9 _ - .\n\
                        Types: bool (0 or 1), all integers, float32, float64 and string.";

/// A tag.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its id.
    pub tag: TagId,
    /// The sensor's.
    pub device: DeviceId,
    /// What the sensor calls it.
    pub name: String,
    /// The type of its values.
    pub data_type: DataType,
}

/// What is wrong with a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no name; write 1 to {MAX_NAME} of a-z A-Z 0-9 _ - . such as temp")]
pub struct NotAName {
    given: String,
}

/// Checks a name: one that has a blank or a line break in it would be another question.
///
/// # Errors
///
/// [`NotAName`]
pub fn name(given: &str) -> Result<String, NotAName> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if (1..=MAX_NAME).contains(&given.len()) && given.chars().all(allowed) {
        Ok(given.to_owned())
    } else {
        Err(NotAName {
            given: given.to_owned(),
        })
    }
}

/// Whether values of a type go over the line.
pub fn is_spoken(data_type: DataType) -> bool {
    data_type.length.is_none() && data_type.scalar != Scalar::Bytes
}

/// The value that a text stands for; `None` where it stands for none of this type.
pub fn read(text: &str, data_type: DataType) -> Option<Value> {
    let value = match data_type.scalar {
        Scalar::Bool => match text {
            "0" => Value::Boolean(false),
            "1" => Value::Boolean(true),
            _ => return None,
        },
        Scalar::Float32 | Scalar::Float64 => Value::Float(decimal(text)?),
        Scalar::String => Value::Text(text.to_owned()),
        Scalar::Bytes => return None,
        scalar if scalar.signed_range().is_some() => Value::Int(whole(text)?.parse().ok()?),
        _ => Value::Uint(whole(text)?.parse().ok()?),
    };
    data_type.accepts(&value).then_some(value)
}

/// A decimal number. Rust would read `inf` and `nan` too, which no sensor measures.
fn decimal(text: &str) -> Option<f64> {
    let digits = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    let number = text.chars().all(digits).then(|| text.parse().ok())??;
    f64::is_finite(number).then_some(number)
}

/// Digits, with a minus before them or not.
fn whole(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// A value as text; `None` where a line cannot carry it.
pub fn write(value: &Value) -> Option<String> {
    match value {
        Value::Boolean(on) => Some(u8::from(*on).to_string()),
        Value::Int(number) => Some(number.to_string()),
        Value::Uint(number) => Some(number.to_string()),
        Value::Float(number) if number.is_finite() => Some(number.to_string()),
        Value::Text(text) => {
            let spoken = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            spoken.then(|| text.clone())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_nothing_that_would_be_another_question() {
        assert_eq!(name("temp.in-2_x").as_deref(), Ok("temp.in-2_x"));
        for wrong in ["", "a b", "a\r\nSET b 1", "größe", &"x".repeat(33)] {
            let fault = name(wrong).unwrap_err().to_string();
            assert!(fault.contains("is no name"), "{fault}");
        }
    }

    #[test]
    fn texts_are_read_by_type_and_nothing_is_guessed() {
        let check = |data_type: &str, text: &str, expected: Option<Value>| {
            let data_type = data_type.parse().expect("a data type");
            assert_eq!(read(text, data_type), expected, "{text:?} as {data_type}");
        };
        check("float64", "21.5", Some(Value::Float(21.5)));
        check("float64", "-1e3", Some(Value::Float(-1000.0)));
        for wrong in ["", "nan", "inf", "1e999", "21,5", "21.5 C", " 21.5"] {
            check("float64", wrong, None);
        }
        check("int16", "-5", Some(Value::Int(-5)));
        check("int16", "40000", None);
        check("uint8", "255", Some(Value::Uint(255)));
        for wrong in ["256", "-1", "+1", "1.0", "", "0x10"] {
            check("uint8", wrong, None);
        }
        check("bool", "1", Some(Value::Boolean(true)));
        check("bool", "2", None);
        check("string", "a b", Some(Value::Text("a b".to_owned())));
    }

    #[test]
    fn values_are_written_so_that_they_can_be_read() {
        for (data_type, value) in [
            ("float64", Value::Float(0.1)),
            ("float64", Value::Float(-1e300)),
            ("int64", Value::Int(i64::MIN)),
            ("uint64", Value::Uint(u64::MAX)),
            ("bool", Value::Boolean(true)),
            ("string", Value::Text("open".to_owned())),
        ] {
            let text = write(&value).expect("it can be written");
            assert_eq!(read(&text, data_type.parse().unwrap()), Some(value));
        }
        assert_eq!(write(&Value::Float(f64::NAN)), None);
        assert_eq!(write(&Value::Text("a\r\nSET b 1".to_owned())), None);
        assert_eq!(write(&Value::Bytes(vec![1])), None);
        assert_eq!(write(&Value::Texts(vec!["open".to_owned()])), None);
    }
}
