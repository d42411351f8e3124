//! The host itself: a clock, a queue of events, and the other end of every connection.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::ledger::{Answer, Asked, Ledger, Line};
use super::setup::Setup;
use crate::abi::{
    Accepted, Action, CloseReason, Command, ConfigFault, ConnectionId, DeviceCondition, Error,
    Event, GroupId, Happening, LinkId, Outlook, Poll, PollDone, Quality, Read, Received, RequestId,
    Sample, Start, StartReason, Stop, StopReason, TagId, Value, Write,
};
use crate::driver::Driver;
use crate::runtime::Runtime;
use crate::shared::LogLine;
use crate::time;

/// How long a request may take before the host has answered for the driver; by its own clock, so this costs no test any time.
const DEADLINE: Duration = Duration::from_secs(60);

/// More turns than any honest wait takes.
const PATIENCE: usize = 100_000;

type Peer = Box<dyn FnMut(&[u8]) -> Vec<u8>>;

/// A host for native tests; see [the module](super).
///
/// # Panics
///
/// Every method panics, and so fails the test, for a name that the setup does not have, for an action that the real host
/// would refuse, and where it waits for what never comes.
pub struct FakeHost<D: Driver> {
    pub(super) runtime: Runtime<D>,
    pub(super) setup: Setup,
    pub(super) now_ns: u64,
    pub(super) queue: VecDeque<Event>,
    pub(super) ledger: Ledger,
    pub(super) peers: BTreeMap<LinkId, Peer>,
    /// Links on which every dial fails, and how.
    pub(super) away: BTreeMap<LinkId, (CloseReason, Outlook)>,
    pub(super) next_request: RequestId,
    pub(super) next_accepted: ConnectionId,
    pub(super) cycles: BTreeMap<GroupId, u64>,
    pub(super) polls_done: BTreeMap<GroupId, PollDone>,
    pub(super) answers: BTreeMap<RequestId, Answer>,
    pub(super) samples: Vec<Sample>,
    pub(super) last: BTreeMap<TagId, Sample>,
    pub(super) conditions: BTreeMap<u32, DeviceCondition>,
    pub(super) state: Option<Vec<u8>>,
    pub(super) history: Vec<Action>,
    pub(super) ended: Option<Error>,
}

impl<D: Driver> FakeHost<D> {
    /// Configures a driver and starts it. Links dial at once, and every dial succeeds.
    ///
    /// # Errors
    ///
    /// The faults that the driver found.
    pub fn start(setup: Setup) -> Result<Self, Vec<ConfigFault>> {
        Self::start_with(setup, StartReason::First, None)
    }

    /// As [`start`](Self::start), with what an incarnation before has saved.
    ///
    /// # Errors
    ///
    /// The faults that the driver found.
    pub fn start_with(
        setup: Setup,
        reason: StartReason,
        state: Option<Vec<u8>>,
    ) -> Result<Self, Vec<ConfigFault>> {
        let setup = setup.complete();
        let mut runtime = Runtime::seeded(setup.seed);
        runtime.configure(setup.config.clone())?;
        let mut host = Self {
            runtime,
            setup,
            now_ns: 1_000_000_000,
            queue: VecDeque::new(),
            ledger: Ledger::default(),
            peers: BTreeMap::new(),
            away: BTreeMap::new(),
            next_request: 1,
            next_accepted: 1 << 31,
            cycles: BTreeMap::new(),
            polls_done: BTreeMap::new(),
            answers: BTreeMap::new(),
            samples: Vec::new(),
            last: BTreeMap::new(),
            conditions: BTreeMap::new(),
            state: None,
            history: Vec::new(),
            ended: None,
        };
        let connections = host.setup.kept.clone();
        for kept in &connections {
            let mut line = Line::new(kept.link);
            line.up = true;
            host.ledger.lines.insert(kept.id, line);
        }
        host.happen(Happening::Started(Start {
            incarnation: 1,
            reason,
            state,
            connections,
            features: Vec::new(),
        }));
        host.settle();
        Ok(host)
    }

    /// Configures the running driver anew, as a reload does. What is not named as before has gone.
    ///
    /// # Errors
    ///
    /// The faults that the driver found; it goes on as before then.
    pub fn reload(&mut self, setup: Setup) -> Result<(), Vec<ConfigFault>> {
        let setup = setup.complete();
        self.runtime.configure(setup.config.clone())?;
        self.setup = setup;
        let groups = &self.setup.config.groups;
        self.ledger
            .polls
            .retain(|id, _| groups.iter().any(|group| group.id == *id));
        // A turn needs an event, and the driver a turn.
        self.health().map_err(|error| {
            vec![ConfigFault {
                at: "health".to_owned(),
                message: error.message,
            }]
        })
    }

    /// What the host's clock says.
    pub fn now(&self) -> time::Instant {
        time::Instant::from_nanos(self.now_ns)
    }

    /// Takes turns until there is nothing to tell the driver. The clock stands still.
    pub fn settle(&mut self) {
        let mut turns = 0;
        while !self.queue.is_empty() && self.ended.is_none() {
            let count = self.queue.len().min(self.setup.batch);
            let events: Vec<Event> = self.queue.drain(..count).collect();
            for event in &events {
                if let Happening::Opened(opened) = &event.what {
                    self.line(opened.connection).streams_told += 1;
                }
            }
            self.turn(events);
            turns += 1;
            assert!(turns < PATIENCE, "the driver and its peers never settle");
        }
    }

    /// Lets time pass; every timer on the way runs out at its own moment.
    pub fn advance(&mut self, duration: Duration) {
        let until = self.now_ns.saturating_add(time::nanos(duration));
        self.settle();
        let mut turns = 0;
        while self.next_timer().is_some_and(|due| due <= until) {
            self.run_out();
            turns += 1;
            assert!(turns < PATIENCE, "the driver's timers never rest");
        }
        self.now_ns = until;
    }

    /// Polls a group, and waits for the answer.
    pub fn poll(&mut self, group: &str) -> PollDone {
        self.begin_poll(group);
        self.finish_poll(group)
    }

    /// Polls a group, without those devices.
    pub fn poll_skipping(&mut self, group: &str, devices: &[&str]) -> PollDone {
        let skip = devices.iter().map(|name| self.device_id(name)).collect();
        self.poll_event(group, skip);
        self.finish_poll(group)
    }

    /// Polls a group, and takes one turn with it.
    pub fn begin_poll(&mut self, group: &str) {
        self.poll_event(group, Vec::new());
        self.settle();
    }

    fn poll_event(&mut self, group: &str, skip: Vec<u32>) {
        let group = self.group_id(group);
        let cycle = self.cycles.entry(group).or_default();
        *cycle += 1;
        let cycle = *cycle;
        let before = self.ledger.polls.insert(group, cycle);
        assert_eq!(before, None, "the group is still being polled");
        self.happen(Happening::Poll(Poll {
            group,
            cycle,
            scheduled_ns: self.now_ns,
            skip,
        }));
    }

    /// Waits for the answer to a poll, moving the clock from timer to timer.
    pub fn finish_poll(&mut self, group: &str) -> PollDone {
        let id = self.group_id(group);
        self.wait_for("a poll", |host| host.polls_done.remove(&id))
    }

    /// Whether the last poll of a group was answered; takes the answer.
    pub fn poll_answer(&mut self, group: &str) -> Option<PollDone> {
        let id = self.group_id(group);
        self.polls_done.remove(&id)
    }

    /// Reads tags, and waits for the answer.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    pub fn read(&mut self, tags: &[&str]) -> Result<Vec<Sample>, Error> {
        let tags: Vec<TagId> = tags.iter().map(|name| self.tag_id(name)).collect();
        let request = self.ask(Asked::Read(tags.clone()));
        self.happen(Happening::Read(Read {
            request,
            tags,
            deadline_ns: self.deadline(),
        }));
        match self.finish(request) {
            Answer::Read(result) => result,
            other => panic!("a read was answered by {other:?}"),
        }
    }

    /// Writes a tag, and waits for the answer.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    pub fn write(&mut self, tag: &str, value: Value) -> Result<Option<Value>, Error> {
        let request = self.begin_write(tag, value, false);
        self.finish_write(request)
    }

    /// Writes a tag and reads it back, and waits for the answer.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    pub fn write_read_back(&mut self, tag: &str, value: Value) -> Result<Option<Value>, Error> {
        let request = self.begin_write(tag, value, true);
        self.finish_write(request)
    }

    /// Asks for a write, and takes one turn with it.
    pub fn begin_write(&mut self, tag: &str, value: Value, read_back: bool) -> RequestId {
        let tag = self.tag_id(tag);
        let request = self.ask(Asked::Write(tag));
        self.happen(Happening::Write(Write {
            request,
            tag,
            value,
            read_back,
            deadline_ns: self.deadline(),
        }));
        self.settle();
        request
    }

    /// Waits for the answer to a write.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    pub fn finish_write(&mut self, request: RequestId) -> Result<Option<Value>, Error> {
        match self.finish(request) {
            Answer::Write(result) => result,
            other => panic!("a write was answered by {other:?}"),
        }
    }

    /// Gives a command, and waits for the answer.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    pub fn command(&mut self, name: &str, payload: &[u8]) -> Result<Vec<u8>, Error> {
        let request = self.begin_command(name, payload);
        self.finish_command(request)
    }

    /// Gives a command, and takes one turn with it.
    pub fn begin_command(&mut self, name: &str, payload: &[u8]) -> RequestId {
        let request = self.ask(Asked::Command);
        self.happen(Happening::Command(Command {
            request,
            name: name.to_owned(),
            payload: payload.to_vec(),
            deadline_ns: self.deadline(),
        }));
        self.settle();
        request
    }

    /// Waits for the answer to a command.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    pub fn finish_command(&mut self, request: RequestId) -> Result<Vec<u8>, Error> {
        match self.finish(request) {
            Answer::Command(result) => result,
            other => panic!("a command was answered by {other:?}"),
        }
    }

    /// Asks whether the driver is well, and waits for the answer.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    pub fn health(&mut self) -> Result<(), Error> {
        let request = self.ask(Asked::Health);
        self.happen(Happening::Health(request));
        match self.finish(request) {
            Answer::Health(result) => result,
            other => panic!("a health check was answered by {other:?}"),
        }
    }

    /// Says that nobody waits for a request any more.
    pub fn cancel(&mut self, request: RequestId) {
        self.happen(Happening::Cancel(request));
        self.settle();
    }

    /// Whether a request was answered; takes the answer.
    pub fn answer(&mut self, request: RequestId) -> Option<Answer> {
        self.answers.remove(&request)
    }

    /// Waits for the answer to a request, moving the clock from timer to timer.
    pub fn finish(&mut self, request: RequestId) -> Answer {
        self.wait_for("a request", |host| host.answers.remove(&request))
    }

    /// Stops the driver, with two seconds to take leave, and holds that it has answered everything.
    pub fn stop(&mut self) {
        self.ask_to_stop();
        self.wait_for("the driver to stop", |host| {
            host.ledger.stopped.then_some(())
        });
    }

    /// Asks the driver to stop within two seconds, and takes one turn with it. Once is enough.
    pub fn ask_to_stop(&mut self) {
        if !self.ledger.stop_asked {
            self.ledger.stop_asked = true;
            self.happen(Happening::Stop(Stop {
                deadline_ns: self.now_ns + 2_000_000_000,
                reason: StopReason::Stopped,
            }));
            self.settle();
        }
    }

    /// Lets `peer` answer whatever the driver sends over a link, `send` by `send`; empty is silence.
    pub fn peer(&mut self, link: &str, peer: impl FnMut(&[u8]) -> Vec<u8> + 'static) {
        let link = self.link_id(link);
        self.peers.insert(link, Box::new(peer));
    }

    /// Lets bytes arrive over a link, in one piece.
    pub fn receive(&mut self, link: &str, bytes: &[u8]) {
        let connection = self.line_over(link);
        self.receive_on(connection, bytes);
    }

    /// Lets a datagram of this peer arrive over a link.
    pub fn receive_from(&mut self, link: &str, peer: &str, bytes: &[u8]) {
        let connection = self.line_over(link);
        self.happen(Happening::Received(Received {
            connection,
            peer: Some(peer.to_owned()),
            bytes: bytes.to_vec(),
        }));
        self.settle();
    }

    /// The datagrams that the driver has sent over a link since the last call, each with the peer that it named.
    pub fn take_datagrams(&mut self, link: &str) -> Vec<(Option<String>, Vec<u8>)> {
        let connection = self.line_over(link);
        std::mem::take(&mut self.line(connection).datagrams)
    }

    /// Lets bytes arrive over a connection, in one piece.
    pub fn receive_on(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.happen_received(connection, bytes.to_vec());
        self.settle();
    }

    /// Lets bytes arrive over a link after `arrives`, in a turn that the host takes only after `taken`.
    pub fn receive_late(&mut self, link: &str, bytes: &[u8], arrives: Duration, taken: Duration) {
        let connection = self.line_over(link);
        self.queue.push_back(Event {
            at_ns: self.now_ns + time::nanos(arrives),
            what: Happening::Received(Received {
                connection,
                peer: None,
                bytes: bytes.to_vec(),
            }),
        });
        self.now_ns += time::nanos(taken);
        self.settle();
    }

    /// What the driver has sent over a link since the last call.
    pub fn take_sent(&mut self, link: &str) -> Vec<u8> {
        let connection = self.line_over(link);
        self.take_sent_on(connection)
    }

    /// What the driver has sent over a connection since the last call.
    pub fn take_sent_on(&mut self, connection: ConnectionId) -> Vec<u8> {
        let line = self.ledger.lines.get_mut(&connection);
        std::mem::take(&mut line.expect("a connection that was opened").sent)
    }

    /// Breaks a link's streams, and redials at once: the driver hears of both in the same turn.
    pub fn drop_connection(&mut self, link: &str, reason: CloseReason) {
        let link = self.link_id(link);
        for id in self.lines_up(link) {
            self.happen_closed(id, reason, Outlook::Redialling);
            self.dial(id);
        }
        self.settle();
    }

    /// Breaks a link's streams, or where there is none the dial under way, and fails every dial until [`restore`](Self::restore).
    pub fn away(&mut self, link: &str, reason: CloseReason) {
        self.lose(link, reason, Outlook::Redialling);
    }

    /// As [`away`](Self::away), and the attempts are spent: nobody dials until [`restore`](Self::restore).
    pub fn give_up(&mut self, link: &str, reason: CloseReason) {
        self.lose(link, reason, Outlook::GivenUp);
    }

    fn lose(&mut self, link: &str, reason: CloseReason, outlook: Outlook) {
        let link = self.link_id(link);
        self.away.insert(link, (reason, outlook));
        let mut lines = self.lines_up(link);
        if lines.is_empty() {
            lines = self.lines_dialled(link);
        }
        for id in lines {
            self.happen_closed(id, reason, outlook);
        }
        self.settle();
    }

    /// Lets dials succeed again, and those that wait first.
    pub fn restore(&mut self, link: &str) {
        let link = self.link_id(link);
        self.away.remove(&link);
        let waiting: Vec<ConnectionId> = self
            .ledger
            .lines
            .iter()
            .filter(|(_, line)| line.link == link && !line.up && !line.dead)
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.dial(id);
        }
        self.settle();
    }

    /// Lets a device call in on a listening link.
    pub fn call_in(&mut self, link: &str, peer: &str) -> ConnectionId {
        let listener = self.line_over(link);
        let connection = self.next_accepted;
        self.next_accepted += 1;
        let mut line = Line::new(self.link_id(link));
        line.up = true;
        self.ledger.lines.insert(connection, line);
        self.happen(Happening::Accepted(Accepted {
            listener,
            connection,
            peer: peer.to_owned(),
            send_window: self.setup.send_window,
        }));
        self.settle();
        connection
    }

    /// Ends a connection on which a device called in.
    pub fn hang_up(&mut self, connection: ConnectionId, reason: CloseReason) {
        self.happen_closed(connection, reason, Outlook::Redialling);
        self.settle();
    }

    /// Whether a connection has ended for good.
    pub fn is_closed(&self, connection: ConnectionId) -> bool {
        self.ledger.lines[&connection].dead
    }

    /// Whether the driver has paused a link's connection.
    pub fn is_paused(&self, link: &str) -> bool {
        self.ledger.lines[&self.line_over(link)].paused
    }

    /// Every sample that was published since the last call, in order.
    pub fn take_samples(&mut self) -> Vec<Sample> {
        std::mem::take(&mut self.samples)
    }

    /// The last sample that was published of a tag.
    pub fn last(&self, tag: &str) -> Option<&Sample> {
        self.last.get(&self.tag_id(tag))
    }

    /// The value of the last sample that was published of a tag.
    pub fn value(&self, tag: &str) -> Option<Value> {
        self.last(tag)?.value.clone()
    }

    /// The quality of the last sample that was published of a tag.
    pub fn quality(&self, tag: &str) -> Option<Quality> {
        Some(self.last(tag)?.quality)
    }

    /// What the driver last said of a device.
    pub fn condition(&self, device: &str) -> Option<DeviceCondition> {
        self.conditions.get(&self.device_id(device)).copied()
    }

    /// What the driver last asked to be kept.
    pub fn saved_state(&self) -> Option<&[u8]> {
        self.state.as_deref()
    }

    /// What the driver has logged since the last call.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        self.runtime.take_log()
    }

    /// Every action so far.
    pub fn history(&self) -> &[Action] {
        &self.history
    }

    /// Why the incarnation ended, if it did.
    pub fn ended(&self) -> Option<&Error> {
        self.ended.as_ref()
    }

    fn wait_for<T>(&mut self, what: &str, mut there: impl FnMut(&mut Self) -> Option<T>) -> T {
        for _ in 0..PATIENCE {
            self.settle();
            if let Some(found) = there(self) {
                return found;
            }
            if let Some(error) = &self.ended {
                panic!("the incarnation ended, waiting for {what}: {error:?}");
            }
            assert!(
                self.next_timer().is_some(),
                "waiting for {what}, and nothing is left that could happen; {:?}",
                self.ledger
            );
            self.run_out();
        }
        panic!("waiting for {what} in vain");
    }

    fn next_timer(&self) -> Option<u64> {
        self.ledger.timers.values().min().copied()
    }

    /// Moves the clock to the next timer, and tells the driver.
    fn run_out(&mut self) {
        let Some((due, timer)) = self
            .ledger
            .timers
            .iter()
            .map(|(timer, due)| (*due, *timer))
            .min()
        else {
            return;
        };
        self.now_ns = self.now_ns.max(due);
        self.ledger.timers.remove(&timer);
        self.happen(Happening::Timer(timer));
        self.settle();
    }

    pub(super) fn happen(&mut self, what: Happening) {
        self.queue.push_back(Event {
            at_ns: self.now_ns,
            what,
        });
    }

    fn ask(&mut self, asked: Asked) -> RequestId {
        let request = self.next_request;
        self.next_request += 1;
        self.ledger.requests.insert(request, asked);
        request
    }

    fn deadline(&self) -> u64 {
        self.now_ns + time::nanos(DEADLINE)
    }

    pub(super) fn line(&mut self, id: ConnectionId) -> &mut Line {
        let line = self.ledger.lines.get_mut(&id);
        line.expect("the ledger knows every connection")
    }

    fn lines_up(&self, link: LinkId) -> Vec<ConnectionId> {
        let lines = self.ledger.lines.iter();
        lines
            .filter(|(_, line)| line.link == link && line.up)
            .map(|(id, _)| *id)
            .collect()
    }

    fn lines_dialled(&self, link: LinkId) -> Vec<ConnectionId> {
        let lines = self.ledger.lines.iter();
        lines
            .filter(|(_, line)| line.link == link && !line.up && !line.dead)
            .map(|(id, _)| *id)
            .collect()
    }

    /// The oldest connection over a link that is not closed for good.
    fn line_over(&self, link: &str) -> ConnectionId {
        let id = self.link_id(link);
        let mut lines = self.ledger.lines.iter();
        let found = lines.find(|(_, line)| line.link == id && !line.dead);
        *found
            .unwrap_or_else(|| panic!("no connection over {link}"))
            .0
    }

    fn link_id(&self, name: &str) -> LinkId {
        let mut links = self.setup.config.links.iter();
        let found = links.find(|link| link.name == name);
        found.unwrap_or_else(|| panic!("no link {name}")).id
    }

    fn tag_id(&self, name: &str) -> TagId {
        let mut tags = self.setup.config.tags.iter();
        let found = tags.find(|tag| tag.name == name);
        found.unwrap_or_else(|| panic!("no tag {name}")).id
    }

    fn device_id(&self, name: &str) -> u32 {
        let mut devices = self.setup.config.devices.iter();
        let found = devices.find(|device| device.name == name);
        found.unwrap_or_else(|| panic!("no device {name}")).id
    }

    fn group_id(&self, name: &str) -> GroupId {
        let mut groups = self.setup.config.groups.iter();
        let found = groups.find(|group| group.name == name);
        found.unwrap_or_else(|| panic!("no group {name}")).id
    }
}
