//! What was typed as the value of a tag, as JSON for the API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value as Json;

use crate::event::{DataType, Scalar};

/// Reads text by the type of its tag, or says what is wrong with it.
pub(super) fn parse(data_type: &str, text: &str) -> Result<Json, String> {
    // A type that this version does not know gets what looks like JSON, and judges it itself.
    let Some(DataType { scalar, elements }) = DataType::parse(data_type) else {
        return Ok(serde_json::from_str(text).unwrap_or_else(|_| text.into()));
    };
    let wrong = |why: String| format!("`{text}` is no {data_type}: {why}");
    match elements {
        None => one(scalar, text).map_err(wrong),
        // A text may hold commas and blanks, so nothing less than JSON keeps several apart.
        Some(_) if scalar == Scalar::String => texts(text).map_err(wrong),
        Some(_) => {
            let inner = text.trim();
            let inner = inner
                .strip_prefix('[')
                .and_then(|inner| inner.strip_suffix(']'))
                .unwrap_or(inner);
            let all: Result<Vec<Json>, String> = inner
                .split(',')
                .map(|element| one(scalar, element.trim()))
                .collect();
            all.map(Json::Array).map_err(wrong)
        }
    }
}

fn one(scalar: Scalar, text: &str) -> Result<Json, String> {
    match scalar {
        Scalar::Bool => match text.to_ascii_lowercase().as_str() {
            "true" | "on" | "1" | "yes" => Ok(true.into()),
            "false" | "off" | "0" | "no" => Ok(false.into()),
            _ => Err("write true or false".into()),
        },
        Scalar::Float32 | Scalar::Float64 => float(text),
        Scalar::String => Ok(text.into()),
        Scalar::Bytes => match text.strip_prefix("0x") {
            Some(digits) => hexadecimal(digits).map(|bytes| BASE64.encode(bytes).into()),
            None => match BASE64.decode(text) {
                Ok(_) => Ok(text.into()),
                Err(_) => Err("write 0x and hexadecimal digits, or base64".into()),
            },
        },
        Scalar::Int8
        | Scalar::Uint8
        | Scalar::Int16
        | Scalar::Uint16
        | Scalar::Int32
        | Scalar::Uint32
        | Scalar::Int64
        | Scalar::Uint64 => integer(text),
    }
}

fn texts(text: &str) -> Result<Json, String> {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(all) => Ok(all.into()),
        Err(_) => Err(r#"write a JSON array of strings such as ["a", "b"]"#.into()),
    }
}

/// Whole numbers keep all their digits. Others are let through: the tag may be scaled.
fn integer(text: &str) -> Result<Json, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let magnitude = match digits.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse::<u64>().ok(),
        None => None,
    };
    match (magnitude, negative) {
        (Some(magnitude), false) => Ok(magnitude.into()),
        (Some(magnitude), true) => match 0i64.checked_sub_unsigned(magnitude) {
            Some(number) => Ok(number.into()),
            None => float(text),
        },
        (None, _) => float(text),
    }
}

fn float(text: &str) -> Result<Json, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "write a number such as 42 or 21.5".to_owned())?;
    if number.is_finite() {
        return Ok(number.into());
    }
    // JSON has no such numbers; the API takes these words, and the tag says what it thinks of them.
    Ok(if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
    .into())
}

fn hexadecimal(digits: &str) -> Result<Vec<u8>, String> {
    let wrong = || "write two hexadecimal digits for each byte".to_owned();
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return Err(wrong());
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_by_the_type_of_the_tag() {
        let check = |kind: &str, text: &str, expected: &str| {
            assert_eq!(
                parse(kind, text).unwrap().to_string(),
                expected,
                "{kind} {text}"
            );
        };
        check("bool", "ON", "true");
        check("bool", "0", "false");
        check("int16", "-7", "-7");
        check("int16", "0x2a", "42");
        check("int16", "21.5", "21.5");
        check("int64", "-9223372036854775808", "-9223372036854775808");
        check("uint64", "18446744073709551615", "18446744073709551615");
        check("uint64", "18446744073709551616", "1.8446744073709552e+19");
        check("float32", "1e-3", "0.001");
        check("float64", "nan", "\"NaN\"");
        check("float64", "-inf", "\"-Infinity\"");
        check("string", "21.5", "\"21.5\"");
        check("string", "", "\"\"");
        check("bytes", "0x00ff10", "\"AP8Q\"");
        check("bytes", "AP8Q", "\"AP8Q\"");
        check("int16[3]", "[1, 2,3]", "[1,2,3]");
        check("bool[2]", "on,off", "[true,false]");
        check("string[2]", r#" ["a, b", "\n"]"#, r#"["a, b","\n"]"#);
        check("something-new", "21.5", "21.5");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |kind: &str, text: &str, part: &str| {
            let wrong = parse(kind, text).unwrap_err();
            assert!(wrong.contains(part) && wrong.contains(kind), "{wrong}");
        };
        check("bool", "maybe", "true or false");
        check("int16", "seven", "a number");
        check("int16", "0x", "a number");
        check("int16", "+-7", "a number");
        check("int16[2]", "1,", "a number");
        for wrong in ["a, b", "[a, b]", r#"["a", 1]"#, r#""a""#, r#"["a"] x"#] {
            check("string[2]", wrong, "JSON array of strings");
        }
        check("bytes", "0xabc", "two hexadecimal digits");
        check("bytes", "!", "base64");
        check("bytes", "0xäa", "two hexadecimal digits");
    }
}
