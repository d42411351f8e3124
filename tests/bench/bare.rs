//! The floor: a bare wasmtime call of the same component, on an engine with the same settings. Nothing of the host takes
//! part: no limiter, no deadline to wind up, no clock, no checks.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use bulkhead::bindings::config::ChannelConfig;
use bulkhead::bindings::events::Event;
use bulkhead::bindings::{DriverWorld, DriverWorldPre, actions, config, events, log, types};
use bulkhead::engine::Engine;
use wasmtime::Store;
use wasmtime::component::{Component, HasData, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// What stands in a bare store.
pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl log::Host for State {
    fn write(&mut self, _level: log::Level, _message: String) {}
}
impl types::Host for State {}
impl config::Host for State {}
impl events::Host for State {}
impl actions::Host for State {}

struct Data;
impl HasData for Data {
    type Data<'a> = &'a mut State;
}

/// A bare component.
pub(crate) struct Bare {
    engine: wasmtime::Engine,
    pre: DriverWorldPre<State>,
}

/// A bare instance.
pub(crate) struct BareInstance {
    store: Store<State>,
    world: DriverWorld,
}

impl Bare {
    pub(crate) fn load(engine: &Engine, path: &Path) -> Result<Self> {
        let engine = engine.wasmtime().clone();
        let component =
            Component::from_file(&engine, path).map_err(|error| anyhow!("{error:#}"))?;
        let mut linker = Linker::<State>::new(&engine);
        let linked = wasmtime_wasi::p2::add_to_linker_async(&mut linker)
            .and_then(|()| DriverWorld::add_to_linker::<State, Data>(&mut linker, |state| state))
            .and_then(|()| linker.instantiate_pre(&component))
            .and_then(DriverWorldPre::new);
        let pre = linked.map_err(|error| anyhow!("{error:#}"))?;
        Ok(Self { engine, pre })
    }

    pub(crate) async fn instantiate(&self) -> Result<BareInstance> {
        let state = State {
            wasi: WasiCtx::builder().build(),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(&self.engine, state);
        store
            .set_fuel(u64::MAX)
            .map_err(|error| anyhow!("{error:#}"))?;
        store.set_epoch_deadline(u64::MAX / 2);
        let world = self
            .pre
            .instantiate_async(&mut store)
            .await
            .map_err(|error| anyhow!("{error:#}"))?;
        Ok(BareInstance { store, world })
    }
}

impl BareInstance {
    pub(crate) async fn configure(&mut self, config: &ChannelConfig) -> Result<()> {
        self.world
            .bulkhead_channel_driver()
            .call_configure(&mut self.store, config)
            .await
            .map_err(|error| anyhow!("{error:#}"))?
            .map_err(|faults| anyhow!("{faults:?}"))
            .context("configure")
    }

    pub(crate) async fn turn(
        &mut self,
        now: u64,
        events: &[Event],
    ) -> Result<Vec<actions::Action>> {
        let instant = types::Instant {
            monotonic_ns: now,
            wall_ns: now,
        };
        self.world
            .bulkhead_channel_driver()
            .call_turn(&mut self.store, instant, events)
            .await
            .map_err(|error| anyhow!("{error:#}"))?
            .map_err(|error| anyhow!("{error:?}"))
    }
}
