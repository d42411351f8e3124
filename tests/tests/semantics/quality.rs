//! Honest quality: bad at once when a link drops or a driver ends, good again only with a fresh sample.

use bulkhead::event::{Quality, Value};
use bulkhead::exit::ExitKind;
use bulkhead::lifecycle::State;
use bulkhead_tests::free_port;
use serde_json::json;

use crate::peer::{OPEN, Peer, link};
use crate::stage::{Plan, Seen, Stage};

/// The next sample of `level`.
async fn level(stage: &mut Stage) -> (Option<Value>, Quality) {
    stage
        .wait(|seen| match seen {
            Seen::Sample {
                tag,
                value,
                quality,
                ..
            } if tag == "level" => Some((value.clone(), *quality)),
            _ => None,
        })
        .await
}

fn int(value: i64) -> Option<Value> {
    Some(Value::Int(value))
}

/// The last line of the chain of reasons.
fn reason(stage: &Stage) -> String {
    let reasons = stage.channel().reasons(stage.tag_id("level"));
    reasons.last().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_drops_makes_its_tags_bad_at_once_until_a_fresh_sample() {
    let peer = Peer::listen().await;
    let port = peer.port();
    let mut stage = Stage::start(Plan {
        rules: OPEN,
        keys: &peer.link(""),
        ..Plan::default()
    })
    .await;
    let call = peer.accept().await;
    stage.event("opened").await;
    stage.must(&[stage.level(5)]).await;
    assert_eq!(level(&mut stage).await, (int(5), Quality::Good));

    drop((call, peer));
    assert_eq!(level(&mut stage).await, (int(5), Quality::BadNotConnected));
    assert!(
        reason(&stage).contains("link plc is down"),
        "{}",
        reason(&stage)
    );
    stage.state(State::Degraded).await;

    // Nothing is good while no link leads to it, whatever the driver says.
    stage.must(&[stage.level(6)]).await;
    assert_eq!(level(&mut stage).await, (int(5), Quality::BadNotConnected));

    let _peer = Peer::listen_on(port).await;
    stage.event("opened").await;
    stage.state(State::Running).await;
    let state = stage.channel().tags().state(stage.tag_id("level")).unwrap();
    assert_eq!(
        state.quality,
        Quality::BadNotConnected,
        "nothing was read yet"
    );
    stage.must(&[stage.level(7)]).await;
    assert_eq!(level(&mut stage).await, (int(7), Quality::Good));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_that_fails_makes_tags_bad_for_that_reason() {
    let mut stage = Stage::start(Plan {
        rules: OPEN,
        keys: &link(free_port(), ""),
        ..Plan::default()
    })
    .await;
    assert_eq!(level(&mut stage).await, (None, Quality::BadNotConnected));
    assert!(
        reason(&stage).contains("nobody listens there"),
        "{}",
        reason(&stage)
    );
    stage.state(State::Degraded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_denied_is_down_for_that_reason() {
    let peer = Peer::listen().await;
    let mut stage = Stage::start(Plan {
        rules: r#"{ on = "started", do = [{ open = { connection = 0, link = 0, target = "192.0.2.1:502" } }] },"#,
        keys: &peer.link(""),
        ..Plan::default()
    })
    .await;
    assert_eq!(level(&mut stage).await, (None, Quality::BadNotConnected));
    assert!(
        reason(&stage).contains("does not grant"),
        "{}",
        reason(&stage)
    );
    stage.state(State::Degraded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_makes_tags_stale_and_good_again_only_with_a_fresh_sample() {
    let mut stage = Stage::start(Plan::default()).await;
    stage.must(&[stage.level(5)]).await;
    assert_eq!(level(&mut stage).await, (int(5), Quality::Good));
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    assert_eq!(level(&mut stage).await, (int(5), Quality::BadStale));
    assert!(
        reason(&stage).contains("trapped in turn"),
        "{}",
        reason(&stage)
    );
    stage.event("started").await;
    stage.catch_up().await;
    let state = stage.channel().tags().state(stage.tag_id("level")).unwrap();
    assert_eq!(state.quality, Quality::BadStale);
    stage.must(&[stage.level(6)]).await;
    assert_eq!(level(&mut stage).await, (int(6), Quality::Good));

    stage.channel().stop().await.unwrap();
    assert_eq!(level(&mut stage).await, (int(6), Quality::BadOutOfService));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_device_is_down_its_tags_are_bad() {
    let mut stage = Stage::start(Plan::default()).await;
    stage.must(&[stage.level(5)]).await;
    assert_eq!(level(&mut stage).await, (int(5), Quality::Good));
    let device =
        |up: bool| json!({ "device-state": { "device": 0, "up": up, "why": "no answer" } });
    stage.must(&[device(false)]).await;
    assert_eq!(
        level(&mut stage).await,
        (int(5), Quality::BadNoCommunication)
    );
    assert!(
        reason(&stage).contains("device stage is down: no answer"),
        "{}",
        reason(&stage)
    );
    stage.must(&[stage.level(6)]).await;
    assert_eq!(
        level(&mut stage).await,
        (int(5), Quality::BadNoCommunication)
    );
    stage.must(&[device(true), stage.level(7)]).await;
    assert_eq!(level(&mut stage).await, (int(7), Quality::Good));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_sample_keeps_the_last_value_under_its_bad_quality() {
    let mut stage = Stage::start(Plan::default()).await;
    let bad = json!({ "publish": { "tag": stage.tag("level"), "quality": "bad-timeout" } });
    stage.must(&[stage.level(5), bad]).await;
    assert_eq!(level(&mut stage).await, (int(5), Quality::Good));
    assert_eq!(level(&mut stage).await, (int(5), Quality::BadTimeout));
}
