//! `GET /livez` and `GET /readyz`: for whoever starts, restarts or routes to this host, such as systemd or a container's probes.
//!
//! - **Live** fails (503) only for what a restart of the process would mend: a channel's task that hangs in the host's own
//!   code. Drivers that fault, channels that are broken, devices that are away are none of that.
//! - **Ready** fails (503) while a channel that should run does not: it is starting, waits for its next attempt, or is broken.
//!   A channel that rests because somebody wants it to, or that runs though its device is away, is listed and does no harm.

use axum::Json;
use axum::extract::State as Of;
use axum::http::StatusCode;

use super::{App, wire};
use crate::lifecycle::State;
use crate::sink::Time;

/// The most channels that are named in one answer.
const MAX_LISTED: usize = 100;

pub(super) async fn live(Of(app): Of<App>) -> (StatusCode, Json<wire::Liveness>) {
    let now = app.host().clock().monotonic();
    let hanging: Vec<wire::Hanging> = app
        .channels()
        .iter()
        .filter_map(|channel| {
            let late = channel.late(now)?;
            Some(wire::Hanging {
                channel: channel.id().to_string(),
                late_ms: u64::try_from(late.as_millis()).unwrap_or(u64::MAX),
            })
        })
        .take(MAX_LISTED)
        .collect();
    let live = hanging.is_empty();
    (code(live), Json(wire::Liveness { live, hanging }))
}

pub(super) async fn ready(Of(app): Of<App>) -> (StatusCode, Json<wire::Readiness>) {
    let mut readiness = wire::Readiness {
        ready: true,
        running: 0,
        not_running: Vec::new(),
        left_off: 0,
    };
    for channel in app.channels() {
        let state = channel.state();
        if state == State::Running {
            readiness.running += 1;
            continue;
        }
        readiness.ready &= !is_missing(state);
        if readiness.not_running.len() == MAX_LISTED {
            readiness.left_off += 1;
            continue;
        }
        let status = channel.status();
        readiness.not_running.push(wire::NotRunning {
            channel: channel.id().to_string(),
            state: state.to_string(),
            missing: is_missing(state),
            reason: status.reason,
            next_attempt: status.next_attempt.map(|at| Time(at).to_string()),
            next_attempt_ns: status.next_attempt.map(|at| at.0),
        });
    }
    (code(readiness.ready), Json(readiness))
}

/// Whether a channel in this state should run, and takes no requests.
fn is_missing(state: State) -> bool {
    match state {
        State::Starting | State::Restarting | State::Backoff | State::Broken => true,
        State::Running | State::Degraded | State::Stopping | State::Stopped => false,
    }
}

fn code(good: bool) -> StatusCode {
    if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
