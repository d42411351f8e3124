//! Start, stop, restart.

use super::session::{self, TIMEOUT, poll_all};
use super::{Bench, PATIENCE};
use crate::bindings::events::{Happening, StartReason, Stop, StopReason};
use crate::conform::outcome::{CaseResult, NoPass};
use crate::conform::stage::{Beginning, SECOND, Stage};

pub(super) async fn stop(bench: &Bench<'_>) -> CaseResult {
    let mut stage = bench.begin(bench.honest()).await?;
    poll_all(&mut stage).await?;
    session::stop(&mut stage).await?;
    Ok(None)
}

pub(super) async fn stop_at_once(bench: &Bench<'_>) -> CaseResult {
    let beginning = Beginning {
        memory: Some(bench.memory),
        ..Beginning::default()
    };
    let mut stage = Stage::prepare(
        bench.driver,
        &bench.plant.config,
        &beginning,
        bench.honest(),
    )
    .await?;
    stage.started(beginning);
    session::stop(&mut stage).await?;
    Ok(None)
}

pub(super) async fn stop_twice(bench: &Bench<'_>) -> CaseResult {
    // In one turn, and one turn after the other while the driver is still at it.
    for batch in [256, 1] {
        let beginning = Beginning {
            batch,
            ..Beginning::default()
        };
        let mut stage = bench.begin_as(beginning, bench.silent()).await?;
        for group in stage.config().groups.clone() {
            stage.poll(group.id, Vec::new());
        }
        let until = stage.now() + 2 * SECOND;
        stage.happen(Happening::Stop(Stop {
            deadline_ns: until,
            reason: StopReason::Stopped,
        }));
        session::stop(&mut stage).await?;
    }
    Ok(None)
}

pub(super) async fn stop_busy(bench: &Bench<'_>) -> CaseResult {
    bench.need_tags()?;
    let mut stage = bench.begin(bench.silent()).await?;
    for group in stage.config().groups.clone() {
        stage.poll(group.id, Vec::new());
    }
    let tags: Vec<u32> = stage.config().tags.iter().map(|tag| tag.id).collect();
    if bench.can("read") {
        stage.read(tags, TIMEOUT);
    }
    if bench.can("write") {
        for (tag, value) in session::writes(bench) {
            stage.write(tag, value, false, TIMEOUT);
        }
    }
    stage.settle().await;
    session::stop(&mut stage).await?;
    Ok(None)
}

pub(super) async fn restart(bench: &Bench<'_>) -> CaseResult {
    let mut published = Vec::new();
    let reasons = [
        StartReason::First,
        StartReason::RestartAfterFault,
        StartReason::ManualRestart,
        StartReason::HostRestart,
        StartReason::Reconfigured,
    ];
    for (incarnation, reason) in (1..).zip(reasons) {
        let beginning = Beginning {
            incarnation,
            reason,
            ..Beginning::default()
        };
        let life = async {
            let mut stage = bench.begin_as(beginning, bench.honest()).await?;
            poll_all(&mut stage).await?;
            session::ask_all(bench, &mut stage).await?;
            let samples = stage
                .heard
                .samples
                .iter()
                .map(|sample| format!("{sample:?}"));
            published.push(samples.collect::<Vec<_>>());
            stage.advance(PATIENCE).await;
            session::stop(&mut stage).await
        };
        life.await.map_err(|why| match why {
            NoPass::Failed(text) => {
                NoPass::Failed(format!("incarnation {incarnation} ({reason:?}): {text}"))
            }
            other => other,
        })?;
    }
    if bench.can("scripted-time")
        && let Some(at) = published
            .iter()
            .position(|samples| *samples != published[0])
    {
        return Err(NoPass::failed(format!(
            "incarnation {} publishes other samples than the first",
            at + 1
        )));
    }
    Ok(None)
}
