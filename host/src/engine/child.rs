//! The compile child: a process that compiles one component within limits that it sets on itself.
//!
//! The component comes on standard input, the answer goes to standard output as one line of JSON. It opens no sockets, and
//! writes nowhere but into its workshop and, at the very end, one file into the cache. It dies with its parent.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde::{Deserialize, Serialize};
use wasmtime::component::Component;

use super::compiler::Compiler;
use super::{EngineError, EngineOptions, Pool, cache, is_out_of_memory, wasmtime_engine};
use crate::config::CompileLimits;
use crate::limits::COMPONENT_BYTES;
use crate::text::shown;

/// What a child is to do, besides the component.
#[derive(Clone, Debug)]
pub struct Order {
    /// The process that waits for it.
    pub parent: u32,
    /// The cache folder of that process.
    pub cache_dir: PathBuf,
    /// A folder for this child alone.
    pub workshop: PathBuf,
    /// As in [`EngineOptions`].
    pub max_memory: u64,
    /// What it may take.
    pub limits: CompileLimits,
}

/// What a child says at its end.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// The component is in the cache.
    Done,
    /// The compiler or the pool refuses it.
    Refused(String),
    /// It would take more memory than it may.
    OutOfMemory,
    /// Something of the host's is not as it should be.
    Failed(String),
}

/// The longest refusal, in bytes: it quotes the component.
const MAX_REASON: usize = 2_000;
/// Processor time between the signal that ends the child and the one that nothing withstands.
const LAST_SECONDS: u64 = 5;
/// A child needs its input, its output, a few folders, and some memory maps of its own.
const MAX_FILES: u64 = 64;

/// Compiles what comes on standard input.
pub fn run(order: &Order) -> io::Result<()> {
    let answer = limit_self(order).map_or_else(
        |error| Answer::Failed(format!("the compile child cannot limit itself: {error}")),
        |()| work(order),
    );
    let mut line = serde_json::to_string(&answer)?;
    line.push('\n');
    io::stdout().lock().write_all(line.as_bytes())
}

fn limit_self(order: &Order) -> io::Result<()> {
    let limit = |resource, soft: u64, hard: u64| {
        let limit = Rlimit {
            current: Some(soft),
            maximum: Some(hard),
        };
        rustix::process::setrlimit(resource, limit)
    };
    let seconds = order.limits.processor_time.as_secs().max(1);
    limit(Resource::Data, order.limits.memory, order.limits.memory)?;
    limit(Resource::Cpu, seconds, seconds.saturating_add(LAST_SECONDS))?;
    limit(Resource::Fsize, order.limits.memory, order.limits.memory)?;
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Nofile, MAX_FILES, MAX_FILES)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have gone before that was asked for.
    let parent = rustix::process::getppid().map(Pid::as_raw_pid);
    if parent != i32::try_from(order.parent).ok() {
        return Err(io::Error::other("the process that wanted it has gone"));
    }
    let wall = order.limits.time;
    std::thread::Builder::new()
        .name("wall-clock".into())
        .stack_size(64 * 1024)
        .spawn(move || end_after(wall))?;
    Ok(())
}

/// Ends the process by a signal, so that its parent can tell why.
fn end_after(wall: Duration) {
    std::thread::sleep(wall);
    if rustix::process::kill_process(rustix::process::getpid(), Signal::ALARM).is_err() {
        std::process::abort();
    }
}

fn work(order: &Order) -> Answer {
    let mut component = Vec::new();
    match io::stdin()
        .lock()
        .take(COMPONENT_BYTES + 1)
        .read_to_end(&mut component)
    {
        Ok(_) if component.len() as u64 <= COMPONENT_BYTES => {}
        Ok(_) => return Answer::Failed("the component is larger than any may be".to_owned()),
        Err(error) => return Answer::Failed(format!("the component did not come: {error}")),
    }
    let options = EngineOptions {
        pool: Pool::even(1, order.max_memory),
        cache_dir: order.workshop.clone(),
        compiler: Compiler::InProcess,
        compile: order.limits.clone(),
    };
    let failed = |error: EngineError| match error {
        EngineError::Create {
            out_of_memory: true,
            ..
        } => Answer::OutOfMemory,
        _ => Answer::Failed(error.to_string()),
    };
    let cache = match cache::open_at(&order.workshop) {
        Ok(cache) => cache,
        Err(error) => return failed(error),
    };
    let engine = match wasmtime_engine(&options, Some(cache), true) {
        Ok(engine) => engine,
        Err(error) => return failed(error),
    };
    if let Err(error) = Component::new(&engine, &component) {
        return refusal(&error);
    }
    drop(engine);
    match wasmtime_engine(&options, None, false) {
        Ok(engine) => file(order, &cache::name(&engine, &component)),
        Err(error) => failed(error),
    }
}

fn file(order: &Order, name: &str) -> Answer {
    let workshop: &Path = &order.workshop;
    match cache::hand_over(workshop, &order.cache_dir, name) {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Failed(format!(
            "compiled code cannot be filed in {}: {error}",
            order.cache_dir.display()
        )),
    }
}

fn refusal(error: &wasmtime::Error) -> Answer {
    if is_out_of_memory(error) {
        Answer::OutOfMemory
    } else {
        Answer::Refused(shown(&format!("{error:#}"), MAX_REASON))
    }
}
