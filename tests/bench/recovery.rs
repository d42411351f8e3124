//! `bench recovery`: how long an outbox of many gigabytes takes to open after its writer was killed in the midst of a commit, beside an
//! empty one. Writes as much as it is told to, so it is not among the benches that run where none is named.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulkhead::bus::{Bus, Message};
use bulkhead::clock::Clock;
use bulkhead::config::Overflow;
use bulkhead::event::{Batch, Quality, Sample, Value};
use bulkhead::ids::{InstanceId, TagId};
use bulkhead::outbox::{Bounds, Outbox, OutboxStatus, Parcels, Plan};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::host::root;
use crate::outbox::{GROUP, layout};
use crate::report::line;

/// Batches that are under way at once while it is filled.
const AHEAD: u64 = 4_096;

/// Measures and prints.
pub(crate) fn run(json: bool, gib: u64) -> Result<()> {
    let folder = root()?.join("target/bench/recovery");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("large.redb");
    eprintln!("bench: an outbox of {gib} GiB is filled");
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command
        .arg("fill")
        .arg(&path)
        .arg(gib.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().context("its output")?;
    let mut accepted = 0;
    for line in BufReader::new(out).lines() {
        let line = line?;
        match line.strip_prefix("full ") {
            Some(samples) => {
                accepted = samples.parse::<u64>()?;
                break;
            }
            None => eprintln!("bench: {line}"),
        }
    }
    // It goes on writing, so this comes in the midst of something.
    child.kill()?;
    child.wait()?;
    ensure!(accepted > 0, "it was not filled");
    let file = std::fs::metadata(&path)?.len();
    let runtime = tokio::runtime::Runtime::new()?;
    let (large, held) = runtime.block_on(open(&path))?;
    let (empty, _) = runtime.block_on(open(&folder.join("empty.redb")))?;
    std::fs::remove_dir_all(&folder)?;
    ensure!(
        held.counts.samples >= accepted,
        "{} samples were accepted, and {} are there",
        accepted,
        held.counts.samples
    );
    let (large, empty) = (large.as_secs_f64() * 1e3, empty.as_secs_f64() * 1e3);
    if json {
        println!(
            "{}",
            serde_json::json!({
                "bench": "recovery",
                "file_bytes": file,
                "samples": held.counts.samples,
                "open_ms": (large * 10.0).round() / 10.0,
                "open_empty_ms": (empty * 10.0).round() / 10.0,
            })
        );
        return Ok(());
    }
    line("file", file as f64 / (1 << 30) as f64, "GiB", None, "none");
    line(
        "samples in it",
        held.counts.samples as f64,
        "",
        None,
        "none",
    );
    line(
        "until the first can be read",
        large,
        "ms",
        Some((empty, "an empty one accepts")),
        "none",
    );
    Ok(())
}

/// Opens it; until it accepts, and what is in it can be read.
async fn open(path: &Path) -> Result<(Duration, OutboxStatus)> {
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let began = Instant::now();
    let (outbox, _parcels) = start(path, &Bus::new(), &tasks, &stop);
    while !outbox.status().accepting {
        sleep(Duration::from_micros(200)).await;
    }
    outbox.peek(0, 1)?;
    let took = began.elapsed();
    let status = outbox.status();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    Ok((took, status))
}

fn start(
    path: &Path,
    bus: &Bus,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> (Outbox, Parcels) {
    let plan = Plan {
        name: "bench".into(),
        path: path.to_owned(),
        bounds: Bounds {
            bytes: 1 << 40,
            age: Duration::from_secs(86_400),
            overflow: Overflow::Block,
        },
        commit: Duration::from_millis(5),
    };
    let admit = |batch: &Arc<Batch>| Some(batch.clone());
    let subscription = bus.subscribe(65_536);
    Outbox::start(
        plan,
        subscription,
        admit,
        Clock::start(),
        tasks,
        stop.clone(),
    )
}

/// For `run`: fills an outbox, says so, and goes on until it is killed.
pub(crate) fn fill(path: &Path, gib: u64) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let (bus, tasks, stop) = (Bus::new(), TaskTracker::new(), CancellationToken::new());
        let (outbox, _parcels) = start(path, &bus, &tasks, &stop);
        while !outbox.status().accepting {
            sleep(Duration::from_millis(1)).await;
        }
        let layout = layout()?;
        let instance = Arc::new(InstanceId {
            channel: layout.channel.clone(),
            incarnation: 1,
        });
        let (clock, mut random) = (Clock::start(), fastrand::Rng::with_seed(1));
        let (mut said, mut is_full) = (0, false);
        for number in 0.. {
            let samples = (0..GROUP).map(|tag| Sample {
                tag: TagId(u32::try_from(tag).unwrap_or(0)),
                // What fills the file.
                value: Some(Value::Uint(random.u64(..))),
                quality: Quality::Good,
                source_time: None,
            });
            bus.publish(&Message::Samples(Arc::new(Batch {
                instance: instance.clone(),
                layout: layout.clone(),
                epoch: 1,
                sequence: 1 + number * GROUP,
                offsets: None,
                server_time: clock.wall(),
                samples: samples.collect(),
            })));
            if number % AHEAD != 0 {
                continue;
            }
            while outbox.status().counts.accepted + AHEAD * GROUP < number * GROUP {
                sleep(Duration::from_millis(1)).await;
            }
            let counts = outbox.status().counts;
            if counts.bytes >> 30 > said {
                said = counts.bytes >> 30;
                println!("{said} of {gib} GiB");
            }
            if said >= gib && !is_full {
                is_full = true;
                println!("full {}", counts.accepted);
            }
        }
        Ok(())
    })
}
