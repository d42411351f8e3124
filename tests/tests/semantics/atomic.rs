//! Actions take effect when the turn returns, in their order, or not at all.

use bulkhead::event::Quality;
use bulkhead::exit::ExitKind;
use serde_json::json;

use crate::peer::{OPEN, Peer};
use crate::stage::{Plan, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_half_way_through_a_turn_leaves_nothing() {
    let mut stage = Stage::start(Plan::default()).await;
    stage.must(&[stage.level(1)]).await;
    stage
        .fault(&[stage.level(2), json!("trap")], ExitKind::Trapped)
        .await;
    stage.event("started").await;
    stage.must(&[stage.level(3)]).await;
    stage.catch_up().await;
    assert_eq!(stage.levels(Quality::Good), [1, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_from_a_turn_ends_the_incarnation_as_a_trap_would() {
    let mut stage = Stage::start(Plan::default()).await;
    let sentence = stage
        .fault(
            &[
                stage.level(2),
                json!({ "fail": "the plant is upside down" }),
            ],
            ExitKind::DriverError,
        )
        .await;
    assert_eq!(sentence, "the plant is upside down");
    let started = stage.event("started").await;
    assert_eq!(started["reason"], "RestartAfterFault");
    stage.catch_up().await;
    assert!(stage.levels(Quality::Good).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actions_take_effect_in_their_order() {
    let peer = Peer::listen().await;
    let mut stage = Stage::start(Plan {
        rules: OPEN,
        keys: &peer.link(""),
        ..Plan::default()
    })
    .await;
    let mut call = peer.accept().await;
    stage.event("opened").await;
    let send = |text| json!({ "send": { "connection": 0, "text": text } });
    let mut steps = vec![send("a"), stage.level(1), send("b"), stage.level(2)];
    steps.extend([send("c"), stage.level(3)]);
    stage.must(&steps).await;
    call.expect("abc").await;
    stage.catch_up().await;
    assert_eq!(stage.levels(Quality::Good), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_that_this_host_does_not_support_is_declined_by_name_and_the_rest_is_done() {
    let peer = Peer::listen().await;
    let mut stage = Stage::start(Plan {
        rules: OPEN,
        keys: &peer.link(""),
        ..Plan::default()
    })
    .await;
    stage.event("opened").await;
    let publish = json!({ "tag": stage.tag("level"), "value": { "int": 9 }, "id": 4 });
    let about = |connection, batch| json!([connection, batch]);
    for (number, (step, action, about, remedy)) in [
        (
            json!({ "start-tls": 0 }),
            "StartTls",
            about(json!(0), json!(null)),
            "`start_tls = true`",
        ),
        (
            json!({ "metric": "speed" }),
            "Metric",
            about(json!(null), json!(null)),
            "metrics",
        ),
        (
            json!({ "publish": publish }),
            "Publish",
            about(json!(null), json!(4)),
            "without an id",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let number = i64::try_from(number).unwrap();
        stage.must(&[step, stage.level(number)]).await;
        let declined = stage.event("declined").await;
        let why = declined["why"].as_str().unwrap();
        assert_eq!(declined["action"], action, "{declined}");
        assert_eq!(
            json!([declined["connection"], declined["batch"]]),
            about,
            "{declined}"
        );
        assert!(why.contains(remedy), "{declined}");
    }
    stage.catch_up().await;
    assert_eq!(stage.levels(Quality::Good), [0, 1, 9, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_nothing_but_unsupported_actions_is_declined_once_for_each_kind() {
    let mut stage = Stage::start(Plan::default()).await;
    let metric = json!({ "repeat": { "times": 1000, "step": { "metric": "speed" } } });
    stage.must(&[metric]).await;
    stage.catch_up().await;
    assert_eq!(stage.told("declined").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_is_about_another_connection_or_batch_each_is_declined() {
    let peer = Peer::listen().await;
    let rules = r#"{ on = "started", do = [
        { open = { connection = 0, link = 0 } }, { open = { connection = 1, link = 0 } },
    ] },"#;
    let mut stage = Stage::start(Plan {
        rules,
        keys: &peer.link(""),
        ..Plan::default()
    })
    .await;
    stage.event("opened").await;
    stage.event("opened").await;
    let batch = |id: u64| {
        let publish = json!({ "tag": stage.tag("level"), "value": { "int": 9 }, "id": id });
        json!({ "publish": publish })
    };
    let steps = [
        json!({ "start-tls": 1 }),
        json!({ "start-tls": 0 }),
        json!({ "start-tls": 1 }),
        batch(7),
        batch(8),
        batch(7),
    ];
    stage.must(&steps).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        let declined = stage.event("declined").await;
        told.push(json!([
            declined["action"],
            declined["connection"],
            declined["batch"]
        ]));
    }
    assert_eq!(
        told,
        [
            json!(["StartTls", 1, null]),
            json!(["StartTls", 0, null]),
            json!(["Publish", null, 7]),
            json!(["Publish", null, 8]),
        ]
    );
    stage.catch_up().await;
    assert_eq!(stage.told("declined").len(), 4);
}
