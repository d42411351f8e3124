//! The one place that decides where a channel may connect to.
//!
//! A transport dials with a permit, and only this file can make one: the operator's file is asked first, then the name
//! is resolved, and the permit carries the addresses that came out. A transport never sees a name, so what was checked
//! is what is dialled. Every dial needs a fresh permit; a name that leads elsewhere by then is checked again: whoever
//! rules the name service may move a device, but not lead the host to itself or to what only its own machine reaches.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::time::Instant;

use super::error::DialError;
use super::resolve::resolve;
use super::tls::name_for;
use crate::config::{Connect, Link, Listen, SerialLine, Tls};
use crate::ids::ChannelId;

/// Leave to dial once. One variant per transport.
#[derive(Debug)]
pub(super) enum Permit {
    /// For `tcp.rs`.
    Tcp(TcpPermit),
    /// For `tls.rs`.
    Tls(TlsPermit),
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

/// Checks that the channel may dial `target` over this link, the link's own address where there is none, and resolves
/// it. Nothing is sent, not even a question to a name server, unless the check passed.
pub(super) async fn permit(
    channel: &ChannelId,
    link: &Link,
    target: Option<&str>,
    deadline: Instant,
) -> Result<Permit, DialError> {
    if let Some(target) = target
        && !is_granted(link, target)
    {
        let target = target
            .chars()
            .take(80)
            .flat_map(char::escape_debug)
            .collect();
        return Err(DialError::NotGranted {
            channel: channel.clone(),
            target,
        });
    }
    match &link.connect {
        Connect::Tcp { host, port } => Ok(Permit::Tcp(addresses(host, *port, deadline).await?)),
        Connect::Tls { host, port } => {
            let tls = link.tls.clone().unwrap_or_default();
            Ok(Permit::Tls(TlsPermit {
                name: name_for(&tls, host),
                tls,
                tcp: addresses(host, *port, deadline).await?,
            }))
        }
        Connect::Unix(path) => Ok(Permit::Unix(UnixPermit { path: path.clone() })),
        Connect::Serial(line) => Ok(Permit::Serial(SerialPermit { line: line.clone() })),
        Connect::Listen(listen) => Ok(Permit::Listen(ListenPermit {
            listen: listen.clone(),
        })),
    }
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

/// Whether a name is leave enough for this address. Loopback is for `localhost` (RFC 6761, 6.3) and link-local for
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
        !address.is_unspecified() && !address.is_multicast() && !is_broadcast
    }
}

/// Whether `target` is the link's own address. Dial ranges will stand here.
fn is_granted(link: &Link, target: &str) -> bool {
    match &link.connect {
        Connect::Tcp { host, port } | Connect::Tls { host, port } => {
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
        Connect::Listen(_) => false,
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
