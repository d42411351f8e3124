//! Ten thousand traps in a row on one channel: memory, maps and file descriptors stay flat.

use std::fs;

use anyhow::{Context, Result};

use crate::plant::{Driver, NUMBER, Plant, culprit};

/// Lives that one start spends: all attempts of the policy, and the first.
const LIVES: u64 = 1_001;
/// Before the first look; until then the backlog of the stream is full too, which holds 16,384 messages, a few of each life.
const WARM_UP: u64 = 6;
/// Starts that must leave no trace.
const STARTS: u64 = 10;

/// What a process holds.
#[derive(Debug)]
struct Held {
    rss_kib: u64,
    maps: usize,
    files: usize,
    threads: usize,
}

impl Held {
    fn by(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss = rss.and_then(|line| line.split_whitespace().next());
        Ok(Self {
            rss_kib: rss.context("no VmRSS")?.parse()?,
            maps: fs::read_to_string(format!("/proc/{pid}/maps"))?
                .lines()
                .count(),
            files: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            threads: fs::read_dir(format!("/proc/{pid}/task"))?.count(),
        })
    }
}

#[test]
fn ten_thousand_traps_leave_no_trace() -> Result<()> {
    let id = "traps-on-and-on";
    let mut traps = culprit(id, Driver::Guest("traps"));
    traps.keys = r#"settings = { when = "start" }"#.into();
    traps.tables = NUMBER;
    traps.restart = r#"max_attempts = 1000, delay = "0s", jitter = 0"#;
    let plant = Plant::start(&[traps])?;
    let path = format!("/api/v1/channels/{id}");
    let mut lives = 0;
    let mut start = || {
        lives += LIVES;
        plant.let_loose(id)?;
        plant.host.get_until(&path, |channel| {
            let faults = channel["counters"]["faults"].as_u64();
            (channel["state"] == "broken" && faults == Some(lives)).then_some(())
        })
    };
    for _ in 0..WARM_UP {
        start()?;
    }
    let pid = plant.host.process().id();
    let before = Held::by(pid)?;
    for _ in 0..STARTS {
        start()?;
    }
    let after = Held::by(pid)?;
    println!("{} traps: {before:?}, then {after:?}", STARTS * LIVES);
    // A thread of the runtime's blocking pool may have come or gone, with its stack and its guard.
    assert!(after.threads <= before.threads + 2, "{before:?} {after:?}");
    assert!(after.maps <= before.maps + 16, "{before:?} {after:?}");
    assert!(after.files <= before.files + 1, "{before:?} {after:?}");
    assert!(
        after.rss_kib <= before.rss_kib + 4 * 1024,
        "{before:?} {after:?}"
    );
    let channel = plant.host.get(&path)?.body;
    assert_eq!(channel["last_exit"]["exit"], "trapped", "{channel:#}");
    assert_eq!(
        channel["last_exit"]["incarnation"], channel["incarnation"],
        "{channel:#}"
    );
    plant.neighbours_go_on()?;
    plant.end()
}
