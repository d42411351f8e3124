//! Ends between turns, and what is left of the incarnation before.

use super::session::{self, Truth, only_true, poll_all};
use super::silence::recovers;
use super::{Bench, PATIENCE};
use crate::bindings::events::StartReason;
use crate::conform::outcome::{CaseResult, NoPass};
use crate::conform::stage::{Beginning, SECOND};

/// How many ends are tried in one session, where it has more turns.
const ENDS: u64 = 64;

fn next_life(state: Option<Vec<u8>>) -> Beginning {
    Beginning {
        incarnation: 2,
        reason: StartReason::RestartAfterFault,
        state,
        ..Beginning::default()
    }
}

pub(super) async fn anywhere(bench: &Bench<'_>) -> CaseResult {
    let mut whole = bench.begin_as(one_by_one(None), bench.honest()).await?;
    session::whole(bench, &mut whole).await?;
    let turns = whole.turns();
    let truth = if bench.plant.replies.is_empty() {
        None
    } else {
        Some(session::truth(bench).await?)
    };
    let step = turns.div_ceil(ENDS).max(1);
    let mut ends = 0;
    for end in (1..turns).step_by(usize::try_from(step).unwrap_or(1)) {
        let how = format!("ended by a fault after turn {end} of {turns}");
        let state = ended_after(bench, end).await?;
        let life = async {
            // Its requests were answered by the host; an answer to one of them now would be refused.
            let mut stage = bench.begin_as(next_life(state), bench.honest()).await?;
            session::whole(bench, &mut stage).await?;
            match &truth {
                Some(truth) => only_true(&stage, truth, "in the next incarnation"),
                None => Ok(()),
            }
        };
        life.await.map_err(|why: NoPass| match why {
            NoPass::Failed(text) => NoPass::Failed(format!("{how}: {text}")),
            other => other,
        })?;
        ends += 1;
    }
    Ok(Some(format!("{ends} ends")))
}

fn one_by_one(end_after: Option<u64>) -> Beginning {
    Beginning {
        batch: 1,
        end_after,
        ..Beginning::default()
    }
}

/// A session that is cut off; gives what was saved by then.
async fn ended_after(bench: &Bench<'_>, turns: u64) -> Result<Option<Vec<u8>>, NoPass> {
    let mut stage = bench
        .begin_as(one_by_one(Some(turns)), bench.honest())
        .await?;
    match session::whole(bench, &mut stage).await {
        Ok(()) => Ok(stage.heard.state),
        // That its requests are not answered any more is how it looks from outside.
        Err(_) if stage.was_killed() => Ok(stage.heard.state),
        Err(why) => Err(why),
    }
}

pub(super) async fn state(bench: &Bench<'_>) -> CaseResult {
    let mut stage = bench.begin(bench.honest()).await?;
    poll_all(&mut stage).await?;
    session::ask_all(bench, &mut stage).await?;
    stage.advance(PATIENCE).await;
    session::stop(&mut stage).await?;
    let Some(state) = stage.heard.state.clone() else {
        return Err(NoPass::skipped("the driver saved nothing"));
    };
    let truth: Option<Truth> = if bench.plant.replies.is_empty() {
        None
    } else {
        Some(session::truth(bench).await?)
    };
    let mut random = session::random(bench, 3);
    let mut damaged = vec![
        state.clone(),
        Vec::new(),
        state[..state.len() / 2].to_vec(),
        vec![0xff; 1 << 20],
    ];
    for _ in 0..16 {
        let mut bytes = state.clone();
        if !bytes.is_empty() {
            let at = random.usize(0..bytes.len());
            bytes[at] ^= 1 << random.u8(0..8);
        }
        damaged.push(bytes);
    }
    for (number, bytes) in damaged.into_iter().enumerate() {
        let how = if number == 0 {
            "with its own saved state".to_owned()
        } else {
            format!("with a damaged state, number {number}")
        };
        let life = async {
            let mut stage = bench
                .begin_as(next_life(Some(bytes)), bench.honest())
                .await?;
            stage.advance(SECOND).await;
            match &truth {
                Some(truth) if number == 0 => recovers(&mut stage, truth, "after it").await?,
                _ => {}
            }
            session::whole(bench, &mut stage).await
        };
        life.await.map_err(|why: NoPass| match why {
            NoPass::Failed(text) => NoPass::Failed(format!("{how}: {text}")),
            other => other,
        })?;
    }
    Ok(Some(format!("{} bytes", state.len())))
}
