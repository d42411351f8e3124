//! Does what a list of actions says, in order. The list was checked as a whole.

use std::sync::Arc;
use std::time::Duration;

use super::alarms::Said;
use super::connections::FIRST_CALLER;
use super::incarnation::Incarnation;
use super::intake::Reach;
use super::mailbox::{Answer, Ask, Progress, RequestError};
use super::pending::Owed;
use super::shared::raise;
use crate::bindings::actions::{
    self, Action, Alarm, CommandDone, DeviceCondition, DeviceState, HealthDone, PollDone, ReadDone,
    Send, WriteDone,
};
use crate::bindings::events::{ActionKind, Declined};
use crate::bindings::types;
use crate::bus::Happened;
use crate::event::{MonotonicNs, Quality, Sample, Value, WallNs};
use crate::exit::{During, Exit, ExitKind};
use crate::ids::{ConnectionId, DeviceId, GroupId, LinkId, RequestId, TimerId};
use crate::limits::TEXT_BYTES;
use crate::link::{Connection, StreamId};
use crate::store::SAVED_STATE;
use crate::text::{shown, shown_lines};

/// After so many actions others get to run.
const BREATH: usize = 512;

impl Incarnation<'_> {
    /// Applies a whole list.
    pub(super) async fn apply(
        &mut self,
        actions: Vec<Action>,
        now: MonotonicNs,
        wall: WallNs,
    ) -> Result<(), Exit> {
        for (index, action) in actions.into_iter().enumerate() {
            // Nobody else is served by this thread meanwhile, timers and sockets included.
            if index % BREATH == BREATH - 1 {
                tokio::task::yield_now().await;
            }
            match action {
                Action::Publish(publish) => {
                    self.publish(publish.samples, (wall, now));
                    if publish.id.is_some() {
                        let declined = Declined {
                            action: ActionKind::Publish,
                            connection: None,
                            batch: publish.id,
                            why: "samples are not durable in this version: publish without an id"
                                .to_owned(),
                        };
                        self.decline(declined, now);
                    }
                }
                Action::PollDone(done) => self.poll_done(&done, now),
                Action::Send(send) => self.send(send, now)?,
                Action::SetTimer(timer) => {
                    self.timers.set(
                        TimerId(timer.timer),
                        now,
                        Duration::from_nanos(timer.after_ns),
                    );
                }
                Action::CancelTimer(timer) => self.timers.cancel(TimerId(timer)),
                Action::WriteDone(done) => self.write_done(done),
                Action::ReadDone(done) => self.read_done(done, (wall, now)),
                Action::Open(open) => {
                    self.connections.open(
                        ConnectionId(open.connection),
                        LinkId(open.link),
                        open.target,
                    );
                    self.note_opening(ConnectionId(open.connection));
                }
                Action::Close(connection) => {
                    self.with_connection(connection, |handle| handle.close())
                }
                Action::Reset(connection) => {
                    self.with_stream(connection, |handle, stream| handle.reset(stream))
                }
                Action::Pause(pause) => {
                    self.with_connection(pause.connection, |handle| handle.pause(pause.on))
                }
                Action::StartTls(connection) => self.start_tls(connection, now),
                Action::DeviceState(state) => self.device_state(state, wall),
                Action::Alarm(alarm) => self.alarm(alarm),
                Action::Probe(probe) => {
                    let answered = probe.round_trip_ns.map(Duration::from_nanos);
                    self.with_stream(probe.connection, |handle, stream| {
                        handle.probe(stream, now, answered)
                    });
                }
                Action::Metric(_) => {
                    let declined = Declined {
                        action: ActionKind::Metric,
                        connection: None,
                        batch: None,
                        why: "this version keeps no metrics of drivers".to_owned(),
                    };
                    self.decline(declined, now);
                }
                Action::SaveState(state) => Box::pin(self.save_state(state)).await?,
                Action::HealthDone(done) => self.health_done(done),
                Action::CommandProgress(report) => self.command_progress(report),
                Action::CommandDone(done) => self.command_done(done),
                Action::Stopped => return Err(self.stopped()),
            }
        }
        Ok(())
    }

    fn publish(&mut self, samples: Vec<types::Sample>, at: (WallNs, MonotonicNs)) {
        raise(&self.shared.counters.samples, samples.len() as u64);
        let gate = Reach { incarnation: self };
        let handed_on = self.shared.tags().take(samples, &gate, at);
        self.hand_on(handed_on);
    }

    fn hand_on(&mut self, samples: Vec<Sample>) {
        if self.handed_on.is_empty() {
            self.handed_on = samples;
        } else {
            self.handed_on.extend(samples);
        }
    }

    /// Puts what this turn hands on onto the bus.
    pub(super) fn flush(&mut self, wall: WallNs) {
        let samples = std::mem::take(&mut self.handed_on);
        self.shared.publish(&self.id, samples, wall);
    }

    fn poll_done(&mut self, done: &PollDone, now: MonotonicNs) {
        let group = GroupId(done.group);
        let handed_out = self.polls.done(group);
        if let (Some(cells), Some(at)) = (self.shared.punctuality.get(group.index()), handed_out) {
            let counts = (done.requests, done.failed);
            cells.done(now.since(at), counts, done.round_trip_ns);
        }
        self.polled(GroupId(done.group), now);
        raise(
            &self.shared.counters.poll_requests,
            u64::from(done.requests),
        );
        raise(&self.shared.counters.poll_failures, u64::from(done.failed));
    }

    fn send(&mut self, send: Send, now: MonotonicNs) -> Result<(), Exit> {
        let Send {
            connection,
            peer,
            bytes,
        } = send;
        // Gone, or not up: the bytes are dropped, and the driver is about to be told why.
        let Some(opened) = self.connections.get(ConnectionId(connection)) else {
            return Ok(());
        };
        let Some(stream) = opened.stream else {
            return Ok(());
        };
        let count = bytes.len() as u64;
        let sent = if peer.is_none() && !opened.datagrams {
            opened.handle.send(stream, bytes).map(Ok)
        } else {
            opened.handle.send_to(stream, peer.as_deref(), bytes)
        };
        let sent =
            sent.map_err(|error| Exit::new(ExitKind::Refused, During::Turn, error.to_string()))?;
        if let Err(not_sent) = sent {
            let declined = Declined {
                action: ActionKind::Send,
                connection: Some(connection),
                batch: None,
                why: not_sent.to_string(),
            };
            self.decline(declined, now);
            return Ok(());
        }
        raise(&self.shared.counters.bytes_out, count);
        Ok(())
    }

    fn start_tls(&mut self, connection: u32, now: MonotonicNs) {
        let Some(opened) = self.connections.get(ConnectionId(connection)) else {
            return;
        };
        let link = opened.link;
        if self.connections.may_start_tls(link) && connection < FIRST_CALLER {
            if let Some(stream) = opened.stream {
                opened.handle.start_tls(stream);
            }
            return;
        }
        let name = self.shared.config().links.get(link.index());
        let name = name.map_or("?", |link| link.name.as_str());
        let why = format!(
            "TLS may not begin on link {name}; it takes a tcp:// link with `start_tls = true`"
        );
        let declined = Declined {
            action: ActionKind::StartTls,
            connection: Some(connection),
            batch: None,
            why,
        };
        self.decline(declined, now);
    }

    /// What is about a stream that is down is about nothing: the driver has been told, or is about to be.
    fn with_stream(&self, connection: u32, act: impl FnOnce(&Connection, StreamId)) {
        if let Some(opened) = self.connections.get(ConnectionId(connection))
            && let Some(stream) = opened.stream
        {
            act(&opened.handle, stream);
        }
    }

    fn with_connection(&self, connection: u32, act: impl FnOnce(&Connection)) {
        if let Some(opened) = self.connections.get(ConnectionId(connection)) {
            act(&opened.handle);
        }
    }

    fn write_done(&mut self, done: WriteDone) {
        let Some(owed) = self.pending.remove(RequestId(done.request)) else {
            return;
        };
        let answer = match (done.answer, &owed.ask) {
            (Ok(Some(value)), Ask::Write { tag, .. }) => Ok(Answer::Write(
                self.shared.tags().to_engineering(*tag, Value::from(value)),
            )),
            (Ok(_), _) => Ok(Answer::Write(None)),
            (Err(error), _) => Err(failed(error)),
        };
        self.answer(owed, answer);
    }

    fn read_done(&mut self, done: ReadDone, (wall, now): (WallNs, MonotonicNs)) {
        let Some(owed) = self.pending.remove(RequestId(done.request)) else {
            return;
        };
        let answer = match done.answer {
            Ok(samples) => {
                let tags: Vec<_> = samples.iter().map(|sample| sample.tag).collect();
                self.publish(samples, (wall, now));
                let states = tags.into_iter().filter_map(|tag| {
                    let tag = crate::ids::TagId(tag);
                    let state = self.shared.tags().state(tag)?;
                    Some(Sample {
                        tag,
                        value: state.value,
                        quality: state.quality,
                        source_time: state.source_time,
                    })
                });
                Ok(Answer::Read(states.collect()))
            }
            Err(error) => Err(failed(error)),
        };
        self.answer(owed, answer);
    }

    fn command_progress(&self, report: actions::Progress) {
        let owed = self.pending.get(RequestId(report.request));
        if let Some(Ask::Command { progress, .. }) = owed.map(|owed| &owed.ask) {
            progress.send_replace(Some(Progress {
                fraction: report.fraction,
                message: shown(&report.message, TEXT_BYTES),
            }));
        }
    }

    fn command_done(&mut self, done: CommandDone) {
        if let Some(owed) = self.pending.remove(RequestId(done.request)) {
            self.answer(owed, done.answer.map(Answer::Command).map_err(failed));
        }
    }

    /// Answers whoever asked. One that does not wait any more was answered before: by the deadline, or by taking it back.
    fn answer(&self, owed: Owed, answer: Result<Answer, RequestError>) {
        if !owed.answer(answer) {
            raise(&self.shared.counters.late_answers, 1);
        }
    }

    fn health_done(&mut self, done: HealthDone) {
        let answer = done
            .answer
            .map_err(|error| shown(&error.message, TEXT_BYTES));
        self.health.answered(RequestId(done.request), answer);
        self.refresh_health();
    }

    fn device_state(&mut self, state: DeviceState, wall: WallNs) {
        let condition = match state.condition {
            DeviceCondition::Up => "up",
            DeviceCondition::Down => "down",
            DeviceCondition::Unknown => "unknown",
        };
        let why = shown(&state.why, TEXT_BYTES);
        let mut device_name = None;
        self.shared.update(|status| {
            if let Some(device) = status.devices.get_mut(state.device as usize)
                && (device.condition != condition || device.why != why)
            {
                device.condition = condition;
                device.why.clone_from(&why);
                device_name = Some(device.name.clone());
            }
        });
        self.heard_of(
            DeviceId(state.device),
            state.condition == DeviceCondition::Down,
        );
        let Some(device) = device_name else { return };
        let down: Option<Arc<str>> = (state.condition == DeviceCondition::Down)
            .then(|| format!("device {device} is down: {why}").into());
        if let Some(slot) = self.devices_down.get_mut(state.device as usize) {
            slot.clone_from(&down);
        }
        if let Some(reason) = down {
            let device = DeviceId(state.device);
            let changes = self.shared.tags().mark_unless_bad(
                |tag| tag.device == device,
                Quality::BadNoCommunication,
                &reason,
                wall,
            );
            self.hand_on(changes);
        }
        self.shared.announce(Happened::Device {
            device,
            condition,
            why,
        });
    }

    fn alarm(&mut self, alarm: Alarm) {
        let Alarm {
            code,
            severity,
            active,
            message,
            device: about,
            source_time_ns,
        } = alarm;
        let code = shown(&code, TEXT_BYTES);
        let message = shown(&message, TEXT_BYTES);
        let devices = &self.shared.config().devices;
        let device = about
            .and_then(|id| devices.get(id as usize))
            .map(|device| device.name.clone());
        let said = Said {
            severity: severity.into(),
            active,
            message,
            source_time: source_time_ns.map(WallNs),
        };
        if self.alarms.say((&code, about), &said) {
            let Said {
                severity,
                active,
                message,
                source_time,
            } = said;
            self.shared.announce(Happened::Alarm {
                code,
                severity,
                active,
                message,
                device,
                source_time,
            });
        }
    }

    /// Durable before this returns, hence before any later `send` of the same list leaves.
    async fn save_state(&mut self, state: Vec<u8>) -> Result<(), Exit> {
        let saved = self
            .shared
            .store()
            .put(&SAVED_STATE, self.shared.id(), state);
        saved
            .await
            .map_err(|error| Exit::new(ExitKind::HostFault, During::Turn, error.to_string()))
    }

    /// Tells the driver in its next turn. Of several actions of one kind that are about the same, once: it would learn no more from the
    /// others, and a list of nothing else would fill turns without end.
    fn decline(&mut self, declined: Declined, now: MonotonicNs) {
        let about = |it: &Declined| (it.action, it.connection, it.batch);
        let mut told = self.declined.iter();
        if told.any(|(_, before)| about(before) == about(&declined)) {
            return;
        }
        let Declined { action, why, .. } = &declined;
        tracing::debug!(instance = %self.id, ?action, %why, "action declined");
        self.declined.push_back((now, declined));
    }

    fn stopped(&self) -> Exit {
        if self.stopping.is_some() {
            Exit::new(
                ExitKind::Stopped,
                During::Turn,
                "the driver stopped when asked",
            )
        } else {
            Exit::new(
                ExitKind::Finished,
                During::Turn,
                "the driver ended by itself",
            )
        }
    }
}

fn failed(error: types::Error) -> RequestError {
    RequestError::Failed {
        quality: error.quality.into(),
        code: error.code,
        message: shown(&error.message, TEXT_BYTES),
        trace: error.trace.map(|trace| shown_lines(&trace, 64 * 1024)),
    }
}
