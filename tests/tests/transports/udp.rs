//! Datagrams: whole, from whom they say, and to nobody else.

use bulkhead_tests::PATIENCE;
use serde_json::{Value as Json, json};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::stage::Stage;
use crate::{send, stage};

fn send_to(peer: &str, text: &str) -> Json {
    json!({ "send": { "connection": 0, "text": text, "peer": peer } })
}

async fn device(at: &str) -> (UdpSocket, String) {
    let socket = UdpSocket::bind(at).await.unwrap();
    let at = socket.local_addr().unwrap().to_string();
    (socket, at)
}

/// The next datagram: its text and its sender.
async fn take(device: &UdpSocket) -> (String, String) {
    let mut space = vec![0; 65_536];
    let (count, from) = timeout(PATIENCE, device.recv_from(&mut space))
        .await
        .expect("one comes")
        .unwrap();
    let text = String::from_utf8_lossy(&space[..count]).into_owned();
    (text, from.to_string())
}

/// The next datagram that the driver is told of: its text, its length and its sender.
async fn told(stage: &mut Stage) -> (String, u64, String) {
    let event = stage.event("received").await;
    let text = |key: &str| event[key].as_str().unwrap().to_owned();
    (text("text"), event["bytes"].as_u64().unwrap(), text("peer"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_keep_their_boundaries() {
    let (device, at) = device("127.0.0.1:0").await;
    let mut stage = stage(&format!(r#"connect = "udp://{at}""#)).await;
    assert_eq!(stage.event("opened").await["peer"], at);
    let steps = [
        send(0, "one"),
        send(0, ""),
        send(0, "three"),
        send_to(&at, "four"),
    ];
    stage.must(&steps).await;
    let mut host = String::new();
    for wanted in ["one", "", "three", "four"] {
        let (text, from) = take(&device).await;
        assert_eq!(text, wanted);
        host = from;
    }
    for (text, length) in [("a", 1), ("", 0), ("bb", 2)] {
        device.send_to(text.as_bytes(), &host).await.unwrap();
        assert_eq!(
            told(&mut stage).await,
            (text.to_owned(), length, at.clone())
        );
    }
    let long = vec![b'x'; 65_507];
    device.send_to(&long, &host).await.unwrap();
    assert_eq!(told(&mut stage).await.1, 65_507);
    stage
        .must(&[json!({ "send": { "connection": 0, "count": 65_507 } })])
        .await;
    assert_eq!(take(&device).await.0.len(), 65_507);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_is_heard_or_written_to() {
    let (device, at) = device("127.0.0.1:0").await;
    let (stranger, elsewhere) = self::device("127.0.0.1:0").await;
    let mut stage = stage(&format!(r#"connect = "udp://{at}""#)).await;
    stage.event("opened").await;
    stage.must(&[send(0, "hello")]).await;
    let (_, host) = take(&device).await;
    stranger.send_to(b"believe me", &host).await.unwrap();
    stage.must(&[send_to(&elsewhere, "not for you")]).await;
    let declined = stage.event("declined").await;
    assert_eq!(declined["action"], "Send");
    let why = declined["why"].as_str().unwrap();
    assert!(why.contains(&elsewhere) && why.contains("`dial`"), "{why}");
    for peer in ["", "localhost:1", "127.0.0.1", "127.0.0.1:0\0", "[::1]:5"] {
        stage.must(&[send_to(peer, "not for you")]).await;
        assert_eq!(stage.event("declined").await["action"], "Send");
    }
    device.send_to(b"me", &host).await.unwrap();
    let (text, ..) = told(&mut stage).await;
    assert_eq!(text, "me", "of the stranger nothing came before");
    stranger.try_recv(&mut [0; 10]).unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_does_not_listen_is_refused_and_found_when_it_does() {
    let (gone, at) = device("127.0.0.1:0").await;
    drop(gone);
    let mut stage = stage(&format!(r#"connect = "udp://{at}""#)).await;
    stage.event("opened").await;
    stage.must(&[send(0, "anybody?")]).await;
    let closed = stage.event("closed").await;
    assert_eq!(
        (&closed["reason"], &closed["outlook"]),
        (&json!("Refused"), &json!("Redialling"))
    );
    let (device, _) = device(&at).await;
    stage.event("opened").await;
    stage.must(&[send(0, "there")]).await;
    assert_eq!(take(&device).await.0, "there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_speak_first_and_only_they_are_answered() {
    let keys = r#"listen = "udp://127.0.0.1:0", from = ["127.0.0.2", "127.0.0.3"]"#;
    let mut stage = stage(keys).await;
    let at = stage.event("opened").await["peer"]
        .as_str()
        .unwrap()
        .to_owned();
    let (one, one_at) = device("127.0.0.2:0").await;
    let (silent, silent_at) = device("127.0.0.3:0").await;
    let (stranger, stranger_at) = device("127.0.0.4:0").await;
    stranger.send_to(b"me too", &at).await.unwrap();
    one.send_to(b"it is me", &at).await.unwrap();
    assert_eq!(
        told(&mut stage).await,
        ("it is me".into(), 8, one_at.clone())
    );
    stage.must(&[send_to(&one_at, "good day")]).await;
    assert_eq!(take(&one).await, ("good day".into(), at.clone()));
    for unasked in [&silent_at, &stranger_at] {
        stage.must(&[send_to(unasked, "hello?")]).await;
        assert_eq!(stage.event("declined").await["action"], "Send");
    }
    stage.must(&[send(0, "to whom?")]).await;
    let declined = stage.event("declined").await;
    let why = declined["why"].as_str().unwrap();
    assert!(why.contains("name the receiver"), "{why}");
    silent.try_recv(&mut [0; 10]).unwrap_err();
    stranger.try_recv(&mut [0; 10]).unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_socket_speaks_to_all_within_its_ranges() {
    let (one, one_at) = device("127.0.0.2:0").await;
    let port = one_at.rsplit_once(':').unwrap().1.to_owned();
    let (other, other_at) = device(&format!("127.0.0.3:{port}")).await;
    let (outside, outside_at) = device(&format!("127.0.0.8:{port}")).await;
    let mut stage = stage(&format!(r#"dial = ["udp://127.0.0.0/29:{port}"]"#)).await;
    stage.event("opened").await;
    let steps = [
        send_to(&one_at, "to one"),
        send_to(&outside_at, "out"),
        send_to(&other_at, "to other"),
    ];
    stage.must(&steps).await;
    let (text, host) = take(&one).await;
    assert_eq!(text, "to one");
    assert_eq!(take(&other).await.0, "to other");
    assert_eq!(stage.event("declined").await["action"], "Send");
    outside.send_to(b"unheard", &host).await.unwrap();
    other.send_to(b"from other", &host).await.unwrap();
    assert_eq!(told(&mut stage).await, ("from other".into(), 10, other_at));
    outside.try_recv(&mut [0; 10]).unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_long_is_declined_and_costs_no_window() {
    let (device, at) = device("127.0.0.1:0").await;
    let mut stage = stage(&format!(r#"connect = "udp://{at}""#)).await;
    let window = stage.event("opened").await["window"].as_u64().unwrap();
    let too_long = json!({ "send": { "connection": 0, "count": 65_508 } });
    let credited = |stage: &Stage| -> u64 {
        let sent = stage.told("sent");
        sent.iter()
            .map(|sent| sent["bytes"].as_u64().unwrap())
            .sum()
    };
    let mut sent = 0;
    // More than the window in all: each is credited, for the driver has counted it.
    while sent <= 2 * window {
        while window + credited(&stage) - sent < 65_508 {
            stage.catch_up().await;
        }
        stage.must(std::slice::from_ref(&too_long)).await;
        assert_eq!(stage.event("declined").await["action"], "Send");
        sent += 65_508;
    }
    stage.must(&[send(0, "short")]).await;
    assert_eq!(take(&device).await.0, "short");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_hears_nothing_gets_what_the_kernel_kept_in_order() {
    let (device, at) = device("127.0.0.1:0").await;
    let mut stage = stage(&format!(r#"connect = "udp://{at}""#)).await;
    stage.event("opened").await;
    stage.must(&[send(0, "hello")]).await;
    let (_, host) = take(&device).await;
    stage
        .must(&[json!({ "pause": { "connection": 0, "on": true } })])
        .await;
    stage.catch_up().await;
    let filler = "x".repeat(1_000);
    for number in 0..10_000 {
        let text = format!("{number:04}{filler}");
        device.send_to(text.as_bytes(), &host).await.unwrap();
    }
    stage.catch_up().await;
    assert_eq!(stage.told("received").len(), 0, "it is paused");
    stage
        .must(&[json!({ "pause": { "connection": 0, "on": false } })])
        .await;
    for number in 0..10 {
        let (text, length, _) = told(&mut stage).await;
        assert!(
            text.starts_with(&format!("{number:04}")),
            "{number}: {text}"
        );
        assert_eq!(length, 1_004);
    }
}
