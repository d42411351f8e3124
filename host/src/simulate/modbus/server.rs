//! The sockets: one task accepts, one task serves each connection, and all of them end with the token.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::counters::{Counters, Counts};
use super::fault::{self, Delivery, Fault, FaultKind, Faults};
use super::frame::{self, Frame};
use super::memory::Unit;
use super::pdu::{self, Exception};
use super::rtu;
use super::values::Moment;
use super::{Error, Framing, Options};

/// Requests that a connection may have in the pipe: 682 of the shortest.
const RECEIVE_BUFFER: usize = 8 * 1024;

/// Answers leave when the pipe is empty, or when so much has gathered.
const SEND_AT: usize = 32 * 1024;

/// Serves `listener` until `cancel`.
///
/// # Errors
///
/// [`Error::Option`] where the options contradict themselves.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    cancel: CancellationToken,
) -> Result<(), Error> {
    Simulator::new(options)?.serve(listener, cancel).await;
    Ok(())
}

/// A simulated device. Clones are handles to the same device: keep one to count its requests and to change its
/// faults while it serves.
#[derive(Debug, Clone)]
pub struct Simulator(Arc<Device>);

#[derive(Debug)]
struct Device {
    options: Options,
    units: Box<[Option<Unit>]>,
    counters: Counters,
    faults: watch::Sender<Arc<Faults>>,
    started: Instant,
}

impl Simulator {
    /// A device that has not been asked anything yet.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] where the options contradict themselves.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        let units = (0..=u8::MAX)
            .map(|id| {
                options
                    .units
                    .contains(id)
                    .then(|| Unit::new(id, options.registers, options.bits))
            })
            .collect();
        let faults = watch::Sender::new(Arc::new(Faults::new(options.faults.clone())));
        Ok(Self(Arc::new(Device {
            options,
            units,
            counters: Counters::new(),
            faults,
            started: Instant::now(),
        })))
    }

    /// What the device was asked so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.counters.counts()
    }

    /// Replaces all faults, from the next request on. Their counts of matched requests start anew.
    pub fn set_faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.faults.send_replace(Arc::new(Faults::new(faults)));
    }

    /// What was written to a holding register; `None` below address 200 and where there is no such register.
    #[must_use]
    pub fn holding(&self, unit: u8, address: u16) -> Option<u16> {
        self.0.units[usize::from(unit)].as_ref()?.holding(address)
    }

    /// What was written to a coil; `None` below address 200 and where there is no such coil.
    #[must_use]
    pub fn coil(&self, unit: u8, address: u16) -> Option<bool> {
        self.0.units[usize::from(unit)].as_ref()?.coil(address)
    }

    /// Serves `listener` until `cancel`, then closes all connections. A device may serve several listeners.
    pub async fn serve(&self, listener: TcpListener, cancel: CancellationToken) {
        let tasks = TaskTracker::new();
        let places = Arc::new(Semaphore::new(self.0.options.max_connections));
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(connection) => connection,
                Err(error) => {
                    // Out of file descriptors, most likely: others may close theirs soon.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                self.0.counters.connections_refused.fetch_add(1, Relaxed);
                tracing::warn!(%peer, limit = self.0.options.max_connections, "too many connections");
                continue;
            };
            let (device, cancel) = (Arc::clone(&self.0), cancel.clone());
            tasks.spawn(async move {
                device.counters.connections_open.fetch_add(1, Relaxed);
                let number = device.counters.connections.fetch_add(1, Relaxed);
                let served = Connection::new(&device, stream, number).serve();
                if let Some(Err(error)) = cancel.run_until_cancelled(served).await {
                    report(peer, &error);
                }
                device.counters.connections_open.fetch_sub(1, Relaxed);
                drop(place);
            });
        }
        tasks.close();
        tasks.wait().await;
    }
}

/// Why a connection ended before its client closed it.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Framing(#[from] frame::FramingError),
    #[error("a fault closed it")]
    Fault,
}

fn report(peer: SocketAddr, ended: &Ended) {
    match ended {
        Ended::Framing(reason) => tracing::warn!(%peer, %reason, "not Modbus TCP"),
        Ended::Io(reason) => tracing::debug!(%peer, %reason, "connection lost"),
        Ended::Fault => tracing::debug!(%peer, "connection closed by a fault"),
    }
}

struct Connection<'a> {
    device: &'a Device,
    stream: TcpStream,
    faults: watch::Receiver<Arc<Faults>>,
    random: fastrand::Rng,
    /// Answers on their way.
    out: Vec<u8>,
}

impl<'a> Connection<'a> {
    fn new(device: &'a Device, stream: TcpStream, number: u64) -> Self {
        let random = fastrand::Rng::with_seed(device.options.seed.wrapping_add(number));
        Self {
            device,
            stream,
            faults: device.faults.subscribe(),
            random,
            out: Vec::new(),
        }
    }

    /// Answers until the client closes.
    async fn serve(mut self) -> Result<(), Ended> {
        self.stream.set_nodelay(true)?;
        let mut buffer = vec![0; RECEIVE_BUFFER];
        let mut filled = 0;
        loop {
            let received = self.stream.read(&mut buffer[filled..]).await?;
            if received == 0 {
                return Ok(());
            }
            filled += received;
            let used = self.answer_all(&buffer[..filled]).await?;
            self.flush().await?;
            // At most one incomplete frame is left, far shorter than the buffer.
            buffer.copy_within(used..filled, 0);
            filled -= used;
        }
    }

    /// Answers every complete request and returns how many bytes they took.
    async fn answer_all(&mut self, received: &[u8]) -> Result<usize, Ended> {
        let faults = Arc::clone(&self.faults.borrow_and_update());
        let since_start = self.device.started.elapsed();
        let options = &self.device.options;
        let moment = Moment {
            since_start,
            period: options.period,
            seed: options.seed,
            inputs_by: match options.moving_inputs {
                true => (since_start.as_millis() / 10) as u16,
                false => 0,
            },
        };
        let mut used = 0;
        let is_rtu = options.framing == Framing::Rtu;
        loop {
            let next = if is_rtu {
                rtu::next(&received[used..]).or_else(|rtu::Garbage| {
                    self.device.counters.malformed.fetch_add(1, Relaxed);
                    used = received.len();
                    Ok(None)
                })
            } else {
                frame::next(&received[used..])
            };
            let frame = match next {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(used),
                Err(error) => {
                    self.device.counters.malformed.fetch_add(1, Relaxed);
                    self.flush().await?;
                    return Err(error.into());
                }
            };
            used += if is_rtu {
                rtu::length(&frame)
            } else {
                frame.length()
            };
            self.device
                .counters
                .request(frame.unit, frame.pdu[0], since_start);
            if is_rtu && frame.unit == rtu::BROADCAST {
                self.carry_out_everywhere(&frame, &moment);
            } else if is_rtu && self.device.units[usize::from(frame.unit)].is_none() {
                // Nobody is there to say anything.
            } else if !options.dead_units.contains(frame.unit) {
                match faults.strike(frame.unit, frame.pdu[0]) {
                    None => {
                        let start = self.out.len();
                        self.answer(&frame, &moment);
                        if is_rtu {
                            rtu::convert(&mut self.out, start);
                        }
                    }
                    Some(kind) => self.answer_badly(&frame, &moment, kind).await?,
                }
            }
            if self.out.len() >= SEND_AT {
                self.flush().await?;
            }
        }
    }

    /// Appends the right answer.
    fn answer(&mut self, frame: &Frame<'_>, moment: &Moment) {
        let start = self.out.len();
        frame::begin(&mut self.out, frame.transaction, frame.unit);
        let refused = match &self.device.units[usize::from(frame.unit)] {
            Some(unit) => pdu::answer(unit, frame.pdu, moment, &mut self.out),
            None => {
                pdu::refuse(
                    frame.pdu[0],
                    Exception::TARGET_FAILED_TO_RESPOND,
                    &mut self.out,
                );
                true
            }
        };
        if refused {
            self.device.counters.exceptions.fetch_add(1, Relaxed);
        }
        frame::finish(&mut self.out, start);
    }

    /// Does what every unit is told, without an answer.
    fn carry_out_everywhere(&self, frame: &Frame<'_>, moment: &Moment) {
        let mut unheard = Vec::new();
        for unit in self.device.units.iter().flatten() {
            pdu::answer(unit, frame.pdu, moment, &mut unheard);
        }
    }

    fn is_rtu(&self) -> bool {
        self.device.options.framing == Framing::Rtu
    }

    /// Sends what is on its way, then the spoilt answer.
    async fn answer_badly(
        &mut self,
        frame: &Frame<'_>,
        moment: &Moment,
        kind: FaultKind,
    ) -> Result<(), Ended> {
        self.flush().await?;
        if matches!(kind, FaultKind::Exception(_)) {
            // Only the shape of an answer, not the deed: `spoil` puts the exception in.
            frame::begin(&mut self.out, frame.transaction, frame.unit);
            self.out.push(frame.pdu[0]);
        } else {
            self.answer(frame, moment);
        }
        let delivery = if self.is_rtu() {
            fault::spoil_rtu(kind, &mut self.out, &mut self.random)
        } else {
            fault::spoil(kind, &mut self.out, &mut self.random)
        };
        let Some(delivery) = delivery else {
            if self.is_rtu() {
                rtu::convert(&mut self.out, 0);
            }
            return Ok(());
        };
        self.device.counters.faults.fetch_add(1, Relaxed);
        match delivery {
            Delivery::AtOnce => self.flush().await?,
            Delivery::After(time) => {
                tokio::time::sleep(time).await;
                self.flush().await?;
            }
            Delivery::ByteByByte(pause) => {
                for byte in std::mem::take(&mut self.out) {
                    self.stream.write_all(&[byte]).await?;
                    match pause {
                        Duration::ZERO => tokio::task::yield_now().await,
                        pause => tokio::time::sleep(pause).await,
                    }
                }
            }
            Delivery::ThenClose => {
                self.flush().await?;
                self.stream.shutdown().await?;
                return Err(Ended::Fault);
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: [u8; 12] = [0, 1, 0, 0, 0, 6, 1, 3, 0, 100, 0, 2];
    const ANSWER: [u8; 13] = [0, 1, 0, 0, 0, 7, 1, 3, 4, 0, 1, 0xab, 0xcd];

    /// A device on a free port. Every test ends with [`Bench::finish`], which waits for all of its tasks.
    struct Bench {
        simulator: Simulator,
        address: SocketAddr,
        cancel: CancellationToken,
        serving: tokio::task::JoinSet<()>,
    }

    impl Bench {
        async fn new(options: Options) -> Self {
            let simulator = Simulator::new(options).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (cancel, mut serving) = (CancellationToken::new(), tokio::task::JoinSet::new());
            let (device, token) = (simulator.clone(), cancel.clone());
            serving.spawn(async move { device.serve(listener, token).await });
            Self {
                simulator,
                address,
                cancel,
                serving,
            }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        async fn finish(mut self) {
            self.cancel.cancel();
            while let Some(ended) = self.serving.join_next().await {
                ended.unwrap();
            }
            assert_eq!(self.simulator.counts().connections_open, 0);
        }
    }

    async fn ask(stream: &mut TcpStream, request: &[u8], answer: &[u8]) {
        stream.write_all(request).await.unwrap();
        expect(stream, answer).await;
    }

    async fn expect(stream: &mut TcpStream, answer: &[u8]) {
        let mut received = vec![0; answer.len()];
        stream.read_exact(&mut received).await.unwrap();
        assert_eq!(received, answer);
    }

    async fn expect_closed(stream: &mut TcpStream) {
        let mut rest = Vec::new();
        // A reset is as good an end as a clean one.
        let ended = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{rest:?} before the end ({ended:?})");
    }

    #[tokio::test]
    async fn answers_however_the_stream_splits() {
        let bench = Bench::new(Options::default()).await;
        let mut stream = bench.connect().await;
        stream.set_nodelay(true).unwrap();
        for byte in READ {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        expect(&mut stream, &ANSWER).await;
        // More in the pipe than one buffer holds, with answers in the order of the requests.
        let numbered = |id: u16, frame: &[u8]| [&id.to_be_bytes(), &frame[2..]].concat();
        let requests: Vec<u8> = (0..2_000).flat_map(|id| numbered(id, &READ)).collect();
        let answers: Vec<u8> = (0..2_000).flat_map(|id| numbered(id, &ANSWER)).collect();
        ask(&mut stream, &requests, &answers).await;
        assert_eq!(bench.simulator.counts().of(1, 3), 2_001);
        bench.finish().await;
    }

    #[tokio::test]
    async fn units_answer_for_themselves() {
        let options = Options {
            dead_units: "3".parse().unwrap(),
            ..Options::default()
        };
        let bench = Bench::new(options).await;
        let mut stream = bench.connect().await;
        let to = |unit: u8, frame: &[u8]| {
            let mut frame = frame.to_vec();
            frame[6] = unit;
            frame
        };
        // Unit 2 has an id of its own; 9 does not exist; 3 is dead, so that the answer is that of unit 1.
        let mut answer = to(2, &ANSWER);
        answer[10] = 2;
        ask(&mut stream, &to(2, &READ), &answer).await;
        ask(&mut stream, &to(9, &READ), &[0, 1, 0, 0, 0, 3, 9, 0x83, 11]).await;
        ask(
            &mut stream,
            &[to(3, &READ), READ.to_vec()].concat(),
            &ANSWER,
        )
        .await;

        let counts = bench.simulator.counts();
        assert_eq!([1, 2, 3, 9].map(|unit| counts.of(unit, 3)), [1, 1, 1, 1]);
        assert_eq!((counts.requests, counts.exceptions), (4, 1));
        bench.finish().await;
    }

    #[tokio::test]
    async fn what_one_client_writes_another_reads() {
        let bench = Bench::new(Options::default()).await;
        let (mut one, mut other) = (bench.connect().await, bench.connect().await);
        let write = [0, 2, 0, 0, 0, 6, 1, 6, 0, 210, 0x12, 0x34];
        ask(&mut one, &write, &write).await;
        let read = [0, 3, 0, 0, 0, 6, 1, 3, 0, 210, 0, 1];
        ask(&mut other, &read, &[0, 3, 0, 0, 0, 5, 1, 3, 2, 0x12, 0x34]).await;
        assert_eq!(bench.simulator.holding(1, 210), Some(0x1234));
        assert_eq!(bench.simulator.holding(2, 210), Some(2_210));
        bench.finish().await;
    }

    #[tokio::test]
    async fn faults_come_and_go_while_it_serves() {
        let bench = Bench::new(Options::default()).await;
        let set = |fault: &str| {
            bench
                .simulator
                .set_faults([fault.parse::<Fault>().unwrap()])
        };
        let mut stream = bench.connect().await;
        ask(&mut stream, &READ, &ANSWER).await;

        set("silence:times=1");
        ask(&mut stream, &[READ, READ].concat(), &ANSWER).await;
        set("one-byte");
        ask(&mut stream, &READ, &ANSWER).await;
        set("delay:1");
        ask(&mut stream, &READ, &ANSWER).await;
        set("wrong-transaction:every=2");
        ask(
            &mut stream,
            &[READ, READ].concat(),
            &[&ANSWER[..], &[0, 2], &ANSWER[2..]].concat(),
        )
        .await;
        bench.simulator.set_faults([]);
        ask(&mut stream, &READ, &ANSWER).await;
        assert_eq!(bench.simulator.counts().faults, 4);

        // What is already in the pipe still leaves before the connection closes.
        set("cut:every=2");
        ask(
            &mut stream,
            &[READ, READ, READ].concat(),
            &[&ANSWER[..], &ANSWER[..6]].concat(),
        )
        .await;
        expect_closed(&mut stream).await;
        set("close");
        let mut stream = bench.connect().await;
        stream.write_all(&READ).await.unwrap();
        expect_closed(&mut stream).await;
        bench.finish().await;
    }

    #[tokio::test]
    async fn an_exception_on_request_writes_nothing_and_any_other_fault_does() {
        let options = Options {
            faults: vec!["exception:6:times=1".parse().unwrap()],
            ..Options::default()
        };
        let bench = Bench::new(options).await;
        let mut stream = bench.connect().await;
        let write = [0, 2, 0, 0, 0, 6, 1, 6, 0, 210, 0x12, 0x34];
        ask(&mut stream, &write, &[0, 2, 0, 0, 0, 3, 1, 0x86, 6]).await;
        assert_eq!(bench.simulator.holding(1, 210), Some(1_210));
        bench.simulator.set_faults([Fault {
            times: Some(1),
            ..FaultKind::Silence.into()
        }]);
        ask(&mut stream, &[&write[..], &READ].concat(), &ANSWER).await;
        assert_eq!(bench.simulator.holding(1, 210), Some(0x1234));
        bench.finish().await;
    }

    #[tokio::test]
    async fn what_is_not_modbus_ends_its_connection_only() {
        let bench = Bench::new(Options::default()).await;
        let mut good = bench.connect().await;
        ask(&mut good, &READ, &ANSWER).await;
        for bad in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0, 1, 0, 0, 0, 1, 1],
            &[0, 1, 0, 0, 0xff, 0xff, 1, 3],
        ] {
            let mut stream = bench.connect().await;
            ask(&mut stream, &READ, &ANSWER).await;
            stream.write_all(bad).await.unwrap();
            expect_closed(&mut stream).await;
        }
        ask(&mut good, &READ, &ANSWER).await;
        assert_eq!(bench.simulator.counts().malformed, 3);
        bench.finish().await;
    }

    #[tokio::test]
    async fn over_rtu() {
        let options = Options {
            framing: Framing::Rtu,
            dead_units: "3".parse().unwrap(),
            ..Options::default()
        };
        let bench = Bench::new(options).await;
        let mut stream = bench.connect().await;
        let summed = |body: &[u8]| [body, &rtu::checksum(body)].concat();
        let (read, answer) = (summed(&READ[6..]), summed(&ANSWER[6..]));
        for byte in &read {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        expect(&mut stream, &answer).await;
        // Nobody at 9, a dead one at 3, a refusal, and what is no request: only the refusal is heard.
        let to = |unit: u8, pdu: &[u8]| summed(&[&[unit], pdu].concat());
        ask(
            &mut stream,
            &[to(9, &READ[7..]), to(3, &READ[7..]), read.clone()].concat(),
            &answer,
        )
        .await;
        ask(&mut stream, &to(1, &[6, 0, 100, 0, 1]), &to(1, &[0x86, 2])).await;
        stream.write_all(&[0x55; 9]).await.unwrap();
        while bench.simulator.counts().malformed == 0 {
            tokio::task::yield_now().await;
        }
        ask(&mut stream, &read, &answer).await;
        // To all units at once.
        ask(
            &mut stream,
            &[to(0, &[6, 0, 210, 0x12, 0x34]), read.clone()].concat(),
            &answer,
        )
        .await;
        assert_eq!(
            [1, 2, 4].map(|unit| bench.simulator.holding(unit, 210)),
            [Some(0x1234); 3]
        );
        bench
            .simulator
            .set_faults(["wrong-transaction".parse().unwrap()]);
        ask(&mut stream, &read, &[]).await;
        ask(&mut stream, &read, &[&answer[..], &answer].concat()).await;
        bench.finish().await;
    }

    #[tokio::test]
    async fn connections_over_the_limit_are_closed() {
        let bench = Bench::new(Options {
            max_connections: 2,
            ..Options::default()
        })
        .await;
        let (mut one, mut two) = (bench.connect().await, bench.connect().await);
        ask(&mut one, &READ, &ANSWER).await;
        ask(&mut two, &READ, &ANSWER).await;
        expect_closed(&mut bench.connect().await).await;
        assert_eq!(bench.simulator.counts().connections_refused, 1);
        ask(&mut one, &READ, &ANSWER).await;
        bench.finish().await;
    }
}
