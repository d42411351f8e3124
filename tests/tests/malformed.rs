//! Malformed replies on one of ten connections: no trap, never a wrong, partial or repeated value published as good, no
//! effect on the other nine, and good again as soon as the replies are.
//!
//! The tenth device is scripted (see `Scripted`): each of its values says where it belongs, which request it answers, and
//! whether it may be believed, so whatever is published as good can be judged by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{
    Bulkhead, Machine, Peer, Reading, Recorder, Recording, Scripted, Spoilt, neighbour,
};
use serde_json::Value;

/// The others.
const NEIGHBOURS: u8 = 9;
/// The victim's groups: the addresses of their tags, which one request reads.
const GROUPS: [(&str, [u16; 3]); 2] = [("low", [0, 4, 8]), ("high", [100, 104, 108])];
/// A second of the victim's polls.
const SECOND: usize = 10;
/// How long the victim waits for an answer.
const TIMEOUT_MS: u64 = 1_000;

/// What a spoilt answer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It is the right answer all the same.
    None,
    /// The poll fails, and the connection is still in step.
    Kept,
    /// The poll fails, and the connection is made anew.
    Anew,
    /// The answer is right, but what follows it is not: the connection is made anew for the next poll.
    AnewForNext,
    /// The poll fails; whether the connection is made anew depends on the bytes.
    Either,
}

#[test]
fn malformed_replies_harm_nobody() -> Result<()> {
    use Effect::{Anew, AnewForNext, Either, Kept, None};
    const CUT_OFF: &str = "bad-no-communication";
    let late = |milliseconds| Spoilt::Late(Duration::from_millis(milliseconds));

    let mut bench = Bench::start()?;
    // The answer has 33 bytes: 7 of header, function, byte count, and 24 of data.
    for (spoilt, effect, quality) in [
        (Spoilt::Truncated(32), Anew, CUT_OFF),
        (Spoilt::Truncated(20), Anew, CUT_OFF),
        (Spoilt::Truncated(9), Anew, CUT_OFF),
        (Spoilt::Truncated(7), Anew, CUT_OFF),
        (Spoilt::Truncated(6), Anew, CUT_OFF),
        (Spoilt::Truncated(1), Anew, CUT_OFF),
        (Spoilt::Short(1), Anew, CUT_OFF),
        (Spoilt::Short(8), Anew, CUT_OFF),
        (Spoilt::Short(24), Anew, CUT_OFF),
        (Spoilt::Long(1), Anew, CUT_OFF),
        (Spoilt::Long(8), Anew, CUT_OFF),
        (Spoilt::ByteCount(1), Anew, CUT_OFF),
        (Spoilt::ByteCount(-1), Anew, CUT_OFF),
        (Spoilt::ByteCount(-8), Anew, CUT_OFF),
        (Spoilt::Oversized, Anew, CUT_OFF),
        (Spoilt::Length(0), Anew, CUT_OFF),
        (Spoilt::Length(2), Anew, CUT_OFF),
        (Spoilt::Length(26), Anew, CUT_OFF),
        (Spoilt::Length(u16::MAX), Anew, CUT_OFF),
        (Spoilt::Transaction(1), Anew, CUT_OFF),
        (Spoilt::Transaction(-1), Anew, CUT_OFF),
        (Spoilt::Previous, Anew, CUT_OFF),
        (Spoilt::Protocol, Anew, CUT_OFF),
        (Spoilt::Unit, Anew, CUT_OFF),
        (Spoilt::Function, Anew, CUT_OFF),
        (Spoilt::Preceded(1), Anew, CUT_OFF),
        (Spoilt::Preceded(8), Anew, CUT_OFF),
        (Spoilt::Random(1), Either, CUT_OFF),
        (Spoilt::Random(2), Either, CUT_OFF),
        (Spoilt::Random(3), Either, CUT_OFF),
        (Spoilt::OneByte, None, "good"),
        (Spoilt::Twice, AnewForNext, CUT_OFF),
        (Spoilt::Cut(20), Anew, "bad-not-connected"),
        (Spoilt::Cut(3), Anew, "bad-not-connected"),
        (Spoilt::Close, Anew, "bad-not-connected"),
        (Spoilt::Silence, Kept, "bad-timeout"),
        (late(TIMEOUT_MS + 100), Kept, "bad-timeout"),
        (Spoilt::Exception(1), Kept, "bad-not-supported"),
        (Spoilt::Exception(2), Kept, "bad-configuration"),
        (Spoilt::Exception(3), Kept, "bad-configuration"),
        (Spoilt::Exception(4), Kept, "bad-device-failure"),
        (Spoilt::Exception(5), Kept, "bad"),
        (Spoilt::Exception(6), Kept, "bad"),
        (Spoilt::Exception(7), Kept, "bad"),
        (Spoilt::Exception(8), Kept, "bad-device-failure"),
        (Spoilt::Exception(10), Kept, CUT_OFF),
        (Spoilt::Exception(11), Kept, CUT_OFF),
        (Spoilt::Exception(0xff), Kept, "bad"),
    ] {
        bench
            .check(spoilt, effect, quality)
            .with_context(|| format!("{spoilt:?}"))?;
    }
    bench.finish()
}

struct Bench {
    host: Bulkhead,
    peer: Peer,
    machine: Machine,
    device: Scripted,
}

impl Bench {
    fn start() -> Result<Self> {
        let peer = Peer::simulated(&["--units", &format!("1-{NEIGHBOURS}")])?;
        let device = Scripted::start()?;
        let address = device.address;
        let mut toml: String = (1..=NEIGHBOURS)
            .map(|unit| neighbour::channel(unit, &peer.address()))
            .collect();
        toml.push_str(&format!(
            r#"
            [[channel]]
            id = "victim"
            driver = "$DRIVERS/modbus.wasm"
            links.plc = {{ connect = "tcp://{address}", base_delay = "50ms", max_delay = "100ms" }}
            settings = {{ timeout_ms = {TIMEOUT_MS}, retries = 0 }}
            "#
        ));
        for (name, addresses) in GROUPS {
            let tags = addresses.map(|address| {
                format!(
                    r#"{{ name = "{address}", address = "holding:{address}", type = "uint64" }},"#
                )
            });
            let tags = tags.concat();
            toml.push_str(&format!(
                "[[channel.group]]\nname = \"{name}\"\nperiod = \"100ms\"\ntags = [{tags}]\n"
            ));
        }
        toml.push_str("[[sink]]\nkind = \"file\"\npath = \"$DIR/samples\"\n");
        let host = Bulkhead::start(&toml)?;
        let machine = Machine::watch(&[host.process().id(), peer.process().id()])?;
        Ok(Self {
            host,
            peer,
            machine,
            device,
        })
    }

    /// Spoils an answer, then, after a right one, two more, and follows what is published until all is well again.
    fn check(&mut self, spoilt: Spoilt, effect: Effect, quality: &str) -> Result<()> {
        let recorder = Recorder::start(self.host.stream("/api/v1/stream?channel=victim")?);
        recorder.wait("all is well", |seen| {
            GROUPS
                .iter()
                .all(|group| polls(seen, group).iter().any(Poll::is_good))
        })?;
        let connections = self.device.connections();
        self.device
            .script([Some(spoilt), None, Some(spoilt), Some(spoilt)]);
        let struck = self.device.spent()?;
        let last = *struck.last().context("nothing was struck")?;
        recorder.wait("all is well again", |seen| {
            GROUPS.iter().all(|group| {
                let polls = polls(seen, group);
                polls.iter().any(|poll| poll.request > Some(last + 1))
            })
        })?;
        let connections = self.device.connections() - connections;
        let seen = recorder.so_far();
        drop(recorder);

        let context = || format!("{spoilt:?}: {struck:?} were struck\n{}", told(&seen));
        assert!(seen.iter().all(|(name, _)| name != "gap"), "{}", context());
        let ended = seen.iter().any(|(name, _)| name == "exit");
        assert!(!ended, "{}", context());
        check_values(&seen, &context);
        let mut qualities = BTreeSet::new();
        let mut answered = BTreeSet::new();
        for group in &GROUPS {
            let polls = polls(&seen, group);
            // What came after the last struck request, before the first that was right again.
            let again = polls
                .iter()
                .position(|poll| poll.request > Some(last))
                .expect("it was waited for");
            let bad = polls[..again]
                .iter()
                .rev()
                .take_while(|poll| !poll.is_good());
            assert!(
                bad.count() <= SECOND,
                "{} is not good again within a second of polls: {}",
                group.0,
                context()
            );
            answered.extend(polls.iter().filter_map(|poll| poll.request));
            qualities.extend(polls.iter().flat_map(|poll| poll.bad.iter().cloned()));
        }
        let believed = struck.iter().filter(|request| answered.contains(request));
        let (believable, dialled) = match effect {
            Effect::None => (struck.len(), 0..=0),
            Effect::Kept => (0, 0..=0),
            Effect::Anew => (0, 3..=3),
            Effect::AnewForNext => (struck.len(), 2..=3),
            Effect::Either => (0, 0..=3),
        };
        assert_eq!(believed.count(), believable, "{}", context());
        assert!(
            dialled.contains(&connections),
            "{connections} new connections: {}",
            context()
        );
        // Between streams nothing is connected.
        let mut allowed: BTreeSet<String> = [quality.to_owned()].into();
        match effect {
            Effect::None => allowed.clear(),
            // A unit that keeps silent is down, and with it all of its tags.
            Effect::Kept if quality == "bad-timeout" => {
                allowed.insert("bad-no-communication".to_owned());
            }
            Effect::Kept => {}
            Effect::Anew | Effect::AnewForNext => {
                allowed.insert("bad-not-connected".to_owned());
            }
            Effect::Either => {
                allowed.insert("bad-not-connected".to_owned());
                allowed.insert("bad-timeout".to_owned());
            }
        }
        assert!(
            qualities.is_subset(&allowed),
            "{qualities:?} instead of {allowed:?}: {}",
            context()
        );
        assert!(
            effect == Effect::None || effect == Effect::Either || qualities.contains(quality),
            "{qualities:?} without {quality}: {}",
            context()
        );
        Ok(())
    }

    /// The victim has not ended once, and the others have noticed nothing.
    fn finish(mut self) -> Result<()> {
        let victim = self.host.get("/api/v1/channels/victim")?.body;
        assert_eq!(victim["incarnation"], 1, "{victim:#}");
        assert_eq!(victim["counters"]["faults"], 0, "{victim:#}");
        assert_eq!(victim["last_exit"], Value::Null, "{victim:#}");

        let device = self.peer.stats()?;
        assert_eq!(device["connections"], NEIGHBOURS, "{device}");
        let mut retired = Vec::new();
        for unit in 1..=NEIGHBOURS {
            let one = neighbour::retire(&self.host, &mut self.peer, &self.machine, unit)?;
            retired.push(one);
        }
        let file = self.host.folder().join("samples");
        let written = || -> Result<Vec<(String, Value)>> {
            let text = fs::read_to_string(&file)?;
            // The last line may be half written.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let lines = whole
                .lines()
                .map(|line| Ok(("sample".to_owned(), serde_json::from_str(line)?)));
            lines.collect()
        };
        let is_complete = |seen: &Recording| {
            (1..=NEIGHBOURS).all(|unit| {
                seen.iter().any(|(_, data)| {
                    data["channel"] == *neighbour::id(unit)
                        && data["quality"] == "bad-out-of-service"
                })
            })
        };
        let mut seen = written()?;
        self.host.get_until("/api/v1/status", |_| {
            seen = written().ok()?;
            is_complete(&seen).then_some(())
        })?;
        for retired in retired {
            retired.check_published(&seen);
        }
        ensure!(self.host.stop()?.code() == Some(0));
        Ok(())
    }
}

/// What one poll of a group brought.
#[derive(Debug, Default)]
struct Poll {
    /// The request whose answer is good.
    request: Option<u32>,
    /// The qualities of what is not.
    bad: BTreeSet<String>,
}

impl Poll {
    fn is_good(&self) -> bool {
        self.request.is_some() && self.bad.is_empty()
    }
}

/// The batches of a group, in order. What is published together is one answer.
fn polls(seen: &Recording, (_, addresses): &(&str, [u16; 3])) -> Vec<Poll> {
    let mut polls: BTreeMap<u64, Poll> = BTreeMap::new();
    for (_, data) in seen.iter().filter(|(name, _)| name == "sample") {
        let of_group = addresses
            .iter()
            .any(|address| data["tag"] == *address.to_string());
        if !of_group {
            continue;
        }
        let poll = polls.entry(moment(data)).or_default();
        match data["quality"].as_str().expect("a sample has a quality") {
            "good" => poll.request = reading(data).map(|reading| reading.request),
            bad => {
                poll.bad.insert(bad.to_owned());
            }
        }
    }
    polls.into_values().collect()
}

/// What the samples of one batch of a group have in common, and those of no other.
fn moment(sample: &Value) -> u64 {
    sample["server_time_ns"]
        .as_u64()
        .expect("a sample has a time")
}

/// The group of a tag.
fn group_of(address: u16) -> usize {
    let holds = |(_, addresses): &(_, [u16; 3])| addresses.contains(&address);
    GROUPS
        .iter()
        .position(holds)
        .expect("every tag is in a group")
}

fn reading(sample: &Value) -> Option<Reading> {
    Reading::decode(sample["value"].as_u64()?)
}

/// Everything good is right, at its place, of one answer with the rest of its batch, and newer than all before.
fn check_values(seen: &Recording, context: &dyn Fn() -> String) {
    let mut newest = 0;
    let mut batches: BTreeMap<(u64, usize), u32> = BTreeMap::new();
    let good = seen
        .iter()
        .filter(|(name, data)| name == "sample" && data["quality"] == "good");
    for (_, data) in good {
        let reading = reading(data);
        let Some(Reading {
            right: true,
            address,
            request,
        }) = reading
        else {
            panic!("{data} is {reading:?}: {}", context());
        };
        assert_eq!(data["tag"], *address.to_string(), "{}", context());
        let batch = (moment(data), group_of(address));
        let of_batch = *batches.entry(batch).or_insert_with(|| {
            assert!(request > newest, "{data} again: {}", context());
            newest = request;
            request
        });
        assert_eq!(request, of_batch, "{data} was mixed: {}", context());
    }
}

/// The recording, one line each.
fn told(seen: &Recording) -> String {
    let lines = seen.iter().map(|(name, data)| match name.as_str() {
        "sample" => format!(
            "{} {} {} {:?}\n",
            data["sequence"],
            data["tag"],
            data["quality"],
            reading(data)
        ),
        _ => format!("{name} {data}\n"),
    });
    lines.collect()
}
