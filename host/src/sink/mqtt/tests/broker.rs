//! A broker that is told each step of what to do, against the whole sink.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::super::super::destination::{Destination as _, Undelivered};
use super::super::{Mqtt, WAITING, WriteAnswer, WriteOutcome};
use super::{item, sample, sink};
use crate::config::{MqttSink, MqttVersion, WriteLevel};
use crate::event::{Item, Value};

/// A broker that does what the test says, and nothing else.
struct Broker {
    listener: TcpListener,
    stream: Option<TcpStream>,
    version: MqttVersion,
}

impl Broker {
    async fn start(sink: &mut MqttSink) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        sink.port = listener.local_addr().unwrap().port();
        Self {
            listener,
            stream: None,
            version: sink.version,
        }
    }

    /// Lets a client in, with these properties.
    async fn accept(&mut self, properties: &[u8]) {
        self.stream = Some(self.listener.accept().await.unwrap().0);
        assert_eq!(self.packet().await.0, 0x10);
        let mut ack = vec![0x20, u8::try_from(2 + properties.len()).unwrap(), 0, 0];
        ack.extend_from_slice(properties);
        self.send(&ack).await;
    }

    /// First byte and body of the next packet.
    async fn packet(&mut self) -> (u8, Vec<u8>) {
        let stream = self.stream.as_mut().unwrap();
        let first = stream.read_u8().await.unwrap();
        let (mut length, mut at) = (0usize, 0);
        loop {
            let byte = stream.read_u8().await.unwrap();
            length |= usize::from(byte & 127) << (7 * at);
            at += 1;
            if byte & 128 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        (first, body)
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream
            .as_mut()
            .unwrap()
            .write_all(bytes)
            .await
            .unwrap();
    }

    /// The next message: its identifier, topic and payload.
    async fn message(&mut self) -> (u16, String, Vec<u8>) {
        let (first, mut body) = self.packet().await;
        assert_eq!(first & 0xF6, 0x32, "a message of QoS 1: {body:?}");
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
        let id = u16::from_be_bytes([body[2 + length], body[3 + length]]);
        let properties = match self.version {
            MqttVersion::V5 => 1 + usize::from(body[4 + length]),
            MqttVersion::V311 => 0,
        };
        (id, topic, body.split_off(4 + length + properties))
    }

    async fn acknowledge(&mut self, id: u16, code: u8) {
        let [high, low] = id.to_be_bytes();
        match code {
            0 => self.send(&[0x40, 2, high, low]).await,
            code => self.send(&[0x40, 3, high, low, code]).await,
        }
    }

    /// Whether nothing comes for a while in which everything that is ready would have come.
    async fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        let peeked = self.stream.as_ref().unwrap().peek(&mut byte);
        tokio::time::timeout(Duration::from_millis(100), peeked)
            .await
            .is_err()
    }
}

fn numbers(from: u64, count: u64) -> Vec<Item> {
    (from..from + count)
        .map(|number| item(number, vec![sample(0, Value::Uint(number))]))
        .collect()
}

#[tokio::test]
async fn a_delivery_is_done_with_the_last_acknowledgement_and_keeps_to_the_window() {
    let mut sink = sink();
    let mut broker = Broker::start(&mut sink).await;
    let mut mqtt = Mqtt::start("out", &sink, None);
    let items = numbers(1, 5);
    let told = async {
        // Three on their way at most.
        broker.accept(b"\x03\x21\0\x03").await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(broker.message().await.0);
        }
        assert!(broker.is_silent().await);
        broker.acknowledge(ids[1], 0).await;
        ids.push(broker.message().await.0);
        broker.acknowledge(ids[0], 0).await;
        ids.push(broker.message().await.0);
        for id in &ids[2..4] {
            broker.acknowledge(*id, 0x10).await;
        }
        assert!(broker.is_silent().await);
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3, 4, 5]);
        5
    };
    // All but the last are acknowledged, and it is not done.
    let last = tokio::select! {
        done = mqtt.deliver(&items) => panic!("{done:?}"),
        last = told => last,
    };
    // It was dropped in its midst. What comes next is not mixed up with it.
    broker.acknowledge(last, 0).await;
    let again = numbers(6, 1);
    let (done, ()) = tokio::join!(mqtt.deliver(&again), async {
        let (id, topic, payload) = broker.message().await;
        assert_eq!(topic, "bulkhead/press/fast");
        assert!(
            String::from_utf8(payload)
                .unwrap()
                .contains("\"sequence\":6")
        );
        broker.acknowledge(id, 0).await;
    });
    assert_eq!(done, Ok(()));
    let health = mqtt.health().unwrap().status();
    assert_eq!(
        (health.connected, health.messages, health.acknowledged),
        (true, 6, 6)
    );
}

#[tokio::test]
async fn a_connection_that_breaks_gives_everything_back() {
    let mut sink = sink();
    let mut broker = Broker::start(&mut sink).await;
    let mut mqtt = Mqtt::start("out", &sink, None);
    let items = numbers(1, 2);
    let (done, ()) = tokio::join!(mqtt.deliver(&items), async {
        broker.accept(b"\0").await;
        let (id, ..) = broker.message().await;
        broker.acknowledge(id, 0).await;
        broker.message().await;
        broker.stream = None;
    });
    let Err(Undelivered::Later(why)) = done else {
        panic!("{done:?}")
    };
    assert!(why.contains("; "), "{why}");
    let (done, ()) = tokio::join!(mqtt.deliver(&items), async {
        broker.accept(b"\0").await;
        for number in 1..=2 {
            let (id, _, payload) = broker.message().await;
            assert!(
                String::from_utf8(payload)
                    .unwrap()
                    .contains(&format!("\"sequence\":{number}"))
            );
            broker.acknowledge(id, 0).await;
        }
    });
    assert_eq!(
        (done, mqtt.health().unwrap().status().connections),
        (Ok(()), 2)
    );
}

/// A batch that makes one message of more than two thousand bytes.
fn large() -> Vec<Item> {
    let text = Value::Text("x".repeat(1_000).into());
    vec![item(1, vec![sample(0, text.clone()), sample(1, text)])]
}

const LARGE: usize = 2_000;

#[tokio::test]
async fn what_is_refused_as_too_large_is_cut() {
    let mut sink = sink();
    let mut broker = Broker::start(&mut sink).await;
    let mut mqtt = Mqtt::start("out", &sink, None);
    let items = large();
    let (done, ()) = tokio::join!(mqtt.deliver(&items), async {
        broker.accept(b"\0").await;
        let mut taken = 0;
        while taken < 2 {
            let (id, _, payload) = broker.message().await;
            let is_long = payload.len() > LARGE;
            taken += usize::from(!is_long);
            broker.acknowledge(id, if is_long { 0x95 } else { 0 }).await;
        }
    });
    assert_eq!(done, Ok(()));
    // One that cannot be cut any more is given up.
    let single = vec![
        numbers(4, 1).remove(0),
        item(5, vec![sample(0, Value::Text("x".repeat(2_000).into()))]),
    ];
    let (done, ()) = tokio::join!(mqtt.deliver(&single), async {
        for code in [0, 0x95] {
            let (id, ..) = broker.message().await;
            broker.acknowledge(id, code).await;
        }
    });
    let Err(Undelivered::Never { item: 1, reason }) = done else {
        panic!("{done:?}")
    };
    assert!(reason.contains("too large"), "{reason}");
    // Anything else may pass.
    let items = numbers(6, 1);
    let (done, ()) = tokio::join!(mqtt.deliver(&items), async {
        let (id, ..) = broker.message().await;
        broker.acknowledge(id, 0x87).await;
    });
    let Err(Undelivered::Later(why)) = done else {
        panic!("{done:?}")
    };
    assert!(why.contains("access list"), "{why}");
}

#[tokio::test]
async fn a_broker_that_says_nothing_and_hangs_up_twice_gets_smaller_messages() {
    let mut sink = MqttSink {
        version: MqttVersion::V311,
        ..sink()
    };
    let mut broker = Broker::start(&mut sink).await;
    let mut mqtt = Mqtt::start("out", &sink, None);
    let items = large();
    for _ in 0..2 {
        let (done, ()) = tokio::join!(mqtt.deliver(&items), async {
            broker.accept(b"").await;
            assert!(broker.message().await.2.len() > LARGE);
            broker.stream = None;
        });
        assert!(matches!(done, Err(Undelivered::Later(_))), "{done:?}");
    }
    let (done, ()) = tokio::join!(mqtt.deliver(&items), async {
        broker.accept(b"").await;
        for _ in 0..2 {
            let (id, _, payload) = broker.message().await;
            assert!(payload.len() < LARGE);
            broker.acknowledge(id, 0).await;
        }
    });
    assert_eq!(done, Ok(()));
}

#[tokio::test]
async fn a_refused_connection_says_why_and_a_delivery_does_not_wait_for_ever() {
    let mut sink = sink();
    let broker = Broker::start(&mut sink).await;
    let mut mqtt = Mqtt::start("out", &sink, None);
    let items = numbers(1, 1);
    let refusing = async {
        loop {
            let (mut stream, _) = broker.listener.accept().await.unwrap();
            stream.write_all(b"\x20\x03\0\x86\0").await.unwrap();
            stream.read_u8().await.ok();
        }
    };
    let done = tokio::select! {
        done = mqtt.deliver(&items) => done,
        () = refusing => unreachable!("it never ends"),
    };
    let Err(Undelivered::Later(why)) = done else {
        panic!("{done:?}")
    };
    assert!(why.contains("`username`"), "{why}");
    let health = mqtt.health().unwrap().status();
    assert_eq!((health.connected, health.last_error), (false, Some(why)));
}

#[tokio::test]
async fn a_write_is_answered_and_the_goodbye_is_said() {
    let mut sink = sink();
    sink.status = true;
    sink.writes = Some(vec![WriteLevel::Channel, WriteLevel::Tag]);
    let mut broker = Broker::start(&mut sink).await;
    let (requests, mut taken) = mpsc::channel(WAITING);
    let mut mqtt = Mqtt::start("out", &sink, Some(requests));
    broker.accept(b"\0").await;
    let (id, topic, payload) = broker.message().await;
    assert_eq!(
        (topic.as_str(), payload.as_slice()),
        ("bulkhead/out/status", &b"online"[..])
    );
    broker.acknowledge(id, 0).await;
    let (first, body) = broker.packet().await;
    assert_eq!((first, &body[2..]), (0x82, &b"\0\0\x03+/+\x29"[..]));
    broker.send(&[0x90, 4, body[0], body[1], 0, 1]).await;
    broker
        .send(b"\x32\x10\0\x05p/set\0\x09\x04\x08\0\x01r42")
        .await;
    assert_eq!(broker.packet().await, (0x40, vec![0, 9]));
    let request = taken.recv().await.unwrap();
    assert_eq!(
        (
            request.channel.as_str(),
            request.tag.as_str(),
            request.value
        ),
        ("p", "set", json!(42))
    );
    let failed = WriteAnswer {
        outcome: WriteOutcome::Failed,
        code: Some("out-of-range".to_owned()),
        message: None,
    };
    request.answer.send(failed).unwrap();
    let answer = br#"{"code":"out-of-range","outcome":"failed"}"#.to_vec();
    let (_, topic, payload) = broker.message().await;
    assert_eq!((topic.as_str(), &payload), ("r", &answer));
    // It was not acknowledged, so it is said again.
    broker.stream = None;
    broker.accept(b"\0").await;
    broker.message().await;
    broker.packet().await;
    let (id, topic, payload) = broker.message().await;
    assert_eq!((topic.as_str(), &payload), ("r", &answer));
    broker.acknowledge(id, 0).await;

    let (closed, ()) = tokio::join!(mqtt.close(), async {
        let (_, topic, payload) = broker.message().await;
        assert_eq!(
            (topic.as_str(), payload.as_slice()),
            ("bulkhead/out/status", &b"offline"[..])
        );
        assert_eq!(broker.packet().await, (0xE0, vec![]));
    });
    assert_eq!(closed, Ok(()));
}
