//! What several cases do with a driver: poll all of it, ask all that can be asked, take its leave.

use std::collections::BTreeMap;

use super::{Bench, PATIENCE};
use crate::bindings::events::StopReason;
use crate::bindings::types::Value;
use crate::conform::heard::{Asked, is_good, shown_value};
use crate::conform::outcome::NoPass;
use crate::conform::stage::{MILLISECOND, SECOND, Stage};

/// Until when requests are to be answered.
pub(super) const TIMEOUT: u64 = 10 * SECOND;

/// How long after its deadline an answer is still taken, where its peer keeps the driver waiting: the host has given up by then, and what
/// was asked before may have to time out first. With a peer that answers at once there is no such excuse.
const SLACK: u64 = 10 * SECOND;

/// The good values that tags may have.
pub(super) type Truth = BTreeMap<u32, Vec<String>>;

/// Polls every group once, and waits for the answers.
pub(super) async fn poll_all(stage: &mut Stage) -> Result<(), NoPass> {
    let groups: Vec<u32> = stage.config().groups.iter().map(|group| group.id).collect();
    for group in &groups {
        stage.poll(*group, Vec::new());
    }
    wait_for_polls(stage).await
}

/// Waits until no poll is under way.
pub(super) async fn wait_for_polls(stage: &mut Stage) -> Result<(), NoPass> {
    let latest = stage.now() + PATIENCE;
    stage
        .until(latest, |stage| stage.heard.polls.is_empty())
        .await;
    stage.check()?;
    if let Some((group, (cycle, since))) = stage.heard.polls.iter().next() {
        return Err(NoPass::failed(format!(
            "the poll of group {group}, cycle {cycle}, was not answered within {} s",
            (stage.now().max(latest) - since) / SECOND
        )));
    }
    Ok(())
}

/// Fails if any answer came after its deadline.
pub(super) fn in_time(stage: &Stage) -> Result<(), NoPass> {
    let mut all = stage.heard.requests.values();
    all.try_for_each(|asked| not_late(asked, 0))
}

/// Fails if the answer came later than this after its deadline.
fn not_late(asked: &Asked, slack: u64) -> Result<(), NoPass> {
    match &asked.answer {
        Some((at, _)) if *at > asked.deadline.saturating_add(slack) => {
            Err(NoPass::failed(format!(
                "the {} was answered {} ms after its deadline",
                asked.question.as_str(),
                (at - asked.deadline) / MILLISECOND
            )))
        }
        _ => Ok(()),
    }
}

/// Waits until a request is answered, by the patience that all have; whatever its peer does, not much later than its deadline.
pub(super) async fn wait_for(stage: &mut Stage, request: u64) -> Result<(), NoPass> {
    let latest = stage.now() + PATIENCE;
    stage
        .until(latest, |stage| stage.heard.answer(request).is_some())
        .await;
    stage.check()?;
    let asked = stage.heard.requests.get(&request);
    if let Some(asked) = asked.filter(|asked| asked.answer.is_some()) {
        return not_late(asked, SLACK);
    }
    let question = asked.map_or("request", |asked| asked.question.as_str());
    Err(NoPass::failed(format!(
        "the {question} was not answered within {} s",
        PATIENCE / SECOND
    )))
}

/// Everything that a driver can be asked, once; then its leave.
pub(super) async fn whole(bench: &Bench<'_>, stage: &mut Stage) -> Result<(), NoPass> {
    poll_all(stage).await?;
    ask_all(bench, stage).await?;
    stage.advance(2 * SECOND).await;
    poll_all(stage).await?;
    stop(stage).await
}

/// Every read, write, command and health check that the driver declares, one after the other.
pub(super) async fn ask_all(bench: &Bench<'_>, stage: &mut Stage) -> Result<(), NoPass> {
    let tags: Vec<u32> = bench.plant.config.tags.iter().map(|tag| tag.id).collect();
    if bench.can("read") && !tags.is_empty() {
        let request = stage.read(tags, TIMEOUT);
        wait_for(stage, request).await?;
    }
    if bench.can("write") {
        for (tag, value) in writes(bench) {
            for read_back in [false, true] {
                let request = stage.write(tag, value.clone(), read_back, TIMEOUT);
                wait_for(stage, request).await?;
            }
        }
    }
    for (name, payload) in commands(bench) {
        let request = stage.command(&name, &payload, TIMEOUT);
        wait_for(stage, request).await?;
    }
    let request = stage.health();
    wait_for(stage, request).await
}

/// What is written, and where.
pub(super) fn writes(bench: &Bench<'_>) -> Vec<(u32, Value)> {
    let tags = bench.plant.writable();
    tags.filter_map(|tag| Some((tag.id, bench.plant.value(tag)?)))
        .collect()
}

/// The commands that the driver offers, with what they are given.
pub(super) fn commands(bench: &Bench<'_>) -> Vec<(String, Vec<u8>)> {
    if !bench.can("commands") && !bench.can("browse") {
        return Vec::new();
    }
    let payload = |name: &str| bench.plant.payloads.get(name).cloned().unwrap_or_default();
    let names = bench
        .info
        .commands
        .iter()
        .map(|command| command.name.clone());
    names.map(|name| (name.clone(), payload(&name))).collect()
}

/// Has the driver stop, and waits for it.
pub(super) async fn stop(stage: &mut Stage) -> Result<(), NoPass> {
    let within = 2 * SECOND;
    stage.stop(within, StopReason::Stopped);
    let latest = stage.now() + within;
    stage
        .until(latest, |stage| stage.heard.stopped_at.is_some())
        .await;
    stage.check()?;
    if stage.heard.stopped_at.is_none() {
        return Err(NoPass::failed(
            "asked to stop within 2 s, the driver did not answer `stopped`",
        ));
    }
    let owed = stage.heard.owed();
    if !owed.is_empty() {
        return Err(NoPass::failed(format!(
            "the driver stopped without answering {}",
            owed.join(", ")
        )));
    }
    Ok(())
}

/// The good values that an honest peer gives, by tag: those of polls and of reads.
pub(super) async fn truth(bench: &Bench<'_>) -> Result<Truth, NoPass> {
    let mut stage = bench.begin(bench.honest()).await?;
    poll_all(&mut stage).await?;
    let mut truth = Truth::new();
    for sample in stage.heard.good() {
        truth
            .entry(sample.tag)
            .or_default()
            .push(shown_value(sample.value.as_ref()));
    }
    if truth.is_empty() {
        return Err(NoPass::failed(
            "with a peer that answers, no tag is good after a poll; do the plant's `reply` lines fit what the driver asks?",
        ));
    }
    Ok(truth)
}

/// Fails if a sample is good that is not true.
pub(super) fn only_true(stage: &Stage, truth: &Truth, how: &str) -> Result<(), NoPass> {
    for sample in stage.heard.good() {
        let value = shown_value(sample.value.as_ref());
        if !truth
            .get(&sample.tag)
            .is_some_and(|known| known.contains(&value))
        {
            return Err(NoPass::failed(format!(
                "{how}: tag {} is good with {value}, which no bytes justify",
                name(stage, sample.tag)
            )));
        }
    }
    Ok(())
}

/// Fails if any sample is good.
pub(super) fn nothing_good(stage: &Stage, how: &str) -> Result<(), NoPass> {
    only_true(stage, &Truth::new(), how)
}

/// Fails unless every tag that can be true was published good since the samples were taken last.
pub(super) fn all_true(stage: &Stage, truth: &Truth, how: &str) -> Result<(), NoPass> {
    only_true(stage, truth, how)?;
    for tag in truth.keys() {
        let is_there = stage
            .heard
            .samples
            .iter()
            .any(|sample| sample.tag == *tag && is_good(sample.quality));
        if !is_there {
            return Err(NoPass::failed(format!(
                "{how}: tag {} does not get good, although its peer answers",
                name(stage, *tag)
            )));
        }
    }
    Ok(())
}

/// The name of a tag.
pub(super) fn name(stage: &Stage, tag: u32) -> String {
    let found = stage.config().tags.iter().find(|known| known.id == tag);
    found.map_or_else(|| tag.to_string(), |tag| tag.name.clone())
}

/// A case's own part of the seed, so that one case's random bytes do not depend on another's.
pub(super) fn random(bench: &Bench<'_>, part: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(bench.seed ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
