//! What crosses the boundary arrives as it is: the configuration, values in the device's terms, times, errors, alarms,
//! lines of the log.

use std::collections::BTreeSet;

use bulkhead::channel::RequestError;
use bulkhead::event::{Quality, Severity, Value, WallNs};
use bulkhead::exit::ExitKind;
use bulkhead_tests::{Folder, PATIENCE};
use serde_json::json;

use crate::stage::{Plan, Seen, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_arrives_whole_and_with_the_same_ids_in_every_life() {
    let plan = Plan {
        keys: r#"links.plc = { connect = "tcp://127.0.0.1:1" }"#,
        tables: r#"
[[channel.device]]
name = "pump"
address = "unit 7"
settings = { slow = true }
link = "plc"
[[channel.group]]
name = "fast"
device = "pump"
period = "250ms"
tags = [{ name = "flow", address = "40001#LL", type = "uint16[2]", access = "rw", settings = { swap = 1 } }]
[[channel.tag]]
name = "order"
device = "pump"
address = "40009"
type = "uint16"
access = "w"
"#,
        ..Plan::default()
    };
    let mut stage = Stage::start(plan).await;
    let first = stage.seen.iter().find_map(|seen| match seen {
        Seen::Page(page) => Some(page["config"].clone()),
        _ => None,
    });
    let first = first.unwrap();
    assert_eq!(
        first["links"],
        json!([[0, "plc", "tcp", false], [1, "second", "tcp", false]])
    );
    assert_eq!(
        first["devices"],
        json!([
            [0, "stage", "", "{}", null],
            [1, "desk", "", "{}", 1],
            [2, "pump", "unit 7", r#"{"slow":true}"#, 0],
        ])
    );
    let flow = stage.tag("flow");
    assert_eq!(first["name"], "stage");
    assert_eq!(first["groups"], json!([[0, 250_000_000, [flow], "fast"]]));
    let flow = json!([
        flow,
        2,
        "flow",
        "40001#LL",
        "uint16[2]",
        true,
        r#"{"swap":1}"#,
        true
    ]);
    let order = json!([
        stage.tag("order"),
        2,
        "order",
        "40009",
        "uint16",
        true,
        "{}",
        false
    ]);
    let label = json!([
        stage.tag("label"),
        1,
        "label",
        "label",
        "string",
        true,
        "{}",
        true
    ]);
    let level = json!([
        stage.tag("level"),
        0,
        "level",
        "level",
        "int32",
        false,
        "{}",
        true
    ]);
    let tags = first["tags"].as_array().unwrap();
    for tag in [flow, order, label, level] {
        assert!(tags.contains(&tag), "{tag} is not in {tags:?}");
    }

    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    let (page, _) = stage.page("started").await;
    assert_eq!(page["config"], first);
    let mut stage = stage.start_again(plan).await;
    let (page, _) = stage.page("started").await;
    assert_eq!(page["config"], first, "over a restart of the host too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_comes_in_the_devices_terms_and_what_was_read_back_goes_back_in_the_operators() {
    let mut stage = Stage::start(Plan {
        rules: r#"{ on = "write", about = 0, do = [{ write-done = { value = { int = 300 } } }] },"#,
        tables: r#"
[[channel.tag]]
name = "speed"
device = "stage"
address = "speed"
type = "int16"
scale = 0.1
offset = 5.0
access = "rw"
"#,
        ..Plan::default()
    })
    .await;
    let speed = stage.tag_id("speed");
    assert_eq!(speed.0, 0, "the rule is about it");
    let asked_at = stage.host().clock().monotonic();
    let channel = stage.channel();
    let write = channel.write(
        speed,
        Value::Float(17.5),
        true,
        PATIENCE,
        crate::stage::WRITER,
    );
    assert_eq!(write.await, Ok(Some(Value::Float(35.0))));
    let told = stage.event("write").await;
    assert_eq!(
        (&told["tag"], &told["value"], &told["read_back"]),
        (&json!(0), &json!("Value::Int(125)"), &json!(true))
    );
    let deadline = told["deadline"].as_u64().unwrap();
    let least = asked_at.after(PATIENCE).0;
    assert!((least..least + 1_000_000_000 * 60).contains(&deadline));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_ids_are_never_used_again_within_a_host() {
    let mut stage = Stage::start(Plan::default()).await;
    for _ in 0..3 {
        stage.catch_up().await;
        stage.fault(&[json!("trap")], ExitKind::Trapped).await;
        stage.event("started").await;
        let channel = stage.channel();
        let read = channel.read(vec![stage.tag_id("label")], PATIENCE);
        read.await.unwrap();
    }
    stage.catch_up().await;
    let requests = stage.told_where(|event| event["request"].is_u64());
    let ids: BTreeSet<u64> = requests
        .iter()
        .map(|event| event["request"].as_u64().unwrap())
        .collect();
    // Three fences, three reads, and the fence at the end; what trapped could not tell.
    assert_eq!((requests.len(), ids.len()), (7, 7), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_asks_for_no_tag_twice() {
    let mut stage = Stage::start(Plan::default()).await;
    let label = stage.tag_id("label");
    let read = stage.channel().read(vec![label, label], PATIENCE).await;
    assert_eq!(read.unwrap().len(), 2);
    assert_eq!(stage.event("read").await["tags"], json!([label.0]));
    let nothing = stage.channel().read(Vec::new(), PATIENCE).await;
    assert_eq!(nothing, Ok(Vec::new()));
    stage.catch_up().await;
    assert_eq!(stage.told("read").len(), 1, "nothing is not asked for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_devices_own_time_of_a_value_is_kept() {
    let mut stage = Stage::start(Plan::default()).await;
    let level = stage.tag("level");
    let publish = json!({ "tag": level, "value": { "int": 3 }, "source_ns": 1_234_567_890_123u64 });
    stage.must(&[json!({ "publish": publish })]).await;
    stage.catch_up().await;
    let state = stage.channel().tags().state(stage.tag_id("level")).unwrap();
    assert_eq!(state.source_time, Some(WallNs(1_234_567_890_123)));
    let received = state.server_time.unwrap();
    assert!(received.0 > 1_700_000_000_000_000_000, "{received:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_is_cut_to_its_bounds() {
    let stage = Stage::start(Plan {
        rules: r#"{ on = "write", do = [{ write-failed = { code = 7, message = "ä", times = 50000 } }] },"#,
        ..Plan::default()
    })
    .await;
    let answer = stage
        .channel()
        .write(
            stage.tag_id("label"),
            Value::Text("x".into()),
            false,
            PATIENCE,
            crate::stage::WRITER,
        )
        .await;
    let Err(RequestError::Failed {
        quality,
        code,
        message,
        trace,
    }) = answer
    else {
        panic!("{answer:?}");
    };
    let trace = trace.unwrap();
    assert_eq!((quality, code), (Quality::Bad, Some(7)));
    for (text, most) in [(&message, 4096), (&trace, 64 * 1024)] {
        // A cut is marked, and the longest mark or escape may not have fitted.
        assert!((most - 16..=most).contains(&text.len()), "{}", text.len());
        let words = text.strip_suffix('…').expect("a cut is marked");
        assert!(words.chars().all(|c| c == 'ä'));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_is_news_when_it_changes_and_a_65th_is_refused() {
    let mut stage = Stage::start(Plan::default()).await;
    let alarm = |active: bool| json!({ "alarm": { "code": "door", "active": active } });
    stage
        .must(&[alarm(true), alarm(true), alarm(false), alarm(false)])
        .await;
    stage.must(&[alarm(true)]).await;
    // About a device: the second of the channel.
    let of_desk = json!({ "alarm": { "code": "door", "active": true, "device": 1 } });
    stage.must(&[of_desk.clone(), of_desk]).await;
    let desk_is_shut = json!({ "alarm": { "code": "door", "active": false, "device": 1 } });
    stage.must(&[desk_is_shut, alarm(true)]).await;
    let worse = json!({ "alarm": { "code": "door", "active": true, "severity": "critical" } });
    let dated = json!({ "alarm": { "code": "door", "active": true, "severity": "critical", "source_ns": 7 } });
    stage.must(&[worse, dated]).await;
    let all = json!({ "alarm": { "code": "n", "count": 62, "active": true } });
    stage.must(&[all.clone(), all]).await;
    stage.catch_up().await;
    let heard = stage.seen.iter().filter_map(|seen| match seen {
        Seen::Alarm {
            code,
            severity,
            active,
            device,
            source_time,
        } => {
            let about = (code.as_str(), device.as_deref());
            Some((about, *active, *severity, *source_time))
        }
        _ => None,
    });
    let heard: Vec<_> = heard.collect();
    let (door, of_desk) = (("door", None), ("door", Some("desk")));
    let warning = Severity::Warning;
    assert_eq!(
        heard[..7],
        [
            (door, true, warning, None),
            (door, false, warning, None),
            (door, true, warning, None),
            (of_desk, true, warning, None),
            // The channel's own is up still: that of the device is another.
            (of_desk, false, warning, None),
            (door, true, Severity::Critical, None),
            (door, true, Severity::Critical, Some(WallNs(7))),
        ]
    );
    assert_eq!(heard.len(), 7 + 62, "{heard:?}");

    let one_more = json!({ "alarm": { "code": "one more" } });
    let sentence = stage.fault(&[one_more], ExitKind::Refused).await;
    assert!(sentence.contains("65 alarms are in use"), "{sentence}");
    let long = json!({ "alarm": { "code": "x".repeat(65) } });
    stage.event("started").await;
    let sentence = stage.fault(&[long], ExitKind::Refused).await;
    assert!(sentence.contains("65 bytes"), "{sentence}");
}

#[test]
fn what_is_logged_before_a_trap_is_seen_in_lines_that_harm_no_terminal() {
    let toml = Plan {
        rules: r#"
            { on = "started", life = 1, do = [
                { log = { text = "all is lost\u001b[2J\nERROR forged" } },
                { log = { text = "ä", times = 250 } },
                "trap",
            ] },"#,
        restart: r#"max_attempts = 3, delay = "0s", jitter = 0"#,
        ..Plan::default()
    }
    .toml();
    let folder = Folder::new().unwrap();
    folder.write_config(&toml).unwrap();
    let running = folder.start(&["run", Folder::CONFIG]).unwrap();
    let again = |line: &str| line.contains("wasm/stage#2").then_some(());
    running.err().wait_for(0, again).unwrap();
    let lines = running.err().so_far();
    assert_eq!(running.terminate().unwrap().code(), Some(0));
    let of_it: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("wasm/stage#1"))
        .collect();
    let at = |text: &str| {
        of_it
            .iter()
            .position(|line| line.contains(text))
            .unwrap_or_else(|| panic!("no {text:?} in {of_it:#?}"))
    };
    let (said, trapped) = (
        at(r"all is lost\u{1b}[2J\nERROR forged"),
        at("kind=trapped"),
    );
    assert!(said < trapped, "{of_it:#?}");
    let kept = of_it.iter().filter(|line| line.contains(" ä ")).count();
    assert_eq!(
        kept, 199,
        "200 at once, one of which came before: {of_it:#?}"
    );
    let dropped = of_it[at("log lines over the rate limit were dropped")];
    let (_, count) = dropped.split_once("dropped=").unwrap();
    let count: u64 = count.trim().parse().unwrap();
    // The others, and the few lines in which the panic speaks of itself.
    assert!((51..60).contains(&count), "{dropped}");
}
