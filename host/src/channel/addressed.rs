//! Whom a command is for, so that a device that an operator has locked is left in peace by commands too.
//!
//! The ABI gives a command a name and bytes, and no device. What can be known is a convention: a payload that is a JSON object says
//! `device` where it means one. A command that says none is for whatever the channel has; it is kept away where all of that is locked.

use serde_json::Value;

use super::{RequestError, Shared};
use crate::ids::DeviceId;

/// The refusal of a command, where whom it is for is locked.
pub(super) fn refusal(shared: &Shared, payload: &[u8]) -> Option<RequestError> {
    let devices = &shared.config().devices;
    let locked = |place: usize| {
        let device = DeviceId(u32::try_from(place).ok()?);
        shared.refusal_of_locked(device)
    };
    match device_of(payload) {
        Some(name) => locked(devices.iter().position(|device| device.name == name)?),
        None => {
            let first = locked(0)?;
            (1..devices.len())
                .all(|place| locked(place).is_some())
                .then_some(first)
        }
    }
}

/// The device that a payload names; of a name that stands there twice the last, as drivers read it.
fn device_of(payload: &[u8]) -> Option<String> {
    let Value::Object(mut members) = serde_json::from_slice(payload).ok()? else {
        return None;
    };
    match members.remove("device")? {
        Value::String(name) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_names_a_device_or_none() {
        let check = |payload: &str, expected: Option<&str>| {
            assert_eq!(
                device_of(payload.as_bytes()).as_deref(),
                expected,
                "{payload}"
            );
        };
        check(r#"{"device": "press"}"#, Some("press"));
        check(
            r#" {"address": "40001", "device": "press", "more": [1, {}]}"#,
            Some("press"),
        );
        check(r#"{"device": "other", "device": "press"}"#, Some("press"));
        check(r#"{"device": null}"#, None);
        check(r#"{"address": "40001"}"#, None);
        check(r#"["press"]"#, None);
        check(r#"{"device": 7}"#, None);
        check(r#"{"device": "press""#, None);
        check("", None);
        check("\u{0}device", None);
    }
}
