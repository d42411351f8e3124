//! What a broker says when it says no, in a sentence with its remedy. Codes of MQTT 5 in section 2.4, of 3.1.1 in section 3.2.2.3.

use crate::config::MqttVersion;

/// The packet is larger than the broker takes.
pub(super) const TOO_LARGE: u8 = 0x95;
/// From here on a code means no.
const FIRST_REFUSAL: u8 = 0x80;

pub(super) fn is_refusal(code: u8) -> bool {
    code >= FIRST_REFUSAL
}

/// Why it does not let us in.
pub(super) fn not_let_in(version: MqttVersion, code: u8, reason: Option<&str>) -> String {
    let (what, remedy) = match (version, code) {
        (MqttVersion::V5, 0x84 | 1) => ("it does not speak MQTT 5", "write `version = \"3.1.1\"`"),
        (MqttVersion::V311, 1) => ("it does not speak MQTT 3.1.1", "write `version = \"5\"`"),
        (_, 0x85) | (MqttVersion::V311, 2) => (
            "it does not take the client id",
            "write another `client_id`",
        ),
        (_, 0x86) | (MqttVersion::V311, 4) => (
            "user name or password is wrong",
            "correct `username` and what `password` leads to",
        ),
        (_, 0x87) | (MqttVersion::V311, 5) => (
            "this client is not authorized",
            "correct `username` and what `password` leads to, or let the broker admit this client",
        ),
        (_, 0x88) | (MqttVersion::V311, 3) => ("it is not available", "see to the broker"),
        (_, 0x89) => ("it is busy", "wait, or see to the broker"),
        (_, 0x8A) => ("this client is banned", "let the broker admit it"),
        (_, 0x8C) => (
            "it wants another way to log in",
            "let it take `username` and `password`, or a certificate",
        ),
        (_, 0x90) => (
            "it does not take the topic of the will",
            "write another `prefix`, or `status = false`",
        ),
        (_, TOO_LARGE) => (
            "the first packet is too large",
            "let the broker take larger packets",
        ),
        (_, 0x97 | 0x9F) => ("a quota is used up", "raise it at the broker"),
        (_, 0x9A) => (
            "it keeps no retained messages",
            "write `status = false` and `retain = false`",
        ),
        (_, 0x9B) => ("it takes QoS 0 only", "write `qos = 0`"),
        (_, 0x9C | 0x9D) => (
            "it wants another broker to be used",
            "write that one as `url`",
        ),
        _ => ("", "see the broker's own log"),
    };
    said(
        "the broker refuses the connection",
        what,
        code,
        reason,
        remedy,
    )
}

/// Why it does not take a message.
pub(super) fn not_taken(code: u8, reason: Option<&str>) -> String {
    let (what, remedy) = match code {
        0x87 => (
            "this client may not publish to the topic",
            "allow it in the broker's access list, or write another `topic`",
        ),
        0x90 => ("it does not take the topic", "write another `topic`"),
        TOO_LARGE => ("it is too large", "let the broker take larger messages"),
        0x97 => ("a quota is used up", "raise it at the broker"),
        0x99 => ("it does not take the payload", "let the broker take JSON"),
        _ => ("", "see the broker's own log"),
    };
    said("the broker refuses a message", what, code, reason, remedy)
}

/// Why it ends a connection.
pub(super) fn ended(code: u8, reason: Option<&str>) -> String {
    let (what, remedy) = match code {
        0x82 | 0x81 => (
            "it finds a packet malformed",
            "tell the authors of the sink",
        ),
        0x87 => (
            "this client is not authorized",
            "allow it in the broker's access list",
        ),
        0x89 => ("it is busy", "wait, or see to the broker"),
        0x8B => ("it is shut down", "start it again"),
        0x8D => ("it heard nothing for too long", "raise `keep_alive`"),
        0x8E => (
            "another client has come with the same client id",
            "write another `client_id` in one of them",
        ),
        0x93 => ("too many messages were on their way", "lower `in_flight`"),
        TOO_LARGE => (
            "a packet is too large",
            "lower `max_payload`, or let the broker take larger packets",
        ),
        0x96 | 0x9F => ("messages come too fast", "raise the broker's limit"),
        0x97 => ("a quota is used up", "raise it at the broker"),
        0x98 => (
            "somebody has ended it at the broker",
            "see the broker's own log",
        ),
        0x9A => (
            "it keeps no retained messages",
            "write `status = false` and `retain = false`",
        ),
        0x9B => ("it takes QoS 0 only", "write `qos = 0`"),
        0x9C | 0x9D => (
            "it wants another broker to be used",
            "write that one as `url`",
        ),
        _ => ("", "see the broker's own log"),
    };
    said(
        "the broker ended the connection",
        what,
        code,
        reason,
        remedy,
    )
}

/// Why it sends us no writes.
pub(super) fn not_subscribed(code: u8, filter: &str) -> String {
    format!(
        "the broker refuses the subscription to {filter} (code 0x{code:02X}), so no writes come; allow it in the broker's access list, or write `writes = false`"
    )
}

fn said(beginning: &str, what: &str, code: u8, reason: Option<&str>, remedy: &str) -> String {
    let what = if what.is_empty() {
        String::new()
    } else {
        format!(": {what}")
    };
    let own = reason
        .map(|reason| format!(", {reason}"))
        .unwrap_or_default();
    format!("{beginning}{what} (code 0x{code:02X}{own}); {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_sentence_with_a_remedy() {
        for code in 0..=u8::MAX {
            for version in [MqttVersion::V311, MqttVersion::V5] {
                let said = not_let_in(version, code, None);
                assert!(said.contains("; ") && !said.contains(": ("), "{said}");
            }
            for said in [not_taken(code, Some("why")), ended(code, Some("why"))] {
                assert!(said.contains(", why); "), "{said}");
            }
        }
        assert_eq!(
            not_let_in(MqttVersion::V311, 4, None),
            "the broker refuses the connection: user name or password is wrong (code 0x04); correct `username` and what `password` leads to"
        );
    }
}
