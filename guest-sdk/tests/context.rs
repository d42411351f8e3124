//! What a driver can do besides answering, and what it can wait for.

mod common;

use std::cell::Cell;
use std::time::Duration;

use bulkhead_sdk::abi::{self, Action, Happening};
use bulkhead_sdk::testing::{FakeHost, Setup};
use bulkhead_sdk::*;
use common::{Plan, Probe, Step, planned};

/// A driver that does what it is commanded.
struct Handyman {
    context: Context,
    /// How many tasks hold the bell rope.
    ringing: std::rc::Rc<Cell<u32>>,
}

impl Driver for Handyman {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "handyman",
            version: "0.1.0",
            protocol: "none",
            address_help: "",
            links: &[],
            can: Capabilities::COMMANDS,
        }
    }

    fn configure(_config: Config<Self>, context: Context) -> Result<Self, Faults> {
        Ok(Self {
            context,
            ringing: std::rc::Rc::default(),
        })
    }

    async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
        // Nobody hears of a progress that is not a command's.
        self.context.progress(0.5, "polling");
        Ok(PollReport::default())
    }

    async fn command(&self, command: Command) -> Result<Vec<u8>, Error> {
        let context = &self.context;
        let second = Duration::from_secs(1);
        match command.name.as_str() {
            "store" => {
                let stored = context.publish_durable(vec![sample(1.0)]);
                context.publish(Vec::new());
                stored.await?;
                Ok(b"stored".to_vec())
            }
            "store nothing" => {
                context.publish_durable(Vec::new()).await?;
                Ok(Vec::new())
            }
            "report" => {
                context.progress(0.25, "a quarter");
                context.sleep(second).await;
                context.progress(7.0, "more than all");
                context.metric(Metric::counter("jobs", 1.0));
                context.alarm(Alarm::raised("late", Severity::Warning, "the job is late").of(0));
                context.device_state(0, DeviceCondition::Down, "no answer");
                context.save_state(b"state".to_vec());
                Ok(command.payload)
            }
            "race" => {
                let slow = async {
                    context.sleep(2 * second).await;
                    "slow"
                };
                let fast = async {
                    context.sleep(second).await;
                    "fast"
                };
                match select(slow, fast).await {
                    Either::First(word) | Either::Second(word) => Ok(word.into()),
                }
            }
            "both" => {
                let word = async |word: &'static str, seconds: u32| {
                    context.sleep(seconds * second).await;
                    word
                };
                let pair = join(word("a", 2), word("b", 1));
                let many = join_all([word("c", 3), word("d", 1), word("e", 2)]);
                let ((a, b), many) = join(pair, many).await;
                Ok(format!("{a}{b}{}", many.concat()).into())
            }
            "ring" => {
                let (ringing, inner) = (self.ringing.clone(), context.clone());
                self.ringing.set(ringing.get() + 1);
                context.spawn(async move {
                    inner.sleep(second).await;
                    ringing.set(ringing.get() - 1);
                });
                Ok(Vec::new())
            }
            "ringing" => Ok(self.ringing.get().to_string().into()),
            "dice" => Ok(format!("{:x} {:x}", context.random(), context.random()).into()),
            "date" => Ok(context.wall().unix_nanos().to_string().into()),
            other => Err(Error::new(other)),
        }
    }
}

fn sample(value: f64) -> Sample {
    Sample {
        tag: 0,
        value: Some(Value::Float(value)),
        quality: Quality::Good,
        source_time_ns: None,
    }
}

fn host() -> FakeHost<Handyman> {
    FakeHost::start(Setup::new().tag("tag", "", "float64")).expect("no faults")
}

fn command(host: &mut FakeHost<Handyman>, name: &str) -> String {
    let answer = host.command(name, b"payload").expect("it can do that");
    String::from_utf8(answer).expect("text")
}

#[test]
fn a_durable_batch_waits_for_its_own_stored() {
    let mut host = host();
    assert_eq!(command(&mut host, "store"), "stored");
    assert_eq!(command(&mut host, "store nothing"), "");
    assert_eq!(host.take_samples(), [sample(1.0)]);
    let ids: Vec<Option<u64>> = host
        .history()
        .iter()
        .filter_map(|action| match action {
            Action::Publish(publish) => Some(publish.id),
            _ => None,
        })
        .collect();
    assert_eq!(ids, [Some(0)]);
}

#[test]
fn reports_go_out_in_order() {
    let mut host = host();
    host.poll("all");
    assert_eq!(command(&mut host, "report"), "payload");
    let kinds: Vec<String> = host.history().iter().map(kind).collect();
    assert_eq!(
        kinds,
        [
            "poll-done",
            "progress 0.25",
            "set-timer",
            "progress 1",
            "metric jobs MetricKind::Counter",
            "alarm late Severity::Warning Some(0)",
            "device-state",
            "save-state",
            "command-done"
        ]
    );
    assert_eq!(host.condition("device"), Some(DeviceCondition::Down));
    assert_eq!(host.saved_state(), Some(&b"state"[..]));
}

fn kind(action: &Action) -> String {
    match action {
        Action::PollDone(_) => "poll-done".into(),
        Action::CommandProgress(progress) => format!("progress {}", progress.fraction),
        Action::SetTimer(_) => "set-timer".into(),
        Action::Metric(metric) => format!("metric {} {:?}", metric.name, metric.kind),
        Action::Alarm(alarm) => format!(
            "alarm {} {:?} {:?}",
            alarm.code, alarm.severity, alarm.device
        ),
        Action::DeviceState(_) => "device-state".into(),
        Action::SaveState(_) => "save-state".into(),
        Action::CommandDone(_) => "command-done".into(),
        other => format!("{other:?}"),
    }
}

#[test]
fn several_futures_at_once() {
    let mut host = host();
    let before = host.now();
    assert_eq!(command(&mut host, "race"), "fast");
    assert_eq!(host.now() - before, Duration::from_secs(1));
    let before = host.now();
    assert_eq!(command(&mut host, "both"), "abcde");
    assert_eq!(host.now() - before, Duration::from_secs(3));
}

#[test]
fn spawned_tasks_go_on_by_themselves() {
    let mut host = host();
    command(&mut host, "ring");
    command(&mut host, "ring");
    assert_eq!(command(&mut host, "ringing"), "2");
    host.advance(Duration::from_millis(999));
    assert_eq!(command(&mut host, "ringing"), "2");
    host.advance(Duration::from_millis(1));
    assert_eq!(command(&mut host, "ringing"), "0");
}

#[test]
fn random_numbers_follow_their_seed() {
    let roll = |seed| {
        let setup = Setup::new().tag("tag", "", "float64").seed(seed);
        let mut host = FakeHost::<Handyman>::start(setup).expect("no faults");
        command(&mut host, "dice")
    };
    // The first two numbers of SplitMix64 from zero, as its authors' program prints them.
    assert_eq!(roll(0), "e220a8397b1dcdaf 6e789e6aa1b965f4");
    assert_eq!(roll(1), roll(1));
    assert_ne!(roll(1), roll(2));
}

#[test]
fn clocks_stand_still_until_the_host_moves_them() {
    let mut host = host();
    let first: u64 = command(&mut host, "date").parse().expect("a number");
    assert_eq!(command(&mut host, "date"), first.to_string());
    host.advance(Duration::from_nanos(7));
    assert_eq!(command(&mut host, "date"), (first + 7).to_string());
}

fn one_line() -> abi::ChannelConfig {
    abi::ChannelConfig {
        name: "channel".to_owned(),
        settings: "{}".into(),
        links: vec![abi::Link {
            id: 3,
            name: "line".into(),
            kind: "tcp".into(),
            listens: false,
        }],
        devices: Vec::new(),
        groups: Vec::new(),
        tags: Vec::new(),
    }
}

/// A runtime by hand, for what the fake host does not do: its driver begins with these connections.
fn inherit(connections: Vec<abi::Connection>) -> (Runtime<Probe>, Vec<Action>) {
    let mut runtime = Runtime::<Probe>::seeded(0);
    runtime.configure(one_line()).expect("no faults");
    begin(runtime, connections)
}

fn begin(
    mut runtime: Runtime<Probe>,
    connections: Vec<abi::Connection>,
) -> (Runtime<Probe>, Vec<Action>) {
    let actions = turn(
        &mut runtime,
        Happening::Started(abi::Start {
            incarnation: 2,
            reason: StartReason::RestartAfterFault,
            state: None,
            connections,
            features: Vec::new(),
        }),
    );
    (runtime, actions)
}

fn turn(runtime: &mut Runtime<Probe>, what: Happening) -> Vec<Action> {
    let now = abi::Instant {
        monotonic_ns: 1,
        wall_ns: 1,
    };
    let event = abi::Event { at_ns: 1, what };
    runtime.turn(now, vec![event]).expect("it goes on")
}

fn survivor(id: u32, link: u32) -> abi::Connection {
    abi::Connection {
        id,
        link,
        target: None,
        secured: false,
        peer: "plc".into(),
        send_window: 100,
    }
}

#[test]
fn a_connection_that_outlived_the_last_incarnation_is_taken_over() {
    planned(Plan {
        start: vec![Step::Send(b"still here")],
        ..Plan::default()
    });
    let (_runtime, actions) = inherit(vec![survivor(5, 3)]);
    let [Action::Send(send)] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(send.connection, 5);
}

#[test]
fn what_nobody_takes_over_is_closed() {
    planned(Plan::default());
    let (_runtime, actions) = inherit(vec![survivor(5, 3), survivor(6, 3), survivor(7, 9)]);
    assert_eq!(actions, [Action::Close(6), Action::Close(7)]);
}

#[test]
fn what_was_opened_to_another_place_is_not_taken_over() {
    planned(Plan::default());
    let elsewhere = abi::Connection {
        target: Some("10.0.0.9:502".into()),
        ..survivor(5, 3)
    };
    let (_runtime, actions) = inherit(vec![elsewhere.clone()]);
    let [Action::Open(open), Action::Close(5)] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(open.target, None);
    // One of each is claimed by its place, whatever their order.
    planned(Plan {
        start: vec![Step::Send(b"still here")],
        ..Plan::default()
    });
    let (_runtime, actions) = inherit(vec![elsewhere, survivor(6, 3)]);
    let [Action::Send(send), Action::Close(5)] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(send.connection, 6);
}

/// Asks twice for samples to be durable, and says what came of it.
struct Keeper {
    context: Context,
}

impl Driver for Keeper {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "keeper",
            ..Probe::info()
        }
    }

    fn configure(_config: Config<Self>, context: Context) -> Result<Self, Faults> {
        Ok(Self { context })
    }

    async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
        Ok(PollReport::default())
    }

    async fn command(&self, _command: Command) -> Result<Vec<u8>, Error> {
        self.context.publish_durable(vec![sample(1.0)]).await?;
        Ok(b"stored".to_vec())
    }
}

#[test]
fn a_batch_that_is_declined_wakes_whoever_waits_for_it_and_nobody_else() {
    let mut runtime = Runtime::<Keeper>::seeded(0);
    runtime.configure(one_line()).expect("no faults");
    let mut turn = |events: Vec<Happening>| {
        let now = abi::Instant {
            monotonic_ns: 1,
            wall_ns: 1,
        };
        let events = events.into_iter();
        let events = events.map(|what| abi::Event { at_ns: 1, what }).collect();
        runtime.turn(now, events).expect("it goes on")
    };
    turn(vec![Happening::Started(abi::Start {
        incarnation: 1,
        reason: StartReason::First,
        state: None,
        connections: Vec::new(),
        features: Vec::new(),
    })]);
    let asked = |request| {
        Happening::Command(abi::Command {
            request,
            name: "keep".into(),
            payload: Vec::new(),
            deadline_ns: 9,
        })
    };
    let batches: Vec<Option<u64>> = turn(vec![asked(1), asked(2)])
        .iter()
        .map(|action| match action {
            Action::Publish(publish) => publish.id,
            other => panic!("{other:?}"),
        })
        .collect();
    let answers = turn(vec![Happening::Declined(abi::Declined {
        action: abi::ActionKind::Publish,
        connection: None,
        batch: batches[1],
        why: "not here".into(),
    })]);
    let [Action::CommandDone(done)] = &answers[..] else {
        panic!("{answers:?}");
    };
    let error = done.answer.as_ref().expect_err("it was declined");
    assert_eq!((done.request, error.quality), (2, Quality::BadNotSupported));
    assert!(error.message.contains("not here"), "{}", error.message);
    let answers = turn(vec![Happening::Stored(batches[0].expect("an id"))]);
    let [Action::CommandDone(done)] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!((done.request, &done.answer), (1, &Ok(b"stored".to_vec())));
}

#[test]
fn a_failure_that_is_not_bad_is_told_as_bad() {
    let told = |error: Error| abi::Error::from(error);
    assert_eq!(
        told(Error::new("no").with_quality(Quality::Good)).quality,
        Quality::Bad
    );
    let timed_out = told(
        Error::new("no")
            .with_quality(Quality::BadTimeout)
            .with_code(0),
    );
    assert_eq!(
        (timed_out.quality, timed_out.code),
        (Quality::BadTimeout, Some(0))
    );
    assert_eq!(told(Error::new("no")).code, None);
}

#[test]
fn new_connections_keep_clear_of_inherited_ones() {
    planned(Plan::default());
    let (_runtime, actions) = inherit(vec![survivor(5, 9)]);
    let [Action::Open(open), Action::Close(5)] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!((open.connection, open.link), (6, 3));
}

/// A second configuration that is refused before the first turn leaves what the first has asked for.
#[test]
fn a_refusal_before_the_first_turn_takes_no_connection_away() {
    planned(Plan::default());
    let mut runtime = Runtime::<Probe>::seeded(0);
    runtime.configure(one_line()).expect("no faults");
    let bad = abi::ChannelConfig {
        name: "channel".to_owned(),
        settings: "[]".into(),
        ..one_line()
    };
    runtime.configure(bad).expect_err("it is no table");
    let (_runtime, actions) = begin(runtime, Vec::new());
    let [Action::Open(open)] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(open.link, 3);
}

#[test]
fn nothing_follows_stopped_and_every_later_turn_is_empty() {
    planned(Plan::default());
    let (mut runtime, _) = inherit(Vec::new());
    let actions = turn(
        &mut runtime,
        Happening::Stop(abi::Stop {
            deadline_ns: 1_000,
            reason: StopReason::Stopped,
        }),
    );
    assert_eq!(actions, [Action::Stopped]);
    assert_eq!(turn(&mut runtime, Happening::Timer(0)), []);
}

#[test]
fn a_turn_without_a_configuration_is_an_error() {
    let mut runtime = Runtime::<Probe>::seeded(0);
    let now = abi::Instant {
        monotonic_ns: 1,
        wall_ns: 1,
    };
    assert!(runtime.turn(now, Vec::new()).is_err());
}
