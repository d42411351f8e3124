//! What the kernel does to packets: drops them without a word, and counts what leaves.
//!
//! Two tables of nftables in a namespace, each replaced as a whole, so that nothing depends on what was before.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::netns::Place;

/// Where somebody called, or sent a datagram.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dial {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The address.
    pub address: String,
    /// The port.
    pub port: u16,
}

impl Dial {
    /// `tcp` to this address and port.
    #[must_use]
    pub fn tcp(address: &str, port: u16) -> Self {
        Self {
            protocol: "tcp".to_owned(),
            address: address.to_owned(),
            port,
        }
    }
}

/// nftables, in any place. Loopback is spared, but by [`drop_matching`](Self::drop_matching).
pub trait Firewall: Place {
    /// Drops every packet, in both directions: no FIN, no RST, no ICMP.
    ///
    /// # Errors
    ///
    /// Where nftables cannot be set.
    fn black_hole(&self) -> Result<()> {
        self.fault(
            r#"iifname != "lo" counter drop"#,
            r#"oifname != "lo" counter drop"#,
        )
    }

    /// Drops so many percent of the packets, in each direction, at random.
    ///
    /// # Errors
    ///
    /// Where nftables cannot be set.
    fn lose(&self, percent: u8) -> Result<()> {
        let by_chance = format!("numgen random mod 100 < {percent} counter drop");
        self.fault(
            &format!(r#"iifname != "lo" {by_chance}"#),
            &format!(r#"oifname != "lo" {by_chance}"#),
        )
    }

    /// Drops what comes in, or goes out, and matches: `ip daddr 10.77.0.2`.
    ///
    /// # Errors
    ///
    /// Where nftables cannot be set.
    fn drop_matching(&self, matching: &str) -> Result<()> {
        let rule = format!("{matching} counter drop");
        self.fault(&rule, &rule)
    }

    /// One rule for what comes in, and one for what goes out; they replace those before.
    ///
    /// # Errors
    ///
    /// Where nftables cannot be set.
    fn fault(&self, inwards: &str, outwards: &str) -> Result<()> {
        nft(
            self,
            &format!(
                "table inet fault\ndelete table inet fault\ntable inet fault {{\n\
                 chain inwards {{\ntype filter hook input priority -200;\n{inwards}\n}}\n\
                 chain outwards {{\ntype filter hook output priority -200;\n{outwards}\n}}\n}}\n"
            ),
        )
    }

    /// Everything passes again. Gives how many packets were dropped.
    ///
    /// # Errors
    ///
    /// Where nothing was set.
    fn heal(&self) -> Result<u64> {
        let rules = self.run("nft", &["--json", "list", "table", "inet", "fault"])?;
        self.run("nft", &["delete", "table", "inet", "fault"])?;
        let rules: Value = serde_json::from_str(&rules)?;
        let mut dropped = 0;
        for rule in rules["nftables"].as_array().context("a list of rules")? {
            for part in rule["rule"]["expr"].as_array().into_iter().flatten() {
                dropped += part["counter"]["packets"].as_u64().unwrap_or(0);
            }
        }
        Ok(dropped)
    }

    /// Counts from now on where TCP calls and UDP datagrams go, on every interface, loopback too.
    ///
    /// # Errors
    ///
    /// Where nftables cannot be set.
    fn count_dials(&self) -> Result<()> {
        nft(
            self,
            "table inet dials\ndelete table inet dials\ntable inet dials {\n\
             set v4 {\ntype inet_proto . ipv4_addr . inet_service\nsize 65535\nflags dynamic\n}\n\
             set v6 {\ntype inet_proto . ipv6_addr . inet_service\nsize 65535\nflags dynamic\n}\n\
             chain outwards {\ntype filter hook output priority -300;\n\
             tcp flags & (syn | ack) != syn return\n\
             meta l4proto { tcp, udp } update @v4 { meta l4proto . ip daddr . th dport counter }\n\
             meta l4proto { tcp, udp } update @v6 { meta l4proto . ip6 daddr . th dport counter }\n}\n}\n",
        )
    }

    /// What was counted: each place, and how many calls (a call that is sent again counts again) or datagrams.
    ///
    /// # Errors
    ///
    /// Where nothing is counted.
    fn dials(&self) -> Result<BTreeMap<Dial, u64>> {
        let mut dials = BTreeMap::new();
        for set in ["v4", "v6"] {
            let listed = self.run("nft", &["--json", "list", "set", "inet", "dials", set])?;
            let listed: Value = serde_json::from_str(&listed)?;
            let list = listed["nftables"].as_array().context("a list")?;
            for element in list.iter().flat_map(|set| set["set"]["elem"].as_array()) {
                for element in element {
                    let (dial, count) =
                        dial(element).with_context(|| format!("no element: {element}"))?;
                    dials.insert(dial, count);
                }
            }
        }
        Ok(dials)
    }
}

impl<P: Place> Firewall for P {}

/// `{"elem":{"val":{"concat":["tcp","10.77.0.2",502]},"counter":{"packets":3,..}}}`
fn dial(element: &Value) -> Option<(Dial, u64)> {
    let element = &element["elem"];
    let [protocol, address, port] = element["val"]["concat"].as_array()?.as_slice() else {
        return None;
    };
    let dial = Dial {
        protocol: protocol.as_str()?.to_owned(),
        address: address.as_str()?.to_owned(),
        port: port.as_u64()?.try_into().ok()?,
    };
    Some((dial, element["counter"]["packets"].as_u64()?))
}

/// Gives nft a script.
fn nft(place: &(impl Place + ?Sized), script: &str) -> Result<()> {
    let mut nft = place.command("nft");
    let started = nft
        .args(["--file", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut nft = started.context("cannot run nft; `cargo xtask test` installs nftables")?;
    let mut input = nft.stdin.take().context("its input is piped")?;
    input.write_all(script.as_bytes())?;
    drop(input);
    let ended = nft.wait_with_output()?;
    if !ended.status.success() {
        bail!("nft: {}\n{script}", String::from_utf8_lossy(&ended.stderr));
    }
    ensure!(ended.stderr.is_empty(), "nft warns of {script}");
    Ok(())
}
