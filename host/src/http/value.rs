//! A JSON value as one that a tag takes.
//!
//! The form follows the JSON; whether it fits the tag, in type and range, is the tag's own business
//! ([`crate::tags::to_device`]). Only where JSON has no form of its own does the tag's type decide what a string means.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value as Json;

use crate::event::{DataType, Scalar, Value};

/// Reads a value for a tag of this type, or says what is wrong with it.
pub(crate) fn from_json(data_type: DataType, json: &Json) -> Result<Value, String> {
    match json {
        Json::Null => Err("null is no value that could be written".into()),
        Json::Object(_) => Err("an object is no value that could be written".into()),
        Json::Bool(v) => Ok(Value::Boolean(*v)),
        Json::Number(_) => Ok(match number(json) {
            Some(Number::Int(v)) => Value::Int(v),
            Some(Number::Uint(v)) => Value::Uint(v),
            Some(Number::Float(v)) => Value::Float(v),
            None => return Err("the number is out of all bounds".into()),
        }),
        Json::String(text) => string(data_type.scalar, text),
        Json::Array(all) => array(data_type.scalar, all),
    }
}

fn string(scalar: Scalar, text: &str) -> Result<Value, String> {
    match scalar {
        Scalar::Bytes => match BASE64.decode(text) {
            Ok(bytes) => Ok(Value::Bytes(bytes.into())),
            Err(error) => Err(format!(
                "bytes are written in base64, and this is none: {error}"
            )),
        },
        Scalar::Float32 | Scalar::Float64 => {
            Ok(not_finite(text).map_or_else(|| Value::Text(text.into()), Value::Float))
        }
        _ => Ok(Value::Text(text.into())),
    }
}

/// What JSON has no numbers for.
fn not_finite(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

enum Number {
    Int(i64),
    /// Above what a signed one holds.
    Uint(u64),
    Float(f64),
}

fn number(json: &Json) -> Option<Number> {
    if let Some(v) = json.as_i64() {
        return Some(Number::Int(v));
    }
    if let Some(v) = json.as_u64() {
        return Some(Number::Uint(v));
    }
    json.as_f64().map(Number::Float)
}

fn array(scalar: Scalar, all: &[Json]) -> Result<Value, String> {
    if all.len() > Value::MAX_ELEMENTS {
        return Err(format!(
            "an array has at most {} elements",
            Value::MAX_ELEMENTS
        ));
    }
    if scalar == Scalar::Bool {
        let all: Option<Box<[bool]>> = all.iter().map(Json::as_bool).collect();
        return all
            .map(Value::Booleans)
            .ok_or_else(|| "the array holds other things than true and false".into());
    }
    if scalar == Scalar::String {
        let all: Option<Box<[Box<str>]>> =
            all.iter().map(|one| one.as_str().map(Into::into)).collect();
        return all
            .map(Value::Texts)
            .ok_or_else(|| "the array holds other things than strings".into());
    }
    if let Some(all) = all.iter().map(Json::as_i64).collect() {
        return Ok(Value::Ints(all));
    }
    if let Some(all) = all.iter().map(Json::as_u64).collect() {
        return Ok(Value::Uints(all));
    }
    let one = |json: &Json| json.as_f64().or_else(|| json.as_str().and_then(not_finite));
    let all: Option<Box<[f64]>> = all.iter().map(one).collect();
    all.map(Value::Floats)
        .ok_or_else(|| "the array holds other things than numbers".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::JsonValue;

    fn check(kind: &str, json: &str, expected: Result<Value, &str>) {
        let data_type = DataType::parse(kind).unwrap();
        let parsed: Json = serde_json::from_str(json).unwrap();
        match (from_json(data_type, &parsed), expected) {
            (Ok(actual), Ok(expected)) => {
                assert_eq!(actual, expected, "{kind} {json}");
                assert_eq!(
                    serde_json::to_value(JsonValue(&actual)).unwrap(),
                    parsed,
                    "and back"
                );
            }
            (Err(actual), Err(part)) => assert!(actual.contains(part), "{kind} {json}: {actual}"),
            (actual, expected) => panic!("{kind} {json}: {actual:?}, not {expected:?}"),
        }
    }

    #[test]
    fn json_is_read_by_its_own_form_and_no_digit_is_lost() {
        check("bool", "true", Ok(Value::Boolean(true)));
        check("int64", "-9223372036854775808", Ok(Value::Int(i64::MIN)));
        check(
            "int64",
            "9007199254740993",
            Ok(Value::Int(9_007_199_254_740_993)),
        );
        check("uint64", "18446744073709551615", Ok(Value::Uint(u64::MAX)));
        check("float64", "21.5", Ok(Value::Float(21.5)));
        check(
            "float64",
            "\"-Infinity\"",
            Ok(Value::Float(f64::NEG_INFINITY)),
        );
        check("string", "\"NaN\"", Ok(Value::Text("NaN".into())));
        check("int16", "\"21\"", Ok(Value::Text("21".into())));
        check("bytes", "\"AP8Q\"", Ok(Value::Bytes([0, 255, 16].into())));
        check("bytes", "\"!\"", Err("base64"));
        check("int16", "null", Err("null"));
        check("int16", "{}", Err("object"));
    }

    #[test]
    fn arrays_are_of_one_kind() {
        check(
            "bool[2]",
            "[true,false]",
            Ok(Value::Booleans([true, false].into())),
        );
        check("int16[2]", "[1,-2]", Ok(Value::Ints([1, -2].into())));
        check(
            "uint64[2]",
            "[1,18446744073709551615]",
            Ok(Value::Uints([1, u64::MAX].into())),
        );
        check(
            "float32[2]",
            "[1.5,-2.0]",
            Ok(Value::Floats([1.5, -2.0].into())),
        );
        check(
            "float32[2]",
            "[1.5,\"Infinity\"]",
            Ok(Value::Floats([1.5, f64::INFINITY].into())),
        );
        check(
            "string[2]",
            r#"["NaN",""]"#,
            Ok(Value::Texts(["NaN".into(), "".into()].into())),
        );
        check("string[1]", "[]", Ok(Value::Texts([].into())));
        check("int16[2]", "[1,true]", Err("other things than numbers"));
        check("int16[1]", r#"["a"]"#, Err("other things than numbers"));
        check("string[2]", r#"["a",1]"#, Err("other things than strings"));
        check("string[1]", "[null]", Err("other things than strings"));
        check("bool[2]", "[1,true]", Err("other things than true"));
    }
}
