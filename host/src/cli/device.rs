//! `bulkhead device ...`.

use std::time::Duration;

use super::arguments::{DeviceCommand, NamedChannel, NamedDevice};
use super::client::{Client, encoded};
use super::failure::Failure;
use super::output::{Cell, Output, Tone, plain, short_time};
use crate::http::wire;

pub(super) fn device(command: &DeviceCommand) -> Result<(), Failure> {
    match command {
        DeviceCommand::List(named) => list(named),
        DeviceCommand::Lock(lock) => {
            let order = wire::DeviceLock {
                why: lock.why.clone(),
            };
            step(&lock.named, "lock", &order)
        }
        DeviceCommand::Unlock(named) => step(named, "unlock", &serde_json::json!({})),
    }
}

fn list(named: &NamedChannel) -> Result<(), Failure> {
    let path = format!("/channels/{}/devices", encoded(&named.channel));
    let devices: wire::Devices = Client::new(&named.api)?.get(&path)?;
    let mut out = Output::new();
    if named.api.json {
        for device in &devices.devices {
            out.json(device)?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<Cell>> = devices.devices.iter().map(row).collect();
    out.table(
        &["DEVICE", "ADDRESS", "CONDITION", "STANDING", "WHY"],
        &rows,
    )?;
    Ok(())
}

fn row(device: &wire::Device) -> Vec<Cell> {
    let condition = match device.condition.as_str() {
        "up" => Tone::Good,
        "down" => Tone::Bad,
        _ => Tone::Plain,
    };
    let standing = match device.standing.as_str() {
        "polled" => Tone::Plain,
        _ => Tone::Doubtful,
    };
    vec![
        plain(&device.name).into(),
        plain(&device.address).into(),
        Cell::toned(condition, device.condition.clone()),
        Cell::toned(standing, said(device)),
        plain(device.locked_why.as_ref().unwrap_or(&device.why)).into(),
    ]
}

/// How a device stands, and since or until when.
pub(super) fn said(device: &wire::Device) -> String {
    let standing = &device.standing;
    match (&device.next_probe, &device.locked_since) {
        (Some(next), _) => format!("{standing}, probed at {}", short_time(next)),
        (None, Some(since)) => format!("{standing} since {}", short_time(since)),
        (None, None) => standing.clone(),
    }
}

fn step(named: &NamedDevice, what: &str, order: &impl serde::Serialize) -> Result<(), Failure> {
    let path = format!("{}/{what}", path(named)?);
    let device: wire::Device =
        Client::new(&named.api)?.post(&path, order, Duration::from_secs(10))?;
    let mut out = Output::new();
    if named.api.json {
        out.json(&device)?;
    } else {
        out.line(&format!("{} is {}", plain(&named.device), said(&device)))?;
    }
    Ok(())
}

fn path(named: &NamedDevice) -> Result<String, Failure> {
    match named.device.split_once('/') {
        Some((channel, device)) if !channel.is_empty() && !device.is_empty() => Ok(format!(
            "/channels/{}/devices/{}",
            encoded(channel),
            encoded(device)
        )),
        _ => Err(Failure::usage(format!(
            "`{}` names no device; write channel/device, as in press-1/pump (`bulkhead device list CHANNEL` shows those of a channel)",
            named.device
        ))),
    }
}
