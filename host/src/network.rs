//! This machine's network, as far as links care: which addresses it has on interfaces that are up, and when that changes.
//!
//! The kernel tells of each change (`RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR`, rtnetlink(7)). What it says is only
//! taken as a word that something is new; then all of it is asked for again. So nothing follows from a message that was lost.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags};
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::{Handle, MulticastGroup};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What comes within this time is one change: an interface that goes takes its addresses with it one by one.
const TOGETHER: Duration = Duration::from_millis(50);
/// How long until the kernel is asked again, where it cannot be listened to.
const AGAIN: Duration = Duration::from_secs(60);

/// The addresses of the machine that this process runs on, as they were seen last; empty before the first look.
static OWN: RwLock<BTreeSet<IpAddr>> = RwLock::new(BTreeSet::new());

/// The addresses of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Addresses {
    /// Those of interfaces that are up.
    present: BTreeSet<IpAddr>,
    /// Of these, those that packets can leave from: the interface has a carrier, and the address is settled. A short loss of the
    /// carrier ends no connection.
    working: BTreeSet<IpAddr>,
}

/// What is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Addresses that this machine has no more, or whose interface was taken down.
    pub gone: BTreeSet<IpAddr>,
    /// Addresses that packets can leave from since now. Without those of one link only (`fe80::`), which come with each
    /// interface, whatever it leads to.
    pub new: BTreeSet<IpAddr>,
}

impl Change {
    /// From what there was and what there is. `None` where nothing has gone or come.
    fn between(before: &Addresses, now: &Addresses) -> Option<Self> {
        let is_of_one_link =
            |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let new = now.working.difference(&before.working);
        let change = Self {
            gone: before.present.difference(&now.present).copied().collect(),
            new: new
                .filter(|address| !is_of_one_link(address))
                .copied()
                .collect(),
        };
        (!change.gone.is_empty() || !change.new.is_empty()).then_some(change)
    }
}

/// Whether an address is one of this machine, as far as anybody has looked.
pub fn is_own(address: IpAddr) -> bool {
    OWN.read()
        .unwrap_or_else(PoisonError::into_inner)
        .contains(&address)
}

/// Looks which addresses this machine has, for [`is_own`]. Where the kernel does not say, none is known.
pub async fn look() {
    if let Ok((connection, handle, _)) = rtnetlink::new_connection() {
        let mut socket = JoinSet::new();
        socket.spawn(connection);
        if let Ok(found) = addresses(&handle).await {
            note(&found);
        }
    }
}

fn note(found: &Addresses) {
    OWN.write()
        .unwrap_or_else(PoisonError::into_inner)
        .clone_from(&found.present);
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
    known: &mut Option<Addresses>,
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
        note(&now);
        *known = Some(now);
        messages.next().await.ok_or(WatchError::Closed)?;
        sleep(TOGETHER).await;
        while let Some(Some(_)) = messages.next().now_or_never() {}
    }
}

/// The addresses of this machine.
async fn addresses(handle: &Handle) -> Result<Addresses, rtnetlink::Error> {
    let (mut up, mut carried) = (BTreeSet::new(), BTreeSet::new());
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await? {
        let (index, flags) = (link.header.index, link.header.flags);
        if flags.contains(LinkFlags::Up) {
            up.insert(index);
            if flags.contains(LinkFlags::LowerUp) {
                carried.insert(index);
            }
        }
    }
    let mut found = Addresses::default();
    let mut addresses = handle.address().get().execute();
    while let Some(address) = addresses.try_next().await? {
        let index = address.header.index;
        if !up.contains(&index) {
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
        let Some(own) = local.or_else(|| attributes.find_map(only)) else {
            continue;
        };
        found.present.insert(own);
        // While nobody knows yet whether somebody else has it, nothing leaves from it (RFC 4862, 5.4).
        let tentative = AddressHeaderFlags::Tentative;
        if carried.contains(&index) && !address.header.flags.contains(tentative) {
            found.working.insert(own);
        }
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
        let all = ["127.0.0.1", "10.0.0.1", "fd00::1"];
        let before = Addresses {
            present: set(&all),
            working: set(&all),
        };
        let change = |present: &[&str], working: &[&str]| {
            let now = Addresses {
                present: set(present),
                working: set(working),
            };
            Change::between(&before, &now)
        };
        assert_eq!(change(&all, &all), None);
        let other = ["127.0.0.1", "10.0.0.2", "fd00::1"];
        let expected = Change {
            gone: set(&["10.0.0.1"]),
            new: set(&["10.0.0.2"]),
        };
        assert_eq!(change(&other, &other), Some(expected));
        // Neither the loss of a carrier nor an interface of somebody else's.
        assert_eq!(change(&all, &["127.0.0.1"]), None);
        let more = ["127.0.0.1", "10.0.0.1", "fd00::1", "fe80::1"];
        assert_eq!(change(&more, &more), None);
    }

    #[tokio::test]
    async fn this_machine_has_the_address_of_itself() {
        let (connection, handle, _messages) = rtnetlink::new_connection().unwrap();
        let mut socket = JoinSet::new();
        socket.spawn(connection);
        let found = addresses(&handle).await.unwrap();
        let own = set(&["127.0.0.1"]);
        assert!(found.working.is_superset(&own), "{found:?}");
        look().await;
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(!is_own("192.0.2.1".parse().unwrap()));
    }
}
