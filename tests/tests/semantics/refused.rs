//! A list with one action that could not be meant: refused as a whole, with a sentence that says which and why.

use bulkhead::event::Quality;
use bulkhead::exit::ExitKind;
use serde_json::{Value as Json, json};

use crate::peer::{OPEN, Peer};
use crate::stage::{Plan, Stage};

/// Every list begins with the journal, the answer to the write that brought it, and a good sample: all of that is fine.
const BEFORE: usize = 3;

/// Hands over steps of which the last is refused.
async fn check(stage: &mut Stage, number: i64, steps: Vec<Json>, kind: &str, why: &str) {
    let mut list = vec![stage.level(number)];
    list.extend(steps);
    let at = BEFORE + list.len() - 1;
    let sentence = stage.fault(&list, ExitKind::Refused).await;
    let place = format!("action {at} of {at} ({kind}) ");
    assert!(
        sentence.starts_with(&place) && sentence.contains(why),
        "{sentence:?} is not {place:?} with {why:?}"
    );
    stage.event("opened").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_list_with_a_malformed_action_nothing_is_applied() {
    let peer = Peer::listen().await;
    let mut stage = Stage::start(Plan {
        rules: OPEN,
        keys: &format!(
            "{}\nlimits = {{ samples_per_second = 1000, fuel_per_turn = 1_000_000_000, turn_deadline = \"30s\" }}",
            peer.link("")
        ),
        ..Plan::default()
    })
    .await;
    let window = stage.event("opened").await["window"].as_u64().unwrap();
    let publish = |tag: u32, value: Json| {
        let value = json!({ "publish": { "tag": tag, "value": value } });
        vec![value]
    };
    let (level, label, row) = (stage.tag("level"), stage.tag("label"), stage.tag("row"));
    let send = |connection: u32, count: u64| json!({ "send": { "connection": connection, "count": count } });
    let open =
        |connection: u64, link: u32| json!({ "open": { "connection": connection, "link": link } });
    let repeat = |times: u32, step: Json| json!({ "repeat": { "times": times, "step": step } });

    let unknown = "names connection 77, which is not open";
    let cases: Vec<(Vec<Json>, &str, &str)> = vec![
        (
            publish(999, json!({ "int": 1 })),
            "publish",
            "names tag 999",
        ),
        (
            publish(level, json!({ "text": "warm" })),
            "publish",
            "its type int32 does not hold",
        ),
        (
            publish(level, json!({ "ints": [1] })),
            "publish",
            "its type int32 does not hold",
        ),
        (publish(level, Json::Null), "publish", "without a value"),
        (
            publish(label, json!({ "int": 1 })),
            "publish",
            "its type string does not hold",
        ),
        (
            publish(label, json!({ "text-of": 65_537 })),
            "publish",
            "does not hold",
        ),
        (
            publish(row, json!({ "floats-of": 4 })),
            "publish",
            "its type float64[3] does not hold",
        ),
        (
            vec![json!({ "poll-done": { "group": 0, "cycle": 1 } })],
            "poll-done",
            "not under way",
        ),
        (
            vec![json!({ "command-done": 1 })],
            "command-done",
            "not under way",
        ),
        (
            vec![json!({ "command-progress": 1 })],
            "command-progress",
            "not under way",
        ),
        (
            vec![json!({ "health-done": 1 })],
            "health-done",
            "not under way",
        ),
        (vec![open(1, 9)], "open", "names link 9"),
        (vec![open(1 << 31, 0)], "open", "belong to the host"),
        (
            vec![open(0, 0)],
            "open",
            "ids must ascend, and 1 is the least",
        ),
        (
            vec![open(5, 0), open(4, 0)],
            "open",
            "ids must ascend, and 6 is the least",
        ),
        (
            vec![open(5, 0), json!({ "close": 3 })],
            "close",
            "names connection 3, which is not open",
        ),
        (vec![json!({ "close": 77 })], "close", unknown),
        (vec![json!({ "reset": 77 })], "reset", unknown),
        (vec![json!({ "start-tls": 77 })], "start-tls", unknown),
        (vec![json!({ "probe": 77 })], "probe", unknown),
        (
            vec![json!({ "pause": { "connection": 77, "on": true } })],
            "pause",
            unknown,
        ),
        (vec![send(77, 1)], "send", unknown),
        (
            vec![json!({ "close": 0 }), send(0, 1)],
            "send",
            "names connection 0, which is not open",
        ),
        (
            vec![send(0, 1024 * 1024 + 1)],
            "send",
            "1048577 bytes are sent at once",
        ),
        (vec![send(0, window + 1)], "send", "whose send window has"),
        (
            vec![send(0, window), send(0, 1)],
            "send",
            "whose send window has",
        ),
        (
            vec![json!({ "device-state": { "device": 9, "up": true, "why": "" } })],
            "device-state",
            "names device 9",
        ),
        (
            vec![json!({ "alarm": { "code": "door", "device": 9 } })],
            "alarm",
            "names device 9",
        ),
        (
            vec![json!({ "metric-of": { "name": "opened", "device": 9 } })],
            "metric",
            "names device 9",
        ),
        (
            vec![json!({ "save-state-of": { "bytes": 1024 * 1024 + 1 } })],
            "save-state",
            "1048577 bytes of state",
        ),
        (
            vec![json!("stopped"), json!({ "cancel-timer": 1 })],
            "cancel-timer",
            "stands after `stopped`",
        ),
        (
            vec![json!("stopped"), json!("stopped")],
            "stopped",
            "stands after `stopped`",
        ),
    ];
    let mut number = 0;
    for (steps, kind, why) in cases {
        number += 1;
        check(&mut stage, number, steps, kind, why).await;
    }

    // Those with many actions: the one that is refused is in the midst of them.
    let mut told = stage.level(-1);
    told["publish"]["id"] = json!(1);
    for (steps, says) in [
        (
            vec![repeat(20_000, json!({ "cancel-timer": 1 }))],
            "action 16385 of 20003 (cancel-timer) is one too many",
        ),
        (
            vec![repeat(10_001, stage.level(-1))],
            "(publish) publishes more samples than limits.samples_per_second = 1000",
        ),
        (
            vec![repeat(1_025, told)],
            "1025 batches with an id of which the driver is still to be told, of at most 1024",
        ),
    ] {
        number += 1;
        let mut list = vec![stage.level(number)];
        list.extend(steps);
        let sentence = stage.fault(&list, ExitKind::Refused).await;
        assert!(sentence.contains(says), "{sentence:?} is not {says:?}");
        stage.event("opened").await;
    }

    // Answers to a request that is not under way, or was answered before.
    let answer = json!({ "write-done": {} });
    for (steps, says) in [
        (
            vec![answer.clone(), stage.level(-1), answer],
            "action 4 of 4 (write-done) answers request",
        ),
        (
            vec![
                stage.level(-1),
                json!({ "write-done": { "request": 999_999 } }),
            ],
            "action 3 of 3 (write-done) answers request 999999",
        ),
        (
            vec![json!("hold"), stage.level(-1), json!({ "read-done": {} })],
            "which is no read",
        ),
    ] {
        let sentence = stage.fault(&steps, ExitKind::Refused).await;
        assert!(sentence.contains(says), "{sentence:?} is not {says:?}");
        stage.event("opened").await;
    }

    stage.catch_up().await;
    assert!(
        stage.levels(Quality::Good).is_empty(),
        "a part of a refused list was applied"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_4096_timers_are_refused() {
    let timers: Vec<String> = (0..=4096)
        .map(|timer| format!("{{ set-timer = {{ timer = {timer}, after_ms = 3600000 }} }}"))
        .collect();
    let rules = format!(r#"{{ on = "write", do = [{}] }}"#, timers.join(", "));
    let mut stage = Stage::start(Plan {
        rules: &rules,
        ..Plan::default()
    })
    .await;
    let label = stage.tag_id("label");
    let answer = stage
        .channel()
        .write(
            label,
            bulkhead::event::Value::Text("x".into()),
            false,
            bulkhead_tests::PATIENCE,
            crate::stage::WRITER,
        )
        .await;
    assert_eq!(answer, Err(bulkhead::channel::RequestError::Restarted));
    let exit = stage.exit().await;
    assert_eq!(exit.kind, ExitKind::Refused);
    assert!(
        exit.sentence
            .starts_with("action 4098 of 4098 (set-timer) ")
            && exit.sentence.contains("4097 timers are set"),
        "{exit}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_is_not_bad_is_refused() {
    for quality in ["good", "uncertain"] {
        let rules = format!(
            r#"{{ on = "write", do = [{{ write-failed = {{ quality = "{quality}", message = "no" }} }}] }},"#
        );
        let mut stage = Stage::start(Plan {
            rules: &rules,
            ..Plan::default()
        })
        .await;
        let answer = stage
            .channel()
            .write(
                stage.tag_id("label"),
                bulkhead::event::Value::Text("x".into()),
                false,
                bulkhead_tests::PATIENCE,
                crate::stage::WRITER,
            )
            .await;
        assert_eq!(answer, Err(bulkhead::channel::RequestError::Restarted));
        let exit = stage.exit().await;
        let expected = format!("answers with an error of quality {quality}");
        assert!(
            exit.kind == ExitKind::Refused && exit.sentence.contains(&expected),
            "{exit}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_is_answered_with_the_tags_asked_for_in_their_order() {
    let (level, row) = (2, 4);
    let rules = format!(
        r#"{{ on = "read", life = 1, do = [{{ read-done = {{ tags = [{row}, {level}], value = {{ int = 1 }} }} }}] }},
           {{ on = "read", life = 2, do = [{{ read-done = {{ tags = [{level}], value = {{ int = 1 }} }} }}] }},
           {{ on = "read", life = 3, do = [{{ read-done = {{ value = {{ text = "warm" }} }} }}] }},
           {{ on = "read", life = 4, do = [{{ read-done = {{}} }}, {{ read-done = {{}} }}] }},
           {{ on = "read", life = 5, do = [{{ write-done = {{}} }}] }},"#
    );
    let mut stage = Stage::start(Plan {
        rules: &rules,
        ..Plan::default()
    })
    .await;
    assert_eq!((stage.tag("level"), stage.tag("row")), (level, row));
    for (tags, says) in [
        (
            ["level", "row"].as_slice(),
            "with other tags, or in another order",
        ),
        (&["level", "row"], "with other tags, or in another order"),
        (&["level"], "its type int32 does not hold"),
        (&["label"], "which is not under way, or was answered before"),
        (&["label"], "which is no write"),
    ] {
        let tags = tags.iter().map(|tag| stage.tag_id(tag)).collect();
        let answer = stage.channel().read(tags, bulkhead_tests::PATIENCE).await;
        assert_eq!(answer, Err(bulkhead::channel::RequestError::Restarted));
        let exit = stage.exit().await;
        assert_eq!(exit.kind, ExitKind::Refused, "{exit}");
        assert!(exit.sentence.contains(says), "{exit} is not {says:?}");
        stage.event("started").await;
    }
    let label = stage.tag_id("label");
    let read = stage
        .channel()
        .read(vec![label], bulkhead_tests::PATIENCE)
        .await;
    let expected = bulkhead::event::Value::Text("read".into());
    assert_eq!(
        read.unwrap()[0].value,
        Some(expected),
        "life 6 tells the truth"
    );
}
