//! All sinks of a host: started together, ended together.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sha2::Digest as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::destination::Destination;
use super::file::FileDestination;
use super::mqtt::{Mqtt, WAITING, WriteRequest};
use super::nats::Nats;
use super::postgres::Postgres;
use super::runner::Runner;
use super::source::{Filter, Memory, Source};
use super::status::{Shared, SinkWatch};
use super::stdout::StdoutDestination;
use super::text::TextStyle;
use crate::bus::Bus;
use crate::clock::Clock;
use crate::config::{Sink, SinkKind};
use crate::outbox::{Bounds, Outbox, Plan};

/// What standard output looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// JSON lines.
    Json,
    /// A line for people.
    Text(TextStyle),
}

/// The running sinks.
pub struct Sinks {
    /// The outboxes' writers, which end first.
    lanes: TaskTracker,
    tasks: TaskTracker,
    stop: CancellationToken,
    closed: CancellationToken,
    shared: Arc<[Arc<Shared>]>,
    asked: Option<mpsc::Receiver<WriteRequest>>,
}

/// How the sinks ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Those that were still writing when the time was over; what they held is lost.
    pub overdue: Vec<String>,
    /// Those that could not write what they held, with the number of samples.
    pub lost: Vec<(String, u64)>,
}

/// What all sinks of a host share.
struct Common<'c> {
    bus: &'c Bus,
    clock: Clock,
    data_dir: &'c Path,
    lanes: &'c TaskTracker,
    tasks: &'c TaskTracker,
    stop: &'c CancellationToken,
    closed: &'c CancellationToken,
}

impl Sinks {
    /// Starts all sinks. They see what is published from now on. Must be called within a tokio runtime, by whoever has locked
    /// `data_dir`.
    pub fn start(sinks: &[Sink], bus: &Bus, clock: Clock, stdout: Look, data_dir: &Path) -> Self {
        let (lanes, tasks) = (TaskTracker::new(), TaskTracker::new());
        let (stop, closed) = (CancellationToken::new(), CancellationToken::new());
        let common = Common {
            bus,
            clock,
            data_dir,
            lanes: &lanes,
            tasks: &tasks,
            stop: &stop,
            closed: &closed,
        };
        warn_of_orphans(sinks, &data_dir.join("outbox"));
        let (requests, asked) = mpsc::channel(WAITING);
        let shared = sinks
            .iter()
            .map(|sink| match &sink.kind {
                SinkKind::Stdout => {
                    let destination = StdoutDestination::new(stdout, &sink.name);
                    common.start(sink, "stdout", destination)
                }
                SinkKind::File { path, rotation } => {
                    let durable = sink.outbox.is_some();
                    let destination = FileDestination::new(path, *rotation, durable, &sink.name);
                    common.start(sink, "file", destination)
                }
                SinkKind::Mqtt(mqtt) => {
                    let writes = mqtt.writes.as_ref().map(|_| requests.clone());
                    common.start(sink, "mqtt", Mqtt::start(&sink.name, mqtt, writes))
                }
                SinkKind::Postgres(postgres) => {
                    common.start(sink, "postgres", Postgres::new((**postgres).clone()))
                }
                SinkKind::Nats(nats) => {
                    common.start(sink, "nats", Nats::new(&sink.name, (**nats).clone()))
                }
            })
            .collect();
        Self {
            lanes,
            tasks,
            stop,
            closed,
            shared,
            asked: Some(asked),
        }
    }

    /// The writes that come over sinks, for whoever carries them out; only once.
    pub(crate) fn take_requests(&mut self) -> Option<mpsc::Receiver<WriteRequest>> {
        self.asked.take()
    }

    /// Waits until somebody has closed standard output, as `head` does when it has seen enough. For ever where none is
    /// written to it.
    pub async fn output_closed(&self) {
        self.closed.cancelled().await;
    }

    /// How the sinks are, at any later time.
    pub fn watch(&self) -> SinkWatch {
        SinkWatch {
            shared: self.shared.clone(),
        }
    }

    /// Lets the sinks write what they hold, once nothing is published any more, for at most `within`. What stands in an outbox and
    /// is not delivered in a moment is delivered when the host runs again.
    pub async fn drain(self, within: Duration) -> Drained {
        self.stop.cancel();
        self.lanes.close();
        self.tasks.close();
        let all = async {
            self.lanes.wait().await;
            self.tasks.wait().await;
        };
        let in_time = tokio::time::timeout(within, all).await.is_ok();
        let mut drained = Drained::default();
        for sink in self.shared.iter() {
            let lost =
                sink.lost.load(Ordering::Relaxed) + sink.outbox.as_ref().map_or(0, Outbox::lost);
            match lost {
                _ if !in_time && !sink.is_safe() => {
                    drained.overdue.push(sink.name.clone());
                }
                0 => {}
                lost => drained.lost.push((sink.name.clone(), lost)),
            }
        }
        drained
    }
}

/// Says which outboxes have samples in them, perhaps, that no sink will deliver any more: it was renamed, removed, or has none now.
fn warn_of_orphans(sinks: &[Sink], folder: &Path) {
    let owned = |name: &str| {
        let mut with_outbox = sinks.iter().filter(|sink| sink.outbox.is_some());
        with_outbox.any(|sink| file_name(&sink.name) == name)
    };
    // A folder that is not there holds none.
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".redb") && !owned(&name) {
            tracing::warn!(
                file = %entry.path().display(),
                "this outbox belongs to no sink any more, and nothing delivers what is in it; give a sink the name it had, or remove the file"
            );
        }
    }
}

/// The name of a sink's outbox: readable where the sink's name can be a file's name, and unique.
fn file_name(sink: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if sink.len() <= 64 && sink.bytes().all(plain) {
        return format!("{sink}.redb");
    }
    let hash = sha2::Sha256::digest(sink);
    let digits: String = hash
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let readable: String = sink
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(32)
        .collect();
    format!("{readable}.{digits}.redb")
}

impl Common<'_> {
    fn start(
        &self,
        sink: &Sink,
        kind: &'static str,
        destination: impl Destination + 'static,
    ) -> Arc<Shared> {
        let subscription = self.bus.subscribe(sink.queue);
        let missed = subscription.missed();
        let mut filter = Filter::new(sink.filter.clone());
        let (source, outbox) = match &sink.outbox {
            None => {
                let memory = Memory {
                    subscription,
                    filter,
                    clock: self.clock,
                    stop: self.stop.clone(),
                };
                (Source::Memory(memory), None)
            }
            Some(limits) => {
                let plan = Plan {
                    name: sink.name.clone(),
                    path: self.data_dir.join("outbox").join(file_name(&sink.name)),
                    bounds: Bounds {
                        bytes: limits.bytes,
                        age: limits.age,
                        overflow: limits.overflow,
                    },
                    commit: limits.commit,
                };
                let admit = move |batch: &_| filter.admit(batch);
                let stop = self.stop.clone();
                let (outbox, parcels) =
                    Outbox::start(plan, subscription, admit, self.clock, self.lanes, stop);
                (Source::Outbox(parcels), Some(outbox))
            }
        };
        let shared = Arc::new(Shared::new(
            &sink.name,
            kind,
            missed,
            outbox,
            destination.health(),
            self.clock,
        ));
        let runner = Runner {
            source,
            destination,
            batch: sink.batch,
            linger: sink.linger,
            clock: self.clock,
            stop: self.stop.clone(),
            closed: self.closed.clone(),
            last: None,
            reminded: None,
            shared: shared.clone(),
        };
        let runtime = tokio::runtime::Handle::current();
        self.tasks
            .spawn_blocking(move || runtime.block_on(runner.run()));
        shared
    }
}
