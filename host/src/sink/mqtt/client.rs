//! The task that keeps the connection: dials, greets, lets a session run, and dials again.
//!
//! Deliveries come as jobs, one at a time, and are answered in any case: with what the broker said, or with why there is no
//! connection. Nothing is kept over the end of a connection but writes that wait for their answers: what was not acknowledged
//! is given to the sink again by its runner.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::sync::CancellationToken;

use super::super::health::Health;
use super::payload::Parcel;
use super::prompt::Prompt;
use super::requests::Desk;
use super::session::{End, Job, Outcome, Reader, Session, Terms, Writer};
use super::wire::{self, Inbox, Packet};
use super::{reason, topic};
use crate::backoff::Policy;
use crate::config::{MqttSink, Tls};

/// How long it may take to connect and be let in.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a delivery waits for a connection that is not there.
const WAIT: Duration = Duration::from_secs(3);
/// How long it may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// Between two attempts to connect.
const DELAYS: Policy = Policy {
    base: Duration::from_millis(250),
    max: Duration::from_secs(5),
};
/// How long a connection must have held for the attempts to count from nothing again.
const STEADY: Duration = Duration::from_secs(5);

const ONLINE: &str = "online";
const OFFLINE: &str = "offline";

/// How the connection is.
#[derive(Clone, Debug)]
enum Link {
    Down(Arc<str>),
    Up {
        /// The longest packet that the broker takes, in bytes.
        longest: Option<usize>,
    },
}

/// What deliveries hold of the task. It ends with its value.
pub(super) struct Client {
    jobs: mpsc::Sender<Job>,
    link: watch::Receiver<Link>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

struct Task {
    dialer: Dialer,
    status_topic: String,
    jobs: mpsc::Receiver<Job>,
    link: watch::Sender<Link>,
    desk: Option<Desk>,
    stop: CancellationToken,
    health: Arc<Health>,
}

struct Dialer {
    sink: MqttSink,
    client_id: String,
    status_topic: Option<String>,
}

impl Client {
    /// Must be called within a tokio runtime.
    pub(super) fn start(
        name: &str,
        sink: &MqttSink,
        desk: Option<Desk>,
        health: Arc<Health>,
    ) -> Self {
        let (jobs, taken) = mpsc::channel(1);
        let (told, link) = watch::channel(Link::Down(
            "there was no connection to the broker yet; wait".into(),
        ));
        let stop = CancellationToken::new();
        let status_topic = topic::own(&sink.prefix, name, "status");
        let dialer = Dialer {
            client_id: sink
                .client_id
                .clone()
                .unwrap_or_else(|| own_client_id(name, sink)),
            status_topic: sink.status.then(|| status_topic.clone()),
            sink: sink.clone(),
        };
        let task = Task {
            dialer,
            status_topic,
            jobs: taken,
            link: told,
            desk,
            stop: stop.clone(),
            health,
        };
        let mut set = JoinSet::new();
        set.spawn(task.run());
        Self {
            jobs,
            link,
            stop,
            task: set,
        }
    }

    /// Waits a little for the connection, and says how long a packet may be; or why there is none.
    pub(super) async fn longest(&mut self) -> Result<Option<usize>, String> {
        let up = self.link.wait_for(|link| matches!(link, Link::Up { .. }));
        if let Ok(Ok(link)) = timeout(WAIT, up).await
            && let Link::Up { longest } = &*link
        {
            return Ok(*longest);
        }
        match &*self.link.borrow() {
            Link::Down(reason) => Err(reason.to_string()),
            Link::Up { longest } => Ok(*longest),
        }
    }

    /// Sends it, waits for what becomes of it, and empties it for the next.
    pub(super) async fn send(&mut self, parcel: &mut Parcel) -> Outcome {
        let (done, answered) = oneshot::channel();
        let job = Job {
            parcel: std::mem::take(parcel),
            done,
        };
        let gone = Outcome::Broken(End::new("the sink has ended; start the host again"));
        if self.jobs.send(job).await.is_err() {
            return gone;
        }
        match answered.await {
            Ok((given_back, outcome)) => {
                *parcel = given_back;
                outcome
            }
            Err(_gone) => gone,
        }
    }

    /// Says goodbye, and ends.
    pub(super) async fn close(&mut self) {
        self.stop.cancel();
        if timeout(GOODBYE, self.task.join_next()).await.is_err() {
            tracing::debug!("the broker did not take the goodbye");
        }
        self.task.abort_all();
    }
}

impl Task {
    async fn run(mut self) {
        let mut attempts = 0u32;
        while !self.stop.is_cancelled() {
            let began = Instant::now();
            let end = match self.dial().await {
                Some(Ok((session, longest))) => {
                    self.link.send_replace(Link::Up { longest });
                    self.health.up();
                    let end = self.serve(session).await;
                    self.health.down();
                    end
                }
                Some(Err(reason)) => reason,
                None => return,
            };
            if self.stop.is_cancelled() {
                return;
            }
            if began.elapsed() >= STEADY {
                attempts = 0;
            }
            attempts = attempts.saturating_add(1);
            if self.health.failed(&end) {
                tracing::warn!("{end}");
            }
            self.link.send_replace(Link::Down(end.as_str().into()));
            let delay = DELAYS.delay(attempts, fastrand::u64(..));
            let pause = async {
                tokio::select! {
                    () = sleep(delay) => {}
                    () = self.stop.cancelled() => {}
                }
            };
            answering(&mut self.jobs, &end, pause).await;
        }
    }

    /// `None` if it was stopped meanwhile.
    async fn dial(&mut self) -> Option<Result<(Session, Option<usize>), String>> {
        let reason = match &*self.link.borrow() {
            Link::Down(reason) => reason.to_string(),
            Link::Up { .. } => String::new(),
        };
        let dialling = async {
            tokio::select! {
                dialled = timeout(CONNECT, self.dialer.dial()) => Some(dialled),
                () = self.stop.cancelled() => None,
            }
        };
        let dialled = answering(&mut self.jobs, &reason, dialling).await?;
        Some(dialled.unwrap_or_else(|_elapsed| {
            let sink = &self.dialer.sink;
            Err(format!(
                "the broker {}:{} did not let us in within {} s; see to the broker and the network, or correct `url`",
                sink.host,
                sink.port,
                CONNECT.as_secs()
            ))
        }))
    }

    async fn serve(&mut self, mut session: Session) -> String {
        if self.dialer.sink.status {
            session.say(&self.status_topic, ONLINE);
        }
        if let Some(desk) = &self.desk {
            session.subscribe(&desk.filter());
        }
        let last = self
            .dialer
            .sink
            .status
            .then_some((self.status_topic.as_str(), OFFLINE));
        let running = session.run(
            &mut self.jobs,
            self.desk.as_mut(),
            &self.stop,
            last,
            &self.health,
        );
        running.await.reason
    }
}

/// Waits for something else while there is no connection, and says so to whoever wants to deliver.
async fn answering<T>(
    jobs: &mut mpsc::Receiver<Job>,
    reason: &str,
    other: impl Future<Output = T>,
) -> T {
    let mut other = std::pin::pin!(other);
    loop {
        tokio::select! {
            done = &mut other => return done,
            Some(job) = jobs.recv() => {
                // Whoever asked may have given up.
                job.done.send((job.parcel, Outcome::Broken(End::new(reason)))).ok();
            }
        }
    }
}

impl Dialer {
    async fn dial(&self) -> Result<(Session, Option<usize>), String> {
        let sink = &self.sink;
        let (tls, password) = (sink.tls.clone(), sink.password.clone());
        let read = spawn_blocking(move || {
            let tls =
                tls.map(|tls| crate::link::client_config(&tls).map_err(|fault| fault.to_string()));
            let password = password.map(|secret| secret.read().map_err(|fault| fault.to_string()));
            Ok::<_, String>((tls.transpose()?, password.transpose()?))
        });
        let (config, password) = read
            .await
            .map_err(|gone| format!("files cannot be read ({gone}); start the host again"))??;

        let at = format!("{}:{}", sink.host, sink.port);
        let stream = TcpStream::connect((sink.host.as_str(), sink.port))
            .await
            .map_err(|error| {
                format!("the broker {at} cannot be reached ({error}); start it, or correct `url`")
            })?;
        let stream = Prompt::new(stream);
        let (mut reader, mut writer): (Reader, Writer) = match (&sink.tls, config) {
            (Some(tls), Some(config)) => {
                let name = server_name(tls, &sink.host)?;
                let stream = TlsConnector::from(config)
                    .connect(name, stream)
                    .await
                    .map_err(|error| {
                        format!(
                            "no TLS with the broker {at}: {}",
                            crate::link::explained(error)
                        )
                    })?;
                let (reader, writer) = tokio::io::split(stream);
                (Box::new(reader), Box::new(writer))
            }
            _ => {
                let (reader, writer) = tokio::io::split(stream);
                (Box::new(reader), Box::new(writer))
            }
        };

        let mut hello = Vec::new();
        wire::connect(
            &mut hello,
            &wire::Connect {
                version: sink.version,
                client_id: &self.client_id,
                username: sink.username.as_deref(),
                password: password.as_deref(),
                keep_alive: u16::try_from(sink.keep_alive.as_secs()).unwrap_or(u16::MAX),
                clean: sink.clean_session,
                will: self.status_topic.as_deref().map(|topic| (topic, OFFLINE)),
                qos: sink.qos,
            },
        );
        let broke = |error| {
            format!(
                "the broker {at} broke off before it let us in ({}); see the broker's own log",
                crate::link::explained(error)
            )
        };
        writer.write_all(&hello).await.map_err(broke)?;
        writer.flush().await.map_err(broke)?;
        let mut inbox = Inbox::default();
        let ack = loop {
            match inbox
                .next(sink.version)
                .map_err(|fault| fault.to_string())?
            {
                Some(Packet::ConnAck(ack)) => break ack,
                Some(Packet::Disconnect { code, reason }) => {
                    return Err(reason::ended(code, reason.as_deref()));
                }
                Some(_) => {
                    return Err(
                        "the broker does not greet first; check that `url` names a broker"
                            .to_owned(),
                    );
                }
                None => {}
            }
            if reader.read_buf(&mut inbox.bytes).await.map_err(broke)? == 0 {
                return Err(format!(
                    "the broker {at} hung up instead of letting us in; see its own log, and try another `version` if it is an old one"
                ));
            }
        };
        if ack.code != 0 {
            return Err(reason::not_let_in(
                sink.version,
                ack.code,
                ack.reason.as_deref(),
            ));
        }
        let terms = Terms {
            version: sink.version,
            qos: sink.qos,
            window: usize::from(sink.in_flight),
            keep_alive: Some(sink.keep_alive),
            longest: None,
        };
        let terms = terms.agree(&ack, sink.status || sink.retain)?;
        Ok((Session::new(reader, writer, inbox, terms), terms.longest))
    }
}

fn server_name(tls: &Tls, host: &str) -> Result<ServerName<'static>, String> {
    let name = tls
        .server_name
        .as_deref()
        .unwrap_or(host)
        .trim_end_matches('.');
    ServerName::try_from(name.to_owned()).map_err(|_| {
        format!("{name} is no name that a certificate could have; write the one that the broker's has as `server_name`")
    })
}

/// Stays the same over restarts, and is another one on another machine or for another configuration: a broker ends the
/// connection of a client when a second one comes with its id.
fn own_client_id(name: &str, sink: &MqttSink) -> String {
    let machine = ["/etc/machine-id", "/proc/sys/kernel/hostname"]
        .into_iter()
        .find_map(|path| {
            std::fs::read_to_string(path)
                .ok()
                .filter(|text| !text.trim().is_empty())
        });
    let folder = sink
        .folder
        .canonicalize()
        .unwrap_or_else(|_| sink.folder.clone());
    let mut hash = Sha256::new();
    hash.update(machine.unwrap_or_default());
    hash.update([0]);
    hash.update(folder.as_os_str().as_encoded_bytes());
    let mut id = format!("bulkhead-{name}-");
    for byte in hash.finalize().iter().take(4) {
        write!(id, "{byte:02x}").expect("a string takes everything");
    }
    id
}
