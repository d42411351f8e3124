//! Reads one step.

use super::model::{Expected, ExpectedAnswer, ExpectedError, Pieces, Section, Step};
use super::parse::time;
use super::words::Words;
use crate::bindings::actions::DeviceCondition;
use crate::bindings::events::{CloseReason, Outlook, StopReason};
use crate::bindings::types::Quality;
use crate::conform::pattern::Pattern;

pub(in crate::conform) const REASONS: [(&str, CloseReason); 9] = [
    ("by-peer", CloseReason::ByPeer),
    ("reset", CloseReason::Reset),
    ("refused", CloseReason::Refused),
    ("timed-out", CloseReason::TimedOut),
    ("unreachable", CloseReason::Unreachable),
    ("denied", CloseReason::Denied),
    ("heartbeat-lost", CloseReason::HeartbeatLost),
    ("by-operator", CloseReason::ByOperator),
    ("path-gone", CloseReason::PathGone),
];

/// What is not said is that it is redialled.
const OUTLOOKS: [(&str, Outlook); 2] = [("given-up", Outlook::GivenUp), ("ended", Outlook::Ended)];

/// Why a driver is to stop; what is not said is that it is stopped.
pub(in crate::conform) const STOPS: [(&str, StopReason); 7] = [
    ("stopped", StopReason::Stopped),
    ("restarting", StopReason::Restarting),
    ("reconfigured", StopReason::Reconfigured),
    ("recycled", StopReason::Recycled),
    ("swapped", StopReason::Swapped),
    ("moved", StopReason::Moved),
    ("host-stopping", StopReason::HostStopping),
];

/// Every quality of the ABI.
const QUALITIES: [Quality; 18] = [
    Quality::Good,
    Quality::GoodLocalOverride,
    Quality::Uncertain,
    Quality::UncertainLastKnown,
    Quality::UncertainOutOfRange,
    Quality::UncertainSubNormal,
    Quality::Bad,
    Quality::BadWaitingForInitialData,
    Quality::BadNotConnected,
    Quality::BadNoCommunication,
    Quality::BadTimeout,
    Quality::BadDeviceFailure,
    Quality::BadOutOfService,
    Quality::BadConfiguration,
    Quality::BadNotSupported,
    Quality::BadTypeMismatch,
    Quality::BadOutOfRange,
    Quality::BadStale,
];

/// Reads a step; names are those of this section.
pub(super) fn step(mut words: Words<'_>, section: &Section) -> Result<Step, String> {
    let word = words.need("a step")?;
    let step = match word.as_str() {
        "opens" => {
            let (link, fate) = link_and_fate(&mut words, section)?;
            Step::Opens(link, fate)
        }
        "up" => Step::Up(link_and_fate(&mut words, section)?.0),
        "drop" => {
            let (link, fate) = link_and_fate(&mut words, section)?;
            let (reason, outlook) = fate.unwrap_or((CloseReason::ByPeer, Outlook::Redialling));
            Step::Drop(link, reason, outlook)
        }
        "resets" => Step::Resets(link_and_fate(&mut words, section)?.0),
        "closes" => Step::Closes,
        "expect" | "send" | "send-bytewise" => {
            let (link, text) = link_and_bytes(words.rest(), section)?;
            let pattern = Pattern::parse(text).map_err(|error| error.to_string())?;
            if pattern.is_empty() {
                return Err(format!("{word} needs bytes, as in `{word} 0102 \"text\"`"));
            }
            return Ok(match word.as_str() {
                "expect" => Step::Expect(link, pattern),
                "send" => Step::Send(link, pattern, Pieces::Whole),
                _ => Step::Send(link, pattern, Pieces::Bytes),
            });
        }
        "quiet" => Step::Quiet,
        "poll" => {
            let group = section.group(&words.need("the group's name")?)?;
            let mut skip = Vec::new();
            if words.skip("without") {
                while let Some(device) = words.next()? {
                    skip.push(section.device(&device)?);
                }
            }
            Step::Poll(group, skip)
        }
        "done" => {
            let group = section.group(&words.need("the group's name")?)?;
            Step::Done(group, words.number("requests")?, words.number("failed")?)
        }
        "sample" => {
            let tag = section.tag(&words.need("the tag's name")?)?;
            Step::Sample(tag, expected(&mut words, tag, section)?)
        }
        "read" => {
            let mut tags = Vec::new();
            while let Some(tag) = words.next()? {
                tags.push(section.tag(&tag)?);
            }
            if tags.is_empty() {
                return Err("a read names at least one tag".to_owned());
            }
            Step::Read(tags)
        }
        "write" => {
            let tag = section.tag(&words.need("the tag's name")?)?;
            let data_type = section.data_type(tag).ok_or("the tag has no type")?;
            let value = words.value(data_type)?;
            Step::Write(tag, value, words.skip("read-back"))
        }
        "command" => {
            let name = words.need("the command's name")?;
            return Ok(Step::Command(name, words.rest().as_bytes().to_vec()));
        }
        "health" => Step::Health,
        "cancel" => Step::Cancel,
        "answer" => return answer(words, section).map(Step::Answer),
        "advance" => Step::Advance(time(&words.need("a time")?)?),
        "device" => {
            let device = section.device(&words.need("the device's name")?)?;
            let condition = match words.need("up, down or unknown")?.as_str() {
                "up" => DeviceCondition::Up,
                "down" => DeviceCondition::Down,
                "unknown" => DeviceCondition::Unknown,
                other => {
                    return Err(format!(
                        "{other} is no condition; write up, down or unknown"
                    ));
                }
            };
            Step::Device(device, condition)
        }
        "stop" => match words.next()? {
            None => Step::Stop(StopReason::Stopped),
            Some(reason) => Step::Stop(one_of(&STOPS, &reason, "reason to stop")?),
        },
        "stopped" => Step::Stopped,
        "restart" => {
            let mut kept = Vec::new();
            if words.skip("keeping") {
                while let Some(link) = words.next()? {
                    kept.push(section.link(Some(&link))?);
                }
            }
            Step::Restart(kept)
        }
        "refused" => {
            let at = words.need("where, as in settings.timeout_ms,")?;
            Step::Refused(at, words.next()?.unwrap_or_default())
        }
        other => {
            return Err(format!(
                "{other} is no step; docs/CONFORMANCE.md lists them"
            ));
        }
    };
    words.end()?;
    Ok(step)
}

/// What a word stands for.
fn one_of<T: Copy>(known: &[(&str, T)], word: &str, what: &str) -> Result<T, String> {
    let found = known.iter().find(|(name, _)| *name == word);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("{word} is no {what}; write one of {}", names.join(", "))
    })
}

/// `plc`, `plc, refused`, `plc, refused, given-up`, or nothing where there is one link only.
fn link_and_fate(
    words: &mut Words<'_>,
    section: &Section,
) -> Result<(u32, Option<(CloseReason, Outlook)>), String> {
    let name = words.next()?;
    let has_comma = name.as_deref().is_some_and(|name| name.ends_with(','));
    let link = section.link(name.as_deref().map(|name| name.trim_end_matches(',')))?;
    if !has_comma {
        return Ok((link, None));
    }
    let reason = words.need("a reason")?;
    let outlook = match reason.strip_suffix(',') {
        None => Outlook::Redialling,
        Some(_) => one_of(&OUTLOOKS, &words.need("given-up or ended")?, "outlook")?,
    };
    let reason = one_of(&REASONS, reason.trim_end_matches(','), "reason")?;
    Ok((link, Some((reason, outlook))))
}

/// `plc: 0102`, or `0102` where there is one link only.
fn link_and_bytes<'a>(text: &'a str, section: &Section) -> Result<(u32, &'a str), String> {
    let named = text.split_once(':').filter(|(name, _)| {
        !name.is_empty()
            && name
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character))
    });
    match named {
        Some((name, bytes)) => Ok((section.link(Some(name))?, bytes)),
        None => Ok((section.link(None)?, text)),
    }
}

/// `42`, `42 uncertain`, `- bad-timeout`.
fn expected(words: &mut Words<'_>, tag: u32, section: &Section) -> Result<Expected, String> {
    let data_type = section.data_type(tag).ok_or("the tag has no type")?;
    let value = if words.skip("-") {
        None
    } else {
        Some(words.value(data_type)?)
    };
    match (&value, quality(words)?) {
        (_, Some(quality)) => Ok(Expected { value, quality }),
        (Some(_), None) => Ok(Expected {
            value,
            quality: Quality::Good,
        }),
        (None, None) => {
            Err("a sample without a value has a quality, as in `- bad-timeout`".to_owned())
        }
    }
}

/// A quality, if the next word is one.
fn quality(words: &mut Words<'_>) -> Result<Option<Quality>, String> {
    let mut ahead = *words;
    let Some(word) = ahead.next()? else {
        return Ok(None);
    };
    let name = word.trim_end_matches(',');
    let mut known = QUALITIES.into_iter();
    let found = known.find(|quality| crate::event::Quality::from(*quality).as_str() == name);
    if found.is_some() {
        *words = ahead;
    }
    Ok(found)
}

fn answer(mut words: Words<'_>, section: &Section) -> Result<ExpectedAnswer, String> {
    match words.need("ok or error")?.as_str() {
        "ok" if words.is_empty() => Ok(ExpectedAnswer::Ok),
        "ok" if words.skip("bytes") => Pattern::parse(words.rest())
            .map(ExpectedAnswer::Bytes)
            .map_err(|error| error.to_string()),
        "ok" if words.skip("json") => serde_json::from_str(words.rest())
            .map(ExpectedAnswer::Json)
            .map_err(|error| format!("this is no JSON: {error}")),
        "ok" => {
            let mut values = Vec::new();
            while !words.is_empty() {
                let tag = section.tag(&words.need("the tag's name")?)?;
                values.push(expected(&mut words, tag, section)?);
            }
            Ok(ExpectedAnswer::Values(values))
        }
        "error" => {
            let code = if words.skip("-") {
                Some(None)
            } else {
                let mut ahead = words;
                let code = ahead.next()?.and_then(|word| word.parse().ok());
                if code.is_some() {
                    words = ahead;
                }
                code.map(Some)
            };
            let quality = quality(&mut words)?;
            let text = words.next()?.unwrap_or_default();
            words.end()?;
            Ok(ExpectedAnswer::Error(ExpectedError {
                code,
                quality,
                text,
            }))
        }
        other => Err(format!(
            "{other} is no answer; write `answer ok`, `answer ok TAG VALUE`, `answer ok bytes 0102`, `answer ok json {{}}` or `answer error 2 bad-timeout \"text\"`"
        )),
    }
}
