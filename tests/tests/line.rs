//! The drivers of `channels/line` and `channels/line-python`: one protocol in two languages, under one set of tests, in the real host,
//! against a real sensor over TCP.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Bulkhead, Folder, LineDevice, PATIENCE, Running, paths};
use serde_json::{Value, json};

/// The drivers, and what a channel of each needs.
const DRIVERS: [(&str, &str); 2] = [("line", "32MiB"), ("line-python", "64MiB")];

fn config(driver: &str, memory: &str, device: &LineDevice) -> String {
    let address = device.address;
    format!(
        r#"
        [[channel]]
        id = "sensor"
        driver = "$DRIVERS/{driver}.wasm"
        links.line = {{ connect = "tcp://{address}" }}
        limits = {{ memory = "{memory}" }}
        settings = {{ timeout_ms = 300 }}

        [[channel.group]]
        name = "all"
        period = "50ms"
        tags = [
            {{ name = "temp", address = "temp", type = "float64" }},
            {{ name = "count", address = "count", type = "uint16" }},
            {{ name = "limit", address = "limit", type = "float64", access = "rw" }},
            {{ name = "nobody", address = "nobody", type = "bool" }},
        ]
        "#
    )
}

/// One after the other, so that the driver in Python is compiled once, and for the others lies in the cache.
static TURN: Mutex<()> = Mutex::new(());

fn start(driver: &str, memory: &str) -> Result<(LineDevice, Bulkhead)> {
    let device = LineDevice::start(&[("temp", "21.5"), ("count", "7"), ("limit", "30")])?;
    let host = Bulkhead::start(&config(driver, memory, &device))?;
    Ok((device, host))
}

/// Waits until a tag is so.
fn until(host: &Bulkhead, tag: &str, value: &Value, quality: &str) -> Result<()> {
    let path = format!("/api/v1/tags/sensor/{tag}");
    host.get_until(&path, |body| {
        (body["value"] == *value && body["quality"] == quality).then_some(())
    })
    .with_context(|| format!("{tag} is not {value} and {quality}"))
}

fn check(test: impl Fn(&LineDevice, &Bulkhead) -> Result<()>) -> Result<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for (driver, memory) in DRIVERS {
        let (device, host) = start(driver, memory)?;
        until(&host, "temp", &json!(21.5), "good").context(driver)?;
        test(&device, &host).with_context(|| format!("the driver {driver}"))?;
        let ended = host.stop()?;
        ensure!(
            ended.code() == Some(0),
            "{driver}: {}",
            ended.err.join("\n")
        );
    }
    Ok(())
}

#[test]
fn samples_come_out_with_their_types_and_qualities() -> Result<()> {
    check(|device, host| {
        until(host, "count", &json!(7), "good")?;
        until(host, "limit", &json!(30.0), "good")?;
        until(host, "nobody", &Value::Null, "bad-configuration")?;
        device.set("temp", "22.25");
        until(host, "temp", &json!(22.25), "good")?;
        device.set("count", "70000");
        // The last value that could be believed stays, under the bad quality.
        until(host, "count", &json!(7), "bad-type-mismatch")?;
        ensure!(device.connections() == 1, "one stream for all of it");
        Ok(())
    })
}

#[test]
fn what_is_written_reaches_the_sensor_and_is_read_back() -> Result<()> {
    check(|device, host| {
        let written = host.client(&["tag", "write", "sensor/limit", "42.5", "--read-back"])?;
        ensure!(written.code() == Some(0), "{written:?}");
        ensure!(device.value("limit").as_deref() == Some("42.5"));
        until(host, "limit", &json!(42.5), "good")
    })
}

#[test]
fn an_answer_that_is_none_or_does_not_come_costs_the_stream_and_no_more() -> Result<()> {
    check(|device, host| {
        let good = |value: &str| -> Result<()> {
            device.set("temp", value);
            until(host, "temp", &json!(value.parse::<f64>()?), "good")
        };
        for (round, spoilt) in ["noise\r\n", "OK 1\r\nOK 2\r\n", "", "OK 99"]
            .into_iter()
            .enumerate()
        {
            let before = device.connections();
            device.spoil(&[spoilt]);
            good(&format!("{}.5", round + 1))?;
            ensure!(
                device.connections() == before + 1,
                "{spoilt:?}: a new stream"
            );
        }
        let state = host.get("/api/v1/channels/sensor")?.body;
        ensure!(
            state["incarnation"] == 1,
            "nobody had to restart: {state:#}"
        );
        Ok(())
    })
}

#[test]
fn a_python_driver_without_enough_memory_is_told_so() -> Result<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let device = LineDevice::start(&[("temp", "21.5")])?;
    let folder = Folder::new()?;
    folder.write_config(&config("line-python", "4MiB", &device))?;
    let checked = folder.run(&["check", Folder::CONFIG])?;
    ensure!(checked.code() == Some(1), "{checked:?}");
    let said = checked.err.join("\n") + &checked.out.join("\n");
    ensure!(
        said.contains("begins with 1") && said.contains("limits = { memory = \"1"),
        "{said}"
    );
    Ok(())
}

/// The unit tests of the SDK and of the driver, which are plain pytest.
#[test]
fn the_tests_in_python_pass() -> Result<()> {
    for (folder, least) in [("guest-sdk/python", 20), ("channels/line-python", 20)] {
        let mut pytest = std::process::Command::new(paths::python()?);
        pytest.current_dir(paths::root().join(folder)).args([
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
        ]);
        let ended = Running::start(&mut pytest)?.wait()?;
        let last = ended.out.last().cloned().unwrap_or_default();
        let passed = last.split(' ').next().and_then(|count| count.parse().ok());
        ensure!(
            ended.code() == Some(0) && passed.unwrap_or(0) >= least,
            "{folder}, within {PATIENCE:?}:\n{}",
            ended.out.join("\n")
        );
    }
    Ok(())
}
