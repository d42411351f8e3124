//! What goes wrong with a NATS server, in words.

use std::io;
use std::time::Duration;

use super::credentials::BadCredentials;
use super::protocol::Garbled;
use crate::config::NoSecret;
use crate::link::TlsFault;

/// Why a server took nothing. Each says what to do, and may pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Secret(#[from] NoSecret),
    #[error(transparent)]
    Tls(#[from] TlsFault),
    #[error(transparent)]
    Credentials(#[from] BadCredentials),
    #[error("the NATS server at {at} cannot be reached: {cause}; start it, or correct `url`")]
    Unreachable { at: String, cause: io::Error },
    #[error(
        "the NATS server at {at} did not let us in within {within:?}; see to it and to the network"
    )]
    NoAnswer { at: String, within: Duration },
    #[error(
        "TLS with the NATS server at {at} failed: {cause}; check `ca`, `server_name`, and its certificate"
    )]
    Handshake { at: String, cause: String },
    #[error("the NATS server ended TLS ({cause}); check `cert` and `key`, which it may ask for")]
    Refuses { cause: String },
    #[error("the NATS server offers no TLS; let it, or begin the URL with nats://")]
    NoTls,
    #[error("the NATS server asks for TLS; begin the URL with tls://")]
    WantsTls,
    #[error(
        "what answers at `url` is no NATS server that a sink can use ({cause}); correct it, or take NATS 2.2 or later"
    )]
    NotNats { cause: String },
    #[error(
        "the connection to the NATS server is lost ({cause}); it is opened again, and nothing is lost"
    )]
    Lost { cause: String },
    #[error("the NATS server sent {0}; correct `url`, or see the server's log")]
    Garbled(#[from] Garbled),
    #[error("the NATS server says: {said}; {remedy}")]
    Refused { said: String, remedy: &'static str },
    #[error("no word from stream {stream} within {within:?}; see the server's log")]
    NoAck { stream: String, within: Duration },
    #[error(
        "JetStream is not there; switch it on (`jetstream` in the server's configuration, or `-js`), also for this account"
    )]
    NoJetStream,
    #[error("there is no stream {stream}; make it, or write `create = true`")]
    NoStream { stream: String },
    #[error(
        "stream {stream} does not take {subject}; add that to its subjects, or write another `subject` or `stream`"
    )]
    NotTaken { stream: String, subject: String },
    #[error("JetStream says: {said} (error {code}); {remedy}")]
    JetStream {
        code: u64,
        said: String,
        remedy: &'static str,
    },
    #[error("the NATS server took less than everything within {within:?}; the rest is sent again")]
    Slow { within: Duration },
}

impl Fault {
    /// An error line of the server.
    pub(super) fn of_line(said: &str) -> Self {
        let has = |part: &str| said.to_ascii_lowercase().contains(part);
        let remedy = if has("authorization") || has("authentication") {
            "correct `user` and `password`, `token` or `creds`, or let it in"
        } else if has("permissions violation for subscription") {
            "let the user subscribe to `_INBOX.>`"
        } else if has("permissions violation") {
            "let the user publish to the subjects of this sink and to `$JS.API.>`"
        } else if has("maximum connections") {
            "let the server have more connections, or end some"
        } else {
            "see the server's log"
        };
        Fault::Refused {
            said: crate::text::shown(said, 400),
            remedy,
        }
    }

    /// Whether the connection is as good as before.
    pub(super) fn leaves_the_connection(&self) -> bool {
        matches!(self, Fault::JetStream { .. })
    }
}
