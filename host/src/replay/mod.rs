//! A crash again, from its bundle: the same driver is given the same, and must end the same; or another driver is, and
//! shows whether a fix holds.
//!
//! *The same end* is: the same kind, in the same call, in the same turn, after the same fuel. What cannot be the same is said:
//!
//! - A deadline is wall time. Its turn is run with the fuel that it had used when time was up, and must run out there. That
//!   fuel is read where the driver last called a function, so it is what it had used at the least.
//! - Which call exhausts the stack depends on the processor and the compiler.
//! - Where the middle of a recording was lost, the driver misses what it was given there: best effort.
//! - A refused list of actions is checked by the channel's own rules on what is under way as the events tell it
//!   ([`crate::channel::Ledger`]); how much of a send window was free is known to the turn, not to the byte.
//! - A `host-fault` is no doing of the driver's: there is nothing to repeat.
//! - Settings that are secret are filler. A driver that works with their content may take another path.

mod compare;
mod report;

use std::time::Duration;

pub use report::{Divergence, Ending, Report, Verdict};

use crate::driver::{Budget, Driver, InstanceSpec};
use crate::event::{MonotonicNs, WallNs};
use crate::exit::{During, Exit, ExitKind};
use crate::ids::{ChannelId, InstanceId};
use crate::recorder::{Bundle, Header, TapeError, Turn};
use crate::virtual_host::{BadType, VirtualHost, VirtualSetup};
use compare::Comparison;

/// The most that a replay grants, whatever its bundle says: the bounds of the configuration.
const MAX_MEMORY: u64 = 1 << 30;
const MAX_FUEL: u64 = 10_000_000_000;
/// For calls that have no deadline of their own here.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Why a bundle cannot be replayed, although it can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It asks for more than any channel may have.
    #[error(
        "the bundle gives its driver {what} {found}, where a channel may have {most}; copy the bundle again from the host that wrote it"
    )]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much.
        found: u64,
        /// The bound.
        most: u64,
    },
    /// A word in it means nothing to this host.
    #[error(
        "the bundle says {what} {found:?}, which this host does not know; replay it with the host that wrote it"
    )]
    Unknown {
        /// Of what.
        what: &'static str,
        /// The word.
        found: String,
    },
    /// Its configuration cannot be.
    #[error(transparent)]
    BadType(#[from] BadType),
    /// Its recording cannot be read to the end.
    #[error("{0}; copy the bundle again from the host that wrote it")]
    Tape(#[from] TapeError),
}

/// Replays a bundle with a driver.
pub async fn replay(bundle: &Bundle, driver: &Driver) -> Result<Report, ReplayError> {
    let header = &bundle.header;
    let recorded = recorded_exit(header)?;
    let same_driver = driver.sha256() == header.driver.sha256;
    let whole = bundle.tape.is_whole();
    let mut comparison = Comparison::new(header, &recorded, same_driver, whole);
    let ending = run(bundle, driver, &recorded, same_driver, &mut comparison).await?;
    Ok(comparison.conclude(ending))
}

fn recorded_exit(header: &Header) -> Result<Exit, ReplayError> {
    header.exit.to_exit().ok_or_else(|| ReplayError::Unknown {
        what: "that its driver ended as",
        found: format!("{} in {}", header.exit.kind, header.exit.during),
    })
}

/// Gives the driver what it was given. Ends with its exit, or with the recording.
async fn run(
    bundle: &Bundle,
    driver: &Driver,
    recorded: &Exit,
    same_driver: bool,
    comparison: &mut Comparison<'_>,
) -> Result<Option<Exit>, ReplayError> {
    let header = &bundle.header;
    let mut setup = setup(header, same_driver)?;
    let (start_budget, turn_budget) = (setup.spec.start, setup.spec.turn);
    // Where time was up, the same call gets what it had used by then.
    let time_was_up = |during: During, budget: Budget| {
        let is_here =
            same_driver && recorded.kind == ExitKind::DeadlineExceeded && recorded.during == during;
        let fuel = recorded.fuel.filter(|_| is_here)?.min(budget.fuel);
        Some(Budget { fuel, ..budget })
    };
    if let Some(budget) = time_was_up(During::Start, start_budget) {
        setup.spec.start = budget;
    }
    let mut host = match VirtualHost::start(driver, setup, header.start.now()).await? {
        Ok(host) => host,
        Err(exit) => return Ok(Some(exit)),
    };
    comparison.call("start", header.start.fuel, host.stats().fuel);
    let Some(configure) = header.configure else {
        return Ok(None);
    };
    if let Some(budget) = time_was_up(During::Configure, start_budget) {
        host.set_start_budget(budget);
    }
    host = match host.configure(configure.now()).await {
        Ok(host) => host,
        Err(exit) => return Ok(Some(exit)),
    };
    comparison.call("configure", configure.fuel, host.stats().fuel);
    let mut turns = bundle.tape.turns().peekable();
    while let Some(turn) = turns.next() {
        let turn = turn?;
        let is_last = turns.peek().is_none();
        comparison.begin(&turn);
        if is_last && let Some(budget) = time_was_up(During::Turn, turn_budget) {
            host.set_turn_budget(budget);
        }
        host = match one_turn(host, &turn, is_last, same_driver, comparison).await {
            Ok(host) => host,
            Err(exit) => return Ok(Some(exit)),
        };
    }
    Ok(None)
}

async fn one_turn(
    host: VirtualHost,
    turn: &Turn,
    is_last: bool,
    same_driver: bool,
    comparison: &mut Comparison<'_>,
) -> Result<VirtualHost, Exit> {
    let now: (MonotonicNs, WallNs) = turn.now;
    let (mut host, actions) = host.give(now, &turn.events).await?;
    comparison.end(turn, host.stats().fuel, actions.len());
    if let Err(refused) = host.check(now.0, &actions) {
        // Before the last turn the channel has taken this list: it knew more (see `channel::Ledger`).
        if is_last || !same_driver {
            return Err(refused);
        }
    }
    if host.note(now.0, &actions) {
        comparison.stopped();
    }
    Ok(host)
}

/// What the driver of a bundle runs with.
pub(crate) fn setup(header: &Header, same_driver: bool) -> Result<VirtualSetup, ReplayError> {
    let limits = &header.limits;
    let bounds = [
        ("bytes of memory:", limits.memory, MAX_MEMORY),
        ("fuel for a turn:", limits.fuel_per_turn, MAX_FUEL),
        ("fuel to start:", limits.start_fuel, MAX_FUEL),
    ];
    for (what, found, most) in bounds {
        if found > most {
            return Err(ReplayError::TooMuch { what, found, most });
        }
    }
    let channel = ChannelId::new(&header.channel).map_err(|_| ReplayError::Unknown {
        what: "that its channel is called",
        found: header.channel.chars().take(64).collect(),
    })?;
    // The same driver ends by what it used then. Another one has to keep the limits here and now.
    let deadline = |nanos: u64| {
        if same_driver {
            PATIENCE
        } else {
            Duration::from_nanos(nanos).min(PATIENCE)
        }
    };
    Ok(VirtualSetup {
        spec: InstanceSpec {
            instance: InstanceId {
                channel,
                incarnation: header.incarnation,
            },
            memory: limits.memory,
            seed: header.seed,
            start: Budget {
                fuel: limits.start_fuel,
                deadline: deadline(limits.start_deadline_ns),
            },
            turn: Budget {
                fuel: limits.fuel_per_turn,
                deadline: deadline(limits.turn_deadline_ns),
            },
        },
        config: header.config.to_abi(),
        samples_per_second: limits.samples_per_second,
    })
}
