//! Events, tight. One byte says what happened; moments are told from the turn's `now`.
//!
//! The numbers of the kinds stand in files that people keep: a new kind gets a new number, and no number is used again.

use super::bytes::{
    Malformed, Reader, put_bool, put_bytes, put_f64, put_from, put_i64, put_option, put_u32,
    put_u64,
};
use crate::bindings::events::{
    Accepted, ActionKind, CloseReason, Closed, Command, Connection, Declined, Event, Happening,
    Opened, Outlook, Poll, Read, Received, Sent, Start, StartReason, Stop, StopReason, Write,
};
use crate::bindings::types::Value;

const START_REASONS: [StartReason; 7] = [
    StartReason::First,
    StartReason::RestartAfterFault,
    StartReason::ManualRestart,
    StartReason::HostRestart,
    StartReason::Reconfigured,
    StartReason::Swapped,
    StartReason::Moved,
];

const STOP_REASONS: [StopReason; 7] = [
    StopReason::Stopped,
    StopReason::Restarting,
    StopReason::Reconfigured,
    StopReason::Recycled,
    StopReason::Swapped,
    StopReason::Moved,
    StopReason::HostStopping,
];

const OUTLOOKS: [Outlook; 3] = [Outlook::Redialling, Outlook::GivenUp, Outlook::Ended];

const CLOSE_REASONS: [CloseReason; 12] = [
    CloseReason::Requested,
    CloseReason::ByPeer,
    CloseReason::Reset,
    CloseReason::Refused,
    CloseReason::TimedOut,
    CloseReason::Unreachable,
    CloseReason::Denied,
    CloseReason::TlsFailed,
    CloseReason::HeartbeatLost,
    CloseReason::HostStopping,
    CloseReason::ByOperator,
    CloseReason::PathGone,
];

const ACTION_KINDS: [ActionKind; 21] = [
    ActionKind::Open,
    ActionKind::Close,
    ActionKind::Reset,
    ActionKind::Send,
    ActionKind::Pause,
    ActionKind::StartTls,
    ActionKind::SetTimer,
    ActionKind::CancelTimer,
    ActionKind::Publish,
    ActionKind::PollDone,
    ActionKind::ReadDone,
    ActionKind::WriteDone,
    ActionKind::CommandProgress,
    ActionKind::CommandDone,
    ActionKind::DeviceState,
    ActionKind::Probe,
    ActionKind::Metric,
    ActionKind::Alarm,
    ActionKind::SaveState,
    ActionKind::HealthDone,
    ActionKind::Stopped,
];

/// Appends the place of an element in its table; the tables are whole, which a test asserts.
fn put_of<T: PartialEq>(out: &mut Vec<u8>, table: &[T], value: &T) {
    let place = table.iter().position(|entry| entry == value);
    put_u64(out, place.unwrap_or_default() as u64);
}

fn read_of<T: Copy>(reader: &mut Reader<'_>, table: &[T]) -> Result<T, Malformed> {
    let place = reader.u64()?;
    usize::try_from(place)
        .ok()
        .and_then(|place| table.get(place).copied())
        .ok_or_else(|| reader.malformed("a word that this version does not know"))
}

/// Appends one event of the turn that is taken at `now`.
pub(super) fn put_event(out: &mut Vec<u8>, event: &Event, now: u64) {
    put_from(out, now, event.at_ns);
    match &event.what {
        Happening::Started(start) => {
            out.push(0);
            put_u64(out, start.incarnation);
            put_of(out, &START_REASONS, &start.reason);
            put_option(out, start.state.as_ref(), |out, state| {
                put_bytes(out, state)
            });
            put_u64(out, start.connections.len() as u64);
            for connection in &start.connections {
                put_u32(out, connection.id);
                put_u32(out, connection.link);
                put_option(out, connection.target.as_ref(), |out, target| {
                    put_bytes(out, target.as_bytes());
                });
                put_bool(out, connection.secured);
                put_bytes(out, connection.peer.as_bytes());
                put_u32(out, connection.send_window);
            }
            put_u64(out, start.features.len() as u64);
            for feature in &start.features {
                put_bytes(out, feature.as_bytes());
            }
        }
        Happening::Stop(stop) => {
            out.push(1);
            put_from(out, stop.deadline_ns, now);
            put_of(out, &STOP_REASONS, &stop.reason);
        }
        Happening::Opened(opened) => {
            out.push(2);
            put_u32(out, opened.connection);
            put_u32(out, opened.link);
            put_bool(out, opened.secured);
            put_bytes(out, opened.peer.as_bytes());
            put_u32(out, opened.send_window);
        }
        Happening::Closed(closed) => {
            out.push(3);
            put_u32(out, closed.connection);
            put_of(out, &CLOSE_REASONS, &closed.reason);
            put_of(out, &OUTLOOKS, &closed.outlook);
        }
        Happening::Accepted(accepted) => {
            out.push(4);
            put_u32(out, accepted.listener);
            put_u32(out, accepted.connection);
            put_bytes(out, accepted.peer.as_bytes());
            put_u32(out, accepted.send_window);
        }
        Happening::Received(received) => {
            out.push(5);
            put_u32(out, received.connection);
            put_option(out, received.peer.as_ref(), |out, peer| {
                put_bytes(out, peer.as_bytes());
            });
            put_bytes(out, &received.bytes);
        }
        Happening::Sent(sent) => {
            out.push(6);
            put_u32(out, sent.connection);
            put_u32(out, sent.bytes);
        }
        Happening::Timer(timer) => {
            out.push(7);
            put_u32(out, *timer);
        }
        Happening::Poll(poll) => {
            out.push(8);
            put_u32(out, poll.group);
            put_u64(out, poll.cycle);
            put_from(out, poll.scheduled_ns, now);
            put_u64(out, poll.skip.len() as u64);
            for device in &poll.skip {
                put_u32(out, *device);
            }
        }
        Happening::Read(read) => {
            out.push(9);
            put_u64(out, read.request);
            put_u64(out, read.tags.len() as u64);
            for tag in &read.tags {
                put_u32(out, *tag);
            }
            put_from(out, read.deadline_ns, now);
        }
        Happening::Write(write) => {
            out.push(10);
            put_u64(out, write.request);
            put_u32(out, write.tag);
            put_value(out, &write.value);
            put_bool(out, write.read_back);
            put_from(out, write.deadline_ns, now);
        }
        Happening::Command(command) => {
            out.push(11);
            put_u64(out, command.request);
            put_bytes(out, command.name.as_bytes());
            put_bytes(out, &command.payload);
            put_from(out, command.deadline_ns, now);
        }
        Happening::Cancel(request) => {
            out.push(12);
            put_u64(out, *request);
        }
        Happening::Health(request) => {
            out.push(13);
            put_u64(out, *request);
        }
        Happening::Stored(id) => {
            out.push(14);
            put_u64(out, *id);
        }
        Happening::Declined(declined) => {
            out.push(15);
            put_of(out, &ACTION_KINDS, &declined.action);
            put_option(out, declined.connection.as_ref(), |out, connection| {
                put_u32(out, *connection);
            });
            put_option(out, declined.batch.as_ref(), |out, batch| {
                put_u64(out, *batch);
            });
            put_bytes(out, declined.why.as_bytes());
        }
    }
}

/// Reads one event of the turn that was taken at `now`.
pub(super) fn read_event(reader: &mut Reader<'_>, now: u64) -> Result<Event, Malformed> {
    // Written the other way about, since an event is never later than its turn.
    let at_ns = now.wrapping_sub(reader.from(0)?);
    let what = match reader.byte()? {
        0 => Happening::Started(Start {
            incarnation: reader.u64()?,
            reason: read_of(reader, &START_REASONS)?,
            state: reader.option(|reader| reader.bytes().map(<[u8]>::to_vec))?,
            connections: reader.list(6, |reader| {
                Ok(Connection {
                    id: reader.u32()?,
                    link: reader.u32()?,
                    target: reader.option(Reader::text)?,
                    secured: reader.bool()?,
                    peer: reader.text()?,
                    send_window: reader.u32()?,
                })
            })?,
            features: reader.list(1, Reader::text)?,
        }),
        1 => Happening::Stop(Stop {
            deadline_ns: reader.from(now)?,
            reason: read_of(reader, &STOP_REASONS)?,
        }),
        2 => Happening::Opened(Opened {
            connection: reader.u32()?,
            link: reader.u32()?,
            secured: reader.bool()?,
            peer: reader.text()?,
            send_window: reader.u32()?,
        }),
        3 => Happening::Closed(Closed {
            connection: reader.u32()?,
            reason: read_of(reader, &CLOSE_REASONS)?,
            outlook: read_of(reader, &OUTLOOKS)?,
        }),
        4 => Happening::Accepted(Accepted {
            listener: reader.u32()?,
            connection: reader.u32()?,
            peer: reader.text()?,
            send_window: reader.u32()?,
        }),
        5 => Happening::Received(Received {
            connection: reader.u32()?,
            peer: reader.option(Reader::text)?,
            bytes: reader.bytes()?.to_vec(),
        }),
        6 => Happening::Sent(Sent {
            connection: reader.u32()?,
            bytes: reader.u32()?,
        }),
        7 => Happening::Timer(reader.u32()?),
        8 => Happening::Poll(Poll {
            group: reader.u32()?,
            cycle: reader.u64()?,
            scheduled_ns: reader.from(now)?,
            skip: reader.list(1, Reader::u32)?,
        }),
        9 => Happening::Read(Read {
            request: reader.u64()?,
            tags: reader.list(1, Reader::u32)?,
            deadline_ns: reader.from(now)?,
        }),
        10 => Happening::Write(Write {
            request: reader.u64()?,
            tag: reader.u32()?,
            value: read_value(reader)?,
            read_back: reader.bool()?,
            deadline_ns: reader.from(now)?,
        }),
        11 => Happening::Command(Command {
            request: reader.u64()?,
            name: reader.text()?,
            payload: reader.bytes()?.to_vec(),
            deadline_ns: reader.from(now)?,
        }),
        12 => Happening::Cancel(reader.u64()?),
        13 => Happening::Health(reader.u64()?),
        14 => Happening::Stored(reader.u64()?),
        15 => Happening::Declined(Declined {
            action: read_of(reader, &ACTION_KINDS)?,
            connection: reader.option(Reader::u32)?,
            batch: reader.option(Reader::u64)?,
            why: reader.text()?,
        }),
        _ => return Err(reader.malformed("an event that this version does not know")),
    };
    Ok(Event { at_ns, what })
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Boolean(value) => {
            out.push(0);
            put_bool(out, *value);
        }
        Value::Int(value) => {
            out.push(1);
            put_i64(out, *value);
        }
        Value::Uint(value) => {
            out.push(2);
            put_u64(out, *value);
        }
        Value::Float(value) => {
            out.push(3);
            put_f64(out, *value);
        }
        Value::Text(text) => {
            out.push(4);
            put_bytes(out, text.as_bytes());
        }
        Value::Bytes(bytes) => {
            out.push(5);
            put_bytes(out, bytes);
        }
        Value::Booleans(all) => {
            out.push(6);
            put_all(out, all, |out, value| put_bool(out, *value));
        }
        Value::Ints(all) => {
            out.push(7);
            put_all(out, all, |out, value| put_i64(out, *value));
        }
        Value::Uints(all) => {
            out.push(8);
            put_all(out, all, |out, value| put_u64(out, *value));
        }
        Value::Floats(all) => {
            out.push(9);
            put_all(out, all, |out, value| put_f64(out, *value));
        }
        Value::Texts(all) => {
            out.push(10);
            put_all(out, all, |out, text| put_bytes(out, text.as_bytes()));
        }
    }
}

fn put_all<T>(out: &mut Vec<u8>, all: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    put_u64(out, all.len() as u64);
    for value in all {
        put(out, value);
    }
}

fn read_value(reader: &mut Reader<'_>) -> Result<Value, Malformed> {
    Ok(match reader.byte()? {
        0 => Value::Boolean(reader.bool()?),
        1 => Value::Int(reader.i64()?),
        2 => Value::Uint(reader.u64()?),
        3 => Value::Float(reader.f64()?),
        4 => Value::Text(reader.text()?),
        5 => Value::Bytes(reader.bytes()?.to_vec()),
        6 => Value::Booleans(reader.list(1, Reader::bool)?),
        7 => Value::Ints(reader.list(1, Reader::i64)?),
        8 => Value::Uints(reader.list(1, Reader::u64)?),
        9 => Value::Floats(reader.list(8, Reader::f64)?),
        10 => Value::Texts(reader.list(1, Reader::text)?),
        _ => return Err(reader.malformed("a value that this version does not know")),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One of each kind, with each of its optional parts.
    pub(in crate::recorder) fn every_kind() -> Vec<Event> {
        let values = [
            Value::Boolean(true),
            Value::Int(i64::MIN),
            Value::Uint(u64::MAX),
            Value::Float(-0.0),
            Value::Text("ä".into()),
            Value::Bytes(vec![0, 255]),
            Value::Booleans(vec![true, false]),
            Value::Ints(vec![-1, 1]),
            Value::Uints(vec![1 << 40]),
            Value::Floats(vec![f64::INFINITY, 1.5]),
            Value::Texts(vec!["ä".into(), String::new(), "b".into()]),
        ];
        let mut all = vec![
            Happening::Started(Start {
                incarnation: 7,
                reason: StartReason::Swapped,
                state: Some(vec![1, 2, 3]),
                connections: vec![Connection {
                    id: 3,
                    link: 1,
                    target: Some("10.0.0.9:502".into()),
                    secured: true,
                    peer: "10.0.0.9:502".into(),
                    send_window: 262_144,
                }],
                features: vec!["durable".into(), "metrics".into()],
            }),
            Happening::Opened(Opened {
                connection: 1,
                link: 2,
                secured: true,
                peer: "p".into(),
                send_window: 9,
            }),
            Happening::Accepted(Accepted {
                listener: 1,
                connection: 1 << 31,
                peer: "q".into(),
                send_window: 9,
            }),
            Happening::Received(Received {
                connection: 1,
                peer: Some("r".into()),
                bytes: vec![9; 300],
            }),
            Happening::Sent(Sent {
                connection: 1,
                bytes: u32::MAX,
            }),
            Happening::Timer(u32::MAX),
            Happening::Poll(Poll {
                group: 1,
                cycle: 1 << 33,
                scheduled_ns: 12,
                skip: vec![4, 5],
            }),
            Happening::Read(Read {
                request: 1,
                tags: vec![1, 2, 300],
                deadline_ns: 77,
            }),
            Happening::Command(Command {
                request: 2,
                name: "browse".into(),
                payload: vec![1],
                deadline_ns: 0,
            }),
            Happening::Cancel(3),
            Happening::Health(4),
            Happening::Stored(5),
        ];
        all.extend(values.map(|value| {
            Happening::Write(Write {
                request: 1,
                tag: 3,
                value,
                read_back: true,
                deadline_ns: u64::MAX,
            })
        }));
        all.extend(CLOSE_REASONS.map(|reason| {
            Happening::Closed(Closed {
                connection: 1,
                reason,
                outlook: Outlook::Redialling,
            })
        }));
        all.extend(OUTLOOKS.map(|outlook| {
            Happening::Closed(Closed {
                connection: 1,
                reason: CloseReason::ByPeer,
                outlook,
            })
        }));
        all.extend(STOP_REASONS.map(|reason| {
            Happening::Stop(Stop {
                deadline_ns: u64::MAX,
                reason,
            })
        }));
        all.extend(ACTION_KINDS.map(|action| {
            Happening::Declined(Declined {
                action,
                connection: Some(1 << 31),
                batch: Some(1 << 40),
                why: "no".into(),
            })
        }));
        all.into_iter()
            .map(|what| Event { at_ns: 1000, what })
            .collect()
    }

    #[test]
    fn every_event_comes_back_as_it_was() {
        for now in [1000, 5000, u64::MAX] {
            for event in every_kind() {
                let mut out = Vec::new();
                put_event(&mut out, &event, now);
                let mut reader = Reader::new(&out);
                let read = read_event(&mut reader, now).unwrap();
                assert_eq!(format!("{read:?}"), format!("{event:?}"));
                assert_eq!(reader.left(), 0);
                for cut in 0..out.len() {
                    assert!(
                        read_event(&mut Reader::new(&out[..cut]), now).is_err(),
                        "{event:?} cut at {cut}"
                    );
                }
            }
        }
    }

    /// A bundle of an earlier version is read by this one: a kind of value keeps its number, and its bytes.
    #[test]
    fn values_are_read_as_they_were_written_before() {
        let read = |bytes: &[u8]| read_value(&mut Reader::new(bytes)).unwrap();
        assert!(matches!(read(&[0, 1]), Value::Boolean(true)));
        assert!(matches!(read(&[1, 1]), Value::Int(-1)));
        assert!(matches!(read(&[2, 5]), Value::Uint(5)));
        assert!(matches!(read(&[4, 1, b'a']), Value::Text(text) if text == "a"));
        assert!(matches!(read(&[5, 1, 255]), Value::Bytes(all) if all == [255]));
        assert!(matches!(read(&[6, 2, 1, 0]), Value::Booleans(all) if all == [true, false]));
        assert!(matches!(read(&[7, 1, 1]), Value::Ints(all) if all == [-1]));
        assert!(matches!(read(&[8, 1, 5]), Value::Uints(all) if all == [5]));
        assert!(matches!(read(&[9, 0]), Value::Floats(all) if all.is_empty()));
        assert!(matches!(read(&[10, 2, 1, b'a', 0]), Value::Texts(all) if all == ["a", ""]));
        assert!(read_value(&mut Reader::new(&[11, 0])).is_err());
        // A length that the bytes do not justify.
        assert!(read_value(&mut Reader::new(&[10, 9, 1, b'a', 0])).is_err());
    }

    #[test]
    fn the_tables_are_whole_and_in_the_order_of_the_wit() {
        for (place, reason) in START_REASONS.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
        for (place, reason) in CLOSE_REASONS.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
        for (place, reason) in STOP_REASONS.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
        for (place, outlook) in OUTLOOKS.into_iter().enumerate() {
            assert_eq!(outlook as usize, place);
        }
        for (place, kind) in ACTION_KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
        }
        // Another case would have to be put into its table as well.
        match ActionKind::Stopped {
            ActionKind::Open
            | ActionKind::Close
            | ActionKind::Reset
            | ActionKind::Send
            | ActionKind::Pause
            | ActionKind::StartTls
            | ActionKind::SetTimer
            | ActionKind::CancelTimer
            | ActionKind::Publish
            | ActionKind::PollDone
            | ActionKind::ReadDone
            | ActionKind::WriteDone
            | ActionKind::CommandProgress
            | ActionKind::CommandDone
            | ActionKind::DeviceState
            | ActionKind::Probe
            | ActionKind::Metric
            | ActionKind::Alarm
            | ActionKind::SaveState
            | ActionKind::HealthDone
            | ActionKind::Stopped => {}
        }
    }
}
