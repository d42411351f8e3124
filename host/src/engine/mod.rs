//! The one wasmtime engine of the host, and the thread that ticks its epochs.
//!
//! Everything about an engine that is the same for every channel stands here: which proposals are on, how memory
//! is pooled, how often a running guest is looked at, where compiled code is cached. What differs between
//! channels (fuel, deadline, memory) stands in `driver`.
//!
//! What can go wrong: the pool maps address space for every slot at once, so a pool much larger than its use
//! fails early on `vm.max_map_count`; it is sized to the configured channels plus head-room.

mod ticker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{
    Cache, CacheConfig, Config, InstanceAllocationStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

pub use ticker::TICK;

/// What the engine needs to know in advance.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// How many instances may live at once: the configured channels. Head-room is added.
    pub instances: u32,
    /// The largest memory of one instance, in bytes: the largest limit of any channel.
    pub max_memory: u64,
    /// Where compiled code is kept, with mode 0700; `None` compiles anew at each start.
    pub cache_dir: Option<PathBuf>,
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
}

/// The engine. Cheap to clone; its ticker ends with the last clone.
#[derive(Clone)]
pub struct Engine {
    wasmtime: wasmtime::Engine,
    cache: Option<Cache>,
    _ticker: Arc<ticker::Ticker>,
}

/// Instances over the configured ones: one scratch instance for `configure`, one for `describe`, a few in the
/// course of a restart.
const HEAD_ROOM: u32 = 16;
/// A component made of several core modules (Python's, say) has several of each.
const CORE_INSTANCES_PER_COMPONENT: u32 = 64;
/// Stack for the guest. Deep recursion ends here.
const WASM_STACK: usize = 512 * 1024;
/// Stack for the guest and the host functions that it calls.
const FIBER_STACK: usize = 1024 * 1024;
/// Bytes of a slot that stay resident when it is given back, so that a restart finds warm pages.
const KEEP_RESIDENT: usize = 64 * 1024;

impl Engine {
    /// Makes the engine and starts its ticker.
    pub fn new(options: &EngineOptions) -> Result<Self, EngineError> {
        let instances = options.instances.saturating_add(HEAD_ROOM);
        let create = |reason: wasmtime::Error| EngineError::Create {
            instances,
            reason: format!("{reason:#}"),
        };
        let cache = options.cache_dir.as_deref().map(open_cache).transpose()?;

        let mut config = Config::new();
        config
            // Four times cheaper per call; a driver takes turns, so nothing is ever concurrent within one.
            .concurrency_support(false)
            .consume_fuel(true)
            .epoch_interruption(true)
            .max_wasm_stack(WASM_STACK)
            .async_stack_size(FIBER_STACK)
            // The same events give the same actions, on any machine.
            .cranelift_nan_canonicalization(true)
            .relaxed_simd_deterministic(true)
            // Function names only. Source lines are looked up while the trap unwinds, on the thread that polls
            // other channels: wasmtime reads a driver's debug information anew for each frame, which takes a tenth
            // of a second and more for a stack of twenty.
            .wasm_backtrace_details(WasmBacktraceDetails::Disable)
            .cache(cache.clone())
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(
                instances,
                options.max_memory,
            )));
        let wasmtime = wasmtime::Engine::new(&config).map_err(create)?;
        let ticker = ticker::Ticker::start(wasmtime.clone());
        Ok(Self {
            wasmtime,
            cache,
            _ticker: Arc::new(ticker),
        })
    }

    /// wasmtime's own handle.
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }

    /// How many components were compiled because the cache did not hold them, and how many it did hold.
    pub fn cache_misses_and_hits(&self) -> (usize, usize) {
        self.cache
            .as_ref()
            .map_or((0, 0), |cache| (cache.cache_misses(), cache.cache_hits()))
    }

    /// How long after its deadline a guest may run on: it is looked at once in each tick.
    pub fn deadline_slack() -> Duration {
        TICK * 2
    }
}

fn pool(instances: u32, max_memory: u64) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    // A component of one core module uses three core instances (the module and the adapters of its imports), one
    // memory and up to three tables; the shared pool leaves room for some that use more.
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(4))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(3))
        .total_stacks(instances)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(8)
        .max_tables_per_component(32)
        .max_component_instance_size(1024 * 1024)
        .max_core_instance_size(1024 * 1024)
        .table_elements(20_000)
        .max_memory_size(usize::try_from(max_memory).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(4096)
        .max_unused_warm_slots(64);
    pool
}

fn open_cache(path: &Path) -> Result<Cache, EngineError> {
    use std::os::unix::fs::DirBuilderExt;

    let fault = |reason: String| EngineError::Cache {
        path: path.to_owned(),
        reason,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| fault(error.to_string()))?;
    let path = path
        .canonicalize()
        .map_err(|error| fault(error.to_string()))?;
    let mut config = CacheConfig::new();
    config.with_directory(path.clone());
    Cache::new(config).map_err(|error| EngineError::Cache {
        path,
        reason: format!("{error:#}"),
    })
}
