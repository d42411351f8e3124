//! The universal cases: what holds of every driver, whatever its protocol.
//!
//! Each is a function over a [`Bench`]: the driver, what it says of itself, and the plant that it is tried with. [`CASES`] is the
//! table of them. An id never changes its meaning; what a case demands may only change with the version in
//! [`super::VERSION`].
//!
//! - `description`: what the driver says of itself. `configuration`: good and bad ones. `life`: start, stop, restart.
//! - `requests`: exactly one answer to each, in time. `silence`: peers that are away or say nothing.
//! - `bytes`: what arrives mangled. `endurance`: storms, memory, rest. `same`: the same again. `faults`: ends between turns, saved
//!   state. `needs`: what it takes.

mod bytes;
mod configuration;
mod description;
mod endurance;
mod faults;
mod life;
mod needs;
mod requests;
mod same;
mod session;
mod silence;

pub(super) use needs::measured as needs_measured;

use futures_util::future::LocalBoxFuture;

use super::baseline::Baseline;
use super::outcome::{CaseResult, NoPass};
use super::peer::{Learned, Peer, Reach, Silent};
use super::plant::Plant;
use super::stage::{Beginning, SECOND, Stage};
use crate::driver::{Driver, DriverInfo};

/// How long anything may take that has no deadline of its own, in virtual time.
pub(super) const PATIENCE: u64 = 60 * SECOND;

/// A driver with all that its cases need.
pub struct Bench<'a> {
    /// The driver.
    pub driver: &'a Driver,
    /// What it says of itself.
    pub info: &'a DriverInfo,
    /// What it is tried with.
    pub plant: &'a Plant,
    /// Bytes that the driver may hold.
    pub memory: u64,
    /// Where random bytes and faults begin.
    pub seed: u64,
    /// What each event may cost.
    pub baseline: Option<&'a Baseline>,
}

/// A rule that holds of every driver.
pub struct Case {
    /// Stable.
    pub id: &'static str,
    /// What it demands, in one sentence.
    pub what: &'static str,
    run: for<'a> fn(&'a Bench<'a>) -> LocalBoxFuture<'a, CaseResult>,
}

impl Case {
    /// Tries it.
    pub async fn run(&self, bench: &Bench<'_>) -> CaseResult {
        (self.run)(bench).await
    }
}

macro_rules! cases {
    ($($id:literal, $function:path, $what:literal;)*) => {
        /// Every universal case, in the order in which they run.
        pub const CASES: &[Case] = &[$(Case {
            id: concat!("universal/", $id),
            what: $what,
            run: |bench| Box::pin($function(bench)),
        }),*];
    };
}

cases! {
    "describe-stable", description::stable, "describe says the same at every call, before and after configure, and in every instance";
    "describe-schemas", description::schemas, "both schemas are JSON Schema, and texts and names are in order";
    "imports", description::imports, "it imports the log and what standard libraries bring, and nothing that reaches out";
    "configure", configuration::sample, "it takes the plant's configuration";
    "configure-faults", configuration::faults, "a bad configuration is refused with where and what, and never ends the driver";
    "configure-all-faults", configuration::all_faults, "faults of different tags are reported all at once";
    "configure-again", configuration::again, "a configuration that is refused leaves the one before in force";
    "stop", life::stop, "asked to stop it answers `stopped` in time";
    "stop-at-once", life::stop_at_once, "it stops also in its very first turn";
    "stop-twice", life::stop_twice, "a second `stop` does no harm";
    "stop-busy", life::stop_busy, "asked to stop in the midst of work it answers what is under way, then `stopped`";
    "restart", life::restart, "every further incarnation does the same work";
    "poll", requests::poll, "a poll is answered once, and a peer that answers makes all of its tags good";
    "poll-skip", requests::skip, "a skipped device is sent nothing, and none of its tags is published";
    "read", requests::read, "a read is answered once, with one sample for each tag in order, good where a peer answers";
    "write", requests::write, "a write is answered once, succeeds where a peer answers, and is read back where that is asked for";
    "command", requests::command, "a command is answered once, an unknown one by an error";
    "health", requests::health, "a health check is answered";
    "cancel", requests::cancel, "what is cancelled is still answered exactly once";
    "peer-silent", silence::silent, "a peer that never answers: everything is answered in time, and nothing is good";
    "peer-away", silence::away, "a peer that cannot be reached: everything is answered in time, and nothing is good";
    "link-drops", silence::drops, "when the link drops nothing is good until the peer has answered again";
    "bytes-single", bytes::single, "answers that arrive byte by byte are the same answers";
    "bytes-huge", bytes::huge, "answers in one chunk with much more do no harm, and make nothing up";
    "bytes-truncated", bytes::truncated, "an answer that stops anywhere in its midst makes nothing good";
    "bytes-cut", bytes::cut, "a stream that is cut in mid-answer leaves nothing behind for the next";
    "bytes-noise", bytes::noise, "noise makes nothing good, and the driver finds back to its peer";
    "kept-connection", bytes::kept, "a connection that outlived its driver begins in the midst of an answer, and is not believed";
    "poll-storm", endurance::storm, "polls, reads and writes without a pause are all answered";
    "rest", endurance::rest, "with nothing to do it takes few turns";
    "memory", endurance::memory, "memory and the cost of a poll are the same after 100,000 turns";
    "determinism", same::twice, "the same events give the same actions and the same fuel";
    "scripted-time", same::other_seed, "one that declares it does the same whatever its random numbers are";
    "fault-anywhere", faults::anywhere, "an end between any two turns loses and duplicates no answer of the next incarnation";
    "state", faults::state, "what it has saved brings it back, and a damaged state does not end it";
    "fuel", needs::fuel, "each kind of event costs what the baseline says, exactly";
    "needs", needs::least, "the least memory and fuel with which it passes, for the report";
}

impl Bench<'_> {
    /// Whether the driver declares this.
    pub(in crate::conform) fn can(&self, capability: &str) -> bool {
        self.info.can.contains(&capability)
    }

    /// Skips where the driver does not declare this.
    pub(super) fn need(&self, capability: &str) -> Result<(), NoPass> {
        if self.can(capability) {
            Ok(())
        } else {
            Err(NoPass::skipped(format!(
                "the driver does not declare `{capability}`"
            )))
        }
    }

    /// Skips where there is nothing to poll.
    pub(super) fn need_tags(&self) -> Result<(), NoPass> {
        if self.plant.config.tags.is_empty() {
            return Err(NoPass::skipped(
                "the plant has no tags; write some into a script in the driver's `conformance` folder",
            ));
        }
        Ok(())
    }

    /// Skips where there is no link, or nobody who answers over it.
    pub(super) fn need_peer(&self) -> Result<(), NoPass> {
        self.need_tags()?;
        self.need_link()?;
        if self.plant.replies.is_empty() {
            return Err(NoPass::skipped(
                "the plant's peer knows no answers; write `reply` lines into a script in the driver's `conformance` folder",
            ));
        }
        Ok(())
    }

    /// Skips where the driver has no link.
    pub(super) fn need_link(&self) -> Result<(), NoPass> {
        if self.plant.config.links.is_empty() {
            return Err(NoPass::skipped("the driver has no link"));
        }
        Ok(())
    }

    /// A peer that answers as the plant says.
    pub(super) fn honest(&self) -> Box<dyn Peer> {
        Box::new(Learned::honest(&self.plant.replies))
    }

    /// A peer that takes calls and says nothing.
    pub(super) fn silent(&self) -> Box<dyn Peer> {
        Box::new(Silent(Reach::Up))
    }

    /// A life with this peer.
    pub(in crate::conform) async fn begin(&self, peer: Box<dyn Peer>) -> Result<Stage, NoPass> {
        self.begin_as(Beginning::default(), peer).await
    }

    /// A life that begins in this way.
    pub(in crate::conform) async fn begin_as(
        &self,
        mut beginning: Beginning,
        peer: Box<dyn Peer>,
    ) -> Result<Stage, NoPass> {
        beginning.memory = beginning.memory.or(Some(self.memory));
        let stage = Stage::begin(self.driver, &self.plant.config, beginning, peer).await?;
        stage.check()?;
        Ok(stage)
    }
}
