//! What an author writes.

use std::time::Duration;

use schemars::{JsonSchema, schema_for};
use serde::de::DeserializeOwned;

use crate::abi::{
    self, Capabilities, DeviceId, GroupId, RequestId, Sample, StartReason, StopReason, TagId, Value,
};
use crate::config::{Config, Faults};
use crate::context::Context;
use crate::error::Error;
use crate::time::Instant;

/// A protocol.
///
/// Two functions are required besides [`poll`](Self::poll): what the driver is, and how it takes a configuration.
///
/// # Handlers run concurrently
///
/// Every event that asks for something becomes a task: while a poll awaits a reply, a write may begin. So that it can, handlers take
/// `&self`; state lives in `Cell` and `RefCell`, borrowed between awaits and never across one. All tasks share one
/// thread and change over only at an `.await`. What must not be interleaved, such as a request and its reply on one line, takes a
/// [`RequestLock`](crate::RequestLock).
///
/// # Answers
///
/// A handler returns; the SDK answers. Each request is answered exactly once, whatever becomes of its handler.
///
/// - `cancel` drops the handler and answers with an error, unless the handler has sent bytes: then the device may have acted, and the
///   handler runs to its end and answers with its result.
/// - `stop` lets the running handlers finish for half of the time that the host gives, then calls [`stop`](Self::stop), then
///   drops and answers the rest.
/// - A reload drops and answers whatever runs, and calls [`start`](Self::start) of the new driver.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no driver, so it cannot be exported",
    label = "this is no `bulkhead_sdk::Driver`",
    note = "write `impl bulkhead_sdk::Driver for {Self}`, and export that type once in the crate"
)]
#[expect(
    async_fn_in_trait,
    reason = "a driver runs on one thread: no future need be Send"
)]
pub trait Driver: Sized + 'static {
    /// The settings of a channel. Use [`NoSettings`](crate::NoSettings) where there are none.
    type Settings: DeserializeOwned + JsonSchema;
    /// The settings of a device.
    type DeviceSettings: DeserializeOwned + JsonSchema;
    /// The settings of a tag.
    type TagSettings: DeserializeOwned + JsonSchema;

    /// What this driver is. Always the same.
    fn info() -> Info;

    /// The commands that it takes, and what each does, for people. The host refuses every other name; a driver that lists none
    /// is asked for any.
    fn commands() -> Vec<CommandInfo> {
        Vec::new()
    }

    /// Takes a configuration: checks it whole, and builds the driver.
    ///
    /// Called before the first turn, and again when the operator's file changed. A driver that it returns then replaces the
    /// one before, whose tasks are dropped and answered; its connections stay for the new one to open
    /// (their streams begin anew where a task was cut off in mid-exchange). A connection opened here is dialled with the next turn.
    ///
    /// Settings that do not parse are found before. The driver is then called with what is left,
    /// to find its faults as well; what it builds is thrown away.
    ///
    /// # Errors
    ///
    /// Every fault at once. The configuration before stays in force then.
    fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults>;

    /// Runs beside everything else from the first turn on: log in, subscribe, or loop for ever.
    ///
    /// # Errors
    ///
    /// An error ends the incarnation, and the host starts the next under the operator's restart policy. A
    /// device that is away is no reason: wait for it.
    async fn start(&self, _start: Start) -> Result<(), Error> {
        Ok(())
    }

    /// Reads a group that is due, and publishes its samples.
    ///
    /// # Errors
    ///
    /// An error says that nothing of the group could be read: the SDK publishes each of its tags, but for those of skipped
    /// devices, as bad with [`Error::quality`], and logs the error. Where a part was read, publish that and the bad rest,
    /// and return a report.
    async fn poll(&self, poll: Poll) -> Result<PollReport, Error>;

    /// Reads tags now: one sample each, in the order asked for. Needs [`Capabilities::READ`].
    ///
    /// # Errors
    ///
    /// Whoever asked is told.
    async fn read(&self, _read: Read) -> Result<Vec<Sample>, Error> {
        Err(Error::not_supported("reading on request"))
    }

    /// Writes one tag, and answers with what was read back where that was asked for. Needs [`Capabilities::WRITE`].
    ///
    /// # Errors
    ///
    /// Whoever asked is told.
    async fn write(&self, _write: Write) -> Result<Option<Value>, Error> {
        Err(Error::not_supported("writing"))
    }

    /// Does something that the protocol offers besides tags. Needs [`Capabilities::COMMANDS`] or [`Capabilities::BROWSE`]; see
    /// [`commands`](Self::commands).
    ///
    /// Where a command is for one device, take its name as `device` of a JSON payload: then the host keeps it away from a device
    /// that an operator has locked.
    ///
    /// A long one reports by [`Context::progress`]. When nobody waits any more it is dropped at its next `.await`, unless it
    /// has sent bytes or called [`Context::commit`]: then it can ask [`Context::is_cancelled`] where it may end early.
    ///
    /// # Errors
    ///
    /// Whoever asked is told.
    async fn command(&self, command: Command) -> Result<Vec<u8>, Error> {
        Err(Error::not_supported(&format!(
            "the command {:?}",
            command.name
        )))
    }

    /// Says whether the driver is well: that it can do its work, as far as it knows. The host asks now and then. A device
    /// that is away need not be told here: the host knows its links, and [`Context::device_state`] is for the rest.
    ///
    /// # Errors
    ///
    /// What is the matter: the channel is degraded with these words until the next answer. A handler that takes too long is
    /// cancelled; after a few in a row the host starts a fresh instance.
    async fn health(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Takes leave: log out, say good-bye. Connections need not be closed: those that end do so once what was sent has left, and
    /// where another incarnation follows ([`Stop::reason`]) some go on to it. What may still come over one that goes on is for
    /// the next to hear: [`reset`](crate::Stream::reset) it, if that could not know it from an answer of its own.
    async fn stop(&self, _stop: Stop) {}
}

/// What a driver is.
#[derive(Debug, Clone)]
pub struct Info {
    /// Such as `modbus`.
    pub name: &'static str,
    /// The driver's own version: `env!("CARGO_PKG_VERSION")`.
    pub version: &'static str,
    /// Such as `Modbus Application Protocol 1.1b3`.
    pub protocol: &'static str,
    /// How a tag's address is written, for people; a few lines of text.
    pub address_help: &'static str,
    /// The links that it needs or can use. One that is required and not granted, or of a kind that is not listed, is a fault that the
    /// SDK finds.
    pub links: &'static [LinkWish],
    /// What it can do.
    pub can: Capabilities,
}

/// A link that a driver asks the operator for.
#[derive(Debug, Clone, Copy)]
pub struct LinkWish {
    /// The name under which the operator's file grants it, such as `plc`.
    pub name: &'static str,
    /// The transports that the driver can use: `tcp`, `tls`, `udp`, `unix`, `serial`.
    pub kinds: &'static [&'static str],
    /// Whether the driver is useless without it.
    pub required: bool,
}

/// A command that a driver offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandInfo {
    name: &'static str,
    help: &'static str,
    payload_schema: String,
    answer_schema: String,
    changes: bool,
}

impl CommandInfo {
    /// One by its name and what it does, takes and answers, for people. Of no stated form, and one that may change something, unless
    /// more is said.
    pub fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            payload_schema: String::new(),
            answer_schema: String::new(),
            changes: true,
        }
    }

    /// Its payload is JSON of this form; see [`Command::json`].
    #[must_use]
    pub fn takes<T: JsonSchema>(mut self) -> Self {
        self.payload_schema = schema_for!(T).as_value().to_string();
        self
    }

    /// Its answer is JSON of this form.
    #[must_use]
    pub fn answers<T: JsonSchema>(mut self) -> Self {
        self.answer_schema = schema_for!(T).as_value().to_string();
        self
    }

    /// It changes nothing, at no device and in this driver.
    #[must_use]
    pub fn only_looks(mut self) -> Self {
        self.changes = false;
        self
    }
}

impl From<CommandInfo> for abi::CommandInfo {
    fn from(info: CommandInfo) -> Self {
        Self {
            name: info.name.to_owned(),
            help: info.help.to_owned(),
            payload_schema: info.payload_schema,
            answer_schema: info.answer_schema,
            changes: info.changes,
        }
    }
}

/// How a driver comes to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Counted from 1 for the life of the channel, over restarts of the host.
    pub incarnation: u64,
    /// Why it begins. After a reload of a running driver: `Reconfigured`.
    pub reason: StartReason,
    /// What [`save_state`](Context::save_state) last kept; nothing after a reload of a running driver.
    pub state: Option<Vec<u8>>,
    /// What the host can do beyond this version of the ABI, one word each; nothing after a reload of a running driver.
    pub features: Vec<String>,
}

/// How a driver comes to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Why, as far as that was known when it was asked: it says whether another incarnation follows.
    pub reason: StopReason,
    /// When it is dropped, whether it is done or not.
    pub deadline: Instant,
}

/// A group is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// The group.
    pub group: GroupId,
    /// Counts its due moments, skipped ones included.
    pub cycle: u64,
    /// When it was due.
    pub scheduled: Instant,
    /// Devices to leave out this time: no request to them, and no sample of their tags. They keep silent, or an operator has locked
    /// them. A device that [`Context::device_state`] says is down is left out more and more, and probed now and then.
    pub skip: Vec<DeviceId>,
}

/// What a poll took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PollReport {
    requests: u32,
    failed: u32,
    round_trips: Duration,
}

impl PollReport {
    /// Counts a request that was answered after `round_trip`.
    pub fn answered(&mut self, round_trip: Duration) {
        self.requests += 1;
        self.round_trips += round_trip;
    }

    /// Counts a request that failed.
    pub fn failed(&mut self) {
        self.requests += 1;
        self.failed += 1;
    }

    /// Adds another report, such as that of a device polled beside this one.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.round_trips += other.round_trips;
    }

    /// How many requests there were.
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// How many of them failed.
    pub fn failures(&self) -> u32 {
        self.failed
    }

    /// The mean time from request to answer; `None` where there was no answer.
    pub fn mean_round_trip(&self) -> Option<Duration> {
        self.round_trips.checked_div(self.requests - self.failed)
    }
}

/// Somebody wants tags read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Which; at least one, none twice.
    pub tags: Vec<TagId>,
    /// After it the host has answered for the driver.
    pub deadline: Instant,
}

/// Somebody wants a tag written.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// The request, for a protocol that passes on an id.
    pub request: RequestId,
    /// Which tag.
    pub tag: TagId,
    /// In the device's own terms, of the tag's type.
    pub value: Value,
    /// Whether to read the tag afterwards, and to answer with what was read.
    pub read_back: bool,
    /// After it the host has answered for the driver.
    pub deadline: Instant,
}

/// Somebody wants something that the protocol offers besides tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The request, for a protocol that passes on an id.
    pub request: RequestId,
    /// What.
    pub name: String,
    /// With what; at most 1 MiB.
    pub payload: Vec<u8>,
    /// After it the host has answered for the driver.
    pub deadline: Instant,
}

impl Command {
    /// The payload as JSON. An empty one is taken for `{}`, so that a command without parameters needs none.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for whoever gave the command.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let payload = if self.payload.is_empty() {
            b"{}"
        } else {
            self.payload.as_slice()
        };
        serde_json::from_slice(payload).map_err(|error| {
            Error::new(format!(
                "the payload is not what `{}` takes: {error}",
                self.name
            ))
        })
    }
}
