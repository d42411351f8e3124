//! This machine's network, as far as links care: which addresses it has on interfaces that are up, and when that changes.
//!
//! The kernel tells of each change (`RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR`, rtnetlink(7)). What it says is only
//! taken as a word that something is new; then all of it is asked for again. So nothing follows from a message that was lost.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::{Handle, MulticastGroup};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What comes within this time is one change: an interface that goes takes its addresses with it one by one.
const TOGETHER: Duration = Duration::from_millis(50);
/// How long until the kernel is asked again, where it cannot be listened to.
const AGAIN: Duration = Duration::from_secs(60);

/// What is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Addresses that this machine has no more, or whose interface is down.
    pub gone: BTreeSet<IpAddr>,
    /// Addresses that it did not have before, or whose interface was down.
    pub new: BTreeSet<IpAddr>,
}

impl Change {
    /// From what there was and what there is. `None` where both are the same.
    fn between(before: &BTreeSet<IpAddr>, now: &BTreeSet<IpAddr>) -> Option<Self> {
        (before != now).then(|| Self {
            gone: before.difference(now).copied().collect(),
            new: now.difference(before).copied().collect(),
        })
    }
}

/// Why the network cannot be watched.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    /// No socket.
    #[error("no netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// The kernel does not answer.
    #[error("netlink: {0}")]
    Asked(#[from] rtnetlink::Error),
    /// The socket was closed.
    #[error("the netlink socket was closed")]
    Closed,
}

/// Watches for ever, and tells of each change.
pub async fn watch(mut changed: impl FnMut(&Change)) -> Infallible {
    let mut known = None;
    let mut told = false;
    loop {
        let Err(error) = observe(&mut known, &mut changed).await;
        // Once: some containers have no netlink at all. Heartbeats and redials notice everything, only later.
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(%error, "changes of this machine's network are not noticed at once; let the host use netlink sockets");
        }
        sleep(AGAIN).await;
    }
}

/// Watches until that fails.
async fn observe(
    known: &mut Option<BTreeSet<IpAddr>>,
    changed: &mut impl FnMut(&Change),
) -> Result<Infallible, WatchError> {
    let (connection, handle, mut messages) = rtnetlink::new_multicast_connection(&[
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
    ])?;
    // It ends with this function.
    let mut socket = JoinSet::new();
    socket.spawn(connection);
    loop {
        let now = addresses(&handle).await?;
        let change = known
            .as_ref()
            .and_then(|before| Change::between(before, &now));
        if let Some(change) = &change {
            tracing::info!(gone = ?change.gone, new = ?change.new, "this machine's network has changed");
            changed(change);
        }
        *known = Some(now);
        messages.next().await.ok_or(WatchError::Closed)?;
        sleep(TOGETHER).await;
        while let Some(Some(_)) = messages.next().now_or_never() {}
    }
}

/// The addresses of this machine that packets can leave from now.
async fn addresses(handle: &Handle) -> Result<BTreeSet<IpAddr>, rtnetlink::Error> {
    let works = LinkFlags::Up | LinkFlags::LowerUp;
    let mut up = BTreeSet::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await? {
        if link.header.flags.contains(works) {
            up.insert(link.header.index);
        }
    }
    let mut found = BTreeSet::new();
    let mut addresses = handle.address().get().execute();
    while let Some(address) = addresses.try_next().await? {
        if !up.contains(&address.header.index) {
            continue;
        }
        // Where both stand there, `Address` is the other end's.
        let own = |attribute: &AddressAttribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        };
        let only = |attribute: &AddressAttribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        };
        let mut attributes = address.attributes.iter();
        let local = attributes.clone().find_map(own);
        found.extend(local.or_else(|| attributes.find_map(only)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
        let read = addresses.iter().map(|address| address.parse());
        read.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_change_is_what_is_gone_and_what_is_new() {
        let before = set(&["127.0.0.1", "10.0.0.1", "fd00::1"]);
        assert_eq!(Change::between(&before, &before), None);
        let change = Change::between(&before, &set(&["127.0.0.1", "10.0.0.2", "fd00::1"]));
        let expected = Change {
            gone: set(&["10.0.0.1"]),
            new: set(&["10.0.0.2"]),
        };
        assert_eq!(change, Some(expected));
    }

    #[tokio::test]
    async fn this_machine_has_the_address_of_itself() {
        let (connection, handle, _messages) = rtnetlink::new_connection().unwrap();
        let mut socket = JoinSet::new();
        socket.spawn(connection);
        let found = addresses(&handle).await.unwrap();
        assert!(found.is_superset(&set(&["127.0.0.1"])), "{found:?}");
    }
}
