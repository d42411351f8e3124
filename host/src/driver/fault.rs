//! What wasmtime says, as an [`Exit`].

use std::time::Duration;

use wasmtime::{Trap, WasmBacktrace};

use super::limiter::Limiter;
use super::wasi::WouldWait;
use crate::exit::{During, Exit, ExitKind, Frame};

/// The deadline of a call has passed.
#[derive(Debug, thiserror::Error)]
#[error("the call took longer than {0:?}")]
pub(super) struct DeadlinePassed(pub(super) Duration);

/// Turns the error of one call into the end of the incarnation.
pub(super) fn exit(error: &wasmtime::Error, during: During, fuel: u64, limiter: &Limiter) -> Exit {
    let (kind, sentence) = classify(error, fuel, limiter);
    Exit {
        kind,
        during,
        sentence,
        backtrace: backtrace(error),
    }
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
        format!("the driver broke the ABI: {}", error.root_cause()),
    )
}

fn backtrace(error: &wasmtime::Error) -> Vec<Frame> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let frames = backtrace.frames().iter().take(Exit::MAX_FRAMES);
    frames
        .map(|frame| Frame {
            function: frame
                .func_name()
                .map_or_else(|| format!("function {}", frame.func_index()), demangle),
            source: None,
        })
        .collect()
}

/// A function's name as its author wrote it.
fn demangle(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
        .chars()
        .take(512)
        .collect()
}
