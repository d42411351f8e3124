//! `bulkhead tag browse`: the command `browse` of a driver, as a table of what a tag can be made of.

use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value as Json, json};

use super::arguments::Api;
use super::client::{Client, encoded};
use super::failure::Failure;
use super::output::{Cell, Output, plain, value};
use crate::http::wire;

/// The command, as the ABI calls it.
const COMMAND: &str = "browse";
/// What drivers say of each thing, and what that is called here.
const COLUMNS: [(&str, &str); 5] = [
    ("name", "NAME"),
    ("address", "ADDRESS"),
    ("type", "TYPE"),
    ("access", "ACCESS"),
    ("help", "WHAT IT IS"),
];

#[derive(Debug, Args)]
#[command(after_help = "\
For what is to become a tag: addresses to begin with. The driver must offer `browse`, which `bulkhead inspect` shows; `bulkhead tag
test-read` reads one of them.")]
pub(super) struct TagBrowse {
    /// The channel's id
    pub(super) channel: String,
    /// The device, where the channel has several
    #[arg(long, value_name = "NAME")]
    pub(super) device: Option<String>,
    /// How long to wait for the device, up to 5min
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) api: Api,
}

pub(super) fn browse(arguments: &TagBrowse) -> Result<(), Failure> {
    let mut payload = Map::new();
    if let Some(device) = &arguments.device {
        payload.insert("device".to_owned(), json!(device));
    }
    let request = wire::CommandRequest {
        payload: Some(Json::Object(payload)),
        timeout_ms: Some(u64::try_from(arguments.timeout.as_millis()).unwrap_or(u64::MAX)),
        ..wire::CommandRequest::default()
    };
    let path = format!(
        "/channels/{}/commands/{COMMAND}",
        encoded(&arguments.channel)
    );
    let client = Client::new(&arguments.api)?;
    let done: wire::CommandDone = client.post(&path, &request, arguments.timeout)?;
    let answer = done.payload.unwrap_or(Json::Null);
    let items = answer.get("items").and_then(Json::as_array);
    let mut out = Output::new();
    match items {
        // A driver may say more, or say it in a way of its own.
        None => out.json(&answer)?,
        Some(items) if arguments.api.json => {
            for item in items {
                out.json(item)?;
            }
        }
        Some(items) => {
            let rows: Vec<Vec<Cell>> = items.iter().map(row).collect();
            out.table(&COLUMNS.map(|(_, heading)| heading), &rows)?;
        }
    }
    Ok(())
}

fn row(item: &Json) -> Vec<Cell> {
    let cell = |(key, _): (&str, &str)| match item.get(key) {
        None | Some(Json::Null) => "-".into(),
        Some(Json::String(text)) => plain(text).into(),
        Some(other) => value(other).into(),
    };
    COLUMNS.into_iter().map(cell).collect()
}
