//! Answers that go wrong on purpose, as those of real devices and gateways do.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::frame::{self, HEADER};
use super::rtu;

/// How an answer goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The last bytes are missing, though the header promises them; the connection stays open, so that the next
    /// answer looks like the rest of this one.
    Truncate,
    /// The last bytes are missing, and the header agrees: only byte count or function tell.
    Short,
    /// The byte count is off by so much; only reads have one.
    ByteCount(i8),
    /// More bytes than a frame may have, with a header that says so.
    Oversize,
    /// The transaction id of another request.
    WrongTransaction,
    /// A protocol id other than 0.
    WrongProtocol,
    /// A checksum that does not agree.
    WrongChecksum,
    /// The id of another unit.
    WrongUnit,
    /// The function code of another request.
    WrongFunction,
    /// 1 to 260 random bytes instead of an answer.
    Random,
    /// The right answer, one byte at a time with such a pause after each.
    OneByte(Duration),
    /// The right answer, twice.
    Twice,
    /// Half of the answer, then the connection closes.
    Cut,
    /// No answer.
    Silence,
    /// The connection closes instead of an answer.
    Close,
    /// An exception; the request is not carried out.
    Exception(u8),
    /// The right answer, late. What is asked meanwhile waits.
    Delay(Duration),
}

/// A fault and the requests that it strikes, written `KIND[:ARGUMENT][:every=N][:unit=U][:function=F][:times=N]`.
///
/// ```text
/// truncate   byte-count:-1:every=3   exception:6:unit=2   delay:250:function=3   silence:times=5
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// Of the requests that match, each so-manieth is struck, the N-th first; 1 strikes all.
    pub every: u64,
    /// Only requests to this unit.
    pub unit: Option<u8>,
    /// Only requests with this function code.
    pub function: Option<u8>,
    /// No more than so many strikes.
    pub times: Option<u64>,
}

impl From<FaultKind> for Fault {
    fn from(kind: FaultKind) -> Self {
        Self {
            kind,
            every: 1,
            unit: None,
            function: None,
            times: None,
        }
    }
}

const KINDS: &str = "truncate, short, byte-count[:DIFFERENCE], oversize, wrong-transaction, wrong-protocol, wrong-checksum, wrong-unit, \
     wrong-function, random, one-byte[:PAUSE_MS], twice, cut, silence, close, exception:CODE, delay:MS";

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':').peekable();
        let name = parts.next().unwrap_or_default();
        let argument = parts.next_if(|part| !part.contains('='));
        let mut fault = Self::from(kind(name, argument)?);
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                format!("`{part}` in `{text}`: expected every=N, unit=U, function=F or times=N")
            })?;
            match key {
                "every" => fault.every = number(key, value, 1, u64::MAX)?,
                "unit" => fault.unit = Some(number(key, value, 0, 255)? as u8),
                "function" => fault.function = Some(number(key, value, 1, 127)? as u8),
                "times" => fault.times = Some(number(key, value, 1, u64::MAX)?),
                _ => {
                    return Err(format!(
                        "`{key}` in `{text}` is unknown; write every, unit, function or times"
                    ));
                }
            }
        }
        Ok(fault)
    }
}

fn kind(name: &str, argument: Option<&str>) -> Result<FaultKind, String> {
    let milliseconds =
        |default| argument.map_or(Ok(default), |text| number(name, text, 0, 3_600_000));
    let kind = match name {
        "byte-count" => {
            let difference = argument
                .unwrap_or("1")
                .parse::<i8>()
                .ok()
                .filter(|difference| *difference != 0);
            FaultKind::ByteCount(difference.ok_or("byte-count: expected -128 to 127, but not 0")?)
        }
        "one-byte" => FaultKind::OneByte(Duration::from_millis(milliseconds(0)?)),
        "exception" => {
            let code =
                argument.ok_or("exception: which? Write exception:CODE, such as exception:6")?;
            FaultKind::Exception(number(name, code, 1, 255)? as u8)
        }
        "delay" => {
            argument.ok_or("delay: how long? Write delay:MS, such as delay:250")?;
            FaultKind::Delay(Duration::from_millis(milliseconds(0)?))
        }
        _ => {
            let kind = match name {
                "truncate" => FaultKind::Truncate,
                "short" => FaultKind::Short,
                "oversize" => FaultKind::Oversize,
                "wrong-transaction" => FaultKind::WrongTransaction,
                "wrong-protocol" => FaultKind::WrongProtocol,
                "wrong-checksum" => FaultKind::WrongChecksum,
                "wrong-unit" => FaultKind::WrongUnit,
                "wrong-function" => FaultKind::WrongFunction,
                "random" => FaultKind::Random,
                "twice" => FaultKind::Twice,
                "cut" => FaultKind::Cut,
                "silence" => FaultKind::Silence,
                "close" => FaultKind::Close,
                _ => {
                    return Err(format!(
                        "`{name}` is no kind of fault; the kinds are {KINDS}"
                    ));
                }
            };
            match argument {
                None => kind,
                Some(argument) => {
                    return Err(format!(
                        "{name} takes no argument, but `{argument}` was given"
                    ));
                }
            }
        }
    };
    Ok(kind)
}

fn number(name: &str, text: &str, min: u64, max: u64) -> Result<u64, String> {
    let range = if max == u64::MAX {
        format!("at least {min}")
    } else {
        format!("from {min} to {max}")
    };
    text.parse()
        .ok()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| format!("{name}: expected a whole number {range}, not `{text}`"))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FaultKind::Truncate => f.write_str("truncate"),
            FaultKind::Short => f.write_str("short"),
            FaultKind::ByteCount(difference) => write!(f, "byte-count:{difference}"),
            FaultKind::Oversize => f.write_str("oversize"),
            FaultKind::WrongTransaction => f.write_str("wrong-transaction"),
            FaultKind::WrongProtocol => f.write_str("wrong-protocol"),
            FaultKind::WrongChecksum => f.write_str("wrong-checksum"),
            FaultKind::WrongUnit => f.write_str("wrong-unit"),
            FaultKind::WrongFunction => f.write_str("wrong-function"),
            FaultKind::Random => f.write_str("random"),
            FaultKind::OneByte(pause) => write!(f, "one-byte:{}", pause.as_millis()),
            FaultKind::Twice => f.write_str("twice"),
            FaultKind::Cut => f.write_str("cut"),
            FaultKind::Silence => f.write_str("silence"),
            FaultKind::Close => f.write_str("close"),
            FaultKind::Exception(code) => write!(f, "exception:{code}"),
            FaultKind::Delay(time) => write!(f, "delay:{}", time.as_millis()),
        }?;
        if self.every != 1 {
            write!(f, ":every={}", self.every)?;
        }
        for (key, value) in [("unit", self.unit), ("function", self.function)] {
            if let Some(value) = value {
                write!(f, ":{key}={value}")?;
            }
        }
        self.times
            .map_or(Ok(()), |times| write!(f, ":times={times}"))
    }
}

/// Faults at work: each with a count of the requests that it matched, on whatever connection.
#[derive(Debug, Default)]
pub(super) struct Faults(Box<[(Fault, AtomicU64)]>);

impl Faults {
    pub(super) fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self(
            faults
                .into_iter()
                .map(|fault| (fault, AtomicU64::new(0)))
                .collect(),
        )
    }

    /// The fault that strikes this request, if any. Counts the request for every fault that it matches.
    pub(super) fn strike(&self, unit: u8, function: u8) -> Option<FaultKind> {
        let mut struck = None;
        for (fault, matched) in &self.0 {
            if fault.unit.is_some_and(|only| only != unit)
                || fault.function.is_some_and(|only| only != function)
            {
                continue;
            }
            let count = matched.fetch_add(1, Relaxed) + 1;
            let strikes = count / fault.every;
            if count % fault.every == 0
                && fault.times.is_none_or(|times| strikes <= times)
                && struck.is_none()
            {
                struck = Some(fault.kind);
            }
        }
        struck
    }
}

/// How a spoilt answer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    AtOnce,
    After(Duration),
    ByteByByte(Duration),
    ThenClose,
}

/// Spoils `answer`, one whole frame. `None` where the fault has nothing to spoil in such an answer.
pub(super) fn spoil(
    kind: FaultKind,
    answer: &mut Vec<u8>,
    random: &mut fastrand::Rng,
) -> Option<Delivery> {
    match kind {
        FaultKind::Truncate => answer.truncate(answer.len() - missing(answer.len())),
        FaultKind::Short => {
            answer.truncate(answer.len() - missing(answer.len()));
            frame::finish(answer, 0);
        }
        FaultKind::ByteCount(difference) => {
            let has_byte_count = matches!(answer[HEADER], 1..=4 | 23);
            let count = answer.get_mut(HEADER + 1).filter(|_| has_byte_count)?;
            *count = count.wrapping_add_signed(difference);
        }
        FaultKind::Oversize => {
            answer.resize(OVERSIZE, 0xee);
            let length = u16::try_from(OVERSIZE - 6).expect("a small constant");
            answer[4..6].copy_from_slice(&length.to_be_bytes());
        }
        FaultKind::WrongTransaction => {
            let id = u16::from_be_bytes([answer[0], answer[1]]).wrapping_add(1);
            answer[..2].copy_from_slice(&id.to_be_bytes());
        }
        FaultKind::WrongProtocol => answer[3] = 1,
        FaultKind::WrongChecksum => return None,
        FaultKind::WrongUnit => answer[6] = answer[6].wrapping_add(1),
        FaultKind::WrongFunction => {
            // Another function with an answer of the same shape: the hardest to notice.
            let function = &mut answer[HEADER];
            *function = match *function & 0x7f {
                1 => 2,
                2 => 1,
                3 => 4,
                4 => 3,
                5 => 6,
                6 => 5,
                15 => 16,
                16 => 15,
                other => (other + 1) & 0x7f,
            } | *function & 0x80;
        }
        FaultKind::Random => {
            answer.clear();
            let length = random.usize(1..=frame::FRAME_MAX);
            answer.extend(std::iter::repeat_with(|| random.u8(..)).take(length));
        }
        FaultKind::OneByte(pause) => return Some(Delivery::ByteByByte(pause)),
        FaultKind::Twice => answer.extend_from_within(..),
        FaultKind::Cut => {
            answer.truncate(answer.len() / 2);
            return Some(Delivery::ThenClose);
        }
        FaultKind::Silence => answer.clear(),
        FaultKind::Close => {
            answer.clear();
            return Some(Delivery::ThenClose);
        }
        FaultKind::Exception(code) => {
            answer[HEADER] |= 0x80;
            answer.truncate(HEADER + 1);
            answer.push(code);
            frame::finish(answer, 0);
        }
        FaultKind::Delay(time) => return Some(Delivery::After(time)),
    }
    Some(Delivery::AtOnce)
}

/// The same of a frame that then leaves as RTU: what the fault does to the fields of an answer its checksum agrees with; what it
/// does to the bytes on their way it does to the whole.
pub(super) fn spoil_rtu(
    kind: FaultKind,
    answer: &mut Vec<u8>,
    random: &mut fastrand::Rng,
) -> Option<Delivery> {
    match kind {
        FaultKind::WrongTransaction | FaultKind::WrongProtocol => None,
        FaultKind::Short
        | FaultKind::ByteCount(_)
        | FaultKind::WrongUnit
        | FaultKind::WrongFunction
        | FaultKind::Exception(_) => {
            let delivery = spoil(kind, answer, random);
            rtu::convert(answer, 0);
            delivery
        }
        FaultKind::Truncate => {
            rtu::convert(answer, 0);
            answer.truncate(answer.len().saturating_sub(3));
            Some(Delivery::AtOnce)
        }
        FaultKind::WrongChecksum => {
            rtu::convert(answer, 0);
            if let Some(last) = answer.last_mut() {
                *last ^= 0xff;
            }
            Some(Delivery::AtOnce)
        }
        FaultKind::Oversize => {
            rtu::convert(answer, 0);
            answer.resize(OVERSIZE, 0xee);
            Some(Delivery::AtOnce)
        }
        _ => {
            rtu::convert(answer, 0);
            spoil(kind, answer, random)
        }
    }
}

/// The size of an oversize answer.
const OVERSIZE: usize = 600;

/// How many bytes a short answer lacks: at least one, at most two registers, never the function code.
const fn missing(length: usize) -> usize {
    let after_function = length - HEADER - 1;
    if after_function > 4 {
        4
    } else if after_function > 1 {
        after_function / 2
    } else {
        after_function
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_written() {
        for (text, written) in [
            ("truncate", "truncate"),
            ("byte-count", "byte-count:1"),
            ("byte-count:-1:every=3", "byte-count:-1:every=3"),
            ("exception:6:unit=2", "exception:6:unit=2"),
            ("delay:250:function=3:unit=0", "delay:250:unit=0:function=3"),
            ("silence:times=5:every=2", "silence:every=2:times=5"),
            ("one-byte", "one-byte:0"),
            ("one-byte:3", "one-byte:3"),
        ] {
            let fault: Fault = text.parse().unwrap();
            assert_eq!(fault.to_string(), written);
            assert_eq!(written.parse::<Fault>().unwrap(), fault);
        }
        for kind in [
            "short",
            "oversize",
            "wrong-transaction",
            "wrong-protocol",
            "wrong-checksum",
            "wrong-unit",
            "wrong-function",
            "random",
            "twice",
            "cut",
            "close",
        ] {
            assert_eq!(kind.parse::<Fault>().unwrap().to_string(), kind);
        }
    }

    #[test]
    fn wrong_faults_name_the_remedy() {
        for (text, remedy) in [
            ("", "the kinds are"),
            ("explode", "the kinds are"),
            ("cut:3", "takes no argument"),
            ("exception", "exception:CODE"),
            ("exception:0", "from 1 to 255"),
            ("delay", "delay:MS"),
            ("delay:x", "whole number"),
            ("byte-count:0", "not 0"),
            ("cut:every=0", "at least 1"),
            ("cut:unit=256", "from 0 to 255"),
            ("cut:how=1", "every, unit, function or times"),
            ("cut:every=1:2", "expected every=N"),
        ] {
            let message = text.parse::<Fault>().unwrap_err();
            assert!(message.contains(remedy), "{text:?}: {message}");
        }
    }

    #[test]
    fn faults_strike_the_requests_that_they_name() {
        let strikes = |text: &str, requests: &[(u8, u8)]| -> String {
            let faults = Faults::new(text.split_whitespace().map(|fault| fault.parse().unwrap()));
            requests
                .iter()
                .map(|(unit, function)| match faults.strike(*unit, *function) {
                    None => '.',
                    Some(FaultKind::Cut) => 'c',
                    Some(_) => 's',
                })
                .collect()
        };
        let five = [(1, 3); 5];
        assert_eq!(strikes("", &five), ".....");
        assert_eq!(strikes("cut", &five), "ccccc");
        assert_eq!(strikes("cut:every=2", &five), ".c.c.");
        assert_eq!(strikes("cut:every=2:times=1", &five), ".c...");
        assert_eq!(strikes("cut:every=3 silence:every=2", &five), ".scs.");
        assert_eq!(
            strikes(
                "cut:unit=2:every=2",
                &[(1, 3), (2, 3), (1, 3), (2, 4), (2, 4)]
            ),
            "...c."
        );
        assert_eq!(strikes("cut:function=4", &[(1, 3), (2, 4)]), ".c");
    }

    #[test]
    fn spoilt_answers_over_rtu() {
        let read = [0, 0, 0, 0, 0, 7, 1, 3, 4, 1, 2, 3, 4];
        let summed = |body: &[u8]| [body, &rtu::checksum(body)].concat();
        let right = summed(&read[6..]);
        let mut wrong = right.clone();
        *wrong.last_mut().unwrap() ^= 0xff;
        for (text, expected) in [
            ("wrong-transaction", None),
            ("wrong-protocol", None),
            ("wrong-checksum", Some(wrong)),
            ("truncate", Some(right[..6].to_vec())),
            ("short", Some(summed(&[1, 3, 4]))),
            ("byte-count:-1", Some(summed(&[1, 3, 3, 1, 2, 3, 4]))),
            ("wrong-unit", Some(summed(&[2, 3, 4, 1, 2, 3, 4]))),
            ("wrong-function", Some(summed(&[1, 4, 4, 1, 2, 3, 4]))),
            ("exception:6", Some(summed(&[1, 0x83, 6]))),
            ("twice", Some([right.clone(), right.clone()].concat())),
            ("cut", Some(right[..4].to_vec())),
            ("silence", Some(Vec::new())),
            ("delay:5", Some(right.clone())),
        ] {
            let fault: Fault = text.parse().unwrap();
            let mut spoilt = read.to_vec();
            let delivery = spoil_rtu(fault.kind, &mut spoilt, &mut fastrand::Rng::with_seed(1));
            assert_eq!(delivery.map(|_| spoilt), expected, "{text}");
        }
        let mut answer = read.to_vec();
        spoil(
            FaultKind::WrongChecksum,
            &mut answer,
            &mut fastrand::Rng::with_seed(1),
        );
        assert_eq!(answer, read, "Modbus TCP has none");
    }

    #[test]
    fn spoilt_answers() {
        use Delivery::{AtOnce, ByteByByte, ThenClose};
        // Two registers of unit 1; then an exception; then the answer to a write.
        let read = [0, 9, 0, 0, 0, 7, 1, 3, 4, 1, 2, 3, 4];
        let refused = [0, 9, 0, 0, 0, 3, 1, 0x83, 2];
        let write = [0, 9, 0, 0, 0, 6, 1, 6, 0, 1, 0, 2];
        let oversize = |function: u8, rest: &[u8]| {
            let mut bytes = [&[0, 9, 0, 0, 2, 0x52, 1, function], rest].concat();
            bytes.resize(600, 0xee);
            bytes
        };
        type Row<'a> = (&'a str, &'a [u8], Option<(Delivery, Vec<u8>)>);
        let rows: [Row<'_>; 18] = [
            ("truncate", &read, Some((AtOnce, read[..9].to_vec()))),
            ("truncate", &refused, Some((AtOnce, refused[..8].to_vec()))),
            (
                "short",
                &read,
                Some((AtOnce, vec![0, 9, 0, 0, 0, 3, 1, 3, 4])),
            ),
            (
                "short",
                &write,
                Some((AtOnce, vec![0, 9, 0, 0, 0, 4, 1, 6, 0, 1])),
            ),
            (
                "byte-count",
                &read,
                Some((AtOnce, vec![0, 9, 0, 0, 0, 7, 1, 3, 5, 1, 2, 3, 4])),
            ),
            (
                "byte-count:-1",
                &read,
                Some((AtOnce, vec![0, 9, 0, 0, 0, 7, 1, 3, 3, 1, 2, 3, 4])),
            ),
            ("byte-count", &write, None),
            ("byte-count", &refused, None),
            ("oversize", &read, Some((AtOnce, oversize(3, &read[8..])))),
            (
                "wrong-transaction",
                &write,
                Some((AtOnce, [&[0, 10], &write[2..]].concat())),
            ),
            (
                "wrong-protocol",
                &write,
                Some((AtOnce, [&[0, 9, 0, 1], &write[4..]].concat())),
            ),
            (
                "wrong-unit",
                &read,
                Some((AtOnce, [&read[..6], &[2], &read[7..]].concat())),
            ),
            (
                "wrong-function",
                &refused,
                Some((AtOnce, vec![0, 9, 0, 0, 0, 3, 1, 0x84, 2])),
            ),
            ("twice", &write, Some((AtOnce, [write, write].concat()))),
            ("cut", &read, Some((ThenClose, read[..6].to_vec()))),
            ("silence", &read, Some((AtOnce, vec![]))),
            (
                "exception:6",
                &read,
                Some((AtOnce, vec![0, 9, 0, 0, 0, 3, 1, 0x83, 6])),
            ),
            (
                "one-byte:2",
                &read,
                Some((ByteByByte(Duration::from_millis(2)), read.to_vec())),
            ),
        ];
        for (text, answer, expected) in rows {
            let fault: Fault = text.parse().unwrap();
            let mut spoilt = answer.to_vec();
            let delivery = spoil(fault.kind, &mut spoilt, &mut fastrand::Rng::with_seed(1));
            assert_eq!(
                delivery.map(|delivery| (delivery, spoilt)),
                expected,
                "{text} of {answer:?}"
            );
        }
    }
}
