//! Devices that call in.

use bulkhead::exit::ExitKind;
use bulkhead_tests::PATIENCE;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::stage::{Plan, Stage};
use crate::{QUICK, detail, received, send, stage};

const ANY: &str = r#"listen = "tcp://127.0.0.1:0""#;

/// A stage that listens, and where.
async fn listening(keys: &str) -> (Stage, String) {
    let mut stage = stage(keys).await;
    let opened = stage.event("opened").await;
    assert_eq!(opened["window"], 0, "nobody is at the other end of it");
    let at = opened["peer"].as_str().unwrap().to_owned();
    (stage, at)
}

/// Calls, and waits until the driver was told.
async fn call(stage: &mut Stage, at: &str) -> (TcpStream, u64) {
    let device = TcpStream::connect(at).await.unwrap();
    let accepted = stage.event("accepted").await;
    assert_eq!(accepted["listener"], 0);
    assert_eq!(accepted["peer"], device.local_addr().unwrap().to_string());
    (device, accepted["connection"].as_u64().unwrap())
}

async fn expect(device: &mut TcpStream, wanted: &str) {
    let mut bytes = vec![0; wanted.len()];
    timeout(PATIENCE, device.read_exact(&mut bytes))
        .await
        .expect("it comes")
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), wanted);
}

/// Waits for the end of a stream, in order or not.
async fn hung_up(device: &mut TcpStream) {
    let ended = timeout(PATIENCE, device.read(&mut [0]))
        .await
        .expect("it ends");
    assert!(!matches!(ended, Ok(1)), "it ends, and nothing comes before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_call_in_and_are_told_apart() {
    let (mut stage, at) = listening(ANY).await;
    assert!(
        detail(&stage).starts_with("listening on 127.0.0.1:"),
        "{}",
        detail(&stage)
    );
    assert!(!stage.channel().status().links[0].up, "no device is there");
    let (mut one, first) = call(&mut stage, &at).await;
    let (mut other, second) = call(&mut stage, &at).await;
    assert!(first >= 1 << 31 && second > first, "{first} {second}");
    assert!(stage.channel().status().links[0].up);
    stage
        .must(&[send(first, "to the first"), send(second, "to the second")])
        .await;
    expect(&mut one, "to the first").await;
    expect(&mut other, "to the second").await;
    other.write_all(b"from the second").await.unwrap();
    received(&mut stage, second, "from the second").await;
    one.write_all(b"from the first").await.unwrap();
    received(&mut stage, first, "from the first").await;

    drop(one);
    let closed = stage.event("closed").await;
    assert_eq!(
        (&closed["connection"], &closed["reason"], &closed["outlook"]),
        (&json!(first), &json!("ByPeer"), &json!("Ended")),
        "nobody dials a device that called in"
    );
    assert!(stage.channel().status().links[0].up, "the other is there");
    stage
        .must(&[send(first, "dropped"), json!({ "close": second })])
        .await;
    hung_up(&mut other).await;
    let closed = stage.event("closed").await;
    assert_eq!(
        (&closed["connection"], &closed["reason"]),
        (&json!(second), &json!("Requested"))
    );
    assert!(!stage.channel().status().links[0].up);
    // The door is open still.
    call(&mut stage, &at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_peers_that_are_granted_are_let_in() {
    let (mut stage, at) =
        listening(&format!(r#"{ANY}, from = ["127.0.0.4/30", "127.9.9.9"]"#)).await;
    for (from, let_in) in [
        ("127.0.0.3", false),
        ("127.0.0.4", true),
        ("127.0.0.7", true),
        ("127.0.0.8", false),
        ("127.9.9.9", true),
    ] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let mut device = socket.connect(at.parse().unwrap()).await.unwrap();
        if let_in {
            let accepted = stage.event("accepted").await;
            assert_eq!(accepted["peer"], device.local_addr().unwrap().to_string());
            device.write_all(from.as_bytes()).await.unwrap();
            received(&mut stage, accepted["connection"].as_u64().unwrap(), from).await;
        } else {
            hung_up(&mut device).await;
        }
    }
    assert_eq!(stage.told("accepted").len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_devices_are_let_in_than_there_are_places() {
    let (mut stage, at) = listening(&format!("{ANY}, max_connections = 2")).await;
    let (one, _) = call(&mut stage, &at).await;
    let (_other, _) = call(&mut stage, &at).await;
    for _ in 0..20 {
        let mut third = TcpStream::connect(&at).await.unwrap();
        hung_up(&mut third).await;
    }
    drop(one);
    stage.event("closed").await;
    call(&mut stage, &at).await;
    assert_eq!(stage.told("accepted").len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_that_is_taken_is_opened_as_soon_as_it_is_free() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let mut stage = stage(&format!(r#"listen = "tcp://{at}""#)).await;
    let closed = stage.event("closed").await;
    assert_eq!(
        (&closed["reason"], &closed["outlook"]),
        (&json!("Unreachable"), &json!("Redialling"))
    );
    assert!(
        detail(&stage).contains("cannot listen on"),
        "{}",
        detail(&stage)
    );
    drop(taken);
    stage.event("opened").await;
    let (_device, id) = call(&mut stage, &at.to_string()).await;
    // A reset of the door opens it anew; who is in stays.
    stage.must(&[json!({ "reset": 0 })]).await;
    assert_eq!(stage.event("closed").await["outlook"], json!("Redialling"));
    stage.event("opened").await;
    stage.must(&[send(id, "still here")]).await;
    assert_eq!(
        stage
            .told("closed")
            .iter()
            .filter(|closed| closed["connection"] == id)
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_hangs_up_on_devices_unless_they_are_kept() {
    for keep in [false, true] {
        let key = if keep { r#", on_restart = "keep""# } else { "" };
        let mut stage = Stage::start(Plan {
            rules: r#"{ on = "started", life = 1, do = [{ open = { connection = 0, link = 0 } }] },"#,
            keys: &format!("links.plc = {{ {ANY}{key}, {QUICK} }}"),
            ..Plan::default()
        })
        .await;
        let at = stage.event("opened").await["peer"]
            .as_str()
            .unwrap()
            .to_owned();
        let (mut device, id) = call(&mut stage, &at).await;
        stage.fault(&[json!("trap")], ExitKind::Trapped).await;
        let started = stage.event("started").await;
        if !keep {
            assert_eq!(started["connections"], json!([]));
            hung_up(&mut device).await;
            continue;
        }
        let kept: Vec<_> = started["connections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|kept| kept["id"].as_u64().unwrap())
            .collect();
        assert_eq!(kept, [0, id]);
        stage.must(&[send(id, "same")]).await;
        expect(&mut device, "same").await;
        // Its own ids go on from those that it had opened, whoever called in.
        stage
            .must(&[json!({ "open": { "connection": 1, "link": 0 } })])
            .await;
        let (_, next) = call(&mut stage, &at).await;
        assert!(next > id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_at_the_other_end_of_a_door() {
    let (mut stage, _) = listening(ANY).await;
    let sentence = stage.fault(&[send(0, "x")], ExitKind::Refused).await;
    assert!(sentence.contains("send window has 0 left"), "{sentence}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_does_not_listen_stops_the_device_that_called() {
    let (mut stage, at) = listening(ANY).await;
    let (mut device, id) = call(&mut stage, &at).await;
    stage
        .must(&[json!({ "pause": { "connection": id, "on": true } })])
        .await;
    stage.catch_up().await;
    let mut sent = 0;
    // Until the buffers of both ends are full; what is written afterwards would have to wait.
    while let Ok(written) = timeout(
        std::time::Duration::from_millis(500),
        device.write(&[7; 65_536]),
    )
    .await
    {
        sent += written.unwrap();
        assert!(sent < 64 << 20, "nothing stops it");
    }
    assert_eq!(stage.told("received").len(), 0);
    stage
        .must(&[json!({ "pause": { "connection": id, "on": false } })])
        .await;
    let mut came = 0;
    while came < sent {
        came += usize::try_from(stage.event("received").await["bytes"].as_u64().unwrap()).unwrap();
    }
    assert_eq!(came, sent, "and nothing is lost");
}
