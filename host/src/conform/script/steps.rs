//! Reads one step.

use super::model::{Expected, ExpectedAnswer, Pieces, Section, Step};
use super::parse::time;
use super::words::Words;
use crate::bindings::actions::DeviceCondition;
use crate::bindings::events::CloseReason;
use crate::bindings::types::Quality;
use crate::conform::pattern::Pattern;

const REASONS: [(&str, CloseReason); 7] = [
    ("by-peer", CloseReason::ByPeer),
    ("reset", CloseReason::Reset),
    ("refused", CloseReason::Refused),
    ("timed-out", CloseReason::TimedOut),
    ("unreachable", CloseReason::Unreachable),
    ("denied", CloseReason::Denied),
    ("heartbeat-lost", CloseReason::HeartbeatLost),
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
            let (link, reason) = link_and_reason(&mut words, section)?;
            Step::Opens(link, reason)
        }
        "up" => Step::Up(link_and_reason(&mut words, section)?.0),
        "drop" => {
            let (link, reason) = link_and_reason(&mut words, section)?;
            Step::Drop(link, reason.unwrap_or(CloseReason::ByPeer))
        }
        "resets" => Step::Resets(link_and_reason(&mut words, section)?.0),
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
        "stop" => Step::Stop,
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

/// `plc`, `plc, refused`, or nothing where there is one link only.
fn link_and_reason(
    words: &mut Words<'_>,
    section: &Section,
) -> Result<(u32, Option<CloseReason>), String> {
    let name = words.next()?;
    let has_comma = name.as_deref().is_some_and(|name| name.ends_with(','));
    let link = section.link(name.as_deref().map(|name| name.trim_end_matches(',')))?;
    if !has_comma {
        return Ok((link, None));
    }
    let reason = words.need("a reason")?;
    let known = REASONS.iter().find(|(name, _)| *name == reason);
    let names: Vec<&str> = REASONS.iter().map(|(name, _)| *name).collect();
    let (_, reason) =
        known.ok_or_else(|| format!("{reason} is no reason; write one of {}", names.join(", ")))?;
    Ok((link, Some(*reason)))
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
    let mut ahead = *words;
    let mut quality = None;
    if let Some(word) = ahead.next()? {
        let name = word.trim_end_matches(',');
        if let Some(known) = QUALITIES
            .iter()
            .find(|quality| crate::event::Quality::from(**quality).as_str() == name)
        {
            quality = Some(*known);
            *words = ahead;
        }
    }
    match (&value, quality) {
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
            let mut ahead = words;
            let code = ahead.next()?.and_then(|word| word.parse().ok());
            if code.is_some() {
                words = ahead;
            }
            let text = words.next()?.unwrap_or_default();
            words.end()?;
            Ok(ExpectedAnswer::Error(code, text))
        }
        other => Err(format!(
            "{other} is no answer; write `answer ok`, `answer ok TAG VALUE`, `answer ok bytes 0102`, `answer ok json {{}}` or `answer error 2 \"text\"`"
        )),
    }
}
