//! One life of a driver: a store, and a guest in it that takes turns.
//!
//! Each call takes the instance and gives it back only if it returned in order. A store that trapped, ran out of
//! fuel or missed its deadline is dropped on the spot: nobody can enter it again, because nobody has it.

use std::time::Duration;

use tokio::time::Instant;
use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use super::fault::{self, DeadlinePassed};
use super::load::{Driver, DriverInfo};
use super::state::State;
use crate::bindings::actions::Action;
use crate::bindings::config::{ChannelConfig, ConfigFault};
use crate::bindings::events::Event;
use crate::bindings::{DriverWorld, types};
use crate::event::{MonotonicNs, WallNs};
use crate::exit::{During, Exit, ExitKind};
use crate::ids::InstanceId;
use crate::limits::{CROSSING_BYTES, TEXT_BYTES};
use crate::text::shown;

/// What one call may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// In wasmtime's units: about one per instruction.
    pub fuel: u64,
    /// Wall time.
    pub deadline: Duration,
}

/// What an instance is made of, besides its driver.
#[derive(Clone, Debug)]
pub struct InstanceSpec {
    /// Whose life this is.
    pub instance: InstanceId,
    /// Bytes over all memories and tables.
    pub memory: u64,
    /// Where its random numbers begin.
    pub seed: u64,
    /// For instantiation, and for `describe` and `configure`.
    pub start: Budget,
    /// For each turn.
    pub turn: Budget,
}

/// What the last call cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnStats {
    /// Fuel that it used.
    pub fuel: u64,
    /// The most memory that the instance ever held, in bytes.
    pub peak_memory: u64,
}

/// One life.
pub struct Instance {
    live: Box<Live>,
}

struct Live {
    store: Store<State>,
    world: DriverWorld,
    driver: Driver,
    spec: InstanceSpec,
}

impl Instance {
    /// Instantiates; runs the guest's start function under the start budget.
    pub async fn start(
        driver: &Driver,
        spec: InstanceSpec,
        now: (MonotonicNs, WallNs),
    ) -> Result<Self, Exit> {
        let state = State::new(&spec.instance, spec.memory, spec.seed);
        let mut store = Store::new(driver.engine().wasmtime(), state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(CROSSING_BYTES);
        store.epoch_deadline_callback(on_tick);
        store.data().time.set(now.0, now.1);
        prepare(&mut store, spec.start)?;
        match driver.pre().instantiate_async(&mut store).await {
            Ok(world) => Ok(Self {
                live: Box::new(Live {
                    store,
                    world,
                    driver: driver.clone(),
                    spec,
                }),
            }),
            Err(error) => {
                let used = used(&store);
                let limiter = &store.data().limiter;
                let exit =
                    fault::exit(driver, &error, During::Start, spec.start.fuel, limiter).await;
                Err(Exit {
                    fuel: Some(used),
                    ..exit
                })
            }
        }
    }

    /// Asks the driver what it is.
    pub async fn describe(mut self) -> Result<(Self, DriverInfo), Exit> {
        let live = &mut *self.live;
        prepare(&mut live.store, live.spec.start)?;
        match live
            .world
            .bulkhead_channel_driver()
            .call_describe(&mut live.store)
            .await
        {
            Ok(info) => Ok((self, DriverInfo::from_abi(info))),
            Err(error) => Err(self.end(&error, During::Start).await),
        }
    }

    /// Hands over a configuration.
    pub async fn configure(
        mut self,
        config: &ChannelConfig,
        now: (MonotonicNs, WallNs),
    ) -> Result<(Self, Result<(), Vec<ConfigFault>>), Exit> {
        let live = &mut *self.live;
        live.store.data().time.set(now.0, now.1);
        prepare(&mut live.store, live.spec.start)?;
        match live
            .world
            .bulkhead_channel_driver()
            .call_configure(&mut live.store, config)
            .await
        {
            Ok(answer) => Ok((self, answer)),
            Err(error) => Err(self.end(&error, During::Configure).await),
        }
    }

    /// Takes one turn.
    pub async fn turn(
        mut self,
        now: (MonotonicNs, WallNs),
        events: &[Event],
    ) -> Result<(Self, Vec<Action>), Exit> {
        let live = &mut *self.live;
        live.store.data().time.set(now.0, now.1);
        prepare(&mut live.store, live.spec.turn)?;
        let instant = types::Instant {
            monotonic_ns: now.0.0,
            wall_ns: now.1.0,
        };
        match live
            .world
            .bulkhead_channel_driver()
            .call_turn(&mut live.store, instant, events)
            .await
        {
            Ok(Ok(actions)) => Ok((self, actions)),
            Ok(Err(error)) => Err(Exit {
                fuel: Some(used(&live.store)),
                ..driver_error(error)
            }),
            Err(error) => Err(Box::pin(self.end(&error, During::Turn)).await),
        }
    }

    /// What `configure` may use from now on.
    pub fn set_start_budget(&mut self, budget: Budget) {
        self.live.spec.start = budget;
    }

    /// What each turn may use from now on.
    pub fn set_turn_budget(&mut self, budget: Budget) {
        self.live.spec.turn = budget;
    }

    /// What the last call cost.
    pub fn stats(&self) -> TurnStats {
        TurnStats {
            fuel: used(&self.live.store),
            peak_memory: self.live.store.data().limiter.peak(),
        }
    }

    async fn end(self, error: &wasmtime::Error, during: During) -> Exit {
        let fuel = match during {
            During::Turn => self.live.spec.turn.fuel,
            During::Start | During::Configure | During::Idle => self.live.spec.start.fuel,
        };
        let used = used(&self.live.store);
        let limiter = &self.live.store.data().limiter;
        let exit = fault::exit(&self.live.driver, error, during, fuel, limiter).await;
        Exit {
            fuel: Some(used),
            ..exit
        }
    }
}

/// The fuel that the present or last call has used. Where a guest was interrupted in the midst of its code, what it had
/// used when it last called a function.
fn used(store: &Store<State>) -> u64 {
    let left = store.get_fuel().unwrap_or(0);
    store.data().budget.fuel.saturating_sub(left)
}

/// Fills up fuel and winds up the deadline for one call.
fn prepare(store: &mut Store<State>, budget: Budget) -> Result<(), Exit> {
    store.set_fuel(budget.fuel).map_err(|error| {
        Exit::new(
            ExitKind::HostFault,
            During::Idle,
            format!("no fuel: {error}"),
        )
    })?;
    store.set_epoch_deadline(1);
    let state = store.data_mut();
    state.limiter.begin_call();
    state.budget = budget;
    state.called_at = Instant::now();
    Ok(())
}

/// Called in each tick in which the guest runs: ends it if its time is up, else lets others run.
fn on_tick(store: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    let state = store.data();
    if state.called_at.elapsed() >= state.budget.deadline {
        return Err(DeadlinePassed(state.budget.deadline).into());
    }
    Ok(UpdateDeadline::YieldCustom(
        1,
        Box::pin(tokio::task::yield_now()),
    ))
}

fn driver_error(error: types::Error) -> Exit {
    let mut sentence = shown(&error.message, TEXT_BYTES);
    if let Some(code) = error.code {
        sentence = format!("{sentence} (code {code})");
    }
    let backtrace = error
        .trace
        .iter()
        .flat_map(|trace| trace.lines())
        .take(Exit::MAX_FRAMES)
        .map(|line| crate::exit::Frame {
            function: shown(line, Exit::MAX_NAME_BYTES),
            source: None,
        })
        .collect();
    Exit::new(ExitKind::DriverError, During::Turn, sentence).at(backtrace)
}
