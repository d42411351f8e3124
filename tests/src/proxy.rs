//! A TCP proxy between host and device, and what can go wrong between them above the packets: answers that are late, that come
//! one byte at a time or not at all; connections that are cut, reset or refused.
//!
//! ```text
//!   host --- connection --- read -> queue (when it is due) -> write --- connection --- device       and back alike
//! ```
//!
//! An order has been carried out when its method returns, so whoever sees what follows knows why.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::PATIENCE;

/// Pieces that wait in one direction; then nothing more is read.
const QUEUE: usize = 64;
/// Between two bytes that come one by one: long enough that each is a segment of its own, and seen as one.
const BYTE_APART: Duration = Duration::from_millis(1);

/// How bytes are passed on, on all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    /// So much later, in each direction.
    pub delay: Duration,
    /// One byte in each segment.
    pub one_byte: bool,
    /// Not at all, until this is over.
    pub stall: bool,
}

/// How connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// FIN to both sides.
    Cut,
    /// RST to both sides.
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    /// Nobody listens.
    Closed,
    /// Callers are let in and reset.
    Trap,
}

#[derive(Debug, Clone, Copy)]
struct State {
    manner: Manner,
    door: Door,
    /// So many times all connections were ended; how, the last time.
    ended: u64,
    how: End,
}

/// The proxy. Dropping it ends it with all connections.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    state: State,
    orders: Option<mpsc::Sender<(State, SyncSender<()>)>>,
    accepted: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens at this address (port 0 for any) and passes everything on to the other.
    ///
    /// # Errors
    ///
    /// Where the address is taken.
    pub fn start(at: &str, to: SocketAddr) -> Result<Self> {
        let listener = std::net::TcpListener::bind(at)
            .with_context(|| format!("the proxy cannot listen at {at}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = State {
            manner: Manner::default(),
            door: Door::Open,
            ended: 0,
            how: End::Cut,
        };
        let accepted = Arc::<AtomicU64>::default();
        let (orders, carried_out) = mpsc::channel(1);
        let work = Work {
            address,
            to,
            orders: carried_out,
            state: watch::Sender::new(state),
            accepted: Arc::clone(&accepted),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::spawn(move || {
            if let Err(error) = runtime.block_on(work.run(listener)) {
                eprintln!("the proxy at {address} ends: {error}");
            }
        });
        Ok(Self {
            address,
            state,
            orders: Some(orders),
            accepted,
            thread: Some(thread),
        })
    }

    /// From now on bytes are passed on like this.
    ///
    /// # Errors
    ///
    /// Where the proxy has ended.
    pub fn set(&mut self, manner: Manner) -> Result<()> {
        self.state.manner = manner;
        self.order()
    }

    /// Ends all connections with FIN.
    ///
    /// # Errors
    ///
    /// Where the proxy has ended.
    pub fn cut(&mut self) -> Result<()> {
        self.end(End::Cut)
    }

    /// Ends all connections with RST.
    ///
    /// # Errors
    ///
    /// Where the proxy has ended.
    pub fn reset(&mut self) -> Result<()> {
        self.end(End::Reset)
    }

    /// Ends all connections and listens no more: callers are refused.
    ///
    /// # Errors
    ///
    /// Where the proxy has ended.
    pub fn refuse(&mut self) -> Result<()> {
        self.state.door = Door::Closed;
        self.end(End::Cut)
    }

    /// Resets all connections, those that are still to come at once.
    ///
    /// # Errors
    ///
    /// Where the proxy has ended.
    pub fn reset_all(&mut self) -> Result<()> {
        self.state.door = Door::Trap;
        self.end(End::Reset)
    }

    /// Lets callers in again.
    ///
    /// # Errors
    ///
    /// Where somebody else has taken the address.
    pub fn admit(&mut self) -> Result<()> {
        self.state.door = Door::Open;
        self.order()
    }

    /// Connections so far, those that were reset at once too.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    fn end(&mut self, how: End) -> Result<()> {
        self.state.ended += 1;
        self.state.how = how;
        self.order()
    }

    fn order(&self) -> Result<()> {
        let (done, wait) = sync_channel(1);
        let orders = self.orders.as_ref().context("the proxy is being dropped")?;
        orders
            .blocking_send((self.state, done))
            .context("the proxy has ended")?;
        wait.recv_timeout(PATIENCE).context("the proxy has ended")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // It has said what was wrong, if anything was.
            drop(thread.join());
        }
    }
}

/// What the proxy's thread does.
struct Work {
    address: SocketAddr,
    to: SocketAddr,
    orders: mpsc::Receiver<(State, SyncSender<()>)>,
    state: watch::Sender<State>,
    accepted: Arc<AtomicU64>,
}

impl Work {
    async fn run(mut self, listener: std::net::TcpListener) -> io::Result<()> {
        let mut listener = Some(TcpListener::from_std(listener)?);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                order = self.orders.recv() => {
                    let Some((state, done)) = order else { return Ok(()) };
                    if state.door == Door::Closed {
                        listener = None;
                    } else if listener.is_none() {
                        listener = Some(TcpListener::bind(self.address).await?);
                    }
                    let ends = state.ended > self.state.borrow().ended;
                    self.state.send_replace(state);
                    while ends && connections.join_next().await.is_some() {}
                    // Whoever gave the order may have given up.
                    done.try_send(()).ok();
                }
                accepted = accept(listener.as_ref()) => {
                    let (stream, _) = accepted?;
                    self.accepted.fetch_add(1, Relaxed);
                    if self.state.borrow().door == Door::Trap {
                        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                    } else {
                        connections.spawn(serve(stream, self.to, self.state.subscribe()));
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// One connection, until both sides have ended it, or an order does.
async fn serve(mut host: TcpStream, to: SocketAddr, state: watch::Receiver<State>) {
    let before = state.borrow().ended;
    let mut orders = state.clone();
    let ordered = async {
        let state = orders.wait_for(|state| state.ended > before).await;
        state.map_or(End::Cut, |state| state.how)
    };
    let mut device = None;
    let work = async {
        let passed = async {
            let device = device.insert(TcpStream::connect(to).await?);
            host.set_nodelay(true)?;
            device.set_nodelay(true)?;
            let (from_host, to_host) = host.split();
            let (from_device, to_device) = device.split();
            let there = pump(from_host, to_device, state.clone());
            let back = pump(from_device, to_host, state.clone());
            tokio::try_join!(there, back)
        };
        let passed: io::Result<((), ())> = passed.await;
        passed.map_or(End::Reset, |_| End::Cut)
    };
    let how = tokio::select! {
        how = ordered => how,
        how = work => how,
    };
    if how == End::Reset {
        for stream in [Some(&host), device.as_ref()].into_iter().flatten() {
            // One that cannot be told so has ended.
            SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
        }
    }
}

/// Passes on what comes, and its end.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    let (queue, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(QUEUE);
    let delays = state.clone();
    let read = async move {
        let mut bytes = vec![0; 4096];
        loop {
            let length = from.read(&mut bytes).await?;
            let at = Instant::now() + delays.borrow().manner.delay;
            let piece = bytes.get(..length).unwrap_or_default().to_vec();
            if queue.send((at, piece)).await.is_err() || length == 0 {
                return Ok(());
            }
        }
    };
    let write = async move {
        let gone = |_| io::Error::from(ErrorKind::ConnectionAborted);
        while let Some((at, piece)) = due.recv().await {
            sleep_until(at).await;
            let one_byte = {
                let state = state.wait_for(|state| !state.manner.stall).await;
                state.map_err(gone)?.manner.one_byte
            };
            if piece.is_empty() {
                return to.shutdown().await;
            }
            if !one_byte {
                to.write_all(&piece).await?;
                continue;
            }
            for byte in piece {
                to.write_all(&[byte]).await?;
                sleep(BYTE_APART).await;
            }
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;

    /// Sends back what comes, to as many as call.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut reader = stream.try_clone().unwrap();
                    std::io::copy(&mut reader, &mut stream).ok();
                });
            }
        });
        address
    }

    fn call(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn echoed(stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(b"hello")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        assert_eq!(&answer, b"hello");
        Ok(())
    }

    #[test]
    fn bytes_are_passed_on_late_one_by_one_or_not_at_all() -> Result<()> {
        let mut proxy = Proxy::start("127.0.0.1:0", echo())?;
        let mut stream = call(&proxy);
        echoed(&mut stream)?;

        let delay = Duration::from_millis(50);
        proxy.set(Manner {
            delay,
            ..Manner::default()
        })?;
        let sent = Instant::now();
        echoed(&mut stream)?;
        assert!(sent.elapsed() >= 2 * delay, "both ways");

        proxy.set(Manner {
            one_byte: true,
            ..Manner::default()
        })?;
        stream.write_all(&[7; 50])?;
        let (mut count, mut reads) = (0, 0);
        while count < 50 {
            count += stream.read(&mut [0; 50])?;
            reads += 1;
        }
        assert!(reads > 10, "50 bytes in {reads} pieces");

        proxy.set(Manner {
            stall: true,
            ..Manner::default()
        })?;
        stream.write_all(b"hello")?;
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        assert!(stream.read(&mut [0; 5]).is_err());
        proxy.set(Manner::default())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut [0; 5])?;
        assert_eq!(proxy.accepted(), 1);
        Ok(())
    }

    #[test]
    fn connections_are_cut_reset_and_refused() -> Result<()> {
        let mut proxy = Proxy::start("127.0.0.1:0", echo())?;
        let mut stream = call(&proxy);
        echoed(&mut stream)?;
        proxy.cut()?;
        assert_eq!(stream.read(&mut [0; 5])?, 0, "FIN");

        let mut stream = call(&proxy);
        echoed(&mut stream)?;
        proxy.reset()?;
        let error = stream.read(&mut [0; 5]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);

        proxy.reset_all()?;
        let error = call(&proxy).read(&mut [0; 5]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);

        proxy.refuse()?;
        let error = TcpStream::connect(proxy.address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        proxy.admit()?;
        echoed(&mut call(&proxy))?;

        // The end of one side is the end of the other.
        let mut stream = call(&proxy);
        echoed(&mut stream)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        assert_eq!(stream.read(&mut [0; 5])?, 0);
        Ok(())
    }
}
