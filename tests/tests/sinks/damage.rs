//! What becomes of an outbox whose file is damaged while nobody looks: what can be read arrives, and what cannot is announced.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use bulkhead_tests::Bulkhead;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::json;

use crate::ledger::{FILE, Ledger, channels, wait_for_accepted};

/// As `host/src/outbox/queue.rs` has it: samples, when, and the sealed chunk.
const CHUNKS: TableDefinition<'_, u64, (u64, u64, &[u8])> = TableDefinition::new("chunks");
/// Epoch and number of what was accepted last of a channel, and of what was acknowledged last.
const MARKS: TableDefinition<'_, &str, (u64, u64, u64, u64)> = TableDefinition::new("marks");

/// Changes one bit in the last chunk that holds samples; gives how many these are.
fn damage_the_last_record(database: &Database) -> Result<u64> {
    let write = database.begin_write()?;
    let harmed = {
        let mut chunks = write.open_table(CHUNKS)?;
        let (number, samples, when, mut sealed) = {
            let mut all = chunks.iter()?.rev();
            loop {
                let (number, value) = all.next().context("a chunk with samples")??;
                let (samples, when, sealed) = value.value();
                if samples > 0 {
                    break (number.value(), samples, when, sealed.to_vec());
                }
            }
        };
        *sealed.last_mut().context("a chunk has bytes")? ^= 1;
        chunks.insert(number, (samples, when, sealed.as_slice()))?;
        samples
    };
    write.commit()?;
    Ok(harmed)
}

/// The last number that was accepted of each channel, all of them in the first epoch.
fn accepted(database: &Database) -> Result<BTreeMap<String, u64>> {
    let read = database.begin_read()?;
    let mut all = BTreeMap::new();
    for mark in read.open_table(MARKS)?.iter()? {
        let (channel, mark) = mark?;
        let (epoch, sequence, _, acknowledged) = mark.value();
        ensure!((epoch, acknowledged) == (1, 0), "nothing has arrived yet");
        all.insert(channel.value().to_owned(), sequence);
    }
    Ok(all)
}

/// All that has arrived in the end.
fn arrived(host: Bulkhead, path: &Path) -> Result<Ledger> {
    wait_for_accepted(&host, "archive", 20)?;
    // What comes meanwhile is stopped, so that there is an end.
    for channel in ["a", "b", "c"] {
        let reply = host.post(&format!("/api/v1/channels/{channel}/stop"), &json!({}))?;
        ensure!(reply.status == 200, "{reply:?}");
    }
    host.get_until("/api/v1/outbox/archive", |shown| {
        (shown["samples"] == 0 && shown["delivered_samples"].as_u64()? > 0).then_some(())
    })?;
    let folder = host.stop_gently()?;
    Ledger::read(&folder.path().join(path))
}

#[test]
fn a_corrupted_last_record_is_announced_and_all_others_arrive() -> Result<()> {
    // The sink's folder is missing, so everything waits.
    let path = Path::new("later/samples.jsonl");
    let config = channels() + &FILE.replace("samples.jsonl", "later/samples.jsonl");
    let host = Bulkhead::start(&config)?;
    wait_for_accepted(&host, "archive", 200)?;
    let folder = host.kill()?;
    let (harmed, accepted) = {
        let database = Database::open(folder.path().join("data/outbox/archive.redb"))?;
        (damage_the_last_record(&database)?, accepted(&database)?)
    };
    assert_eq!(accepted.len(), 3);
    fs::create_dir(folder.path().join("later"))?;
    let ledger = arrived(Bulkhead::start_in(folder, &config, &[])?, path)?;
    assert_eq!(
        ledger.gaps,
        BTreeMap::from([("damaged".to_owned(), harmed)])
    );
    let missing = accepted.iter().flat_map(|(channel, last)| {
        (1..=*last).filter(|sequence| !ledger.has(channel, (1, *sequence)))
    });
    assert_eq!(missing.count() as u64, harmed);
    Ok(())
}
