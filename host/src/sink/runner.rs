//! The loop of one sink: collect what the bus holds, encode it, write it, try again where that fails.
//!
//! Each sink has a thread of its own, since writing blocks: a pipe that nobody reads or a disk that hangs holds this
//! sink, and nothing else.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::file::LinesFile;
use super::record::{Gap, Record, Time};
use super::stdout::Stdout;
use super::text::TextStyle;
use crate::bus::{Batch, Bus, Message, Missed, MissedCount, Received, Subscription};
use crate::clock::Clock;
use crate::config::{Sink, SinkKind};

/// What is collected before it is written, in bytes. One batch may go beyond it.
const WRITE_BYTES: usize = 256 * 1024;
/// How long a sink that cannot write waits before it tries again.
const RETRY: Duration = Duration::from_secs(1);
/// How often a sink that cannot write says so.
const REMIND: Duration = Duration::from_secs(60);

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
    tasks: TaskTracker,
    stop: CancellationToken,
    closed: CancellationToken,
    shared: Arc<[Arc<Shared>]>,
}

/// How one sink is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// `stdout` or `file`.
    pub kind: &'static str,
    /// Samples written since the host started.
    pub written: u64,
    /// What found its queue full.
    pub missed: Missed,
    /// Why it cannot write at the moment.
    pub trouble: Option<String>,
}

/// How the sinks ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Those that were still writing when the time was over; what they held is lost.
    pub overdue: Vec<String>,
    /// Those that could not write what they held, with the number of samples.
    pub lost: Vec<(String, u64)>,
}

struct Shared {
    name: String,
    kind: &'static str,
    written: AtomicU64,
    missed: MissedCount,
    lost: AtomicU64,
    done: CancellationToken,
    trouble: Mutex<Option<String>>,
}

impl Sinks {
    /// Starts all sinks. They see what is published from now on. Must be called within a tokio runtime.
    pub fn start(sinks: &[Sink], bus: &Bus, clock: Clock, stdout: Look) -> Self {
        let (tasks, stop, closed) = (
            TaskTracker::new(),
            CancellationToken::new(),
            CancellationToken::new(),
        );
        let mut all = Vec::new();
        for sink in sinks {
            let (kind, look, output) = match &sink.kind {
                SinkKind::Stdout => ("stdout", stdout, Output::Stdout(None)),
                SinkKind::File { path } => ("file", Look::Json, Output::File(LinesFile::new(path))),
            };
            let subscription = bus.subscribe(sink.queue);
            let shared = Arc::new(Shared {
                name: sink.name.clone(),
                kind,
                written: AtomicU64::new(0),
                missed: subscription.missed(),
                lost: AtomicU64::new(0),
                done: CancellationToken::new(),
                trouble: Mutex::new(None),
            });
            all.push(shared.clone());
            let runner = Runner {
                subscription,
                clock,
                look,
                output,
                stop: stop.clone(),
                closed: closed.clone(),
                buffer: Vec::new(),
                held: 0,
                reminded: None,
                shared,
            };
            let runtime = tokio::runtime::Handle::current();
            tasks.spawn_blocking(move || runtime.block_on(runner.run()));
        }
        Self {
            tasks,
            stop,
            closed,
            shared: all.into(),
        }
    }

    /// Waits until somebody has closed standard output, as `head` does when it has seen enough. For ever where none is
    /// written to it.
    pub async fn output_closed(&self) {
        self.closed.cancelled().await;
    }

    /// How the sinks are, at any later time.
    pub fn watch(&self) -> impl Fn() -> Vec<SinkStatus> + Clone + Send + Sync + 'static {
        let shared = self.shared.clone();
        move || shared.iter().map(|sink| sink.status()).collect()
    }

    /// Lets the sinks write what they hold, once nothing is published any more, for at most `within`.
    pub async fn drain(self, within: Duration) -> Drained {
        self.stop.cancel();
        self.tasks.close();
        let in_time = tokio::time::timeout(within, self.tasks.wait())
            .await
            .is_ok();
        let mut drained = Drained::default();
        for sink in self.shared.iter() {
            match sink.lost.load(Ordering::Relaxed) {
                _ if !in_time && !sink.done.is_cancelled() => {
                    drained.overdue.push(sink.name.clone())
                }
                0 => {}
                lost => drained.lost.push((sink.name.clone(), lost)),
            }
        }
        drained
    }
}

impl Shared {
    fn status(&self) -> SinkStatus {
        SinkStatus {
            name: self.name.clone(),
            kind: self.kind,
            written: self.written.load(Ordering::Relaxed),
            missed: self.missed.get(),
            trouble: self
                .trouble
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

enum Output {
    /// Opened with the first write.
    Stdout(Option<Stdout>),
    File(LinesFile),
}

enum WriteError {
    /// Nobody will ever read it.
    Closed,
    /// It may pass.
    Failed(String),
}

impl Output {
    /// Writes `bytes` and removes what was written: all of it if there is no error.
    fn write(&mut self, bytes: &mut Vec<u8>) -> Result<(), WriteError> {
        match self {
            Output::Stdout(open) => {
                let stdout = match open.take() {
                    Some(stdout) => Ok(stdout),
                    None => Stdout::open(),
                };
                stdout
                    .and_then(|stdout| open.insert(stdout).write(bytes))
                    .map_err(|error| match error.kind() {
                        io::ErrorKind::BrokenPipe => WriteError::Closed,
                        _ => WriteError::Failed(format!(
                            "standard output cannot be written: {error}"
                        )),
                    })
            }
            Output::File(file) => file
                .write(bytes)
                .map_err(|error| WriteError::Failed(error.to_string())),
        }
    }

    fn close(&mut self) -> Result<(), WriteError> {
        match self {
            Output::Stdout(_) => Ok(()),
            Output::File(file) => file
                .close()
                .map_err(|error| WriteError::Failed(error.to_string())),
        }
    }
}

struct Runner {
    subscription: Subscription,
    clock: Clock,
    look: Look,
    output: Output,
    stop: CancellationToken,
    closed: CancellationToken,
    /// Encoded, not written yet.
    buffer: Vec<u8>,
    /// Samples in the buffer.
    held: u64,
    /// When the sink last said that it cannot write.
    reminded: Option<Instant>,
    shared: Arc<Shared>,
}

/// Whether a runner goes on.
#[derive(PartialEq)]
enum Flow {
    On,
    End,
}

impl Runner {
    async fn run(mut self) {
        // Also where writing panics: it must not look as if it still wrote.
        let _done = self.shared.done.clone().drop_guard();
        loop {
            let received = tokio::select! {
                received = self.subscription.next() => received,
                () = self.stop.cancelled() => break,
            };
            let Some(received) = received else { break };
            self.encode(received);
            // What has come in the meantime shares the write.
            while self.buffer.len() < WRITE_BYTES
                && let Some(received) = self.at_hand()
            {
                self.encode(received);
            }
            if self.write().await == Flow::End {
                return;
            }
        }
        while let Some(received) = self.at_hand() {
            self.encode(received);
            if self.buffer.len() >= WRITE_BYTES && self.write().await == Flow::End {
                return;
            }
        }
        if self.write().await == Flow::On
            && let Err(WriteError::Failed(reason)) = self.output.close()
        {
            tracing::error!(
                sink = self.shared.name,
                reason,
                "the sink could not be closed in order"
            );
        }
    }

    fn at_hand(&mut self) -> Option<Received> {
        // Without `unconstrained` tokio may say that there is nothing, only to let others run.
        tokio::task::unconstrained(self.subscription.next())
            .now_or_never()
            .flatten()
    }

    fn encode(&mut self, received: Received) {
        match received {
            Received::Message(Message::Samples(batch)) => self.encode_batch(&batch),
            // Sinks take samples; what happens to channels is in the log and in the API.
            Received::Message(Message::Event(_)) => {}
            Received::Gap(missed) => {
                let now = self.clock.wall();
                let sink = self.shared.name.as_str();
                tracing::warn!(
                    sink,
                    messages = missed.messages,
                    samples = missed.samples,
                    "the sink was too slow; messages were dropped"
                );
                match self.look {
                    Look::Text(style) => style.gap(&mut self.buffer, missed, now),
                    Look::Json => json_line(
                        &mut self.buffer,
                        &Gap {
                            gap: missed.messages,
                            samples: missed.samples,
                            sink,
                            server_time: Time(now),
                            server_time_ns: now.0,
                        },
                    ),
                }
            }
        }
    }

    fn encode_batch(&mut self, batch: &Batch) {
        for sample in &batch.samples {
            match self.look {
                Look::Text(style) => style.sample(&mut self.buffer, batch, sample),
                Look::Json => {
                    if let Some(record) = Record::of(batch, sample) {
                        json_line(&mut self.buffer, &record);
                    }
                }
            }
        }
        self.held += batch.samples.len() as u64;
    }

    /// Writes what is held, however long it takes; when the host stops, only once more.
    async fn write(&mut self) -> Flow {
        if self.buffer.is_empty() {
            return Flow::On;
        }
        loop {
            let last = self.stop.is_cancelled();
            match self.output.write(&mut self.buffer) {
                Ok(()) => {
                    self.shared.written.fetch_add(self.held, Ordering::Relaxed);
                    self.held = 0;
                    if self.reminded.take().is_some() {
                        self.shared.set_trouble(None);
                        tracing::info!(sink = self.shared.name, "the sink writes again");
                    }
                    return Flow::On;
                }
                Err(WriteError::Closed) => {
                    self.closed.cancel();
                    return Flow::End;
                }
                Err(WriteError::Failed(reason)) if last => {
                    tracing::error!(
                        sink = self.shared.name,
                        reason,
                        samples = self.held,
                        "samples are lost"
                    );
                    self.shared.lost.store(self.held, Ordering::Relaxed);
                    return Flow::End;
                }
                Err(WriteError::Failed(reason)) => self.report(reason),
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    fn report(&mut self, reason: String) {
        if self.reminded.is_none_or(|at| at.elapsed() >= REMIND) {
            tracing::error!(
                sink = self.shared.name,
                reason,
                "the sink cannot write; it tries again each second"
            );
            self.reminded = Some(Instant::now());
        }
        self.shared.set_trouble(Some(reason));
    }
}

fn json_line(buffer: &mut Vec<u8>, record: &impl serde::Serialize) {
    serde_json::to_writer(&mut *buffer, record)
        .expect("a record has text for keys, and a buffer takes everything");
    buffer.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Origin};
    use crate::event::{Quality, Sample, Value, WallNs};
    use crate::ids::{InstanceId, TagId};

    const CONFIG: &str = r#"
        [[channel]]
        id = "press-3"
        driver = "modbus.wasm"
        [[channel.group]]
        name = "fast"
        period = "100ms"
        tags = [{ name = "temp", address = "40001", type = "int64" }]
        [[sink]]
        kind = "file"
        path = "samples.jsonl"
    "#;

    fn configured(folder: &std::path::Path) -> config::Host {
        let origin = Origin {
            name: "test.toml".into(),
            folder: folder.into(),
        };
        config::parse(CONFIG, &origin).unwrap().value
    }

    fn publish(bus: &Bus, host: &config::Host, sequences: std::ops::RangeInclusive<u64>) {
        let instance = Arc::new(InstanceId {
            channel: host.channels[0].id.clone(),
            incarnation: 7,
        });
        let channel = Arc::new(host.channels[0].clone());
        for sequence in sequences {
            let sample = Sample {
                tag: TagId(0),
                value: Some(Value::Int(i64::MAX)),
                quality: Quality::Good,
                source_time: None,
            };
            let batch = Batch {
                instance: instance.clone(),
                channel: channel.clone(),
                sequence,
                server_time: WallNs(1),
                samples: vec![sample],
            };
            bus.publish(&Message::Samples(Arc::new(batch)));
        }
    }

    fn lines(path: &std::path::Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("bulkhead-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[tokio::test]
    async fn what_was_published_before_the_end_is_in_the_file() {
        let folder = folder("drain");
        let host = configured(&folder);
        let bus = Bus::new();
        let sinks = Sinks::start(&host.sinks, &bus, Clock::start(), Look::Json);
        let watch = sinks.watch();
        publish(&bus, &host, 1..=500);
        assert_eq!(
            sinks.drain(Duration::from_secs(60)).await,
            Drained::default()
        );
        let lines = lines(&folder.join("samples.jsonl"));
        let sequences: Vec<u64> = lines
            .iter()
            .map(|line| line["sequence"].as_u64().unwrap())
            .collect();
        assert_eq!(sequences, (1..=500).collect::<Vec<u64>>());
        let expected = serde_json::json!({
            "channel": "press-3", "tag": "temp", "device": "press-3", "value": i64::MAX, "quality": "good",
            "server_time": "1970-01-01T00:00:00.000000001Z", "server_time_ns": 1, "incarnation": 7, "sequence": 1,
        });
        assert_eq!(lines[0], expected);
        assert_eq!(
            (watch()[0].written, watch()[0].trouble.as_deref()),
            (500, None)
        );
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn a_gap_stands_where_messages_are_missing() {
        let folder = folder("gap");
        let host = configured(&folder);
        let bus = Bus::new();
        let subscription = bus.subscribe(2);
        let missed = subscription.missed();
        let runner = Runner {
            subscription,
            clock: Clock::start(),
            look: Look::Json,
            output: Output::File(LinesFile::new(&folder.join("samples.jsonl"))),
            stop: CancellationToken::new(),
            closed: CancellationToken::new(),
            buffer: Vec::new(),
            held: 0,
            reminded: None,
            shared: Arc::new(Shared {
                name: "archive".into(),
                kind: "file",
                written: AtomicU64::new(0),
                missed,
                lost: AtomicU64::new(0),
                done: CancellationToken::new(),
                trouble: Mutex::new(None),
            }),
        };
        publish(&bus, &host, 1..=5);
        runner.stop.cancel();
        let shared = runner.shared.clone();
        runner.run().await;
        let lines = lines(&folder.join("samples.jsonl"));
        let sequence = |line: &serde_json::Value| line["sequence"].as_u64();
        assert_eq!(
            (sequence(&lines[0]), sequence(&lines[1])),
            (Some(1), Some(2))
        );
        let gap = &lines[2];
        assert_eq!(
            (
                gap["gap"].as_u64(),
                gap["samples"].as_u64(),
                gap["sink"].as_str()
            ),
            (Some(3), Some(3), Some("archive"))
        );
        assert_eq!(lines.len(), 3);
        let missed = Missed {
            messages: 3,
            samples: 3,
        };
        assert_eq!(shared.status().missed, missed);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn a_sink_that_cannot_write_says_what_is_lost_when_the_host_stops() {
        let folder = folder("lost");
        let mut host = configured(&folder);
        host.sinks[0].kind = SinkKind::File {
            path: folder.join("missing").join("samples.jsonl"),
        };
        let bus = Bus::new();
        let sinks = Sinks::start(&host.sinks, &bus, Clock::start(), Look::Json);
        publish(&bus, &host, 1..=3);
        let watch = sinks.watch();
        let drained = sinks.drain(Duration::from_secs(60)).await;
        assert_eq!(drained.lost, [("file".to_owned(), 3)]);
        assert_eq!(watch()[0].written, 0);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
