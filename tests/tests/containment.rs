//! A driver that traps, loops, hoards or floods takes down nothing but itself: the others miss no poll, memory stays
//! bounded, and the host says what happened and follows the restart policy.
//!
//! Polls are counted at the device, where nobody can embellish them (see `neighbour`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Bulkhead, Machine, Peer, Recorder, Recording, neighbour};
use serde_json::{Value, json};

/// One test at a time: each counts what reaches a device within a period, and would slow the others down.
static MACHINE: Mutex<()> = Mutex::new(());

/// The period of every group.
const PERIOD_MS: u64 = 100;
/// Channels that do nothing wrong.
const NEIGHBOURS: u8 = 16;
/// Restarts before a channel is broken; so one life more.
const ATTEMPTS: u64 = 3;
/// Before the second and each further restart.
const DELAY_MS: u64 = 200;
/// How long a turn of those may take that only the deadline ends.
const DEADLINE_MS: u64 = 400;
/// What the host may take for itself while it contains them: backtraces, queues, the log, warm slots of the pool.
const HOST_MIB: u64 = 48;

/// A channel that goes wrong, and how the host is to see it.
struct Culprit {
    id: &'static str,
    guest: &'static str,
    settings: &'static str,
    /// MiB.
    memory: u64,
    limits: String,
    /// The kind of each of its ends.
    exit: &'static str,
    /// What the host is to say of it.
    says: &'static str,
    /// The functions that must stand in its backtrace, the inner one first. None where its turn had returned.
    functions: &'static [&'static str],
}

fn culprits() -> Vec<Culprit> {
    let endless = |id| Culprit {
        id,
        guest: "spins",
        settings: r#"{ when = "poll", after = 2 }"#,
        memory: 8,
        // More fuel than the deadline leaves time for.
        limits: format!(r#"fuel_per_turn = 10_000_000_000, turn_deadline = "{DEADLINE_MS}ms""#),
        exit: "deadline-exceeded",
        says: "took longer than 400ms",
        functions: &["spin_for_ever"],
    };
    vec![
        Culprit {
            id: "trips",
            guest: "traps",
            settings: r#"{ when = "poll", after = 3 }"#,
            memory: 8,
            limits: String::new(),
            exit: "trapped",
            says: "unreachable",
            functions: &["read_register", "decode_reply"],
        },
        Culprit {
            id: "loops",
            guest: "spins",
            settings: r#"{ when = "poll", after = 2 }"#,
            memory: 8,
            limits: r#"fuel_per_turn = 20_000_000, turn_deadline = "10s""#.into(),
            exit: "out-of-fuel",
            says: "more than 20000000 units of fuel",
            functions: &["spin_for_ever"],
        },
        // Two, which is as many as the host has threads on a small machine.
        endless("lingers-1"),
        endless("lingers-2"),
        Culprit {
            id: "hoards",
            guest: "hoards",
            settings: "{ piece_mib = 8 }",
            memory: 64,
            limits: String::new(),
            exit: "out-of-memory",
            says: "its limit is 67108864",
            functions: &["hoard"],
        },
        Culprit {
            id: "floods",
            guest: "floods",
            settings: r#"{ what = "samples", count = 100 }"#,
            memory: 8,
            limits: "samples_per_second = 1_000".into(),
            exit: "refused",
            says: "samples",
            functions: &[],
        },
    ]
}

impl Culprit {
    fn channel(&self) -> String {
        let Self {
            id,
            guest,
            settings,
            memory,
            limits,
            ..
        } = self;
        format!(
            r#"
            [[channel]]
            id = "{id}"
            driver = "$GUESTS/{guest}.wasm"
            enabled = false
            settings = {settings}
            limits = {{ memory = "{memory}MiB", {limits} }}
            restart = {{ max_attempts = {ATTEMPTS}, delay = "{DELAY_MS}ms", max_delay = "{DELAY_MS}ms", jitter = 0 }}
            [[channel.group]]
            name = "all"
            period = "{PERIOD_MS}ms"
            tags = [{{ name = "number", address = "n", type = "float64" }}]
            "#
        )
    }
}

#[test]
fn neighbours_of_failing_drivers_miss_nothing() -> Result<()> {
    let _machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let culprits = culprits();
    let mut peer = Peer::simulated(&["--units", &format!("1-{NEIGHBOURS}")])?;
    let mut toml: String = (1..=NEIGHBOURS)
        .map(|unit| neighbour::channel(unit, &peer.address()))
        .collect();
    toml.extend(culprits.iter().map(Culprit::channel));
    let host = Bulkhead::start(&toml)?;
    let pid = host.process().id();
    let machine = Machine::watch(&[pid, peer.process().id()])?;
    let recorder = Recorder::start(host.stream("/api/v1/stream")?);
    recorder.wait("every neighbour is good", |seen| {
        (1..=NEIGHBOURS).all(|unit| neighbour::good_reads(seen, unit).count() >= 3)
    })?;

    // What compiling took is not what containing takes.
    let quiet_kib = memory_kib(pid, "VmRSS")?;
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the peak cannot be reset")?;
    for culprit in &culprits {
        let path = format!("/api/v1/channels/{}/start", culprit.id);
        let reply = host.post(&path, &json!({}))?;
        ensure!(reply.status == 200, "{path}: {reply:?}");
    }
    let broken = AtomicBool::new(false);
    let answers = thread::scope(|scope| {
        let asking = scope.spawn(|| status_answers(&host, &broken));
        let waited = recorder.wait("every culprit is broken", |seen| {
            culprits.iter().all(|culprit| {
                states(seen, culprit.id)
                    .last()
                    .is_some_and(|s| s.1 == "broken")
            })
        });
        broken.store(true, Ordering::Relaxed);
        let answers = asking.join().expect("asking does not panic")?;
        waited.map(|()| answers)
    })?;
    let so_far = recorder.so_far().len();
    recorder.wait("the neighbours go on", |seen| {
        (1..=NEIGHBOURS).all(|unit| neighbour::good_reads(&seen[so_far..], unit).count() >= 20)
    })?;
    let peak_kib = memory_kib(pid, "VmHWM")?;

    let seen = recorder.so_far();
    assert!(
        seen.iter().all(|(name, _)| name != "gap"),
        "the recording has gaps: the test was too slow to follow"
    );
    for culprit in &culprits {
        check_lives(&seen, culprit);
        check_report(&host, culprit)?;
        check_log(&host, culprit);
    }
    check_answers(&seen, &answers, pid);

    let quota_kib: u64 = 1024 * culprits.iter().map(|culprit| culprit.memory).sum::<u64>();
    let bound_kib = quiet_kib + quota_kib + 1024 * HOST_MIB;
    println!("resident: {quiet_kib} KiB quiet, {peak_kib} KiB at most, bound {bound_kib} KiB");
    assert!(
        peak_kib <= bound_kib,
        "{peak_kib} KiB were resident; {quiet_kib} KiB before, and quotas of {quota_kib} KiB"
    );

    for unit in 1..=NEIGHBOURS {
        let retired = neighbour::retire(&host, &mut peer, &machine, unit)?;
        recorder.wait("its end is recorded", |seen| {
            states(seen, &neighbour::id(unit))
                .last()
                .is_some_and(|state| state.1 == "stopped")
        })?;
        retired.check_published(&recorder.so_far());
    }
    let device = peer.stats()?;
    assert_eq!(
        device["connections"], NEIGHBOURS,
        "none dialled again: {device}"
    );
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}

/// The states of a channel: of which life, which, why, when.
fn states<'a>(seen: &'a Recording, channel: &str) -> Vec<(u64, &'a str, &'a str, u64)> {
    seen.iter()
        .filter(|(name, data)| name == "state" && data["channel"] == *channel)
        .map(|(_, data)| {
            (
                data["incarnation"].as_u64().expect("a number"),
                data["state"].as_str().expect("a state"),
                data["reason"].as_str().expect("a reason"),
                data["at_ns"].as_u64().expect("a time"),
            )
        })
        .collect()
}

/// Each life goes well, ends as it must, and leaves nothing good behind; the next follows as the policy says.
fn check_lives(seen: &Recording, culprit: &Culprit) {
    let Culprit { id, exit, .. } = culprit;
    // `good` and `bad-stale` stand for any number of samples of that quality.
    let mut story: Vec<String> = Vec::new();
    for (name, data) in seen.iter().filter(|(_, data)| data["channel"] == **id) {
        let word = match name.as_str() {
            "sample" => format!("{}#{}", text(&data["quality"]), data["incarnation"]),
            "exit" => {
                check_exit(data, culprit);
                format!("exit#{}", data["incarnation"])
            }
            "state" => format!("{}#{}", text(&data["state"]), data["incarnation"]),
            // Culprits have no claim to their rhythm.
            "dropped" => continue,
            other => format!("{other}?"),
        };
        if story.last() != Some(&word) {
            story.push(word);
        }
    }
    // A driver that publishes by itself does so in its first turn, before it counts as running.
    let subscribes = *id == "floods";
    let mut expected = vec!["starting#0".to_owned()];
    for life in 1..=ATTEMPTS + 1 {
        let (running, good) = (format!("running#{life}"), format!("good#{life}"));
        expected.extend(if subscribes {
            [good.clone(), running, good]
        } else {
            [running, good.clone(), String::new()]
        });
        expected.extend([format!("exit#{life}"), format!("bad-stale#{life}")]);
        if life <= ATTEMPTS {
            expected.extend([format!("backoff#{life}"), format!("starting#{life}")]);
        } else {
            expected.push(format!("broken#{life}"));
        }
    }
    expected.retain(|word| !word.is_empty());
    assert_eq!(story, expected, "{id}");

    let states = states(seen, id);
    let restarts: Vec<_> = states
        .windows(2)
        .filter(|pair| pair[0].1 == "backoff")
        .collect();
    for (attempt, pair) in (1..).zip(&restarts) {
        let ((_, _, why, left), (_, _, then, began)) = (pair[0], pair[1]);
        let numbered = format!("attempt {attempt} of {ATTEMPTS}");
        assert!(why.contains(exit) && why.contains(&numbered), "{id}: {why}");
        if attempt == 1 {
            assert!(
                !then.contains("delay"),
                "{id} waited at its first restart: {then}"
            );
        } else {
            let waited = began - left;
            assert!(
                waited >= DELAY_MS * 1_000_000,
                "{id} waited {waited} ns before attempt {attempt}"
            );
        }
    }
    let why = states.last().expect("it is broken").2;
    assert!(
        why.contains(exit) && why.contains(&format!("after {ATTEMPTS} attempts")),
        "{id}: {why}"
    );
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// The kind, what happened, a remedy, and the names of the functions.
fn check_exit(exit: &Value, culprit: &Culprit) {
    let Culprit {
        id,
        exit: kind,
        says,
        functions,
        ..
    } = culprit;
    assert_eq!(exit["exit"], *kind, "{id}: {exit}");
    assert_eq!(exit["during"], "turn", "{id}: {exit}");
    assert!(text(&exit["message"]).contains(says), "{id}: {exit}");
    assert!(text(&exit["remedy"]).len() > 10, "{id}: {exit}");
    let frames: Vec<&str> = exit["backtrace"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|frame| text(&frame["function"]))
        .collect();
    let places: Vec<Option<usize>> = functions
        .iter()
        .map(|name| frames.iter().position(|frame| frame.contains(name)))
        .collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{id}: {functions:?} are not in {frames:#?}"
    );
    assert_eq!(frames.is_empty(), functions.is_empty(), "{id}: {frames:?}");
}

/// What the API says of it once it is broken.
fn check_report(host: &Bulkhead, culprit: &Culprit) -> Result<()> {
    let Culprit { id, exit, .. } = culprit;
    let channel = host.get(&format!("/api/v1/channels/{id}"))?.body;
    assert_eq!(channel["state"], "broken", "{channel:#}");
    assert_eq!(channel["attempts"], ATTEMPTS, "{channel:#}");
    assert_eq!(channel["incarnation"], ATTEMPTS + 1, "{channel:#}");
    assert_eq!(channel["counters"]["faults"], ATTEMPTS + 1, "{channel:#}");
    assert_eq!(channel["last_exit"]["incarnation"], ATTEMPTS + 1);
    check_exit(&channel["last_exit"], culprit);
    let peak = channel["counters"]["peak_memory_bytes"]
        .as_u64()
        .expect("a number");
    assert!(peak <= culprit.memory << 20, "{id} held {peak} bytes");

    let tag = host.get(&format!("/api/v1/tags/{id}/number"))?.body;
    assert_eq!(tag["quality"], "bad-stale", "{tag:#}");
    assert!(text(&tag["reason"]).contains(exit), "{tag:#}");
    Ok(())
}

/// One line in the log for each end, with the instance, the kind and the functions.
fn check_log(host: &Bulkhead, culprit: &Culprit) {
    let Culprit {
        id,
        exit,
        functions,
        ..
    } = culprit;
    let err = host.process().err();
    let last = format!("instance=wasm/{id}#{} ", ATTEMPTS + 1);
    err.wait_for(0, |line| {
        (line.contains("ERROR") && line.contains(&last)).then_some(())
    })
    .expect("the last end is in the log");
    let log = err.so_far();
    for life in 1..=ATTEMPTS + 1 {
        let told = log.iter().filter(|line| {
            line.contains("ERROR")
                && line.contains(&format!("instance=wasm/{id}#{life} "))
                && line.contains(&format!("kind={exit}"))
                && functions.iter().all(|name| line.contains(name))
        });
        assert_eq!(told.count(), 1, "life {life} of {id}:\n{}", log.join("\n"));
    }
}

/// Asks for the host's status until `enough`; when each answer came, and which process gave it.
fn status_answers(host: &Bulkhead, enough: &AtomicBool) -> Result<Vec<(u64, Value)>> {
    let mut answers = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        let reply = host.get("/api/v1/status")?;
        ensure!(reply.status == 200, "{reply:?}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        answers.push((now.as_nanos() as u64, reply.body["pid"].clone()));
        thread::sleep(Duration::from_millis(20));
    }
    Ok(answers)
}

/// The same process answered all the time, also while guests span.
fn check_answers(seen: &Recording, answers: &[(u64, Value)], pid: u32) {
    assert!(answers.iter().all(|(_, from)| *from == pid), "{answers:?}");
    let ends = seen
        .iter()
        .filter(|(name, data)| name == "exit" && data["exit"] == "deadline-exceeded");
    for (_, end) in ends {
        let end_ns = end["at_ns"].as_u64().expect("a time");
        let spinning = end_ns - DEADLINE_MS * 1_000_000..end_ns;
        assert!(
            answers.iter().any(|(at, _)| spinning.contains(at)),
            "nobody answered while {} span",
            end["channel"]
        );
    }
}

#[test]
fn a_trap_drops_no_connection_of_others() -> Result<()> {
    let _machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut peer = Peer::simulated(&["--units", "1-3"])?;
    let mut toml: String = (1..=3)
        .map(|unit| neighbour::channel(unit, &peer.address()))
        .collect();
    toml.push_str(
        r#"
        [[channel]]
        id = "trips"
        driver = "$GUESTS/traps.wasm"
        settings = { when = "write" }
        restart = { max_attempts = 3, delay = "1h", max_delay = "1h" }
        [[channel.group]]
        name = "all"
        period = "100ms"
        tags = [{ name = "number", address = "n", type = "float64", access = "rw" }]
        "#,
    );
    let host = Bulkhead::start(&toml)?;
    let recorder = Recorder::start(host.stream("/api/v1/stream")?);
    let all_good = |seen: &Recording| {
        (1..=3).all(|unit| neighbour::good_reads(seen, unit).count() >= 3)
            && seen.iter().any(|(_, data)| data["channel"] == "trips")
    };
    recorder.wait("all are good", all_good)?;
    let before = peer.stats()?;
    assert_eq!(
        (&before["connections"], &before["connections_open"]),
        (&json!(3), &json!(3)),
        "{before}"
    );

    let from = recorder.so_far().len();
    let reply = host.post("/api/v1/tags/trips/number/write", &json!({ "value": 1.5 }))?;
    assert_ne!(reply.status, 200, "the driver trapped over it: {reply:?}");
    assert_eq!(reply.body["error"]["code"], "restarted", "{reply:?}");
    recorder.wait("the driver is back, and the others go on", |seen| {
        let seen = &seen[from..];
        let back = seen.iter().any(|(name, data)| {
            name == "sample"
                && data["channel"] == "trips"
                && data["incarnation"] == 2
                && data["quality"] == "good"
        });
        back && all_good(seen)
    })?;

    let after = peer.stats()?;
    assert_eq!(
        (&after["connections"], &after["connections_open"]),
        (&json!(3), &json!(3)),
        "{after}"
    );
    let seen = recorder.so_far();
    let touched = seen[from..].iter().find(|(name, data)| {
        data["channel"] != "trips" && (name != "sample" || data["quality"] != "good")
    });
    assert_eq!(touched, None);
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}

/// A line of `/proc/PID/status`, in KiB.
fn memory_kib(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number
        .with_context(|| format!("no {name} in:\n{status}"))?
        .parse()?)
}
