//! Connections: what fails at run time comes back as an event; what outlives a restart, and what does not.

use bulkhead::exit::ExitKind;
use bulkhead::lifecycle::State;
use bulkhead_tests::free_port;
use serde_json::{Value as Json, json};
use tokio::io::AsyncWriteExt;

use crate::peer::{OPEN, Peer, link};
use crate::stage::{Plan, Stage};

/// Life after life is asked for by the test, not by the clock.
const BY_HAND: &str = r#"max_attempts = 1000, delay = "1h", max_delay = "1h", jitter = 0"#;

async fn stage(keys: &str) -> Stage {
    Stage::start(Plan {
        rules: OPEN,
        keys,
        ..Plan::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_dial_comes_back_as_closed_and_is_tried_again() {
    let port = free_port();
    let mut stage = stage(&link(port, "")).await;
    let closed = stage.event("closed").await;
    assert_eq!(
        (&closed["reason"], &closed["outlook"]),
        (&json!("Refused"), &json!("Redialling"))
    );
    let _peer = Peer::listen_on(port).await;
    let opened = stage.event("opened").await;
    assert_eq!(opened["connection"], 0);
    assert_eq!(
        stage.told("closed").len(),
        1,
        "failed dials in a row are told once"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_not_granted_comes_back_as_closed_for_good() {
    let peer = Peer::listen().await;
    let mut stage = Stage::start(Plan {
        keys: &peer.link(""),
        ..Plan::default()
    })
    .await;
    let open = json!({ "connection": 3, "link": 0, "target": "192.0.2.1:502" });
    stage.must(&[json!({ "open": open })]).await;
    let closed = stage.event("closed").await;
    assert_eq!(
        (&closed["connection"], &closed["reason"], &closed["outlook"]),
        (&json!(3), &json!("Denied"), &json!("Ended"))
    );
    let detail = stage.channel().status().links[0].detail.clone();
    assert!(detail.contains("does not grant"), "{detail}");
    // Its id is dead: what is sent to it is dropped, and it is not used again.
    stage
        .must(&[json!({ "send": { "connection": 3, "count": 1 } })])
        .await;
    let again = json!({ "open": { "connection": 3, "link": 0 } });
    stage.fault(&[again], ExitKind::Refused).await;
    assert!(peer.is_idle().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_reset_when_the_driver_restarts() {
    let peer = Peer::listen().await;
    let mut stage = stage(&peer.link("")).await;
    let first = peer.accept().await;
    stage.event("opened").await;
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    let started = stage.event("started").await;
    assert_eq!(started["connections"], json!([]));
    first.ended().await;
    let mut second = peer.accept().await;
    stage.event("opened").await;
    stage
        .must(&[json!({ "send": { "connection": 0, "text": "new" } })])
        .await;
    second.expect("new").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_with_on_restart_keep_keeps_its_connections_and_started_lists_them() {
    let peer = Peer::listen().await;
    let mut stage = stage_of_second_lives(&peer).await;
    let mut call = peer.accept().await;
    let opened = stage.event("opened").await;
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    let started = stage.event("started").await;
    assert_eq!(
        started["connections"],
        json!([{
            "id": 0,
            "link": 0,
            "target": null,
            "secured": false,
            "window": opened["window"],
        }])
    );
    stage
        .must(&[json!({ "send": { "connection": 0, "text": "same" } })])
        .await;
    call.expect("same").await;
    call.send("heard").await;
    assert_eq!(stage.event("received").await["text"], "heard");
    assert!(peer.is_idle().await, "nobody has dialled again");
    // The next id goes on after those that were kept.
    let again = json!({ "open": { "connection": 0, "link": 0 } });
    stage.fault(&[again], ExitKind::Refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_connection_tells_where_it_was_opened_to() {
    let peer = Peer::listen().await;
    let target = format!("127.0.0.1:{}", peer.port());
    let rules = format!(
        r#"{{ on = "started", life = 1, do = [
            {{ open = {{ connection = 0, link = 0 }} }},
            {{ open = {{ connection = 1, link = 0, target = "{target}" }} }},
        ] }},"#
    );
    let mut stage = Stage::start(Plan {
        rules: &rules,
        keys: &peer.link(&format!(r#", on_restart = "keep", dial = ["{target}"]"#)),
        restart: BY_HAND,
        ..Plan::default()
    })
    .await;
    let _calls = (peer.accept().await, peer.accept().await);
    stage.event("opened").await;
    stage.event("opened").await;
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    let started = stage.event("started").await;
    let kept = started["connections"].as_array().unwrap();
    let places: Vec<_> = kept
        .iter()
        .map(|kept| (&kept["id"], &kept["target"]))
        .collect();
    assert_eq!(
        places,
        [(&json!(0), &json!(null)), (&json!(1), &json!(target))]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_that_are_spent_are_told_and_an_operator_brings_another() {
    let port = free_port();
    let mut stage = stage(&link(port, ", max_attempts = 1")).await;
    let told = |closed: Json| (closed["reason"].clone(), closed["outlook"].clone());
    let refused = |outlook: &str| (json!("Refused"), json!(outlook));
    assert_eq!(told(stage.event("closed").await), refused("Redialling"));
    assert_eq!(told(stage.event("closed").await), refused("GivenUp"));
    let reconnect = |stage: &Stage| assert_eq!(stage.channel().journals()[0].reconnect(), 1);
    reconnect(&stage);
    // It has its attempts again.
    assert_eq!(told(stage.event("closed").await), refused("Redialling"));
    assert_eq!(told(stage.event("closed").await), refused("GivenUp"));
    let peer = Peer::listen_on(port).await;
    reconnect(&stage);
    stage.event("opened").await;
    let _call = peer.accept().await;
    reconnect(&stage);
    assert_eq!(
        told(stage.event("closed").await),
        (json!("ByOperator"), json!("Redialling"))
    );
    stage.event("opened").await;
}

/// Opens its connection in its first life only, over a link that keeps it; further lives are begun by the test.
async fn stage_of_second_lives(peer: &Peer) -> Stage {
    Stage::start(Plan {
        rules: r#"{ on = "started", life = 1, do = [{ open = { connection = 0, link = 0 } }] },"#,
        keys: &peer.link(r#", on_restart = "keep""#),
        restart: BY_HAND,
        ..Plan::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_were_not_delivered_die_with_the_incarnation() {
    let peer = Peer::listen().await;
    let mut stage = stage_of_second_lives(&peer).await;
    let mut call = peer.accept().await;
    stage.event("opened").await;
    // The first fault is followed by a life at once, the second by an hour of waiting.
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    stage.event("started").await;
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    stage.state(State::Backoff).await;
    call.send("old").await;
    call.is_read().await;
    stage.channel().restart().await.unwrap();
    let started = stage.event("started").await;
    assert_eq!(started["connections"][0]["id"], 0);
    call.send("new").await;
    assert_eq!(stage.event("received").await["text"], "new");
    assert!(peer.is_idle().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_die_with_the_incarnation() {
    let mut stage = Stage::start(Plan::default()).await;
    let timer = |timer, after_ms| json!({ "set-timer": { "timer": timer, "after_ms": after_ms } });
    stage.must(&[timer(1, 50), timer(2, 3_600_000)]).await;
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    stage.event("started").await;
    stage.must(&[timer(3, 100)]).await;
    // That of the first life would have come before.
    assert_eq!(stage.event("timer").await["timer"], 3);
    assert_eq!(stage.told("timer").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_comes_once_never_early_and_is_moved_or_cancelled() {
    let mut stage = Stage::start(Plan::default()).await;
    let timer = |timer, after_ms| json!({ "set-timer": { "timer": timer, "after_ms": after_ms } });
    let steps = [
        timer(1, 3_600_000),
        timer(2, 1),
        timer(3, 5),
        timer(1, 20),
        json!({ "cancel-timer": 2 }),
        json!({ "cancel-timer": 99 }),
    ];
    stage.must(&steps).await;
    let (page, _) = stage.page("write").await;
    let set_at = page["now"].as_u64().unwrap();
    for (timer, after_ms) in [(3, 5), (1, 20)] {
        let rung = stage.event("timer").await;
        assert_eq!(rung["timer"], timer);
        assert!(rung["at"].as_u64().unwrap() >= set_at + after_ms * 1_000_000);
    }
    stage.catch_up().await;
    assert_eq!(stage.told("timer").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_drops_the_stream_and_redials_and_a_close_ends_it_after_what_was_sent() {
    let peer = Peer::listen().await;
    let mut stage = stage(&peer.link("")).await;
    let first = peer.accept().await;
    stage.event("opened").await;
    stage.must(&[json!({ "reset": 0 })]).await;
    let closed = stage.event("closed").await;
    assert_eq!(
        (&closed["reason"], &closed["outlook"]),
        (&json!("Requested"), &json!("Redialling"))
    );
    first.ended().await;
    stage.event("opened").await;
    let second = peer.accept().await;
    let send = json!({ "send": { "connection": 0, "count": 200_000 } });
    stage.must(&[send, json!({ "close": 0 })]).await;
    assert_eq!(second.ended().await, 200_000);
    let closed = stage.event("closed").await;
    assert_eq!(
        (&closed["reason"], &closed["outlook"]),
        (&json!("Requested"), &json!("Ended"))
    );
    assert!(peer.is_idle().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_is_credited_by_at_least_half_of_the_window() {
    let peer = Peer::listen().await;
    let mut stage = stage(&peer.link("")).await;
    let call = peer.accept().await;
    let window = stage.event("opened").await["window"].as_u64().unwrap();
    let send = |count: u64| json!({ "send": { "connection": 0, "count": count } });
    stage.must(&[send(window / 2 - 1)]).await;
    stage.must(&[send(window / 2 + 1)]).await;
    let credited = stage.event("sent").await["bytes"].as_u64().unwrap();
    assert!((window / 2..=window).contains(&credited), "{credited}");
    stage.must(&[send(credited)]).await;
    stage.must(&[json!({ "close": 0 })]).await;
    assert_eq!(call.ended().await as u64, window + credited);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_connection_hears_nothing_until_it_is_resumed() {
    let peer = Peer::listen().await;
    let mut stage = stage(&peer.link("")).await;
    let mut call = peer.accept().await;
    stage.event("opened").await;
    let pause = |on: bool| json!({ "pause": { "connection": 0, "on": on } });
    stage.must(&[pause(true)]).await;
    stage.catch_up().await;
    call.send("hello").await;
    call.is_unread().await;
    stage.catch_up().await;
    assert_eq!(stage.told("received").len(), 0);
    stage.must(&[pause(false)]).await;
    assert_eq!(stage.event("received").await["text"], "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_is_slow_is_felt_by_the_peer() {
    let peer = Peer::listen().await;
    let mut stage = Stage::start(Plan {
        rules: r#"{ on = "started", life = 1, do = [{ open = { connection = 0, link = 0 } }] },"#,
        keys: &format!(
            "{}\nlimits = {{ mailbox = 16 }}",
            peer.link(r#", on_restart = "keep""#)
        ),
        restart: BY_HAND,
        ..Plan::default()
    })
    .await;
    let call = peer.accept().await;
    stage.event("opened").await;
    for _ in 0..2 {
        stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    }
    stage.state(State::Backoff).await;
    // Nobody takes turns: the mailbox fills up, then the system's buffers, and then the peer waits.
    let mut stream = call.into_stream();
    let chunk = vec![b'.'; 64 * 1024];
    let mut written = 0usize;
    // A pause that is none of the host's making ends the loop too early, which proves less, but fails nothing.
    while let Ok(wrote) =
        tokio::time::timeout(std::time::Duration::from_millis(200), stream.write(&chunk)).await
    {
        written += wrote.unwrap();
        assert!(written < 1 << 30, "the host takes without end");
    }
}
