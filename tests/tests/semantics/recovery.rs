//! Requests whose link is down: they wait, go on in order when it is up again, and are answered once whatever happens meanwhile.

use std::time::Duration;

use bulkhead::channel::{Answer, Ask, RequestError, Stayed};
use bulkhead::event::Value;
use bulkhead::exit::ExitKind;
use bulkhead::lifecycle::State;
use bulkhead_tests::{PATIENCE, free_port};
use serde_json::json;
use tokio::sync::oneshot;

use crate::peer::{OPEN, Peer, link};
use crate::stage::{Plan, Stage};

/// A tag on the device behind the link under test.
const ORDER: &str = r#"
[[channel.tag]]
name = "order"
device = "stage"
address = "order"
type = "string"
access = "rw"
"#;

type Reader = oneshot::Receiver<Result<Answer, RequestError>>;

/// A channel whose link leads to a port where nobody listens yet.
async fn stage(port: u16, keys: &str) -> Stage {
    let mut stage = Stage::start(Plan {
        rules: OPEN,
        keys: &format!("{}\n{keys}", link(port, "")),
        tables: ORDER,
        ..Plan::default()
    })
    .await;
    assert_eq!(stage.event("closed").await["reason"], "Refused");
    stage
}

/// Puts a request into the mailbox at once, so that requests come in the order in which they are asked for.
fn write(stage: &Stage, value: &str, timeout: Duration) -> Reader {
    let ask = Ask::Write {
        tag: stage.tag_id("order"),
        value: Value::Text(value.into()),
        read_back: false,
    };
    stage.channel().submit(ask, timeout).unwrap()
}

fn read(stage: &Stage, tags: &[&str]) -> Reader {
    let tags = tags.iter().map(|tag| stage.tag_id(tag)).collect();
    stage.channel().submit(Ask::Read(tags), PATIENCE).unwrap()
}

async fn answered(reader: Reader) -> Result<Answer, RequestError> {
    let answer = tokio::time::timeout(PATIENCE, reader).await;
    answer.expect("it is answered").expect("by the channel")
}

/// Lets the channel take what was put into its mailbox before; gives how many wait.
async fn waiting(stage: &mut Stage) -> usize {
    stage.catch_up().await;
    stage.channel().waiting()
}

/// What the puppet was told of `order`: `write 1`, `read`.
fn told(stage: &Stage) -> Vec<String> {
    let order = stage.tag("order");
    let requests = stage.told_where(|event| {
        event["tag"] == order
            || event["tags"]
                .as_array()
                .is_some_and(|tags| tags.contains(&order.into()))
    });
    let brief = |event: serde_json::Value| match event["value"].as_str() {
        Some(value) => {
            let text = value.split('"').nth(1).unwrap_or_default();
            format!("write {text}")
        }
        None => "read".to_owned(),
    };
    requests.into_iter().map(brief).collect()
}

fn is_link_down(answer: &Result<Answer, RequestError>, wanted: Stayed) -> bool {
    match answer {
        Err(RequestError::LinkDown { link, why, stayed }) => {
            link == "plc" && why.contains("nobody listens there") && *stayed == wanted
        }
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_goes_on_in_order_when_the_link_is_up_writes_first() {
    let port = free_port();
    let mut stage = stage(port, "requests = { waiting = 4096 }").await;
    let mut readers = Vec::new();
    for round in 0..10 {
        for write_of in 0..50 {
            readers.push(write(
                &stage,
                &format!("{}", round * 50 + write_of),
                PATIENCE,
            ));
        }
        readers.push(read(&stage, &["order"]));
        assert_eq!(waiting(&mut stage).await, 51 * (round + 1));
    }
    assert!(told(&stage).is_empty(), "nothing is told while it is down");
    let _peer = Peer::listen_on(port).await;
    stage.event("opened").await;
    // Comes when some may wait still, and overtakes none.
    readers.push(write(&stage, "500", PATIENCE));
    for (number, reader) in readers.into_iter().enumerate() {
        let answer = answered(reader).await;
        assert!(answer.is_ok(), "{number}: {answer:?}");
    }
    assert_eq!(waiting(&mut stage).await, 0);
    let told = told(&stage);
    let (writes, reads): (Vec<_>, Vec<_>) = told.iter().partition(|told| told.starts_with("write"));
    let expected: Vec<String> = (0..=500).map(|number| format!("write {number}")).collect();
    assert!(writes.into_iter().eq(&expected), "{told:?}");
    assert_eq!(reads.len(), 10);
    // All that acts, then all that looks; the last write came later than either.
    assert!(
        told[..500].iter().all(|told| told.starts_with("write")),
        "{told:?}"
    );
    assert_eq!(stage.channel().status().counters.waited, 510);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_answers_with_the_link_and_its_reason_and_nothing_is_sent() {
    let port = free_port();
    let mut stage = stage(port, "").await;
    let after = Duration::from_millis(30);
    let stays = write(&stage, "stays", PATIENCE);
    let short = answered(write(&stage, "short", after)).await;
    assert!(is_link_down(&short, Stayed::Down { after }), "{short:?}");
    // The same where a door keeps the time.
    let (channel, tag) = (stage.channel().clone(), stage.tag_id("order"));
    let short = channel
        .write(
            tag,
            Value::Text("door".into()),
            false,
            after,
            crate::stage::WRITER,
        )
        .await;
    let short = short.map(Answer::Write);
    assert!(is_link_down(&short, Stayed::Down { after }), "{short:?}");
    // Whoever goes away is forgotten.
    drop(write(&stage, "gone", PATIENCE));
    assert!(waiting(&mut stage).await >= 1);

    let _peer = Peer::listen_on(port).await;
    assert_eq!(answered(stays).await, Ok(Answer::Write(None)));
    assert_eq!(waiting(&mut stage).await, 0);
    assert_eq!(told(&stage), ["write stays"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_outlives_restarts_of_the_driver() {
    let port = free_port();
    let mut stage = stage(port, "").await;
    let readers = ["1", "2", "3"].map(|value| write(&stage, value, PATIENCE));
    assert_eq!(waiting(&mut stage).await, 3);
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    stage.event("closed").await;
    stage.channel().restart().await.unwrap();
    stage.event("closed").await;
    assert_eq!(waiting(&mut stage).await, 3);
    assert!(told(&stage).is_empty());
    let _peer = Peer::listen_on(port).await;
    for reader in readers {
        assert_eq!(answered(reader).await, Ok(Answer::Write(None)));
    }
    stage.catch_up().await;
    assert_eq!(told(&stage), ["write 1", "write 2", "write 3"]);
    assert_eq!(stage.told("started").len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_what_waits() {
    let mut stage = stage(free_port(), "").await;
    let readers = [
        write(&stage, "1", PATIENCE),
        read(&stage, &["order"]),
        write(&stage, "2", PATIENCE),
    ];
    assert_eq!(waiting(&mut stage).await, 3);
    stage.channel().stop().await.unwrap();
    stage.state(State::Stopped).await;
    for reader in readers {
        let answer = answered(reader).await;
        assert!(
            matches!(
                &answer,
                Err(RequestError::NotRunning {
                    state: State::Stopped,
                    ..
                })
            ),
            "{answer:?}"
        );
    }
    assert_eq!(stage.channel().waiting(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_wait_and_only_for_the_link_that_they_need() {
    let mut stage = stage(free_port(), "requests = { waiting = 2 }").await;
    let _waits = [write(&stage, "1", PATIENCE), write(&stage, "2", PATIENCE)];
    let third = answered(read(&stage, &["order"])).await;
    assert!(
        is_link_down(&third, Stayed::Full { waiting: 2 }),
        "{third:?}"
    );
    // The device `desk` has a link of its own, which is not down; so a read of both gets through.
    let label = answered(read(&stage, &["label"])).await;
    assert!(label.is_ok(), "{label:?}");
    let both = answered(read(&stage, &["order", "label"])).await;
    assert!(both.is_ok(), "{both:?}");
    assert_eq!(waiting(&mut stage).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_may_have_requests_refused_or_passed_on() {
    let refusing = stage(free_port(), r#"requests = { while_down = "refuse" }"#).await;
    let refused = answered(write(&refusing, "1", PATIENCE)).await;
    assert!(is_link_down(&refused, Stayed::Refused), "{refused:?}");

    let mut passing = stage(free_port(), r#"requests = { while_down = "pass" }"#).await;
    let passed = answered(write(&passing, "1", PATIENCE)).await;
    assert_eq!(passed, Ok(Answer::Write(None)));
    passing.catch_up().await;
    assert_eq!(told(&passing), ["write 1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_dials_the_driver_says_what_it_makes_of_a_request() {
    let peer = Peer::listen().await;
    let mut stage = Stage::start(Plan {
        rules: r#"{ on = "started", do = [{ open = { connection = 0, link = 0, target = "192.0.2.1:502" } }] },"#,
        keys: &peer.link(""),
        tables: ORDER,
        ..Plan::default()
    })
    .await;
    assert_eq!(stage.event("closed").await["reason"], "Denied");
    let passed = answered(write(&stage, "1", PATIENCE)).await;
    assert_eq!(passed, Ok(Answer::Write(None)));
}
