//! Dial ranges: `10.0.0.0/24:502`, for drivers that find their devices themselves.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::network::Network;

/// Addresses and ports that a driver may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialRange {
    network: Network,
    ports: RangeInclusive<u16>,
}

impl DialRange {
    /// Reads `network:port` or `network:port-port`, or says what is wrong and what to do.
    pub(super) fn parse(written: &str) -> Result<Self, String> {
        let wrong = "is no range to dial; write a network and a port, as in \"10.0.0.0/24:502\" or \"[fd00::]/64:502-510\"";
        let (network, ports) = written.rsplit_once(':').ok_or(wrong)?;
        // IPv6 stands in brackets, so that the last colon is the port's.
        let network = match network.strip_prefix('[') {
            Some(rest) => {
                let (address, prefix) = rest.split_once(']').ok_or(wrong)?;
                if !(prefix.is_empty() || prefix.starts_with('/')) {
                    return Err(wrong.to_owned());
                }
                format!("{address}{prefix}")
            }
            None if network.contains(':') => return Err(wrong.to_owned()),
            None => network.to_owned(),
        };
        let port = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u16>()
                .ok()
                .filter(|port| digits && *port > 0)
                .ok_or(wrong)
        };
        let ports = match ports.split_once('-') {
            Some((first, last)) => port(first)?..=port(last)?,
            None => port(ports)?..=port(ports)?,
        };
        if ports.is_empty() {
            return Err("has its ports in the wrong order; write the lower one first".to_owned());
        }
        Ok(Self {
            network: Network::parse(&network)?,
            ports,
        })
    }

    /// Whether a driver may name this address.
    pub fn contains(&self, address: SocketAddr) -> bool {
        self.ports.contains(&address.port()) && self.network.contains(address.ip())
    }

    /// Whether its addresses are IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.network.is_ipv6()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_its_own_addresses_and_ports_and_no_other() {
        for (range, inside, outside) in [
            (
                "10.0.0.0/24:502",
                &["10.0.0.17:502", "[::ffff:10.0.0.17]:502"][..],
                &["10.0.0.17:503", "10.0.1.17:502", "[fd00::1]:502"][..],
            ),
            (
                "10.0.0.7:502-510",
                &["10.0.0.7:502", "10.0.0.7:510"],
                &["10.0.0.7:501", "10.0.0.7:511", "10.0.0.8:502"],
            ),
            (
                "[fd00::]/64:502",
                &["[fd00::17]:502"],
                &["[fd00:0:0:1::17]:502", "10.0.0.17:502"],
            ),
            ("[fd00::9]:502", &["[fd00::9]:502"], &["[fd00::8]:502"]),
        ] {
            let read = DialRange::parse(range).unwrap();
            for address in inside {
                assert!(
                    read.contains(address.parse().unwrap()),
                    "{address} is in {range}"
                );
            }
            for address in outside {
                assert!(
                    !read.contains(address.parse().unwrap()),
                    "{address} is not in {range}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in [
            "",
            "10.0.0.0/24",
            "10.0.0.0/24:",
            "10.0.0.0/24:0",
            "10.0.0.0/24:+1",
            "10.0.0.0/24:1-",
            "10.0.0.0/24:-1",
            "10.0.0.0/24:2-1",
            "10.0.0.1/24:502",
            "fd00::/64:502",
            "[fd00::/64:502",
            "[fd00::]64:502",
            "plc:502",
            "10.0.0.0/24:65536",
            "10.0.0.0/24:1-2-3",
        ] {
            assert!(DialRange::parse(bad).is_err(), "{bad}");
        }
    }
}
