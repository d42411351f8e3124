//! One connection to a NATS server.
//!
//! Nothing runs beside it: it reads and writes while somebody waits for an answer, and only then. So it never comes back by itself
//! either: a connection that comes back in the midst of a delivery would send what follows a loss, and the order would be gone.

use std::time::Duration;

use bytes::BytesMut;
use serde::Serialize;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, pki_types::ServerName};

use super::credentials::Credentials;
use super::fault::Fault;
use super::protocol::{self, Info, Message, Publish, Word};
use crate::config::{NatsLogin, NatsSink, Tls};
use crate::link::client_config;

/// How long it may take until the server has let us in.
const LOGIN: Duration = Duration::from_secs(5);
/// How long an answer may take.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// A connection that was silent for so long is asked before it is used. Servers hang up on who does not answer for minutes.
const SILENCE: Duration = Duration::from_secs(10);
/// The least room to read into.
const ROOM: usize = 16 * 1024;

trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

type Stream = Box<dyn Transport>;

/// A connection that the server has let in.
pub(super) struct Client {
    reader: ReadHalf<Stream>,
    writer: WriteHalf<Stream>,
    incoming: BytesMut,
    /// What is to be sent, and how much of it is.
    outgoing: Vec<u8>,
    sent: usize,
    flushed: bool,
    max_payload: usize,
    /// Answers come to subjects that begin with this; a number follows.
    inbox: String,
    last_number: u64,
    pongs: u64,
    heard: Instant,
}

/// What a client says of itself first.
#[derive(Default, Serialize)]
struct Hello<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    name: &'a str,
    lang: &'a str,
    version: &'a str,
    protocol: u8,
    headers: bool,
    no_responders: bool,
    echo: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
}

impl Client {
    /// Connects and logs in.
    pub(super) async fn connect(sink: &NatsSink) -> Result<Self, Fault> {
        let at = format!("{}:{}", sink.host, sink.port);
        match timeout(LOGIN, Self::log_in(sink, &at)).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(Fault::NoAnswer { at, within: LOGIN }),
        }
    }

    async fn log_in(sink: &NatsSink, at: &str) -> Result<Self, Fault> {
        let unreachable = |cause| Fault::Unreachable {
            at: at.to_owned(),
            cause,
        };
        let stream = TcpStream::connect((&*sink.host, sink.port))
            .await
            .map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut plain = Self::over(Box::new(stream));
        // The server speaks first.
        let info = match plain.word().await? {
            Word::Info(info) => *info,
            Word::Error(said) => return Err(Fault::of_line(&said)),
            _ => return Err(not_nats("it does not begin with INFO")),
        };
        if !info.headers {
            return Err(not_nats("it takes no headers"));
        }
        let mut client = match &sink.tls {
            None if info.tls_required => return Err(Fault::WantsTls),
            None => plain,
            Some(_) if !info.tls_required && !info.tls_available => return Err(Fault::NoTls),
            Some(tls) => {
                let Self { reader, writer, .. } = plain;
                Self::over(encrypted(reader.unsplit(writer), tls, &sink.host, at).await?)
            }
        };
        client.max_payload = info.max_payload;
        client.inbox = format!("_INBOX.{}.", random_name());
        let hello = hello(sink, &info).await?;
        let hello = serde_json::to_string(&hello).expect("texts are JSON");
        let inbox = &client.inbox;
        let said = format!("CONNECT {hello}\r\nSUB {inbox}* 1\r\n");
        client.outgoing.extend_from_slice(said.as_bytes());
        client.ping().await?;
        Ok(client)
    }

    fn over(stream: Stream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader,
            writer,
            incoming: BytesMut::new(),
            outgoing: Vec::new(),
            sent: 0,
            flushed: true,
            max_payload: 0,
            inbox: String::new(),
            last_number: 0,
            pongs: 0,
            heard: Instant::now(),
        }
    }

    /// The most bytes of a message with its headers.
    pub(super) fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Whether the server is still there, as far as it can be known without waiting long.
    pub(super) async fn is_there(&mut self) -> bool {
        self.heard.elapsed() < SILENCE || matches!(timeout(ANSWER, self.ping()).await, Ok(Ok(())))
    }

    /// Sends a message with the next answer's number, once somebody waits for answers.
    pub(super) fn publish(&mut self, subject: &str, id: &str, stream: &str, payload: &[u8]) -> u64 {
        let (number, reply) = self.next_reply();
        let message = Publish {
            subject,
            reply: &reply,
            id,
            stream,
            payload,
        };
        protocol::publish(&mut self.outgoing, message);
        number
    }

    /// Asks, and waits for the answer. Nothing else may be under way.
    pub(super) async fn ask(&mut self, subject: &str, payload: &[u8]) -> Result<Message, Fault> {
        let (number, reply) = self.next_reply();
        protocol::request(&mut self.outgoing, subject, &reply, payload);
        let answered = timeout(ANSWER, async {
            loop {
                let (of, message) = self.answer().await?;
                if of == number {
                    return Ok(message);
                }
            }
        });
        answered.await.unwrap_or_else(|_elapsed| {
            Err(Fault::Lost {
                cause: format!("no answer to {subject} within {ANSWER:?}"),
            })
        })
    }

    /// The next answer, with the number of what it answers. Sends meanwhile what is to be sent.
    pub(super) async fn answer(&mut self) -> Result<(u64, Message), Fault> {
        loop {
            match self.word().await? {
                Word::Message(message) => {
                    let number = message.subject.strip_prefix(&self.inbox);
                    if let Some(number) = number.and_then(|number| number.parse().ok()) {
                        return Ok((number, message));
                    }
                }
                other => self.tend(other)?,
            }
        }
    }

    /// Hangs up, once everything is sent.
    pub(super) async fn close(mut self) {
        if self.sent < self.outgoing.len() {
            let rest = self.outgoing.split_off(self.sent);
            self.writer.write_all(&rest).await.ok();
        }
        self.writer.shutdown().await.ok();
    }

    async fn ping(&mut self) -> Result<(), Fault> {
        let before = self.pongs;
        self.outgoing.extend_from_slice(b"PING\r\n");
        while self.pongs == before {
            let word = self.word().await?;
            self.tend(word)?;
        }
        Ok(())
    }

    /// What is said beside answers.
    fn tend(&mut self, word: Word) -> Result<(), Fault> {
        match word {
            Word::Ping => self.outgoing.extend_from_slice(b"PONG\r\n"),
            Word::Pong => self.pongs += 1,
            Word::Info(info) if info.max_payload > 0 => self.max_payload = info.max_payload,
            Word::Error(said) => return Err(Fault::of_line(&said)),
            Word::Info(_) | Word::Ok | Word::Message(_) => {}
        }
        Ok(())
    }

    fn next_reply(&mut self) -> (u64, String) {
        self.last_number += 1;
        (
            self.last_number,
            format!("{}{}", self.inbox, self.last_number),
        )
    }

    /// The next word of the server. Sends meanwhile what is to be sent. Nothing is lost where it is dropped in its midst.
    async fn word(&mut self) -> Result<Word, Fault> {
        loop {
            if let Some(word) = protocol::next(&mut self.incoming)? {
                return Ok(word);
            }
            if self.sent > 0 && self.sent == self.outgoing.len() {
                self.outgoing.clear();
                self.sent = 0;
            }
            self.incoming.reserve(ROOM);
            let rest = self.outgoing.get(self.sent..).unwrap_or_default();
            let writer = &mut self.writer;
            let send = async {
                match rest.is_empty() {
                    true => writer.flush().await.map(|()| 0),
                    false => writer.write(rest).await,
                }
            };
            tokio::select! {
                read = self.reader.read_buf(&mut self.incoming) => {
                    if read.map_err(lost)? == 0 {
                        return Err(Fault::Lost { cause: "the server hung up".to_owned() });
                    }
                    self.heard = Instant::now();
                }
                sent = send, if !rest.is_empty() || !self.flushed => {
                    self.flushed = rest.is_empty();
                    self.sent += sent.map_err(lost)?;
                }
            }
        }
    }
}

/// In TLS 1.3 a server looks at our certificate after we have finished: what it thinks of it comes as an error of the stream.
fn lost(error: std::io::Error) -> Fault {
    let is_tls = error
        .get_ref()
        .is_some_and(|inner| inner.is::<rustls::Error>());
    let cause = error.to_string();
    match is_tls {
        true => Fault::Refuses { cause },
        false => Fault::Lost { cause },
    }
}

async fn encrypted(stream: Stream, tls: &Tls, host: &str, at: &str) -> Result<Stream, Fault> {
    let failed = |cause: String| Fault::Handshake {
        at: at.to_owned(),
        cause,
    };
    let name = tls.server_name.clone().unwrap_or_else(|| host.to_owned());
    let name = ServerName::try_from(name).map_err(|wrong| failed(wrong.to_string()))?;
    let tls = tls.clone();
    let config = blocking(move || client_config(&tls)).await??;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    Ok(Box::new(stream.map_err(|cause| failed(cause.to_string()))?))
}

/// Secrets are read anew each time, so that a new one holds from the next connection on.
async fn hello(sink: &NatsSink, info: &Info) -> Result<Hello<'static>, Fault> {
    let mut hello = Hello {
        tls_required: sink.tls.is_some(),
        name: "bulkhead",
        lang: "rust",
        version: env!("CARGO_PKG_VERSION"),
        protocol: 1,
        headers: true,
        no_responders: true,
        ..Hello::default()
    };
    match sink.login.clone() {
        NatsLogin::Nobody => {}
        NatsLogin::Password { user, password } => {
            hello.user = Some(user);
            hello.pass = Some(blocking(move || password.read()).await??);
        }
        NatsLogin::Token(token) => {
            hello.auth_token = Some(blocking(move || token.read()).await??);
        }
        NatsLogin::Credentials(creds) => {
            let text = blocking(move || creds.read()).await??;
            let credentials = Credentials::parse(&text)?;
            hello.sig = Some(credentials.sign(&info.nonce));
            hello.jwt = Some(credentials.jwt);
        }
    }
    Ok(hello)
}

/// Reads files without holding up others.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    spawn_blocking(read).await.map_err(|gone| Fault::Lost {
        cause: gone.to_string(),
    })
}

fn not_nats(cause: &str) -> Fault {
    Fault::NotNats {
        cause: cause.to_owned(),
    }
}

/// Distinguishes clients of one server; keeps nobody out, which is what the server's permissions are for.
fn random_name() -> String {
    std::iter::repeat_with(fastrand::alphanumeric)
        .take(22)
        .collect()
}
