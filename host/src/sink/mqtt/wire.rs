//! The packets of MQTT 3.1.1 and 5, as far as a sink needs them: bytes in and out, nothing else. Pure.
//!
//! A client of both versions with QoS 0 and 1 takes nine packets. They are written here, rather than taken from a library, since
//! the libraries keep what is unacknowledged and send it again by themselves, beside the sink that is given it again; and since each
//! version would be a library of its own.
//!
//! What comes from the broker is not trusted: lengths are checked against what is there, of a packet that is longer than
//! [`LONGEST`] only the beginning is kept, and what is against the protocol is a [`Fault`], never a panic.
//!
//! Numbers in brackets are sections of the OASIS standard of version 5; those of 3.1.1 are the same where nothing is said.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::config::{MqttVersion, Qos};

/// Of an incoming packet, so much is kept, in bytes: a write with its topic, and more than all else that comes.
pub(super) const LONGEST: usize = 1 << 20;
/// The most bytes of a packet behind its head [1.5.5].
const MAX_REMAINING: usize = 268_435_455;
/// The longest text that a broker may give as its reason, in bytes; the rest is cut.
const MAX_REASON: usize = 200;

/// What a broker sent that no broker may send, or a beginning of it that cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the broker does not keep to MQTT: {0}; check that `url` names a broker, and its `version`"
)]
pub(super) struct Fault(&'static str);

/// What a connection begins with.
pub(super) struct Connect<'a> {
    pub(super) version: MqttVersion,
    pub(super) client_id: &'a str,
    pub(super) username: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    /// In seconds.
    pub(super) keep_alive: u16,
    pub(super) clean: bool,
    /// Topic and payload of the will, which is retained.
    pub(super) will: Option<(&'a str, &'a str)>,
    pub(super) qos: Qos,
}

/// How long a broker keeps a session that is not clean, in seconds. Only version 5 asks.
const SESSION_EXPIRY: u32 = 24 * 3_600;

/// A message out.
pub(super) struct Publish<'a> {
    pub(super) version: MqttVersion,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) topic: &'a str,
    /// At most 65,535 bytes, and only in version 5.
    pub(super) correlation: Option<&'a [u8]>,
    pub(super) payload: &'a [u8],
}

/// What comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    ConnAck(ConnAck),
    Publish(Message),
    PubAck {
        id: u16,
        code: u8,
        reason: Option<String>,
    },
    SubAck {
        code: u8,
    },
    PingResp,
    Disconnect {
        code: u8,
        reason: Option<String>,
    },
}

/// Whether the broker lets us in, and what it asks of us then [3.2].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ConnAck {
    pub(super) code: u8,
    pub(super) reason: Option<String>,
    pub(super) receive_maximum: Option<u16>,
    pub(super) maximum_packet: Option<u32>,
    pub(super) maximum_qos: Option<u8>,
    pub(super) retain_available: Option<bool>,
    /// In seconds.
    pub(super) keep_alive: Option<u16>,
}

/// A message in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) repeated: bool,
    pub(super) retained: bool,
    pub(super) topic: String,
    /// Its identifier, which it is acknowledged by.
    pub(super) id: Option<u16>,
    pub(super) response_topic: Option<String>,
    pub(super) correlation: Option<Bytes>,
    /// `None` if it is too long.
    pub(super) payload: Option<Bytes>,
}

/// Appends a CONNECT [3.1].
pub(super) fn connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    let is_v5 = connect.version == MqttVersion::V5;
    let mut body = Vec::with_capacity(128);
    field(&mut body, b"MQTT");
    body.push(if is_v5 { 5 } else { 4 });
    let mut flags = 0u8;
    flags |= u8::from(connect.clean) << 1;
    if connect.will.is_some() {
        // Retained, with the QoS of everything else.
        flags |= 1 << 2 | quality(connect.qos) << 3 | 1 << 5;
    }
    flags |= u8::from(connect.password.is_some()) << 6;
    flags |= u8::from(connect.username.is_some()) << 7;
    body.push(flags);
    body.extend_from_slice(&connect.keep_alive.to_be_bytes());
    if is_v5 {
        let mut properties = Vec::new();
        if !connect.clean {
            properties.push(property::SESSION_EXPIRY);
            properties.extend_from_slice(&SESSION_EXPIRY.to_be_bytes());
        }
        properties.push(property::MAXIMUM_PACKET);
        let longest = u32::try_from(LONGEST).unwrap_or(u32::MAX);
        properties.extend_from_slice(&longest.to_be_bytes());
        length(&mut body, properties.len());
        body.extend_from_slice(&properties);
    }
    field(&mut body, connect.client_id.as_bytes());
    if let Some((topic, payload)) = connect.will {
        if is_v5 {
            length(&mut body, 0);
        }
        field(&mut body, topic.as_bytes());
        field(&mut body, payload.as_bytes());
    }
    for text in [connect.username, connect.password].into_iter().flatten() {
        field(&mut body, text.as_bytes());
    }
    packet(out, kind::CONNECT << 4, &body);
}

/// Appends a PUBLISH [3.3], and says where its identifier belongs.
pub(super) fn publish(out: &mut Vec<u8>, publish: &Publish<'_>) -> Option<usize> {
    let has_id = publish.qos == Qos::AtLeastOnce;
    let properties = publish.correlation.map_or(0, |data| 3 + data.len());
    let with_length = match publish.version {
        MqttVersion::V311 => 0,
        MqttVersion::V5 => length_of(properties) + properties,
    };
    let topic = publish.topic.as_bytes();
    out.push(kind::PUBLISH << 4 | quality(publish.qos) << 1 | u8::from(publish.retain));
    length(
        out,
        2 + topic.len() + usize::from(has_id) * 2 + with_length + publish.payload.len(),
    );
    field(out, topic);
    let id_at = has_id.then_some(out.len());
    if has_id {
        out.extend_from_slice(&[0, 0]);
    }
    if publish.version == MqttVersion::V5 {
        length(out, properties);
        if let Some(data) = publish.correlation {
            out.push(property::CORRELATION);
            field(out, data);
        }
    }
    out.extend_from_slice(publish.payload);
    id_at
}

/// Appends a PUBACK [3.4].
pub(super) fn puback(out: &mut Vec<u8>, id: u16) {
    packet(out, kind::PUBACK << 4, &id.to_be_bytes());
}

/// Appends a SUBSCRIBE [3.8] to one filter: nothing that was retained before, and what is retained says so.
pub(super) fn subscribe(out: &mut Vec<u8>, version: MqttVersion, id: u16, filter: &str, qos: Qos) {
    const RETAIN_AS_PUBLISHED: u8 = 1 << 3;
    const SEND_NONE_RETAINED: u8 = 2 << 4;
    let mut body = id.to_be_bytes().to_vec();
    let mut options = quality(qos);
    if version == MqttVersion::V5 {
        length(&mut body, 0);
        options |= RETAIN_AS_PUBLISHED | SEND_NONE_RETAINED;
    }
    field(&mut body, filter.as_bytes());
    body.push(options);
    packet(out, kind::SUBSCRIBE << 4 | 2, &body);
}

/// Appends a PINGREQ [3.12].
pub(super) fn ping(out: &mut Vec<u8>) {
    packet(out, kind::PINGREQ << 4, &[]);
}

/// Appends a DISCONNECT that means it [3.14]: the will is dropped.
pub(super) fn disconnect(out: &mut Vec<u8>) {
    packet(out, kind::DISCONNECT << 4, &[]);
}

/// Writes a packet's identifier where it belongs.
pub(super) fn number(bytes: &mut [u8], at: usize, id: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

fn quality(qos: Qos) -> u8 {
    match qos {
        Qos::AtMostOnce => 0,
        Qos::AtLeastOnce => 1,
    }
}

fn packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    length(out, body.len());
    out.extend_from_slice(body);
}

/// A text or data with its length before it [1.5.4, 1.5.6]. Topics, names and secrets are bounded where they are read.
fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes.get(..usize::from(length)).unwrap_or_default());
}

/// Seven bits in each byte, the lowest first [1.5.5].
fn length(out: &mut Vec<u8>, number: usize) {
    let mut rest = number.min(MAX_REMAINING);
    loop {
        let low = u8::try_from(rest % 128).unwrap_or_default();
        rest /= 128;
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | 128);
    }
}

/// How many bytes a length takes.
fn length_of(number: usize) -> usize {
    match number {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    }
}

mod kind {
    pub(super) const CONNECT: u8 = 1;
    pub(super) const CONNACK: u8 = 2;
    pub(super) const PUBLISH: u8 = 3;
    pub(super) const PUBACK: u8 = 4;
    pub(super) const SUBSCRIBE: u8 = 8;
    pub(super) const SUBACK: u8 = 9;
    pub(super) const PINGREQ: u8 = 12;
    pub(super) const PINGRESP: u8 = 13;
    pub(super) const DISCONNECT: u8 = 14;
}

/// [2.2.2.2]
mod property {
    pub(super) const RESPONSE_TOPIC: u8 = 8;
    pub(super) const CORRELATION: u8 = 9;
    pub(super) const SESSION_EXPIRY: u8 = 17;
    pub(super) const KEEP_ALIVE: u8 = 19;
    pub(super) const REASON: u8 = 31;
    pub(super) const RECEIVE_MAXIMUM: u8 = 33;
    pub(super) const MAXIMUM_QOS: u8 = 36;
    pub(super) const RETAIN_AVAILABLE: u8 = 37;
    pub(super) const MAXIMUM_PACKET: u8 = 39;
}

/// What came and is not read yet.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) bytes: BytesMut,
    /// So many of the bytes to come are the rest of a packet that is too long.
    skip: usize,
}

impl Inbox {
    /// The next packet, if it is there.
    pub(super) fn next(&mut self, version: MqttVersion) -> Result<Option<Packet>, Fault> {
        let skipped = self.skip.min(self.bytes.len());
        self.bytes.advance(skipped);
        self.skip -= skipped;
        let Some((head, remaining)) = remaining(&self.bytes)? else {
            return Ok(None);
        };
        let kept = remaining.min(LONGEST);
        if self.bytes.len() < head + kept {
            return Ok(None);
        }
        let first = self.bytes.first().copied().unwrap_or_default();
        self.bytes.advance(head);
        let body = self.bytes.split_to(kept).freeze();
        self.skip = remaining - kept;
        read(first, body, self.skip > 0, version).map(Some)
    }
}

/// How long the head of a packet is, and how long what follows it.
fn remaining(bytes: &[u8]) -> Result<Option<(usize, usize)>, Fault> {
    let mut number = 0usize;
    for (at, byte) in bytes.iter().skip(1).take(4).enumerate() {
        number |= usize::from(byte & 127) << (7 * at);
        if byte & 128 == 0 {
            return Ok(Some((at + 2, number)));
        }
    }
    match bytes.len() {
        0..=4 => Ok(None),
        _ => Err(Fault("the length of a packet has more than four bytes")),
    }
}

fn read(first: u8, body: Bytes, is_cut: bool, version: MqttVersion) -> Result<Packet, Fault> {
    let mut body = Reader(body);
    if is_cut && first >> 4 != kind::PUBLISH {
        return Err(Fault("a packet is longer than any of its kind"));
    }
    match first >> 4 {
        kind::CONNACK => {
            body.byte()?;
            let mut ack = ConnAck {
                code: body.byte()?,
                ..ConnAck::default()
            };
            // A broker that knows nothing of version 5 says so as 3.1.1 does.
            if version == MqttVersion::V5 && !body.is_empty() {
                let properties = body.properties()?;
                ack.reason = properties.reason;
                ack.receive_maximum = properties.receive_maximum;
                ack.maximum_packet = properties.maximum_packet;
                ack.maximum_qos = properties.maximum_qos;
                ack.retain_available = properties.retain_available;
                ack.keep_alive = properties.keep_alive;
            }
            Ok(Packet::ConnAck(ack))
        }
        kind::PUBLISH => {
            let topic = body.text()?;
            let id = match first >> 1 & 3 {
                0 => None,
                1 => Some(body.number()?),
                _ => return Err(Fault("a message has a QoS that was not asked for")),
            };
            let properties = match version {
                MqttVersion::V5 => body.properties()?,
                MqttVersion::V311 => Properties::default(),
            };
            Ok(Packet::Publish(Message {
                repeated: first & 8 != 0,
                retained: first & 1 != 0,
                topic,
                id,
                response_topic: properties.response_topic,
                correlation: properties.correlation,
                payload: (!is_cut).then_some(body.0),
            }))
        }
        kind::PUBACK => {
            let id = body.number()?;
            let (code, reason) = body.code_and_reason()?;
            Ok(Packet::PubAck { id, code, reason })
        }
        kind::SUBACK => {
            body.number()?;
            if version == MqttVersion::V5 {
                body.properties()?;
            }
            Ok(Packet::SubAck { code: body.byte()? })
        }
        kind::PINGRESP => Ok(Packet::PingResp),
        kind::DISCONNECT if version == MqttVersion::V5 => {
            let (code, reason) = body.code_and_reason()?;
            Ok(Packet::Disconnect { code, reason })
        }
        _ => Err(Fault("a packet came that no broker sends to such a client")),
    }
}

/// The properties that matter here.
#[derive(Default)]
struct Properties {
    response_topic: Option<String>,
    correlation: Option<Bytes>,
    keep_alive: Option<u16>,
    reason: Option<String>,
    receive_maximum: Option<u16>,
    maximum_qos: Option<u8>,
    retain_available: Option<bool>,
    maximum_packet: Option<u32>,
}

const SHORT: Fault = Fault("a packet ends too early");

struct Reader(Bytes);

impl Reader {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<Bytes, Fault> {
        if count > self.0.len() {
            return Err(SHORT);
        }
        Ok(self.0.split_to(count))
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.0.try_get_u8().map_err(|_| SHORT)
    }

    fn number(&mut self) -> Result<u16, Fault> {
        self.0.try_get_u16().map_err(|_| SHORT)
    }

    fn long(&mut self) -> Result<u32, Fault> {
        self.0.try_get_u32().map_err(|_| SHORT)
    }

    fn length(&mut self) -> Result<usize, Fault> {
        let mut number = 0usize;
        for at in 0..4 {
            let byte = self.byte()?;
            number |= usize::from(byte & 127) << (7 * at);
            if byte & 128 == 0 {
                return Ok(number);
            }
        }
        Err(Fault("a length has more than four bytes"))
    }

    fn data(&mut self) -> Result<Bytes, Fault> {
        let length = self.number()?;
        self.take(usize::from(length))
    }

    fn text(&mut self) -> Result<String, Fault> {
        let data = self.data()?;
        let text = std::str::from_utf8(&data).map_err(|_| Fault("a text is no UTF-8"))?;
        Ok(text.to_owned())
    }

    /// Both may be left out, the second or both [3.4.2.1].
    fn code_and_reason(&mut self) -> Result<(u8, Option<String>), Fault> {
        if self.is_empty() {
            return Ok((0, None));
        }
        let code = self.byte()?;
        if self.is_empty() {
            return Ok((code, None));
        }
        Ok((code, self.properties()?.reason))
    }

    fn properties(&mut self) -> Result<Properties, Fault> {
        let length = self.length()?;
        let mut rest = Reader(self.take(length)?);
        let mut found = Properties::default();
        while !rest.is_empty() {
            match rest.byte()? {
                property::RESPONSE_TOPIC => found.response_topic = Some(rest.text()?),
                property::CORRELATION => found.correlation = Some(rest.data()?),
                property::KEEP_ALIVE => found.keep_alive = Some(rest.number()?),
                property::REASON => {
                    found.reason = Some(crate::text::shown(&rest.text()?, MAX_REASON))
                }
                property::RECEIVE_MAXIMUM => found.receive_maximum = Some(rest.number()?),
                property::MAXIMUM_QOS => found.maximum_qos = Some(rest.byte()?),
                property::RETAIN_AVAILABLE => found.retain_available = Some(rest.byte()? != 0),
                property::MAXIMUM_PACKET => found.maximum_packet = Some(rest.long()?),
                // Those that mean nothing to a sink, by the form of their values.
                1 | 23 | 25 | 40 | 41 | 42 => {
                    rest.byte()?;
                }
                34 | 35 => {
                    rest.number()?;
                }
                2 | 17 | 24 => {
                    rest.long()?;
                }
                11 => {
                    rest.length()?;
                }
                3 | 18 | 21 | 22 | 26 | 28 => {
                    rest.data()?;
                }
                38 => {
                    rest.data()?;
                    rest.data()?;
                }
                _ => return Err(Fault("a property is unknown")),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8], version: MqttVersion) -> Result<Vec<Packet>, Fault> {
        let mut inbox = Inbox::default();
        let mut packets = Vec::new();
        // Byte by byte, as bad as a network can be.
        for byte in bytes {
            inbox.bytes.extend_from_slice(&[*byte]);
            while let Some(packet) = inbox.next(version)? {
                packets.push(packet);
            }
        }
        Ok(packets)
    }

    #[test]
    fn packets_are_written_as_the_standard_has_them() {
        let mut out = Vec::new();
        let hello = Connect {
            version: MqttVersion::V311,
            client_id: "c",
            username: Some("u"),
            password: Some("p"),
            keep_alive: 30,
            clean: true,
            will: Some(("s", "off")),
            qos: Qos::AtLeastOnce,
        };
        connect(&mut out, &hello);
        assert_eq!(
            out,
            b"\x10\x1b\0\x04MQTT\x04\xee\0\x1e\0\x01c\0\x01s\0\x03off\0\x01u\0\x01p"
        );
        out.clear();
        connect(
            &mut out,
            &Connect {
                version: MqttVersion::V5,
                username: None,
                password: None,
                will: None,
                clean: false,
                ..hello
            },
        );
        assert_eq!(
            out,
            b"\x10\x18\0\x04MQTT\x05\0\0\x1e\x0a\x11\0\x01\x51\x80\x27\0\x10\0\0\0\x01c"
        );

        let message = |version, qos| Publish {
            version,
            qos,
            retain: true,
            topic: "a/b",
            correlation: None,
            payload: b"{}",
        };
        let check = |publish_it: &Publish<'_>, expected: &[u8], id_at: Option<usize>| {
            let mut out = Vec::new();
            assert_eq!(publish(&mut out, publish_it), id_at);
            if let Some(at) = id_at {
                number(&mut out, at, 0x0102);
            }
            assert_eq!(out, expected);
        };
        check(
            &message(MqttVersion::V311, Qos::AtMostOnce),
            b"\x31\x07\0\x03a/b{}",
            None,
        );
        check(
            &message(MqttVersion::V311, Qos::AtLeastOnce),
            b"\x33\x09\0\x03a/b\x01\x02{}",
            Some(7),
        );
        check(
            &message(MqttVersion::V5, Qos::AtLeastOnce),
            b"\x33\x0a\0\x03a/b\x01\x02\0{}",
            Some(7),
        );
        let with = Publish {
            correlation: Some(b"xy"),
            retain: false,
            ..message(MqttVersion::V5, Qos::AtMostOnce)
        };
        check(&with, b"\x30\x0d\0\x03a/b\x05\x09\0\x02xy{}", None);

        out.clear();
        subscribe(&mut out, MqttVersion::V5, 7, "a/+", Qos::AtLeastOnce);
        subscribe(&mut out, MqttVersion::V311, 7, "a/+", Qos::AtLeastOnce);
        puback(&mut out, 258);
        ping(&mut out);
        disconnect(&mut out);
        assert_eq!(
            out,
            b"\x82\x09\0\x07\0\0\x03a/+\x29\x82\x08\0\x07\0\x03a/+\x01\x40\x02\x01\x02\xc0\0\xe0\0"
        );
    }

    #[test]
    fn lengths_take_as_many_bytes_as_they_need() {
        for (number, expected) in [
            (0, &[0][..]),
            (127, &[127]),
            (128, &[128, 1]),
            (16_383, &[255, 127]),
            (16_384, &[128, 128, 1]),
            (MAX_REMAINING, &[255, 255, 255, 127]),
        ] {
            let mut out = vec![0x30];
            length(&mut out, number);
            assert_eq!(
                (&out[1..], length_of(number)),
                (expected, expected.len()),
                "{number}"
            );
            assert_eq!(remaining(&out), Ok(Some((out.len(), number))));
            assert_eq!(remaining(&out[..out.len() - 1]), Ok(None));
        }
        assert!(remaining(&[0x30, 128, 128, 128, 128]).is_err());
    }

    #[test]
    fn packets_are_read_however_they_come() {
        let bytes = b"\x20\x09\0\0\x06\x21\0\x14\x24\x01\x28\
            \x01\x20\x13\0\x87\x10\x1f\0\x06no way\x26\0\x01a\0\x01b";
        // The first one has a property that is cut by its own length.
        assert!(read_all(bytes, MqttVersion::V5).is_err());
        let bytes = b"\x20\x0d\0\0\x0a\x21\0\x14\x27\0\0\x10\0\x24\x01\
            \x40\x0c\0\x07\x97\x08\x1f\0\x05quota\x40\x02\0\x08\xd0\0\
            \x3b\x11\0\x01t\0\x09\x0a\x08\0\x01r\x09\0\x03abcX\
            \x90\x04\0\x01\0\x87\xe0\x01\x8e\xe0\0";
        let packets = read_all(bytes, MqttVersion::V5).unwrap();
        let expected = [
            Packet::ConnAck(ConnAck {
                receive_maximum: Some(20),
                maximum_packet: Some(4_096),
                maximum_qos: Some(1),
                ..ConnAck::default()
            }),
            Packet::PubAck {
                id: 7,
                code: 0x97,
                reason: Some("quota".to_owned()),
            },
            Packet::PubAck {
                id: 8,
                code: 0,
                reason: None,
            },
            Packet::PingResp,
            Packet::Publish(Message {
                repeated: true,
                retained: true,
                topic: "t".to_owned(),
                id: Some(9),
                response_topic: Some("r".to_owned()),
                correlation: Some(Bytes::from_static(b"abc")),
                payload: Some(Bytes::from_static(b"X")),
            }),
            Packet::SubAck { code: 0x87 },
            Packet::Disconnect {
                code: 0x8E,
                reason: None,
            },
            Packet::Disconnect {
                code: 0,
                reason: None,
            },
        ];
        assert_eq!(packets, expected);
        assert_eq!(
            read_all(b"\x20\x02\0\x01", MqttVersion::V5).unwrap(),
            [Packet::ConnAck(ConnAck {
                code: 1,
                ..ConnAck::default()
            })]
        );
    }

    #[test]
    fn a_message_that_is_too_long_is_passed_over() {
        let mut bytes = vec![0x32];
        length(&mut bytes, LONGEST + 5_000);
        field(&mut bytes, b"a/topic");
        bytes.extend_from_slice(&[0, 9]);
        bytes.resize(bytes.len() + LONGEST + 5_000 - 11, b'x');
        bytes.extend_from_slice(b"\xd0\0");
        let mut inbox = Inbox::default();
        let mut packets = Vec::new();
        let mut most = 0;
        for piece in bytes.chunks(1_000) {
            inbox.bytes.extend_from_slice(piece);
            while let Some(packet) = inbox.next(MqttVersion::V311).unwrap() {
                packets.push(packet);
            }
            most = most.max(inbox.bytes.len());
        }
        let [Packet::Publish(message), Packet::PingResp] = &packets[..] else {
            panic!("{packets:?}");
        };
        assert_eq!(
            (message.topic.as_str(), message.id, &message.payload),
            ("a/topic", Some(9), &None)
        );
        assert!(most <= LONGEST + 1_000, "{most}");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = b"\x20\x0d\0\0\x0a\x21\0\x14\x27\0\0\x10\0\x24\x01\x3b\x11\0\x01t\0\x09\x0a\x08\0\x01r\x09\0\x03abcX";
        fastrand::seed(6);
        for _ in 0..20_000 {
            let mut bytes = whole.to_vec();
            for _ in 0..fastrand::usize(1..6) {
                let at = fastrand::usize(..bytes.len());
                bytes[at] = fastrand::u8(..);
            }
            for version in [MqttVersion::V311, MqttVersion::V5] {
                read_all(&bytes, version).ok();
            }
        }
    }
}
