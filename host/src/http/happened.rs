//! What happened to a channel, as the stream tells it.

use super::{channels, wire};
use crate::bus::Happened;
use crate::ids::InstanceId;

/// What stands in the histories of links, and says more of them than `link`.
pub(super) const LINK_EVENT: &str = "link-event";

/// The name of the stream's event, and what it says.
pub(super) fn in_stream(what: &Happened, instance: &InstanceId) -> (&'static str, wire::Happened) {
    match what {
        Happened::State { state, reason } => (
            "state",
            wire::Happened::State {
                state: state.to_string(),
                reason: reason.clone(),
            },
        ),
        Happened::Exit(exit) => (
            "exit",
            wire::Happened::Exit(channels::wire_exit(exit, instance)),
        ),
        Happened::Link { link, up, detail } => (
            "link",
            wire::Happened::Link {
                link: link.clone(),
                up: *up,
                detail: detail.clone(),
            },
        ),
        Happened::LinkEvent {
            link,
            connection,
            event,
            cause,
        } => (
            LINK_EVENT,
            wire::Happened::LinkEvent {
                link: link.clone(),
                connection: *connection,
                event: (*event).to_owned(),
                cause: cause.clone(),
            },
        ),
        Happened::Device {
            device,
            condition,
            why,
        } => (
            "device",
            wire::Happened::Device {
                device: device.clone(),
                condition: (*condition).to_owned(),
                why: why.clone(),
            },
        ),
        Happened::Alarm {
            code,
            severity,
            active,
            message,
            device,
            source_time,
        } => (
            "alarm",
            wire::Happened::Alarm {
                code: code.clone(),
                severity: severity.as_str().to_owned(),
                active: *active,
                message: message.clone(),
                device: device.clone(),
                source_time_ns: source_time.map(|time| time.0),
            },
        ),
        Happened::Warning { sentence } => (
            "warning",
            wire::Happened::Warning {
                message: sentence.clone(),
            },
        ),
        Happened::Dropped { count, what } => (
            "dropped",
            wire::Happened::Dropped {
                count: *count,
                what: (*what).to_owned(),
            },
        ),
    }
}
