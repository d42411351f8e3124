//! `save-state`: durable before what stands after it leaves, and there again in every later life.

use bulkhead::exit::ExitKind;
use bulkhead_tests::Folder;
use serde_json::{Value as Json, json};

use crate::peer::Peer;
use crate::stage::{Plan, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_state_comes_with_started_over_restarts_of_driver_and_host() {
    let mut stage = Stage::start(Plan::default()).await;
    assert_eq!(stage.told("started")[0]["state"], Json::Null);
    stage
        .must(&[
            json!({ "save-state": "one" }),
            json!({ "save-state": "two" }),
        ])
        .await;
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    assert_eq!(stage.event("started").await["state"], "two");

    let mut stage = stage.start_again(Plan::default()).await;
    let started = stage.event("started").await;
    assert_eq!(
        (&started["state"], &started["incarnation"]),
        (&json!("two"), &json!(3))
    );
    // What a turn that failed would have saved is not kept.
    stage
        .fault(
            &[json!({ "save-state": "three" }), json!("trap")],
            ExitKind::Trapped,
        )
        .await;
    assert_eq!(stage.event("started").await["state"], "two");
    let refused = [json!({ "save-state": "four" }), json!({ "close": 7 })];
    stage.fault(&refused, ExitKind::Refused).await;
    assert_eq!(stage.event("started").await["state"], "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_state_is_durable_before_later_sends_of_the_same_turn_leave() {
    let peer = Peer::listen().await;
    let plan = Plan {
        rules: r#"
            { on = "started", life = 1, do = [{ open = { connection = 0, link = 0 } }] },
            { on = "opened", do = [
                { save-state-of = { bytes = 1048576 } },
                { send = { connection = 0, text = "saved" } },
            ] },"#,
        keys: &peer.link(""),
        ..Plan::default()
    };
    // A process of its own, which is killed as soon as the bytes are here.
    let folder = Folder::new().unwrap();
    folder.write_config(&plan.toml()).unwrap();
    let running = folder.start(&["run", Folder::CONFIG]).unwrap();
    let mut call = peer.accept().await;
    call.expect("saved").await;
    drop(running);

    let mut stage = Stage::start_in(folder, &plan.toml())
        .await
        .unwrap_or_else(|(_, error)| panic!("{error}"));
    let started = stage.event("started").await;
    assert_eq!(started["state_bytes"], 1024 * 1024);
    assert!(started["incarnation"].as_u64().unwrap() > 1, "{started}");
    assert_eq!(started["reason"], "HostRestart");
}
