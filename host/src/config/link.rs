//! The links that a channel is granted.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::checked::{Connect, Link, OnRestart};
use super::fault::{plain, quoted};
use super::names::Names;
use super::section::{Keys, Section};
use crate::ids::ChannelId;

/// The most links of one channel.
const MAX_LINKS: usize = 64;
const EXAMPLE: &str = "tcp://10.0.0.9:502";

pub(super) const LINK: Keys = Keys {
    known: &[
        "connect",
        "connect_timeout",
        "base_delay",
        "max_delay",
        "on_restart",
    ],
    later: &[
        (
            "profile",
            "remove it, and set `connect_timeout`, `base_delay` and `max_delay` where the defaults do not fit",
        ),
        ("max_attempts", "remove it: a link is redialled without end"),
        ("heartbeat", "remove it"),
        ("dial", "grant one address with `connect`"),
        ("listen", "grant one address with `connect`"),
    ],
};

/// Reads the links of a channel, and their names.
pub(super) fn links<'r>(channel: &Section<'r>) -> (Vec<Link>, Names<'r>) {
    let mut names = Names::new("link");
    let mut links = Vec::new();
    let Some(table) = channel.table("links", channel.at()) else {
        return (links, names);
    };
    for (name, section) in table.named_tables() {
        if links.len() == MAX_LINKS {
            section.fault(format!(
                "more than {MAX_LINKS} links; split the channel in two"
            ));
            break;
        }
        let section = section.named(format!("{}, link {}", channel.at(), plain(name)));
        section.refuse_unknown_keys(&LINK);
        if ChannelId::new(name).is_err() {
            section.fault(format!(
                "{} is no name for a link; use 1 to 64 letters, digits, `_`, `-` or `.`, beginning with a letter or digit",
                quoted(name)
            ));
        }
        names.claim(&section, "", name);
        links.push(link(&section, name));
    }
    (links, names)
}

fn link(section: &Section<'_>, name: &str) -> Link {
    const MS: Duration = Duration::from_millis(1);
    let least = 10 * MS;
    let most = 60_000 * MS;
    let base_delay = section.duration("base_delay", 500 * MS, least..=most);
    let choices = [("reset", OnRestart::Reset), ("keep", OnRestart::Keep)];
    Link {
        name: name.to_owned(),
        connect: connect(section),
        connect_timeout: section.duration("connect_timeout", 3_000 * MS, least..=most),
        base_delay,
        max_delay: section.duration("max_delay", base_delay.max(3_000 * MS), base_delay..=most),
        on_restart: section.choice("on_restart", OnRestart::Reset, &choices),
    }
}

fn connect(section: &Section<'_>) -> Connect {
    let void = || Connect::Tcp {
        host: String::new(),
        port: 1,
    };
    let Some(written) = section.required("connect", EXAMPLE) else {
        return void();
    };
    match parse_connect(written) {
        Ok(connect) => connect,
        Err(wrong) => {
            section.fault_at("connect", format!("{} {wrong}", quoted(written)));
            void()
        }
    }
}

/// Reads `tcp://host:port`, or says what is wrong and what to do.
fn parse_connect(written: &str) -> Result<Connect, String> {
    let (scheme, rest) = written
        .split_once("://")
        .ok_or_else(|| format!("names no transport; write one such as \"{EXAMPLE}\""))?;
    match scheme {
        "tcp" => {}
        "tls" | "udp" | "unix" | "serial" | "ws" | "wss" => {
            return Err(format!(
                "is a transport not supported yet by this version; use tcp:// as in \"{EXAMPLE}\""
            ));
        }
        _ => {
            return Err(format!(
                "begins with an unknown transport; use tcp:// as in \"{EXAMPLE}\""
            ));
        }
    }
    let (host, port) = rest
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
    Ok(Connect::Tcp { host, port })
}

/// A name for the resolver or an IPv4 address (RFC 1123, section 2.1; underscores are common and let through).
fn is_host(host: &str) -> bool {
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
            "tls://plc:802",
            "TCP://plc:502",
        ] {
            assert!(parse_connect(bad).is_err(), "{bad}");
        }
    }
}
