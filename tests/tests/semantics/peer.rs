//! The other end of a link.

use std::net::SocketAddr;
use std::time::Duration;

use bulkhead_tests::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A device that listens.
pub(crate) struct Peer {
    listener: TcpListener,
}

impl Peer {
    pub(crate) async fn listen() -> Self {
        Self::listen_on(0).await
    }

    /// On a port that was left a moment ago.
    pub(crate) async fn listen_on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        Self { listener }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// `links.plc`, quick to redial, with further keys.
    pub(crate) fn link(&self, more: &str) -> String {
        link(self.port(), more)
    }

    pub(crate) async fn accept(&self) -> Call {
        let (stream, _) = timeout(PATIENCE, self.listener.accept())
            .await
            .expect("somebody calls")
            .unwrap();
        Call(stream)
    }

    /// Whether nobody has called since the last call was taken.
    pub(crate) async fn is_idle(&self) -> bool {
        // A call that was made is in the listener's queue by the time its peer counts as up.
        timeout(Duration::ZERO, self.listener.accept())
            .await
            .is_err()
    }
}

/// `links.plc` to this port.
pub(crate) fn link(port: u16, more: &str) -> String {
    format!(
        r#"links.plc = {{ connect = "tcp://127.0.0.1:{port}", base_delay = "10ms", max_delay = "50ms"{more} }}"#
    )
}

/// Opens connection 0 over the link `plc` as soon as the driver begins.
pub(crate) const OPEN: &str =
    r#"{ on = "started", do = [{ open = { connection = 0, link = 0 } }] },"#;

/// One call.
pub(crate) struct Call(TcpStream);

impl Call {
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Waits for exactly this text.
    pub(crate) async fn expect(&mut self, text: &str) {
        let mut bytes = vec![0; text.len()];
        timeout(PATIENCE, self.0.read_exact(&mut bytes))
            .await
            .unwrap_or_else(|_| panic!("{text} never comes"))
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), text);
    }

    /// Waits for the end of the stream; gives how many bytes came before. A broken stream has ended too.
    pub(crate) async fn ended(mut self) -> usize {
        let mut all = Vec::new();
        let read = timeout(PATIENCE, self.0.read_to_end(&mut all)).await;
        drop(read.expect("the stream ends"));
        all.len()
    }

    /// Waits until all that was sent has been read by the host, as the system sees it.
    pub(crate) async fn is_read(&self) {
        self.until(|left| left == 0).await;
    }

    /// Waits until the host's side holds bytes that nobody reads.
    pub(crate) async fn is_unread(&self) {
        self.until(|left| left > 0).await;
    }

    async fn until(&self, reached: impl Fn(u64) -> bool) {
        let (ours, theirs) = (self.0.local_addr().unwrap(), self.0.peer_addr().unwrap());
        let wait = async {
            while !reached(unread(theirs, ours)) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait)
            .await
            .expect("the host reads, or not");
    }

    /// Takes what comes until it is dropped, without end.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.0
    }
}

/// The bytes that wait in the receive queue of the socket at `local` whose peer is at `remote` (proc(5), /proc/net/tcp).
fn unread(local: SocketAddr, remote: SocketAddr) -> u64 {
    let of = |address: SocketAddr| match address {
        SocketAddr::V4(address) => format!(
            "{:08X}:{:04X}",
            u32::from_le_bytes(address.ip().octets()),
            address.port()
        ),
        SocketAddr::V6(_) => panic!("the peers are on IPv4"),
    };
    let (local, remote) = (of(local), of(remote));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let line = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&local.as_str()) && fields.get(2) == Some(&remote.as_str()))
            .then(|| fields[4].to_owned())
    });
    let line = line.expect("the host's end of the stream");
    let (_, received) = line.split_once(':').unwrap();
    u64::from_str_radix(received, 16).unwrap()
}
