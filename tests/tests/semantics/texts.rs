//! Arrays of texts: what goes to a driver, what comes of it, and where both end.

use bulkhead::channel::RequestError;
use bulkhead::event::{Quality, Value};
use bulkhead::exit::ExitKind;
use bulkhead_tests::PATIENCE;
use serde_json::{Value as Json, json};

use crate::stage::{Plan, Seen, Stage, WRITER};

/// The first tag of the channel, so that rules can be about it.
const PLAN: Plan<'static> = Plan {
    rules: r#"{ on = "write", about = 0, do = [
        { publish = { tag = 0, value = { texts = ["ä", ""] } } },
        { write-done = { value = { texts = ["as the", "device holds it"] } } },
    ] },"#,
    keys: "limits = { samples_per_second = 10_000 }",
    restart: r#"max_attempts = 1000, delay = "0s", jitter = 0"#,
    tables: r#"
[[channel.tag]]
name = "names"
device = "desk"
address = "names"
type = "string[2]"
access = "rw"
"#,
};

fn texts(all: &[&str]) -> Value {
    Value::Texts(all.iter().map(|text| (*text).into()).collect())
}

async fn write(stage: &Stage, value: Value) -> Result<Option<Value>, RequestError> {
    let names = stage.tag_id("names");
    assert_eq!(names.0, 0, "the rule is about it");
    let channel = stage.channel();
    channel.write(names, value, true, PATIENCE, WRITER).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_array_of_texts_is_written_published_and_read_back() {
    let mut stage = Stage::start(PLAN).await;
    let answer = write(&stage, texts(&["a, b", "\u{1b}"])).await;
    assert_eq!(answer, Ok(Some(texts(&["as the", "device holds it"]))));
    let told = stage.event("write").await;
    assert_eq!(
        told["value"],
        json!("Value::Texts([\"a, b\", \"\\u{1b}\"])"),
        "{told}"
    );
    stage.catch_up().await;
    let published = stage.seen.iter().any(|seen| {
        matches!(seen, Seen::Sample { tag, value: Some(value), quality: Quality::Good }
            if tag == "names" && *value == texts(&["ä", ""]))
    });
    assert!(published, "{:#?}", stage.seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_array_of_so_many_texts_is_never_sent() {
    let mut stage = Stage::start(PLAN).await;
    let half = "x".repeat(Value::MAX_BYTES / 2);
    let more = format!("{half}x");
    for (value, part) in [
        (
            texts(&["a"]),
            "of type string[2]; an array of texts, of length 1, was given",
        ),
        (
            texts(&["a", "b", "c"]),
            "of type string[2]; an array of texts, of length 3, was given",
        ),
        (
            Value::Ints([1, 2].into()),
            "of type string[2]; an array of numbers, of length 2, was given",
        ),
        (
            Value::Text("ab".into()),
            "of type string[2]; text was given",
        ),
        (texts(&[&half, &more]), "longer than 64 KiB"),
    ] {
        let refused = write(&stage, value).await.unwrap_err().to_string();
        assert!(refused.contains(part), "{refused}");
    }
    stage.catch_up().await;
    let sent = stage.told_where(|event| event["kind"] == "write" && event["tag"] == 0);
    assert_eq!(sent, Vec::<Json>::new());
    assert!(write(&stage, texts(&[&half, &half])).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_publishes_no_other_array_and_none_that_is_too_long() {
    let mut stage = Stage::start(PLAN).await;
    let (names, label) = (stage.tag("names"), stage.tag("label"));
    let publish = |tag: u32, value: Json| json!({ "publish": { "tag": tag, "value": value } });
    let longest = json!({ "texts-of": [Value::MAX_BYTES, 0] });
    stage.must(&[publish(names, longest)]).await;
    stage.catch_up().await;
    for (tag, value, part) in [
        (names, json!({ "texts": ["a"] }), "string[2] does not hold"),
        (names, json!({ "text": "ab" }), "string[2] does not hold"),
        (names, json!({ "ints": [1, 2] }), "string[2] does not hold"),
        (label, json!({ "texts": ["a"] }), "string does not hold"),
        (
            names,
            json!({ "texts-of": [Value::MAX_BYTES, 1] }),
            "string[2] does not hold",
        ),
    ] {
        let steps = [publish(tag, value)];
        let sentence = stage.fault(&steps, ExitKind::Refused).await;
        assert!(sentence.contains(part), "{steps:?}: {sentence}");
        stage.event("started").await;
    }
}

/// Each of these arrays counts for 501 samples, though there is not a letter in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_empty_texts_are_no_way_around_the_rate_of_samples() {
    let tables = PLAN.tables.replace("[2]", "[1000]");
    let mut stage = Stage::start(Plan {
        rules: "",
        tables: &tables,
        keys: "limits = { samples_per_second = 1_000 }",
        ..PLAN
    })
    .await;
    let value = json!({ "texts-of": vec![0; 1_000] });
    let publish = json!({ "publish": { "tag": stage.tag("names"), "value": value } });
    let some = json!({ "repeat": { "times": 10, "step": publish } });
    stage.must(&[some]).await;
    let many = json!({ "repeat": { "times": 20, "step": publish } });
    let sentence = stage.fault(&[many], ExitKind::Refused).await;
    assert!(sentence.contains("samples"), "{sentence}");
}
