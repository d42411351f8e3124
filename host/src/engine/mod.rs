//! The one wasmtime engine of the host, and the thread that ticks its epochs.
//!
//! Everything about an engine that is the same for every channel stands here: which proposals are on, how memory
//! is pooled, how often a running guest is looked at, where compiled code comes from. What differs between
//! channels (fuel, deadline, memory) stands in `driver`.
//!
//! - `compiler`: gets a component compiled, in a child process that has limits of its own. `child` is that child.
//! - `cache`: the folder with compiled code, and under which name wasmtime looks for it there.
//! - `maps`: what bounds the number of channels.
//! - `ticker`: the thread.
//!
//! With [`Compiler::Child`] the host's own engine has no compiler at all: what is not in the cache cannot be loaded,
//! so a component can neither hold up the host by being compiled nor take its memory.
//!
//! What can go wrong: the pool maps address space for every slot at once, so it is sized to the configured channels plus
//! head-room.

mod cache;
mod child;
mod compiler;
mod maps;
mod ticker;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use wasmtime::component::Component;
use wasmtime::{
    Cache, Config, InstanceAllocationStrategy, ModuleVersionStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use crate::config::CompileLimits;
use crate::limits::{CORE_INSTANCES, MEMORIES, STACK, TABLE_ELEMENTS, TABLES, TICK};
pub use child::{Order, run as run_child};
#[cfg(test)]
pub(crate) use compiler::COMMAND as COMPILE_COMMAND;
pub use compiler::{CompileError, CompileLimit, Compiler};

/// What the engine needs to know in advance.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Room for what is to live at once.
    pub pool: Pool,
    /// Where compiled code is kept, with mode 0700.
    pub cache_dir: PathBuf,
    /// Who compiles what is not there yet.
    pub compiler: Compiler,
    /// What compiling one component may take; nothing limits a compiler in this process.
    pub compile: CompileLimits,
}

/// Room for instances, memories and tables: what the configured channels need all together, and head-room for instances that
/// live for a moment. No component can use up what another one needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    instances: u32,
    memories: u32,
    tables: u32,
    max_memory: u64,
}

impl Pool {
    /// Instances over those that are asked for: one scratch instance for `configure`, one for `describe`, a few in the course of
    /// a restart.
    const HEAD_ROOM: u32 = 16;
    /// Instances that a reload may add, besides a quarter of those that there are.
    const GROWTH: u32 = 16;

    /// Room for `instances` of one core module each: one memory and three tables, of which none is larger than `max_memory`
    /// bytes.
    pub fn even(instances: u32, max_memory: u64) -> Self {
        Self::of((0..instances).map(|_| (1, 3)), max_memory)
    }

    /// Room for one instance of each of these, given their numbers of memories and tables. The instances over those may be of the
    /// neediest kind that there can be.
    pub fn of(needs: impl IntoIterator<Item = (u64, u64)>, max_memory: u64) -> Self {
        let mut pool = Self {
            instances: Self::HEAD_ROOM,
            memories: Self::HEAD_ROOM * MEMORIES,
            tables: Self::HEAD_ROOM * TABLES,
            max_memory,
        };
        let add = |sum: u32, more: u64| sum.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        for (memories, tables) in needs {
            pool.instances = add(pool.instances, 1);
            // One that needs more than any may have is refused when it is loaded.
            pool.memories = add(pool.memories, memories.min(MEMORIES.into()));
            pool.tables = add(pool.tables, tables.min(TABLES.into()));
        }
        pool
    }

    /// The same with room for channels that a reload adds. What is not used takes address space, and nothing else.
    pub fn with_growth(self) -> Self {
        let more = (self.instances - Self::HEAD_ROOM) / 4 + Self::GROWTH;
        Self {
            instances: self.instances.saturating_add(more),
            memories: self.memories.saturating_add(more),
            tables: self.tables.saturating_add(more.saturating_mul(3)),
            max_memory: self.max_memory,
        }
    }

    /// The largest memory that an instance may have, in bytes.
    pub fn max_memory(&self) -> u64 {
        self.max_memory
    }

    /// Whether instances of these fit besides each other, none with a larger memory than `max_memory` bytes; if not, why.
    pub fn refuses(
        &self,
        needs: impl IntoIterator<Item = (u64, u64)>,
        max_memory: u64,
    ) -> Option<String> {
        let wanted = Self::of(needs, max_memory);
        let short = [
            ("instances", wanted.instances, self.instances),
            ("memories", wanted.memories, self.memories),
            ("tables", wanted.tables, self.tables),
        ];
        if let Some((what, wanted, room)) = short.iter().find(|(_, wanted, room)| wanted > room) {
            return Some(format!(
                "they need {wanted} {what}, and there is room for {room}"
            ));
        }
        (max_memory > self.max_memory).then(|| {
            format!(
                "one may use {max_memory} bytes of memory, and there is room for {} each",
                self.max_memory
            )
        })
    }

    /// The memory maps of the process when all that was asked for lives.
    fn maps(&self) -> u64 {
        // Of the memories over those, most are never used.
        let memories = self.memories - Self::HEAD_ROOM * (MEMORIES - 1);
        maps::needed(self.instances.into(), memories.into())
    }
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refused the configuration, or the system the memory for it.
    #[error(
        "the wasm engine cannot be made for {instances} instances: {reason}; configure fewer channels, or raise \
         vm.max_map_count"
    )]
    Create {
        /// How many were asked for.
        instances: u32,
        /// What wasmtime says.
        reason: String,
        /// Whether it was memory that the system refused.
        out_of_memory: bool,
    },
    /// More memory maps than the system allows.
    #[error(
        "the configured channels need about {needed} memory maps, and the system allows a process {limit}; raise it with \
         `sysctl -w vm.max_map_count={enough}`, or move channels to another host"
    )]
    TooManyMaps {
        /// How many they need.
        needed: u64,
        /// How many there may be.
        limit: u64,
        /// What would do.
        enough: u64,
    },
    /// The cache folder cannot be used.
    #[error(
        "the compile cache {path} cannot be used: {reason}; make data_dir writable for this user"
    )]
    Cache {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The host cannot get anything compiled, whatever the component.
    #[error("{0}")]
    Compile(String),
}

/// The engine. Cheap to clone; its ticker ends with the last clone.
#[derive(Clone)]
pub struct Engine {
    wasmtime: wasmtime::Engine,
    options: Arc<EngineOptions>,
    cache: Cache,
    /// Held while something is taken from the cache, so that its counters tell of this and nothing else.
    taking: Arc<Mutex<()>>,
    _ticker: Arc<ticker::Ticker>,
}

/// A component that is ready to be linked.
pub struct Compiled {
    /// It.
    pub component: Component,
    /// Whether it was in the cache already.
    pub from_cache: bool,
}

/// Stack for the guest and the host functions that it calls.
const FIBER_STACK: usize = 1024 * 1024;
/// Bytes of a slot that stay resident when it is given back, so that a restart finds warm pages.
const KEEP_RESIDENT: usize = 64 * 1024;
/// Raised whenever a setting of the compiler changes: an engine without a compiler cannot tell by itself that code was
/// compiled with other settings.
const SETTINGS: &str = concat!("bulkhead ", env!("CARGO_PKG_VERSION"), ", settings 1");

impl Engine {
    /// Makes the engine and starts its ticker.
    pub fn new(options: &EngineOptions) -> Result<Self, EngineError> {
        maps::check(options.pool.maps())?;
        let cache = cache::open(&options.cache_dir)?;
        let wasmtime = wasmtime_engine(options, Some(cache.clone()), !options.compiler.is_child())?;
        let ticker = ticker::Ticker::start(wasmtime.clone());
        Ok(Self {
            wasmtime,
            options: Arc::new(options.clone()),
            cache,
            taking: Arc::default(),
            _ticker: Arc::new(ticker),
        })
    }

    /// The room that there is.
    pub fn pool(&self) -> Pool {
        self.options.pool
    }

    /// wasmtime's own handle.
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }

    /// Takes a component from the cache, after having it compiled where it is not there. Blocks for as long as that takes.
    /// The bytes must have been verified; these very bytes are what is compiled and loaded.
    pub fn component(&self, bytes: &[u8]) -> Result<Compiled, CompileError> {
        let Compiler::Child(program) = &self.options.compiler else {
            let misses = self.cache.cache_misses();
            let component = Component::new(&self.wasmtime, bytes).map_err(refused)?;
            return Ok(Compiled {
                component,
                from_cache: self.cache.cache_misses() == misses,
            });
        };
        if let Some(component) = self.take(bytes)? {
            return Ok(Compiled {
                component,
                from_cache: true,
            });
        }
        compiler::compile(program, &self.options, bytes)?;
        match self.take(bytes)? {
            Some(component) => Ok(Compiled {
                component,
                from_cache: false,
            }),
            None => Err(CompileError::NotInCache {
                path: self.options.cache_dir.clone(),
            }),
        }
    }

    /// Takes a component from the cache; `None` if it is not there, or not usable on this machine.
    fn take(&self, bytes: &[u8]) -> Result<Option<Component>, CompileError> {
        let _taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        let hits = self.cache.cache_hits();
        match Component::new(&self.wasmtime, bytes) {
            Ok(component) => Ok(Some(component)),
            // It was there, but the pool has no room for one of its kind.
            Err(error) if self.cache.cache_hits() > hits => Err(refused(error)),
            Err(_) => Ok(None),
        }
    }

    /// How many components this process compiled itself, and how many it took from the cache.
    pub fn cache_misses_and_hits(&self) -> (usize, usize) {
        (self.cache.cache_misses(), self.cache.cache_hits())
    }

    /// How long after its deadline a guest may run on: it is looked at once in each tick.
    pub fn deadline_slack() -> Duration {
        TICK * 2
    }
}

fn refused(error: wasmtime::Error) -> CompileError {
    CompileError::Refused {
        reason: format!("{error:#}"),
    }
}

/// Two engines of the same options can use each other's code, whether they have a compiler or not.
fn wasmtime_engine(
    options: &EngineOptions,
    cache: Option<Cache>,
    with_compiler: bool,
) -> Result<wasmtime::Engine, EngineError> {
    let instances = options.pool.instances;
    let create = |reason: wasmtime::Error| EngineError::Create {
        instances,
        reason: format!("{reason:#}"),
        out_of_memory: is_out_of_memory(&reason),
    };
    let mut config = Config::new();
    if with_compiler {
        // The same events give the same actions, on any machine.
        config.cranelift_nan_canonicalization(true);
    } else {
        config.enable_compiler(false);
    }
    config
        // Four times cheaper per call; a driver takes turns, so nothing is ever concurrent within one.
        .concurrency_support(false)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK)
        .async_stack_size(FIBER_STACK)
        .relaxed_simd_deterministic(true)
        // Source lines are looked up by `driver::symbols`, once for each place.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .cache(cache)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(options.pool)));
    config
        .module_version(ModuleVersionStrategy::Custom(SETTINGS.to_owned()))
        .map_err(create)?;
    wasmtime::Engine::new(&config).map_err(create)
}

/// Whether the system refused memory.
fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| {
        let errno = cause.downcast_ref::<Errno>() == Some(&Errno::NOMEM);
        let io = cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory);
        errno || io
    })
}

fn pool(room: Pool) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(room.instances)
        // Nothing but a count; a component of one core module has three, with the adapters of its imports.
        .total_core_instances(room.instances.saturating_mul(CORE_INSTANCES))
        .total_memories(room.memories)
        .total_tables(room.tables)
        .total_stacks(room.instances)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_memories_per_module(MEMORIES)
        .max_tables_per_module(TABLES)
        .max_tables_per_component(TABLES)
        .max_component_instance_size(1024 * 1024)
        .max_core_instance_size(1024 * 1024)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(usize::try_from(room.max_memory).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(4096)
        .max_unused_warm_slots(64);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_has_room_for_what_each_channel_needs() {
        let (memories, tables) = (16 * MEMORIES, 16 * TABLES);
        let expected = |instances: u32, more_memories: u32, more_tables: u32| Pool {
            instances: 16 + instances,
            memories: memories + more_memories,
            tables: tables + more_tables,
            max_memory: 7,
        };
        assert_eq!(Pool::of([], 7), expected(0, 0, 0));
        assert_eq!(Pool::even(10, 7), expected(10, 10, 30));
        let needy = [(1, 3), (8, 32), (0, 0)];
        assert_eq!(Pool::of(needy, 7), expected(3, 9, 35));
        // Such a component is refused, and must not make room for itself.
        assert_eq!(
            Pool::of([(u64::MAX, 1 << 40)], 7),
            expected(1, MEMORIES, TABLES)
        );
    }
}
