//! The other end: a turn is taken, its actions are held against the rules, and what they ask for happens.

use super::host::FakeHost;
use super::ledger::{Answer, Line};
use crate::abi::{
    Action, ActionKind, CloseReason, Closed, ConnectionId, Declined, Event, Happening, Instant,
    Opened, Outlook, Received, RequestId, Sent,
};
use crate::driver::Driver;

/// Two in the afternoon of 2026-01-01: any date that is no special one.
const WALL_START_NS: u64 = 1_767_276_000_000_000_000;

impl<D: Driver> FakeHost<D> {
    pub(super) fn turn(&mut self, events: Vec<Event>) {
        let now = Instant {
            monotonic_ns: self.now_ns,
            wall_ns: WALL_START_NS + self.now_ns,
        };
        match self.runtime.turn(now, events) {
            Ok(actions) => {
                assert!(
                    actions.len() <= 16_384,
                    "{} actions in one turn",
                    actions.len()
                );
                for action in actions {
                    let checked =
                        self.ledger
                            .check(&action, &self.setup.config, self.setup.send_window);
                    if let Err(broken) = checked {
                        panic!("the host would refuse this turn: {broken}");
                    }
                    self.apply(&action);
                    self.history.push(action);
                }
            }
            Err(error) => self.ended = Some(error),
        }
    }

    fn apply(&mut self, action: &Action) {
        match action {
            Action::Open(open) => {
                let line = Line::new(open.link);
                self.ledger.lines.insert(open.connection, line);
                self.dial(open.connection);
            }
            Action::Close(id) => {
                let line = self.line(*id);
                line.up = false;
                line.dead = true;
            }
            Action::Reset(id) if self.line(*id).in_step() => {
                self.happen_closed(*id, CloseReason::Requested, Outlook::Redialling);
                self.dial(*id);
            }
            Action::StartTls(id) if !self.setup.start_tls => {
                self.happen(Happening::Declined(Declined {
                    action: ActionKind::StartTls,
                    connection: Some(*id),
                    batch: None,
                    why: "the operator does not allow it".to_owned(),
                }));
            }
            // As if the handshake went well at once: a new stream under the same id.
            Action::StartTls(id) if self.line(*id).in_step() => self.come_up(*id, true),
            Action::Send(send) => self.sent(send.connection, send.peer.as_deref(), &send.bytes),
            Action::Pause(pause) => self.line(pause.connection).paused = pause.on,
            Action::SetTimer(timer) => {
                let due = self.now_ns.saturating_add(timer.after_ns);
                self.ledger.timers.insert(timer.timer, due);
            }
            Action::CancelTimer(timer) => {
                self.ledger.timers.remove(timer);
            }
            Action::Publish(publish) => {
                for sample in &publish.samples {
                    self.last.insert(sample.tag, sample.clone());
                    self.samples.push(sample.clone());
                }
                if let Some(id) = publish.id {
                    self.happen(Happening::Stored(id));
                }
            }
            Action::PollDone(done) => {
                self.polls_done.insert(done.group, *done);
            }
            Action::ReadDone(done) => {
                self.answered(done.request, Answer::Read(done.answer.clone()))
            }
            Action::WriteDone(done) => {
                self.answered(done.request, Answer::Write(done.answer.clone()));
            }
            Action::CommandDone(done) => {
                self.answered(done.request, Answer::Command(done.answer.clone()));
            }
            Action::HealthDone(done) => {
                self.answered(done.request, Answer::Health(done.answer.clone()));
            }
            Action::DeviceState(state) => {
                self.conditions.insert(state.device, state.condition);
            }
            Action::SaveState(state) => self.state = Some(state.clone()),
            Action::Reset(_)
            | Action::StartTls(_)
            | Action::CommandProgress(_)
            | Action::Probe(_)
            | Action::Metric(_)
            | Action::Alarm(_)
            | Action::Stopped => {}
        }
    }

    fn answered(&mut self, request: RequestId, answer: Answer) {
        self.answers.insert(request, answer);
    }

    /// Bytes that left: the peer answers, and the credit comes back when half of the window is free again.
    fn sent(&mut self, id: ConnectionId, to: Option<&str>, bytes: &[u8]) {
        let window = self.setup.send_window;
        let line = self.line(id);
        if !line.in_step() {
            return;
        }
        let link = line.link;
        let datagrams = self.setup.config.links[link as usize].kind == "udp";
        let line = self.line(id);
        if datagrams {
            line.datagrams.push((to.map(str::to_owned), bytes.to_vec()));
        } else {
            line.sent.extend_from_slice(bytes);
        }
        line.in_flight += bytes.len() as u32;
        let in_flight = line.in_flight;
        if in_flight > window / 2 && !self.setup.hold_credit {
            self.line(id).in_flight = 0;
            self.happen(Happening::Sent(Sent {
                connection: id,
                bytes: in_flight,
            }));
        }
        if let Some(peer) = self.peers.get_mut(&link) {
            let reply = peer(bytes);
            if datagrams && !reply.is_empty() {
                self.happen(Happening::Received(Received {
                    connection: id,
                    peer: Some(to.unwrap_or("a fake peer").to_owned()),
                    bytes: reply,
                }));
            } else if !reply.is_empty() {
                self.happen_received(id, reply);
            }
        }
    }

    pub(super) fn dial(&mut self, id: ConnectionId) {
        let link = self.line(id).link;
        match self.away.get(&link) {
            Some((reason, outlook)) => self.happen_closed(id, *reason, *outlook),
            None => {
                let secured = self.setup.config.links[link as usize].kind == "tls";
                self.come_up(id, secured);
            }
        }
    }

    fn come_up(&mut self, id: ConnectionId, secured: bool) {
        let line = self.line(id);
        line.up = true;
        line.streams += 1;
        line.in_flight = 0;
        let link = line.link;
        self.happen(Happening::Opened(Opened {
            connection: id,
            link,
            secured,
            peer: "a fake peer".to_owned(),
            send_window: self.setup.send_window,
        }));
    }

    /// A device that called in is not called back.
    pub(super) fn happen_closed(
        &mut self,
        id: ConnectionId,
        reason: CloseReason,
        outlook: Outlook,
    ) {
        let called_in = id >= 1 << 31;
        let line = self.line(id);
        line.up = false;
        line.dead = called_in;
        self.happen(Happening::Closed(Closed {
            connection: id,
            reason,
            outlook: if called_in { Outlook::Ended } else { outlook },
        }));
    }

    pub(super) fn happen_received(&mut self, connection: ConnectionId, bytes: Vec<u8>) {
        for piece in bytes.chunks(64 * 1024) {
            self.happen(Happening::Received(Received {
                connection,
                peer: None,
                bytes: piece.to_vec(),
            }));
        }
    }
}
