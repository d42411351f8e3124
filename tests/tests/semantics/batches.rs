//! Events come in batches, in order; alone after a fault.

use std::time::Duration;

use bulkhead::channel::Ask;
use bulkhead::event::Value;
use bulkhead::exit::ExitKind;
use bulkhead::lifecycle::State;
use bulkhead_tests::PATIENCE;
use serde_json::{Value as Json, json};

use crate::stage::{Plan, Seen, Stage, events};

/// Puts so many writes into the mailbox at once. What nobody waits for is not sent, so the answers must be held.
#[must_use]
fn queue(stage: &Stage, count: usize) -> Vec<impl Sized + use<>> {
    let ask = |number: usize| Ask::Write {
        tag: stage.tag_id("label"),
        value: Value::Text(number.to_string().into()),
        read_back: false,
    };
    let submit = |number| stage.channel().submit(ask(number), PATIENCE).unwrap();
    (0..count).map(submit).collect()
}

/// Brings the channel to wait for its third life.
async fn fault_twice(stage: &mut Stage) {
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    stage.event("started").await;
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    stage.state(State::Backoff).await;
}

/// The next page.
async fn page(stage: &mut Stage) -> Json {
    stage
        .wait(|seen| match seen {
            Seen::Page(page) => Some(page.clone()),
            _ => None,
        })
        .await
}

fn requests(page: &Json) -> Vec<u64> {
    let writes = events(page).filter(|event| event["kind"] == "write");
    writes
        .map(|event| event["request"].as_u64().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_comes_in_one_turn_in_its_order_and_256_at_most() {
    let mut stage = Stage::start(Plan {
        // Enough for so many, whatever they cost.
        keys: "limits = { fuel_per_turn = 1_000_000_000 }",
        restart: r#"max_attempts = 1000, delay = "1h", max_delay = "1h""#,
        ..Plan::default()
    })
    .await;
    fault_twice(&mut stage).await;
    let _answers = queue(&stage, 600);
    stage.channel().restart().await.unwrap();
    let first = page(&mut stage).await;
    assert_eq!(events(&first).count(), 1, "`started` comes alone");
    let mut all = Vec::new();
    for expected in [256, 256, 88] {
        let page = page(&mut stage).await;
        assert_eq!(events(&page).count(), expected);
        all.extend(requests(&page));
    }
    assert!(all.is_sorted() && all.len() == 600, "{all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_under_suspicion_comes_alone_in_its_turn_until_it_was_lived_through() {
    // The tag `label`; of the two lives that fault, only the first does so by a write of it.
    let mut stage = Stage::start(Plan {
        rules: r#"{ on = "write", about = 3, life = 1, do = ["trap"] },"#,
        restart: r#"max_attempts = 1000, delay = "1h", max_delay = "1h""#,
        ..Plan::default()
    })
    .await;
    assert_eq!(stage.tag("label"), 3);
    let write = |stage: &Stage, text: &str| {
        let ask = Ask::Write {
            tag: stage.tag_id("label"),
            value: Value::Text(text.into()),
            read_back: false,
        };
        stage.channel().submit(ask, PATIENCE).unwrap()
    };
    let culprit = write(&stage, "culprit");
    assert_eq!(stage.exit().await.kind, ExitKind::Trapped);
    drop(culprit);
    stage.event("started").await;
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    stage.state(State::Backoff).await;
    let _answers = [100, 70, 10].map(|count| (queue(&stage, count), write(&stage, "culprit")));
    // Asked for by an operator, so it begins with whole batches.
    stage.channel().restart().await.unwrap();
    assert_eq!(events(&page(&mut stage).await).count(), 1, "`started`");
    let mut requests_seen = Vec::new();
    for expected in [100, 1, 70 + 1 + 10 + 1] {
        let page = page(&mut stage).await;
        assert_eq!(events(&page).count(), expected, "{page}");
        requests_seen.extend(requests(&page));
    }
    assert!(requests_seen.is_sorted(), "{requests_seen:?}");
    assert_eq!(requests_seen.len(), 183);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_fault_each_turn_has_one_event_until_the_channel_is_healthy_again() {
    let mut stage = Stage::start(Plan {
        restart: r#"max_attempts = 1000, delay = "100ms", jitter = 0, reset_after = "1s""#,
        ..Plan::default()
    })
    .await;
    fault_twice(&mut stage).await;
    let _answers = queue(&stage, 50);
    let first = page(&mut stage).await;
    assert_eq!(first["events"][0]["kind"], "started");
    let begun = first["now"].as_u64().unwrap();
    for _ in 0..50 {
        let page = page(&mut stage).await;
        assert_eq!(events(&page).count(), 1, "{page}");
    }
    // Well again: in time a batch has several events.
    loop {
        let _answers = queue(&stage, 50);
        let mut most = 0;
        let mut left = 50;
        let mut now = 0;
        while left > 0 {
            let page = page(&mut stage).await;
            now = page["now"].as_u64().unwrap();
            left -= requests(&page).len();
            most = most.max(events(&page).count());
            if now - begun < 1_000_000_000 {
                assert_eq!(events(&page).count(), 1, "{page}");
            }
        }
        if most > 1 {
            assert!(now - begun >= 1_000_000_000);
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_has_no_more_events_than_its_fuel_is_enough_for() {
    let mut stage = Stage::start(Plan {
        // A tenth of what 256 writes cost this driver.
        keys: "limits = { fuel_per_turn = 2_000_000 }",
        restart: r#"max_attempts = 1000, delay = "1h", max_delay = "1h""#,
        ..Plan::default()
    })
    .await;
    fault_twice(&mut stage).await;
    let _answers = queue(&stage, 600);
    stage.channel().restart().await.unwrap();
    let mut all = Vec::new();
    let mut most = 0;
    while all.len() < 600 {
        let page = page(&mut stage).await;
        most = most.max(events(&page).count());
        all.extend(requests(&page));
    }
    assert!(all.is_sorted() && all.len() == 600, "{all:?}");
    assert!((2..=64).contains(&most), "{most} in one turn");
    assert_eq!(stage.channel().status().state, State::Running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smaller_batch_is_the_operators_choice() {
    let mut stage = Stage::start(Plan {
        keys: "limits = { batch = 7 }",
        restart: r#"max_attempts = 1000, delay = "1h", max_delay = "1h""#,
        ..Plan::default()
    })
    .await;
    fault_twice(&mut stage).await;
    let _answers = queue(&stage, 20);
    stage.channel().restart().await.unwrap();
    for expected in [1, 7, 7, 6] {
        let page = page(&mut stage).await;
        assert_eq!(events(&page).count(), expected);
    }
}
