//! Devices: how they stand, and taking them out of service.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::tags::json;
use super::{ApiError, App, wire};
use crate::channel::{DeviceStanding, DeviceStatus};
use crate::config;
use crate::sink::Time;
use crate::store::StoreError;
use crate::supervisor::ChannelHandle;

/// `GET`: the devices of a channel.
pub(super) async fn list(
    State(app): State<App>,
    Path(channel): Path<String>,
) -> Result<Json<wire::Devices>, ApiError> {
    let channel = app.channel(&channel)?;
    let devices = channel.status().devices.into_iter();
    Ok(Json(wire::Devices {
        channel: channel.id().to_string(),
        devices: devices
            .zip(&channel.config().devices)
            .map(|(device, config)| shown(device, config))
            .collect(),
    }))
}

/// `POST`: takes a device out of service.
pub(super) async fn lock(
    State(app): State<App>,
    Path((channel, device)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<wire::Device>, ApiError> {
    let channel = app.channel(&channel)?;
    let order: wire::DeviceLock = if body.is_empty() {
        wire::DeviceLock::default()
    } else {
        json(&body)?
    };
    let done = channel.lock_device(&device, &order.why).await;
    answered(channel, &device, done)
}

/// `POST`: puts a device into service again.
pub(super) async fn unlock(
    State(app): State<App>,
    Path((channel, device)): Path<(String, String)>,
) -> Result<Json<wire::Device>, ApiError> {
    let channel = app.channel(&channel)?;
    let done = channel.unlock_device(&device).await;
    answered(channel, &device, done)
}

fn answered(
    channel: &ChannelHandle,
    device: &str,
    done: Result<bool, StoreError>,
) -> Result<Json<wire::Device>, ApiError> {
    done.map_err(|error| {
        let sentence = error.to_string();
        let (message, remedy) = sentence
            .split_once("; ")
            .unwrap_or((sentence.as_str(), "see to the disk"));
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "store", message, remedy)
    })?;
    let all = channel.status().devices.into_iter();
    let mut known = all.zip(&channel.config().devices);
    match known.find(|(status, _)| status.name == device) {
        Some((status, config)) => Ok(Json(shown(status, config))),
        None => {
            let device: String = device.chars().take(200).collect();
            Err(ApiError::new(
                StatusCode::NOT_FOUND,
                "no-such-device",
                format!("channel {} has no device {device}", channel.id()),
                format!(
                    "`bulkhead device list {0}` or GET /api/v1/channels/{0}/devices shows those there are",
                    channel.id()
                ),
            ))
        }
    }
}

/// A device as JSON.
pub(super) fn shown(status: DeviceStatus, config: &config::Device) -> wire::Device {
    let (next, lock) = match &status.standing {
        DeviceStanding::Polled => (None, None),
        DeviceStanding::Demoted { next } => (*next, None),
        DeviceStanding::Locked(lock) => (None, Some(lock)),
    };
    wire::Device {
        standing: status.standing.as_str().to_owned(),
        next_probe: next.map(|at| Time(at).to_string()),
        next_probe_ns: next.map(|at| at.0),
        locked_since: lock.map(|lock| Time(lock.since()).to_string()),
        locked_since_ns: lock.map(|lock| lock.since().0),
        locked_why: lock.map(|lock| lock.why.clone()),
        name: status.name,
        address: config.address.clone(),
        condition: status.condition.to_owned(),
        why: status.why,
    }
}
