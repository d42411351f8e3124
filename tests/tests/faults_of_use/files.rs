//! Configurations and drivers: every fault at once, each with its line, whether `run` or `check` meets it.

use std::fs::File;

use anyhow::{Context as _, Result};
use bulkhead_tests::{Folder, paths};
use serde_json::Value;

use super::{check, messages_of, no_panic};

/// A file that `run` and `check` refuse alike: with these faults and no others, each on its line, named, with a remedy.
fn check_config(toml: &str, faults: &[(u32, &str, &str)]) -> Result<()> {
    let folder = Folder::new()?;
    check_config_in(&folder, toml, faults)
}

fn check_config_in(folder: &Folder, toml: &str, faults: &[(u32, &str, &str)]) -> Result<()> {
    folder.write_config(toml)?;
    for command in ["run", "check"] {
        let ended = check(folder, &[command, Folder::CONFIG], 1, faults.len(), &[])?;
        for (message, (line, thing, remedy)) in messages_of(&ended).iter().zip(faults) {
            assert!(
                message.starts_with(&format!("{}:{line}:", Folder::CONFIG))
                    && message.contains(thing)
                    && message.contains(remedy),
                "line {line}, `{thing}`, `{remedy}`; but: {message}\n{ended:#?}"
            );
        }
    }
    let ended = folder.run(&["check", "--json", Folder::CONFIG])?;
    assert_eq!(ended.code(), Some(1), "{ended:#?}");
    let report: Value = serde_json::from_str(&ended.out.join(""))?;
    let found = report["faults"].as_array().context("a list of faults")?;
    let lines = found.iter().map(|fault| &fault["line"]);
    assert!(
        report["ok"] == false && lines.eq(faults.iter().map(|(line, ..)| line)),
        "{report:#}"
    );
    Ok(())
}

#[test]
fn faults_of_the_file() -> Result<()> {
    const CHANNEL: &str = "[[channel]]\nid = \"a\"\ndriver = \"$DRIVERS/signal.wasm\"\n";
    let with = |lines: &str| format!("{CHANNEL}{lines}\n");
    let tag = |keys: &str| {
        with(&format!(
            "[[channel.group]]\nname = \"g\"\nperiod = \"1s\"\ntags = [{{ name = \"t\", address = \"sine\", {keys} }}]"
        ))
    };

    check_config(
        "[[channel]\nid = \"a\"",
        &[(1, "not valid TOML", "toml.io")],
    )?;
    check_config("", &[(1, "channel", "[[channel]]")])?;
    check_config(
        "[[channel]]\nid = \"a\"\ndrvier = \"signal.wasm\"",
        &[
            (1, "`driver` is missing", "add one"),
            (3, "`drvier`", "did you mean `driver`?"),
        ],
    )?;
    check_config(
        &with("limits = { memory = 32 }"),
        &[(4, "`memory`", "\"32MiB\"")],
    )?;
    check_config(
        &with("restart = { max_attempts = 5000 }"),
        &[(4, "`max_attempts`", "0 to 1000")],
    )?;
    check_config(&with(CHANNEL), &[(5, "`a` stands on line 2", "another")])?;
    check_config(
        &with("links.plc = { connect = \"10.0.0.9:502\" }"),
        &[(4, "10.0.0.9:502", "tcp://10.0.0.9:502")],
    )?;
    check_config(&tag("type = \"int17\""), &[(7, "`int17`", "int16")])?;
    check_config(
        &tag("type = \"float64\", device = \"b\""),
        &[(7, "`b`", "device")],
    )?;
    check_config(
        &with("[[sink]]\nkind = \"kafka\""),
        &[(5, "`kafka`", "`stdout`")],
    )?;
    for open in ["0.0.0.0:7070", "192.168.1.5:7070", "[::]:7070"] {
        check_config(
            &format!("http.listen = \"{open}\"\n{CHANNEL}"),
            &[(1, open, "127.0.0.1")],
        )?;
    }
    check_config(
        r#"
[htpp]
[[sink]]
kind = "kafka"
[[channel]]
id = "press 3"
drvier = "modbus.wasm"
links.plc = { connect = "ssh://10.0.0.9:22" }
[[channel.group]]
name = "fast"
period = "100"
tags = [
  { name = "temp", type = "int16" },
  { name = "temp", address = "40002", type = "bool", deadband = 1 },
]
"#,
        &[
            (2, "`htpp`", "`http`"),
            (4, "`kafka`", "`file`"),
            (5, "`driver`", "add one"),
            (6, "`press 3`", "letters"),
            (7, "`drvier`", "`driver`"),
            (8, "ssh://10.0.0.9:22", "tcp://"),
            (11, "`100`", "\"100ms\""),
            (13, "`address`", "40001"),
            (14, "`temp`", "another name"),
            (14, "`deadband`", "remove it"),
        ],
    )
}

#[test]
fn faults_that_the_driver_finds() -> Result<()> {
    let channel = |lines: &str| {
        format!("[[channel]]\nid = \"a\"\ndriver = \"$DRIVERS/modbus.wasm\"\n{lines}\n")
    };
    const LINK: &str = "links.plc = { connect = \"tcp://127.0.0.1:1\" }";
    check_config(
        &channel(&format!("{LINK}\nsettings = {{ timeout_ms = 0 }}")),
        &[(5, "channel a, settings.timeout_ms: 0", "1 to 600000")],
    )?;
    check_config(
        &channel(&format!("{LINK}\nsettings = {{ unit = 3 }}")),
        &[(5, "channel a, settings.unit", "`unit_id`")],
    )?;
    check_config(&channel(""), &[(3, "a link named `plc`", "links.plc = {")])?;
    check_config(
        &channel(&format!(
            "{LINK}\nlinks.other = {{ connect = \"tcp://127.0.0.1:1\" }}"
        )),
        &[(5, "link other", "remove it")],
    )?;
    // All of them at once, each where it stands.
    check_config(
        &channel(&format!(
            "{LINK}\nsettings = {{ retries = 99 }}\n\
             [[channel.device]]\nname = \"press\"\naddress = \"300\"\n\
             [[channel.tag]]\nname = \"t\"\naddress = \"50001\"\ntype = \"int16\"\n\
             [[channel.tag]]\nname = \"u\"\naddress = \"30001\"\ntype = \"int16\"\naccess = \"rw\"\n\
             [[channel.tag]]\nname = \"v\"\naddress = \"40001\"\ntype = \"bool\""
        )),
        &[
            (5, "settings.retries", "0 to 10"),
            (8, "device press", "0 to 255"),
            (11, "50001", "4 (holding)"),
            (17, "tag u", "writ"),
            (20, "tag v", ".0 (lowest)"),
        ],
    )
}

#[test]
fn files_that_are_no_driver() -> Result<()> {
    let folder = Folder::new()?;
    let signal = std::fs::read(paths::driver("signal")?)?;
    let newer = "(component (component $c) (instance $i (instantiate $c)) \
                 (export \"bulkhead:channel/driver@0.9.0\" (instance $i)))";
    let greedy = "(component (import \"acme:disk/raw@1.0.0\" (instance)) (component $c) (instance $i (instantiate $c)) \
                  (export \"bulkhead:channel/driver@0.1.0\" (instance $i)))";
    let hollow = "(component (component $c) (instance $i (instantiate $c)) \
                  (export \"bulkhead:channel/driver@0.1.0\" (instance $i)))";
    let elf = std::fs::read(std::env::current_exe()?)?;
    let files: [(&str, Vec<u8>, &str, &str); 11] = [
        ("empty", vec![], "is empty", "build the driver again"),
        (
            "core",
            wat::parse_str("(module)")?,
            "core WebAssembly module",
            "wasm32-wasip2",
        ),
        (
            "cwasm",
            elf[..4096].to_vec(),
            ".cwasm",
            "name the .wasm component",
        ),
        (
            "text",
            b"(component)".to_vec(),
            "WebAssembly text",
            "wasm-tools",
        ),
        ("toml", b"[[channel]]".to_vec(), "toml.wasm is", ";"),
        (
            "cut",
            signal[..signal.len() / 2].to_vec(),
            "not a valid component",
            "build the driver again",
        ),
        (
            "no-driver",
            wat::parse_str("(component)")?,
            "is no driver",
            "`export!`",
        ),
        (
            "newer",
            wat::parse_str(newer)?,
            "driver@0.9.0",
            "matching SDK",
        ),
        (
            "greedy",
            wat::parse_str(greedy)?,
            "acme:disk/raw@1.0.0",
            "WASI 0.2 only",
        ),
        (
            "hollow",
            wat::parse_str(hollow)?,
            "does not fit the WIT",
            "matching SDK",
        ),
        (
            "scrambled",
            scrambled(&signal),
            "not a valid component",
            "build the driver again",
        ),
    ];
    let channel = |driver: &str| format!("[[channel]]\nid = \"a\"\ndriver = \"{driver}\"\n");
    for (name, bytes, what, remedy) in &files {
        let file = format!("{name}.wasm");
        folder.write(&file, bytes)?;
        check_config_in(
            &folder,
            &channel(&format!("$DIR/{file}")),
            &[(3, what, remedy)],
        )?;
        check(
            &folder,
            &["inspect", &file],
            1,
            1,
            &["error: ", what, remedy],
        )?;
    }
    check_config_in(
        &folder,
        &channel("nowhere/modbus.wasm"),
        &[(3, "nowhere/modbus.wasm", "check the path")],
    )?;
    check_config_in(
        &folder,
        &channel("$DIR"),
        &[(3, "not a file", "name the .wasm file")],
    )?;
    File::create(folder.path().join("huge.wasm"))?.set_len(65 * 1024 * 1024)?;
    check_config_in(
        &folder,
        &channel("$DIR/huge.wasm"),
        &[(3, "huge.wasm", "strip it")],
    )?;

    // The digest, and several faulty drivers at once.
    let digest = "00".repeat(32);
    check_config_in(
        &folder,
        &format!("{}sha256 = \"{digest}\"", channel("$DRIVERS/signal.wasm")),
        &[(3, &digest, "install the pinned file")],
    )?;
    check_config_in(
        &folder,
        &format!(
            "{}{}{}",
            channel("$DIR/core.wasm"),
            channel("$DIR/empty.wasm").replace("\"a\"", "\"b\""),
            channel("$DIR/nowhere.wasm").replace("\"a\"", "\"c\"")
        ),
        &[
            (3, "channel a", "wasm32-wasip2"),
            (6, "channel b", "is empty"),
            (9, "channel c", "check the path"),
        ],
    )
}

/// A component whose first section is garbage.
fn scrambled(component: &[u8]) -> Vec<u8> {
    let mut bytes = component.to_vec();
    bytes[8..72].fill(0xff);
    bytes
}

#[test]
fn files_that_cannot_be_read() -> Result<()> {
    let folder = Folder::new()?;
    std::fs::create_dir(folder.path().join("folder.toml"))?;
    folder.write("latin1.toml", b"# \xe9\n")?;
    for command in ["run", "check"] {
        check(
            &folder,
            &[command, "nowhere.toml"],
            1,
            1,
            &["nowhere.toml", "check the path"],
        )?;
        check(
            &folder,
            &[command, "folder.toml"],
            1,
            1,
            &["folder.toml", "give a TOML file"],
        )?;
        check(
            &folder,
            &[command, "latin1.toml"],
            1,
            1,
            &["latin1.toml", "save it as UTF-8"],
        )?;
    }
    check(
        &folder,
        &["inspect", "nowhere.wasm"],
        1,
        1,
        &["nowhere.wasm", "check the path"],
    )?;
    Ok(())
}

#[test]
fn wrong_usage() -> Result<()> {
    let folder = Folder::new()?;
    let usage = |command: &[&str], words: &[&str]| -> Result<()> {
        let ended = folder.run(command)?;
        assert_eq!(ended.code(), Some(2), "{command:?}: {ended:#?}");
        no_panic(&ended);
        let told = ended.err.join("\n");
        for word in words {
            assert!(told.contains(word), "{command:?}: {told}");
        }
        Ok(())
    };
    usage(&[], &["Usage: bulkhead"])?;
    usage(&["runn"], &["runn", "'run'"])?;
    usage(&["run"], &["<CONFIG>"])?;
    usage(&["run", "a.toml", "--for", "soon"], &["soon", "--for"])?;
    usage(
        &["run", "a.toml", "--log-level", "loud"],
        &["loud", "debug"],
    )?;
    usage(&["channel", "stpo", "a"], &["stpo", "stop"])?;
    usage(&["tag", "write", "a/b"], &["<VALUE>"])?;
    usage(&["tag", "show", "ab"], &["`ab`", "channel/tag"])?;
    usage(
        &["status", "--url", "ftp://127.0.0.1"],
        &["ftp://127.0.0.1", "http://"],
    )?;
    usage(
        &["simulate", "modbus", "--units", "4-1"],
        &["4-1", "smaller unit first"],
    )
}
