//! The metrics of channels, of their groups and of their links.

use super::family::{About, Family, Kind, Rows};
use super::snapshot::{ChannelNow, GroupNow, LinkNow};
use crate::{lifecycle, reconnection};

/// Histograms of turns begin with 4 microseconds, and end, as all do, with 4.3 s.
const TURNS: Kind = Kind::Histogram(2);
/// Those of polls with a quarter of a millisecond.
const POLLS: Kind = Kind::Histogram(8);

const fn channel(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    meaning: &'static str,
    read: fn(&ChannelNow, &mut Rows<'_>),
) -> Family {
    let about = About::Channel(read);
    Family {
        name,
        kind,
        labels: about.labels(),
        unit,
        meaning,
        about,
    }
}

const fn group(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    meaning: &'static str,
    read: fn(&GroupNow, &mut Rows<'_>),
) -> Family {
    let about = About::Group(read);
    Family {
        name,
        kind,
        labels: about.labels(),
        unit,
        meaning,
        about,
    }
}

const fn link(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    meaning: &'static str,
    read: fn(&LinkNow, &mut Rows<'_>),
) -> Family {
    let about = About::Link(read);
    Family {
        name,
        kind,
        labels: about.labels(),
        unit,
        meaning,
        about,
    }
}

/// With further labels.
const fn labelled(family: Family, labels: &'static [&'static str]) -> Family {
    Family { labels, ..family }
}

pub(super) const OF_CHANNELS: &[Family] = &[
    labelled(
        channel(
            "bulkhead_channel_info",
            Kind::Gauge,
            "1",
            "Always 1; the label says which driver the channel runs.",
            |now, rows| rows.labelled(&[&now.driver], 1u32),
        ),
        &["channel", "driver"],
    ),
    labelled(
        channel(
            "bulkhead_channel_state",
            Kind::Gauge,
            "0 or 1",
            "1 for the state that the channel is in, 0 for the others.",
            |now, rows| {
                rows.one_of(
                    lifecycle::State::ALL.map(lifecycle::State::as_str),
                    now.state.as_str(),
                );
            },
        ),
        &["channel", "state"],
    ),
    channel(
        "bulkhead_channel_starts_total",
        Kind::Counter,
        "starts",
        "Lives of the driver that have begun.",
        |now, rows| rows.value(now.starts),
    ),
    labelled(
        channel(
            "bulkhead_channel_restarts_total",
            Kind::Counter,
            "ends",
            "Lives of the driver that have ended, by how; another follows unless the channel is stopped or broken. `stopped` is the end \
             that somebody asked for.",
            |now, rows| {
                for (kind, count) in &now.ends {
                    rows.labelled(&[kind], *count);
                }
            },
        ),
        &["channel", "kind"],
    ),
    channel(
        "bulkhead_channel_restart_attempts",
        Kind::Gauge,
        "attempts",
        "Attempts of the restart budget that are spent; health gives them back.",
        |now, rows| rows.value(now.attempts),
    ),
    channel(
        "bulkhead_channel_running_seconds_total",
        Kind::Counter,
        "seconds",
        "For how long the channel was `running` or `degraded`.",
        |now, rows| rows.value(now.running),
    ),
    labelled(
        channel(
            "bulkhead_channel_tags",
            Kind::Gauge,
            "tags",
            "Tags by quality. A quality that no tag has is left out; `good` is always there.",
            |now, rows| {
                for (quality, count) in &now.qualities {
                    rows.labelled(&[quality.as_str()], *count);
                }
            },
        ),
        &["channel", "quality"],
    ),
    labelled(
        channel(
            "bulkhead_channel_devices",
            Kind::Gauge,
            "devices",
            "Devices by what the driver says of them: `up`, `down` or `unknown`.",
            |now, rows| {
                for (condition, count) in &now.devices {
                    rows.labelled(&[condition], *count);
                }
            },
        ),
        &["channel", "condition"],
    ),
    channel(
        "bulkhead_channel_samples_total",
        Kind::Counter,
        "samples",
        "Samples that the driver published, before the tags' rules leave some out.",
        |now, rows| rows.value(now.samples),
    ),
    channel(
        "bulkhead_channel_turn_duration_seconds",
        TURNS,
        "seconds",
        "How long turns took, from gathering their events to what they asked for being done.",
        |now, rows| rows.timing(&now.turns),
    ),
    channel(
        "bulkhead_channel_events_total",
        Kind::Counter,
        "events",
        "Events that were handed to the driver.",
        |now, rows| rows.value(now.events),
    ),
    channel(
        "bulkhead_channel_actions_total",
        Kind::Counter,
        "actions",
        "Actions that the driver asked for.",
        |now, rows| rows.value(now.actions),
    ),
    channel(
        "bulkhead_channel_fuel_total",
        Kind::Counter,
        "fuel",
        "Fuel of all turns that returned; about one unit for each instruction of the driver.",
        |now, rows| rows.value(now.fuel),
    ),
    channel(
        "bulkhead_channel_last_turn_fuel",
        Kind::Gauge,
        "fuel",
        "Fuel of the last turn that returned.",
        |now, rows| rows.value(now.fuel_last),
    ),
    channel(
        "bulkhead_channel_peak_memory_bytes",
        Kind::Gauge,
        "bytes",
        "The most memory that the driver has held.",
        |now, rows| rows.value(now.peak_memory),
    ),
    channel(
        "bulkhead_channel_mailbox_length",
        Kind::Gauge,
        "events",
        "Link mail and requests that wait for the driver's next turn.",
        |now, rows| rows.value(now.mailbox_length),
    ),
    channel(
        "bulkhead_channel_mailbox_room",
        Kind::Gauge,
        "events",
        "How many may (`limits.mailbox`).",
        |now, rows| rows.value(now.mailbox_room),
    ),
    channel(
        "bulkhead_channel_waiting_requests",
        Kind::Gauge,
        "requests",
        "Reads, writes and commands that wait for a link to come up again.",
        |now, rows| rows.value(now.waiting),
    ),
    channel(
        "bulkhead_channel_waited_requests_total",
        Kind::Counter,
        "requests",
        "Those that had to.",
        |now, rows| rows.value(now.waited),
    ),
    channel(
        "bulkhead_channel_commands_under_way",
        Kind::Gauge,
        "commands",
        "Commands that the driver has not answered yet.",
        |now, rows| rows.value(now.commands),
    ),
    labelled(
        channel(
            "bulkhead_channel_requests_total",
            Kind::Counter,
            "requests",
            "Reads, writes and commands that were asked of the channel, by `kind` and by how they were answered: `done`; `refused` by the \
             host; `link-down`, so nothing was sent; `failed`, as the driver or the device said; `timed-out`; `lost`, where the driver ended \
             or nobody waited for the answer.",
            |now, rows| {
                for requests in &now.requests {
                    for (outcome, count) in &requests.outcomes {
                        rows.labelled(&[requests.kind, outcome], *count);
                    }
                }
            },
        ),
        &["channel", "kind", "outcome"],
    ),
    labelled(
        channel(
            "bulkhead_channel_request_duration_seconds",
            Kind::Summary,
            "seconds",
            "How long those that were `done` took, from being asked to the answer.",
            |now, rows| {
                for requests in &now.requests {
                    rows.summary(&[requests.kind], requests.done, requests.took);
                }
            },
        ),
        &["channel", "kind"],
    ),
    channel(
        "bulkhead_channel_late_answers_total",
        Kind::Counter,
        "answers",
        "Answers of the driver that came when nobody waited for them any more.",
        |now, rows| rows.value(now.late_answers),
    ),
    channel(
        "bulkhead_channel_kept_away_total",
        Kind::Counter,
        "events",
        "Events that were kept away from the driver, since they had ended it each time.",
        |now, rows| rows.value(now.kept_away),
    ),
    channel(
        "bulkhead_channel_dead_letters",
        Kind::Gauge,
        "letters",
        "Dead letters that wait for somebody to decide.",
        |now, rows| rows.value(now.dead_letters),
    ),
    channel(
        "bulkhead_channel_stuck_seconds",
        Kind::Gauge,
        "seconds",
        "For how long the channel's task has made no progress in the host's own code; 0 while all is well.",
        |now, rows| rows.value(now.stuck),
    ),
];

pub(super) const OF_GROUPS: &[Family] = &[
    group(
        "bulkhead_group_period_seconds",
        Kind::Gauge,
        "seconds",
        "The period that the configuration asks for.",
        |now, rows| rows.value(now.period),
    ),
    group(
        "bulkhead_group_polls_total",
        Kind::Counter,
        "polls",
        "Polls handed to the driver.",
        |now, rows| rows.value(now.polls),
    ),
    group(
        "bulkhead_group_skipped_polls_total",
        Kind::Counter,
        "polls",
        "Moments of the schedule without a poll: the one before was not done, or the host was late.",
        |now, rows| rows.value(now.skipped),
    ),
    group(
        "bulkhead_group_requests_total",
        Kind::Counter,
        "requests",
        "Requests that the driver made of devices for polls, as it says.",
        |now, rows| rows.value(now.requests),
    ),
    group(
        "bulkhead_group_errors_total",
        Kind::Counter,
        "requests",
        "Those of them that failed, as it says.",
        |now, rows| rows.value(now.failed),
    ),
    group(
        "bulkhead_group_poll_deviation_seconds",
        POLLS,
        "seconds",
        "How long after its moment each poll was handed to the driver.",
        |now, rows| rows.timing(&now.deviation),
    ),
    group(
        "bulkhead_group_poll_deviation_max_seconds",
        Kind::Gauge,
        "seconds",
        "The longest of these since the channel took up its configuration.",
        |now, rows| rows.value(now.deviation_most),
    ),
    group(
        "bulkhead_group_poll_duration_seconds",
        POLLS,
        "seconds",
        "How long each poll took until the driver said that it was done.",
        |now, rows| rows.timing(&now.took),
    ),
    group(
        "bulkhead_group_round_trip_seconds",
        Kind::Gauge,
        "seconds",
        "The mean time from request to answer in the last poll that had an answer, as the driver says; 0 before the first.",
        |now, rows| rows.value(now.round_trip),
    ),
];

pub(super) const OF_LINKS: &[Family] = &[
    link(
        "bulkhead_link_up",
        Kind::Gauge,
        "0 or 1",
        "Whether the driver wants a connection over the link and each that it wants is up.",
        |now, rows| rows.value(now.up),
    ),
    labelled(
        link(
            "bulkhead_link_state",
            Kind::Gauge,
            "0 or 1",
            "1 for the state that the link's connections are in (the worst of them), 0 for the others.",
            |now, rows| {
                rows.one_of(
                    reconnection::State::ALL.map(reconnection::State::as_str),
                    now.state.as_str(),
                );
            },
        ),
        &["channel", "link", "state"],
    ),
    link(
        "bulkhead_link_dials_total",
        Kind::Counter,
        "dials",
        "Dials that were begun.",
        |now, rows| rows.value(now.dials),
    ),
    link(
        "bulkhead_link_failed_dials_total",
        Kind::Counter,
        "dials",
        "Dials that led to no stream.",
        |now, rows| rows.value(now.failed_dials),
    ),
    link(
        "bulkhead_link_connections_total",
        Kind::Counter,
        "streams",
        "Streams that came up; each after the first of a connection is a reconnect.",
        |now, rows| rows.value(now.streams),
    ),
    link(
        "bulkhead_link_up_seconds_total",
        Kind::Counter,
        "seconds",
        "For how long a stream was up, of all connections together.",
        |now, rows| rows.value(now.up_time),
    ),
    link(
        "bulkhead_link_received_bytes_total",
        Kind::Counter,
        "bytes",
        "Bytes that came in.",
        |now, rows| rows.value(now.bytes_in),
    ),
    link(
        "bulkhead_link_sent_bytes_total",
        Kind::Counter,
        "bytes",
        "Bytes that went out.",
        |now, rows| rows.value(now.bytes_out),
    ),
    link(
        "bulkhead_link_dial_seconds",
        Kind::Gauge,
        "seconds",
        "How long the last dial that led to a stream took, without the name's resolution; left out before the first.",
        |now, rows| rows.value_of(now.dial_time),
    ),
    link(
        "bulkhead_link_probes_sent_total",
        Kind::Counter,
        "probes",
        "Heartbeats that the driver sent.",
        |now, rows| rows.value(now.probes_sent),
    ),
    link(
        "bulkhead_link_probes_answered_total",
        Kind::Counter,
        "probes",
        "Those that were answered.",
        |now, rows| rows.value(now.probes_answered),
    ),
    link(
        "bulkhead_link_round_trip_seconds",
        Kind::Gauge,
        "seconds",
        "The round trip of the last heartbeat that was answered; left out before the first.",
        |now, rows| rows.value_of(now.round_trip),
    ),
];
