//! What every handle of one runtime shares: the clock of the turn, the actions so far, the executor, the timers.
//!
//! One per [`Runtime`](crate::Runtime), behind an `Rc`: nothing here is static, so that two drivers link into one binary.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

use crate::abi::{self, Action, Level};
use crate::executor::{BoxedTask, Duty, Executor};
use crate::link::Connections;
use crate::random::Random;
use crate::time::{Instant, Timers};
use crate::wakers::Wakers;

/// How many lines a native runtime keeps before the oldest goes.
const LOG_LINES: usize = 1024;

/// A line of a driver's log, kept by a native runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// The line.
    pub message: String,
}

pub(crate) struct Shared {
    pub(crate) clock: Cell<abi::Instant>,
    pub(crate) actions: RefCell<Vec<Action>>,
    pub(crate) executor: Executor,
    pub(crate) timers: Timers,
    pub(crate) connections: Connections,
    pub(crate) random: Random,
    /// Batches whose `stored` has not come; or why it does not.
    pub(crate) unstored: RefCell<BTreeMap<u64, Option<String>>>,
    pub(crate) next_batch: Cell<u64>,
    pub(crate) stored: Wakers,
    /// Woken when a request was answered.
    pub(crate) answered: Wakers,
    /// What `configure` has begun and not ended.
    staged: RefCell<Option<Staged>>,
    log: RefCell<VecDeque<LogLine>>,
}

/// What a driver asks for within `configure`: it counts only if the configuration is accepted.
#[derive(Default)]
struct Staged {
    tasks: Vec<BoxedTask>,
    actions: Vec<Action>,
}

impl Shared {
    pub(crate) fn new(random: Random) -> Self {
        Self {
            clock: Cell::new(abi::Instant {
                monotonic_ns: 0,
                wall_ns: 0,
            }),
            actions: RefCell::default(),
            executor: Executor::default(),
            timers: Timers::default(),
            connections: Connections::default(),
            random,
            unstored: RefCell::default(),
            next_batch: Cell::new(0),
            stored: Wakers::default(),
            answered: Wakers::default(),
            staged: RefCell::default(),
            log: RefCell::default(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(self.clock.get().monotonic_ns)
    }

    pub(crate) fn push(&self, action: Action) {
        match &mut *self.staged.borrow_mut() {
            Some(staged) => staged.actions.push(action),
            None => self.actions.borrow_mut().push(action),
        }
    }

    pub(crate) fn spawn(&self, task: BoxedTask) {
        match &mut *self.staged.borrow_mut() {
            Some(staged) => staged.tasks.push(task),
            None => self.executor.spawn(Duty::Nothing, task),
        }
    }

    /// Whether somebody waits to hear that a batch is durable, and does so in vain.
    pub(crate) fn not_durable(&self, declined: &abi::Declined) -> bool {
        let mut unstored = self.unstored.borrow_mut();
        let Some(slot) = declined.batch.and_then(|id| unstored.get_mut(&id)) else {
            return false;
        };
        *slot = Some(declined.why.clone());
        self.stored.wake();
        true
    }

    /// From here on nothing takes effect.
    pub(crate) fn begin_configure(&self) {
        self.staged.replace(Some(Staged::default()));
        self.connections.begin_configure();
    }

    /// The new configuration was refused: what it asked for is forgotten.
    pub(crate) fn abandon_configure(&self) {
        drop(self.staged.take());
        self.connections.abandon();
    }

    /// The new configuration is in force, and so is what it asked for; see [`Connections::commit`].
    pub(crate) fn commit_configure(&self, mid_exchange: bool) {
        let staged = self.staged.take().unwrap_or_default();
        self.actions.borrow_mut().extend(staged.actions);
        for task in staged.tasks {
            self.executor.spawn(Duty::Nothing, task);
        }
        self.connections.commit(self, mid_exchange);
    }

    /// In a component the line goes out at once; natively it is kept until somebody takes it.
    pub(crate) fn log(&self, level: Level, message: &str) {
        #[cfg(target_arch = "wasm32")]
        abi::log::write(level, message);
        if cfg!(not(target_arch = "wasm32")) {
            let mut log = self.log.borrow_mut();
            if log.len() == LOG_LINES {
                log.pop_front();
            }
            log.push_back(LogLine {
                level,
                message: message.to_owned(),
            });
        }
    }

    pub(crate) fn take_log(&self) -> Vec<LogLine> {
        self.log.borrow_mut().drain(..).collect()
    }
}
