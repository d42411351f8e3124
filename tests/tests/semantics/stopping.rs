//! How incarnations end in order.

use std::time::Duration;

use bulkhead::channel::RequestError;
use bulkhead::exit::ExitKind;
use bulkhead::lifecycle::State;
use bulkhead_tests::PATIENCE;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio_util::task::TaskTracker;

use crate::peer::{OPEN, Peer};
use crate::stage::{Plan, Seen, Stage, WRITER};

/// Long enough for a driver that answers, short enough for a test of one that does not.
const GRACE: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_is_told_when_it_must_have_stopped_and_says_that_it_has() {
    let mut stage = Stage::start(Plan::default()).await;
    stage.state(State::Running).await;
    let asked_at = stage.host().clock().monotonic().0;
    stage.channel().stop().await.unwrap();
    let stop = stage.event("stop").await;
    assert!(stop["deadline"].as_u64().unwrap() > asked_at, "{stop}");
    assert_eq!(stop["reason"], "Stopped");
    stage.state(State::Stopped).await;
    let reason = stage.channel().status().reason;
    assert!(reason.contains("stopped when asked"), "{reason}");
    assert_eq!(stage.channel().status().last_exit, None, "that is no fault");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_is_told_why_it_is_to_stop() {
    let mut stage = Stage::start(Plan::default()).await;
    stage.state(State::Running).await;
    stage.channel().restart().await.unwrap();
    assert_eq!(stage.event("stop").await["reason"], "Restarting");
    stage.event("started").await;
    stage.state(State::Running).await;
    let other = Plan {
        restart: r#"max_attempts = 999, delay = "0s", jitter = 0"#,
        ..Plan::default()
    };
    stage.reload(&other.toml()).await.unwrap();
    assert_eq!(stage.event("stop").await["reason"], "Reconfigured");
    assert_eq!(stage.event("started").await["features"], json!([]));
    stage.state(State::Running).await;
    stage.host().stop(GRACE).await;
    assert_eq!(stage.event("stop").await["reason"], "HostStopping");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_never_answers_a_stop_is_dropped_at_the_deadline() {
    let stage = Stage::start(Plan {
        rules: r#"{ on = "stop", do = [] },"#,
        ..Plan::default()
    })
    .await;
    stage.state(State::Running).await;
    let asked_at = stage.host().clock().monotonic();
    stage.host().stop(GRACE).await;
    let took = stage.host().clock().monotonic().since(asked_at);
    let status = stage.channel().status();
    assert_eq!(status.state, State::Stopped);
    assert!(
        status.reason.contains("did not stop in time"),
        "{}",
        status.reason
    );
    assert!(took >= GRACE, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_always_has_something_to_do_is_dropped_at_the_deadline_too() {
    let peer = Peer::listen().await;
    let rules = format!(
        r#"{OPEN} {{ on = "stop", do = [] }},
           {{ on = "received", do = [{{ repeat = {{ times = 100, step = {{ cancel-timer = 1 }} }} }}] }},"#
    );
    let mut stage = Stage::start(Plan {
        rules: &rules,
        keys: &format!(
            "{}\nlimits = {{ fuel_per_turn = 10_000_000_000, turn_deadline = \"60s\" }}",
            peer.link("")
        ),
        ..Plan::default()
    })
    .await;
    let mut stream = peer.accept().await.into_stream();
    let flood = TaskTracker::new()
        .spawn(async move { while stream.write_all(&[b'.'; 64 * 1024]).await.is_ok() {} });
    for _ in 0..3 {
        stage.event("received").await;
    }
    stage.host().stop(GRACE).await;
    assert_eq!(stage.channel().status().state, State::Stopped);
    // The stream ended with the connection.
    tokio::time::timeout(PATIENCE, flood)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_stop_no_poll_read_or_write_comes() {
    let mut stage = Stage::start(Plan {
        rules: r#"
            { on = "stop", do = [{ set-timer = { timer = 1, after_ms = 150 } }] },
            { on = "timer", do = ["stopped"] },"#,
        tables: r#"
[[channel.group]]
name = "fast"
device = "stage"
period = "10ms"
tags = [{ name = "beat", address = "beat", type = "int32", access = "rw" }]
"#,
        ..Plan::default()
    })
    .await;
    stage.event("poll").await;
    stage.channel().stop().await.unwrap();
    stage.event("stop").await;
    let beat = stage.tag_id("beat");
    let read = stage.channel().read(vec![beat], PATIENCE).await;
    assert!(
        matches!(read, Err(RequestError::NotRunning { .. })),
        "{read:?}"
    );
    let value = bulkhead::event::Value::Int(1);
    let write = stage
        .channel()
        .write(beat, value, false, PATIENCE, WRITER)
        .await;
    assert!(
        matches!(write, Err(RequestError::NotRunning { .. })),
        "{write:?}"
    );
    stage.event("timer").await;
    stage.state(State::Stopped).await;
    let after_stop = stage
        .seen
        .iter()
        .filter_map(|seen| match seen {
            Seen::Page(page) => Some(page.to_string()),
            _ => None,
        })
        .skip_while(|page| !page.contains(r#""kind":"stop""#));
    let told: String = after_stop.collect();
    for kind in ["poll", "read", "write"] {
        let after = told.split_once(r#""kind":"stop""#).unwrap().1;
        assert!(!after.contains(&format!(r#""kind":"{kind}""#)), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_says_stopped_by_itself_has_finished() {
    let mut stage = Stage::start(Plan {
        restart: r#"mode = "transient""#,
        ..Plan::default()
    })
    .await;
    // What stands before it is done.
    stage.must(&[stage.level(7), json!("stopped")]).await;
    let exit = stage.exit().await;
    assert_eq!(exit.kind, ExitKind::Finished);
    stage.state(State::Stopped).await;
    assert_eq!(stage.levels(bulkhead::event::Quality::Good), [7]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_before_stopped_leaves() {
    let peer = Peer::listen().await;
    let rules = format!(
        r#"{OPEN} {{ on = "stop", do = [{{ send = {{ connection = 0, count = 200000 }} }}, "stopped"] }},"#
    );
    let mut stage = Stage::start(Plan {
        rules: &rules,
        keys: &peer.link(""),
        ..Plan::default()
    })
    .await;
    let call = peer.accept().await;
    stage.event("opened").await;
    stage.state(State::Running).await;
    stage.channel().stop().await.unwrap();
    assert_eq!(call.ended().await, 200_000);
}
