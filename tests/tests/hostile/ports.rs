//! Cases 38 to 41: guests that reach for what they were not granted, and never end. Nothing comes of it, and the log tells.

use std::net::{TcpListener, UdpSocket};

use anyhow::{Context, Result};
use bulkhead_tests::Recording;
use serde_json::Value;

use crate::plant::{Driver, NUMBER, Plant, culprit, exits, is_in_state};

#[test]
fn a_flood_of_log_lines() -> Result<()> {
    const AT_ONCE: usize = 200;
    const A_SECOND: u64 = 100;
    let id = "38-floods-the-log";
    let floods = crate::plant::Culprit {
        keys: r#"settings = { what = "logs", count = 5000 }"#.into(),
        limits: r#"fuel_per_turn = 10_000_000_000, turn_deadline = "60s""#,
        tables: NUMBER,
        ..culprit(id, Driver::Guest("floods"))
    };
    let plant = Plant::start(&[floods])?;
    plant.within_bounds(id, 8, || {
        plant.let_loose(id)?;
        let err = plant.host.process().err();
        err.wait_for(0, |line| {
            let count = line.split_once("dropped=")?.1.split_whitespace().next()?;
            (line.contains(id) && count.parse::<u64>().ok()? >= 1_000).then_some(())
        })?;
        plant.neighbours_go_on()?;
        plant.order(id, "stop")?;
        plant
            .recorder
            .wait("it has stopped", |seen| is_in_state(seen, id, "stopped"))
    })?;
    let seen = plant.recorder.so_far();
    assert_eq!(exits(&seen, id), Vec::<&Value>::new(), "that is no fault");
    let log = plant.host.process().err().so_far();
    let lines = log.iter().filter(|line| line.contains("line ")).count();
    let ran_ns = ran_for(&seen, id).context("it ran")?;
    let most = AT_ONCE + usize::try_from((ran_ns / 1_000_000_000 + 1) * A_SECOND)?;
    assert!(
        (AT_ONCE..=most).contains(&lines),
        "{lines} lines in {ran_ns} ns"
    );
    for line in &log {
        assert!(!line.contains('\u{1b}'), "{line:?} moves a cursor");
        assert!(
            !line.starts_with("ERROR forged"),
            "{line:?} is no line of the host"
        );
    }
    plant.end()
}

/// From its first state to its last one.
fn ran_for(seen: &Recording, id: &str) -> Option<u64> {
    let mut times = seen
        .iter()
        .filter(|(name, data)| name == "state" && data["channel"] == *id)
        .filter_map(|(_, data)| data["at_ns"].as_u64());
    let first = times.next()?;
    Some(times.next_back()? - first)
}

/// What a channel of the guest `reaches` says of each attempt, in the tags' order.
fn attempts(id: &'static str, all: &[&str]) -> Result<(Plant, Vec<String>)> {
    let tags: String = all
        .iter()
        .map(|what| format!("{{ name = \"{what}\", address = \"{what}\", type = \"string\" }},"))
        .collect();
    let mut reaches = culprit(id, Driver::Guest("reaches"));
    reaches.keys =
        format!("[[channel.group]]\nname = \"all\"\nperiod = \"50ms\"\ntags = [{tags}]\n");
    let plant = Plant::start(&[reaches])?;
    let mut said = Vec::new();
    plant.within_bounds(id, 8, || {
        plant.let_loose(id)?;
        let of = |seen: &Recording, what: &str| {
            let found = seen.iter().find(|(name, data)| {
                name == "sample"
                    && data["channel"] == *id
                    && data["tag"] == *what
                    && data["quality"] == "good"
            });
            found.map(|(_, data)| data["value"].as_str().unwrap_or("?").to_owned())
        };
        plant.recorder.wait("it says what came of it", |seen| {
            all.iter().all(|what| of(seen, what).is_some())
        })?;
        plant.neighbours_go_on()?;
        let seen = plant.recorder.so_far();
        said = all.iter().filter_map(|what| of(&seen, what)).collect();
        Ok(())
    })?;
    let seen = plant.recorder.so_far();
    assert_eq!(exits(&seen, id), Vec::<&Value>::new(), "that is no fault");
    Ok((plant, said))
}

#[test]
fn reading_the_environment_and_files() -> Result<()> {
    let all = ["env", "args", "read", "write", "list"];
    let (plant, said) = attempts("39-reads", &all)?;
    assert_eq!(said[..2], ["[]", "[]"]);
    for (what, said) in all.iter().zip(&said).skip(2) {
        assert!(said.starts_with("refused: "), "{what}: {said}");
    }
    assert!(!std::path::Path::new("/tmp/reached").exists());
    plant.end()
}

#[test]
fn sockets_and_targets_that_were_not_granted() -> Result<()> {
    sockets_of_wasi()?;
    targets_over_a_link()
}

fn sockets_of_wasi() -> Result<()> {
    let all = ["tcp", "listen", "udp", "resolve"];
    let (plant, said) = attempts("40-dials", &all)?;
    for (what, said) in all.iter().zip(&said) {
        assert!(said.starts_with("refused: "), "{what}: {said}");
    }
    plant.end()
}

fn targets_over_a_link() -> Result<()> {
    let id = "40-dials-elsewhere";
    // The link leads to one of them; the other is what the driver wants.
    let (granted, wanted) = (
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    );
    let udp = UdpSocket::bind(wanted.local_addr()?)?;
    for socket in [&granted, &wanted] {
        socket.set_nonblocking(true)?;
    }
    udp.set_nonblocking(true)?;
    let (link, target) = (granted.local_addr()?, wanted.local_addr()?);
    let mut puppet = culprit(id, Driver::Guest("puppet"));
    puppet.keys = format!(
        r#"
        links.plc = {{ connect = "tcp://{link}" }}
        settings = {{ rules = [{{ on = "started", do = [
            {{ open = {{ connection = 0, link = 0, target = "{target}" }} }},
            {{ open = {{ connection = 1, link = 0, target = "localhost:{port}" }} }},
        ] }}] }}
        "#,
        port = target.port()
    );
    puppet.tables = NUMBER;
    let plant = Plant::start(&[puppet])?;
    plant.within_bounds(id, 8, || {
        plant.let_loose(id)?;
        plant.recorder.wait("it is denied", |seen| {
            seen.iter().any(|(name, data)| {
                name == "link"
                    && data["channel"] == *id
                    && data["detail"]
                        .as_str()
                        .is_some_and(|detail| detail.contains("does not grant"))
            })
        })?;
        plant.neighbours_go_on()
    })?;
    for socket in [&granted, &wanted] {
        let called = socket.accept().map(|(_, from)| from);
        let error = called.expect_err("nobody calls").kind();
        assert_eq!(error, std::io::ErrorKind::WouldBlock);
    }
    assert!(udp.recv(&mut [0; 8]).is_err());
    let denied = format!("channel {id} may not dial {target}");
    plant.host.process().err().wait_for(0, |line| {
        (line.contains(&denied) && line.contains("add it under its links")).then_some(())
    })?;
    plant.end()
}
