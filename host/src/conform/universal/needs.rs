//! What a driver takes: fuel by kind of event, and the least with which it passes.

use super::description::session_runs;
use super::{Bench, session};
use crate::conform::baseline::Measured;
use crate::conform::outcome::{CaseResult, NoPass};
use crate::conform::stage::Beginning;

/// A page of wasm memory.
const PAGE: u64 = 64 << 10;

/// The most that one event of each kind cost in a whole session, one event in a turn.
pub(in crate::conform) async fn measured(bench: &Bench<'_>) -> Result<Measured, NoPass> {
    let beginning = Beginning {
        batch: 1,
        record: true,
        ..Beginning::default()
    };
    let mut stage = bench.begin_as(beginning, bench.honest()).await?;
    session::whole(bench, &mut stage).await?;
    let mut measured = Measured::new();
    for turn in &stage.heard.turns {
        for kind in &turn.events {
            let most = measured.entry((*kind).to_owned()).or_default();
            *most = turn.fuel.max(*most);
        }
    }
    Ok(measured)
}

pub(super) async fn fuel(bench: &Bench<'_>) -> CaseResult {
    let found = measured(bench).await?;
    let shown = |measured: &Measured| {
        let all: Vec<String> = measured
            .iter()
            .map(|(kind, fuel)| format!("{kind} {fuel}"))
            .collect();
        all.join(", ")
    };
    let Some(baseline) = bench.baseline else {
        return Err(NoPass::skipped(format!(
            "there is no baseline; --bless writes it. Measured: {}",
            shown(&found)
        )));
    };
    let differences = baseline.differences(&found);
    if differences.is_empty() {
        return Ok(Some(shown(&found)));
    }
    Err(NoPass::failed(format!(
        "{}\nif that is meant, `bulkhead conform --bless` writes the baseline anew; review it like a snapshot",
        differences.join("\n")
    )))
}

pub(super) async fn least(bench: &Bench<'_>) -> CaseResult {
    session_runs(bench).await?;
    let (mut too_little, mut enough) = (0, bench.memory / PAGE);
    while enough - too_little > 1 {
        let pages = u64::midpoint(too_little, enough);
        match runs_in(bench, pages * PAGE).await {
            Ok(()) => enough = pages,
            Err(NoPass::Failed(_)) => too_little = pages,
            Err(other) => return Err(other),
        }
    }
    let fuel = measured(bench).await?.into_values().max().unwrap_or(0);
    Ok(Some(format!(
        "{} KiB of memory, {fuel} fuel in one turn",
        (enough * PAGE) >> 10
    )))
}

async fn runs_in(bench: &Bench<'_>, memory: u64) -> Result<(), NoPass> {
    let beginning = Beginning {
        memory: Some(memory),
        ..Beginning::default()
    };
    let mut stage = bench.begin_as(beginning, bench.honest()).await?;
    session::whole(bench, &mut stage).await
}
