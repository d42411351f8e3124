//! Polls: answered once each, never two at once, and at once when a link comes up.

use bulkhead::exit::ExitKind;
use bulkhead_tests::free_port;
use serde_json::{Value as Json, json};

use crate::peer::{OPEN, Peer, link};
use crate::stage::{Plan, Seen, Stage};

fn group(period: &str) -> String {
    format!(
        r#"
[[channel.group]]
name = "group"
device = "stage"
period = "{period}"
tags = [{{ name = "beat", address = "beat", type = "int32" }}]
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_not_due_again_before_its_poll_is_done_and_skipped_moments_count() {
    let mut stage = Stage::start(Plan {
        rules: r#"{ on = "poll", do = [] },"#,
        tables: &group("10ms"),
        ..Plan::default()
    })
    .await;
    let first = stage.event("poll").await;
    let mut skipped = 0;
    while skipped < 3 {
        skipped += stage
            .wait(|seen| match seen {
                Seen::Skipped(count) => Some(*count),
                _ => None,
            })
            .await;
    }
    assert_eq!(stage.told("poll").len(), 1);
    let done = json!({ "group": 0, "cycle": first["cycle"] });
    stage.must(&[json!({ "poll-done": done })]).await;
    let second = stage.event("poll").await;
    let cycle = |poll: &Json| poll["cycle"].as_u64().unwrap();
    assert!(cycle(&second) > cycle(&first) + skipped, "{first} {second}");
    // The second is not answered either, so more may have been skipped by now.
    let between = cycle(&second) - cycle(&first) - 1;
    assert!(stage.channel().status().counters.polls_skipped >= between);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cycles_count_and_polls_keep_to_their_grid() {
    let mut stage = Stage::start(Plan {
        tables: &group("10ms"),
        ..Plan::default()
    })
    .await;
    // The very first comes out of turn, since the channel has no link to wait for.
    let first = stage.event("poll").await;
    let mut last = first["cycle"].as_u64().unwrap();
    let mut phase = None;
    for _ in 0..10 {
        let poll = stage.event("poll").await;
        let [cycle, scheduled, at] =
            ["cycle", "scheduled", "at"].map(|key| poll[key].as_u64().unwrap());
        assert!(cycle > last && scheduled <= at, "{poll}");
        let offset = scheduled % 10_000_000;
        assert_eq!(*phase.get_or_insert(offset), offset, "{poll}");
        last = cycle;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_is_done_twice_or_with_another_cycle_is_refused() {
    let mut stage = Stage::start(Plan {
        rules: r#"{ on = "poll", do = [] },"#,
        tables: &group("10ms"),
        ..Plan::default()
    })
    .await;
    for wrong in 0..2 {
        let poll = stage.event("poll").await;
        let cycle = poll["cycle"].as_u64().unwrap();
        let done = |cycle| json!({ "poll-done": { "group": 0, "cycle": cycle } });
        let steps = match wrong {
            0 => [stage.level(1), done(cycle), done(cycle)],
            _ => [stage.level(1), done(cycle), done(cycle + 1)],
        };
        let sentence = stage.fault(&steps, ExitKind::Refused).await;
        let expected = "action 5 of 5 (poll-done) answers a poll of group 0";
        assert!(sentence.starts_with(expected), "{sentence}");
    }
    assert!(stage.levels(bulkhead::event::Quality::Good).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_comes_up_polls_its_groups_at_once() {
    let port = free_port();
    let mut stage = Stage::start(Plan {
        rules: OPEN,
        keys: &link(port, ""),
        tables: &group("1d"),
        ..Plan::default()
    })
    .await;
    stage.event("closed").await;
    let _peer = Peer::listen_on(port).await;
    stage.event("opened").await;
    let polled = stage.told("poll").len() == 1 || stage.event("poll").await["cycle"].is_u64();
    assert!(polled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_kept_over_a_restart_polls_its_groups_at_once() {
    let peer = Peer::listen().await;
    let mut stage = Stage::start(Plan {
        rules: r#"{ on = "started", life = 1, do = [{ open = { connection = 0, link = 0 } }] },"#,
        keys: &peer.link(r#", on_restart = "keep""#),
        tables: &group("1d"),
        ..Plan::default()
    })
    .await;
    stage.page("poll").await;
    stage.fault(&[json!("trap")], ExitKind::Trapped).await;
    let started = stage.event("started").await;
    assert_eq!(started["connections"][0]["id"], 0);
    let (page, _) = stage.page("poll").await;
    assert_eq!(page["life"], 2);
}
