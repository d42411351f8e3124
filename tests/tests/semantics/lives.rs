//! How incarnations begin.

use bulkhead::channel::RequestError;
use bulkhead::exit::ExitKind;
use bulkhead::lifecycle::State;
use bulkhead::supervisor::StartError;
use bulkhead_tests::{Folder, PATIENCE};
use serde_json::json;

use crate::stage::{Plan, Stage, path};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn started_comes_once_with_its_reason_and_incarnation_numbers_ascend() {
    // That it is the first event and comes once is looked after by the stage, for every turn of every test.
    let mut stage = Stage::start(Plan::default()).await;
    let told = |event: &serde_json::Value| {
        let number = event["incarnation"].as_u64().unwrap();
        (number, event["reason"].as_str().unwrap().to_owned())
    };
    assert_eq!(told(&stage.told("started")[0]), (1, "First".into()));

    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    assert_eq!(
        told(&stage.event("started").await),
        (2, "RestartAfterFault".into())
    );

    stage.state(State::Running).await;
    stage.channel().restart().await.unwrap();
    assert_eq!(
        told(&stage.event("started").await),
        (3, "ManualRestart".into())
    );

    stage.state(State::Running).await;
    stage.channel().stop().await.unwrap();
    stage.state(State::Stopped).await;
    stage.channel().start().await.unwrap();
    assert_eq!(
        told(&stage.event("started").await),
        (4, "ManualRestart".into())
    );

    let mut stage = stage.start_again(Plan::default()).await;
    assert_eq!(
        told(&stage.event("started").await),
        (5, "HostRestart".into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_faults_while_it_restarts_by_hand_still_restarts_by_hand() {
    let mut stage = Stage::start(Plan {
        rules: r#"{ on = "stop", do = ["trap"] },"#,
        ..Plan::default()
    })
    .await;
    stage.state(State::Running).await;
    stage.channel().restart().await.unwrap();
    assert_eq!(stage.exit().await.kind, ExitKind::Trapped);
    let started = stage.event("started").await;
    assert_eq!(started["reason"], "ManualRestart");
    assert_eq!(
        stage.channel().status().attempts,
        0,
        "that is no fault to make up for"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_the_driver_refuses_keeps_the_host_from_starting_and_all_faults_are_told()
 {
    let toml = format!(
        r#"
[[channel]]
id = "stage"
driver = "{}"
settings = {{ faults = [["tag level.address", "is no register"], ["settings.speed", "is too high"]] }}
[[channel.tag]]
name = "level"
address = "level"
type = "int32"
"#,
        path("puppet").display()
    );
    let Err((_, StartError::Config(faults))) = Stage::start_in(Folder::new().unwrap(), &toml).await
    else {
        panic!("it starts, or fails for another reason");
    };
    let all: Vec<(u32, &str)> = faults
        .faults
        .iter()
        .map(|fault| (fault.position.line, fault.message.as_str()))
        .collect();
    assert_eq!(all, [(5, "is too high"), (8, "is no register")], "{faults}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_traps_in_every_first_turn_breaks_its_channel_and_no_request_hangs() {
    let toml_rules = r#"{ on = "started", do = ["trap"] },"#;
    let plan = Plan {
        rules: toml_rules,
        restart: r#"max_attempts = 3, delay = "0s", jitter = 0"#,
        ..Plan::default()
    };
    let stage = Stage::start_in(Folder::new().unwrap(), &plan.toml()).await;
    let mut stage = stage.unwrap_or_else(|(_, error)| panic!("{error}"));
    for _ in 0..4 {
        assert_eq!(stage.exit().await.kind, ExitKind::Trapped);
    }
    stage.state(State::Broken).await;
    let status = stage.channel().status();
    assert_eq!((status.incarnation, status.attempts), (4, 3));
    let label = stage.tag_id("label");
    let answer = stage.channel().read(vec![label], PATIENCE).await;
    assert!(
        matches!(answer, Err(RequestError::NotRunning { .. })),
        "{answer:?}"
    );
}
