//! A crash is carried to a desk and repeated there: recorded by a real host, replayed by `bulkhead replay`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Bulkhead, Ended, Folder, paths, run};
use serde_json::Value;

/// A channel that is not started again after its crash.
fn channel(id: &str, driver: &str, settings: &str, more: &str) -> String {
    format!(
        r#"
        [[channel]]
        id = "{id}"
        driver = "{driver}"
        settings = {settings}
        restart = {{ mode = "never" }}
        {more}
        [[channel.group]]
        name = "all"
        period = "20ms"
        tags = [{{ name = "number", address = "hold(0)", type = "float64" }}]
        "#
    )
}

/// Waits for the crash of a channel, and for its bundle to be there.
fn crashed(host: &Bulkhead, id: &str) -> Result<(Value, PathBuf)> {
    let exit = host.get_until(&format!("/api/v1/channels/{id}"), |channel| {
        let exit = &channel["last_exit"];
        exit.is_object().then(|| exit.clone())
    })?;
    let bundle = PathBuf::from(
        exit["bundle"]
            .as_str()
            .with_context(|| format!("{exit:#}"))?,
    );
    let is_there = || bundle.is_file().then_some(());
    host.get_until("/api/v1/channels", |_| is_there())?;
    Ok((exit, bundle))
}

/// Runs `bulkhead replay`, away from the host.
fn replay(bundle: &Path, arguments: &[&str]) -> Result<Ended> {
    let bundle = bundle.display().to_string();
    run(&[&["replay", &bundle][..], arguments].concat())
}

/// The one JSON object that it printed.
fn report(ended: &Ended) -> Result<Value> {
    ensure!(ended.out.len() == 1, "{ended:?}");
    Ok(serde_json::from_str(&ended.out[0])?)
}

/// What is expected of one crash.
struct Case {
    id: &'static str,
    guest: &'static str,
    settings: &'static str,
    limits: &'static str,
    /// As recorded, and as replayed.
    exit: [&'static str; 2],
    /// A function of the backtrace.
    function: Option<&'static str>,
}

const CASES: [Case; 6] = [
    Case {
        id: "trips",
        guest: "traps",
        settings: r#"{ when = "poll", after = 3 }"#,
        limits: "",
        exit: ["trapped", "trapped"],
        function: Some("read_register"),
    },
    Case {
        id: "loops",
        guest: "spins",
        settings: r#"{ when = "poll", after = 2 }"#,
        limits: r#"fuel_per_turn = 20_000_000, turn_deadline = "20s""#,
        exit: ["out-of-fuel", "out-of-fuel"],
        function: Some("spin_for_ever"),
    },
    Case {
        id: "lingers",
        guest: "spins",
        settings: r#"{ when = "poll", after = 2 }"#,
        limits: r#"fuel_per_turn = 10_000_000_000, turn_deadline = "200ms""#,
        exit: ["deadline-exceeded", "out-of-fuel"],
        function: Some("spin_for_ever"),
    },
    Case {
        id: "hoards",
        guest: "hoards",
        settings: "{ piece_mib = 4 }",
        limits: r#"memory = "24MiB""#,
        exit: ["out-of-memory", "out-of-memory"],
        function: Some("hoard"),
    },
    Case {
        id: "errs",
        guest: "errs",
        settings: "{ after = 3 }",
        limits: "",
        exit: ["driver-error", "driver-error"],
        function: None,
    },
    Case {
        id: "lies",
        guest: "lies",
        settings: r#"{ lie = "wrong_cycle", after = 3 }"#,
        limits: "",
        exit: ["refused", "refused"],
        function: None,
    },
];

#[test]
fn a_crash_repeats_itself_three_times_out_of_three() -> Result<()> {
    let toml: String = CASES
        .iter()
        .map(|case| {
            let driver = format!("$GUESTS/{}.wasm", case.guest);
            let limits = format!("limits = {{ {} }}", case.limits);
            channel(case.id, &driver, case.settings, &limits)
        })
        .collect();
    let host = Bulkhead::start(&toml)?;
    for case in &CASES {
        let Case { id, exit, .. } = case;
        let (recorded, bundle) = crashed(&host, id)?;
        assert_eq!(recorded["exit"], exit[0], "{id}: {recorded:#}");
        let shown = host.client(&["channel", "show", id])?;
        let command = format!("bulkhead replay {}", bundle.display());
        assert!(
            shown.out.iter().any(|line| line.contains(&command)),
            "{shown:?}"
        );
        let named = bundle.display().to_string();
        host.process().err().wait_for(0, |line| {
            (line.contains("bundle=") && line.contains(&named)).then_some(())
        })?;

        let mut reports = Vec::new();
        for _ in 0..3 {
            let ended = replay(&bundle, &["--json"])?;
            assert_eq!(ended.code(), Some(0), "{id}: {ended:?}");
            reports.push(report(&ended)?);
        }
        assert!(
            reports.windows(2).all(|pair| pair[0] == pair[1]),
            "{id}: {reports:#?}"
        );
        let report = &reports[0];
        assert_eq!(report["verdict"], "reproduced", "{id}: {report:#}");
        assert_eq!(report["best_effort"], false, "{id}: {report:#}");
        assert_eq!(report["divergence"], Value::Null, "{id}: {report:#}");
        assert_eq!(report["recorded"]["exit"], exit[0], "{id}: {report:#}");
        let replayed = &report["replayed"];
        assert_eq!(replayed["exit"], exit[1], "{id}: {report:#}");
        assert_eq!(
            replayed["turn"], report["turns_recorded"],
            "{id}: {report:#}"
        );
        assert_eq!(
            replayed["turn"], report["recorded"]["turn"],
            "{id}: {report:#}"
        );
        assert!(
            replayed["fuel"].as_u64().is_some_and(|fuel| fuel > 0),
            "{id}: {report:#}"
        );
        assert_eq!(replayed["fuel"], recorded["fuel"], "{id}: {report:#}");
        let events = replayed["events"].as_array().context("events")?;
        assert!(
            events.iter().any(|event| event
                .as_str()
                .is_some_and(|event| event.starts_with("poll of group 0"))),
            "{id}: {report:#}"
        );
        if let Some(function) = case.function {
            let frames = replayed["backtrace"].as_array().context("frames")?;
            let found = frames.iter().any(|frame| {
                frame["function"]
                    .as_str()
                    .is_some_and(|name| name.contains(function))
            });
            assert!(found, "{id}: no {function} in {frames:#?}");
        }
        if exit[0] != "deadline-exceeded" {
            assert_eq!(replayed["message"], recorded["message"], "{id}");
            assert_eq!(replayed["backtrace"], recorded["backtrace"], "{id}");
        }
    }
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}

/// Runs a host until `errs` has crashed at its first poll; what is asked for about its bundle is done in a folder of its own.
fn errs(folder: &Folder) -> Result<PathBuf> {
    let driver = folder.write("driver.wasm", fs::read(paths::guest("errs")?)?)?;
    let host = Bulkhead::start(&channel("errs", &driver.display().to_string(), "{}", ""))?;
    let (_, bundle) = crashed(&host, "errs")?;
    folder.write("copied.crash", fs::read(bundle)?)
}

#[test]
fn a_fixed_driver_is_seen_to_hold_and_a_broken_one_to_fault() -> Result<()> {
    let folder = Folder::new()?;
    let bundle = errs(&folder)?;
    let named = |driver: &Path| {
        replay(
            &bundle,
            &["--json", "--driver", &driver.display().to_string()],
        )
    };

    let ended = named(&paths::driver("signal")?)?;
    let fixed = report(&ended)?;
    assert_eq!(
        (ended.code(), &fixed["verdict"]),
        (Some(0), &"holds".into()),
        "{fixed:#}"
    );
    assert_eq!(fixed["replayed"], Value::Null);
    assert_eq!(fixed["turns"], fixed["turns_recorded"]);
    assert_eq!(fixed["same_driver"], false);

    // The same code in another file: a custom section more.
    let mut bytes = fs::read(paths::guest("errs")?)?;
    bytes.extend_from_slice(&[0, 5, 1, b'x', 1, 2, 3]);
    let ended = named(&folder.write("not-fixed.wasm", bytes)?)?;
    let broken = report(&ended)?;
    assert_eq!(
        (ended.code(), &broken["verdict"]),
        (Some(1), &"faults".into()),
        "{broken:#}"
    );
    assert_eq!(broken["replayed"]["exit"], "driver-error");
    Ok(())
}

#[test]
fn a_copied_bundle_wants_the_driver_that_crashed() -> Result<()> {
    let folder = Folder::new()?;
    let bundle = errs(&folder)?;
    assert_eq!(
        report(&replay(&bundle, &["--json"])?)?["verdict"],
        "reproduced"
    );

    let driver = folder.path().join("driver.wasm");
    let elsewhere = folder.path().join("elsewhere.wasm");
    fs::rename(&driver, &elsewhere)?;
    let refusal = |said: &str| -> Result<()> {
        let ended = replay(&bundle, &[])?;
        let text = ended.err.join("\n");
        assert_eq!(ended.code(), Some(2), "{ended:?}");
        assert!(text.contains(said) && text.contains("--driver"), "{text}");
        Ok(())
    };
    refusal("not at")?;
    fs::copy(paths::guest("silent")?, &driver)?;
    refusal("has changed")?;

    // At another desk: the driver beside the bundle.
    let desk = Folder::new()?;
    let carried = desk.write("carried.crash", fs::read(&bundle)?)?;
    desk.write("driver.wasm", fs::read(&elsewhere)?)?;
    let ended = replay(&carried, &["--json"])?;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert_eq!(report(&ended)?["verdict"], "reproduced");

    // A driver that is named must hold; that it is the one that crashed is said all the same.
    let ended = replay(
        &bundle,
        &["--json", "--driver", &elsewhere.display().to_string()],
    )?;
    let report = report(&ended)?;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    assert_eq!(
        (&report["verdict"], &report["same_driver"]),
        (&"reproduced".into(), &true.into())
    );
    Ok(())
}

#[test]
fn a_recording_without_its_middle_is_best_effort() -> Result<()> {
    let groups: String = (0..100)
        .map(|number| {
            format!(
                r#"
                [[channel.group]]
                name = "g{number}"
                period = "10ms"
                tags = [{{ name = "t{number}", address = "n", type = "float64" }}]
                "#
            )
        })
        .collect();
    let settings = r#"{ when = "poll", after = 10000 }"#;
    let more = r#"recorder = { size = "16KiB" }"#;
    let toml = channel("trips", "$GUESTS/traps.wasm", settings, more) + &groups;
    let host = Bulkhead::start(&toml)?;
    let (exit, bundle) = crashed(&host, "trips")?;
    assert_eq!(exit["exit"], "trapped");
    assert!(fs::metadata(&bundle)?.len() < 64 * 1024);
    let ended = replay(&bundle, &["--json"])?;
    let report = report(&ended)?;
    assert_eq!(report["best_effort"], true, "{report:#}");
    let (turns, recorded) = (report["turns"].as_u64(), report["turns_recorded"].as_u64());
    assert!(turns < recorded, "{report:#}");
    assert!(
        report["notes"].to_string().contains("recycle"),
        "{report:#}"
    );
    // It counts polls, and did not see all of them: it does not get as far as the crash.
    assert_eq!(
        (ended.code(), &report["verdict"]),
        (Some(1), &"not-reproduced".into())
    );
    let printed = replay(&bundle, &[])?.out.join("\n");
    assert!(printed.contains("best effort"), "{printed}");
    Ok(())
}

#[test]
fn nothing_is_written_where_nothing_is_recorded() -> Result<()> {
    let quiet = channel(
        "quiet",
        "$GUESTS/errs.wasm",
        "{}",
        "recorder = { enabled = false }",
    );
    let loud = channel("loud", "$GUESTS/errs.wasm", "{}", "");
    let host = Bulkhead::start(&(quiet + &loud))?;
    crashed(&host, "loud")?;
    let exit = host.get_until("/api/v1/channels/quiet", |channel| {
        let exit = &channel["last_exit"];
        exit.is_object().then(|| exit.clone())
    })?;
    assert_eq!(
        (&exit["exit"], &exit["bundle"]),
        (&"driver-error".into(), &Value::Null)
    );
    let names: Vec<_> = fs::read_dir(host.folder().join("data/crashes"))?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    assert_eq!(names, ["loud-1.crash"]);
    Ok(())
}

#[test]
fn a_hostile_bundle_is_refused_in_one_sentence() -> Result<()> {
    let folder = Folder::new()?;
    let whole = fs::read(errs(&folder)?)?;
    let check = |bytes: &[u8], said: &str| -> Result<()> {
        let path = folder.write("hostile.crash", bytes)?;
        let ended = replay(&path, &["--json"])?;
        assert_eq!(
            (ended.code(), ended.out.len(), ended.err.len()),
            (Some(1), 0, 1),
            "{ended:?}"
        );
        let error: Value = serde_json::from_str(&ended.err[0])?;
        let message = error["error"].to_string();
        assert!(
            message.contains(said) && !message.contains("panicked"),
            "{message}"
        );
        Ok(())
    };
    check(b"", "no crash bundle")?;
    check(&[7; 5000], "no crash bundle")?;
    check(&whole[..16], "damaged")?;
    check(&whole[..whole.len() / 2], "checksum")?;
    check(&whole[..whole.len() - 1], "checksum")?;
    let mut later = whole.clone();
    later[15] = 200;
    check(&later, "version 200")?;
    let ended = run(&["replay", "/nowhere/at.crash"])?;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    Ok(())
}

#[test]
fn a_driver_is_recycled_before_its_recording_is_full_and_keeps_its_connection() -> Result<()> {
    let peer = TcpListener::bind("127.0.0.1:0")?;
    let group = |name: &str, address: &str| {
        format!(
            r#"
            [[channel.group]]
            name = "{name}"
            period = "10ms"
            tags = [{{ name = "{name}", address = "{address}", type = "string" }}]
            "#
        )
    };
    let groups: String = (0..20)
        .map(|number| group(&format!("g{number}"), "peer"))
        .collect();
    let host = Bulkhead::start(&format!(
        r#"
        [[channel]]
        id = "echo"
        driver = "$GUESTS/echo.wasm"
        links.peer = {{ connect = "tcp://{}" }}
        recorder = {{ size = "16KiB", recycle = true }}
        {groups}{}{}
        "#,
        peer.local_addr()?,
        group("started", "started"),
        group("echoed", "echoed")
    ))?;
    let (mut stream, _) = peer.accept()?;
    stream.set_read_timeout(Some(bulkhead_tests::PATIENCE))?;
    let mut echo = |text: &[u8]| -> Result<()> {
        stream.write_all(text)?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back)?;
        ensure!(back == text, "{back:?}");
        Ok(())
    };
    echo(b"before")?;
    let tag = |name: &str, wanted: &str| {
        host.get_until(&format!("/api/v1/tags/echo/{name}"), |tag| {
            let is_it = tag["quality"] == "good" && tag["value"].as_str()?.contains(wanted);
            is_it.then_some(())
        })
    };
    tag("started", "incarnation 2 with the state 6")?;
    echo(b"after it")?;
    tag("echoed", "14")?;
    let channel = host.get("/api/v1/channels/echo")?.body;
    assert_eq!(channel["attempts"], 0, "{channel:#}");
    assert_eq!(channel["last_exit"], Value::Null, "{channel:#}");
    assert_eq!(channel["counters"]["faults"], 0, "{channel:#}");
    assert!(!host.folder().join("data/crashes").exists());
    peer.set_nonblocking(true)?;
    assert!(peer.accept().is_err(), "it dialled again");
    Ok(())
}

/// The bundle in `tests/fixtures/bundles` was written by a host on another processor of this architecture: a Nehalem of 2008, which has no
/// AVX, as `qemu-x86_64 -cpu Nehalem` emulates it, compiling included. Its driver is the one of the frozen ABI. Where a later wasmtime counts
/// fuel in another way, record it anew so (`fuel_per_turn = 10000`, a group of two tags).
#[cfg(target_arch = "x86_64")]
#[test]
fn a_bundle_from_another_machine_repeats_itself() -> Result<()> {
    let fixtures = paths::root().join("tests/fixtures");
    // With nothing but the file and the driver.
    let desk = Folder::new()?;
    let bundle = desk.write(
        "line.crash",
        fs::read(fixtures.join("bundles/nehalem.crash"))?,
    )?;
    desk.write("line.wasm", fs::read(fixtures.join("abi-0.1.0/line.wasm"))?)?;
    for _ in 0..3 {
        let ended = replay(&bundle, &["--json"])?;
        let report = report(&ended)?;
        assert_eq!(ended.code(), Some(0), "{report:#}");
        assert_eq!(
            (&report["verdict"], &report["same_driver"]),
            (&"reproduced".into(), &true.into()),
            "{report:#}"
        );
        for side in ["recorded", "replayed"] {
            let side = &report[side];
            assert_eq!(side["exit"], "out-of-fuel", "{report:#}");
            assert_eq!(side["turn"], 5, "{report:#}");
            assert_eq!(side["fuel"], 10_000, "{report:#}");
        }
    }
    Ok(())
}
