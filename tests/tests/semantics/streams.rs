//! The life of one stream: its events in their order, its pieces, its ends.

use std::time::Duration;

use bulkhead::channel::ChannelStatus;
use bulkhead::lifecycle::State;
use serde_json::{Value as Json, json};
use socket2::SockRef;

use crate::peer::{OPEN, Peer, link};
use crate::stage::{Plan, Stage};

async fn stage(keys: &str) -> Stage {
    Stage::start(Plan {
        rules: OPEN,
        keys,
        ..Plan::default()
    })
    .await
}

/// What the puppet was told of connections, in its order.
fn told(stage: &Stage) -> Vec<Json> {
    stage.told_where(|event| event["connection"] == 0)
}

fn number(event: &Json, key: &str) -> usize {
    usize::try_from(event[key].as_u64().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_connection_come_in_their_order_in_pieces_of_64_kib_at_most() {
    const WORDS: usize = 60_000;
    let peer = Peer::listen().await;
    let mut stage = stage(&peer.link("")).await;
    let mut call = peer.accept().await;
    // Eight digits each that say where they stand.
    let text: String = (0..WORDS).map(|at| format!("{:08}", at * 8)).collect();
    call.send(&text).await;
    drop(call);
    let mut again = peer.accept().await;
    again.send("new").await;
    while stage.event("received").await["text"] != "new" {}

    let told = told(&stage);
    let kinds: Vec<&str> = told
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect();
    let pieces = kinds.len() - 4;
    assert!(pieces > WORDS * 8 / 65_536, "{kinds:?}");
    assert_eq!(kinds[0], "opened");
    assert!(kinds[1..=pieces].iter().all(|kind| *kind == "received"));
    assert_eq!(kinds[pieces + 1..], ["closed", "opened", "received"]);
    let closed = &told[pieces + 1];
    assert_eq!(
        (&closed["reason"], &closed["outlook"]),
        (&json!("ByPeer"), &json!("Redialling"))
    );
    let mut at = 0;
    for piece in &told[1..=pieces] {
        let bytes = number(piece, "bytes");
        assert!((1..=64 * 1024).contains(&bytes), "{piece}");
        let expected = &text[at..text.len().min(at + 64.min(bytes))];
        assert_eq!(piece["text"], expected, "at {at}");
        at += bytes;
    }
    assert_eq!(at, text.len(), "lost or repeated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_has_its_reason() {
    let peer = Peer::listen().await;
    let mut stage = stage(&peer.link("")).await;
    let end = |closed: Json| {
        let word = |key: &str| closed[key].as_str().unwrap().to_owned();
        (word("reason"), word("outlook"))
    };
    let call = peer.accept().await;
    stage.event("opened").await;
    drop(call);
    assert_eq!(
        end(stage.event("closed").await),
        ("ByPeer".into(), "Redialling".into())
    );

    let call = peer.accept().await.into_stream();
    stage.event("opened").await;
    // Without the end in order: RST instead of FIN.
    SockRef::from(&call)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(call);
    assert_eq!(
        end(stage.event("closed").await),
        ("Reset".into(), "Redialling".into())
    );
    let port = peer.port();
    stage.event("opened").await;
    drop(peer);
    stage.event("closed").await;
    // What waited in the listener's queue is gone with it; now nobody listens.
    let refused = |status: &ChannelStatus| status.links[0].detail.contains("nobody listens");
    stage.status(refused).await;
    let _peer = Peer::listen_on(port).await;
    stage.event("opened").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_name_is_unreachable_and_tried_again() {
    let keys = link(502, "").replace("127.0.0.1", "no-such-device.invalid");
    let mut stage = stage(&keys).await;
    let closed = stage.event("closed").await;
    assert_eq!(
        (&closed["reason"], &closed["outlook"]),
        (&json!("Unreachable"), &json!("Redialling"))
    );
    stage.state(State::Degraded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_for_a_connection_that_went_down_are_dropped() {
    let peer = Peer::listen().await;
    let rules = format!(
        r#"{OPEN}
        {{ on = "closed", do = [{{ send = {{ connection = 0, text = "lost" }} }}] }},
        {{ on = "opened", nth = 2, do = [{{ send = {{ connection = 0, text = "kept" }} }}] }},"#
    );
    let mut stage = Stage::start(Plan {
        rules: &rules,
        keys: &peer.link(""),
        ..Plan::default()
    })
    .await;
    let call = peer.accept().await;
    stage.event("opened").await;
    drop(call);
    let mut again = peer.accept().await;
    again.expect("kept").await;
    stage.must(&[json!({ "close": 0 })]).await;
    assert_eq!(again.ended().await, 0, "and nothing else");
    assert_eq!(stage.told("started").len(), 1, "that is no fault");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_close_nothing_more_is_received_and_the_id_is_dead() {
    let peer = Peer::listen().await;
    let mut stage = stage(&peer.link("")).await;
    let mut call = peer.accept().await;
    stage.event("opened").await;
    // In one turn: what arrives from now on is for nobody.
    stage
        .must(&[json!({ "pause": { "connection": 0, "on": true } })])
        .await;
    stage.catch_up().await;
    call.send("unheard").await;
    call.is_unread().await;
    stage
        .must(&[
            json!({ "pause": { "connection": 0, "on": false } }),
            json!({ "close": 0 }),
        ])
        .await;
    let closed = stage.event("closed").await;
    assert_eq!(closed["outlook"], "Ended", "{closed}");
    call.ended().await;
    stage.catch_up().await;
    assert_eq!(stage.told("received").len(), 0);
    // A new one may be opened, under the next id.
    stage
        .must(&[json!({ "open": { "connection": 1, "link": 0 } })])
        .await;
    let opened = stage.event("opened").await;
    assert_eq!(opened["connection"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_may_carry_several_connections_and_its_own_address_may_be_named() {
    let peer = Peer::listen().await;
    let mut stage = stage(&peer.link("")).await;
    let mut first = peer.accept().await;
    stage.event("opened").await;
    let target = format!("127.0.0.1:{}", peer.port());
    let open = json!({ "connection": 7, "link": 0, "target": target });
    stage.must(&[json!({ "open": open })]).await;
    let mut second = peer.accept().await;
    assert_eq!(stage.event("opened").await["connection"], 7);
    let send =
        |connection: u32, text| json!({ "send": { "connection": connection, "text": text } });
    stage.must(&[send(7, "seven"), send(0, "none")]).await;
    second.expect("seven").await;
    first.expect("none").await;
    second.send("back").await;
    let received = stage.event("received").await;
    assert_eq!(
        (&received["connection"], &received["text"]),
        (&json!(7), &json!("back"))
    );
}
