//! Networks, as grants name them: `10.0.0.0/24`, `fd00::/64`, or one address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads a network, or says what is wrong and what to do.
    pub(super) fn parse(written: &str) -> Result<Self, String> {
        let wrong = "is no network; write one such as \"10.0.0.0/24\", or one address";
        let (address, prefix) = match written.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (written, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong)?;
        let longest = longest(address);
        let prefix = match prefix {
            None => longest,
            Some(prefix) => prefix
                .parse::<u8>()
                .ok()
                .filter(|bits| *bits <= longest && !prefix.starts_with('+'))
                .ok_or(wrong)?,
        };
        let network = Self { address, prefix };
        let first = network.first();
        if first != address {
            return Err(format!(
                "is an address within a network; write the network \"{first}/{prefix}\", or the address alone"
            ));
        }
        Ok(network)
    }

    /// Whether it has this address. An IPv4 address in IPv6's clothes is an IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let same_family = address.is_ipv4() == self.address.is_ipv4();
        same_family && masked(address, self.prefix) == self.address
    }

    /// Whether its addresses are IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }

    fn first(&self) -> IpAddr {
        masked(self.address, self.prefix)
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn longest(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with all bits after the prefix zero.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_own_addresses_and_no_other() {
        for (network, inside, outside) in [
            (
                "10.0.0.0/24",
                &["10.0.0.0", "10.0.0.255", "::ffff:10.0.0.7"][..],
                &["10.0.1.0", "9.255.255.255", "::"][..],
            ),
            (
                "10.0.0.9",
                &["10.0.0.9"],
                &["10.0.0.8", "10.0.0.10", "fd00::9"],
            ),
            ("0.0.0.0/0", &["1.2.3.4", "255.255.255.255"], &["::1"]),
            (
                "fd00::/64",
                &["fd00::1", "fd00::ffff:ffff:ffff:ffff"],
                &["fd00:0:0:1::1", "10.0.0.1"],
            ),
            ("fd00::9", &["fd00::9"], &["fd00::8"]),
            ("::/0", &["fd00::9"], &["10.0.0.1"]),
            ("128.0.0.0/1", &["255.0.0.1"], &["127.0.0.1"]),
        ] {
            let read = Network::parse(network).unwrap();
            for address in inside {
                assert!(
                    read.contains(address.parse().unwrap()),
                    "{address} is in {network}"
                );
            }
            for address in outside {
                assert!(
                    !read.contains(address.parse().unwrap()),
                    "{address} is not in {network}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_the_right_one() {
        for bad in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "fd00::/129",
            "plc",
            "10.0.0.0/24/8",
            " 10.0.0.0/8",
        ] {
            assert!(
                Network::parse(bad)
                    .unwrap_err()
                    .contains("write one such as"),
                "{bad}"
            );
        }
        assert!(
            Network::parse("10.0.0.9/24")
                .unwrap_err()
                .contains("write the network \"10.0.0.0/24\"")
        );
    }
}
