//! What a driver was told in the turn that ended it: kinds and targets, for people. Not the payloads, which may be large or
//! secret: those are the recorder's business.

use crate::bindings::events::{Event, Happening};
use crate::config;
use crate::exit::Told;

/// The first events of a batch, as an exit keeps them, and how many more there were.
pub(super) fn told(batch: &[Event], channel: &config::Channel) -> (Vec<Told>, usize) {
    let told = batch.iter().take(Told::MAX).map(|event| Told {
        kind: kind(&event.what),
        target: target(&event.what, channel),
    });
    (told.collect(), batch.len().saturating_sub(Told::MAX))
}

/// The name of an event, as the WIT writes it.
fn kind(what: &Happening) -> &'static str {
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

/// What it is about, in the operator's words where there are such.
fn target(what: &Happening, channel: &config::Channel) -> String {
    let tag = |id: u32| {
        channel
            .tags
            .get(id as usize)
            .map_or_else(|| format!("tag {id}"), |tag| format!("tag {}", tag.name))
    };
    let link = |connection: u32, link: u32| {
        channel.links.get(link as usize).map_or_else(
            || format!("connection {connection}"),
            |link| format!("connection {connection} over link {}", link.name),
        )
    };
    match what {
        Happening::Started(start) => format!("incarnation {}", start.incarnation),
        Happening::Stop(_) => "the driver".to_owned(),
        Happening::Opened(opened) => link(opened.connection, opened.link),
        Happening::Closed(closed) => format!("connection {}", closed.connection),
        Happening::Accepted(accepted) => format!("connection {}", accepted.connection),
        Happening::Received(received) => {
            let bytes = received.bytes.len();
            format!("connection {}, {bytes} bytes", received.connection)
        }
        Happening::Sent(sent) => format!("connection {}, {} bytes", sent.connection, sent.bytes),
        Happening::Timer(timer) => format!("timer {timer}"),
        Happening::Poll(poll) => {
            let group = channel.groups.get(poll.group as usize);
            let name = group.map_or("?", |group| group.name.as_str());
            format!("group {name}, cycle {}", poll.cycle)
        }
        Happening::Read(read) => match read.tags.as_slice() {
            [one] => tag(*one),
            all => format!("{} tags", all.len()),
        },
        Happening::Write(write) => tag(write.tag),
        Happening::Command(command) => {
            let name = command.name.chars().take(64).flat_map(char::escape_debug);
            format!("command {}", name.collect::<String>())
        }
        Happening::Cancel(request) | Happening::Health(request) => format!("request {request}"),
        Happening::Stored(id) => format!("batch {id}"),
        Happening::Declined(declined) => format!("{:?}", declined.action),
    }
}
