//! The same again.

use super::{Bench, session};
use crate::conform::heard::TurnRecord;
use crate::conform::outcome::{CaseResult, NoPass};
use crate::conform::stage::Beginning;

/// A whole session, turn by turn.
async fn recorded(bench: &Bench<'_>, seed: u64) -> Result<Vec<TurnRecord>, NoPass> {
    let beginning = Beginning {
        seed,
        record: true,
        ..Beginning::default()
    };
    let mut stage = bench.begin_as(beginning, bench.honest()).await?;
    session::whole(bench, &mut stage).await?;
    Ok(stage.heard.turns)
}

pub(super) async fn twice(bench: &Bench<'_>) -> CaseResult {
    let first = recorded(bench, 7).await?;
    let second = recorded(bench, 7).await?;
    if let Some(at) = first.iter().zip(&second).position(|(a, b)| a != b) {
        return Err(NoPass::failed(format!(
            "the same events once more, and turn {} differs:\n{}",
            at + 1,
            differ(&first[at], &second[at])
        )));
    }
    if first.len() != second.len() {
        return Err(NoPass::failed(format!(
            "the same once more takes {} turns instead of {}",
            second.len(),
            first.len()
        )));
    }
    Ok(Some(format!("{} turns", first.len())))
}

pub(super) async fn other_seed(bench: &Bench<'_>) -> CaseResult {
    bench.need("scripted-time")?;
    let first = recorded(bench, 7).await?;
    for seed in [8, 987_654_321] {
        let second = recorded(bench, seed).await?;
        if let Some(at) = first
            .iter()
            .zip(&second)
            .position(|(a, b)| a.actions != b.actions)
        {
            return Err(NoPass::failed(format!(
                "with other random numbers turn {} differs, although the driver declares that its values depend on events and times alone:\n{}",
                at + 1,
                differ(&first[at], &second[at])
            )));
        }
    }
    Ok(None)
}

fn differ(a: &TurnRecord, b: &TurnRecord) -> String {
    let cut = |text: &str| crate::text::shown(text, 400);
    format!(
        "  given {}\n  first  fuel {}, {}\n  second fuel {}, {}",
        a.events.join(", "),
        a.fuel,
        cut(&a.actions),
        b.fuel,
        cut(&b.actions)
    )
}
