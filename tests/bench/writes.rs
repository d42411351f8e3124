//! `bench writes`: how long a write takes while its device is polled as fast as it answers, beside a write of a bare client on a
//! connection of its own, in turn with it. The device takes a few milliseconds for each answer, as devices do.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead::event::Value;
use bulkhead::ids::TagId;
use bulkhead::supervisor::Writer;
use bulkhead_tests::Peer;
use tokio::time::Instant;

use crate::host::{BenchHost, driver};
use crate::report::{line, quantile};

const WRITES: u16 = 500;
/// What the device takes for an answer, in milliseconds.
const ANSWER_MS: u32 = 5;
/// Polled registers, each too far from the next for one request.
const POLLED: u32 = 50;
/// Where is written.
const REGISTER: u16 = 250;

/// Measures and prints.
pub(crate) fn run(json: bool) -> Result<()> {
    let mut peer = Peer::simulated(&[])?;
    peer.set_faults(&[&format!("delay:{ANSWER_MS}")])?;
    let mut polled = String::new();
    for tag in 0..POLLED {
        write!(
            polled,
            "{{ name = \"p{tag}\", address = \"holding:{}\", type = \"uint16\" }},",
            1_000 + 200 * tag
        )?;
    }
    let text = format!(
        "[[channel]]\nid = \"bench\"\ndriver = \"{}\"\nlinks.plc = {{ connect = \"tcp://{}\" }}\nsettings = {{ unit_id = 1 }}\n\
         tag = [{{ name = \"written\", address = \"holding:{REGISTER}\", type = \"uint16\", access = \"rw\" }}]\n\
         [[channel.group]]\nname = \"busy\"\nperiod = \"10ms\"\nstale_after = \"never\"\ntags = [{polled}]\n",
        driver("modbus")?.display(),
        peer.address()
    );
    eprintln!("bench: {WRITES} writes under full load, and as many bare ones");
    let runtime = tokio::runtime::Runtime::new()?;
    let (mut ours, mut bare) = runtime.block_on(measure(&text, &peer.address()))?;
    ensure!(
        peer.holding(1, REGISTER, 1)? == [2 * WRITES - 1],
        "the device holds another value than was written last"
    );
    let figures: Vec<f64> = [0.5, 0.99]
        .into_iter()
        .flat_map(|at| [quantile(&mut ours, at), quantile(&mut bare, at)])
        .collect();
    if json {
        let rounded = |figure: f64| (figure * 100.0).round() / 100.0;
        println!(
            "{}",
            serde_json::json!({
                "bench": "writes",
                "write_p50_ms": rounded(figures[0]),
                "bare_p50_ms": rounded(figures[1]),
                "write_p99_ms": rounded(figures[2]),
                "bare_p99_ms": rounded(figures[3]),
            })
        );
        return Ok(());
    }
    line(
        "a write under full load, p50",
        figures[0],
        "ms",
        Some((figures[1], "bare write")),
        "at most 2",
    );
    line(
        "a write under full load, p99",
        figures[2],
        "ms",
        Some((figures[3], "bare write")),
        "none",
    );
    Ok(())
}

/// Milliseconds of each write, through the host and bare, in turn.
async fn measure(text: &str, target: &str) -> Result<(Vec<f64>, Vec<f64>)> {
    let host = BenchHost::start(text).await?;
    let channel = host.channel()?;
    let written = channel.tag_id("written").context("the tag")?;
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for number in 0..WRITES {
        theirs.push(bare(&mut stream, 2 * number)?);
        ours.push(through(&channel, written, 2 * number + 1).await?);
    }
    let skipped = channel.status().counters.polls_skipped;
    ensure!(skipped > 0, "the load was not full");
    host.stop().await;
    Ok((ours, theirs))
}

async fn through(
    channel: &bulkhead::supervisor::ChannelHandle,
    tag: TagId,
    value: u16,
) -> Result<f64> {
    const WRITER: Writer<'static> = Writer {
        via: "bench",
        by: None,
    };
    let began = Instant::now();
    let value = Value::Uint(value.into());
    let patience = Duration::from_secs(60);
    channel.write(tag, value, false, patience, WRITER).await?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

fn bare(stream: &mut TcpStream, value: u16) -> Result<f64> {
    let ([high, low], [up, down]) = (REGISTER.to_be_bytes(), value.to_be_bytes());
    let request = [0, 1, 0, 0, 0, 6, 1, 6, high, low, up, down];
    let began = Instant::now();
    stream.write_all(&request)?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    ensure!(answer == request, "{answer:?}");
    Ok(began.elapsed().as_secs_f64() * 1e3)
}
