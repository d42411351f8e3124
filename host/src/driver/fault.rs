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
    let mut frames = Vec::new();
    for frame in backtrace.frames() {
        if frames.len() >= Exit::MAX_FRAMES {
            break;
        }
        let plain = frame
            .func_name()
            .map_or_else(|| format!("function {}", frame.func_index()), demangle);
        if frame.symbols().is_empty() {
            frames.push(Frame {
                function: plain,
                source: None,
            });
            continue;
        }
        // One symbol for each inlined function, innermost first; the last one is the frame's own, whose name the
        // module gives in full.
        let inlined = frame.symbols().len() - 1;
        for (at, symbol) in frame.symbols().iter().enumerate() {
            let short = symbol.name().filter(|_| at < inlined).map(without_generics);
            frames.push(Frame {
                function: short.unwrap_or_else(|| plain.clone()),
                source: symbol.file().map(|file| {
                    let line = symbol.line().unwrap_or(0);
                    format!("{file}:{line}:{}", symbol.column().unwrap_or(0))
                }),
            });
        }
    }
    frames.truncate(Exit::MAX_FRAMES);
    frames
}

/// The name of an inlined function without its type parameters, which fill lines and tell nobody anything.
fn without_generics(name: &str) -> String {
    let name = demangle(name);
    match name.find('<') {
        Some(at) if at > 0 => name[..at].to_owned(),
        _ => name,
    }
}

/// A function's name as its author wrote it.
fn demangle(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
        .chars()
        .take(512)
        .collect()
}
