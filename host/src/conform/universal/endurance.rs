//! Storms, memory, rest.

use super::Bench;
use super::session::{self, TIMEOUT, poll_all, wait_for};
use crate::conform::outcome::{CaseResult, NoPass};
use crate::conform::stage::{Beginning, MILLISECOND, SECOND, Stage};

/// Rounds of a storm.
const STORM: u64 = 1_000;
/// Turns after which memory is what it stays.
const WARM: u64 = 10_000;
/// Turns after which it is looked at again.
const LONG: u64 = 100_000;
/// What an idle driver may take of turns in an hour: ten in a second.
const REST: u64 = 36_000;

pub(super) async fn storm(bench: &Bench<'_>) -> CaseResult {
    bench.need_tags()?;
    for peer in [bench.honest(), bench.silent()] {
        let mut stage = bench.begin(peer).await?;
        let tags: Vec<u32> = stage.config().tags.iter().map(|tag| tag.id).collect();
        let writes = session::writes(bench);
        let mut requests = Vec::new();
        for round in 0..STORM {
            for group in stage.config().groups.clone() {
                stage.poll(group.id, Vec::new());
            }
            // As many as a host has under way at most, with room to spare.
            if requests.len() < 2_000 {
                if bench.can("read") {
                    requests.push(stage.read(tags.clone(), TIMEOUT));
                }
                if bench.can("write") && !writes.is_empty() {
                    let (tag, value) = &writes[(round as usize) % writes.len()];
                    requests.push(stage.write(*tag, value.clone(), false, TIMEOUT));
                }
                if round % 16 == 0 {
                    requests.push(stage.health());
                }
            }
            stage.advance(MILLISECOND).await;
            stage.check()?;
        }
        // A queue of a thousand requests to a silent peer may take its time, as long as it ends.
        let latest = stage.now() + 24 * 3_600 * SECOND;
        stage
            .until(latest, |stage| stage.heard.owed().is_empty())
            .await;
        stage.check()?;
        if let Some(owed) = stage.heard.owed().first() {
            return Err(NoPass::failed(format!(
                "a day after a storm of {STORM} rounds the driver still owes an answer: {owed}"
            )));
        }
        session::stop(&mut stage).await?;
    }
    Ok(None)
}

pub(super) async fn rest(bench: &Bench<'_>) -> CaseResult {
    let mut most = 0;
    for peer in [bench.honest(), bench.silent()] {
        let mut stage = bench.begin(peer).await?;
        poll_all(&mut stage).await?;
        stage.advance(10 * SECOND).await;
        stage.check()?;
        let before = stage.turns();
        stage.advance(3_600 * SECOND).await;
        stage.check()?;
        most = most.max(stage.turns() - before);
    }
    if most > REST {
        return Err(NoPass::failed(format!(
            "with nothing to do the driver takes {most} turns in an hour; let its timers rest"
        )));
    }
    Ok(Some(format!("{most} turns in an hour")))
}

pub(super) async fn memory(bench: &Bench<'_>) -> CaseResult {
    bench.need_tags()?;
    let beginning = Beginning {
        // One event in a turn, so that turns are counted as the rule means them.
        batch: 1,
        ..Beginning::default()
    };
    let mut stage = bench.begin_as(beginning, bench.honest()).await?;
    let warm = until_turns(&mut stage, WARM, bench).await?;
    let long = until_turns(&mut stage, LONG, bench).await?;
    if long.peak > warm.peak {
        return Err(NoPass::failed(format!(
            "it holds {} KiB after {WARM} turns, and {} KiB after {LONG}: something is never given back",
            warm.peak >> 10,
            long.peak >> 10
        )));
    }
    // A counter that grows by a digit costs a little; what is searched through in each turn costs more and more.
    if long.fuel > warm.fuel + warm.fuel / 8 {
        return Err(NoPass::failed(format!(
            "a round of polls costs {} fuel after {WARM} turns, and {} after {LONG}: something grows that each of them goes through",
            warm.fuel, long.fuel
        )));
    }
    Ok(Some(format!(
        "{} KiB, {} fuel in a round of polls",
        long.peak >> 10,
        long.fuel
    )))
}

struct Held {
    peak: u64,
    fuel: u64,
}

/// Polls until so many turns were taken; gives what is held then, and what the last round cost.
async fn until_turns(stage: &mut Stage, turns: u64, bench: &Bench<'_>) -> Result<Held, NoPass> {
    let tags: Vec<u32> = stage.config().tags.iter().map(|tag| tag.id).collect();
    let writes = session::writes(bench);
    let mut round = 0_u64;
    while stage.turns() < turns {
        poll_all(stage).await?;
        if round.is_multiple_of(8) && bench.can("read") {
            let request = stage.read(tags.clone(), TIMEOUT);
            wait_for(stage, request).await?;
        }
        if round.is_multiple_of(8) && bench.can("write") && !writes.is_empty() {
            let (tag, value) = &writes[0];
            let request = stage.write(*tag, value.clone(), false, TIMEOUT);
            wait_for(stage, request).await?;
        }
        // What was heard is no part of what the driver holds.
        stage.heard.forget();
        stage.advance(10 * MILLISECOND).await;
        round += 1;
    }
    let before = stage.spent();
    poll_all(stage).await?;
    Ok(Held {
        peak: stage.stats().peak_memory,
        fuel: stage.spent() - before,
    })
}
