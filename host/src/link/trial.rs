//! `bulkhead link test`: whether a link leads anywhere, step by step, and what is wrong where it does not.
//!
//! A link that is up is looked at, not dialled: many devices take one connection only, and a second one would cost the first.
//! Whoever wants a dial nevertheless says so. What a trial dials has passed the same check as every dial, says nothing to the
//! device, and is dropped at once.

use std::time::Duration;

use tokio::time::Instant;

use super::error::DialError;
use super::grant;
use super::journal::Journal;
use super::state::LinkState;
use super::transport::{self, Dialled};
use crate::config::Connect;
use crate::ids::ChannelId;

/// What a trial found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Whether a connection of its own was dialled; otherwise the present one was looked at.
    pub dialled: bool,
    /// In order; the last one failed, where one did.
    pub steps: Vec<TrialStep>,
}

/// A step of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialStep {
    /// `grant`, `resolve`, `connect`, `round-trip`, `connection`, `heartbeat`.
    pub name: &'static str,
    /// How it went; where it failed, with the remedy behind a semicolon.
    pub outcome: Result<String, String>,
    /// How long it took.
    pub took: Duration,
}

impl Trial {
    /// Whether nothing was found wrong.
    pub fn is_good(&self) -> bool {
        self.steps.iter().all(|step| step.outcome.is_ok())
    }

    fn add(&mut self, name: &'static str, since: Instant, outcome: Result<String, String>) {
        self.steps.push(TrialStep {
            name,
            outcome,
            took: since.elapsed(),
        });
    }
}

/// Tries a link. Takes as long as its `connect_timeout` at most.
pub async fn test(channel: &ChannelId, journal: &Journal, dial: bool) -> Trial {
    let report = journal.report();
    let up = report
        .connections
        .iter()
        .find_map(|line| match &line.state {
            LinkState::Connected { peer, since } => Some((peer.clone(), *since)),
            _ => None,
        });
    match up {
        Some((peer, since)) if !dial => {
            let mut trial = Trial {
                dialled: false,
                steps: Vec::new(),
            };
            let began = Instant::now();
            let now = journal.now();
            let time = |since: Duration| {
                humantime::format_duration(Duration::from_secs(since.as_secs())).to_string()
            };
            let heard = match report.heard {
                Some(at) if at >= since => format!("last heard {} ago", time(now.since(at))),
                _ => "nothing heard yet".to_owned(),
            };
            let sentence = format!("up with {peer} for {}, {heard}", time(now.since(since)));
            trial.add("connection", began, Ok(sentence));
            match report.healthy {
                None => {}
                Some(true) => {
                    let mean = report.statistics.probes.mean.unwrap_or_default();
                    let answer = format!("the driver's probes are answered in {mean:.1?}");
                    trial.add("heartbeat", began, Ok(answer));
                }
                Some(false) => {
                    let silent = "the driver's probes are not answered; see to the device, or reset the connection with \
                                  `bulkhead link reconnect`";
                    trial.add("heartbeat", began, Err(silent.to_owned()));
                }
            }
            trial
        }
        _ => dialled(channel, journal).await,
    }
}

async fn dialled(channel: &ChannelId, journal: &Journal) -> Trial {
    let mut trial = Trial {
        dialled: true,
        steps: Vec::new(),
    };
    let link = journal.link();
    let mut began = Instant::now();
    if matches!(link.connect, Connect::Listen(_)) {
        let why = "devices call in here, so there is nobody to dial; see whether its channel runs, and the device's own settings";
        trial.add("connect", began, Err(why.to_owned()));
        return trial;
    }
    let deadline = began + link.connect_timeout;
    let permit = match grant::permit(channel, &link, None, deadline).await {
        Ok(permit) => permit,
        Err(error) => {
            let step = match error {
                DialError::NotGranted { .. } => "grant",
                _ => "resolve",
            };
            trial.add(step, began, Err(error.to_string()));
            return trial;
        }
    };
    trial.add("grant", began, Ok(link.connect.to_string()));
    trial.add("resolve", began, Ok("where it leads is known".to_owned()));
    began = Instant::now();
    match transport::dial(permit, link.heartbeat, deadline).await {
        Ok(dialled) => {
            let peer = dialled.peer();
            trial.add("connect", began, Ok(peer));
            if let Dialled::Stream(_) = dialled {
                let round_trip = format!("connected within {:.1?}", began.elapsed());
                trial.add("round-trip", began, Ok(round_trip));
            }
        }
        Err(error) => trial.add("connect", began, Err(error.to_string())),
    }
    trial
}
