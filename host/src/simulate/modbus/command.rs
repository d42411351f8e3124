//! `bulkhead simulate modbus`.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Counts, Error, Fault, Framing, Options, Simulator, UnitList, control};

/// The options of `bulkhead simulate modbus`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address to listen on; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5020")]
    listen: SocketAddr,
    /// How requests and answers travel
    #[arg(long, value_enum, default_value_t)]
    framing: Framing,
    /// Units that answer
    #[arg(long, value_name = "LIST", default_value = "1-4")]
    units: UnitList,
    /// Units that never answer, though their requests are counted
    #[arg(long, value_name = "LIST")]
    dead_units: Option<UnitList>,
    /// Holding and input registers per unit
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    registers: u32,
    /// Coils and discrete inputs per unit
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    bits: u32,
    /// One turn of the moving values
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    period: Duration,
    /// Let input registers from 200 on count up, by one each 10 ms
    #[arg(long)]
    moving_inputs: bool,
    /// Spoil answers, such as `byte-count:-1:every=3:unit=2`; may be given more than once
    #[arg(long = "fault", value_name = "KIND[:ARGUMENT][:every=N][:unit=U][:function=F][:times=N]", long_help = LONG_FAULT)]
    faults: Vec<Fault>,
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 1_024)]
    max_connections: usize,
    /// Print the counts of requests once a second, not only at the end
    #[arg(long)]
    count_polls: bool,
    /// Answer questions on standard input, one line each, and end when it closes
    #[arg(long, long_help = LONG_CONTROL)]
    control: bool,
    /// Seed of the noise register and of random bytes
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

const LONG_FAULT: &str = "\
Spoil answers; may be given more than once, and the first fault that strikes wins

  truncate            the last bytes are missing, though the header promises them
  short               the last bytes are missing, and the header agrees
  byte-count[:N]      the byte count is off by N (1)
  oversize            600 bytes, more than a frame may have
  wrong-transaction   the transaction id of another request (not with RTU)
  wrong-protocol      a protocol id other than 0 (not with RTU)
  wrong-checksum      a checksum that does not agree (only with RTU)
  wrong-unit          the id of another unit
  wrong-function      the function code of another request
  random              1 to 260 random bytes
  one-byte[:MS]       the right answer one byte at a time, with such a pause (0)
  twice               the right answer, twice
  cut                 half of the answer, then the connection closes
  silence             no answer
  close               the connection closes instead of an answer
  exception:CODE      an exception; the request is not carried out
  delay:MS            the right answer, late

Each can be narrowed: every=N (each N-th matching request), unit=U, function=F, times=N (no more than N).";

const LONG_CONTROL: &str = "\
Answer questions on standard input, one line each, and end when it closes

  counts                        UNIT:FUNCTION=REQUESTS for each pair that was asked for
  stats                         all counts as JSON: requests, faults, connections, and the longest gap of each unit
  holding UNIT ADDRESS COUNT    registers from 200 on as the device holds them, in decimal
  coils UNIT ADDRESS COUNT      coils from 200 on, 0 or 1
  faults [FAULT ...]            from now on these faults, or none; answered by `ok`

A question that cannot be answered is answered by a line that starts with `error`.";

/// Questions that wait for their answer; whoever asks waits for it before the next.
const QUESTIONS: usize = 16;

impl Args {
    fn options(&self) -> Options {
        Options {
            framing: self.framing,
            units: self.units,
            dead_units: self.dead_units.unwrap_or_default(),
            registers: self.registers,
            bits: self.bits,
            period: self.period,
            moving_inputs: self.moving_inputs,
            faults: self.faults.clone(),
            max_connections: self.max_connections,
            seed: self.seed,
        }
    }
}

/// Listens, prints the address on standard output, and serves until SIGINT or SIGTERM.
///
/// # Errors
///
/// See [`Error`].
pub async fn run(args: Args) -> Result<(), Error> {
    let simulator = Simulator::new(args.options())?;
    let system = |doing| move |source| Error::System { doing, source };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("wait for SIGINT"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(system("wait for SIGTERM"))?;
    let listen_error = |source| Error::Listen {
        address: args.listen,
        source,
    };
    let listener = TcpListener::bind(args.listen).await.map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    print(&if args.json {
        format!(r#"{{"listening":"{address}"}}"#)
    } else {
        format!("listening on {address}")
    })?;

    let cancel = CancellationToken::new();
    let serving = simulator.serve(listener, cancel.clone());
    tokio::pin!(serving);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    let (ask, mut questions) = tokio::sync::mpsc::channel(QUESTIONS);
    if args.control {
        // Nobody can interrupt a read of standard input: this thread ends with the process.
        std::thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                if ask.blocking_send(line).is_err() {
                    break;
                }
            }
        });
    }
    loop {
        tokio::select! {
            () = &mut serving => break,
            _ = interrupt.recv() => cancel.cancel(),
            _ = terminate.recv() => cancel.cancel(),
            question = questions.recv(), if args.control && !cancel.is_cancelled() => match question {
                Some(question) => print(&control::answer(&simulator, &question))?,
                None => cancel.cancel(),
            },
            _ = second.tick(), if args.count_polls => print(&line(&simulator.counts(), args.json))?,
        }
    }
    print(&line(&simulator.counts(), args.json))
}

fn print(line: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|source| Error::System {
            doing: "write to standard output",
            source,
        })
}

fn line(counts: &Counts, json: bool) -> String {
    if json {
        return serde_json::to_string(counts).expect("counts hold numbers only");
    }
    let units: Vec<String> = counts
        .units
        .iter()
        .map(|(unit, counts)| format!("unit {unit}: {}", counts.requests))
        .collect();
    format!(
        "{} requests ({}), {} exceptions, {} faults, {} of {} connections open",
        counts.requests,
        if units.is_empty() {
            "no unit".to_owned()
        } else {
            units.join(", ")
        },
        counts.exceptions,
        counts.faults,
        counts.connections_open,
        counts.connections,
    )
}
