//! Makes the events of the next turn out of what has happened: mail, timers, polls, deadlines.

use std::sync::Arc;

use super::culprit::described;
use super::health::Check;
use super::incarnation::Incarnation;
use super::mailbox::{Ask, Mail, Request, RequestError};
use super::pending::{MAX_PENDING, Owed};
use super::shared::raise;
use crate::bindings::events::{self, Event, Happening};
use crate::bus::Happened;
use crate::event::{MonotonicNs, Quality, WallNs, bytes_of_texts};
use crate::exit::{During, Exit, ExitKind};
use crate::ids::{ConnectionId, DeviceId, GroupId, LinkId, RequestId};
use crate::lifecycle::{Input, State};
use crate::limits::{BATCH_BYTES, TEXT_BYTES};
use crate::link::{Accepted, CloseReason, LinkEvent, LinkMail, Outlook};
use crate::tags::Gate;
use crate::text::shown;

/// What a link's detail ends with when it is failed.
const GAVE_UP: &str = "; its attempts are spent, and `bulkhead link reconnect` asks for another";

impl Incarnation<'_> {
    /// Asks the driver how it is, if it is time; ends the incarnation if it has been silent for too long.
    pub(super) fn check_health(&mut self, now: MonotonicNs) -> Result<(), Exit> {
        if self.stopping.is_some() {
            return Ok(());
        }
        match self.health.due(now) {
            None => {}
            Some(Check::Ask(request)) => self.push(now, now, Happening::Health(request.0)),
            Some(Check::Cancel(request)) => {
                self.push(now, now, Happening::Cancel(request.0));
                self.refresh_health();
            }
            Some(Check::Unresponsive { sentence }) => {
                return Err(Exit::new(ExitKind::Unresponsive, During::Idle, sentence));
            }
        }
        Ok(())
    }

    /// Fills the batch with what waits, up to its limit.
    pub(super) fn gather(&mut self, now: MonotonicNs) {
        if let Some(suspect) = self.suspect.take_if(|_| self.batch.is_empty()) {
            self.batch.push(suspect);
            self.batch_closed = true;
            return;
        }
        if self.suspect.is_some() {
            return;
        }
        self.follow_locks(now);
        if let (Some(order), false) = (self.stopping, self.stop_told) {
            self.stop_told = true;
            let stop = events::Stop {
                deadline_ns: order.deadline.0,
                reason: order.reason,
            };
            self.push(now, now, Happening::Stop(stop));
        }
        while self.has_room()
            && let Some((at, declined)) = self.declined.pop_front()
        {
            self.push(at, now, Happening::Declined(declined));
        }
        while self.has_room()
            && let Some(request) = self.pending.expire(now)
        {
            self.push(now, now, Happening::Cancel(request.0));
        }
        self.shared.waiting().expire(now);
        if self.schedule_first {
            self.gather_schedule(now);
            self.gather_mail(now);
        } else {
            self.gather_mail(now);
            self.gather_schedule(now);
        }
        if !self.has_room() {
            self.schedule_first = !self.schedule_first;
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.batch.len() < self.portion.events()
            && self.batch_bytes < BATCH_BYTES
            && !self.batch_closed
    }

    fn push(&mut self, at: MonotonicNs, now: MonotonicNs, what: Happening) {
        self.batch_bytes += carried(&what);
        let is_suspect = self.is_suspect(&what);
        let event = Event {
            at_ns: at.min(now).0,
            what,
        };
        self.batch_closed |= is_suspect;
        if is_suspect && !self.batch.is_empty() {
            self.suspect = Some(event);
        } else {
            self.batch.push(event);
        }
    }

    fn gather_mail(&mut self, now: MonotonicNs) {
        loop {
            self.let_go_on(now);
            if !self.has_room() {
                return;
            }
            let mail = match self.first.take() {
                Some(mail) => mail,
                None => match self.mailbox.try_recv() {
                    Ok(mail) => mail,
                    Err(_) => return,
                },
            };
            match mail {
                Mail::Link(mail) => self.take_link_mail(*mail, now),
                // Its ids point into another configuration, before or after a reload.
                Mail::Request(request) if request.edition != self.shared.edition() => {
                    request.answer(Err(RequestError::Restarted));
                }
                Mail::Request(request) => self.take_request(*request, now),
                // It only wakes: the locks are looked at before each turn.
                Mail::Locks => self.follow_locks(now),
                Mail::Cancel(request) => {
                    if self.shared.waiting().withdraw(request).is_none()
                        && self.pending.cancel(request)
                    {
                        self.push(now, now, Happening::Cancel(request.0));
                    }
                }
            }
        }
    }

    fn gather_schedule(&mut self, now: MonotonicNs) {
        while self.has_room()
            && let Some((timer, _)) = self.timers.pop(now)
        {
            self.push(now, now, Happening::Timer(timer.0));
        }
        if self.stopping.is_some() {
            return;
        }
        let mut skipped = 0;
        while self.has_room()
            && let Some(due) = self.polls.pop(now, |group, missed| {
                skipped += missed;
                if let Some(cells) = self.shared.punctuality.get(group.index()) {
                    cells.skipped(missed);
                }
            })
        {
            let poll = events::Poll {
                group: due.group.0,
                cycle: due.cycle,
                scheduled_ns: due.scheduled.0,
                skip: Vec::new(),
            };
            let mut what = Happening::Poll(poll);
            if let Some(letter) = self.kept_away(&what) {
                self.leave_out(due.group, &letter);
                continue;
            }
            match (&mut what, self.left_out_of(due.group, now)) {
                (Happening::Poll(poll), Some(skip)) => poll.skip = skip,
                _ => {
                    self.polls.done(due.group);
                    continue;
                }
            }
            raise(&self.shared.counters.polls, 1);
            if let Some(cells) = self.shared.punctuality.get(due.group.index()) {
                cells.handed_out(now.since(due.scheduled));
            }
            self.push(now, now, what);
        }
        for group in self.polls.take_aging() {
            self.mark_stale(group, now);
        }
        if skipped > 0 {
            raise(&self.shared.counters.polls_skipped, skipped);
            self.shared.announce(Happened::Dropped {
                count: skipped,
                what: "polls of a group that was still busy",
            });
        }
    }

    fn take_request(&mut self, request: Request, now: MonotonicNs) {
        if request.reply.is_closed() {
            return; // Whoever asked has gone: a write that nobody waits for is not carried out behind their back.
        }
        if now >= request.deadline {
            let after = request.timeout;
            request.answer(Err(RequestError::TimedOut { after }));
            return;
        }
        if self.stopping.is_some() {
            request.answer(Err(RequestError::NotRunning {
                channel: self.shared.id().to_string(),
                state: State::Stopping,
                why: "it was asked to stop".into(),
            }));
            return;
        }
        if let Some(request) = self.wait_for_link(request) {
            self.dispatch(request, now);
        }
    }

    /// Hands a request to the driver.
    pub(super) fn dispatch(&mut self, request: Request, now: MonotonicNs) {
        if self.pending.len() >= MAX_PENDING {
            request.answer(Err(RequestError::Busy {
                channel: self.shared.id().to_string(),
            }));
            return;
        }
        if let Some(refusal) = self.barred(&request.ask) {
            request.answer(Err(refusal));
            return;
        }
        let Request {
            id,
            edition: _,
            ask,
            deadline,
            timeout,
            reply,
        } = request;
        let mut owed = Owed::new(ask, deadline, timeout, reply);
        let what = asked(id, &mut owed.ask, deadline);
        if let Some(letter) = self.kept_away(&what) {
            owed.answer(Err(RequestError::Quarantined {
                what: described(&letter),
                faults: letter.faults,
                letter: format!("{}/{}", self.shared.id(), letter.number),
            }));
            return;
        }
        raise(&self.shared.counters.requests, 1);
        self.pending.insert(id, owed);
        self.push(now, now, what);
    }

    fn take_link_mail(&mut self, mail: LinkMail, now: MonotonicNs) {
        if mail.incarnation != self.id.incarnation {
            return; // What was not delivered dies with the incarnation that it was meant for.
        }
        let id = mail.connection;
        let Some(opened) = self.connections.get_mut(id) else {
            return;
        };
        let link = opened.link;
        let what = match mail.event {
            LinkEvent::Opened {
                secured,
                peer,
                send_window,
                stream,
            } => {
                opened.stream = Some(stream);
                if self.connections.listens(link) {
                    self.note_link(
                        link,
                        Some("no device has called in".into()),
                        &format!("listening on {peer}"),
                    );
                } else {
                    self.note_link(link, None, &peer);
                    self.forgive_devices(link);
                    self.poll_soon(link, now);
                }
                Happening::Opened(events::Opened {
                    connection: id.0,
                    link: link.0,
                    secured,
                    peer,
                    send_window,
                })
            }
            LinkEvent::Accepted(accepted) => {
                let Accepted {
                    connection,
                    peer,
                    send_window,
                    stream,
                    handle,
                } = *accepted;
                self.connections.accept(connection, link, handle, stream);
                self.note_link(link, None, &peer);
                self.forgive_devices(link);
                self.poll_soon(link, now);
                Happening::Accepted(events::Accepted {
                    listener: id.0,
                    connection: connection.0,
                    peer,
                    send_window,
                })
            }
            LinkEvent::Closed { reason, outlook } => {
                opened.stream = None;
                let trouble = opened.handle.trouble();
                if outlook == Outlook::Ended {
                    self.connections.remove(id);
                }
                self.note_closed(link, reason, outlook, trouble.as_deref());
                Happening::Closed(events::Closed {
                    connection: id.0,
                    reason: reason.into(),
                    outlook: outlook.into(),
                })
            }
            LinkEvent::Received { stream, bytes } => {
                if opened.stream != Some(stream) {
                    return;
                }
                raise(&self.shared.counters.bytes_in, bytes.len() as u64);
                Happening::Received(events::Received {
                    connection: id.0,
                    peer: None,
                    bytes,
                })
            }
            LinkEvent::Datagram {
                stream,
                from,
                bytes,
            } => {
                if opened.stream != Some(stream) {
                    return;
                }
                raise(&self.shared.counters.bytes_in, bytes.len() as u64);
                Happening::Received(events::Received {
                    connection: id.0,
                    peer: Some(from.to_string()),
                    bytes,
                })
            }
            LinkEvent::Sent { stream, bytes } => {
                if opened.stream != Some(stream) {
                    return;
                }
                Happening::Sent(events::Sent {
                    connection: id.0,
                    bytes,
                })
            }
        };
        if let Some(letter) = self.kept_away(&what) {
            tracing::warn!(instance = %self.id, letter = letter.number, connection = id.0, "bytes are kept away from the driver, and the connection is reset");
            if let Some(opened) = self.connections.get(id)
                && let Some(stream) = opened.stream
            {
                opened.handle.reset(stream);
            }
            return;
        }
        self.push(mail.at, now, what);
    }

    /// A link has come up: the groups behind it do not wait for their period.
    fn poll_soon(&mut self, link: LinkId, now: MonotonicNs) {
        let config = self.shared.config();
        for (number, group) in (0u32..).zip(&config.groups) {
            let mut devices = group
                .tags
                .iter()
                .filter_map(|tag| config.tags.get(tag.index()));
            if devices.any(|tag| self.shared.device_uses(tag.device, link)) {
                self.polls.soon(GroupId(number), now);
            }
        }
    }

    fn note_closed(
        &mut self,
        link: LinkId,
        reason: CloseReason,
        outlook: Outlook,
        trouble: Option<&str>,
    ) {
        let (wanted, _) = self.connections.link_state(link);
        if !wanted && reason == CloseReason::Requested {
            self.note_link(link, None, "closed by the driver");
            return;
        }
        let then = match (self.connections.gave_up(link), outlook) {
            (true, _) => GAVE_UP,
            (false, Outlook::Redialling | Outlook::GivenUp) => "; it is dialled again",
            (false, Outlook::Ended) => "",
        };
        let name = self.link_name(link);
        let mut detail = match (reason, trouble) {
            // Where the reason alone leaves open what is to be done.
            (
                CloseReason::TlsFailed | CloseReason::Unreachable | CloseReason::Denied,
                Some(trouble),
            ) => format!("{}: {}", reason.sentence(), shown(trouble, TEXT_BYTES)),
            _ => reason.sentence().to_owned(),
        };
        let why: Arc<str> = format!("link {name} is down: {detail}{then}").into();
        if then == GAVE_UP {
            detail += GAVE_UP;
        }
        self.note_link(link, Some(why.clone()), &detail);
        if then == GAVE_UP {
            self.shared.waiting().give_up(link);
        }
        // Looked up now: before the driver's turn the link may be up again, and nothing has been read over it yet.
        let config = self.shared.config();
        let lost: Box<[bool]> = (0u32..)
            .zip(&config.devices)
            .map(|(device, _)| self.link_down(DeviceId(device)).is_some())
            .collect();
        if lost.contains(&true) {
            self.just_lost.push(Lost { devices: lost, why });
        }
    }

    /// Notes how a link is, and tells whoever watches if that is news.
    fn note_link(&mut self, link: LinkId, down: Option<Arc<str>>, detail: &str) {
        let (wanted, all_up) = self.connections.link_state(link);
        if let Some(slot) = self.links_down.get_mut(link.index()) {
            *slot = if all_up { None } else { down };
            if let Some(why) = slot {
                self.shared.waiting().explain(link, why);
            }
        }
        self.may_go_on = !self.shared.waiting().is_empty();
        let mut news = false;
        self.shared.update(|status| {
            if let Some(link) = status.links.get_mut(link.index()) {
                news = link.up != all_up || link.detail != detail;
                link.up = all_up;
                link.wanted = wanted;
                link.detail = detail.to_owned();
            }
        });
        if news {
            let name = self
                .shared
                .config()
                .links
                .get(link.index())
                .map_or_else(String::new, |link| link.name.clone());
            self.shared.announce(Happened::Link {
                link: name,
                up: all_up,
                detail: detail.to_owned(),
            });
        }
        self.refresh_health();
    }

    /// Takes over what the connections that outlived a restart are like. What lies behind them was read by the driver
    /// before, so it is polled at once.
    pub(super) fn refresh_links(&mut self, now: MonotonicNs) {
        for number in (0u32..).take(self.shared.config().links.len()) {
            let (wanted, up) = self.connections.link_state(LinkId(number));
            if wanted && !up && self.links_down[number as usize].is_none() {
                self.note_link(
                    LinkId(number),
                    Some(self.dialled(LinkId(number))),
                    "being dialled",
                );
            } else if up {
                self.note_link(LinkId(number), None, "kept over the restart");
                self.poll_soon(LinkId(number), now);
            }
        }
    }

    /// Degraded while a link that the driver wants is down, or the driver is not well.
    pub(super) fn refresh_health(&mut self) {
        let down = self.links_down.iter().flatten().next();
        let trouble = down.or(self.health.unwell());
        let input = match (self.shared.state(), trouble) {
            (State::Running, Some(_)) => Input::Impaired,
            (State::Degraded, None) => Input::Recovered,
            (State::Degraded, Some(why)) => {
                self.shared.explain(why);
                return;
            }
            _ => return,
        };
        let reason = trouble.map_or("every link is up, and the driver is well", |why| why);
        if let Err(denied) = self.shared.step(input, reason) {
            tracing::debug!(instance = %self.id, %denied, "no change of health");
        }
    }

    /// What has not been read for too long is good no longer, whatever the driver says or does not say.
    fn mark_stale(&self, group: GroupId, now: MonotonicNs) {
        let Some(group) = self.shared.config().groups.get(group.index()) else {
            return;
        };
        let Some(limit) = group.stale_after else {
            return;
        };
        let why = format!(
            "nothing was read for more than {}, and group {} is polled each {}",
            humantime::format_duration(limit),
            group.name,
            humantime::format_duration(group.period)
        );
        let since = MonotonicNs(
            now.0
                .saturating_sub(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)),
        );
        let wall = self.shared.clock().wall();
        let changes = self
            .shared
            .tags()
            .mark_stale(&group.tags, since, &why.into(), wall);
        self.shared.publish(&self.id, changes, wall);
    }

    /// Gives the tags behind links that went down their quality, now that the driver has been told: what it
    /// published of bytes that came before is in, and only what it reads from now on can be good.
    pub(super) fn mark_lost_links(&mut self, wall: WallNs) {
        for Lost { devices, why } in std::mem::take(&mut self.just_lost) {
            let changes = self.shared.tags().mark(
                |tag| {
                    devices.get(tag.device.index()) == Some(&true)
                        && self.devices.locked(tag.device).is_none()
                },
                Quality::BadNotConnected,
                &why,
                wall,
            );
            self.shared.publish(&self.id, changes, wall);
        }
    }

    /// Why no link leads to a device, if none does.
    fn link_down(&self, device: DeviceId) -> Option<Arc<str>> {
        let down = &self.links_down;
        if down.iter().all(Option::is_none) {
            return None;
        }
        let own = self
            .shared
            .config()
            .devices
            .get(device.index())
            .and_then(|device| device.link);
        match own {
            Some(link) => down.get(link.index()).cloned().flatten(),
            // Over any link: only if each one that the driver wants is down.
            None => {
                let any_up = (0u32..)
                    .take(down.len())
                    .any(|link| self.connections.link_state(LinkId(link)) == (true, true));
                if any_up {
                    None
                } else {
                    down.iter().flatten().next().cloned()
                }
            }
        }
    }
}

/// What an event hands to the driver besides itself, in bytes.
fn carried(what: &Happening) -> usize {
    use crate::bindings::types::Value;
    match what {
        Happening::Received(received) => received.bytes.len(),
        Happening::Read(read) => size_of_val(read.tags.as_slice()),
        Happening::Write(write) => match &write.value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Booleans(all) => all.len(),
            Value::Ints(all) => size_of_val(all.as_slice()),
            Value::Uints(all) => size_of_val(all.as_slice()),
            Value::Floats(all) => size_of_val(all.as_slice()),
            Value::Texts(all) => bytes_of_texts(all),
            Value::Boolean(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_) => 0,
        },
        Happening::Command(command) => command.payload.len(),
        _ => 0,
    }
}

/// A request as the driver hears of it.
fn asked(id: RequestId, ask: &mut Ask, deadline: MonotonicNs) -> Happening {
    match ask {
        Ask::Read(tags) => Happening::Read(events::Read {
            request: id.0,
            tags: tags.iter().map(|tag| tag.0).collect(),
            deadline_ns: deadline.0,
        }),
        Ask::Write {
            tag,
            value,
            read_back,
        } => Happening::Write(events::Write {
            request: id.0,
            tag: tag.0,
            value: value.clone().into(),
            read_back: *read_back,
            deadline_ns: deadline.0,
        }),
        Ask::Command { name, payload, .. } => Happening::Command(events::Command {
            request: id.0,
            name: name.to_string(),
            // Held once: it may be a megabyte.
            payload: std::mem::take(payload),
            deadline_ns: deadline.0,
        }),
    }
}

/// Devices to which no link led any more at some moment of the present batch.
pub(super) struct Lost {
    /// By their places.
    devices: Box<[bool]>,
    why: Arc<str>,
}

/// Keeps samples from being good while no link leads to their device, or the driver has said that it is down.
pub(super) struct Reach<'a, 'b> {
    pub(super) incarnation: &'a Incarnation<'b>,
}

impl Gate for Reach<'_, '_> {
    fn is_open(&self) -> bool {
        let at = self.incarnation;
        at.links_down
            .iter()
            .chain(&at.devices_down)
            .all(Option::is_none)
            && at.devices.none_locked()
    }

    fn blocks(&self, device: DeviceId) -> Option<(Quality, Arc<str>)> {
        let at = self.incarnation;
        if let Some(why) = at.devices.locked(device) {
            return Some((Quality::BadOutOfService, why.clone()));
        }
        if let Some(why) = at.link_down(device) {
            return Some((Quality::BadNotConnected, why));
        }
        let why = at.devices_down.get(device.index()).cloned().flatten()?;
        Some((Quality::BadNoCommunication, why))
    }
}

impl Incarnation<'_> {
    /// A connection was opened by the driver: until it is up, its link is down.
    pub(super) fn note_opening(&mut self, connection: ConnectionId) {
        if let Some(opened) = self.connections.get(connection) {
            let link = opened.link;
            self.note_link(link, Some(self.dialled(link)), "being dialled");
        }
    }
}

impl From<CloseReason> for events::CloseReason {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Requested => events::CloseReason::Requested,
            CloseReason::ByPeer => events::CloseReason::ByPeer,
            CloseReason::Reset => events::CloseReason::Reset,
            CloseReason::Refused => events::CloseReason::Refused,
            CloseReason::TimedOut => events::CloseReason::TimedOut,
            CloseReason::Unreachable => events::CloseReason::Unreachable,
            CloseReason::Denied => events::CloseReason::Denied,
            CloseReason::TlsFailed => events::CloseReason::TlsFailed,
            CloseReason::HeartbeatLost => events::CloseReason::HeartbeatLost,
            CloseReason::HostStopping => events::CloseReason::HostStopping,
            CloseReason::ByOperator => events::CloseReason::ByOperator,
            CloseReason::PathGone => events::CloseReason::PathGone,
        }
    }
}

impl From<Outlook> for events::Outlook {
    fn from(outlook: Outlook) -> Self {
        match outlook {
            Outlook::Redialling => events::Outlook::Redialling,
            Outlook::GivenUp => events::Outlook::GivenUp,
            Outlook::Ended => events::Outlook::Ended,
        }
    }
}
