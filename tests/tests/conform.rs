//! `bulkhead conform` finds what is wrong with drivers, and nothing that is not.
#![expect(
    clippy::unwrap_used,
    reason = "in what only tests call, a panic is the failure of the test"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use bulkhead::conform::{Baseline, CASES, Fuzzer, Report, Script, Suite, Verdict, parse};
use bulkhead_tests::{Bulkhead, Folder, LineDevice, Running, guests, netns, paths, run};
use serde_json::Value;

/// The script of the guest `mutant`, with this before it.
fn script(head: &str) -> Script {
    let path = paths::root().join("tests/guests/mutant/conformance/lines.script");
    let text = std::fs::read_to_string(&path).unwrap();
    parse(&path, &format!("{head}\n{text}")).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The mutant, with this mutation and nothing but the universal cases whose ids contain `filter`.
async fn mutated(mutation: &str, filter: &str) -> Suite {
    let script = script(&format!("settings {{ mutation = \"{mutation}\" }}"));
    let suite = Suite::new(&guests::driver("mutant"), vec![script]).await;
    suite.unwrap().with_filter(Some(filter.to_owned()))
}

async fn good() -> Suite {
    let suite = Suite::new(&guests::driver("mutant"), vec![script("")]).await;
    suite.unwrap()
}

async fn report(suite: &Suite) -> Report {
    suite.run(|_| (), |_| ()).await
}

/// The table of docs/CONFORMANCE.md: mutation, case, what the case says.
fn table() -> Vec<[String; 3]> {
    let text = std::fs::read_to_string(paths::root().join("docs/CONFORMANCE.md")).unwrap();
    let (_, table) = text
        .split_once("| mutation | found by | which says |")
        .unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<String> = row
            .trim_matches(['|', ' '])
            .split(" | ")
            .map(|cell| cell.trim_matches('`').to_owned())
            .collect();
        cells
            .try_into()
            .unwrap_or_else(|_| panic!("{row} has no three cells"))
    })
    .collect()
}

#[test]
fn the_reference_lists_every_case() {
    let text = std::fs::read_to_string(paths::root().join("docs/CONFORMANCE.md")).unwrap();
    for case in CASES {
        let row = format!("| `{}` | {} |", case.id, case.what);
        assert!(
            text.contains(&row),
            "docs/CONFORMANCE.md lacks the line\n{row}"
        );
    }
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| `universal/"));
    assert_eq!(rows.count(), CASES.len());
}

#[tokio::test]
async fn the_table_of_mutants_is_complete() {
    let suite = good().await;
    let schema: Value = serde_json::from_str(&suite.info().settings_schema).unwrap();
    let names = schema["properties"]["mutation"]["enum"].as_array().unwrap();
    let known: BTreeSet<&str> = names.iter().map(|name| name.as_str().unwrap()).collect();
    let table = table();
    let listed: BTreeSet<&str> = table
        .iter()
        .map(|[mutation, ..]| mutation.as_str())
        .collect();
    assert_eq!(
        known, listed,
        "docs/CONFORMANCE.md lists other mutations than the guest has"
    );
    assert!(listed.len() >= 25 && listed.len() == table.len());
}

#[tokio::test]
async fn every_mutant_is_found_by_its_case() {
    let fuel = good().await.measure().await.unwrap();
    let baseline = Baseline {
        tolerance_percent: 0,
        fuel,
    };
    let mut wrong = Vec::new();
    for [mutation, id, says] in table() {
        let suite = mutated(&mutation, &id)
            .await
            .with_baseline(Some(baseline.clone()));
        let report = report(&suite).await;
        let case = report.cases.iter().find(|case| case.id == id);
        match case {
            None => wrong.push(format!("{mutation}: there is no case {id}")),
            Some(case) if case.verdict == Verdict::Failed && case.text.contains(&says) => {}
            Some(case) => wrong.push(format!(
                "{mutation}: {id} is {} and does not say {says:?}: {}",
                case.verdict.as_str(),
                case.text
            )),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test]
async fn a_good_driver_passes_every_case() {
    let suite = good().await;
    let fuel = suite.measure().await.unwrap();
    let suite = suite.with_baseline(Some(Baseline {
        tolerance_percent: 0,
        fuel,
    }));
    let report = report(&suite).await;
    let not_passed: Vec<_> = report
        .cases
        .iter()
        .filter(|case| case.verdict != Verdict::Passed)
        .collect();
    assert!(not_passed.is_empty(), "{not_passed:#?}");
    assert_eq!(report.cases.len(), suite.ids().len());
    assert!(report.is_in_order());
}

/// A driver without any script: the plant is made up, and what cannot be tried says so.
#[tokio::test]
async fn a_driver_without_a_script_is_tried_all_the_same() {
    let suite = Suite::new(&guests::driver("mutant"), Vec::new())
        .await
        .unwrap();
    let report = report(&suite).await;
    let failed: Vec<_> = report
        .cases
        .iter()
        .filter(|case| case.verdict == Verdict::Failed)
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(report.count(Verdict::Passed) >= 20, "{}", report.summary());
    assert!(
        report.count(Verdict::Skipped) > 0,
        "nobody knows what its peer answers"
    );
}

#[tokio::test]
async fn fuzzing_finds_a_trap_and_makes_it_short() {
    let suite = mutated("traps-on-noise", "").await;
    let mut fuzzer = Fuzzer::new(suite.bench(), 1);
    let mut rounds = 0;
    let finding = loop {
        rounds += 1;
        assert!(rounds < 100, "nothing found");
        if let Some(finding) = fuzzer.run(|| false, || true).await.unwrap() {
            break finding;
        }
    };
    assert!(
        finding.why.contains("trapped") && finding.why.contains("State"),
        "{}",
        finding.why
    );
    // The bytes that are no text are all that it takes.
    assert_eq!(finding.steps.len(), 1, "{finding:?}");
    assert!(finding.steps[0].starts_with("send "), "{finding:?}");

    // The same seed finds the same again.
    let mut again = Fuzzer::new(suite.bench(), finding.seed);
    let second = again.run(|| false, || true).await.unwrap().unwrap();
    assert_eq!(second.steps, finding.steps);
    // Where there is no time to make it short, it is told as it was found.
    let mut hasty = Fuzzer::new(suite.bench(), finding.seed);
    let whole = hasty.run(|| false, || false).await.unwrap().unwrap();
    assert_eq!(whole.steps.len(), whole.from);
    assert!(whole.from > 1, "{whole:?}");

    let suite = good().await;
    let mut fuzzer = Fuzzer::new(suite.bench(), 1);
    let rounds = std::cell::Cell::new(0);
    let goes_on = || {
        rounds.set(rounds.get() + 1);
        rounds.get() < 50
    };
    assert!(fuzzer.run(goes_on, || true).await.unwrap().is_none());
    assert_eq!(fuzzer.sessions(), 50);
}

/// The drivers of `channels/`, as their folders are called.
fn channels() -> Vec<String> {
    let folder = paths::root().join("channels");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 3, "{names:?}");
    names
}

/// As a user does it: `bulkhead conform target/drivers/NAME.wasm` finds the scripts by itself. There is no network meanwhile, not even
/// the machine's own.
#[test]
fn every_driver_of_the_repository_conforms() -> Result<()> {
    for name in channels() {
        let path = paths::driver(&name)?.display().to_string();
        let mut unplugged = netns::unplugged()?;
        unplugged.arg(paths::bulkhead()?).args(["conform", &path]);
        let ended = Running::start(&mut unplugged)?.wait()?;
        ensure!(
            ended.code() == Some(0),
            "{name}:\n{}\n{}",
            ended.out.join("\n"),
            ended.err.join("\n")
        );
        let scripted = ended
            .out
            .iter()
            .filter(|line| line.contains("script/"))
            .count();
        ensure!(
            scripted >= 5,
            "{name} has scripts for {scripted} cases only"
        );
        let last = ended.out.last().map(String::as_str).unwrap_or_default();
        ensure!(
            last.starts_with("conformance ") && last.contains(" 0 failed"),
            "{last}"
        );
    }
    Ok(())
}

/// The driver in Python is held to the script of the one in Rust, with the memory that its channels are given.
#[test]
fn two_languages_pass_the_same_scripts() -> Result<()> {
    let scripts = paths::root().join("channels/line/conformance");
    let scripts = scripts.display().to_string();
    let path = paths::driver("line-python")?.display().to_string();
    let given = ["conform", &path, "--scripts", &scripts, "--case", "script/"];
    let ended = run(&[&given[..], &["--memory", "64MiB"]].concat())?;
    let last = ended.out.last().map(String::as_str).unwrap_or_default();
    ensure!(
        ended.code() == Some(0) && last.contains(" 0 failed, 0 skipped"),
        "{}\n{}",
        ended.out.join("\n"),
        ended.err.join("\n")
    );
    let too_little = run(&[&given[..], &["--memory", "4MiB"]].concat())?;
    ensure!(too_little.code() == Some(1), "{too_little:?}");
    let no_size = run(&[&given[..], &["--memory", "64"]].concat())?;
    ensure!(
        no_size.code() == Some(2) && no_size.err.join("\n").contains("such as 64MiB"),
        "{no_size:?}"
    );
    Ok(())
}

/// A folder with one script for the driver `signal`.
fn folder_with(text: &str) -> Result<(Folder, PathBuf)> {
    let folder = Folder::new()?;
    let scripts = folder.path().join("scripts");
    std::fs::create_dir(&scripts)?;
    std::fs::write(scripts.join("own.script"), text)?;
    Ok((folder, scripts))
}

fn conform(scripts: &Path, more: &[&str]) -> Result<bulkhead_tests::Ended> {
    let driver = paths::driver("signal")?.display().to_string();
    let scripts = scripts.display().to_string();
    run(&[&["conform", &driver, "--scripts", &scripts][..], more].concat())
}

#[test]
fn the_exit_code_says_who_is_at_fault() -> Result<()> {
    let (_folder, scripts) = folder_with(
        "tag x \"hold(1)\" uint8\ncase right\npoll all\nsample x 1\ndone all\ncase wrong\npoll all\nsample x 2\ndone all\n",
    )?;
    let right = conform(&scripts, &["--case", "script/own/right"])?;
    ensure!(right.code() == Some(0), "{right:?}");
    let wrong = conform(&scripts, &["--case", "script/own/"])?;
    ensure!(wrong.code() == Some(1), "{wrong:?}");
    let text = wrong.out.join("\n");
    for part in [
        "FAILED   script/own/wrong",
        "own.script:8: x: expected 2 good",
        "found 1 good",
        "1 passed, 1 failed, 0 skipped",
    ] {
        ensure!(text.contains(part), "{part:?} is not in\n{text}");
    }
    // What is left over fails too, and so does what is wrong with the script itself.
    std::fs::write(
        scripts.join("own.script"),
        "tag x counter uint8\ncase left-over\npoll all\ndone all\n",
    )?;
    let left_over = conform(&scripts, &["--case", "script/"])?;
    ensure!(
        left_over.code() == Some(1) && left_over.out.join("\n").contains("published x = 1 good"),
        "{left_over:?}"
    );
    std::fs::write(
        scripts.join("own.script"),
        "tag x counter uint8\ncase a\npole all\n",
    )?;
    let misspelt = conform(&scripts, &[])?;
    ensure!(
        misspelt.code() == Some(2)
            && misspelt
                .err
                .join("\n")
                .contains("own.script:3: pole is no step"),
        "{misspelt:?}"
    );
    let nowhere = conform(Path::new("/nowhere"), &[])?;
    ensure!(nowhere.code() == Some(2), "{nowhere:?}");
    let no_driver = run(&["conform", "Cargo.toml"])?;
    ensure!(no_driver.code() == Some(1), "{no_driver:?}");
    Ok(())
}

#[test]
fn known_failures_are_expected_and_do_not_go_stale() -> Result<()> {
    let (_folder, scripts) = folder_with(
        "tag x \"hold(1)\" uint8\ncase wrong\npoll all\nsample x 2\ndone all\ncase right\npoll all\nsample x 1\ndone all\n",
    )?;
    let known = scripts.join("expectations.txt");
    std::fs::write(&known, "script/own/wrong  it holds 1\n")?;
    let ended = conform(&scripts, &["--case", "script/"])?;
    ensure!(
        ended.code() == Some(0) && ended.out.join("\n").contains("1 failed as expected"),
        "{ended:?}"
    );
    // Also where nothing else was tried.
    let alone = conform(&scripts, &["--case", "script/own/wrong"])?;
    ensure!(alone.code() == Some(0), "{alone:?}");
    // A name that no case has would expect nothing, for ever.
    std::fs::write(&known, "script/own/worng  it holds 1\n")?;
    let misspelt = conform(&scripts, &["--case", "script/"])?;
    ensure!(
        misspelt.code() == Some(2) && misspelt.err.join("\n").contains("script/own/worng"),
        "{misspelt:?}"
    );
    std::fs::write(&known, "script/own/*  it holds 1\n")?;
    let stale = conform(&scripts, &["--case", "script/"])?;
    ensure!(
        stale.code() == Some(1) && stale.out.join("\n").contains("take it off the list"),
        "{stale:?}"
    );
    std::fs::write(&known, "script/own/wrong\n")?;
    let no_reason = conform(&scripts, &[])?;
    ensure!(no_reason.code() == Some(2), "{no_reason:?}");
    Ok(())
}

#[test]
fn programs_read_json_and_junit() -> Result<()> {
    let (_folder, scripts) =
        folder_with("tag x \"hold(1)\" uint8\ncase wrong\npoll all\nsample x 2\ndone all\n")?;
    let json = conform(&scripts, &["--format", "json", "--case", "o"])?;
    ensure!(json.code() == Some(1) && json.out.len() == 1, "{json:?}");
    let report: Value = serde_json::from_str(&json.out[0])?;
    ensure!(
        report["conformance"] == "0.2"
            && report["driver"]
                .as_str()
                .is_some_and(|driver| driver.starts_with("signal ")),
        "{report:#}"
    );
    let cases = report["cases"].as_array().cloned().unwrap_or_default();
    let wrong = cases
        .iter()
        .find(|case| case["id"] == "script/own/wrong")
        .cloned()
        .unwrap_or_default();
    ensure!(
        wrong["verdict"] == "failed"
            && wrong["place"]
                .as_str()
                .is_some_and(|place| place.ends_with("own.script:2")),
        "{report:#}"
    );
    let junit = conform(&scripts, &["--format", "junit", "--case", "script/"])?;
    let xml = junit.out.join("\n");
    for part in [
        "<testsuite name=\"signal ",
        "tests=\"1\" failures=\"1\"",
        "<testcase classname=\"script/own\" name=\"wrong\"",
        "<failure message=\"",
    ] {
        ensure!(xml.contains(part), "{part:?} is not in\n{xml}");
    }
    let list = conform(&scripts, &["--list"])?;
    ensure!(
        list.out.iter().any(|line| line == "universal/determinism")
            && list.out.iter().any(|line| line == "script/own/wrong"),
        "{list:?}"
    );
    Ok(())
}

#[test]
fn a_baseline_is_blessed_and_then_held() -> Result<()> {
    let (_folder, scripts) =
        folder_with("tag x \"hold(1)\" uint8 rw\ncase right\npoll all\nsample x 1\ndone all\n")?;
    let without = conform(&scripts, &["--case", "universal/fuel"])?;
    ensure!(
        without.code() == Some(1) && without.out.join("\n").contains("--bless writes it"),
        "nothing was tried: {without:?}"
    );
    let blessed = conform(&scripts, &["--bless"])?;
    ensure!(blessed.code() == Some(0), "{blessed:?}");
    let held = conform(&scripts, &["--case", "universal/fuel"])?;
    ensure!(held.code() == Some(0), "{held:?}");
    let path = scripts.join("baseline.toml");
    let text = std::fs::read_to_string(&path)?;
    let line = text
        .lines()
        .find(|line| line.starts_with("poll = "))
        .unwrap_or_default();
    std::fs::write(&path, text.replace(line, "poll = 7"))?;
    let changed = conform(&scripts, &["--case", "universal/fuel"])?;
    ensure!(
        changed.code() == Some(1)
            && changed
                .out
                .join("\n")
                .contains("poll: expected 7 fuel, found"),
        "{changed:?}"
    );
    // What this machine refuses is no fault of the driver's.
    std::fs::remove_file(&path)?;
    std::os::unix::fs::symlink("/nowhere/baseline.toml", &path)?;
    let unwritable = conform(&scripts, &["--bless"])?;
    ensure!(
        unwritable.code() == Some(3) && unwritable.err.join("\n").contains("baseline.toml"),
        "{unwritable:?}"
    );
    Ok(())
}

/// A crash on a real host becomes a script that fails where the driver crashed.
#[test]
fn a_crash_becomes_a_script() -> Result<()> {
    let host = Bulkhead::start(
        r#"
        [[channel]]
        id = "trips"
        driver = "$GUESTS/traps.wasm"
        settings = { when = "poll", after = 3 }
        restart = { mode = "never" }
        [[channel.group]]
        name = "all"
        period = "20ms"
        tags = [{ name = "number", address = "hold(0)", type = "float64" }]
        "#,
    )?;
    let bundle = host.get_until("/api/v1/channels/trips", |channel| {
        let bundle = channel["last_exit"]["bundle"].as_str()?;
        Path::new(bundle).is_file().then(|| bundle.to_owned())
    })?;
    let written = run(&["replay", &bundle, "--to-script"])?;
    ensure!(written.code() == Some(0), "{written:?}");
    let polls = written
        .out
        .iter()
        .filter(|line| *line == "poll all")
        .count();
    let dones = written
        .out
        .iter()
        .filter(|line| line.starts_with("done all"))
        .count();
    ensure!(
        polls == dones + 1,
        "each poll but the last was answered: {written:?}"
    );

    let folder = Folder::new()?;
    folder.write("crash.script", written.out.join("\n"))?;
    let scripts = folder.path().display().to_string();
    let driver = guests::path("traps").display().to_string();
    let tried = run(&[
        "conform",
        &driver,
        "--scripts",
        &scripts,
        "--case",
        "script/",
    ])?;
    let text = tried.out.join("\n");
    ensure!(
        tried.code() == Some(1) && text.contains("trapped in turn"),
        "{text}"
    );
    let last = written
        .out
        .iter()
        .rposition(|line| line == "poll all")
        .unwrap_or_default()
        + 1;
    ensure!(
        text.contains(&format!("crash.script:{last}:")),
        "line {last} is not in\n{text}"
    );
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}

/// What a driver was given by a real sensor, until it was stopped, becomes a script that the driver passes.
#[test]
fn a_live_session_becomes_a_script() -> Result<()> {
    let device = LineDevice::start(&[("temp", "21.5"), ("limit", "30")])?;
    let address = device.address;
    let host = Bulkhead::start(&format!(
        r#"
        [[channel]]
        id = "sensor"
        driver = "$DRIVERS/line.wasm"
        links.line = {{ connect = "tcp://{address}" }}
        recorder = {{ sessions = true }}
        [[channel.group]]
        name = "all"
        period = "100ms"
        tags = [
            {{ name = "temp", address = "temp", type = "float64" }},
            {{ name = "limit", address = "limit", type = "float64", access = "rw" }},
        ]
        "#
    ))?;
    let value = |name: &str, value: f64| {
        host.get_until(&format!("/api/v1/tags/sensor/{name}"), |tag| {
            (tag["value"] == value && tag["quality"] == "good").then_some(())
        })
    };
    value("temp", 21.5)?;
    let written = host.client(&["tag", "write", "sensor/limit", "42.5", "--read-back"])?;
    ensure!(written.code() == Some(0), "{written:?}");
    device.set("temp", "none");
    host.get_until("/api/v1/tags/sensor/temp", |tag| {
        (tag["quality"] == "bad-type-mismatch").then_some(())
    })?;
    device.set("temp", "22.25");
    value("temp", 22.25)?;
    let path = host.folder().join("data/crashes/sensor-1.session");
    let stopped = host.client(&["channel", "stop", "sensor"])?;
    ensure!(stopped.code() == Some(0), "{stopped:?}");
    host.process()
        .err()
        .wait_for(0, |line| line.contains("recording written").then_some(()))?;
    let bundle = path.display().to_string();

    let replayed = run(&["replay", &bundle])?;
    let said = replayed.out.join("\n");
    ensure!(
        replayed.code() == Some(0) && said.contains("the session was reproduced"),
        "{said}"
    );
    let script = run(&["replay", &bundle, "--to-script"])?;
    ensure!(script.code() == Some(0), "{script:?}");
    for line in [
        "sample temp 21.5 good",
        "sample temp - bad-type-mismatch",
        "write limit 42.5 read-back",
        // `SET limit 42.5` and the end of the line.
        "expect line: 534554206c696d69742034322e350d0a",
        "stop",
        "stopped",
    ] {
        ensure!(
            script.out.iter().any(|written| written == line),
            "{line}: {script:?}"
        );
    }
    let folder = Folder::new()?;
    let file = folder.write("session.script", script.out.join("\n"))?;
    let try_script = || {
        let scripts = folder.path().display().to_string();
        let driver = paths::driver("line")?.display().to_string();
        run(&[
            "conform",
            &driver,
            "--scripts",
            &scripts,
            "--case",
            "script/",
        ])
    };
    let tried = try_script()?;
    ensure!(tried.code() == Some(0), "{}", tried.out.join("\n"));
    // It holds the driver to what it did.
    let text = std::fs::read_to_string(&file)?.replacen(
        "sample temp 21.5 good",
        "sample temp 21.25 good",
        1,
    );
    std::fs::write(&file, text)?;
    let tried = try_script()?;
    ensure!(tried.code() == Some(1), "{}", tried.out.join("\n"));
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}
