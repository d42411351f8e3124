//! Peers that are away, that say nothing, that go.

use super::session::{self, TIMEOUT, Truth, nothing_good, poll_all, wait_for};
use super::{Bench, PATIENCE};
use crate::bindings::events::{CloseReason, Outlook};
use crate::conform::outcome::{CaseResult, NoPass};
use crate::conform::peer::{Peer, Reach, Silent};
use crate::conform::stage::{SECOND, Stage};

/// Everything at once, with a peer from which nothing comes.
async fn in_vain(bench: &Bench<'_>, peer: Box<dyn Peer>, how: &str) -> CaseResult {
    bench.need_link()?;
    let mut stage = bench.begin(peer).await?;
    for _ in 0..3 {
        poll_all(&mut stage).await?;
        stage.advance(SECOND).await;
    }
    let tags: Vec<u32> = stage.config().tags.iter().map(|tag| tag.id).collect();
    let mut requests = Vec::new();
    if bench.can("read") && !tags.is_empty() {
        requests.push(stage.read(tags, TIMEOUT));
    }
    if bench.can("write") {
        for (tag, value) in session::writes(bench) {
            requests.push(stage.write(tag, value, true, TIMEOUT));
        }
    }
    for (name, payload) in session::commands(bench) {
        requests.push(stage.command(&name, &payload, TIMEOUT));
    }
    requests.push(stage.health());
    for request in requests {
        wait_for(&mut stage, request).await?;
    }
    nothing_good(&stage, how)?;
    session::stop(&mut stage).await?;
    Ok(None)
}

pub(super) async fn silent(bench: &Bench<'_>) -> CaseResult {
    in_vain(bench, bench.silent(), "nothing was received").await
}

pub(super) async fn away(bench: &Bench<'_>) -> CaseResult {
    in_vain(
        bench,
        Box::new(Silent(Reach::Refused)),
        "no connection came up",
    )
    .await?;
    in_vain(
        bench,
        Box::new(Silent(Reach::Unanswered)),
        "no dial was answered",
    )
    .await
}

pub(super) async fn drops(bench: &Bench<'_>) -> CaseResult {
    bench.need_peer()?;
    let truth: Truth = session::truth(bench).await?;
    for reason in [
        CloseReason::ByPeer,
        CloseReason::Reset,
        CloseReason::HeartbeatLost,
    ] {
        let mut stage = bench.begin(bench.honest()).await?;
        poll_all(&mut stage).await?;
        session::all_true(&stage, &truth, "before the link drops")?;
        // A driver may close what is down and open another; nobody must answer that dial.
        stage.meet(Box::new(Silent(Reach::Unanswered)));
        lose_all(&mut stage, reason);
        stage.settle().await;
        stage.heard.samples.clear();
        stage.heard.requests.clear();
        // The host has them bad already; what the driver says now counts as fresh.
        for _ in 0..2 {
            poll_all(&mut stage).await?;
            if bench.can("read") {
                let tags = stage.config().tags.iter().map(|tag| tag.id).collect();
                let request = stage.read(tags, TIMEOUT);
                wait_for(&mut stage, request).await?;
            }
            stage.advance(SECOND).await;
        }
        nothing_good(&stage, &format!("the link is down ({reason:?})"))?;
        stage.meet(bench.honest());
        for link in stage.config().links.clone() {
            for connection in stage.connections(link.id) {
                stage.bring_up(connection);
            }
        }
        stage.settle().await;
        recovers(&mut stage, &truth, "after the link came back").await?;
    }
    Ok(None)
}

/// Every link goes down, and nobody dials anew.
fn lose_all(stage: &mut Stage, reason: CloseReason) {
    for link in stage.config().links.clone() {
        stage.lose_for_now(link.id, reason, Outlook::Redialling);
    }
}

/// Polls, for as long as patience lasts, until everything is good and true again.
pub(super) async fn recovers(stage: &mut Stage, truth: &Truth, how: &str) -> Result<(), NoPass> {
    let until = stage.now() + PATIENCE;
    loop {
        stage.heard.samples.clear();
        stage.heard.requests.clear();
        poll_all(stage).await?;
        match session::all_true(stage, truth, how) {
            Ok(()) => return Ok(()),
            // What is false will not become true by waiting.
            Err(why) if session::only_true(stage, truth, how).is_err() || stage.now() >= until => {
                return Err(why);
            }
            Err(_) => stage.advance(SECOND).await,
        }
    }
}
