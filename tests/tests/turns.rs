//! One life of a guest at a time: every way in which it can end, and what it can see.
#![expect(
    clippy::unwrap_used,
    reason = "in what only tests call, a panic is the failure of the test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bulkhead::bindings::actions::Action;
use bulkhead::bindings::config::ChannelConfig;
use bulkhead::bindings::events::{Command, Happening, Opened, Received, Stop, StopReason, Write};
use bulkhead::bindings::types::Value;
use bulkhead::driver::{Budget, Driver, Instance, InstanceSpec};
use bulkhead::exit::{During, Exit, ExitKind};
use bulkhead_tests::guests::{
    BUDGET, Life, config, driver, driver_path, engine, exit_within, moment, numbers, poll, polled,
    spec, started, ten_tags, texts, with_peer,
};

/// Lets the guest live for at most ten polls, and expects this end.
async fn check(
    guest: &str,
    config: &ChannelConfig,
    spec: InstanceSpec,
    expected: (ExitKind, During),
    says: &str,
) -> Exit {
    let exit = exit_within(10, &driver(guest), spec, config).await;
    assert_eq!((exit.kind, exit.during), expected, "{guest}: {exit}");
    assert!(
        exit.sentence.contains(says),
        "{guest}: {exit} does not say {says:?}"
    );
    assert!(exit.backtrace.len() <= Exit::MAX_FRAMES);
    exit
}

/// The name and source line of the first frame whose function contains `name`.
fn frame(exit: &Exit, name: &str) -> (usize, String) {
    let found = exit
        .backtrace
        .iter()
        .position(|frame| frame.function.contains(name));
    let at = found.unwrap_or_else(|| panic!("no {name} in {:#?}", exit.backtrace));
    (at, exit.backtrace[at].source.clone().unwrap_or_default())
}

#[tokio::test]
async fn a_panic_is_a_trap_with_the_names_and_lines_of_the_guest() {
    let config = ten_tags(r#"{"when": "poll", "after": 3}"#);
    let exit = check(
        "traps",
        &config,
        spec(),
        (ExitKind::Trapped, During::Turn),
        "unreachable",
    )
    .await;

    let (inner, line) = frame(&exit, "traps::read_register");
    assert!(line.contains("traps/src/lib.rs:"), "{line}");
    let (outer, line) = frame(&exit, "traps::decode_reply");
    assert!(line.contains("traps/src/lib.rs:"), "{line}");
    let (handler, _) = frame(&exit, "poll");
    assert!(
        inner < outer && outer < handler,
        "innermost first: {:#?}",
        exit.backtrace
    );
}

#[tokio::test]
async fn a_trap_is_told_from_the_call_in_which_it_came() {
    for (when, during) in [
        ("configure", During::Configure),
        ("start", During::Turn),
        ("poll", During::Turn),
    ] {
        let config = ten_tags(&format!(r#"{{"when": "{when}"}}"#));
        let exit = check(
            "traps",
            &config,
            spec(),
            (ExitKind::Trapped, during),
            "unreachable",
        )
        .await;
        frame(&exit, "traps::read_register");
    }

    let life = Life::begin(&driver("traps"), spec(), &ten_tags(r#"{"when": "write"}"#))
        .await
        .unwrap();
    let write = Write {
        request: 1,
        tag: 3,
        value: Value::Float(2.5),
        read_back: true,
        deadline_ns: u64::MAX,
    };
    let exit = life
        .turn([started(), Happening::Write(write)])
        .await
        .err()
        .unwrap();
    assert_eq!(
        (exit.kind, exit.during),
        (ExitKind::Trapped, During::Turn),
        "{exit}"
    );
}

#[tokio::test]
async fn until_it_traps_a_guest_answers_truly() {
    let config = ten_tags(r#"{"when": "poll", "after": 3}"#);
    let (_, turns) = polled(3, &driver("traps"), spec(), &config).await.unwrap();
    for (cycle, actions) in turns.iter().enumerate().skip(1) {
        assert_eq!(numbers(actions), [cycle as f64; 10]);
        let done = actions.iter().filter(
            |action| matches!(action, Action::PollDone(done) if done.cycle == cycle as u64),
        );
        assert_eq!(done.count(), 1, "{actions:?}");
    }
}

#[tokio::test]
async fn an_endless_loop_ends_with_the_fuel() {
    for (when, during) in [
        ("configure", During::Configure),
        ("start", During::Turn),
        ("poll", During::Turn),
    ] {
        let config = ten_tags(&format!(r#"{{"when": "{when}"}}"#));
        let exit = check(
            "spins",
            &config,
            spec(),
            (ExitKind::OutOfFuel, during),
            "units of fuel",
        )
        .await;
        frame(&exit, "spins::spin_for_ever");
    }
    let life = Life::begin(&driver("spins"), spec(), &ten_tags(r#"{"when": "stop"}"#))
        .await
        .unwrap();
    let (life, _) = life.turn([started()]).await.unwrap();
    let exit = life
        .turn([Happening::Stop(Stop {
            deadline_ns: moment(9).0.0,
            reason: StopReason::Stopped,
        })])
        .await
        .err()
        .unwrap();
    assert_eq!(exit.kind, ExitKind::OutOfFuel, "{exit}");
}

#[tokio::test]
async fn work_within_the_fuel_is_no_fault() {
    let config = ten_tags(r#"{"when": "poll", "after": 100}"#);
    let (life, _) = polled(100, &driver("spins"), spec(), &config)
        .await
        .unwrap();
    let used = life.instance().stats().fuel;
    assert!((1_000..1_000_000).contains(&used), "{used}");
}

/// On one thread, so that a guest that does not yield would stop everything else.
#[tokio::test(flavor = "current_thread")]
async fn a_guest_that_spins_with_fuel_left_is_stopped_and_stops_nobody() {
    let ended = Arc::new(AtomicBool::new(false));
    let steps = Arc::new(AtomicU64::new(0));
    let neighbour = {
        let (ended, steps) = (ended.clone(), steps.clone());
        async move {
            while !ended.load(Ordering::Relaxed) {
                steps.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let endless = Budget {
        fuel: u64::MAX / 2,
        deadline: Duration::from_millis(300),
    };
    let spinning = async {
        let spec = InstanceSpec {
            turn: endless,
            ..spec()
        };
        let config = ten_tags(r#"{"when": "poll"}"#);
        let exit = check(
            "spins",
            &config,
            spec,
            (ExitKind::DeadlineExceeded, During::Turn),
            "longer than 300ms",
        )
        .await;
        ended.store(true, Ordering::Relaxed);
        exit
    };
    // Both on this thread: the neighbour runs only when the guest lets go.
    let (exit, ()) = tokio::join!(spinning, neighbour);
    frame(&exit, "spins::spin_for_ever");
    let steps = steps.load(Ordering::Relaxed);
    assert!(steps >= 10, "the neighbour took {steps} steps in 300 ms");
}

#[tokio::test]
async fn the_deadline_holds_in_every_call() {
    let short = Budget {
        fuel: u64::MAX / 2,
        deadline: Duration::from_millis(100),
    };
    let spec = InstanceSpec {
        start: short,
        turn: short,
        ..spec()
    };
    let config = ten_tags(r#"{"when": "configure"}"#);
    check(
        "spins",
        &config,
        spec,
        (ExitKind::DeadlineExceeded, During::Configure),
        "longer than 100ms",
    )
    .await;
}

#[tokio::test]
async fn memory_without_end_is_refused_by_the_sum() {
    let plenty = Budget {
        fuel: 10_000_000_000,
        ..BUDGET
    };
    let spec = InstanceSpec {
        turn: plenty,
        memory: 16 << 20,
        ..spec()
    };
    for settings in [r#"{"piece_mib": 4}"#, r#"{"at_once": true}"#] {
        let exit = check(
            "hoards",
            &ten_tags(settings),
            spec.clone(),
            (ExitKind::OutOfMemory, During::Turn),
            "its limit is 16777216",
        )
        .await;
        frame(&exit, "hoard");
    }
}

#[tokio::test]
async fn a_refusal_of_memory_that_the_guest_lives_with_is_no_fault() {
    let plenty = Budget {
        fuel: 10_000_000_000,
        ..BUDGET
    };
    let spec = InstanceSpec {
        turn: plenty,
        memory: 16 << 20,
        ..spec()
    };
    let config = ten_tags(r#"{"piece_mib": 1, "gives_in": true}"#);
    let (life, turns) = polled(30, &driver("hoards"), spec, &config).await.unwrap();
    let held: Vec<f64> = turns
        .iter()
        .skip(1)
        .map(|actions| numbers(actions)[0])
        .collect();
    assert_eq!(held[0], 1.0);
    let most = held[29];
    assert!(
        (8.0..16.0).contains(&most) && held[28] == most,
        "it grew to the limit and stayed: {held:?}"
    );
    let peak = life.instance().stats().peak_memory;
    assert!(
        peak <= 16 << 20 && peak as f64 >= most * 1024.0 * 1024.0,
        "{peak}"
    );
}

#[tokio::test]
async fn waiting_inside_wasi_is_refused_and_takes_no_time() {
    let sleeps = config(r#"{"how": "sleep"}"#, &[]);
    let exit = check(
        "waits",
        &sleeps,
        spec(),
        (ExitKind::Refused, During::Turn),
        "tried to wait inside WASI",
    )
    .await;
    frame(&exit, "sleep");

    // Looking at a clock that stands still never ends; the fuel does.
    let watches = config(r#"{"how": "watch"}"#, &[]);
    let exit = check(
        "waits",
        &watches,
        spec(),
        (ExitKind::OutOfFuel, During::Turn),
        "units of fuel",
    )
    .await;
    frame(&exit, "watch_the_clock");

    // Standard input has ended, which takes no waiting.
    let reads = config(r#"{"how": "stdin"}"#, &[]);
    polled(1, &driver("waits"), spec(), &reads).await.unwrap();
}

#[tokio::test]
async fn an_error_from_a_turn_is_the_drivers_own_word() {
    let config = ten_tags(r#"{"after": 2}"#);
    let exit = check(
        "errs",
        &config,
        spec(),
        (ExitKind::DriverError, During::Turn),
        "the line is on fire (code 17)",
    )
    .await;
    let trace: Vec<&str> = exit
        .backtrace
        .iter()
        .map(|frame| frame.function.as_str())
        .collect();
    assert_eq!(trace, ["in the cable", "in the cabinet"]);
}

#[tokio::test]
async fn a_guest_may_be_silent() {
    let (life, turns) = polled(3, &driver("silent"), spec(), &ten_tags("{}"))
        .await
        .unwrap();
    assert!(turns.iter().all(Vec::is_empty), "{turns:?}");
    life.turn([Happening::Stop(Stop {
        deadline_ns: 0,
        reason: StopReason::Stopped,
    })])
    .await
    .unwrap();
}

#[tokio::test]
async fn a_list_of_a_million_actions_does_not_cross() {
    let plenty = Budget {
        fuel: 10_000_000_000,
        ..BUDGET
    };
    let spec = InstanceSpec {
        turn: plenty,
        memory: 512 << 20,
        ..spec()
    };
    let config = ten_tags(r#"{"what": "actions", "count": 1000000}"#);
    check(
        "floods",
        &config,
        spec,
        (ExitKind::Refused, During::Turn),
        "too much data",
    )
    .await;
}

#[tokio::test]
async fn a_flood_of_samples_is_in_order_turn_by_turn() {
    let config = ten_tags(r#"{"what": "samples", "count": 1000}"#);
    let mut life = Life::begin(&driver("floods"), spec(), &config)
        .await
        .unwrap();
    let (next, actions) = life.turn([started()]).await.unwrap();
    life = next;
    assert_eq!(numbers(&actions).len(), 1000);
    for _ in 0..20 {
        let (next, actions) = life.turn([Happening::Timer(0)]).await.unwrap();
        life = next;
        assert_eq!(numbers(&actions).len(), 1000);
        assert!(
            matches!(actions.last(), Some(Action::SetTimer(timer)) if timer.after_ns == 0),
            "{:?}",
            actions.last()
        );
    }
}

#[tokio::test]
async fn lies_cross_as_they_are_told() {
    // What becomes of them is the channel's business; here each is told once, after the truth.
    for lie in [
        "unknown_tag",
        "wrong_type",
        "poll_done_twice",
        "stopped_unasked",
    ] {
        let config = with_peer(&format!(r#"{{"lie": "{lie}", "after": 1}}"#));
        let (_, turns) = polled(3, &driver("lies"), spec(), &config).await.unwrap();
        let counts: Vec<usize> = turns.iter().map(Vec::len).collect();
        assert_eq!(counts, [1, 2, 3, 2], "{lie}");
    }
}

#[tokio::test]
async fn an_echo_comes_back_and_its_state_is_saved_first() {
    let config = ChannelConfig { ..with_peer("{}") };
    let life = Life::begin(&driver("echo"), spec(), &config).await.unwrap();
    let (life, actions) = life.turn([started()]).await.unwrap();
    let Some(Action::Open(open)) = actions.first() else {
        panic!("{actions:?}")
    };
    let connection = open.connection;
    let opened = Opened {
        connection,
        link: 0,
        secured: false,
        peer: "desk".to_owned(),
        send_window: 65_536,
    };
    let received = Received {
        connection,
        peer: None,
        bytes: b"hello".to_vec(),
    };
    let (life, actions) = life
        .turn([Happening::Opened(opened), Happening::Received(received)])
        .await
        .unwrap();
    let [Action::SaveState(state), Action::Send(send)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (state.as_slice(), send.bytes.as_slice()),
        (&b"5"[..], &b"hello"[..])
    );

    let command = Command {
        request: 4,
        name: "save".to_owned(),
        payload: b"7".to_vec(),
        deadline_ns: u64::MAX,
    };
    let (_, actions) = life.turn([Happening::Command(command)]).await.unwrap();
    assert!(
        matches!(
            actions.as_slice(),
            [Action::SaveState(_), Action::CommandDone(_)]
        ),
        "{actions:?}"
    );
}

/// What the guest saw of each attempt.
async fn reached(spec: InstanceSpec, attempts: &[&str]) -> Vec<String> {
    let tags: Vec<(&str, &str)> = attempts
        .iter()
        .map(|attempt| (*attempt, "string"))
        .collect();
    let (_, turns) = polled(1, &driver("reaches"), spec, &config("{}", &tags))
        .await
        .unwrap();
    texts(&turns[1])
}

#[tokio::test]
async fn there_is_nothing_behind_wasi() {
    let attempts = ["read", "write", "list", "tcp", "listen", "udp", "resolve"];
    for (attempt, seen) in attempts.iter().zip(reached(spec(), &attempts).await) {
        assert!(seen.starts_with("refused: "), "{attempt}: {seen}");
    }
    assert!(
        !std::path::Path::new("/tmp/reached").exists(),
        "the guest wrote a file"
    );
    assert_eq!(reached(spec(), &["env", "args"]).await, ["[]", "[]"]);
}

#[tokio::test]
async fn clocks_stand_still_within_a_turn_and_show_the_hosts_time() {
    assert_eq!(
        reached(spec(), &["monotonic"]).await,
        ["0"],
        "a hundred thousand steps took no time"
    );
    // `polled` takes its first poll in the second turn.
    assert_eq!(
        reached(spec(), &["wall"]).await,
        [moment(2).1.0.to_string()]
    );
}

#[tokio::test]
async fn random_numbers_come_from_the_seed() {
    let seeded = async |seed| reached(InstanceSpec { seed, ..spec() }, &["random", "random"]).await;
    let first = seeded(7).await;
    assert_eq!(first, seeded(7).await);
    assert_ne!(first, seeded(8).await);
}

#[tokio::test]
async fn the_same_seed_and_events_give_the_same_actions_for_the_same_fuel() {
    let attempts: Vec<(&str, &str)> = ["random", "wall", "monotonic", "env", "tcp"]
        .iter()
        .map(|what| (*what, "string"))
        .collect();
    let settings = r#"{"piece_mib": 1, "gives_in": true}"#;
    for (guest, config) in [
        ("reaches", config("{}", &attempts)),
        ("hoards", ten_tags(settings)),
        ("echo", with_peer("{}")),
    ] {
        let run = async || {
            let plenty = InstanceSpec {
                turn: Budget {
                    fuel: 1_000_000_000,
                    ..BUDGET
                },
                ..spec()
            };
            let mut life = Life::begin(&driver(guest), plenty, &config).await.unwrap();
            let mut seen = Vec::new();
            for cycle in 0..8 {
                let what = if cycle == 0 { started() } else { poll(cycle) };
                let (next, actions) = life.turn([what]).await.unwrap();
                life = next;
                seen.push((format!("{actions:?}"), life.instance().stats()));
            }
            seen
        };
        for (turn, (first, again)) in run().await.into_iter().zip(run().await).enumerate() {
            assert!(first.1.fuel > 0, "{guest} took turn {turn} for nothing");
            assert!(
                first == again,
                "{guest} in turn {turn}: {first:?} and then {again:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_flood_of_log_lines_ends_nothing() {
    let plenty = InstanceSpec {
        turn: Budget {
            fuel: 1_000_000_000,
            ..BUDGET
        },
        ..spec()
    };
    let config = ten_tags(r#"{"what": "logs", "count": 20000}"#);
    let (_, turns) = polled(3, &driver("floods"), plenty, &config).await.unwrap();
    assert!(
        turns[1..].iter().all(|actions| actions.len() == 1),
        "{turns:?}"
    );
}

#[tokio::test]
async fn a_driver_says_what_it_is() {
    let file = driver_path("signal");
    let signal = Driver::load(engine(), &file, None).unwrap_or_else(|error| panic!("{error}"));
    let instance = Instance::start(&signal, spec(), moment(0)).await.unwrap();
    let (instance, first) = instance.describe().await.unwrap();
    assert_eq!((first.name.as_str(), first.links.len()), ("signal", 0));
    assert!(
        first
            .settings_schema
            .contains("json-schema.org/draft/2020-12"),
        "{}",
        first.settings_schema
    );
    let (_, again) = instance.describe().await.unwrap();
    assert_eq!(first, again);
}
