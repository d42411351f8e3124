//! A name server (RFC 1035) that knows what a test tells it: names and their IPv4 addresses, each good for no time at all.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

/// Length of a message's header.
const HEADER: usize = 12;
/// The type of a question for an IPv4 address, and the class of the Internet.
const A: [u8; 4] = [0, 1, 0, 1];
/// The answer's code for a name that does not exist.
const NO_SUCH_NAME: u8 = 3;

/// The name server. Dropping it ends it.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    names: Mutex<BTreeMap<String, Vec<Ipv4Addr>>>,
    asked: AtomicU64,
    ended: AtomicBool,
}

impl NameServer {
    /// Answers at this address, such as `127.0.0.9:53`.
    ///
    /// # Errors
    ///
    /// Where it is taken.
    pub fn start(at: &str) -> Result<Self> {
        let socket = UdpSocket::bind(at)
            .with_context(|| format!("the name server cannot listen at {at}"))?;
        let address = socket.local_addr()?;
        let shared = Arc::<Shared>::default();
        let server = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                if server.ended.load(Relaxed) {
                    break;
                }
                let asked = question.get(..length).unwrap_or_default();
                if let Some(answer) = server.answer(asked) {
                    // Whoever asked may be gone.
                    socket.send_to(&answer, from).ok();
                }
            }
        });
        Ok(Self {
            address,
            shared,
            thread: Some(thread),
        })
    }

    /// From now on a name leads to these addresses.
    pub fn set(&self, name: &str, addresses: &[Ipv4Addr]) {
        self.shared
            .names()
            .insert(name.to_owned(), addresses.to_vec());
    }

    /// How often it was asked for an IPv4 address.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Relaxed)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Relaxed);
        let woken = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .and_then(|socket| socket.send_to(&[], self.address));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn names(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Ipv4Addr>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where it is no question.
    fn answer(&self, asked: &[u8]) -> Option<Vec<u8>> {
        let (name, end) = name(asked)?;
        let question = asked.get(HEADER..end + 4)?;
        let of_type = question.get(question.len() - 4..)?;
        let names = self.names();
        let known = names.get(&name);
        let is_a = of_type == A;
        self.asked.fetch_add(is_a.into(), Relaxed);
        let addresses = known.filter(|_| is_a).map_or(&[][..], Vec::as_slice);

        let mut answer = asked.get(..2)?.to_vec();
        let code = if known.is_some() { 0 } else { NO_SUCH_NAME };
        // A response, authoritative, to a question that may want recursion, which is available.
        answer.extend([0x85, 0x80 | code, 0, 1, 0]);
        answer.push(addresses.len().try_into().ok()?);
        answer.extend([0; 4]);
        answer.extend(question);
        for address in addresses {
            // The name of the question; type and class; good for 0 s; four bytes.
            answer.extend([0xc0, HEADER as u8]);
            answer.extend(A);
            answer.extend([0, 0, 0, 0, 0, 4]);
            answer.extend(address.octets());
        }
        Some(answer)
    }
}

/// The name that a question asks for, and where it ends.
fn name(asked: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*asked.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join(".").to_ascii_lowercase(), at));
        }
        let label = asked.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).into_owned());
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use std::net::ToSocketAddrs;

    use super::*;
    use crate::netns::apart;

    #[test]
    fn names_lead_where_the_test_says() -> Result<()> {
        apart(|network| {
            let server = NameServer::start("127.0.0.9:53")?;
            network.name_server("127.0.0.9")?;
            let look_up = || ("plc.example", 502).to_socket_addrs();
            assert!(look_up().is_err());
            for addresses in [&[[10, 77, 0, 2]][..], &[[10, 77, 1, 2], [127, 0, 0, 1]]] {
                let addresses: Vec<Ipv4Addr> =
                    addresses.iter().copied().map(Ipv4Addr::from).collect();
                server.set("plc.example", &addresses);
                let mut found: Vec<_> = look_up()?.map(|found| found.ip()).collect();
                found.sort();
                assert_eq!(found, addresses);
            }
            assert!(server.asked() >= 3);
            Ok(())
        })
    }
}
