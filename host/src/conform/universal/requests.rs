//! Exactly one answer to each request, in time. That none is answered twice is seen to by the channel's own rules: such a list of actions
//! is refused, and ends the driver.

use std::collections::BTreeSet;

use super::session::{self, TIMEOUT, in_time, poll_all, wait_for};
use super::{Bench, PATIENCE};
use crate::bindings::events::Happening;
use crate::conform::heard::{Answer, is_good, shown_quality};
use crate::conform::outcome::{CaseResult, NoPass};
use crate::conform::stage::SECOND;

/// Whether there is nobody to ask, or a peer that answers: then what is asked must succeed.
fn is_answered(bench: &Bench<'_>) -> bool {
    !bench.plant.replies.is_empty() || bench.plant.config.links.is_empty()
}

pub(super) async fn poll(bench: &Bench<'_>) -> CaseResult {
    bench.need_tags()?;
    let mut stage = bench.begin(bench.honest()).await?;
    for round in 1..=3 {
        stage.heard.samples.clear();
        poll_all(&mut stage).await?;
        let is_judged = is_answered(bench);
        for group in stage.config().groups.clone() {
            for tag in group.tags.iter().filter(|_| is_judged) {
                let of_tag = || {
                    stage
                        .heard
                        .samples
                        .iter()
                        .filter(|sample| sample.tag == *tag)
                };
                if !of_tag().any(|sample| is_good(sample.quality)) {
                    let found = of_tag()
                        .next_back()
                        .map_or("not published", |sample| shown_quality(sample.quality));
                    return Err(NoPass::failed(format!(
                        "poll {round}: tag {} is {found}, where its peer answers; does a `reply` line answer what the driver asks?",
                        session::name(&stage, *tag)
                    )));
                }
            }
        }
        stage.advance(SECOND).await;
    }
    Ok(None)
}

pub(super) async fn skip(bench: &Bench<'_>) -> CaseResult {
    bench.need_tags()?;
    let mut stage = bench.begin(bench.honest()).await?;
    poll_all(&mut stage).await?;
    stage.heard.samples.clear();
    let sends = stage.heard.sends;
    let devices: Vec<u32> = stage
        .config()
        .devices
        .iter()
        .map(|device| device.id)
        .collect();
    for group in stage.config().groups.clone() {
        stage.poll(group.id, devices.clone());
    }
    session::wait_for_polls(&mut stage).await?;
    if let Some(sample) = stage.heard.samples.front() {
        return Err(NoPass::failed(format!(
            "the device of tag {} is skipped, and the tag is published",
            session::name(&stage, sample.tag)
        )));
    }
    if stage.heard.sends != sends {
        return Err(NoPass::failed(
            "all devices are skipped, and the driver sends a request",
        ));
    }
    Ok(None)
}

pub(super) async fn read(bench: &Bench<'_>) -> CaseResult {
    bench.need("read")?;
    bench.need_tags()?;
    let mut stage = bench.begin(bench.honest()).await?;
    let tags: Vec<u32> = stage.config().tags.iter().map(|tag| tag.id).collect();
    let backwards: Vec<u32> = tags.iter().rev().copied().collect();
    let is_judged = is_answered(bench);
    // What a poll makes good, a read does too; what is in no group may be there to be written only.
    let groups = stage.config().groups.iter();
    let mut never_good: BTreeSet<u32> = groups
        .flat_map(|group| group.tags.iter().copied())
        .filter(|_| is_judged)
        .collect();
    for tags in [tags.clone(), backwards, vec![tags[0]]] {
        let request = stage.read(tags.clone(), TIMEOUT);
        wait_for(&mut stage, request).await?;
        // That the samples are those that were asked for, in order, is the channel's own rule.
        match stage.heard.answer(request) {
            Some(Answer::Read(Err(error))) if is_judged => {
                return Err(NoPass::failed(format!(
                    "a read fails with a peer that answers: {}",
                    error.message
                )));
            }
            Some(Answer::Read(Ok(samples))) => {
                for sample in samples.iter().filter(|sample| is_good(sample.quality)) {
                    never_good.remove(&sample.tag);
                }
            }
            _ => {}
        }
    }
    if let Some(tag) = never_good.first() {
        return Err(NoPass::failed(format!(
            "tag {} is good in no read, where its peer answers; does a `reply` line answer what the driver asks?",
            session::name(&stage, *tag)
        )));
    }
    in_time(&stage)?;
    Ok(None)
}

pub(super) async fn write(bench: &Bench<'_>) -> CaseResult {
    bench.need("write")?;
    let writes = session::writes(bench);
    if writes.is_empty() {
        return Err(NoPass::skipped(
            "the plant has no tag that can be written; give one `rw`",
        ));
    }
    let mut stage = bench.begin(bench.honest()).await?;
    let mut has_succeeded = false;
    let mut refused = String::new();
    for (tag, value) in writes {
        for read_back in [false, true] {
            let request = stage.write(tag, value.clone(), read_back, TIMEOUT);
            wait_for(&mut stage, request).await?;
            match stage.heard.answer(request) {
                Some(Answer::Write(Ok(None))) if read_back => {
                    return Err(NoPass::failed(format!(
                        "tag {} was to be read back, and the answer has no value",
                        session::name(&stage, tag)
                    )));
                }
                Some(Answer::Write(Ok(Some(_)))) if !read_back => {
                    return Err(NoPass::failed(format!(
                        "tag {} was not to be read back, and the answer has a value",
                        session::name(&stage, tag)
                    )));
                }
                Some(Answer::Write(Ok(_))) => has_succeeded = true,
                Some(Answer::Write(Err(error))) => refused.clone_from(&error.message),
                _ => {}
            }
        }
    }
    // A device may refuse a value; one that takes none leaves it open whether the driver can write at all.
    if is_answered(bench) && !has_succeeded {
        return Err(NoPass::failed(format!(
            "every write fails, where its peer answers: {refused}; does a `reply` line answer what the driver asks, and a `value` line say what can be written?"
        )));
    }
    in_time(&stage)?;
    Ok(None)
}

pub(super) async fn command(bench: &Bench<'_>) -> CaseResult {
    if !bench.can("commands") && !bench.can("browse") {
        return Err(NoPass::skipped("the driver does not declare `commands`"));
    }
    let mut stage = bench.begin(bench.honest()).await?;
    let commands = session::commands(bench);
    for (name, payload) in &commands {
        for payload in [payload.as_slice(), b"\xff\0 no such thing", &[b'['; 10_000]] {
            let request = stage.command(name, payload, TIMEOUT);
            wait_for(&mut stage, request).await?;
        }
    }
    let request = stage.command("conform-no-such-command", b"{}", TIMEOUT);
    wait_for(&mut stage, request).await?;
    let is_refused = stage
        .heard
        .answer(request)
        .is_some_and(|answer| answer.error().is_some());
    if !commands.is_empty() && !is_refused {
        return Err(NoPass::failed(
            "a command that the driver does not list is answered as if there were one",
        ));
    }
    Ok(Some(format!("{} commands", commands.len())))
}

pub(super) async fn health(bench: &Bench<'_>) -> CaseResult {
    // Also while a peer keeps everything else waiting.
    for peer in [bench.honest(), bench.silent()] {
        let mut stage = bench.begin(peer).await?;
        for group in stage.config().groups.clone() {
            stage.poll(group.id, Vec::new());
        }
        let request = stage.health();
        wait_for(&mut stage, request).await?;
        in_time(&stage)?;
    }
    Ok(None)
}

pub(super) async fn cancel(bench: &Bench<'_>) -> CaseResult {
    let mut asked = 0;
    // In the same turn, in the next, and when it was answered long ago.
    for (settle, peer_answers) in [(false, false), (true, false), (true, true)] {
        let peer = if peer_answers {
            bench.honest()
        } else {
            bench.silent()
        };
        let mut stage = bench.begin(peer).await?;
        let mut requests = Vec::new();
        let tags: Vec<u32> = stage.config().tags.iter().map(|tag| tag.id).collect();
        if bench.can("read") && !tags.is_empty() {
            requests.push(stage.read(tags, TIMEOUT));
        }
        if bench.can("write") {
            for (tag, value) in session::writes(bench).into_iter().take(2) {
                requests.push(stage.write(tag, value, true, TIMEOUT));
            }
        }
        for (name, payload) in session::commands(bench).into_iter().take(2) {
            requests.push(stage.command(&name, &payload, TIMEOUT));
        }
        if settle {
            stage.settle().await;
        }
        for request in &requests {
            stage.happen(Happening::Cancel(*request));
        }
        stage.happen(Happening::Cancel(u64::MAX));
        for request in &requests {
            wait_for(&mut stage, *request).await?;
        }
        asked += requests.len();
        stage.advance(PATIENCE).await;
        stage.check()?;
        poll_all(&mut stage).await?;
    }
    if asked == 0 {
        return Err(NoPass::skipped(
            "the driver takes no request that could be cancelled",
        ));
    }
    Ok(None)
}
