//! A request is answered exactly once, and never sent twice.

use std::time::Duration;

use bulkhead::channel::RequestError;
use bulkhead::event::{Quality, Value};
use bulkhead::exit::ExitKind;
use bulkhead::lifecycle::State;
use bulkhead_tests::{Folder, PATIENCE};
use serde_json::json;
use tokio_util::task::TaskTracker;

use crate::stage::{Plan, Stage, WRITER, path};

/// Leaves writes of `label` unanswered.
const HOLD: &str = r#"{ on = "write", do = ["hold"] },"#;

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// Asks in the background.
fn ask(
    stage: &Stage,
    timeout: Duration,
) -> tokio::task::JoinHandle<Result<Option<Value>, RequestError>> {
    let (channel, tag) = (stage.channel().clone(), stage.tag_id("label"));
    TaskTracker::new()
        .spawn(async move { channel.write(tag, text("x"), false, timeout, WRITER).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_waits_while_there_is_no_driver_goes_to_the_next_incarnation() {
    let mut stage = Stage::start(Plan {
        restart: r#"max_attempts = 1000, delay = "1h", max_delay = "1h""#,
        ..Plan::default()
    })
    .await;
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    stage.event("started").await;
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    stage.state(State::Backoff).await;
    let asked = ask(&stage, PATIENCE);
    stage.channel().restart().await.unwrap();
    assert_eq!(asked.await.unwrap(), Ok(None));
    let (page, _) = stage.page("write").await;
    assert_eq!(page["life"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_was_dispatched_is_answered_as_restarted_and_not_sent_again() {
    let mut stage = Stage::start(Plan {
        rules: HOLD,
        ..Plan::default()
    })
    .await;
    let asked = ask(&stage, PATIENCE);
    let write = stage.event("write").await;
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    assert_eq!(asked.await.unwrap(), Err(RequestError::Restarted));
    stage.event("started").await;
    stage.catch_up().await;
    let again = stage.told("write");
    let again = again
        .iter()
        .filter(|told| told["request"] == write["request"]);
    assert_eq!(again.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_times_out_is_cancelled_and_its_late_answer_is_taken_in_silence() {
    let mut stage = Stage::start(Plan {
        rules: HOLD,
        ..Plan::default()
    })
    .await;
    let timeout = Duration::from_millis(30);
    let answer = ask(&stage, timeout).await.unwrap();
    assert_eq!(answer, Err(RequestError::TimedOut { after: timeout }));
    let write = stage.event("write").await;
    let cancel = stage.event("cancel").await;
    assert_eq!(cancel["request"], write["request"]);
    let late = json!({ "write-done": { "request": write["request"] } });
    stage
        .must(&[json!({ "write-done": {} }), late.clone()])
        .await;
    // Once: another answer is one too many.
    stage
        .fault(&[late, json!({ "write-done": {} })], ExitKind::Refused)
        .await;
    assert_eq!(stage.told("cancel").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_a_request_is_an_answer_and_ends_nothing() {
    let mut stage = Stage::start(Plan {
        rules: r#"{ on = "write", do = [{ write-failed = { quality = "bad-not-connected", code = 2, message = "illegal data address" } }] },"#,
        ..Plan::default()
    })
    .await;
    let failed = RequestError::Failed {
        quality: Quality::BadNotConnected,
        code: Some(2),
        message: "illegal data address".into(),
        trace: None,
    };
    assert_eq!(ask(&stage, PATIENCE).await.unwrap(), Err(failed));
    stage.catch_up().await;
    assert_eq!(stage.told("started").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_back_is_the_answer_of_a_write() {
    let stage = Stage::start(Plan {
        rules: r#"{ on = "write", do = [{ write-done = { value = { text = "as the device holds it" } } }] },"#,
        ..Plan::default()
    })
    .await;
    let answer = ask(&stage, PATIENCE).await.unwrap();
    assert_eq!(answer, Ok(Some(text("as the device holds it"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_a_kind_that_was_not_declared_is_never_sent() {
    let toml = format!(
        r#"
[[channel]]
id = "writes-only"
driver = "{}"
[[channel.tag]]
name = "x"
address = "x"
type = "float64"
access = "rw"
"#,
        path("publishes").display()
    );
    let stage = Stage::start_in(Folder::new().unwrap(), &toml).await;
    let stage = stage.unwrap_or_else(|(_, error)| panic!("{error}"));
    stage.state(State::Running).await;
    let tag = stage.tag_id("x");
    let answer = stage.channel().read(vec![tag], PATIENCE).await;
    let refused = RequestError::NotSupported {
        channel: "writes-only".into(),
        kind: "read",
    };
    assert_eq!(answer, Err(refused));
    assert_eq!(stage.channel().status().counters.requests, 0);
}
