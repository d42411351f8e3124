//! `bench density`: what five thousand channels of `signal` cost, beside fifty: to start, in memory, in memory maps, and in each
//! turn, over a bare round-robin across as many stores in the same run.
//!
//! Each number of channels has a process of its own, with one thread for both, so that the host's turn and the bare one are
//! measured alike: what an event costs a processor, from the door to the answer.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bulkhead::channel::{Answer, Ask};
use bulkhead::config::CompileLimits;
use bulkhead::engine::{Compiler, Engine, EngineOptions, Pool};
use bulkhead::event::Value;
use bulkhead::ids::TagId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::bare::Bare;
use crate::host::{BenchHost, driver, root};
use crate::idle::rollup_kib;
use crate::report::{each_ns, line, quantile};
use crate::turn::{begun, tag, write};

/// The density that is measured, and the one that it is compared with.
const MANY: usize = 5_000;
const FEW: usize = 50;
/// Events of one round, and rounds. The median round counts.
const EVENTS: usize = 10_000;
const ROUNDS: usize = 15;

/// What one process measures.
#[derive(Debug, Serialize, Deserialize)]
struct Figures {
    start_s: f64,
    held_kib: f64,
    maps: usize,
    event_ns: f64,
    bare_ns: f64,
}

/// Measures and prints.
pub(crate) fn run(json: bool) -> Result<()> {
    // The first start compiles; that is no matter of density.
    measure(1)?;
    let few = measure(FEW)?;
    let many = measure(MANY)?;
    let channel_kib = (many.held_kib - few.held_kib) / (MANY - FEW) as f64;
    let ratios = (few.event_ns / few.bare_ns, many.event_ns / many.bare_ns);
    if json {
        for (channels, figures) in [(FEW, &few), (MANY, &many)] {
            let rounded = |figure: f64| (figure * 10.0).round() / 10.0;
            println!(
                "{}",
                serde_json::json!({
                    "bench": "density",
                    "channels": channels,
                    "start_s": (figures.start_s * 1e3).round() / 1e3,
                    "channel_kib": rounded(channel_kib),
                    "event_p50_ns": rounded(figures.event_ns),
                    "event_bare_p50_ns": rounded(figures.bare_ns),
                    "maps": figures.maps,
                })
            );
        }
        return Ok(());
    }
    for (channels, figures) in [(FEW, &few), (MANY, &many)] {
        let bare = Some((figures.bare_ns, "bare round-robin"));
        println!("{channels} channels");
        line("  start", figures.start_s, "s", None, "none");
        line(
            "  memory maps",
            figures.maps as f64,
            "",
            None,
            "6 for each channel",
        );
        line("  one event", figures.event_ns, "ns", bare, "none");
    }
    line("each channel", channel_kib, "KiB", None, "at most 64");
    let aim = "at most 1.3";
    line(
        "ratio at 5,000 over ratio at 50",
        ratios.1 / ratios.0,
        "",
        None,
        aim,
    );
    Ok(())
}

fn measure(channels: usize) -> Result<Figures> {
    eprintln!("bench: {channels} channels");
    let output = std::process::Command::new(std::env::current_exe()?)
        .args(["populated", &channels.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("the host of {channels} channels failed");
    }
    serde_json::from_slice(&output.stdout).context("it prints its figures")
}

/// Measures so many channels, in a process of their own.
pub(crate) fn populated(channels: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let figures = runtime.block_on(figures(channels))?;
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

async fn figures(channels: usize) -> Result<Figures> {
    let driver = driver("signal")?;
    let mut text = String::new();
    for number in 0..channels {
        writeln!(
            text,
            "[[channel]]\nid = \"c{number}\"\ndriver = \"{}\"\ntag = [{{ name = \"t\", address = \"hold(0)\", type = \"float64\", access = \"rw\" }}]",
            driver.display()
        )?;
    }
    let sweeps = (EVENTS / channels).max(1);
    let began = Instant::now();
    let host = BenchHost::start(&text).await?;
    let start_s = began.elapsed().as_secs_f64();
    let maps = std::fs::read_to_string("/proc/self/maps")?.lines().count();
    let held_kib = rollup_kib("Pss:")? as f64;
    let mut event = Vec::new();
    for _ in 0..ROUNDS {
        event.push(through_the_host(&host, sweeps).await?);
    }
    host.stop().await;

    let engine = Engine::new(&EngineOptions {
        pool: Pool::even(u32::try_from(channels)?, 64 << 20),
        cache_dir: root()?.join("target/bench/data/cache"),
        compiler: Compiler::InProcess,
        compile: CompileLimits::default(),
    })?;
    let signal = Bare::load(&engine, &driver)?;
    let tags = [tag(0, "hold(0)")];
    let mut stores = Vec::with_capacity(channels);
    for _ in 0..channels {
        stores.push(begun(&signal, &tags).await?);
    }
    let mut bare = Vec::new();
    let mut number = 0;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..sweeps {
            for store in &mut stores {
                number += 1;
                if store.turn(number, &[write(number)]).await?.is_empty() {
                    bail!("a bare driver did not answer");
                }
            }
        }
        bare.push(each_ns(began.elapsed(), sweeps * channels));
    }
    Ok(Figures {
        start_s,
        held_kib,
        maps,
        event_ns: quantile(&mut event, 0.5),
        bare_ns: quantile(&mut bare, 0.5),
    })
}

/// Nanoseconds for each of so many writes to every channel in turn.
async fn through_the_host(host: &BenchHost, sweeps: usize) -> Result<f64> {
    let channels = host.host.channels();
    let mut answers = Vec::with_capacity(channels.len());
    let began = Instant::now();
    for sweep in 0..sweeps {
        for channel in &*channels {
            let ask = Ask::Write {
                tag: TagId(0),
                value: Value::Float(sweep as f64),
                read_back: false,
            };
            answers.push(channel.submit(ask, Duration::from_secs(60))?);
        }
        for answer in answers.drain(..) {
            match answer.await? {
                Ok(Answer::Write(_)) => {}
                other => bail!("the driver answered {other:?}"),
            }
        }
    }
    Ok(each_ns(began.elapsed(), sweeps * channels.len()))
}
