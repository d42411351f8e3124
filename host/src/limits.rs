//! Every limit that holds for a driver, in one table: what, how much by default, how much at most, and what becomes of
//! a driver that wants more.
//!
//! The numbers stand here once; the rooms that enforce them take them from here, and the table in `docs/LIMITS.md` is compared
//! with [`table`] by a test. What bounds the host's own doors (requests, pages, streams) stands with these.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A limit that the operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Configured<T> {
    /// Where the file says nothing.
    pub default: T,
    /// The least that the file may say.
    pub least: T,
    /// The most that the file may say: the hard maximum.
    pub most: T,
}

impl<T: Copy> Configured<T> {
    /// What the file may say.
    pub const fn range(&self) -> RangeInclusive<T> {
        self.least..=self.most
    }
}

const KIB: usize = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Bytes over all memories and tables of an instance.
pub const MEMORY: Configured<u64> = Configured {
    default: 32 * MIB,
    least: MIB,
    most: GIB,
};
/// Fuel for one turn, about one per wasm instruction.
pub const TURN_FUEL: Configured<u64> = Configured {
    default: 50_000_000,
    least: 10_000,
    most: 10_000_000_000,
};
/// Wall time for one turn.
pub const TURN_TIME: Configured<Duration> = Configured {
    default: Duration::from_millis(500),
    least: MS,
    most: Duration::from_secs(60),
};
/// Fuel to instantiate, describe or configure, or that of a turn if it is more.
pub const START_FUEL: u64 = 2_000_000_000;
/// Wall time to instantiate, describe or configure, or that of a turn if it is more.
pub const START_TIME: Duration = Duration::from_secs(10);
/// How often a running guest is looked at: it may overrun its time by two of these, and lets others run in each.
pub const TICK: Duration = Duration::from_millis(5);
/// Bytes of the guest's own stack.
pub const STACK: usize = 512 * KIB;
/// Bytes that one call may hand to the host.
pub const CROSSING_BYTES: usize = 32 << 20;
/// Events in one turn.
pub const BATCH: Configured<u64> = Configured {
    default: 256,
    least: 1,
    most: 256,
};
/// Bytes that the events of one turn may carry; the last of them may go beyond by what one event carries.
pub const BATCH_BYTES: usize = 1 << 20;
/// Actions in one turn. Until they are all taken over, nobody else is served by the same thread.
pub const ACTIONS: usize = 16_384;
/// Events that may wait for a turn.
pub const MAILBOX: Configured<u64> = Configured {
    default: 1_024,
    least: 16,
    most: 65_536,
};
/// Received bytes that may wait for a turn, over all connections of a channel.
pub const MAILBOX_BYTES: usize = 4 << 20;
/// Requests that a driver may owe answers to.
pub const PENDING: usize = 4_096;
/// Requests that may wait for a link to come up again.
pub const WAITING: Configured<u64> = Configured {
    default: 256,
    least: 1,
    most: 4_096,
};
/// What they may carry, in bytes.
pub const WAITING_BYTES: usize = 4 << 20;
/// Commands under way in one channel.
pub const COMMANDS: usize = 16;
/// Bytes of a command's payload, and of its answer.
pub const COMMAND_BYTES: usize = SEND_BYTES;
/// Until when a command is answered.
pub const COMMAND_TIME: Configured<Duration> = Configured {
    default: Duration::from_secs(30),
    least: MS,
    most: Duration::from_secs(300),
};
/// Dead letters of one channel.
pub const LETTERS: u64 = 32;
/// Bytes of an event that are kept with its dead letter.
pub const LETTER_BYTES: usize = STATE_BYTES;
/// Events under suspicion in one channel.
pub const SUSPECTS: usize = 32;
/// Samples a second.
pub const SAMPLES: Configured<u64> = Configured {
    default: 100_000,
    least: 1,
    most: 100_000_000,
};
/// Alarms and device states a second.
pub const NOTICES: u64 = 1_000;
/// Over how many seconds the rates of samples, alarms and device states are averaged.
pub const RATE_SECONDS: u64 = 10;
/// Until when a health check is answered.
pub const HEALTH_TIMEOUT: Configured<Duration> = Configured {
    default: Duration::from_secs(5),
    least: Duration::from_millis(10),
    most: Duration::from_secs(600),
};
/// Health checks that may fail in a row.
pub const HEALTH_FAILURES: Configured<u64> = Configured {
    default: 3,
    least: 1,
    most: 1_000,
};
/// What the host itself may take of a turn, beyond the driver's own time, before the watchdog reports it.
pub const HOST_PART: Duration = Duration::from_secs(10);
/// Timers set at once.
pub const TIMERS: usize = 4_096;
/// Connections open at once.
pub const CONNECTIONS: usize = 256;
/// Bytes in one `send`.
pub const SEND_BYTES: usize = 1 << 20;
/// Bytes on their way on one connection.
pub const SEND_WINDOW: u32 = 256 << 10;
/// Bytes of saved state.
pub const STATE_BYTES: usize = 1 << 20;
/// Bytes of a text or byte value, and of all texts of an array together.
pub const VALUE_BYTES: usize = 64 * KIB;
/// Elements of an array value.
pub const VALUE_ELEMENTS: usize = 65_536;
/// WASI resources that a guest holds at once.
pub const HANDLES: usize = 1_024;
/// Log lines a second.
pub const LOG_LINES: u64 = 100;
/// Log lines at once.
pub const LOG_BURST: u64 = 200;
/// Bytes of one log line, or of one text for operators: an error, an alarm, a reason.
pub const TEXT_BYTES: usize = 4 * KIB;
/// Alarms, pairs of code and device, in one incarnation.
pub const ALARMS: usize = 64;
/// Batches with an id of which the driver is still to be told.
pub const BATCHES: usize = 1_024;
/// Bytes of an alarm's code.
pub const ALARM_CODE_BYTES: usize = 64;
/// Functions in a backtrace.
pub const FRAMES: usize = 32;
/// Random bytes in one call.
pub const RANDOM_BYTES: u64 = 64 << 10;
/// Bytes of a component.
pub const COMPONENT_BYTES: u64 = 64 * MIB;
/// Memories of a component.
pub const MEMORIES: u32 = 8;
/// Tables of a component.
pub const TABLES: u32 = 32;
/// Elements of one table.
pub const TABLE_ELEMENTS: usize = 20_000;
/// Core instances of a component.
pub const CORE_INSTANCES: u32 = 64;
/// Instances, of components and of core modules, that a component may be made of before it is compiled.
pub const INSTANCES: u64 = 1_000;
/// Memory of the compiler.
pub const COMPILE_MEMORY: Configured<u64> = Configured {
    default: 2 * GIB,
    least: 256 * MIB,
    most: 64 * GIB,
};
/// Processor time of the compiler, over all its threads.
pub const COMPILE_PROCESSOR_TIME: Configured<Duration> = Configured {
    default: Duration::from_secs(240),
    least: SECOND,
    most: Duration::from_secs(4 * 3_600),
};
/// Time of the compiler on the clock.
pub const COMPILE_TIME: Configured<Duration> = Configured {
    default: Duration::from_secs(120),
    least: SECOND,
    most: Duration::from_secs(3_600),
};

/// Bytes of one recording, packed.
pub const RECORDING: Configured<u64> = Configured {
    default: 256 << 10,
    least: 16 << 10,
    most: 64 * MIB,
};
/// Bytes of all recordings of a host, packed.
pub const RECORDINGS: Configured<u64> = Configured {
    default: 16 * MIB,
    least: MIB,
    most: 4 * GIB,
};
/// Crash bundles of a channel.
pub const BUNDLES_OF_CHANNEL: usize = 8;
/// Crash bundles of a host.
pub const BUNDLES: usize = 256;
/// Bytes of all of them.
pub const BUNDLES_BYTES: u64 = 64 * MIB;
/// Crashes that wait to be written.
pub const CRASHES: usize = 1_024;
/// Bytes of all of them.
pub const CRASHES_BYTES: usize = 16 << 20;
/// Messages that are kept for readers of the stream, so that they can come back.
pub const BACKLOG_MESSAGES: usize = 16_384;
/// Samples in them.
pub const BACKLOG_SAMPLES: u64 = 65_536;
/// Bytes of them.
pub const BACKLOG_BYTES: usize = 16 << 20;

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is limited.
    pub what: &'static str,
    /// How much, where the file says nothing.
    pub default: String,
    /// How much at most, whatever the file says; `fixed` where it has no say.
    pub most: String,
    /// What becomes of more.
    pub beyond: &'static str,
}

/// The whole table, in the order of `docs/LIMITS.md`.
pub fn table() -> Vec<Limit> {
    let fixed = |what, default: String, beyond| Limit {
        what,
        default,
        most: "fixed".to_owned(),
        beyond,
    };
    let configured = |what, default: String, most: String, beyond| Limit {
        what,
        default,
        most,
        beyond,
    };
    let counts = |what, limit: Configured<u64>, beyond| {
        configured(what, count(limit.default), count(limit.most), beyond)
    };
    let sizes = |what, limit: Configured<u64>, beyond| {
        configured(what, size(limit.default), size(limit.most), beyond)
    };
    let times = |what, limit: Configured<Duration>, beyond| {
        configured(what, time(limit.default), time(limit.most), beyond)
    };
    vec![
        sizes(
            "memory, summed over all memories and tables",
            MEMORY,
            "growing is refused; a driver that then ends: `out-of-memory`",
        ),
        counts("fuel for one turn", TURN_FUEL, "`out-of-fuel`"),
        times(
            "wall time for one turn",
            TURN_TIME,
            "`deadline-exceeded`, noticed within 10 ms",
        ),
        configured(
            "fuel to start, describe or configure",
            count(START_FUEL),
            "that of a turn, if it is more".to_owned(),
            "`out-of-fuel`",
        ),
        configured(
            "wall time to start, describe or configure",
            time(START_TIME),
            "that of a turn, if it is more".to_owned(),
            "`deadline-exceeded`",
        ),
        fixed("the guest's stack", size(STACK as u64), "`trapped`"),
        fixed(
            "data handed to the host in one call: every list and text together",
            size(CROSSING_BYTES as u64),
            "`refused`",
        ),
        counts(
            "events in one turn",
            BATCH,
            "the rest waits for the next turn",
        ),
        fixed(
            "bytes that the events of one turn carry",
            size(BATCH_BYTES as u64),
            "the rest waits for the next turn",
        ),
        fixed("actions in one turn", count(ACTIONS as u64), "`refused`"),
        counts(
            "events that wait (mailbox)",
            MAILBOX,
            "links wait, which the peer feels; doors answer `busy`",
        ),
        fixed(
            "received bytes that wait, over all connections",
            size(MAILBOX_BYTES as u64),
            "links wait, which the peer feels",
        ),
        fixed(
            "requests that a driver owes answers to",
            count(PENDING as u64),
            "further ones are answered `busy`",
        ),
        counts(
            "requests that wait for a link to come up again",
            WAITING,
            "further ones are answered `link-down`",
        ),
        fixed(
            "bytes that they carry",
            size(WAITING_BYTES as u64),
            "further ones are answered `link-down`",
        ),
        fixed(
            "commands under way in one channel",
            count(COMMANDS as u64),
            "further ones are answered `too-many-commands`",
        ),
        fixed(
            "the payload of a command, and its answer",
            size(COMMAND_BYTES as u64),
            "`refused`; not taken",
        ),
        times(
            "the time of a command",
            COMMAND_TIME,
            "answered `timed-out`; what comes later is dropped and counted",
        ),
        fixed(
            "dead letters of one channel",
            count(LETTERS),
            "the oldest goes, and its event is kept away no longer",
        ),
        fixed(
            "a dead letter",
            size(LETTER_BYTES as u64),
            "what the event carried is cut",
        ),
        fixed(
            "events under suspicion, for a day each",
            count(SUSPECTS as u64),
            "the one that was quiet for longest is forgotten",
        ),
        counts("samples a second, over ten seconds", SAMPLES, "`refused`"),
        fixed(
            "alarms and device states a second, over ten seconds",
            count(NOTICES),
            "`refused`",
        ),
        times("answer to a health check", HEALTH_TIMEOUT, "`degraded`"),
        counts(
            "health checks that may fail in a row",
            HEALTH_FAILURES,
            "`unresponsive`",
        ),
        fixed(
            "the part of the host in a turn",
            time(HOST_PART),
            "reported by the watchdog; `GET /livez` says 503",
        ),
        fixed("timers set at once", count(TIMERS as u64), "`refused`"),
        fixed(
            "alarms (pairs of code and device) in one life",
            count(ALARMS as u64),
            "`refused`",
        ),
        fixed(
            "batches with an id of which the driver is still to be told",
            count(BATCHES as u64),
            "`refused`",
        ),
        fixed(
            "connections open at once",
            count(CONNECTIONS as u64),
            "`refused`",
        ),
        fixed("bytes in one `send`", size(SEND_BYTES as u64), "`refused`"),
        fixed(
            "bytes on their way on one connection",
            size(u64::from(SEND_WINDOW)),
            "`refused`",
        ),
        fixed("saved state", size(STATE_BYTES as u64), "`refused`"),
        fixed(
            "a text or byte value",
            size(VALUE_BYTES as u64),
            "`refused`",
        ),
        fixed(
            "an array value",
            format!("{} elements", count(VALUE_ELEMENTS as u64)),
            "`refused`",
        ),
        fixed(
            "the texts of an array value together",
            size(VALUE_BYTES as u64),
            "`refused`",
        ),
        fixed(
            "handles (WASI resources)",
            count(HANDLES as u64),
            "`trapped`",
        ),
        fixed(
            "log lines",
            format!("{LOG_LINES} a second, {LOG_BURST} at once"),
            "dropped and counted",
        ),
        fixed(
            "a log line, or a text for operators (error, alarm, reason)",
            size(TEXT_BYTES as u64),
            "cut",
        ),
        fixed(
            "the code of an alarm",
            size(ALARM_CODE_BYTES as u64),
            "`refused`",
        ),
        fixed("functions in a backtrace", count(FRAMES as u64), "cut"),
        fixed("random bytes in one call", size(RANDOM_BYTES), "`trapped`"),
        fixed("the component file", size(COMPONENT_BYTES), "not loaded"),
        fixed(
            "memories, tables, core instances of a component",
            format!("{MEMORIES}, {TABLES}, {CORE_INSTANCES}"),
            "not loaded",
        ),
        fixed(
            "elements of a table",
            count(TABLE_ELEMENTS as u64),
            "not loaded; growing is refused",
        ),
        fixed(
            "instances that a component is made of, before it is compiled",
            count(INSTANCES),
            "not loaded",
        ),
        sizes(
            "memory to compile a component",
            COMPILE_MEMORY,
            "not loaded",
        ),
        times(
            "processor time to compile a component",
            COMPILE_PROCESSOR_TIME,
            "not loaded",
        ),
        times("time to compile a component", COMPILE_TIME, "not loaded"),
        sizes(
            "the recording of one incarnation, packed",
            RECORDING,
            "its middle is lost, and a replay is best effort",
        ),
        sizes(
            "all recordings of a host, packed",
            RECORDINGS,
            "the largest lose of their middle first",
        ),
        fixed(
            "crash bundles of a channel, of a host",
            format!(
                "{BUNDLES_OF_CHANNEL}, {BUNDLES} of {} in all",
                size(BUNDLES_BYTES)
            ),
            "the oldest go",
        ),
        fixed(
            "crashes that wait to be written",
            format!(
                "{}, {} in all",
                count(CRASHES as u64),
                size(CRASHES_BYTES as u64)
            ),
            "no bundle, which the log says",
        ),
        fixed(
            "batches and events that are kept for readers of the stream",
            format!(
                "{}, {} samples, {} in all",
                count(BACKLOG_MESSAGES as u64),
                count(BACKLOG_SAMPLES),
                size(BACKLOG_BYTES as u64)
            ),
            "the oldest go; who has not read them gets a `gap` event",
        ),
    ]
}

/// The table as `docs/LIMITS.md` has it.
pub fn markdown() -> String {
    let mut text = "| limit | default | hard maximum | beyond it |\n|---|---|---|---|\n".to_owned();
    for Limit {
        what,
        default,
        most,
        beyond,
    } in table()
    {
        text += &format!("| {what} | {default} | {most} | {beyond} |\n");
    }
    text
}

/// With a comma after each three digits.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn size(bytes: u64) -> String {
    for (unit, factor) in [("GiB", GIB), ("MiB", MIB), ("KiB", KIB as u64)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{} {unit}", bytes / factor);
        }
    }
    format!("{bytes} B")
}

fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..=119 => format!("{seconds} s"),
        120..=3_599 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_has_this_table() {
        const REFERENCE: &str = include_str!("../../docs/LIMITS.md");
        let start = REFERENCE.find("| limit |").expect("a table");
        let end = REFERENCE[start..].find("\n\n").expect("an end of it") + start + 1;
        assert_eq!(
            &REFERENCE[start..end],
            markdown(),
            "docs/LIMITS.md does not say what the code does; put this there"
        );
    }

    #[test]
    fn every_default_is_within_its_bounds() {
        fn check<T: PartialOrd + std::fmt::Debug>(limit: &Configured<T>) {
            assert!(
                limit.least <= limit.default && limit.default <= limit.most,
                "{limit:?}"
            );
        }
        [
            MEMORY,
            TURN_FUEL,
            BATCH,
            MAILBOX,
            WAITING,
            SAMPLES,
            COMPILE_MEMORY,
        ]
        .iter()
        .for_each(check);
        [TURN_TIME, COMPILE_PROCESSOR_TIME, COMPILE_TIME]
            .iter()
            .for_each(check);
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            [count(7), count(1_000), count(12_345_678)],
            ["7", "1,000", "12,345,678"]
        );
        assert_eq!(
            [size(64), size(64 << 10), size(3 << 30)],
            ["64 B", "64 KiB", "3 GiB"]
        );
        assert_eq!(
            [
                time(MS),
                time(60 * SECOND),
                time(120 * SECOND),
                time(7_200 * SECOND)
            ],
            ["1 ms", "60 s", "2 min", "2 h"]
        );
    }
}
