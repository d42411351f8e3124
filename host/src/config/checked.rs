//! The configuration as the host uses it: everything resolved, every default filled in, every bound kept.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::address::{Connect, Tls};
use super::dial::DialRange;
use super::sink_mqtt::MqttSink;
use super::sink_nats::NatsSink;
use super::sink_postgres::PostgresSink;
use crate::backoff::Redial;
use crate::demotion;
use crate::event::{DataType, Layout, TagFilter, TagNames};
use crate::ids::{ChannelId, DeviceId, LinkId, TagId};
use crate::limits;

/// A whole file.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Where the host keeps its state; locked while it runs. Relative paths are relative to the file's folder.
    pub data_dir: PathBuf,
    /// How often channels are restarted, all of them together.
    pub restarts: Rate,
    /// How often links are redialled, all of them together.
    pub dials: Rate,
    /// What compiling one driver may take.
    pub compile: CompileLimits,
    /// What the flight recorders of all channels may hold together, in bytes; 0: nothing is recorded. Default 16 MiB; 1 MiB to 4 GiB.
    pub recorder: usize,
    /// The HTTP API; `None` if switched off (`listen = "off"`).
    pub http: Option<Http>,
    /// At least one; their ids differ.
    pub channels: Vec<Channel>,
    /// Where samples go. May be empty.
    pub sinks: Vec<Sink>,
}

impl Host {
    /// A copy of the tags in memory of its own, in the allocator of the thread that asks for it. They stay as long as the host runs, and
    /// reading leaves them scattered among what it needed only for a while, page by page.
    #[must_use]
    pub fn gathered(mut self) -> Self {
        for channel in &mut self.channels {
            let (mut treatments, mut settings) = (HashMap::new(), HashMap::new());
            let tags = channel.tags.iter().map(|tag| Tag {
                treatment: again(&tag.treatment, &mut treatments),
                settings: again(&tag.settings, &mut settings),
                ..tag.clone()
            });
            channel.tags = tags.collect();
        }
        self
    }
}

/// What is shared is copied once.
fn again<T: Clone>(shared: &Arc<T>, known: &mut HashMap<*const T, Arc<T>>) -> Arc<T> {
    let copy = known.entry(Arc::as_ptr(shared));
    copy.or_insert_with(|| Arc::new((**shared).clone())).clone()
}

/// How often the host as a whole does something by itself. What people ask for is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// One after the other. Default 100 restarts, 200 redials; 1 to 10,000.
    pub per_second: u32,
    /// So many may follow at once. Default 200 restarts, 50 redials; 1 to 10,000.
    pub burst: u32,
}

/// What compiling one driver may take, in a process of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes. Default 2 GiB; 256 MiB to 64 GiB.
    pub memory: u64,
    /// Processor time of all threads together. Default 4 min; 1 s to 4 h.
    pub processor_time: Duration,
    /// Time on the clock. Default 2 min; 1 s to 1 h.
    pub time: Duration,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            memory: limits::COMPILE_MEMORY.default,
            processor_time: limits::COMPILE_PROCESSOR_TIME.default,
            time: limits::COMPILE_TIME.default,
        }
    }
}

/// The HTTP API.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// A loopback address. Default `127.0.0.1:7070`.
    pub listen: SocketAddr,
}

/// One configured instance of a driver.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its name.
    pub id: ChannelId,
    /// The component file.
    pub driver: DriverPath,
    /// What the file's SHA-256 must be, if pinned.
    pub sha256: Option<[u8; 32]>,
    /// Whether it starts with the host. Default true.
    pub enabled: bool,
    /// JSON, for the driver to check. `{}` where the file says nothing.
    pub settings: serde_json::Value,
    /// What it may use.
    pub limits: Limits,
    /// What happens after a fault.
    pub restart: Restart,
    /// How the driver is asked whether it is well; `None` if it is not (`interval = "never"`).
    pub health: Option<Health>,
    /// What its flight recorder may hold.
    pub recorder: Recorder,
    /// What becomes of requests whose link is down.
    pub requests: Requests,
    /// When a device that keeps silent is polled less; `None` if never (`enabled = false`).
    pub demotion: Option<demotion::Policy>,
    /// Where [`LinkId`]s point.
    pub links: Vec<Link>,
    /// Where [`DeviceId`]s point. At least one: named after the channel where the file gives none.
    pub devices: Vec<Device>,
    /// Where [`crate::ids::GroupId`]s point.
    pub groups: Vec<Group>,
    /// Where [`TagId`]s point. Names differ within the channel. Shared with the table of their values: there are many.
    pub tags: Arc<[Tag]>,
}

impl Channel {
    /// The names behind its ids.
    pub fn layout(&self) -> Layout {
        let mut groups = vec![None; self.tags.len()];
        for (number, group) in (0u32..).zip(&self.groups) {
            for tag in &group.tags {
                if let Some(of_tag) = groups.get_mut(tag.index()) {
                    *of_tag = Some(number);
                }
            }
        }
        let names = self.tags.iter().zip(groups).map(|(tag, group)| TagNames {
            name: &tag.name,
            unit: &tag.treatment.unit,
            device: tag.device.0,
            group,
        });
        Layout {
            channel: self.id.clone(),
            devices: self
                .devices
                .iter()
                .map(|device| device.name.as_str().into())
                .collect(),
            groups: self
                .groups
                .iter()
                .map(|group| group.name.as_str().into())
                .collect(),
            tags: names.collect(),
        }
    }
}

/// Where a component file is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverPath {
    /// As the file writes it.
    pub written: PathBuf,
    /// The folder of the configuration.
    pub folder: PathBuf,
}

impl DriverPath {
    /// The files that are meant, the first that exists counts: seen from the configuration's folder, then from the
    /// working directory, so that a plant's folder can be moved whole and a command typed in a checkout works as well.
    pub fn candidates(&self) -> [PathBuf; 2] {
        [self.folder.join(&self.written), self.written.clone()]
    }
}

impl std::fmt::Display for DriverPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.written.display().fmt(f)
    }
}

/// What one channel may use. The table in `docs/LIMITS.md` says the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Bytes, summed over all memories and tables of the store. Default 32 MiB; 1 MiB to 1 GiB.
    pub memory: u64,
    /// Fuel for one turn. Default 50,000,000; 10,000 to 10,000,000,000.
    pub fuel_per_turn: u64,
    /// Wall time for one turn. Default 500 ms; 1 ms to 60 s.
    pub turn_deadline: Duration,
    /// Events that may wait. Default 1,024; 16 to 65,536.
    pub mailbox: usize,
    /// Events in one turn. Default 256; 1 to 256.
    pub batch: usize,
    /// Samples per second, averaged over ten seconds. Default 100,000; 1 to 100,000,000.
    pub samples_per_second: u32,
}

/// A channel's flight recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorder {
    /// The most that one recording may hold, in bytes; 0: nothing is recorded. Default 256 KiB; 16 KiB to 64 MiB.
    pub bytes: usize,
    /// Whether the driver is restarted in order before its recording is full, so that it is always whole. Default false.
    pub recycle: bool,
    /// Whether a recording is written also when its incarnation ends in order. Default false.
    pub sessions: bool,
}

/// What becomes of reads, writes and commands whose link is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requests {
    /// Default `wait`.
    pub while_down: WhileDown,
    /// How many may wait. Default 256; 1 to 4,096.
    pub waiting: usize,
}

/// What becomes of a request whose link is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhileDown {
    /// It waits until the link is up again, or its time is up.
    Wait,
    /// It is refused at once.
    Refuse,
    /// The driver gets it all the same.
    Pass,
}

/// When a faulted channel starts again.
#[derive(Clone, Debug, PartialEq)]
pub struct Restart {
    /// Default `permanent`.
    pub mode: RestartMode,
    /// Attempts before the channel is broken. Default 3; 0 to 1,000.
    pub max_attempts: u32,
    /// Before the first attempt. Default 0 s, which is at once; 0 to 1 h.
    pub first_delay: Duration,
    /// Before the second attempt. Default 5 s; 0 to 1 h.
    pub delay: Duration,
    /// By how much each further delay is longer than the one before. Default 2; 1 to 10.
    pub factor: f64,
    /// The longest delay. Default 60 s.
    pub max_delay: Duration,
    /// Continuous health after which the attempts count from nothing again. Default 10 min.
    pub reset_after: Duration,
    /// After which a broken channel is tried again. Default 5 min; 100 ms to 7 d; `None` for never.
    pub retry_broken: Option<Duration>,
    /// Spread of the delay, as a fraction. Default 0.3; 0 to 1.
    pub jitter: f64,
}

/// Which ends of an incarnation are followed by a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartMode {
    /// Every end that the operator did not ask for.
    Permanent,
    /// Faults only.
    Transient,
    /// None.
    Never,
}

/// How a driver is asked whether it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Between two questions. Default 30 s; 100 ms to 1 d.
    pub interval: Duration,
    /// Until when an answer counts. Default 5 s; 10 ms to 10 min.
    pub timeout: Duration,
    /// So many silences in a row end the incarnation. Default 3; 1 to 1,000.
    pub failures: u32,
}

/// A way to a device, by a name that the driver knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// As the driver names it.
    pub name: String,
    /// Where it leads.
    pub connect: Connect,
    /// Where else its driver may dial, by the same transport.
    pub dial: Vec<DialRange>,
    /// What its TLS is checked by; there is none where the operator did not allow it.
    pub tls: Option<Tls>,
    /// How long a dial may take. Default 3 s; 10 ms to 60 s.
    pub connect_timeout: Duration,
    /// When it is dialled again. Default [`Redial::PLANT`]; delays of 10 ms to 60 s.
    pub redial: Redial,
    /// When a peer that is silent is taken for lost.
    pub heartbeat: Heartbeat,
    /// What becomes of its connections when the driver restarts. Default `reset`.
    pub on_restart: OnRestart,
}

/// When a peer that is silent is taken for lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Silence after which the peer is asked for a sign of life. Default 30 s; 1 s to 1 h.
    pub interval: Duration,
    /// Silence after which it is lost. Default `interval` and a half; longer than `interval`, at most 2 h.
    pub lost_after: Duration,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            lost_after: Duration::from_secs(45),
        }
    }
}

/// What becomes of a link's connections when the driver restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRestart {
    /// They are dropped and dialled anew.
    Reset,
    /// They stay, and `started` lists them.
    Keep,
}

/// A thing addressed within a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Its name, unique within the channel.
    pub name: String,
    /// In the protocol's own terms; may be empty.
    pub address: String,
    /// JSON, for the driver to check.
    pub settings: serde_json::Value,
    /// The link that leads to it, if the file says so.
    pub link: Option<LinkId>,
}

/// Tags that are polled together.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name, unique within the channel.
    pub name: String,
    /// 10 ms to 1 day.
    pub period: Duration,
    /// At least one.
    pub tags: Vec<TagId>,
    /// A tag that is not read for so long is stale; `None` for never.
    pub stale_after: Option<Duration>,
}

/// One named value.
#[derive(Clone, Debug, PartialEq)]
pub struct Tag {
    /// Its name: unique within the channel.
    pub name: Box<str>,
    /// The device that holds it.
    pub device: DeviceId,
    /// In the protocol's own syntax.
    pub address: Box<str>,
    /// Its type at the device, before scaling.
    pub data_type: DataType,
    /// Whether it can be read, written or both.
    pub access: Access,
    /// JSON, for the driver to check. Shared as the treatment is.
    pub settings: Arc<serde_json::Value>,
    /// What becomes of its values. Most tags of a channel for which it is the same share it: there are many tags.
    pub treatment: Arc<Treatment>,
    /// For people; may be empty.
    pub description: Box<str>,
}

/// What becomes of the values of a tag between the device and consumers.
#[derive(Clone, Debug, PartialEq)]
pub struct Treatment {
    /// `value = raw * scale + offset`. Finite, not 0. Default 1.
    pub scale: f64,
    /// See `scale`. Default 0.
    pub offset: f64,
    /// Which bits of the raw value are the tag's. Whole numbers only; such a tag is only read.
    pub part: Option<Part>,
    /// In scaled units: what lies beyond is shown as the nearer of the two, and not written.
    pub clamp: Option<Bounds>,
    /// In scaled units: what lies beyond is `uncertain-out-of-range`, and not written.
    pub limits: Option<Bounds>,
    /// What is handed on. Default `always`.
    pub report: Report,
    /// For reports of changes: the smallest change that counts, in scaled units. Default 0: any change.
    pub deadband: f64,
    /// For `report = "interval"` and `"both"`: how often. Otherwise zero.
    pub interval: Duration,
    /// A sample is handed on, whatever it says, when nothing was for so long.
    pub max_silence: Option<Duration>,
    /// The shortest time between two writes, in milliseconds.
    pub write_interval_ms: Option<NonZeroU32>,
    /// Such as `°C`; may be empty.
    pub unit: String,
}

impl Default for Treatment {
    fn default() -> Self {
        Self {
            scale: 1.0,
            offset: 0.0,
            part: None,
            clamp: None,
            limits: None,
            report: Report::Always,
            deadband: 0.0,
            interval: Duration::ZERO,
            max_silence: None,
            write_interval_ms: None,
            unit: String::new(),
        }
    }
}

impl Treatment {
    /// The shortest time between two writes, if there is one.
    pub fn write_interval(&self) -> Option<Duration> {
        let millis = self.write_interval_ms?;
        Some(Duration::from_millis(millis.get().into()))
    }
}

/// Whether a tag can be read, written or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `r`
    Read,
    /// `w`
    Write,
    /// `rw`
    ReadWrite,
}

impl Access {
    /// Whether an operator may write it.
    pub fn is_writable(self) -> bool {
        self != Access::Read
    }

    /// Whether it may be read, and polled.
    pub fn is_readable(self) -> bool {
        self != Access::Write
    }

    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Access::Read => "r",
            Access::Write => "w",
            Access::ReadWrite => "rw",
        }
    }
}

/// Which samples of a tag are handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Every one.
    Always,
    /// Those that differ from the last one handed on, by more than the deadband or in quality.
    Change,
    /// The first one in each interval, and changes of quality.
    Interval,
    /// Both.
    Both,
}

impl Report {
    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Report::Always => "always",
            Report::Change => "change",
            Report::Interval => "interval",
            Report::Both => "both",
        }
    }

    /// Whether changes are handed on, so that a deadband matters.
    pub fn is_by_change(self) -> bool {
        matches!(self, Report::Change | Report::Both)
    }

    /// Whether there is an interval.
    pub fn is_by_interval(self) -> bool {
        matches!(self, Report::Interval | Report::Both)
    }
}

/// Which bits of a whole number are a tag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Those of the mask, moved down to the lowest bit. Never 0.
    Mask(u64),
    /// One, as a truth value; 0 is the lowest.
    Bit(u8),
}

/// From `low` to `high`, both within; finite, and `low` is less.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The least.
    pub low: f64,
    /// The most.
    pub high: f64,
}

impl Bounds {
    /// Whether a number is within.
    pub fn contains(&self, number: f64) -> bool {
        self.low <= number && number <= self.high
    }
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.low, self.high)
    }
}

/// Where samples go.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// Its name: the kind, where the file gives none. Unique.
    pub name: String,
    /// Which kind.
    pub kind: SinkKind,
    /// Messages that may wait in memory before more are missed, with a gap. Default 1,024; 1 to 65,536.
    pub queue: usize,
    /// What it takes. Default everything.
    pub filter: TagFilter,
    /// Samples that are delivered together, at most; a batch is never cut for it. Default 5,000; 1 to 100,000.
    pub batch: u64,
    /// How long a delivery waits for more samples where there are fewer. Default 0 s; to 60 s.
    pub linger: Duration,
    /// The outbox before it; `None` if it has none and loses what it holds with the process.
    pub outbox: Option<OutboxLimits>,
}

/// What an outbox may hold, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes of what it holds; its file is somewhat larger. Default 1 GiB; 1 MiB to 1 TiB.
    pub bytes: u64,
    /// How old what it holds may get, while a host runs. Default 30 d; 1 s to 366 d.
    pub age: Duration,
    /// What happens where it is full. Default `drop-oldest`.
    pub overflow: Overflow,
    /// For how long a batch waits for others, so as to share their commit. Default 5 ms; 0 to 1 s.
    pub commit: Duration,
}

/// What happens where an outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// It accepts nothing more: what comes waits in memory as far as the sink's queue goes, and is then missed.
    Block,
    /// What is oldest goes, and a gap stands in its place.
    DropOldest,
    /// What comes is dropped, and a gap stands in its place.
    DropNewest,
}

/// The kinds of sink.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkKind {
    /// JSON lines, or a line for people where the output is a terminal.
    Stdout,
    /// JSON lines, appended.
    File {
        /// The file. Relative paths are relative to the configuration's folder.
        path: PathBuf,
        /// When it is moved aside and another begun.
        rotation: Rotation,
    },
    /// A broker of MQTT.
    Mqtt(Box<MqttSink>),
    /// A database of PostgreSQL.
    Postgres(Box<PostgresSink>),
    /// A stream of NATS.
    Nats(Box<NatsSink>),
}

impl Overflow {
    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Overflow::Block => "block",
            Overflow::DropOldest => "drop-oldest",
            Overflow::DropNewest => "drop-newest",
        }
    }
}

/// When a file is moved aside and another begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// When it has so many bytes; `None` for never. 4 KiB to 1 TiB.
    pub bytes: Option<u64>,
    /// When it is so old; `None` for never. 1 s to 366 d.
    pub age: Option<Duration>,
    /// How many that were moved aside are kept; the oldest goes. Default 10; 1 to 10,000.
    pub keep: usize,
}
