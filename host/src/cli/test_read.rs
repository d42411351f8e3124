//! `bulkhead tag test-read`: the command `test-read` of a driver, with a tag's own words.

use serde_json::{Value as Json, json};

use super::arguments::TestRead;
use super::client::{Client, encoded};
use super::failure::Failure;
use super::output::{Output, plain, value};
use crate::http::wire;

/// The command, as drivers call it.
const COMMAND: &str = "test-read";

pub(super) fn test_read(arguments: &TestRead) -> Result<(), Failure> {
    let mut payload = json!({ "address": arguments.address, "type": arguments.data_type });
    if let Some(device) = &arguments.device {
        payload["device"] = json!(device);
    }
    if let Some(settings) = &arguments.settings {
        payload["settings"] = serde_json::from_str(settings).map_err(|error| {
            Failure::usage(format!(
                "`--settings` is no JSON: {error}; write it such as '{{\"order\":\"CDAB\"}}'"
            ))
        })?;
    }
    let request = wire::CommandRequest {
        payload: Some(payload),
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
    let mut out = Output::new();
    if arguments.api.json {
        out.json(&answer)?;
        return Ok(());
    }
    let Some(answer) = answer.as_object() else {
        out.line(&value(&answer))?;
        return Ok(());
    };
    let mut line =
        |key: &str, shown: &Json| out.line(&format!("{:<8} {}", plain(key), value(shown)));
    if let Some(shown) = answer.get("value") {
        line("value", shown)?;
    }
    for (key, shown) in answer.iter().filter(|(key, _)| *key != "value") {
        line(key, shown)?;
    }
    Ok(())
}
