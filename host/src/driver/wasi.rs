//! WASI 0.2, whole and closed.
//!
//! The standard libraries of other languages import it all without using it, so it is all linked; behind it
//! there is no environment, no argument, no file and no socket. Clocks show the time of the turn, random numbers come from a
//! recorded seed, output goes to the log. Waiting is refused: a driver that waits in WASI would hold its turn for ever,
//! and wasmtime-wasi would wait in real time whatever clock it was given.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::io::poll::HostPollable;
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder};

use super::log_port::LogPort;
use super::state::{State, TurnTime};
use crate::bindings::log::Level;
use crate::limits::{RANDOM_BYTES, TEXT_BYTES};

/// Output that has no line end yet, in bytes; then it is logged as it is.
const MAX_PARTIAL_LINE: usize = TEXT_BYTES;

/// The guest wanted to wait.
#[derive(Debug, thiserror::Error)]
#[error(
    "the driver tried to wait inside WASI (sleep, poll or block); a driver sets a timer and returns"
)]
pub(super) struct WouldWait;

/// Everything of WASI that one store needs.
pub(super) fn context(seed: u64, time: &Arc<TurnTime>, log: &Arc<Mutex<LogPort>>) -> WasiCtx {
    let stream = |level| LogStream {
        level,
        time: time.clone(),
        log: log.clone(),
    };
    let mut builder = WasiCtxBuilder::new();
    builder
        .secure_random(ChaCha12Rng::seed_from_u64(seed))
        .insecure_random(ChaCha12Rng::seed_from_u64(
            seed.rotate_left(17) ^ 0x5bd1_e995,
        ))
        .insecure_random_seed(u128::from(seed) << 64 | u128::from(!seed))
        .max_random_size(RANDOM_BYTES)
        .wall_clock(TurnClock(time.clone()))
        .monotonic_clock(TurnClock(time.clone()))
        .allow_blocking_current_thread(false)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .stdout(stream(Level::Info))
        .stderr(stream(Level::Error));
    builder.build()
}

/// Links WASI, then shadows what waits.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    let mut poll = linker.instance("wasi:io/poll@0.2.12")?;
    poll.func_wrap_async(
        "[method]pollable.block",
        |mut store, (pollable,): (Resource<DynPollable>,)| {
            Box::new(async move {
                if store.data_mut().table_mut().ready(pollable).await? {
                    Ok(())
                } else {
                    Err(WouldWait.into())
                }
            })
        },
    )?;
    poll.func_wrap_async(
        "poll",
        |mut store, (pollables,): (Vec<Resource<DynPollable>>,)| {
            Box::new(async move {
                let table = store.data_mut().table_mut();
                let mut ready = Vec::new();
                for (index, pollable) in (0u32..).zip(&pollables) {
                    if table.ready(Resource::new_borrow(pollable.rep())).await? {
                        ready.push(index);
                    }
                }
                if ready.is_empty() {
                    Err(WouldWait.into())
                } else {
                    Ok((ready,))
                }
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

struct TurnClock(Arc<TurnTime>);

impl HostWallClock for TurnClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.wall().0)
    }
}

impl HostMonotonicClock for TurnClock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        self.0.monotonic().0
    }
}

/// Standard output or error: lines to the log.
struct LogStream {
    level: Level,
    time: Arc<TurnTime>,
    log: Arc<Mutex<LogPort>>,
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // WASI 0.2 takes `p2_stream`; only 0.3, which is not linked, would come here.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(LogLines {
            level: self.level,
            time: self.time.clone(),
            log: self.log.clone(),
            partial: Vec::new(),
        })
    }
}

struct LogLines {
    level: Level,
    time: Arc<TurnTime>,
    log: Arc<Mutex<LogPort>>,
    partial: Vec<u8>,
}

impl LogLines {
    fn write_line(&self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(line);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.write(self.time.monotonic(), self.level, &text);
    }
}

impl Drop for LogLines {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            self.write_line(&self.partial);
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogLines {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for LogLines {
    fn write(&mut self, bytes: bytes::Bytes) -> Result<(), StreamError> {
        let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            self.partial.extend_from_slice(line);
            if lines.peek().is_some() || self.partial.len() >= MAX_PARTIAL_LINE {
                let whole = std::mem::take(&mut self.partial);
                self.write_line(&whole);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 * 1024)
    }
}
