//! The one place that decides where a channel may connect to.
//!
//! A transport dials with a permit, and only this file can make one: the operator's file is asked first, then the name
//! is resolved, and the permit carries the addresses that came out. A transport never sees a name, so what was checked
//! is what is dialled. Every dial needs a fresh permit; a name that leads elsewhere by then is checked again: whoever
//! rules the name service may move a device, but not lead the host to itself or to what only its own machine reaches.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::time::Instant;

use super::error::DialError;
use super::resolve::resolve;
use super::tls::name_for;
use crate::config::{Connect, DialRange, Link, Listen, Network, SerialLine, Tls, Transport};
use crate::ids::ChannelId;
use crate::network;

/// Leave to dial once. One variant per transport.
#[derive(Debug)]
pub(super) enum Permit {
    /// For `tcp.rs`.
    Tcp(TcpPermit),
    /// For `tls.rs`.
    Tls(TlsPermit),
    /// For `udp.rs`.
    Udp(UdpPermit),
    /// For `unix.rs`.
    Unix(UnixPermit),
    /// For `serial.rs`.
    Serial(SerialPermit),
    /// For `listen.rs`.
    Listen(ListenPermit),
}

/// Leave to connect to one of these addresses.
#[derive(Debug)]
pub(super) struct TcpPermit {
    addresses: Vec<SocketAddr>,
}

impl TcpPermit {
    /// At least one, in the order in which they are to be tried.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// Leave to connect to one of these addresses, and to go on only with who is called so.
#[derive(Debug)]
pub(super) struct TlsPermit {
    tcp: TcpPermit,
    tls: Tls,
    name: String,
}

impl TlsPermit {
    pub(super) fn into_parts(self) -> (TcpPermit, Tls, String) {
        (self.tcp, self.tls, self.name)
    }
}

/// Leave to connect to this socket.
#[derive(Debug)]
pub(super) struct UnixPermit {
    path: PathBuf,
}

impl UnixPermit {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Leave to open this line.
#[derive(Debug)]
pub(super) struct SerialPermit {
    line: SerialLine,
}

impl SerialPermit {
    pub(super) fn into_line(self) -> SerialLine {
        self.line
    }
}

/// Leave to listen, and to let some in.
#[derive(Debug)]
pub(super) struct ListenPermit {
    listen: Listen,
}

impl ListenPermit {
    pub(super) fn at(&self) -> SocketAddr {
        self.listen.at
    }

    /// Whether this peer may call in.
    pub(super) fn lets_in(&self, peer: IpAddr) -> bool {
        let from = &self.listen.from;
        from.is_empty() || from.iter().any(|network| network.contains(peer))
    }
}

/// Peers that a driver may answer because they have spoken to it, on one socket; the oldest are forgotten.
const MAX_HEARD: usize = 1_024;

/// Leave to have a socket for datagrams, and to exchange them with some.
#[derive(Debug)]
pub(super) struct UdpPermit {
    at: SocketAddr,
    /// Nobody but this one, for writing and hearing.
    only: Option<SocketAddr>,
    /// Where a datagram without a name goes.
    default: Option<SocketAddr>,
    ranges: Vec<DialRange>,
    /// Who may speak unasked, where it listens; anybody, where it is empty.
    from: Option<Vec<Network>>,
    /// All that the link's own name leads to, where it has one.
    named: Vec<SocketAddr>,
}

impl UdpPermit {
    /// Whether the link's own name leads to the same device still, as far as this later permit for the same link can tell.
    pub(super) fn still_leads(&self, later: &Self) -> bool {
        let own = self.named.first();
        own.is_none_or(|own| later.named.contains(own))
    }

    /// What the socket is bound to.
    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }

    /// What the socket is connected to, so that the kernel hands over nothing of anybody else.
    pub(super) fn only_peer(&self) -> Option<SocketAddr> {
        self.only
    }

    /// Whether the driver may hear this peer.
    pub(super) fn hears(&self, peer: SocketAddr) -> bool {
        let same = |own: SocketAddr| {
            own.ip().to_canonical() == peer.ip().to_canonical() && own.port() == peer.port()
        };
        let unasked = |from: &Vec<Network>| {
            from.is_empty() || from.iter().any(|network| network.contains(peer.ip()))
        };
        self.only.or(self.default).is_some_and(same)
            || self.ranges.iter().any(|range| range.contains(peer))
            || self.from.as_ref().is_some_and(unasked)
    }

    /// Whom the driver may write to, over a socket of this family.
    pub(super) fn recipients(&self, ipv6: bool) -> Recipients {
        Recipients {
            only: self.only,
            default: self.default,
            ranges: self.ranges.clone(),
            heard: self.from.is_some().then(VecDeque::new),
            ipv6,
        }
    }
}

/// Whom a driver may write datagrams to, on one socket.
#[derive(Debug)]
pub(super) struct Recipients {
    only: Option<SocketAddr>,
    default: Option<SocketAddr>,
    ranges: Vec<DialRange>,
    /// Those who spoke, where the socket listens.
    heard: Option<VecDeque<SocketAddr>>,
    ipv6: bool,
}

/// Leave to send one datagram.
#[derive(Debug)]
pub(super) struct Recipient(Option<SocketAddr>);

impl Recipient {
    /// Where to; `None` for the one that the socket is connected to.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.0
    }
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("the link's own address"),
        }
    }
}

impl Recipients {
    /// Somebody spoke, and may be answered.
    pub(super) fn heard(&mut self, peer: SocketAddr) {
        if let Some(heard) = &mut self.heard
            && !heard.contains(&peer)
        {
            heard.truncate(MAX_HEARD - 1);
            heard.push_front(peer);
        }
    }

    /// Checks that the driver may write to this peer, the link's own address where there is none. Untrusted.
    pub(super) fn check(&self, peer: Option<&str>) -> Result<Recipient, NotSent> {
        let Some(peer) = peer else {
            return match (self.only, self.default) {
                (Some(_), _) => Ok(Recipient(None)),
                (None, Some(address)) => Ok(Recipient(Some(address))),
                (None, None) => Err(NotSent::Nobody),
            };
        };
        let denied = || NotSent::NotGranted { peer: named(peer) };
        let address: SocketAddr = peer.parse().map_err(|_| denied())?;
        let same = |other: &SocketAddr| {
            other.ip().to_canonical() == address.ip().to_canonical()
                && other.port() == address.port()
        };
        if self.only.as_ref().is_some_and(same) {
            return Ok(Recipient(None));
        }
        let granted = self.default.as_ref().is_some_and(same)
            || self.ranges.iter().any(|range| range.contains(address))
            || self
                .heard
                .as_ref()
                .is_some_and(|heard| heard.iter().any(same));
        if !granted {
            return Err(denied());
        }
        let ip = match (address.ip().to_canonical(), self.ipv6) {
            (IpAddr::V4(ip), true) => ip.to_ipv6_mapped().into(),
            (ip, _) => ip,
        };
        Ok(Recipient(Some(SocketAddr::new(ip, address.port()))))
    }
}

/// Why a datagram is not sent; the driver is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The peer is none of those that the operator granted.
    #[error(
        "{peer} is none of those that this link may send to; name it as an address with a port, and let the operator add it to `dial`"
    )]
    NotGranted {
        /// Whom the driver named.
        peer: String,
    },
    /// There is no peer, and none that goes without saying.
    #[error("this link has no address of its own; name the receiver of each datagram")]
    Nobody,
    /// There is a peer, on a stream.
    #[error("a stream has one other end; send without a peer")]
    NoDatagrams,
    /// Longer than a datagram can be.
    #[error("a datagram has at most 65507 bytes; send less at once")]
    TooLong,
    /// Too many wait.
    #[error("too many datagrams wait to be sent; send less often")]
    TooMany,
}

/// A text of a driver as people may be shown it.
fn named(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// Checks that the channel may dial `target` over this link, the link's own address where there is none, and resolves
/// it. Nothing is sent, not even a question to a name server, unless the check passed.
pub(super) async fn permit(
    channel: &ChannelId,
    link: &Link,
    target: Option<&str>,
    deadline: Instant,
) -> Result<Permit, DialError> {
    let denied = |target: &str| DialError::NotGranted {
        channel: channel.clone(),
        target: named(target),
    };
    let (transport, host, port) = match (&link.connect, target) {
        (connect, Some(target)) if !is_granted(link, target) => {
            let (Some(transport), Some(address)) = (ip_transport(connect), in_ranges(link, target))
            else {
                return Err(denied(target));
            };
            (transport, address.ip().to_string(), address.port())
        }
        (Connect::Tcp { host, port }, _) => (Transport::Tcp, host.clone(), *port),
        (Connect::Tls { host, port }, _) => (Transport::Tls, host.clone(), *port),
        (Connect::Udp { host, port }, _) => (Transport::Udp, host.clone(), *port),
        (Connect::Within(Transport::Udp), None) => return Ok(Permit::Udp(udp_within(link, None))),
        (Connect::Within(_), _) => {
            return Err(DialError::NoTarget {
                channel: channel.clone(),
                link: link.name.clone(),
            });
        }
        (Connect::Unix(path), _) => return Ok(Permit::Unix(UnixPermit { path: path.clone() })),
        (Connect::Serial(line), _) => {
            return Ok(Permit::Serial(SerialPermit { line: line.clone() }));
        }
        (Connect::Listen(listen), _) if listen.transport == Transport::Udp => {
            return Ok(Permit::Udp(UdpPermit {
                at: listen.at,
                only: None,
                default: None,
                ranges: link.dial.clone(),
                from: Some(listen.from.clone()),
                named: Vec::new(),
            }));
        }
        (Connect::Listen(listen), _) => {
            return Ok(Permit::Listen(ListenPermit {
                listen: listen.clone(),
            }));
        }
    };
    let tcp = addresses(&host, port, deadline).await?;
    Ok(match transport {
        Transport::Tcp => Permit::Tcp(tcp),
        Transport::Tls => {
            let tls = link.tls.clone().unwrap_or_default();
            Permit::Tls(TlsPermit {
                name: name_for(&tls, &host),
                tls,
                tcp,
            })
        }
        Transport::Udp => {
            let own = tcp.addresses().first().copied();
            let named = tcp.addresses;
            // With ranges, and no target, the driver writes to whom it likes within them.
            Permit::Udp(if target.is_none() && !link.dial.is_empty() {
                UdpPermit {
                    named,
                    ..udp_within(link, own)
                }
            } else {
                UdpPermit {
                    at: unspecified(own.is_some_and(|own| own.is_ipv6())),
                    only: own,
                    default: None,
                    ranges: Vec::new(),
                    from: None,
                    named,
                }
            })
        }
    })
}

/// Checks that TLS may begin on a stream over this link: what it is checked by, and the name that the peer must have.
pub(super) fn start_tls(link: &Link, target: Option<&str>) -> Result<(Tls, String), DialError> {
    let Some(tls) = link.tls.clone() else {
        return Err(DialError::NoStartTls {
            link: link.name.clone(),
        });
    };
    let host = match (
        &link.connect,
        target.and_then(|target| in_ranges(link, target)),
    ) {
        (_, Some(address)) => address.ip().to_string(),
        (Connect::Tcp { host, .. }, None) => host.clone(),
        _ => String::new(),
    };
    let name = name_for(&tls, &host);
    Ok((tls, name))
}

/// A socket for all of a link's ranges.
fn udp_within(link: &Link, default: Option<SocketAddr>) -> UdpPermit {
    // IPv6 speaks to IPv4 as well.
    let ipv6 = link.dial.iter().any(DialRange::is_ipv6) || default.is_some_and(|at| at.is_ipv6());
    UdpPermit {
        at: unspecified(ipv6),
        only: None,
        default: default.map(|at| match (at.ip(), ipv6) {
            (IpAddr::V4(ip), true) => SocketAddr::new(ip.to_ipv6_mapped().into(), at.port()),
            (ip, _) => SocketAddr::new(ip, at.port()),
        }),
        ranges: link.dial.clone(),
        from: None,
        named: Vec::new(),
    }
}

fn unspecified(ipv6: bool) -> SocketAddr {
    if ipv6 {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    }
}

/// What a target within the dial ranges is spoken to with.
fn ip_transport(connect: &Connect) -> Option<Transport> {
    match connect {
        Connect::Tcp { .. } => Some(Transport::Tcp),
        Connect::Tls { .. } => Some(Transport::Tls),
        Connect::Udp { .. } => Some(Transport::Udp),
        Connect::Within(transport) => Some(*transport),
        Connect::Unix(_) | Connect::Serial(_) | Connect::Listen(_) => None,
    }
}

/// The address that a driver names, if it is within the link's dial ranges. Names are not: who rules the name service
/// would choose among them.
fn in_ranges(link: &Link, target: &str) -> Option<SocketAddr> {
    let address: SocketAddr = target.parse().ok()?;
    let granted = link.dial.iter().any(|range| range.contains(address));
    granted.then(|| SocketAddr::new(address.ip().to_canonical(), address.port()))
}
async fn addresses(host: &str, port: u16, deadline: Instant) -> Result<TcpPermit, DialError> {
    let found = resolve(host, port, deadline).await?;
    let addresses = not_astray(host, found)?;
    Ok(TcpPermit { addresses })
}

/// Those of the addresses to which a name may lead. An address that the operator wrote is itself.
fn not_astray(host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, DialError> {
    if host.parse::<IpAddr>().is_ok() {
        return Ok(found);
    }
    let (good, astray): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|address| may_lead_to(host, address.ip().to_canonical()));
    match astray.first() {
        Some(address) if good.is_empty() => Err(DialError::LedAstray {
            host: host.to_owned(),
            address: address.ip(),
        }),
        _ => Ok(good),
    }
}

/// Whether a name is leave enough for this address. This machine's own are not, but by name of `localhost`. Loopback is for `localhost` (RFC 6761, 6.3) and link-local for
/// `.local` (RFC 6762, 3); no device has an address that is nobody's or everybody's.
fn may_lead_to(host: &str, address: IpAddr) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address.is_loopback() {
        name == "localhost" || name.ends_with(".localhost")
    } else if is_link_local {
        name.ends_with(".local")
    } else {
        !address.is_unspecified()
            && !address.is_multicast()
            && !is_broadcast
            && !network::is_own(address)
    }
}

/// Whether `target` is the link's own address.
fn is_granted(link: &Link, target: &str) -> bool {
    match &link.connect {
        Connect::Tcp { host, port } | Connect::Tls { host, port } | Connect::Udp { host, port } => {
            target.rsplit_once(':').is_some_and(|(name, number)| {
                let bare = name
                    .strip_prefix('[')
                    .and_then(|rest| rest.strip_suffix(']'));
                let same_port =
                    number.bytes().all(|b| b.is_ascii_digit()) && number.parse() == Ok(*port);
                same_port && bare.unwrap_or(name).eq_ignore_ascii_case(host)
            })
        }
        Connect::Unix(path) => Path::new(target) == path,
        Connect::Serial(line) => Path::new(target) == line.path,
        Connect::Listen(_) | Connect::Within(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::link_to;
    use super::*;

    #[test]
    fn only_the_address_in_the_operators_file_may_be_dialled() {
        let link = link_to("10.0.0.9", 502);
        assert!(is_granted(&link, "10.0.0.9:502"));
        for other in [
            "10.0.0.9:503",
            "10.0.0.90:502",
            "110.0.0.9:502",
            "10.0.0.9",
            ":502",
            "",
            "10.0.0.9:",
            "10.0.0.9:+502",
            "10.0.0.9:66038",
            "10.0.0.9:502:502",
            " 10.0.0.9:502",
            "10.0.0.9:502\0",
            "tcp://10.0.0.9:502",
            "user@10.0.0.9:502",
        ] {
            assert!(!is_granted(&link, other), "{other:?}");
        }
        assert!(is_granted(&link_to("plc.example", 502), "PLC.example:502"));
        assert!(is_granted(&link_to("fe80::1", 502), "[fe80::1]:502"));
        assert!(!is_granted(&link_to("fe80::1", 502), "[fe80::2]:502"));
    }

    #[test]
    fn a_granted_name_that_leads_elsewhere_later_is_checked_again() {
        let look_up = |host: &str, found: &[&str]| {
            let found = found.iter().map(|address| {
                let address: IpAddr = address.parse().unwrap();
                SocketAddr::new(address, 502)
            });
            let permitted = not_astray(host, found.collect());
            permitted.map(|all| {
                let all = all.iter().map(|address| address.ip().to_string());
                all.collect::<Vec<_>>()
            })
        };
        let own = ["10.0.0.9", "2001:db8::9"];
        assert_eq!(look_up("plc.example", &own).unwrap(), own);
        assert_eq!(
            look_up("plc.example", &["10.0.0.77"]).unwrap(),
            ["10.0.0.77"],
            "it moved"
        );
        for astray in [
            "127.0.0.1",
            "127.1.2.3",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
        ] {
            let error = look_up("plc.example", &[astray]).unwrap_err();
            assert_eq!(error.reason(), super::super::mail::CloseReason::Unreachable);
            let message = error.to_string();
            assert!(
                message.starts_with("the name plc.example leads to ") && message.contains("; "),
                "{message}"
            );
            assert_eq!(look_up("plc.example", &[astray, own[0]]).unwrap(), [own[0]]);
            assert_eq!(look_up(astray, &[astray]).unwrap(), [astray], "written so");
        }
        assert_eq!(
            look_up("LOCALHOST.", &["127.0.0.1"]).unwrap(),
            ["127.0.0.1"]
        );
        assert_eq!(
            look_up("plc.local", &["169.254.3.4"]).unwrap(),
            ["169.254.3.4"]
        );
        assert!(look_up("notlocalhost", &["127.0.0.1"]).is_err());
    }

    fn range(written: &str) -> DialRange {
        let toml = format!(
            "[[channel]]\nid = \"a\"\ndriver = \"a.wasm\"\nlinks.plc.dial = [\"{written}\"]\n"
        );
        let origin = crate::config::Origin {
            name: "test".to_owned(),
            folder: PathBuf::new(),
        };
        let host = crate::config::parse(&toml, &origin).unwrap();
        host.value.channels[0].links[0].dial[0].clone()
    }

    #[test]
    fn datagrams_go_to_whom_is_granted_and_come_from_there() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let permit = UdpPermit {
            at: at("0.0.0.0:0"),
            only: None,
            default: Some(at("10.0.0.9:47808")),
            ranges: vec![range("10.1.0.0/24:47808")],
            from: None,
            named: Vec::new(),
        };
        let recipients = permit.recipients(false);
        let to = |peer: Option<&str>| {
            let found = recipients.check(peer);
            found.map(|recipient| recipient.address().unwrap().to_string())
        };
        assert_eq!(to(None).unwrap(), "10.0.0.9:47808");
        for peer in ["10.0.0.9:47808", "10.1.0.255:47808"] {
            assert_eq!(to(Some(peer)).unwrap(), peer);
            assert!(permit.hears(at(peer)));
        }
        assert_eq!(
            to(Some("[::ffff:10.1.0.7]:47808")).unwrap(),
            "10.1.0.7:47808"
        );
        for peer in ["10.0.0.9:47809", "10.1.1.0:47808", "[fd00::1]:47808"] {
            assert!(matches!(to(Some(peer)), Err(NotSent::NotGranted { .. })));
            assert!(!permit.hears(at(peer)));
        }
        let over_ipv6 = permit.recipients(true).check(Some("10.1.0.7:47808"));
        assert_eq!(
            over_ipv6.unwrap().address().unwrap(),
            at("[::ffff:10.1.0.7]:47808")
        );
    }

    #[test]
    fn of_those_who_spoke_the_oldest_are_forgotten() {
        let permit = UdpPermit {
            at: "0.0.0.0:0".parse().unwrap(),
            only: None,
            default: None,
            ranges: Vec::new(),
            from: Some(Vec::new()),
            named: Vec::new(),
        };
        let mut recipients = permit.recipients(false);
        let peer = |number: usize| format!("10.0.{}.{}:9", number / 256, number % 256);
        for number in 0..=MAX_HEARD {
            recipients.heard(peer(number).parse().unwrap());
            recipients.heard(peer(number).parse().unwrap());
        }
        assert!(recipients.check(Some(&peer(0))).is_err());
        for number in 1..=MAX_HEARD {
            assert!(recipients.check(Some(&peer(number))).is_ok(), "{number}");
        }
        assert!(matches!(recipients.check(None), Err(NotSent::Nobody)));
    }

    #[tokio::test]
    async fn a_denial_names_the_channel_the_place_and_the_remedy() {
        let channel = ChannelId::new("press-3").unwrap();
        let deadline = Instant::now() + Duration::from_secs(1);
        let long = format!("10.0.0.9:503\n{}", "x".repeat(100_000));
        for (target, shown) in [
            ("10.0.0.9:503", "10.0.0.9:503"),
            (&long, "10.0.0.9:503\\nxxx"),
        ] {
            let link = link_to("10.0.0.9", 502);
            let message = permit(&channel, &link, Some(target), deadline)
                .await
                .unwrap_err()
                .to_string();
            assert!(
                message.starts_with(&format!("channel press-3 may not dial {shown}")),
                "{message}"
            );
            assert!(message.ends_with("; add it under its links"), "{message}");
            assert!(message.len() < 200);
        }
    }
}
