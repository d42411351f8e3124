//! What stands in a store beside the guest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::instance::Budget;
use super::limiter::Limiter;
use super::log_port::LogPort;
use super::wasi;
use crate::bindings::{actions, config, events, log, types};
use crate::event::{MonotonicNs, WallNs};
use crate::ids::InstanceId;
use crate::limits::HANDLES;

/// The time as the guest sees it: it stands still within a turn.
#[derive(Default)]
pub(super) struct TurnTime {
    monotonic: AtomicU64,
    wall: AtomicU64,
}

impl TurnTime {
    pub(super) fn set(&self, monotonic: MonotonicNs, wall: WallNs) {
        self.monotonic.store(monotonic.0, Ordering::Relaxed);
        self.wall.store(wall.0, Ordering::Relaxed);
    }

    pub(super) fn monotonic(&self) -> MonotonicNs {
        MonotonicNs(self.monotonic.load(Ordering::Relaxed))
    }

    pub(super) fn wall(&self) -> WallNs {
        WallNs(self.wall.load(Ordering::Relaxed))
    }
}

/// The data of one store.
pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    log: Arc<Mutex<LogPort>>,
    pub(super) limiter: Limiter,
    pub(super) time: Arc<TurnTime>,
    /// When the present call began, and what it may use.
    pub(super) called_at: Instant,
    pub(super) budget: Budget,
}

impl State {
    pub(super) fn new(instance: &InstanceId, memory: u64, seed: u64) -> Self {
        let time = Arc::new(TurnTime::default());
        let log = Arc::new(Mutex::new(LogPort::new(instance.clone())));
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Self {
            wasi: wasi::context(seed, &time, &log),
            table,
            log,
            limiter: Limiter::new(memory),
            time,
            called_at: Instant::now(),
            budget: Budget {
                fuel: 0,
                deadline: Duration::ZERO,
            },
        }
    }

    pub(super) fn table_mut(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
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
    fn write(&mut self, level: log::Level, message: String) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.write(self.time.monotonic(), level, &message);
    }
}

// Interfaces that hold types only have nothing to implement.
impl types::Host for State {}
impl config::Host for State {}
impl events::Host for State {}
impl actions::Host for State {}
