//! What wasmtime says, as an [`Exit`].

use std::time::Duration;

use wasmtime::{Trap, WasmBacktrace};

use super::limiter::Limiter;
use super::load::Driver;
use super::symbols::demangle;
use super::wasi::WouldWait;
use crate::exit::{During, Exit, ExitKind, Frame};
use crate::limits::TEXT_BYTES;
use crate::text::shown;

/// The deadline of a call has passed.
#[derive(Debug, thiserror::Error)]
#[error("the call took longer than {0:?}")]
pub(super) struct DeadlinePassed(pub(super) Duration);

/// Turns the error of one call into the end of the incarnation.
pub(super) async fn exit(
    driver: &Driver,
    error: &wasmtime::Error,
    during: During,
    fuel: u64,
    limiter: &Limiter,
) -> Exit {
    let (kind, sentence) = classify(error, fuel, limiter);
    Exit::new(kind, during, sentence).at(backtrace(driver, error).await)
}

fn classify(error: &wasmtime::Error, fuel: u64, limiter: &Limiter) -> (ExitKind, String) {
    if let Some(passed) = error.downcast_ref::<DeadlinePassed>() {
        return (ExitKind::DeadlineExceeded, passed.to_string());
    }
    if let Some(refused) = error.downcast_ref::<WouldWait>() {
        return (ExitKind::Refused, refused.to_string());
    }
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return (
            ExitKind::Trapped,
            format!("the driver called exit({})", exit.0),
        );
    }
    if let Some(Trap::OutOfFuel) = error.downcast_ref::<Trap>() {
        return (
            ExitKind::OutOfFuel,
            format!("the call used more than {fuel} units of fuel"),
        );
    }
    if let Some(wanted) = limiter.denied() {
        let sentence = format!(
            "the driver asked for {wanted} bytes of memory in all; its limit is {}",
            limiter.limit()
        );
        return (ExitKind::OutOfMemory, sentence);
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return (ExitKind::Trapped, trap.to_string());
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return (
            ExitKind::HostFault,
            format!("no room in the instance pool: {error}"),
        );
    }
    // No trap of the guest's code: what it handed over could not be taken (a pointer out of range, text that is
    // not UTF-8, an unknown variant, more data than may cross).
    (
        ExitKind::Refused,
        shown(
            &format!("the driver broke the ABI: {}", error.root_cause()),
            TEXT_BYTES,
        ),
    )
}

/// The guest's stack. A place that was not seen before is looked up on a thread of its own, since that reads the
/// driver's file: no other channel waits for it.
async fn backtrace(driver: &Driver, error: &wasmtime::Error) -> Vec<Frame> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let stack: Vec<(String, usize)> = backtrace
        .frames()
        .iter()
        .take(Exit::MAX_FRAMES)
        .map(|frame| {
            let name = frame
                .func_name()
                .map_or_else(|| format!("function {}", frame.func_index()), demangle);
            (name, frame.module_offset().unwrap_or(0))
        })
        .collect();
    let offsets: Vec<usize> = stack.iter().map(|(_, offset)| *offset).collect();
    let mut frames = Vec::new();
    for ((plain, _), mut places) in stack.into_iter().zip(driver.symbols(offsets).await) {
        if places.is_empty() {
            places.push(Frame {
                function: String::new(),
                source: None,
            });
        }
        // One place for each inlined function, innermost first; the last is the frame's own, whose name the module
        // gives in full.
        let last = places.len() - 1;
        for (at, place) in places.into_iter().enumerate() {
            let inlined = at < last && !place.function.is_empty();
            let function = if inlined {
                without_generics(&place.function)
            } else {
                plain.clone()
            };
            frames.push(Frame {
                function,
                source: place.source,
            });
        }
    }
    frames.truncate(Exit::MAX_FRAMES);
    frames
}

/// The name of an inlined function without its type parameters, which fill lines and tell nobody anything.
fn without_generics(name: &str) -> String {
    match name.find('<') {
        Some(at) if at > 0 => name[..at].to_owned(),
        _ => name.to_owned(),
    }
}
