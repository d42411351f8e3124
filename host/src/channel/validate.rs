//! Whether a whole list of actions can be meant. Nothing is applied before all of it is.

use std::collections::HashSet;

use super::alarms::Alarms;
use super::connections::{FIRST_CALLER, MAX_CONNECTIONS, Ways};
use super::health::HealthChecks;
use super::mailbox::Ask;
use super::pending::Pending;
use super::polls::Polls;
use super::timers::{MAX_TIMERS, Timers};
use crate::bindings::actions::Action;
use crate::bindings::types;
use crate::config;
use crate::event::{Quality, Value, are_within_bounds, bytes_of_texts};
use crate::ids::{ConnectionId, GroupId, LinkId, RequestId, TagId, TimerId};
use crate::limits::{
    ACTIONS, ALARM_CODE_BYTES, ALARMS, BATCHES, NOTICES, RATE_SECONDS, SEND_BYTES,
};
use crate::store::MAX_STATE_BYTES;
use crate::tags::{Rule, Rules};

/// Why a list of actions was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("action {number} of {count} ({kind}) {why}")]
pub struct Refusal {
    /// Counted from 1.
    number: usize,
    count: usize,
    kind: &'static str,
    why: String,
}

/// What an incarnation has under way, as far as a list of actions can touch it.
pub(super) struct Context<'a> {
    pub(super) tags: &'a [config::Tag],
    /// One for each tag.
    pub(super) rules: &'a Rules,
    /// How many the channel has.
    pub(super) devices: usize,
    pub(super) connections: &'a (dyn Ways + Sync),
    pub(super) polls: &'a Polls,
    pub(super) pending: &'a Pending,
    pub(super) health: &'a HealthChecks,
    pub(super) timers: &'a Timers,
    pub(super) alarms: &'a Alarms,
    /// How much of what was not carried out the driver is still to be told.
    pub(super) declined: usize,
    /// The rate limit, and what may still be published under it.
    pub(super) samples_per_second: u32,
    pub(super) samples_left: u64,
    /// Alarms and device states that may still be given under theirs.
    pub(super) notices_left: u64,
}

/// What earlier actions of the same list have done.
#[derive(Default)]
struct Progress<'a> {
    opened: Vec<u32>,
    closed: HashSet<u32>,
    sent: Vec<(u32, usize)>,
    answered: HashSet<u64>,
    polled: HashSet<u32>,
    timers: HashSet<u32>,
    alarms: HashSet<(&'a str, Option<u32>)>,
    /// Those with an id.
    batches: usize,
    samples: u64,
    notices: u64,
    stopped: bool,
}

/// What a list takes of what comes back with time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent {
    /// What its samples count for.
    pub(super) samples: u64,
    /// Its alarms and device states.
    pub(super) notices: u64,
}

/// Checks a whole list.
pub(super) fn validate(actions: &[Action], context: &Context<'_>) -> Result<Spent, Refusal> {
    let mut progress = Progress::default();
    for (index, action) in actions.iter().enumerate() {
        let refuse = |why: String| Refusal {
            number: index + 1,
            count: actions.len(),
            kind: kind(action),
            why,
        };
        if index >= ACTIONS {
            return Err(refuse(format!(
                "is one too many: a turn may ask for {ACTIONS}"
            )));
        }
        if progress.stopped {
            return Err(refuse(
                "stands after `stopped`, which must be the last".into(),
            ));
        }
        check(action, context, &mut progress).map_err(refuse)?;
    }
    Ok(Spent {
        samples: progress.samples,
        notices: progress.notices,
    })
}

fn check<'a>(
    action: &'a Action,
    context: &Context<'_>,
    progress: &mut Progress<'a>,
) -> Result<(), String> {
    match action {
        Action::Open(open) => check_open(open.connection, LinkId(open.link), context, progress),
        Action::Close(connection) => {
            check_connection(*connection, context, progress)?;
            progress.closed.insert(*connection);
            Ok(())
        }
        Action::Reset(connection) | Action::StartTls(connection) => {
            check_connection(*connection, context, progress)
        }
        Action::Pause(pause) => check_connection(pause.connection, context, progress),
        Action::Probe(probe) => check_connection(probe.connection, context, progress),
        Action::Send(send) => {
            check_connection(send.connection, context, progress)?;
            check_send(send.connection, send.bytes.len(), context, progress)
        }
        Action::SetTimer(timer) => {
            if !context.timers.contains(TimerId(timer.timer)) {
                progress.timers.insert(timer.timer);
            }
            bound(
                context.timers.len() + progress.timers.len(),
                MAX_TIMERS,
                "timers are set",
            )
        }
        Action::CancelTimer(_) | Action::Stopped => {
            progress.stopped |= matches!(action, Action::Stopped);
            Ok(())
        }
        Action::Publish(publish) => {
            progress.batches += usize::from(publish.id.is_some());
            if publish.id.is_some() {
                bound(
                    context.declined + progress.batches,
                    BATCHES,
                    "batches with an id of which the driver is still to be told",
                )?;
            }
            check_samples(&publish.samples, context, progress)
        }
        Action::PollDone(done) => {
            if !context
                .polls
                .is_outstanding(GroupId(done.group), done.cycle)
                || !progress.polled.insert(done.group)
            {
                return Err(format!(
                    "answers a poll of group {} with cycle {} that is not under way",
                    done.group, done.cycle
                ));
            }
            Ok(())
        }
        Action::ReadDone(done) => {
            let ask = check_request(done.request, context, progress)?;
            let Ask::Read(tags) = ask else {
                return Err(format!(
                    "answers request {}, which is no read",
                    done.request
                ));
            };
            let samples = match &done.answer {
                Ok(samples) => samples,
                Err(error) => return check_error(error),
            };
            let asked = tags.iter().map(|tag| tag.0);
            if !asked.eq(samples.iter().map(|sample| sample.tag)) {
                return Err(format!(
                    "answers read {} with other tags, or in another order, than were asked for",
                    done.request
                ));
            }
            check_samples(samples, context, progress)
        }
        Action::WriteDone(done) => {
            let ask = check_request(done.request, context, progress)?;
            let Ask::Write { tag, .. } = ask else {
                return Err(format!(
                    "answers request {}, which is no write",
                    done.request
                ));
            };
            match &done.answer {
                Ok(Some(value)) => check_value(*tag, value, context),
                Ok(None) => Ok(()),
                Err(error) => check_error(error),
            }
        }
        Action::CommandProgress(report) => {
            check_command(report.request, context, progress)?;
            if (0.0..=1.0).contains(&report.fraction) {
                Ok(())
            } else {
                Err(format!(
                    "says that request {} has come to {}, which is not from 0 to 1",
                    report.request, report.fraction
                ))
            }
        }
        Action::CommandDone(done) => {
            check_command(done.request, context, progress)?;
            progress.answered.insert(done.request);
            match &done.answer {
                Ok(answer) => bound(answer.len(), SEND_BYTES, "bytes are answered to a command"),
                Err(error) => check_error(error),
            }
        }
        Action::HealthDone(done) => {
            let owed = context.health.is_owed(RequestId(done.request));
            if !owed || !progress.answered.insert(done.request) {
                return Err(format!(
                    "answers health check {}, which is not under way",
                    done.request
                ));
            }
            done.answer.as_ref().map_or_else(check_error, |()| Ok(()))
        }
        Action::DeviceState(state) => {
            check_notice(context, progress)?;
            check_device(state.device, context)
        }
        Action::Alarm(alarm) => {
            check_notice(context, progress)?;
            if let Some(device) = alarm.device {
                check_device(device, context)?;
            }
            bound(
                alarm.code.len(),
                ALARM_CODE_BYTES,
                "bytes are the code of an alarm",
            )?;
            let alarm = (alarm.code.as_str(), alarm.device);
            if !context.alarms.contains(alarm) {
                progress.alarms.insert(alarm);
            }
            bound(
                context.alarms.len() + progress.alarms.len(),
                ALARMS,
                "alarms are in use",
            )
        }
        Action::Metric(metric) => match metric.device {
            Some(device) => check_device(device, context),
            None => Ok(()),
        },
        Action::SaveState(state) => bound(state.len(), MAX_STATE_BYTES, "bytes of state are saved"),
    }
}

fn check_open(
    id: u32,
    link: LinkId,
    context: &Context<'_>,
    progress: &mut Progress<'_>,
) -> Result<(), String> {
    if !context.connections.has_link(link) {
        return Err(format!(
            "names link {link}, which the channel does not have"
        ));
    }
    if id >= FIRST_CALLER {
        return Err(format!(
            "picks connection {id}; ids from 2^31 up belong to the host"
        ));
    }
    let least = progress
        .opened
        .last()
        .map_or(context.connections.least_free(), |last| last + 1);
    if id < least {
        return Err(format!(
            "picks connection {id}; ids must ascend, and {least} is the least that is free"
        ));
    }
    progress.opened.push(id);
    bound(
        context.connections.count() + progress.opened.len(),
        MAX_CONNECTIONS,
        "connections are open",
    )
}

fn check_connection(id: u32, context: &Context<'_>, progress: &Progress<'_>) -> Result<(), String> {
    let known = progress.opened.contains(&id)
        // Open, or gone for good: the driver may not have looked at its `closed` yet.
        || context.connections.was_opened(ConnectionId(id));
    if !known || progress.closed.contains(&id) {
        return Err(format!("names connection {id}, which is not open"));
    }
    Ok(())
}

fn check_send(
    id: u32,
    bytes: usize,
    context: &Context<'_>,
    progress: &mut Progress<'_>,
) -> Result<(), String> {
    bound(bytes, SEND_BYTES, "bytes are sent at once")?;
    // Gone, or not up: the bytes are dropped.
    let Some(left) = context.connections.window_left(ConnectionId(id)) else {
        return Ok(());
    };
    let so_far = match progress
        .sent
        .iter_mut()
        .find(|(connection, _)| *connection == id)
    {
        Some((_, sum)) => sum,
        None => {
            progress.sent.push((id, 0));
            &mut progress.sent.last_mut().expect("it was pushed above").1
        }
    };
    *so_far += bytes;
    if *so_far > left {
        return Err(format!(
            "sends {so_far} bytes on connection {id}, whose send window has {left} left"
        ));
    }
    Ok(())
}

fn check_request<'a>(
    id: u64,
    context: &Context<'a>,
    progress: &mut Progress<'_>,
) -> Result<&'a Ask, String> {
    let owed = context.pending.get(RequestId(id));
    match owed {
        Some(owed) if progress.answered.insert(id) => Ok(&owed.ask),
        Some(_) | None => Err(format!(
            "answers request {id}, which is not under way, or was answered before"
        )),
    }
}

/// The error of a request that failed.
fn check_error(error: &types::Error) -> Result<(), String> {
    if Quality::from(error.quality).is_bad() {
        return Ok(());
    }
    Err(format!(
        "answers with an error of quality {}, and what failed is bad",
        Quality::from(error.quality)
    ))
}

/// A command that is under way, and not answered by this list so far.
fn check_command(id: u64, context: &Context<'_>, progress: &Progress<'_>) -> Result<(), String> {
    let owed = context.pending.get(RequestId(id));
    match owed.filter(|_| !progress.answered.contains(&id)) {
        Some(owed) if matches!(owed.ask, Ask::Command { .. }) => Ok(()),
        Some(_) => Err(format!("speaks of request {id}, which is no command")),
        None => Err(format!(
            "speaks of request {id}, which is not under way, or was answered before"
        )),
    }
}

fn check_samples(
    samples: &[types::Sample],
    context: &Context<'_>,
    progress: &mut Progress<'_>,
) -> Result<(), String> {
    for sample in samples {
        progress.samples += weight(sample);
        let rule = context.rules.get(sample.tag as usize);
        let fine = match (rule, &sample.value) {
            (Some(rule), Some(value)) => admits(rule, value),
            (Some(_), None) => sample.quality as u8 >= types::Quality::Bad as u8,
            (None, _) => false,
        };
        if !fine {
            return Err(unfit(sample, context));
        }
    }
    if progress.samples > context.samples_left {
        return Err(format!(
            "publishes more samples than limits.samples_per_second = {} allows over ten seconds",
            context.samples_per_second
        ));
    }
    Ok(())
}

/// Why a sample cannot be meant.
#[cold]
fn unfit(sample: &types::Sample, context: &Context<'_>) -> String {
    match &sample.value {
        Some(value) => check_value(TagId(sample.tag), value, context).err(),
        None => check_tag(TagId(sample.tag), context).err(),
    }
    .unwrap_or_else(|| {
        format!(
            "publishes tag {} with quality {:?}, but without a value",
            sample.tag, sample.quality
        )
    })
}

fn check_notice(context: &Context<'_>, progress: &mut Progress<'_>) -> Result<(), String> {
    progress.notices += 1;
    if progress.notices > context.notices_left {
        return Err(format!(
            "is one too many: a driver may give {NOTICES} alarms and device states a second, over {RATE_SECONDS} seconds"
        ));
    }
    Ok(())
}

/// What a sample counts for under the rate limit: one, and one more for each 64 bytes of a text or an array, so that long
/// values cannot fill the queues of consumers with gigabytes.
#[inline]
fn weight(sample: &types::Sample) -> u64 {
    use types::Value as Abi;
    let bytes = match &sample.value {
        None | Some(Abi::Boolean(_) | Abi::Int(_) | Abi::Uint(_) | Abi::Float(_)) => return 1,
        Some(Abi::Text(text)) => text.len(),
        Some(Abi::Bytes(bytes)) => bytes.len(),
        Some(Abi::Booleans(all)) => all.len(),
        Some(Abi::Ints(all)) => all.len() * 8,
        Some(Abi::Uints(all)) => all.len() * 8,
        Some(Abi::Floats(all)) => all.len() * 8,
        Some(Abi::Texts(all)) => bytes_of_texts(all),
    };
    1 + (bytes / 64) as u64
}

fn check_tag(tag: TagId, context: &Context<'_>) -> Result<(), String> {
    match context.rules.get(tag.index()) {
        Some(_) => Ok(()),
        None => Err(format!("names tag {tag}, which the channel does not have")),
    }
}

fn check_value(id: TagId, value: &types::Value, context: &Context<'_>) -> Result<(), String> {
    check_tag(id, context)?;
    match (context.rules.get(id.index()), context.tags.get(id.index())) {
        (Some(rule), Some(tag)) if !admits(rule, value) => Err(format!(
            "gives tag {id} ({}) a value that its type {} does not hold",
            tag.name, tag.data_type
        )),
        _ => Ok(()),
    }
}

/// As `DataType::admits`, on the ABI's own values, so that nothing is converted before the list is accepted.
#[inline]
fn admits(rule: &Rule, value: &types::Value) -> bool {
    use types::Value as Abi;
    match value {
        Abi::Boolean(_) => rule.holds_boolean(),
        Abi::Int(_) | Abi::Uint(_) | Abi::Float(_) => rule.holds_number(),
        Abi::Text(text) => rule.holds_text() && text.len() <= Value::MAX_BYTES,
        Abi::Bytes(bytes) => rule.holds_bytes() && bytes.len() <= Value::MAX_BYTES,
        Abi::Booleans(all) => rule.holds_booleans(all.len()),
        Abi::Ints(all) => rule.holds_numbers(all.len()),
        Abi::Uints(all) => rule.holds_numbers(all.len()),
        Abi::Floats(all) => rule.holds_numbers(all.len()),
        Abi::Texts(all) => rule.holds_texts(all.len()) && are_within_bounds(all),
    }
}

fn check_device(device: u32, context: &Context<'_>) -> Result<(), String> {
    if (device as usize) < context.devices {
        Ok(())
    } else {
        Err(format!(
            "names device {device}, which the channel does not have"
        ))
    }
}

fn bound(actual: usize, most: usize, what: &str) -> Result<(), String> {
    if actual <= most {
        Ok(())
    } else {
        Err(format!("goes too far: {actual} {what}, of at most {most}"))
    }
}

/// The name of an action, as the WIT writes it.
pub(super) fn kind(action: &Action) -> &'static str {
    match action {
        Action::Open(_) => "open",
        Action::Close(_) => "close",
        Action::Reset(_) => "reset",
        Action::Send(_) => "send",
        Action::Pause(_) => "pause",
        Action::StartTls(_) => "start-tls",
        Action::SetTimer(_) => "set-timer",
        Action::CancelTimer(_) => "cancel-timer",
        Action::Publish(_) => "publish",
        Action::PollDone(_) => "poll-done",
        Action::ReadDone(_) => "read-done",
        Action::WriteDone(_) => "write-done",
        Action::CommandProgress(_) => "command-progress",
        Action::CommandDone(_) => "command-done",
        Action::DeviceState(_) => "device-state",
        Action::Probe(_) => "probe",
        Action::Metric(_) => "metric",
        Action::Alarm(_) => "alarm",
        Action::SaveState(_) => "save-state",
        Action::HealthDone(_) => "health-done",
        Action::Stopped => "stopped",
    }
}
