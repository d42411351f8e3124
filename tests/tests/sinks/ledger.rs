//! The ledger: what was accepted is at the sink, once after duplicates are removed, in order, whatever happens in between.
//!
//! Devices that count: each sample's value is more than the one before (by one, but where polls are skipped), so what is out of place shows
//! twice, in the numbers that the host gives and in the values themselves. What was accepted is what the outbox says of each channel before the host is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulkhead_tests::{Bulkhead, Folder, rounds};
use serde_json::{Value, json};

/// Three channels that count, each at its own pace.
pub(crate) fn channels() -> String {
    let one = |(name, period): (&str, u64)| {
        format!(
            "[[channel]]\nid = \"{name}\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
             [[channel.group]]\nname = \"fast\"\nperiod = \"{period}ms\"\n\
             tags = [{{ name = \"count\", address = \"counter\", type = \"uint64\" }}]\n"
        )
    };
    [("a", 10), ("b", 20), ("c", 50)]
        .into_iter()
        .map(one)
        .collect()
}

/// A file behind an outbox.
pub(crate) const FILE: &str =
    "[[sink]]\nkind = \"file\"\nname = \"archive\"\npath = \"samples.jsonl\"\noutbox = true\n";

/// Epoch and number of a sample of a channel.
pub(crate) type Number = (u64, u64);

/// What a sink has, of each channel: value and quality by epoch and number, in the order in which they first came.
#[derive(Default)]
pub(crate) struct Ledger {
    channels: BTreeMap<String, BTreeMap<Number, Value>>,
    last: BTreeMap<String, Number>,
    pub(crate) duplicates: u64,
    /// Samples that gaps have announced, by reason.
    pub(crate) gaps: BTreeMap<String, u64>,
}

impl Ledger {
    /// Takes in one sample; a duplicate must be the same as the first.
    pub(crate) fn take(&mut self, sample: &Value) -> Result<()> {
        if let Some(samples) = sample.get("gap") {
            ensure!(samples.is_u64(), "{sample}");
            let reason = sample["reason"].as_str().context("a reason")?;
            *self.gaps.entry(reason.to_owned()).or_default() +=
                sample["samples"].as_u64().context("samples")?;
            return Ok(());
        }
        let number = |key: &str| {
            sample[key]
                .as_u64()
                .with_context(|| format!("{key}: {sample}"))
        };
        let channel = sample["channel"].as_str().context("a channel")?;
        let at = (number("epoch")?, number("sequence")?);
        let known = self.channels.entry(channel.to_owned()).or_default();
        let value = json!([sample["value"], sample["quality"], sample["server_time_ns"]]);
        if let Some(before) = known.get(&at) {
            self.duplicates += 1;
            assert_eq!(
                *before, value,
                "{channel} {at:?} came twice, and not the same"
            );
            return Ok(());
        }
        let last = self.last.entry(channel.to_owned()).or_default();
        assert!(*last < at, "{channel}: {at:?} came after {last:?}");
        *last = at;
        known.insert(at, value);
        Ok(())
    }

    /// All lines of a file, and of those that were moved aside before it.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut ledger = Self::default();
        let text = fs::read_to_string(path)?;
        ensure!(
            text.ends_with('\n') || text.is_empty(),
            "a torn line at the end"
        );
        for line in text.lines() {
            ledger.take(&serde_json::from_str(line).with_context(|| line.to_owned())?)?;
        }
        Ok(ledger)
    }

    /// Whether nothing is missing up to each channel's mark: within each epoch the numbers begin with 1 and have no hole, and good
    /// values go up with them: by one, but where a machine stalls and polls are skipped.
    pub(crate) fn check(&self, accepted: &BTreeMap<String, Number>) {
        for (channel, mark) in accepted {
            let known = self
                .channels
                .get(channel)
                .unwrap_or_else(|| panic!("nothing of {channel}"));
            let last = self.last[channel];
            assert!(
                *mark <= last,
                "{channel}: {mark:?} was accepted, and {last:?} is the last at the sink"
            );
            let epochs: BTreeSet<u64> = known.keys().map(|(epoch, _)| *epoch).collect();
            for epoch in epochs {
                let of_epoch = known.range((epoch, 0)..=(epoch, u64::MAX));
                let mut value = None;
                for (expected, (&(_, sequence), sample)) in (1..).zip(of_epoch) {
                    assert_eq!(sequence, expected, "{channel}, epoch {epoch}: a hole");
                    if sample[1] == "good" {
                        let now = sample[0].as_u64().expect("a count");
                        assert!(
                            value.is_none_or(|before| before < now),
                            "{channel} {epoch}/{sequence}: {value:?}, {now}"
                        );
                        value = Some(now);
                    }
                }
            }
        }
    }

    pub(crate) fn has(&self, channel: &str, number: Number) -> bool {
        let known = self.channels.get(channel);
        known.is_some_and(|known| known.contains_key(&number))
    }

    pub(crate) fn samples(&self) -> usize {
        self.channels.values().map(BTreeMap::len).sum()
    }
}

/// What an outbox says it has accepted of each channel.
pub(crate) fn accepted(host: &Bulkhead, sink: &str) -> Result<BTreeMap<String, Number>> {
    let shown = host.get(&format!("/api/v1/outbox/{sink}"))?.body;
    let channels = shown["channels"]
        .as_array()
        .with_context(|| format!("{shown:#}"))?;
    channels
        .iter()
        .map(|mark| {
            let number = |key: &str| mark[key].as_u64().with_context(|| format!("{mark}"));
            let name = mark["channel"].as_str().context("a channel")?.to_owned();
            Ok((
                name,
                (number("accepted_epoch")?, number("accepted_sequence")?),
            ))
        })
        .collect()
}

/// Waits until so many samples more have been accepted.
pub(crate) fn wait_for_accepted(host: &Bulkhead, sink: &str, more: u64) -> Result<()> {
    let path = format!("/api/v1/outbox/{sink}");
    let before = host.get(&path)?.body["accepted_samples"]
        .as_u64()
        .unwrap_or(0);
    host.get_until(&path, |shown| {
        (shown["accepted_samples"].as_u64()? >= before + more).then_some(())
    })
}

#[test]
fn what_was_accepted_is_in_the_file_however_often_the_host_is_killed() -> Result<()> {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let config = channels() + FILE;
    let mut folder = Folder::new()?;
    let mut promised = BTreeMap::new();
    let rounds = rounds(20, 200);
    for round in 0..rounds {
        let host = Bulkhead::start_in(folder, &config, &[])?;
        wait_for_accepted(&host, "archive", random.u64(1..150))?;
        let now = accepted(&host, "archive")?;
        for (channel, mark) in &promised {
            assert!(
                now.get(channel) >= Some(mark),
                "round {round}: {channel} went back to {:?}",
                now.get(channel)
            );
        }
        promised = now;
        folder = host.kill()?;
    }
    let host = Bulkhead::start_in(folder, &config, &[])?;
    wait_for_accepted(&host, "archive", 30)?;
    let promised = accepted(&host, "archive")?;
    assert_eq!(promised.len(), 3);
    let epochs: BTreeSet<u64> = promised.values().map(|(epoch, _)| *epoch).collect();
    assert_eq!(
        epochs,
        BTreeSet::from([rounds + 1]),
        "each start raised the epoch by one"
    );
    let folder = host.stop_gently()?;
    let ledger = Ledger::read(&folder.path().join("samples.jsonl"))?;
    assert!(ledger.gaps.is_empty(), "{:?}", ledger.gaps);
    ledger.check(&promised);
    eprintln!(
        "{} samples, {} of them twice",
        ledger.samples(),
        ledger.duplicates
    );
    Ok(())
}

/// A file system in memory, mounted over a folder; gone with its value.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: &Path, bytes: u64) -> Result<Self> {
        fs::create_dir_all(path)?;
        let mut mount = std::process::Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(path);
        let status = mount.status().context("cannot run mount")?;
        ensure!(
            status.success(),
            "a tmpfs cannot be mounted; the tests must run as root"
        );
        Ok(Self(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        std::process::Command::new("umount")
            .args(["-l"])
            .arg(&self.0)
            .status()
            .ok();
    }
}

#[test]
fn a_full_disk_stops_what_is_accepted_says_so_and_goes_on_when_there_is_room() -> Result<()> {
    let folder = Folder::new()?;
    let disk = SmallDisk::mount(&folder.path().join("data/outbox"), 24 << 20)?;
    let ballast = disk.0.join("ballast");
    // Nobody takes samples for now, and there are many: 500 more each 10 ms. A short queue, so that what is not accepted is missed soon.
    let tags: String = (0..500)
        .map(|at| format!("{{ name = \"t{at}\", address = \"counter\", type = \"uint64\" }},\n"))
        .collect();
    let many = format!(
        "[[channel]]\nid = \"many\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
         [[channel.group]]\nname = \"fast\"\nperiod = \"10ms\"\ntags = [\n{tags}]\n"
    );
    let sink = FILE.replace("samples.jsonl", "later/samples.jsonl");
    let config = format!("{}{many}{sink}queue = 64\n", channels());
    let host = Bulkhead::start_in(folder, &config, &[])?;
    wait_for_accepted(&host, "archive", 50)?;
    // Somebody fills the disk.
    let written = fs::write(&ballast, vec![0x55; 64 << 20]);
    assert!(written.is_err(), "the disk is small");
    let trouble = host.get_until("/api/v1/outbox/archive", |shown| {
        let missed = shown["missed_samples"].as_u64()?;
        (shown["accepting"] == false && missed > 2_000).then(|| shown["trouble"].clone())
    })?;
    let trouble = trouble.as_str().context("it says why")?.to_owned();
    assert!(trouble.contains("make"), "{trouble}");
    // It is alive, and its channels keep their rhythm.
    let samples = |host: &Bulkhead| -> Result<u64> {
        let shown = host.get("/api/v1/channels/a")?.body;
        shown["counters"]["samples"].as_u64().context("a counter")
    };
    let before = samples(&host)?;
    host.get_until("/api/v1/channels/a", |shown| {
        (shown["counters"]["samples"].as_u64()? > before + 50).then_some(())
    })?;
    assert_eq!(host.get("/livez")?.status, 200);
    fs::remove_file(&ballast)?;
    host.get_until("/api/v1/outbox/archive", |shown| {
        (shown["accepting"] == true).then_some(())
    })?;
    wait_for_accepted(&host, "archive", 100)?;
    // Now somebody takes them. What comes meanwhile is stopped, so that there is an end.
    for channel in ["many", "a", "b", "c"] {
        let reply = host.post(&format!("/api/v1/channels/{channel}/stop"), &json!({}))?;
        ensure!(reply.status == 200, "{reply:?}");
    }
    fs::create_dir(host.folder().join("later"))?;
    host.get_until("/api/v1/outbox/archive", |shown| {
        (shown["samples"] == 0 && shown["delivered_samples"].as_u64()? > 0).then_some(())
    })?;
    let shown = host.get("/api/v1/outbox/archive")?.body;
    let missed = shown["missed_samples"].as_u64().context("a number")?;
    let marks = accepted(&host, "archive")?;
    let folder = host.stop_gently()?;
    let ledger = Ledger::read(&folder.path().join("later/samples.jsonl"))?;
    for (channel, mark) in marks {
        assert!(ledger.last[&channel] >= mark, "{channel}");
    }
    // What is missing is what the gaps say, no more and no less.
    let holes: u64 = ledger
        .channels
        .iter()
        .map(|(channel, known)| ledger.last[channel].1 - known.len() as u64)
        .sum();
    assert_eq!(ledger.gaps, BTreeMap::from([("slow".to_owned(), holes)]));
    assert_eq!(holes, missed);
    drop(disk);
    Ok(())
}

#[test]
fn a_dead_sink_delays_no_other_and_its_outbox_keeps_to_its_bound() -> Result<()> {
    // Nobody listens there.
    let port = bulkhead_tests::free_port();
    let dead = format!(
        "[[sink]]\nkind = \"mqtt\"\nname = \"away\"\nurl = \"mqtt://127.0.0.1:{port}\"\n\
         outbox = {{ max_bytes = \"1MiB\", max_age = \"2s\" }}\n"
    );
    let host = Bulkhead::start(&(channels() + FILE + &dead))?;
    // Far more than the one can keep goes through the other.
    host.get_until("/api/v1/outbox/away", |shown| {
        (shown["dropped_samples"]["age"].as_u64()? > 100).then_some(())
    })?;
    let away = host.get_until("/api/v1/outbox/away", |shown| {
        shown["trouble"].is_string().then(|| shown.clone())
    })?;
    // What is too old is looked for every five seconds at the latest.
    assert!(
        away["oldest_ms"].as_u64() <= Some(2_000 + 5_000),
        "{away:#}"
    );
    assert_eq!(away["accepting"], true, "{away:#}");
    let archive = host.get_until("/api/v1/outbox/archive", |shown| {
        (shown["delivered_samples"].as_u64()? > 500).then(|| shown.clone())
    })?;
    assert_eq!(archive["dropped_samples"], json!({}));
    assert_eq!(archive["trouble"], Value::Null);
    let folder = host.stop_gently()?;
    let ledger = Ledger::read(&folder.path().join("samples.jsonl"))?;
    assert!(ledger.gaps.is_empty(), "{:?}", ledger.gaps);
    Ok(())
}

#[test]
fn an_outbox_is_shown_exported_and_purged() -> Result<()> {
    let port = bulkhead_tests::free_port();
    let dead = format!(
        "[[sink]]\nkind = \"mqtt\"\nname = \"away\"\nurl = \"mqtt://127.0.0.1:{port}\"\ntags = [\"a/*\"]\n"
    );
    let host = Bulkhead::start(&(channels() + FILE + &dead))?;
    wait_for_accepted(&host, "away", 200)?;
    let list = host.client(&["outbox", "list"])?;
    assert_eq!(list.code(), Some(0), "{list:?}");
    assert!(
        list.out
            .iter()
            .any(|line| line.contains("away") && line.contains("mqtt")),
        "{list:?}"
    );
    let show = host.client(&["outbox", "show", "away"])?;
    assert!(
        show.out.iter().any(|line| line.starts_with("waiting")),
        "{show:?}"
    );

    // All of it, in order, and it stays where it is.
    let exported = host.client(&["outbox", "export", "away"])?;
    assert_eq!(exported.code(), Some(0), "{exported:?}");
    let mut ledger = Ledger::default();
    for line in &exported.out {
        ledger.take(&serde_json::from_str(line)?)?;
    }
    assert!(ledger.samples() >= 200, "{}", ledger.samples());
    assert_eq!(
        ledger.channels.keys().collect::<Vec<_>>(),
        ["a"],
        "the filter holds"
    );
    let waiting = host.get("/api/v1/outbox/away")?.body["samples"].as_u64();
    assert!(waiting >= Some(ledger.samples() as u64));

    let refused = host.client(&["outbox", "purge", "away"])?;
    assert_eq!(refused.code(), Some(2), "{refused:?}");
    assert!(
        refused.err.iter().any(|line| line.contains("--yes")),
        "{refused:?}"
    );
    let purged = host.client(&["outbox", "purge", "away", "--yes", "--json"])?;
    let purged: Value = serde_json::from_str(&purged.out[0])?;
    assert!(purged["samples"].as_u64() >= Some(1), "{purged}");
    let shown = host.get("/api/v1/outbox/away")?.body;
    assert_eq!(shown["dropped_samples"]["purged"], purged["samples"]);

    for (sink, code) in [("stdout", "no-such-sink"), ("nobody", "no-such-sink")] {
        let reply = host.get(&format!("/api/v1/outbox/{sink}"))?;
        assert_eq!(
            (reply.status, &reply.body["error"]["code"]),
            (404, &json!(code)),
            "{sink}"
        );
    }
    Ok(())
}

#[test]
fn a_wall_clock_that_jumps_both_ways_drops_nothing() -> Result<()> {
    let library = fake_time_library()?;
    let folder = Folder::new()?;
    let stamp = folder.write("clock", "+0\n")?;
    folder.write_config(&(channels() + FILE))?;
    let mut command = std::process::Command::new(bulkhead_tests::paths::bulkhead()?);
    command
        .current_dir(folder.path())
        .args(["run", Folder::CONFIG])
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &stamp)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let running = bulkhead_tests::Running::start(&mut command)?;
    running
        .err()
        .wait_for(0, |line| line.strip_prefix("ready: ").map(drop))?;
    let path = folder.path().join("samples.jsonl");
    let lines = || fs::read_to_string(&path).map_or(0, |text| text.lines().count());
    for jump in ["+400d", "-400d", "+0", "-3d", "+1h"] {
        fs::write(&stamp, format!("{jump}\n"))?;
        let before = lines();
        let begun = tokio::time::Instant::now();
        while lines() < before + 60 {
            ensure!(
                begun.elapsed() < bulkhead_tests::PATIENCE,
                "nothing comes after {jump}; {}",
                running.printed()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let ended = running.terminate()?;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let ledger = Ledger::read(&path)?;
    assert!(ledger.gaps.is_empty(), "{:?}", ledger.gaps);
    let marks = ledger.last.clone();
    ledger.check(&marks);
    // The clock did jump.
    let times: Vec<u64> = ledger.channels["a"]
        .values()
        .filter_map(|sample| sample[2].as_u64())
        .collect();
    let back = times.windows(2).any(|pair| pair[1] < pair[0]);
    assert!(back, "the wall clock never went back");
    Ok(())
}

fn fake_time_library() -> Result<std::path::PathBuf> {
    let folders = fs::read_dir("/usr/lib")?.filter_map(Result::ok);
    let mut found = folders.map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    found
        .find(|path| path.exists())
        .context("no libfaketime.so.1; install it with `apt-get install --yes libfaketime`")
}
