//! Holds what comes now against what was recorded.

use super::report::{Divergence, Ending, Report, Verdict};
use crate::bindings::events::{Event, Happening};
use crate::exit::{Exit, ExitKind};
use crate::recorder::{Header, Turn};
use crate::restart::ExitClass;

/// The most events of a turn that are named.
const MAX_NAMED: usize = 16;

/// The comparison as it goes on.
pub(super) struct Comparison<'a> {
    header: &'a Header,
    recorded: &'a Exit,
    same_driver: bool,
    whole: bool,
    /// Turns replayed so far.
    turns: u64,
    /// The number of the present turn, and its events.
    turn: u64,
    events: Vec<String>,
    /// Whether it returned.
    returned: bool,
    divergence: Option<Divergence>,
    has_stopped: bool,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(
        header: &'a Header,
        recorded: &'a Exit,
        same_driver: bool,
        whole: bool,
    ) -> Self {
        Self {
            header,
            recorded,
            same_driver,
            whole,
            turns: 0,
            turn: 0,
            events: Vec::new(),
            returned: true,
            divergence: None,
            has_stopped: false,
        }
    }

    /// A call that is no turn has returned.
    pub(super) fn call(&mut self, what: &str, recorded: Option<u64>, fuel: u64) {
        if let Some(recorded) = recorded
            && recorded != fuel
        {
            self.diverge(
                what.to_owned(),
                format!("fuel {recorded}"),
                format!("fuel {fuel}"),
            );
        }
    }

    /// A turn begins.
    pub(super) fn begin(&mut self, turn: &Turn) {
        self.turns += 1;
        self.turn = turn.number;
        self.events = named(&turn.events);
        self.returned = false;
    }

    /// It has returned.
    pub(super) fn end(&mut self, turn: &Turn, fuel: u64, actions: usize) {
        self.returned = true;
        let actions = actions as u64;
        let Some((recorded, asked)) = turn.done else {
            return;
        };
        // Another driver may use what fuel it likes.
        if asked != actions || (self.same_driver && recorded != fuel) {
            self.diverge(
                format!("turn {}", turn.number),
                format!("fuel {recorded}, {asked} actions"),
                format!("fuel {fuel}, {actions} actions"),
            );
        }
    }

    /// The driver has stopped in order.
    pub(super) fn stopped(&mut self) {
        self.has_stopped = true;
    }

    fn diverge(&mut self, at: String, recorded: String, replayed: String) {
        if self.divergence.is_none() {
            self.divergence = Some(Divergence {
                at,
                recorded,
                replayed,
            });
        }
    }

    /// What it all comes to.
    pub(super) fn conclude(self, exit: Option<Exit>) -> Report {
        let header = self.header;
        let verdict = self.verdict(exit.as_ref());
        let notes = self.notes(exit.as_ref(), verdict);
        // The recording ends with the turn that it ended in.
        let events = if self.turn == header.turns {
            self.events.clone()
        } else {
            Vec::new()
        };
        Report {
            verdict,
            best_effort: !self.whole,
            same_driver: self.same_driver,
            turns: self.turns,
            turns_recorded: header.turns,
            recorded: Ending::new(self.recorded, header.turns, events),
            replayed: exit.map(|exit| Ending::new(&exit, self.turn, self.events)),
            divergence: self.divergence,
            notes,
        }
    }

    fn verdict(&self, exit: Option<&Exit>) -> Verdict {
        match (self.same_driver, exit) {
            (false, None) => Verdict::Holds,
            (false, Some(exit)) => match exit.kind.class() {
                None | Some(ExitClass::Finished) => Verdict::Holds,
                Some(ExitClass::Faulted | ExitClass::Unmendable) => Verdict::Faults,
            },
            (true, Some(exit)) if self.is_same(exit) => Verdict::Reproduced,
            // A session that ended in order ends in nothing but that.
            (true, None) if self.ended_in_order() && self.divergence.is_none() => {
                Verdict::Reproduced
            }
            (true, _) => Verdict::NotReproduced,
        }
    }

    fn ended_in_order(&self) -> bool {
        matches!(self.recorded.kind.class(), None | Some(ExitClass::Finished))
    }

    fn is_same(&self, exit: &Exit) -> bool {
        let recorded = self.recorded;
        let kind = if recorded.kind == ExitKind::DeadlineExceeded {
            ExitKind::OutOfFuel
        } else {
            recorded.kind
        };
        // What is missing from the middle may have changed how much there was to do.
        let fuel = !self.whole || recorded.fuel.is_none() || exit.fuel == recorded.fuel;
        exit.kind == kind
            && exit.during == recorded.during
            && self.turn == self.header.turns
            && fuel
    }

    fn notes(&self, exit: Option<&Exit>, verdict: Verdict) -> Vec<String> {
        let header = self.header;
        let mut notes = Vec::new();
        if !self.whole {
            notes.push(format!(
                "the middle of the recording was lost ({} of {} turns are there), so this is best effort; a larger `recorder.size`, or `recycle = true`, keeps it whole",
                self.turns, header.turns
            ));
        }
        if self.recorded.kind == ExitKind::DeadlineExceeded && self.same_driver {
            notes.push(format!(
                "a deadline is wall time: the turn was given the fuel that it had used by then, {}",
                self.recorded.fuel.unwrap_or_default()
            ));
        }
        let is_stack = |text: &str| text.contains("call stack exhausted");
        if is_stack(&self.recorded.sentence) || exit.is_some_and(|exit| is_stack(&exit.sentence)) {
            notes.push("which call exhausts the stack depends on the processor and on the host's version: this is not portable".to_owned());
        }
        if header.written.architecture != std::env::consts::ARCH {
            notes.push(format!(
                "it was recorded on {}, and this is {}; the events are the same, the machine code is not",
                header.written.architecture,
                std::env::consts::ARCH
            ));
        }
        if header.written.by != env!("CARGO_PKG_VERSION") {
            notes.push(format!(
                "it was recorded by version {}, and this is {}",
                header.written.by,
                env!("CARGO_PKG_VERSION")
            ));
        }
        if header.secrets > 0 {
            notes.push(format!(
                "{} secrets in the settings are filler here; a driver that works with their content may take another way",
                header.secrets
            ));
        }
        if self.recorded.kind == ExitKind::HostFault {
            notes.push("the fault was the host's own, so there is nothing of the driver to repeat; report it to Bulkhead's developers with the log".to_owned());
        }
        if self.divergence.is_some() && !self.same_driver {
            notes.push("the events are those that the other driver was given: from the first difference on they may not answer what this one asks".to_owned());
        }
        if self.has_stopped && verdict == Verdict::Holds && !self.ended_in_order() {
            notes.push("the driver stopped before the end of the recording".to_owned());
        }
        notes
    }
}

fn named(events: &[Event]) -> Vec<String> {
    let mut names: Vec<String> = events
        .iter()
        .take(MAX_NAMED)
        .map(|event| name(&event.what))
        .collect();
    if events.len() > MAX_NAMED {
        names.push(format!("and {} more", events.len() - MAX_NAMED));
    }
    names
}

fn name(what: &Happening) -> String {
    match what {
        Happening::Started(start) => format!("started, life {}", start.incarnation),
        Happening::Stop(_) => "stop".to_owned(),
        Happening::Opened(opened) => format!("opened connection {}", opened.connection),
        Happening::Closed(closed) => format!("closed connection {}", closed.connection),
        Happening::Accepted(accepted) => format!("accepted connection {}", accepted.connection),
        Happening::Received(received) => format!(
            "received {} bytes on connection {}",
            received.bytes.len(),
            received.connection
        ),
        Happening::Sent(sent) => {
            format!(
                "sent {} bytes on connection {}",
                sent.bytes, sent.connection
            )
        }
        Happening::Timer(timer) => format!("timer {timer}"),
        Happening::Poll(poll) => format!("poll of group {}, cycle {}", poll.group, poll.cycle),
        Happening::Read(read) => format!("read {} of {} tags", read.request, read.tags.len()),
        Happening::Write(write) => format!("write {} of tag {}", write.request, write.tag),
        Happening::Command(command) => format!("command {}: {}", command.request, command.name),
        Happening::Cancel(request) => format!("cancel {request}"),
        Happening::Health(request) => format!("health {request}"),
        Happening::Stored(id) => format!("stored {id}"),
        Happening::Declined(declined) => format!("declined {:?}", declined.action),
    }
}
