//! Names to addresses, by the operating system's resolver.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::error::DialError;

/// Addresses of one name that are tried; more are left out.
const MAX_ADDRESSES: usize = 8;

/// Names that are resolved at once, over the whole host. The system's resolver blocks a thread for as long as it
/// likes, whoever still waits for it: without a bound, links to names behind a dead name service would take every
/// blocking thread that the host has.
static RESOLVERS: Semaphore = Semaphore::const_new(16);

/// The addresses of a host, at least one. An address is its own; a name is looked up until the deadline.
pub(super) async fn resolve(
    host: &str,
    port: u16,
    deadline: Instant,
) -> Result<Vec<SocketAddr>, DialError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let began = Instant::now();
    let unresolved = |cause| DialError::Unresolved {
        host: host.to_owned(),
        cause,
    };
    match timeout_at(deadline, look_up(host, port)).await {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(unresolved(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ))),
        Ok(found) => found.map_err(unresolved),
        Err(_elapsed) => {
            let within = deadline.duration_since(began);
            Err(DialError::UnresolvedInTime {
                host: host.to_owned(),
                within,
            })
        }
    }
}

async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let turn = RESOLVERS.acquire().await.map_err(io::Error::other)?;
    let name = host.to_owned();
    // Not tracked, for it cannot be stopped; it holds nothing but the name and its turn.
    let found = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        (name.as_str(), port)
            .to_socket_addrs()
            .map(|found| found.collect::<Vec<_>>())
    });
    let mut addresses = found.await.map_err(io::Error::other)??;
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    Ok(addresses)
}
