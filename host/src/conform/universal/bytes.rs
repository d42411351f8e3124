//! What arrives mangled: in pieces, in excess, cut short, as noise.
//!
//! What is true of a tag is what the plant's honest peer gives ([`session::truth`]). Whatever arrives, a sample that is good must be
//! true; and when the peer is honest again, everything must be good again.

use super::Bench;
use super::session::{self, TIMEOUT, Truth, only_true, poll_all, wait_for};
use super::silence::recovers;
use crate::conform::outcome::{CaseResult, NoPass};
use crate::conform::peer::{Babbler, Learned, Peer, Reaction, Shape};
use crate::conform::stage::{Beginning, Kept, SECOND, Stage};

/// At how many places of an answer it is cut, where it is longer.
const CUTS: usize = 48;

fn shaped(bench: &Bench<'_>, shape: Shape) -> Box<dyn Peer> {
    Box::new(Learned::shaped(&bench.plant.replies, shape))
}

pub(super) async fn single(bench: &Bench<'_>) -> CaseResult {
    bench.need_peer()?;
    let truth = session::truth(bench).await?;
    // All in one turn, and a turn for each.
    for batch in [256, 1] {
        let one_by_one = |bytes: Vec<u8>| {
            bytes
                .into_iter()
                .map(|byte| Reaction::Bytes(vec![byte]))
                .collect()
        };
        let beginning = Beginning {
            batch,
            ..Beginning::default()
        };
        let mut stage = bench
            .begin_as(beginning, shaped(bench, Box::new(one_by_one)))
            .await?;
        poll_all(&mut stage).await?;
        session::all_true(&stage, &truth, "answers come byte by byte")?;
        session::ask_all(bench, &mut stage).await?;
        only_true(&stage, &truth, "answers come byte by byte")?;
    }
    Ok(None)
}

pub(super) async fn huge(bench: &Bench<'_>) -> CaseResult {
    bench.need_peer()?;
    let truth = session::truth(bench).await?;
    for filler in [0_u8, 0xff, b'a', b'\n'] {
        let more = move |mut bytes: Vec<u8>| {
            bytes.resize(bytes.len() + (300 << 10), filler);
            vec![Reaction::Bytes(bytes)]
        };
        let how = format!("answers come with 300 KiB of {filler:02x} behind them");
        mangled(bench, &truth, shaped(bench, Box::new(more)), &how).await?;
    }
    let mut random = session::random(bench, 2);
    let noise = move |mut bytes: Vec<u8>| {
        bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(100 << 10));
        vec![Reaction::Bytes(bytes)]
    };
    mangled(
        bench,
        &truth,
        shaped(bench, Box::new(noise)),
        "answers come with 100 KiB of noise behind them",
    )
    .await?;
    Ok(None)
}

/// A few cycles with a peer whose answers are mangled, then with an honest one.
async fn mangled(
    bench: &Bench<'_>,
    truth: &Truth,
    peer: Box<dyn Peer>,
    how: &str,
) -> Result<(), NoPass> {
    let mut stage = bench.begin(peer).await?;
    for _ in 0..3 {
        poll_all(&mut stage)
            .await
            .map_err(|why| because(why, how))?;
        stage.advance(SECOND).await;
    }
    if bench.can("read") {
        let tags = stage.config().tags.iter().map(|tag| tag.id).collect();
        let request = stage.read(tags, TIMEOUT);
        wait_for(&mut stage, request)
            .await
            .map_err(|why| because(why, how))?;
    }
    only_true(&stage, truth, how)?;
    stage.meet(bench.honest());
    let how = format!("{how}, until the peer is honest again");
    recovers(&mut stage, truth, &how)
        .await
        .map_err(|why| because(why, &how))
}

fn because(why: NoPass, how: &str) -> NoPass {
    match why {
        NoPass::Failed(text) if !text.starts_with(how) => NoPass::Failed(format!("{how}: {text}")),
        other => other,
    }
}

/// The places at which an answer of so many bytes is cut.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    let step = length.div_ceil(CUTS).max(1);
    (0..length).step_by(step)
}

/// The longest answer that the honest peer gives in a poll.
async fn longest(bench: &Bench<'_>) -> Result<usize, NoPass> {
    let longest = std::rc::Rc::new(std::cell::Cell::new(0));
    let seen = longest.clone();
    let shape: Shape = Box::new(move |bytes| {
        seen.set(seen.get().max(bytes.len()));
        vec![Reaction::Bytes(bytes)]
    });
    let mut stage = bench.begin(shaped(bench, shape)).await?;
    poll_all(&mut stage).await?;
    Ok(longest.get())
}

pub(super) async fn truncated(bench: &Bench<'_>) -> CaseResult {
    bench.need_peer()?;
    let truth = session::truth(bench).await?;
    let longest = longest(bench).await?;
    let mut places = 0;
    for cut in cuts(longest) {
        // Every answer is cut, so nothing that is good can be true.
        let how = format!("every answer stops after {cut} bytes");
        let short = move |mut bytes: Vec<u8>| {
            let most = bytes.len().saturating_sub(1);
            bytes.truncate(cut.min(most));
            vec![Reaction::Bytes(bytes)]
        };
        let mut stage = bench.begin(shaped(bench, Box::new(short))).await?;
        for _ in 0..2 {
            poll_all(&mut stage)
                .await
                .map_err(|why| because(why, &how))?;
            stage.advance(SECOND).await;
        }
        session::nothing_good(&stage, &how)?;
        stage.meet(bench.honest());
        let how = format!("{how}, until the peer is honest again");
        recovers(&mut stage, &truth, &how)
            .await
            .map_err(|why| because(why, &how))?;
        places += 1;
    }
    Ok(Some(format!("{places} places")))
}

pub(super) async fn cut(bench: &Bench<'_>) -> CaseResult {
    bench.need_peer()?;
    let truth = session::truth(bench).await?;
    let longest = longest(bench).await?;
    let mut places = 0;
    for cut in cuts(longest) {
        let how = format!("the first answer is cut after {cut} bytes, with the stream");
        let mut first = true;
        let once = move |mut bytes: Vec<u8>| {
            if !std::mem::take(&mut first) {
                return vec![Reaction::Bytes(bytes)];
            }
            let most = bytes.len().saturating_sub(1);
            bytes.truncate(cut.min(most));
            vec![Reaction::Bytes(bytes), Reaction::HangUp]
        };
        let mut stage = bench.begin(shaped(bench, Box::new(once))).await?;
        poll_all(&mut stage)
            .await
            .map_err(|why| because(why, &how))?;
        only_true(&stage, &truth, &how)?;
        stage.advance(2 * SECOND).await;
        recovers(&mut stage, &truth, &how)
            .await
            .map_err(|why| because(why, &how))?;
        places += 1;
    }
    Ok(Some(format!("{places} places")))
}

pub(super) async fn noise(bench: &Bench<'_>) -> CaseResult {
    bench.need_link()?;
    bench.need_tags()?;
    let truth = if bench.plant.replies.is_empty() {
        None
    } else {
        Some(session::truth(bench).await?)
    };
    for round in 0..24_u64 {
        let how = format!(
            "the peer answers by noise, round {round} of seed {}",
            bench.seed
        );
        let mut random = session::random(bench, 100 + round);
        let babble = move |asked: Vec<u8>| {
            let mut bytes = match random.u8(0..4) {
                // The question as it was, then with a few bits turned: protocols look alike in both directions.
                0 => asked,
                1 => asked
                    .into_iter()
                    .map(|byte| {
                        if random.u8(..) < 32 {
                            byte ^ (1 << random.u8(0..8))
                        } else {
                            byte
                        }
                    })
                    .collect(),
                2 => vec![random.u8(..); random.usize(1..300)],
                _ => Vec::new(),
            };
            let more = random.usize(0..600);
            bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(more));
            let hangs_up = random.u8(0..8) == 0;
            std::iter::once(Reaction::Bytes(bytes))
                .chain(hangs_up.then_some(Reaction::HangUp))
                .collect()
        };
        let mut stage = bench.begin(Box::new(Babbler(Box::new(babble)))).await?;
        let mut unasked = session::random(bench, 200 + round);
        for _ in 0..3 {
            poll_all(&mut stage)
                .await
                .map_err(|why| because(why, &how))?;
            for link in stage.config().links.clone() {
                let bytes: Vec<u8> = std::iter::repeat_with(|| unasked.u8(..)).take(64).collect();
                stage.receive(link.id, &bytes);
            }
            stage.advance(SECOND).await;
        }
        // An echo of a question may be the true answer to a write; it is none to a poll.
        session::nothing_good(&stage, &how)?;
        if let Some(truth) = &truth {
            stage.meet(bench.honest());
            let how = format!("{how}, until the peer is honest again");
            recovers(&mut stage, truth, &how)
                .await
                .map_err(|why| because(why, &how))?;
        }
    }
    Ok(Some("24 rounds".to_owned()))
}

pub(super) async fn kept(bench: &Bench<'_>) -> CaseResult {
    bench.need_peer()?;
    let truth = session::truth(bench).await?;
    let answers = answers(bench).await?;
    let longest = answers.iter().map(Vec::len).max().unwrap_or(0);
    let kept: Vec<Kept> = bench
        .plant
        .config
        .links
        .iter()
        .map(|link| Kept {
            connection: link.id,
            link: link.id,
            target: None,
        })
        .collect();
    let mut places = 0;
    for cut in cuts(longest) {
        let how = format!(
            "the connection outlived its driver, and brings an old answer from byte {cut} on"
        );
        let beginning = Beginning {
            incarnation: 2,
            reason: crate::bindings::events::StartReason::RestartAfterFault,
            kept: kept.clone(),
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
        // The rest of what the incarnation before was being told, and an old value.
        for answer in &answers {
            let rest = answer.get(cut..).unwrap_or_default();
            if !rest.is_empty() {
                stage.receive(kept[0].link, rest);
            }
        }
        poll_all(&mut stage)
            .await
            .map_err(|why| because(why, &how))?;
        only_true(&stage, &truth, &how)?;
        recovers(&mut stage, &truth, &how)
            .await
            .map_err(|why| because(why, &how))?;
        places += 1;
    }
    Ok(Some(format!("{places} places")))
}

/// What an honest peer answers to a whole poll, with its last byte but one changed: answers of another time.
async fn answers(bench: &Bench<'_>) -> Result<Vec<Vec<u8>>, NoPass> {
    let all = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let seen = all.clone();
    let shape: Shape = Box::new(move |bytes| {
        let mut old = bytes.clone();
        if let Some(byte) = old.iter_mut().rev().nth(1) {
            *byte ^= 1;
        }
        seen.borrow_mut().push(old);
        vec![Reaction::Bytes(bytes)]
    });
    let mut stage = bench.begin(shaped(bench, shape)).await?;
    poll_all(&mut stage).await?;
    drop(stage);
    Ok(all.take())
}
