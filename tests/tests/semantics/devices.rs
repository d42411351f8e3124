//! Devices that keep silent: left out of polls, probed, and polled with the others again as soon as they or their link are back.

use bulkhead::channel::DeviceStanding;
use bulkhead::event::Quality;
use serde_json::{Value as Json, json};

use crate::peer::{OPEN, Peer};
use crate::stage::{Plan, Stage};

/// A group of tags of two devices, and one of the first alone.
const GROUPS: &str = r#"
[[channel.group]]
name = "both"
period = "20ms"
tags = [
    { name = "one", device = "stage", address = "one", type = "int32" },
    { name = "two", device = "desk", address = "two", type = "int32" },
]
[[channel.group]]
name = "alone"
period = "20ms"
tags = [{ name = "three", device = "stage", address = "three", type = "int32" }]
"#;

const DEMOTION: &str = r#"demotion = { after = 2, delay = "1h", max_delay = "1h" }"#;

fn device(up: bool) -> Json {
    json!({ "device-state": { "device": 0, "up": up, "why": "no answer" } })
}

async fn demoted(stage: &mut Stage) {
    stage.must(&[device(false)]).await;
    let is_demoted = |standing: &DeviceStanding| matches!(standing, DeviceStanding::Demoted { .. });
    stage
        .status(|status| is_demoted(&status.devices[0].standing))
        .await;
}

/// The next poll of a group.
async fn poll(stage: &mut Stage, group: u32) -> Json {
    loop {
        let poll = stage.event("poll").await;
        if poll["group"] == group {
            return poll;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_device_is_left_out_of_polls_and_a_poll_of_it_alone_is_not_handed_out() {
    let mut stage = Stage::start(Plan {
        keys: DEMOTION,
        tables: GROUPS,
        ..Plan::default()
    })
    .await;
    assert_eq!(poll(&mut stage, 0).await["skip"], json!([]));
    assert_eq!(poll(&mut stage, 1).await["skip"], json!([]));
    demoted(&mut stage).await;
    stage.catch_up().await;
    let alone = |stage: &Stage| {
        let polls = stage.told_where(|event| event["kind"] == "poll" && event["group"] == 1);
        polls.len()
    };
    let before = alone(&stage);
    for _ in 0..5 {
        assert_eq!(poll(&mut stage, 0).await["skip"], json!([0]));
    }
    assert_eq!(alone(&stage), before);

    // Whatever makes the driver say so: it is back.
    stage.must(&[device(true)]).await;
    stage
        .status(|status| status.devices[0].standing == DeviceStanding::Polled)
        .await;
    stage.catch_up().await;
    assert_eq!(poll(&mut stage, 1).await["skip"], json!([]));
    assert_eq!(poll(&mut stage, 0).await["skip"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_comes_up_gives_each_device_behind_it_all_its_chances_again() {
    let peer = Peer::listen().await;
    let mut stage = Stage::start(Plan {
        rules: OPEN,
        keys: &format!("{}\n{DEMOTION}", peer.link("")),
        tables: GROUPS,
        ..Plan::default()
    })
    .await;
    let call = peer.accept().await;
    stage.event("opened").await;
    demoted(&mut stage).await;
    stage.catch_up().await;
    drop(call);
    let _call = peer.accept().await;
    stage.event("opened").await;
    assert_eq!(poll(&mut stage, 1).await["skip"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_good_of_a_locked_device_whatever_its_driver_says() {
    let mut stage = Stage::start(Plan {
        tables: GROUPS,
        ..Plan::default()
    })
    .await;
    // Answered before what follows in its turn is done.
    stage.must(&[stage.level(5)]).await;
    stage.catch_up().await;
    let quality = |stage: &Stage| {
        let state = stage.channel().tags().state(stage.tag_id("level"));
        state.unwrap().quality
    };
    assert_eq!(quality(&stage), Quality::Good);
    assert!(stage.channel().lock_device("stage", "").await.unwrap());
    stage.catch_up().await;
    assert_eq!(quality(&stage), Quality::BadOutOfService);
    stage.must(&[stage.level(6)]).await;
    stage.catch_up().await;
    assert_eq!(quality(&stage), Quality::BadOutOfService);
    assert!(!stage.channel().lock_device("nobody", "").await.unwrap());
    assert!(stage.channel().unlock_device("stage").await.unwrap());
    stage.catch_up().await;
    assert_eq!(
        quality(&stage),
        Quality::BadOutOfService,
        "nothing was read yet"
    );
    stage.must(&[stage.level(7)]).await;
    stage.catch_up().await;
    assert_eq!(quality(&stage), Quality::Good);
}
