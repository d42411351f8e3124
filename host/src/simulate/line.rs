//! A sensor that speaks one line at a time: what the drivers of `channels/line` and those of `bulkhead new` talk to.
//!
//! Lines of ASCII that end in CR LF, at most 80 bytes with it; each is answered by one: `READ temp` by `OK 21.5`, `SET limit 40` by
//! `OK`, and what it cannot do by `ERR CODE WORDS`. Written from that description, not from a driver.
//!
//! What can go wrong: a line that is too long ends its connection, since nobody knows where the next one begins. Connections
//! over the limit are closed at once.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::modbus::Error;

/// The longest line, with its CR LF, in bytes.
const MAX_LINE: u64 = 80;

/// Connections at once.
const CONNECTIONS: usize = 64;

/// What can be set, from when, and the range of it.
const SETTABLE: [(&str, f64, std::ops::RangeInclusive<f64>); 2] =
    [("limit", 30.0, -40.0..=120.0), ("offset", 0.0, -5.0..=5.0)];

/// The options of `bulkhead simulate line`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
  temp     degrees, between 20 and 23, once around in a minute
  uptime   whole seconds since it started
  alarm    1 while temp is above limit, else 0
  limit    may be set, from -40 to 120
  offset   may be set, from -5 to 5; it is added to temp
  broken   a probe that has failed: ERR 4")]
pub struct Args {
    /// Address to listen on; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5025")]
    listen: SocketAddr,
}

/// Listens, prints the address on standard output, and serves until SIGINT or SIGTERM.
///
/// # Errors
///
/// See [`Error`].
pub async fn run(args: Args) -> Result<(), Error> {
    let system = |doing| move |source| Error::System { doing, source };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("wait for SIGINT"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(system("wait for SIGTERM"))?;
    let listen_error = |source| Error::Listen {
        address: args.listen,
        source,
    };
    let listener = TcpListener::bind(args.listen).await.map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {address}")
        .and_then(|()| out.flush())
        .map_err(system("write to standard output"))?;

    let sensor = Arc::new(Sensor::new());
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, most likely: others may close theirs soon.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        if let Ok(place) = places.clone().try_acquire_owned() {
            let sensor = sensor.clone();
            tasks.spawn(async move {
                if let Err(error) = serve(stream, &sensor).await {
                    tracing::debug!(%peer, %error, "a connection broke");
                }
                drop(place);
            });
        }
    }
}

async fn serve(stream: TcpStream, sensor: &Sensor) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        (&mut stream)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .await?;
        if line.is_empty() {
            return Ok(());
        }
        let whole = line.ends_with(b"\r\n");
        let answer = match std::str::from_utf8(&line) {
            Ok(text) if whole => sensor.answer(text.trim_end_matches("\r\n")),
            _ => "ERR 1 a line ends in CR LF within 80 bytes".to_owned(),
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        if !whole {
            return Ok(());
        }
    }
}

/// The sensor behind all connections.
struct Sensor {
    started: Instant,
    set: Mutex<BTreeMap<&'static str, f64>>,
}

impl Sensor {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            set: Mutex::new(SETTABLE.map(|(name, value, _)| (name, value)).into()),
        }
    }

    fn answer(&self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["READ", name] => self.read(name),
            ["SET", name, value] => self.set(name, value),
            _ => "ERR 1 say READ NAME or SET NAME VALUE".to_owned(),
        }
    }

    fn read(&self, name: &str) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let temp = 21.5 + 1.5 * (seconds * std::f64::consts::TAU / 60.0).sin() + set["offset"];
        match name {
            "temp" => format!("OK {temp:.2}"),
            "uptime" => format!("OK {seconds:.0}"),
            "alarm" => format!("OK {}", u8::from(temp > set["limit"])),
            "broken" => "ERR 4 probe broken".to_owned(),
            _ => set.get(name).map_or_else(
                || "ERR 2 no such name".to_owned(),
                |value| format!("OK {value}"),
            ),
        }
    }

    fn set(&self, name: &str, value: &str) -> String {
        let known = SETTABLE.iter().find(|(settable, ..)| *settable == name);
        let Some((name, _, range)) = known else {
            return match self.read(name).strip_prefix("ERR 2") {
                Some(_) => "ERR 2 no such name".to_owned(),
                None => format!("ERR 3 {name} is measured, not set"),
            };
        };
        match value.parse() {
            Ok(value) if range.contains(&value) => {
                let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
                set.insert(name, value);
                "OK".to_owned()
            }
            Ok(_) => format!("ERR 5 {} to {}", range.start(), range.end()),
            Err(_) => "ERR 1 the value is no number".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_answered_by_one() {
        let sensor = Sensor::new();
        let check = |line: &str, answer: &str| assert_eq!(sensor.answer(line), answer, "{line}");
        check("READ limit", "OK 30");
        check("SET limit 40.5", "OK");
        check("READ limit", "OK 40.5");
        check("SET limit 121", "ERR 5 -40 to 120");
        check("SET limit NaN", "ERR 5 -40 to 120");
        check("SET limit high", "ERR 1 the value is no number");
        check("SET temp 1", "ERR 3 temp is measured, not set");
        check("SET nobody 1", "ERR 2 no such name");
        check("READ nobody", "ERR 2 no such name");
        check("READ broken", "ERR 4 probe broken");
        check("READ alarm", "OK 0");
        check("SET limit 10", "OK");
        check("READ alarm", "OK 1");
        for line in [
            "",
            "READ",
            "READ a b",
            "read temp",
            "SET limit",
            "SET a b c",
        ] {
            check(line, "ERR 1 say READ NAME or SET NAME VALUE");
        }
        let temp = sensor.answer("READ temp");
        let degrees: f64 = temp.strip_prefix("OK ").unwrap().parse().unwrap();
        assert!((19.9..23.1).contains(&degrees), "{temp}");
    }
}
