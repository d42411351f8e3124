//! Where a link leads: its address, and the keys that only one transport has.
//!
//! What is read here is the whole of the grant. Nothing is opened and no name is looked up: `link::grant` asks this,
//! and only this, before anything is dialled.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::dial::DialRange;
use super::fault::quoted;
use super::network::Network;
use super::section::Section;

pub(super) const EXAMPLE: &str = "tcp://10.0.0.9:502";
/// The most networks in `from`, and ranges in `dial`.
const MAX_NETWORKS: usize = 64;

/// Where a link leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connect {
    /// `tcp://host:port`; the host is a name or an address (IPv6 in brackets).
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// `tls://host:port`: TLS from the first byte on.
    Tls {
        /// A name or an address, without brackets.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// `udp://host:port`: datagrams.
    Udp {
        /// A name or an address, without brackets.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// Nowhere but within the link's dial ranges.
    Within(Transport),
    /// `unix:///path`: a stream socket of this machine.
    Unix(PathBuf),
    /// `serial:///dev/...`
    Serial(SerialLine),
    /// `listen = "tcp://address:port"`, or `udp`: devices call in.
    Listen(Listen),
}

/// What an IP address is spoken to with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Streams.
    Tcp,
    /// Streams under TLS.
    Tls,
    /// Datagrams.
    Udp,
}

impl Transport {
    /// As it stands before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Udp => "udp",
        }
    }
}

/// A serial line and how it is spoken on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialLine {
    /// The device file.
    pub path: PathBuf,
    /// Bits per second. Default 9600; 50 to 4,000,000.
    pub speed: u32,
    /// Default none.
    pub parity: Parity,
    /// 5 to 8. Default 8.
    pub data_bits: u8,
    /// 1 or 2. Default 1.
    pub stop_bits: u8,
}

/// The parity bit of a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// There is none.
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

/// Where devices may call in, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// TCP or UDP.
    pub transport: Transport,
    /// An address of this machine. Port 0 takes any free one.
    pub at: SocketAddr,
    /// Who may call; anybody, where it is empty.
    pub from: Vec<Network>,
    /// So many may be connected at once, by TCP. Default 16; 1 to 64.
    pub max_connections: u16,
}

/// What a link's TLS is checked by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of the authorities that are believed; those of the system, where there is none.
    pub ca: Option<PathBuf>,
    /// Our own certificate, where the peer asks for one.
    pub identity: Option<Identity>,
    /// The name that the peer's certificate must have; the host of the address, where there is none.
    pub server_name: Option<String>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PEM file of the certificate, and of those between it and its authority.
    pub cert: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
}

impl Connect {
    /// The transport's name, as drivers wish for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Connect::Tcp { .. } => "tcp",
            Connect::Tls { .. } => "tls",
            Connect::Udp { .. } => "udp",
            Connect::Within(transport) | Connect::Listen(Listen { transport, .. }) => {
                transport.as_str()
            }
            Connect::Unix(_) => "unix",
            Connect::Serial(_) => "serial",
        }
    }

    /// The key of the configuration that it is written with.
    pub fn key(&self) -> &'static str {
        match self {
            Connect::Within(_) => "dial",
            Connect::Listen(_) => "listen",
            _ => "connect",
        }
    }

    /// Whether devices call in, rather than being called.
    pub fn listens(&self) -> bool {
        matches!(self, Connect::Listen(_))
    }

    /// Whether devices call in, each with a connection of its own.
    pub fn accepts(&self) -> bool {
        self.listens() && !self.is_datagrams()
    }

    /// Whether what passes are datagrams, rather than a stream.
    pub fn is_datagrams(&self) -> bool {
        self.kind() == "udp"
    }
}

impl std::fmt::Display for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.kind();
        match self {
            Connect::Tcp { host, port }
            | Connect::Tls { host, port }
            | Connect::Udp { host, port } => {
                if host.contains(':') {
                    write!(f, "{kind}://[{host}]:{port}")
                } else {
                    write!(f, "{kind}://{host}:{port}")
                }
            }
            Connect::Unix(path) | Connect::Serial(SerialLine { path, .. }) => {
                write!(f, "{kind}://{}", path.display())
            }
            Connect::Listen(Listen { at, .. }) => write!(f, "listen {kind}://{at}"),
            Connect::Within(_) => write!(f, "{kind} within its dial ranges"),
        }
    }
}

/// Reads where a link leads, where else its driver may dial, and what its TLS is checked by if it may have any.
pub(super) fn address(
    section: &Section<'_>,
    folder: &Path,
) -> (Connect, Vec<DialRange>, Option<Tls>) {
    let (ranges_by, dial) = dial_ranges(section);
    let connect = match (section.has("connect"), section.has("listen")) {
        (true, true) => {
            section.fault_at(
                "listen",
                "a link dials or listens, not both; make two links of it",
            );
            void()
        }
        (false, true) => listen(section),
        (false, false) if section.has("dial") => {
            Connect::Within(ranges_by.unwrap_or(Transport::Tcp))
        }
        (_, false) => connect(section),
    };
    let is_void = connect == void();
    if let Some(by) = ranges_by
        && by.as_str() != connect.kind()
        && !is_void
    {
        section.fault_at(
            "dial",
            format!(
                "`dial` is by {} and the link by {}; make two links of it",
                by.as_str(),
                connect.kind()
            ),
        );
    }
    if section.has("dial")
        && (connect.accepts() || matches!(connect, Connect::Unix(_) | Connect::Serial(_)))
    {
        section.fault_at(
            "dial",
            "`dial` is for links by tcp, tls or udp that do not let devices in; remove it",
        );
    }
    let start_tls = section.boolean("start_tls", false);
    let is_tls = connect.kind() == "tls";
    if start_tls && (connect.kind() != "tcp" || connect.listens()) {
        section.fault_at(
            "start_tls",
            "`start_tls` lets the driver begin TLS on a tcp:// link that it has opened; remove it here",
        );
    }
    let of_tls = ["ca", "cert", "key", "server_name"];
    let of_serial = ["speed", "parity", "data_bits", "stop_bits"];
    let of_listen = ["from", "max_connections"];
    if !is_tls && !start_tls && !is_void {
        misplaced(
            section,
            &of_tls,
            "TLS; write tls:// if this link is to have it, or `start_tls = true` if the driver begins it",
        );
    }
    if !matches!(connect, Connect::Serial(_)) && !is_void {
        misplaced(section, &of_serial, "serial lines; remove it");
    }
    if !connect.listens() && !is_void {
        misplaced(section, &of_listen, "links that listen; remove it");
    }
    let tls = (is_tls || start_tls).then(|| tls(section, folder));
    (connect, dial, tls)
}

/// What `dial` grants, and by which transport, if it says so.
fn dial_ranges(section: &Section<'_>) -> (Option<Transport>, Vec<DialRange>) {
    let (mut by, mut ranges) = (None, Vec::new());
    for (written, span) in section.strings("dial", "10.0.0.0/24:502") {
        if ranges.len() == MAX_NETWORKS {
            section.fault_in(
                span,
                format!("more than {MAX_NETWORKS} ranges in `dial`; join some of them"),
            );
            break;
        }
        let (scheme, range) = match written.split_once("://") {
            Some((scheme, range)) => (Some(scheme), range),
            None => (None, written),
        };
        let transport = match scheme {
            None => None,
            Some("tcp") => Some(Transport::Tcp),
            Some("tls") => Some(Transport::Tls),
            Some("udp") => Some(Transport::Udp),
            Some(_) => {
                section.fault_in(span, format!("{} begins with no transport for ranges; use tcp://, tls:// or udp://, or none for that of `connect`", quoted(written)));
                continue;
            }
        };
        if by.is_some() && transport.is_some() && by != transport {
            section.fault_in(
                span,
                "the ranges of a link go by one transport; make two links of it",
            );
            continue;
        }
        by = by.or(transport);
        match DialRange::parse(range) {
            Ok(range) => ranges.push(range),
            Err(wrong) => section.fault_in(span, format!("{} {wrong}", quoted(written))),
        }
    }
    if section.is_empty_list("dial") {
        section.fault_at("dial", "`dial` grants nothing; name a range as in `dial = [\"10.0.0.0/24:502\"]`, or remove it");
    }
    (by, ranges)
}

/// Stands where nothing right was written; there is a fault then.
fn void() -> Connect {
    Connect::Tcp {
        host: String::new(),
        port: 1,
    }
}

fn misplaced(section: &Section<'_>, keys: &[&str], whose: &str) {
    for key in keys {
        if section.has(key) {
            section.fault_at(key, format!("`{key}` belongs to {whose}"));
        }
    }
}

fn connect(section: &Section<'_>) -> Connect {
    let Some(written) = section.required("connect", EXAMPLE) else {
        return void();
    };
    match parse_connect(written) {
        Ok(Connect::Serial(line)) => Connect::Serial(serial(section, line.path)),
        Ok(connect) => connect,
        Err(wrong) => {
            section.fault_at("connect", format!("{} {wrong}", quoted(written)));
            void()
        }
    }
}

fn serial(section: &Section<'_>, path: PathBuf) -> SerialLine {
    let parities = [
        ("none", Parity::None),
        ("even", Parity::Even),
        ("odd", Parity::Odd),
    ];
    // In range, so none of them is cut.
    let small =
        |key, default, range| u8::try_from(section.integer(key, default, range)).unwrap_or(1);
    SerialLine {
        path,
        speed: u32::try_from(section.integer("speed", 9_600, 50..=4_000_000)).unwrap_or(9_600),
        parity: section.choice("parity", Parity::None, &parities),
        data_bits: small("data_bits", 8, 5..=8),
        stop_bits: small("stop_bits", 1, 1..=2),
    }
}

fn listen(section: &Section<'_>) -> Connect {
    const LISTEN: &str = "tcp://0.0.0.0:5020";
    let Some(written) = section.string("listen", LISTEN) else {
        return void();
    };
    let (transport, place) = match written.split_once("://") {
        Some(("tcp", place)) => (Transport::Tcp, place),
        Some(("udp", place)) => (Transport::Udp, place),
        _ => (Transport::Tcp, ""),
    };
    if place.is_empty() {
        section.fault_at(
            "listen",
            format!("{} is nothing to listen on; write tcp:// or udp:// and an address of this machine, as in \"{LISTEN}\"", quoted(written)),
        );
        return void();
    }
    let Ok(at) = place.parse::<SocketAddr>() else {
        section.fault_at(
            "listen",
            format!("{} is no address with a port; write one of this machine's, or all of them as in \"{LISTEN}\"", quoted(written)),
        );
        return void();
    };
    let max = section.integer("max_connections", 16, 1..=64);
    Connect::Listen(Listen {
        transport,
        at,
        from: networks(section, "from"),
        max_connections: u16::try_from(max).unwrap_or(16),
    })
}

fn networks(section: &Section<'_>, key: &str) -> Vec<Network> {
    let mut networks = Vec::new();
    for (written, span) in section.strings(key, "10.0.0.0/24") {
        if networks.len() == MAX_NETWORKS {
            section.fault_in(
                span,
                format!("more than {MAX_NETWORKS} networks in `{key}`; join some of them"),
            );
            break;
        }
        match Network::parse(written) {
            Ok(network) => networks.push(network),
            Err(wrong) => section.fault_in(span, format!("{} {wrong}", quoted(written))),
        }
    }
    if section.is_empty_list(key) {
        section.fault_at(key, format!("`{key}` lets nobody in; name a network as in `{key} = [\"10.0.0.0/24\"]`, or remove it"));
    }
    networks
}

pub(super) fn tls(section: &Section<'_>, folder: &Path) -> Tls {
    let file = |key: &str| {
        let written = super::resolve::path(section, key, "certificates/plant.pem")?;
        Some(folder.join(written))
    };
    let identity = match (file("cert"), file("key")) {
        (Some(cert), Some(key)) => Some(Identity { cert, key }),
        (Some(_), None) => {
            section.fault_at(
                "cert",
                "`cert` is there without its `key`; add the file of the private key",
            );
            None
        }
        (None, Some(_)) => {
            section.fault_at(
                "key",
                "`key` is there without its `cert`; add the file of the certificate",
            );
            None
        }
        (None, None) => None,
    };
    let server_name = section
        .string("server_name", "plc-3.plant.example")
        .map(str::to_owned);
    if let Some(name) = &server_name
        && !is_host(name)
        && name.parse::<IpAddr>().is_err()
    {
        section.fault_at(
            "server_name",
            format!(
                "{} is no name that a certificate could have; write it as it stands there",
                quoted(name)
            ),
        );
    }
    Tls {
        ca: file("ca"),
        identity,
        server_name,
    }
}

/// Reads what `connect` says, or says what is wrong and what to do. A serial line comes with nothing but its path.
fn parse_connect(written: &str) -> Result<Connect, String> {
    let (scheme, rest) = written
        .split_once("://")
        .ok_or_else(|| format!("names no transport; write one such as \"{EXAMPLE}\""))?;
    match scheme {
        "tcp" => {
            let (host, port) = place(rest)?;
            Ok(Connect::Tcp { host, port })
        }
        "tls" => {
            let (host, port) = place(rest)?;
            Ok(Connect::Tls { host, port })
        }
        "udp" => {
            let (host, port) = place(rest)?;
            Ok(Connect::Udp { host, port })
        }
        "unix" => Ok(Connect::Unix(absolute(rest, "unix:///run/plc.sock")?)),
        "serial" => Ok(Connect::Serial(SerialLine {
            path: absolute(rest, "serial:///dev/ttyS0")?,
            speed: 0,
            parity: Parity::None,
            data_bits: 0,
            stop_bits: 0,
        })),
        "ws" | "wss" => Err(format!(
            "is a transport not supported yet by this version; use tcp:// as in \"{EXAMPLE}\""
        )),
        _ => Err(format!(
            "begins with an unknown transport; use tcp://, tls://, udp://, unix:// or serial://, as in \"{EXAMPLE}\""
        )),
    }
}

fn absolute(path: &str, example: &str) -> Result<PathBuf, String> {
    let is_path = path.len() > 1 && path.starts_with('/') && !path.contains('\0');
    is_path.then(|| PathBuf::from(path)).ok_or_else(|| {
        format!("has no absolute path after its `://`; write one as in \"{example}\"")
    })
}

pub(super) fn place(written: &str) -> Result<(String, u16), String> {
    let (host, port) = written
        .rsplit_once(':')
        .filter(|(_, port)| !port.ends_with(']'))
        .ok_or_else(|| format!("has no port; add one as in \"{EXAMPLE}\""))?;
    let port = port
        .parse::<u16>()
        .ok()
        .filter(|number| *number > 0 && port.bytes().all(|b| b.is_ascii_digit()));
    let port = port.ok_or("has no port from 1 to 65535; mend what stands after the last colon")?;
    let host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address
            .parse::<Ipv6Addr>()
            .is_ok()
            .then(|| address.to_owned()),
        None => is_host(host).then(|| host.to_owned()),
    };
    let host = host.ok_or(
        "has no host before its port; write a name, an IPv4 address, or an IPv6 address in brackets as in \
         \"tcp://[fd00::9]:502\"",
    )?;
    Ok((host, port))
}

/// A name for the resolver or an IPv4 address (RFC 1123, section 2.1; underscores are common and let through).
pub(super) fn is_host(host: &str) -> bool {
    (1..=253).contains(&host.len())
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
                && !label.starts_with('-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_alike() {
        for good in [
            "tcp://10.0.0.9:502",
            "tcp://plc_1.hall-3.example:502",
            "tcp://[fd00::9]:65535",
            "tcp://plc:1",
            "tls://plc.example:802",
            "tls://[fd00::9]:802",
            "udp://10.0.0.9:47808",
            "unix:///run/plc.sock",
            "serial:///dev/ttyUSB0",
            "serial:///dev/serial/by-id/usb-FTDI_USB-RS485-if00-port0",
        ] {
            assert_eq!(parse_connect(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "plc:502",
            "tcp://plc",
            "tcp://plc:0",
            "tcp://plc:65536",
            "tcp://plc:+1",
            "tcp://:502",
            "tcp://fd00::9:502",
            "tcp://[fd00::9]",
            "tcp://[plc]:502",
            "tcp://a b:502",
            "tcp://plc:502/x",
            "tcp://-x:1",
            "tcp://a..b:1",
            "tls://plc",
            "ws://plc:802",
            "TCP://plc:502",
            "unix://run/plc.sock",
            "unix://",
            "unix:///",
            "unix:///run/\0",
            "serial://ttyS0",
            "serial://COM3",
        ] {
            assert!(parse_connect(bad).is_err(), "{bad}");
        }
    }
}
