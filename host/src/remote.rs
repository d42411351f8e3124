//! Writes that come over a sink (MQTT): carried out as those of the API are, and answered once.
//!
//! The same checks hold: access, type, range, `write_interval`; they stand in the audit log with `mqtt` as the door. Who may write over a
//! broker is the broker's business, and a sink takes writes only where its configuration says so.

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::channel::RequestError;
use crate::http;
use crate::sink::{WriteAnswer, WriteOutcome, WriteRequest};
use crate::supervisor::{Host, Writer};

/// Carries out writes until nobody can ask any more. Each has a task of its own: one whose device hangs holds up no other. How many
/// there are at once is bounded by the sinks.
pub(crate) async fn write(
    host: Host,
    mut requests: mpsc::Receiver<WriteRequest>,
    tasks: TaskTracker,
) {
    while let Some(request) = requests.recv().await {
        let host = host.clone();
        tasks.spawn(async move {
            let WriteRequest {
                channel,
                tag,
                value,
                timeout,
                answer,
            } = request;
            let done = one(&host, &channel, &tag, &value, timeout).await;
            if answer.send(done).is_err() {
                tracing::warn!(
                    channel,
                    tag,
                    "nobody waited for the answer to a write any more"
                );
            }
        });
    }
}

async fn one(
    host: &Host,
    channel: &str,
    tag: &str,
    value: &serde_json::Value,
    timeout: std::time::Duration,
) -> WriteAnswer {
    let refused = |code: &str, message: String| WriteAnswer {
        outcome: WriteOutcome::Refused,
        code: Some(code.to_owned()),
        message: Some(message),
    };
    let Some(handle) = host.channel(channel) else {
        let message = "there is no such channel; see `bulkhead channel list`".to_owned();
        return refused("no-such-channel", message);
    };
    let found = handle
        .tag_id(tag)
        .and_then(|id| Some((id, handle.tags().tags().get(id.index())?)));
    let Some((id, config)) = found else {
        let message = "the channel has no such tag; see `bulkhead tag list`".to_owned();
        return refused("no-such-tag", message);
    };
    let value = match http::from_json(config.data_type, value) {
        Ok(value) => value,
        Err(wrong) => return refused("bad-value", wrong),
    };
    let writer = Writer {
        via: "mqtt",
        by: None,
    };
    match handle.write(id, value, false, timeout, writer).await {
        Ok(_) => WriteAnswer {
            outcome: WriteOutcome::Done,
            code: None,
            message: None,
        },
        Err(error) => WriteAnswer {
            outcome: match &error {
                RequestError::Failed { .. } => WriteOutcome::Failed,
                RequestError::TimedOut { .. } => WriteOutcome::TimedOut,
                RequestError::Restarted => WriteOutcome::Restarted,
                _ => WriteOutcome::Refused,
            },
            code: Some(error.code().to_owned()),
            message: Some(error.to_string()),
        },
    }
}
