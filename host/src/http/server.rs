//! Connections: how many, how slow, how they end.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Api;
use super::patience::Patience;

/// Connections at once. More are told so and closed.
const MAX_CONNECTIONS: usize = 256;
/// How long the head of a request may take, and how long a connection may rest between two.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long a peer may take nothing of what is sent to it.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// The largest head of a request, and what is buffered for one connection, in bytes.
const MAX_BUFFER: usize = 64 * 1024;
/// Header lines of one request.
const MAX_HEADERS: usize = 64;
/// How long requests under way may take when the server ends: longer than channels have to stop, since those that wait for
/// a device are answered when its channel ends. A write must not end without a word.
const LAST_WORDS: Duration = Duration::from_secs(9);
/// After a failure to accept (such as too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\
{\"error\":{\"code\":\"too-many-connections\",\"message\":\"256 connections are open already\",\
\"remedy\":\"close some, or try again later\"}}";

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else does.
    #[error(
        "{address} is taken by another program (perhaps another host); stop that one, or choose another `listen` under \
         [http]"
    )]
    Taken {
        /// The address.
        address: SocketAddr,
    },
    /// The system says no.
    #[error("cannot listen on {address}: {source}; choose another `listen` under [http]")]
    System {
        /// The address.
        address: SocketAddr,
        /// What it says.
        source: io::Error,
    },
}

/// A socket that listens; nobody is served yet.
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Takes the address. Port 0 takes any free one.
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let fault = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::Taken { address },
            _ => ListenError::System { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then lets requests under way come to their end, for a while.
    pub async fn serve(self, api: Api, stop: CancellationToken) {
        let router = api.router(self.address.port());
        serve(self.listener, router, stop).await;
    }
}

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    // Dropping the set ends what is left in it.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) if connections.len() >= MAX_CONNECTIONS => refuse(&stream),
            Ok((stream, _)) => {
                connections.spawn(connection(stream, router.clone(), stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_WORDS, ended).await.is_err() {
        tracing::debug!("connections were cut off as the server ended");
    }
}

fn refuse(stream: &TcpStream) {
    // It fits the empty send buffer of a new connection; if not, the peer is refused without a word.
    if let Err(error) = stream.try_write(FULL) {
        tracing::debug!(%error, "a connection was refused without a word");
    }
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay is not available");
    }
    let stream = TokioIo::new(Patience::new(stream, WRITE_TIME));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_BUFFER)
        .max_headers(MAX_HEADERS)
        .keep_alive(true);
    let connection = builder.serve_connection(stream, TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended in disorder");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn started() -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "fine" }));
        let mut set = JoinSet::new();
        let _abort = set.spawn(serve(listener, router, stop.clone()));
        let task = tokio::task::spawn_blocking({
            let runtime = tokio::runtime::Handle::current();
            move || runtime.block_on(async { while set.join_next().await.is_some() {} })
        });
        (address, stop, task)
    }

    async fn ask(stream: &mut TcpStream) -> String {
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        let mut answer = vec![0; 1024];
        let some = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..some]).into_owned()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn connections_over_the_bound_are_told_so_and_the_others_are_served() {
        let (address, stop, task) = started().await;
        let mut open = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            assert!(ask(&mut stream).await.starts_with("HTTP/1.1 200"));
            open.push(stream);
        }
        let mut refused = String::new();
        TcpStream::connect(address)
            .await
            .unwrap()
            .read_to_string(&mut refused)
            .await
            .unwrap();
        assert!(
            refused.starts_with("HTTP/1.1 503") && refused.contains("too-many-connections"),
            "{refused}"
        );
        assert!(ask(&mut open[0]).await.starts_with("HTTP/1.1 200"));
        stop.cancel();
        task.await.unwrap();
        assert_eq!(
            open[0].read(&mut [0; 1]).await.unwrap(),
            0,
            "the end closes what is open"
        );
    }

    #[tokio::test]
    async fn a_taken_address_is_named_with_its_remedy() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let error = Listener::bind(first.address())
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains(&first.address().to_string()) && error.contains("[http]"),
            "{error}"
        );
    }
}
