//! `tcp://host:port`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::error::DialError;
use super::grant::TcpPermit;
use super::transport::Stream;

/// Silence after which TCP asks whether the peer is still there, the time between two such questions, and how many
/// may go unanswered: a peer that has vanished is noticed within 45 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

pub(super) async fn dial(permit: &TcpPermit, deadline: Instant) -> Result<Stream, DialError> {
    let (stream, address) = connect_any(permit, deadline).await?;
    Ok(into_stream(stream, address))
}

/// A socket as a stream.
pub(super) fn into_stream(stream: TcpStream, peer: SocketAddr) -> Stream {
    let (reader, writer) = stream.into_split();
    Stream {
        reader: Box::new(reader),
        writer: Box::new(writer),
        peer: peer.to_string(),
    }
}

/// Tries the addresses one after the other, each for its even share of what is left until the deadline, so that a
/// first one that swallows packets does not hide a second one that answers.
pub(super) async fn connect_any(
    permit: &TcpPermit,
    deadline: Instant,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let mut untried = u32::try_from(permit.addresses().len()).unwrap_or(u32::MAX);
    let mut failure = None;
    for &address in permit.addresses() {
        let within = deadline.saturating_duration_since(Instant::now()) / untried;
        untried -= 1;
        match timeout(within, connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, address)),
            Ok(Err(cause)) => failure = Some(DialError::Failed { address, cause }),
            Err(_elapsed) => failure = Some(DialError::TimedOut { address, within }),
        }
    }
    Err(failure.expect("a permit has at least one address"))
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // A dial to an unused port of this machine may be given that very port to call from, and then TCP connects it
    // with itself (RFC 9293, 3.5, simultaneous open).
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    set_up(&stream)?;
    Ok(stream)
}

/// Small frames leave at once, and a peer that vanished is noticed.
pub(super) fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
