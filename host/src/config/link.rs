//! The links that a channel is granted.

use std::path::Path;
use std::time::Duration;

use super::address::address;
use super::checked::{Link, OnRestart};
use super::fault::{plain, quoted};
use super::names::Names;
use super::redial;
use super::section::{Keys, Section};
use crate::ids::ChannelId;

/// The most links of one channel.
const MAX_LINKS: usize = 64;

pub(super) const LINK: Keys = Keys {
    known: &[
        "connect",
        "listen",
        "dial",
        "from",
        "max_connections",
        "ca",
        "cert",
        "key",
        "server_name",
        "start_tls",
        "speed",
        "parity",
        "data_bits",
        "stop_bits",
        "connect_timeout",
        "profile",
        "base_delay",
        "max_delay",
        "max_attempts",
        "steady_after",
        "heartbeat",
        "on_restart",
    ],
    later: &[],
};

/// Reads the links of a channel, and their names.
pub(super) fn links<'r>(channel: &Section<'r>, folder: &Path) -> (Vec<Link>, Names<'r>) {
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
        links.push(link(&section, name, folder));
    }
    (links, names)
}

fn link(section: &Section<'_>, name: &str, folder: &Path) -> Link {
    const MS: Duration = Duration::from_millis(1);
    let least = 10 * MS;
    let most = 60_000 * MS;
    let choices = [("reset", OnRestart::Reset), ("keep", OnRestart::Keep)];
    let (connect, dial, tls) = address(section, folder);
    Link {
        name: name.to_owned(),
        connect,
        dial,
        tls,
        connect_timeout: section.duration("connect_timeout", 3_000 * MS, least..=most),
        redial: redial::redial(section),
        heartbeat: redial::heartbeat(section),
        on_restart: section.choice("on_restart", OnRestart::Reset, &choices),
    }
}
