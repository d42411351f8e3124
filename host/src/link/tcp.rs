//! `tcp://host:port`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::error::DialError;
use super::grant::TcpPermit;
use super::transport::Stream;
use super::unsent::TakesBack;
use crate::config::Heartbeat;

/// How often a peer that is silent is asked for a sign of life before it is lost.
const QUESTIONS: u32 = 3;

pub(super) async fn dial(
    permit: &TcpPermit,
    heartbeat: Heartbeat,
    deadline: Instant,
) -> Result<Stream, DialError> {
    let (stream, address) = connect_any(permit, heartbeat, deadline).await?;
    Ok(into_stream(stream, address))
}

/// A socket as a stream.
pub(super) fn into_stream(stream: TcpStream, peer: SocketAddr) -> Stream {
    let local = local(&stream);
    let (reader, writer) = stream.into_split();
    Stream {
        reader: Box::new(reader),
        writer: Box::new(TakesBack::new(writer)),
        peer: peer.to_string(),
        local,
        secured: false,
    }
}

/// The address of this machine that a socket goes through, as its interface has it.
pub(super) fn local(stream: &TcpStream) -> Option<IpAddr> {
    Some(stream.local_addr().ok()?.ip().to_canonical())
}

/// Tries the addresses one after the other, each for its even share of what is left until the deadline, so that a
/// first one that swallows packets does not hide a second one that answers.
pub(super) async fn connect_any(
    permit: &TcpPermit,
    heartbeat: Heartbeat,
    deadline: Instant,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let mut untried = u32::try_from(permit.addresses().len()).unwrap_or(u32::MAX);
    let mut failure = None;
    for &address in permit.addresses() {
        let within = deadline.saturating_duration_since(Instant::now()) / untried;
        untried -= 1;
        match timeout(within, connect(address, heartbeat)).await {
            Ok(Ok(stream)) => return Ok((stream, address)),
            Ok(Err(cause)) => failure = Some(DialError::Failed { address, cause }),
            Err(_elapsed) => failure = Some(DialError::TimedOut { address, within }),
        }
    }
    Err(failure.expect("a permit has at least one address"))
}

async fn connect(address: SocketAddr, heartbeat: Heartbeat) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // A dial to an unused port of this machine may be given that very port to call from, and then TCP connects it
    // with itself (RFC 9293, 3.5, simultaneous open).
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    set_up(&stream, heartbeat)?;
    Ok(stream)
}

/// Small frames leave at once, and a peer that vanished is noticed.
pub(super) fn set_up(stream: &TcpStream, heartbeat: Heartbeat) -> io::Result<()> {
    stream.set_nodelay(true)?;
    watch(stream, heartbeat)
}

/// Has TCP find a peer that vanished without a word. Keep-alive asks while nothing is on its way (RFC 9293, 3.8.4); the user
/// timeout bounds how long bytes on their way may stay unacknowledged (RFC 5482), and counts for the questions too.
fn watch(stream: &TcpStream, heartbeat: Heartbeat) -> io::Result<()> {
    let Heartbeat {
        interval,
        lost_after,
    } = heartbeat;
    let between = (lost_after.saturating_sub(interval) / QUESTIONS).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new()
        .with_time(interval)
        .with_interval(between)
        .with_retries(QUESTIONS);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(lost_after))
}
