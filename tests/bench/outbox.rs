//! `bench outbox`: durable samples per second, from the bus to the disk, beside the same bytes put into the same store with nothing
//! around it, in turn.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bulkhead::bus::{Bus, Message};
use bulkhead::clock::Clock;
use bulkhead::config::Overflow;
use bulkhead::event::{Batch, Layout, Quality, Sample, TagNames, Value};
use bulkhead::ids::{ChannelId, InstanceId, TagId};
use bulkhead::outbox::{Bounds, Outbox, Plan};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::host::root;
use crate::report::line;

/// Samples of a batch: the tags of a group.
pub(crate) const GROUP: u64 = 100;
const BATCHES: u64 = 20_000;
const ROUNDS: usize = 3;

/// Measures and prints.
pub(crate) fn run(json: bool) -> Result<()> {
    let folder = root()?.join("target/bench/outbox");
    eprintln!(
        "bench: {BATCHES} batches of {GROUP} samples, {ROUNDS} times, and as many bytes bare"
    );
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        let (took, bytes, commits) = through(&folder.join("ours.redb"))?;
        let bare = bare(&folder.join("raw.redb"), bytes, commits)?;
        let samples = (BATCHES * GROUP) as f64;
        ours.push(samples / took.as_secs_f64());
        raw.push(samples / bare.as_secs_f64());
        eprintln!("bench: {commits} commits, {bytes} bytes: {took:?}, bare {bare:?}");
    }
    std::fs::remove_dir_all(&folder)?;
    let middle = |figures: &mut Vec<f64>| {
        figures.sort_by(f64::total_cmp);
        figures.get(ROUNDS / 2).copied().unwrap_or(f64::NAN)
    };
    let (ours, raw) = (middle(&mut ours), middle(&mut raw));
    if json {
        println!(
            "{}",
            serde_json::json!({
                "bench": "outbox",
                "samples_per_s": ours.round(),
                "raw_store_samples_per_s": raw.round(),
            })
        );
        return Ok(());
    }
    line(
        "durable samples per second",
        ours,
        "/s",
        Some((raw, "bare store")),
        "at least 0.8",
    );
    Ok(())
}

/// From the bus to the disk: how long, how many bytes, how many commits.
fn through(path: &Path) -> Result<(Duration, u64, u64)> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let (bus, tasks, stop) = (Bus::new(), TaskTracker::new(), CancellationToken::new());
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
        let subscription = bus.subscribe(65_536);
        let admit = |batch: &Arc<Batch>| Some(batch.clone());
        let (outbox, _parcels) = Outbox::start(
            plan,
            subscription,
            admit,
            Clock::start(),
            &tasks,
            stop.clone(),
        );
        while !outbox.status().accepting {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let layout = layout()?;
        let instance = Arc::new(InstanceId {
            channel: layout.channel.clone(),
            incarnation: 1,
        });
        let clock = Clock::start();
        let began = tokio::time::Instant::now();
        for number in 0..BATCHES {
            let samples = (0..GROUP).map(|tag| Sample {
                tag: TagId(u32::try_from(tag).unwrap_or(0)),
                value: Some(Value::Uint((number * 7 + tag) & 0xffff)),
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
        }
        while outbox.status().counts.accepted < BATCHES * GROUP {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = began.elapsed();
        let status = outbox.status();
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        anyhow::ensure!(
            status.counts.dropped.iter().sum::<u64>() == 0,
            "samples were dropped"
        );
        Ok((took, status.counts.bytes, status.commits))
    })
}

pub(crate) fn layout() -> Result<Arc<Layout>> {
    let names: Vec<String> = (0..GROUP).map(|tag| format!("register {tag}")).collect();
    let tags = names.iter().map(|name| TagNames {
        name,
        unit: "",
        device: 0,
        group: Some(0),
    });
    Ok(Arc::new(Layout {
        channel: ChannelId::new("bench")?,
        devices: ["plc".into()].into(),
        groups: ["fast".into()].into(),
        tags: tags.collect(),
    }))
}

/// The same bytes in as many commits, a batch at a time, each durable; nothing else.
fn bare(path: &Path, bytes: u64, commits: u64) -> Result<Duration> {
    const TABLE: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("batches");
    let database = redb::Database::create(path)?;
    let size = usize::try_from(bytes / BATCHES)?;
    let mut random = fastrand::Rng::with_seed(1);
    let batch: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(size)
        .collect();
    let each = BATCHES.div_ceil(commits.max(1));
    let began = tokio::time::Instant::now();
    let mut number = 0;
    while number < BATCHES {
        let write = database.begin_write()?;
        {
            let mut table = write.open_table(TABLE)?;
            for _ in 0..each.min(BATCHES - number) {
                number += 1;
                table
                    .insert(number, batch.as_slice())
                    .context("an insert")?;
            }
        }
        write.commit()?;
    }
    Ok(began.elapsed())
}
