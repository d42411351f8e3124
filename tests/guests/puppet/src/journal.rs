//! What the puppet was told, as JSON.

use bulkhead_sdk::abi::{ChannelConfig, Event, Happening, Instant};
use serde_json::{Value, json};

/// The page of one turn: `{"life":1,"turn":2,"now":..,"wall":..,"events":[{"kind":"poll","at":..,...}]}`. That of the first
/// tells the configuration too.
pub(crate) fn page(
    life: u64,
    turn: u64,
    now: &Instant,
    events: &[Event],
    config: Option<Value>,
) -> String {
    let events: Vec<Value> = events
        .iter()
        .map(|event| {
            let mut line = details(&event.what);
            line["kind"] = kind(&event.what).into();
            line["at"] = event.at_ns.into();
            line
        })
        .collect();
    json!({
        "life": life,
        "turn": turn,
        "now": now.monotonic_ns,
        "wall": now.wall_ns,
        "events": events,
        "config": config,
    })
    .to_string()
}

/// The kind of an event, as the WIT writes it.
pub(crate) fn kind(what: &Happening) -> &'static str {
    match what {
        Happening::Started(_) => "started",
        Happening::Stop(_) => "stop",
        Happening::Opened(_) => "opened",
        Happening::Closed(_) => "closed",
        Happening::Accepted(_) => "accepted",
        Happening::Received(_) => "received",
        Happening::Sent(_) => "sent",
        Happening::Timer(_) => "timer",
        Happening::Poll(_) => "poll",
        Happening::Read(_) => "read",
        Happening::Write(_) => "write",
        Happening::Command(_) => "command",
        Happening::Cancel(_) => "cancel",
        Happening::Health(_) => "health",
        Happening::Stored(_) => "stored",
        Happening::Declined(_) => "declined",
    }
}

fn details(what: &Happening) -> Value {
    match what {
        Happening::Started(start) => json!({
            "incarnation": start.incarnation,
            "reason": name(&start.reason),
            "state": start.state.as_deref().map(|state| String::from_utf8_lossy(&state[..state.len().min(64)])),
            "state_bytes": start.state.as_ref().map_or(0, Vec::len),
            "connections": start
                .connections
                .iter()
                .map(|kept| {
                    json!({
                        "id": kept.id,
                        "link": kept.link,
                        "target": kept.target,
                        "secured": kept.secured,
                        "window": kept.send_window,
                    })
                })
                .collect::<Vec<_>>(),
            "features": start.features,
        }),
        Happening::Stop(stop) => json!({
            "deadline": stop.deadline_ns,
            "reason": name(&stop.reason),
        }),
        Happening::Opened(opened) => json!({
            "connection": opened.connection,
            "link": opened.link,
            "secured": opened.secured,
            "peer": opened.peer,
            "window": opened.send_window,
        }),
        Happening::Closed(closed) => json!({
            "connection": closed.connection,
            "reason": name(&closed.reason),
            "outlook": name(&closed.outlook),
        }),
        Happening::Accepted(accepted) => json!({
            "listener": accepted.listener,
            "connection": accepted.connection,
            "peer": accepted.peer,
            "window": accepted.send_window,
        }),
        Happening::Received(received) => {
            let shown = &received.bytes[..received.bytes.len().min(64)];
            json!({
                "connection": received.connection,
                "peer": received.peer,
                "bytes": received.bytes.len(),
                "text": String::from_utf8_lossy(shown),
            })
        }
        Happening::Sent(sent) => json!({ "connection": sent.connection, "bytes": sent.bytes }),
        Happening::Timer(timer) => json!({ "timer": timer }),
        Happening::Poll(poll) => json!({
            "group": poll.group,
            "cycle": poll.cycle,
            "scheduled": poll.scheduled_ns,
            "skip": poll.skip,
        }),
        Happening::Read(read) => json!({ "request": read.request, "tags": read.tags }),
        Happening::Write(write) => json!({
            "request": write.request,
            "tag": write.tag,
            "value": format!("{:?}", write.value).chars().take(64).collect::<String>(),
            "read_back": write.read_back,
            "deadline": write.deadline_ns,
        }),
        Happening::Command(command) => json!({ "request": command.request }),
        Happening::Cancel(request) | Happening::Health(request) => json!({ "request": request }),
        Happening::Stored(id) => json!({ "id": id }),
        Happening::Declined(declined) => json!({
            "action": name(&declined.action),
            "connection": declined.connection,
            "batch": declined.batch,
            "why": declined.why,
        }),
    }
}

/// The configuration, without the settings of the channel and of its tags.
pub(crate) fn configuration(config: &ChannelConfig) -> Value {
    json!({
        "name": config.name,
        "links": config.links.iter().map(|link| json!([link.id, link.name, link.kind, link.listens])).collect::<Vec<_>>(),
        "devices": config
            .devices
            .iter()
            .map(|device| json!([device.id, device.name, device.address, device.settings, device.link]))
            .collect::<Vec<_>>(),
        "groups": config.groups.iter().map(|group| json!([group.id, group.period_ns, group.tags, group.name])).collect::<Vec<_>>(),
        "tags": config
            .tags
            .iter()
            .map(|tag| {
                json!([
                    tag.id,
                    tag.device,
                    tag.name,
                    tag.address,
                    tag.data_type,
                    tag.writable,
                    tag.settings,
                    tag.readable
                ])
            })
            .collect::<Vec<_>>(),
    })
}

/// The name of a case, without that of its type.
fn name(case: &impl std::fmt::Debug) -> String {
    let text = format!("{case:?}");
    text.rsplit("::").next().unwrap_or_default().to_owned()
}
