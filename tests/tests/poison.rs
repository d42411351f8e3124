//! Events that end their driver at every encounter (case 43): the third time they are kept away from it, the faults that they
//! caused are given back to the restart policy, and the channel goes on. The list of them outlives the host.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, Recorder, Reply};
use serde_json::{Value, json};

const CHANNEL: &str = "/api/v1/channels/line";
const LETTERS: &str = "/api/v1/dead-letters";
/// The payloads of these tests in base64.
const POISON: &str = "cG9pc29u";
const BREAD: &str = "YnJlYWQ=";
const NONE: &str = "bm9uZQ==";

/// One channel that is asked for things, and polls nothing. Three attempts are all it has.
fn asked() -> String {
    let tags = "[[channel.tag]]\nname = \"level\"\naddress = \"fine\"\ntype = \"uint16\"\naccess = \"rw\"\n\
                [[channel.tag]]\nname = \"hole\"\naddress = \"poison\"\ntype = \"uint16\"\n";
    channel("max_attempts = 3", "", tags)
}

fn channel(restart: &str, links: &str, rest: &str) -> String {
    format!(
        "[[channel]]\nid = \"line\"\ndriver = \"$GUESTS/poisoned.wasm\"\n{links}\n\
         restart = {{ delay = \"10ms\", max_delay = \"10ms\", {restart} }}\n{rest}"
    )
}

fn running(host: &Bulkhead) -> Result<Value> {
    host.get_until(CHANNEL, |shown| {
        (shown["state"] == "running").then(|| shown.clone())
    })
}

fn command(host: &Bulkhead, name: &str, payload: &str) -> Result<Reply> {
    let body = match payload {
        "" => json!({}),
        "bread" => json!({ "payload_base64": BREAD }),
        _ => json!({ "payload_base64": POISON }),
    };
    host.post(&format!("{CHANNEL}/commands/{name}"), &body)
}

fn write(host: &Bulkhead, value: u64) -> Result<Reply> {
    host.post("/api/v1/tags/line/level/write", &json!({ "value": value }))
}

fn read(host: &Bulkhead, tag: &str) -> Result<Reply> {
    host.post(&format!("/api/v1/tags/line/{tag}/read"), &json!({}))
}

fn code(reply: &Reply) -> (u16, &str) {
    let code = reply.body["error"]["code"].as_str().unwrap_or_default();
    (reply.status, code)
}

fn letters(host: &Bulkhead) -> Result<Vec<Value>> {
    let body = host.get(LETTERS)?.body;
    Ok(body["dead_letters"].as_array().cloned().unwrap_or_default())
}

/// Asks until the answer is no longer that the driver ended; gives how often it did, and the answer.
fn until_it_lives(
    host: &Bulkhead,
    mut ask: impl FnMut(&Bulkhead) -> Result<Reply>,
) -> Result<(u32, Reply)> {
    let mut ended = 0;
    loop {
        running(host)?;
        let reply = ask(host)?;
        if code(&reply) != (503, "restarted") {
            return Ok((ended, reply));
        }
        ended += 1;
        assert!(ended < 20, "it never ends");
    }
}

#[test]
fn what_is_asked_for_and_ends_the_driver_three_times_is_refused_the_fourth() -> Result<()> {
    let host = Bulkhead::start(&asked())?;
    type Ask = fn(&Bulkhead) -> Result<Reply>;
    let table: [(&str, &str, Ask, Ask); 3] = [
        (
            "command",
            "eat",
            |host| command(host, "eat", "poison"),
            |host| command(host, "eat", "bread"),
        ),
        (
            "write",
            "level",
            |host| write(host, 13),
            |host| write(host, 12),
        ),
        (
            "read",
            "hole",
            |host| read(host, "hole"),
            |host| read(host, "level"),
        ),
    ];
    for (number, (kind, target, bad, good)) in (1..).zip(table) {
        let before = running(&host)?;
        let (ended, refused) = until_it_lives(&host, bad)?;
        assert_eq!((ended, code(&refused)), (3, (409, "quarantined")), "{kind}");
        let remedy = refused.body["error"]["remedy"].as_str().unwrap_or_default();
        assert!(
            remedy.contains(&format!("dead-letter retry line/{number}")),
            "{refused:?}"
        );
        assert_eq!(good(&host)?.status, 200, "{kind}: others go on");
        // Three lives, and no attempt.
        let after = running(&host)?;
        let lives = |shown: &Value| shown["incarnation"].as_u64().unwrap_or_default();
        assert_eq!(lives(&after), lives(&before) + 3, "{kind}");
        assert_eq!(after["attempts"], 0, "{kind}: {after:#}");
        let all = letters(&host)?;
        let last = all.last().context("a letter")?;
        assert_eq!(
            (
                &last["kind"],
                &last["target"],
                &last["number"],
                &last["faults"]
            ),
            (&json!(kind), &json!(target), &json!(number), &json!(3))
        );
        assert_eq!((all.len(), &last["exit"]), (number, &json!("trapped")));
    }
    let shown = running(&host)?;
    assert_eq!(
        (
            &shown["counters"]["faults"],
            &shown["counters"]["kept_away"]
        ),
        (&json!(9), &json!(3))
    );

    // Over a restart of the host nothing is forgotten, and nothing happens by itself.
    let host = host.start_again(&asked())?;
    running(&host)?;
    assert_eq!(letters(&host)?.len(), 3);
    assert_eq!(code(&write(&host, 13)?), (409, "quarantined"));
    assert_eq!(
        code(&command(&host, "eat", "poison")?),
        (409, "quarantined")
    );

    // Another chance is three chances; what is not on the list is not kept away.
    assert_eq!(
        host.post(&format!("{LETTERS}/line/2/retry"), &json!({}))?
            .status,
        200
    );
    assert_eq!(
        host.post(&format!("{LETTERS}/line/1/drop"), &json!({}))?
            .status,
        200
    );
    assert_eq!(
        running(&host)?["counters"]["faults"],
        0,
        "nothing was sent again"
    );
    let (ended, refused) = until_it_lives(&host, |host| write(host, 13))?;
    assert_eq!((ended, code(&refused)), (3, (409, "quarantined")));
    let numbers: Vec<Value> = letters(&host)?
        .iter()
        .map(|letter| letter["number"].clone())
        .collect();
    assert_eq!(numbers, [json!(3), json!(4)], "a number never comes twice");
    for wrong in ["line/1", "line/x", "line/99"] {
        let reply = host.post(&format!("{LETTERS}/{wrong}/retry"), &json!({}))?;
        assert_eq!(code(&reply), (404, "no-such-letter"), "{wrong}");
    }
    assert_eq!(
        code(&host.get(&format!("{LETTERS}/nobody/1"))?),
        (404, "no-such-channel")
    );
    Ok(())
}

#[test]
fn a_group_whose_poll_ends_the_driver_is_polled_no_longer_and_the_others_go_on() -> Result<()> {
    let group = |name: &str, address: &str| {
        format!(
            "[[channel.group]]\nname = \"{name}\"\nperiod = \"50ms\"\n\
             tags = [{{ name = \"{name}-tag\", address = \"{address}\", type = \"uint64\" }}]\n"
        )
    };
    let groups = group("healthy", "fine") + &group("rotten", "poison");
    let host = Bulkhead::start(&channel("max_attempts = 10", "", &groups))?;
    let events = Recorder::start(host.stream("/api/v1/stream?kind=alarm")?);
    let rotten = |why: &str| -> Result<Value> {
        host.get_until("/api/v1/tags/line/rotten-tag", |tag| {
            let reason = tag["reason"].as_str()?;
            (tag["quality"] == "bad" && reason.contains(why)).then(|| tag.clone())
        })
    };
    let healthy = || -> Result<Value> {
        let first = host.get("/api/v1/tags/line/healthy-tag")?.body["value"].clone();
        host.get_until("/api/v1/tags/line/healthy-tag", |tag| {
            let polls = tag["value"].as_u64()?;
            (tag["quality"] == "good" && polls > first.as_u64().unwrap_or_default() + 5)
                .then(|| tag.clone())
        })
    };
    rotten("`bulkhead dead-letter show line/1`")?;
    let before = running(&host)?;
    healthy()?;
    let after = running(&host)?;
    assert_eq!(before["incarnation"], after["incarnation"], "it lives on");
    // The first fault may have come in a turn with both polls: that one has no culprit, and counts.
    let attempts = |shown: &Value| {
        let faults = shown["counters"]["faults"].as_u64().unwrap_or_default();
        (faults, shown["attempts"].as_u64().unwrap_or_default())
    };
    let (faults, spent) = attempts(&after);
    assert!(
        (3..=4).contains(&faults) && spent == faults - 3,
        "{after:#}"
    );
    let all = letters(&host)?;
    assert_eq!(all.len(), 1);
    assert_eq!(
        (&all[0]["kind"], &all[0]["target"], &all[0]["faults"]),
        (&json!("poll"), &json!("rotten"), &json!(3))
    );
    events.wait("the alarm is raised", |seen| {
        seen.iter()
            .any(|(_, event)| event["code"] == "dead-letters" && event["active"] == true)
    })?;

    let reply = host.post(&format!("{LETTERS}/line/1/retry"), &json!({}))?;
    assert_eq!(
        (reply.status, &reply.body["target"]),
        (200, &json!("rotten"))
    );
    events.wait("the alarm is cleared", |seen| {
        seen.iter()
            .any(|(_, event)| event["code"] == "dead-letters" && event["active"] == false)
    })?;
    // Its next moments end the driver again, and again it is kept away.
    rotten("`bulkhead dead-letter show line/2`")?;
    healthy()?;
    let (faults, spent) = attempts(&running(&host)?);
    assert!(
        (6..=8).contains(&faults) && spent == faults - 6,
        "{faults}, {spent}"
    );
    assert_eq!(letters(&host)?.len(), 1);
    Ok(())
}

#[test]
fn a_saved_state_that_ends_the_driver_is_set_aside_and_it_starts_clean() -> Result<()> {
    let host = Bulkhead::start(&asked())?;
    let restart = |host: &Bulkhead| -> Result<()> {
        let before = running(host)?["incarnation"].clone();
        assert_eq!(
            host.post(&format!("{CHANNEL}/restart"), &json!({}))?.status,
            200
        );
        host.get_until(CHANNEL, |shown| {
            (shown["state"] == "running" && shown["incarnation"] != before).then_some(())
        })
    };
    let state = |host: &Bulkhead| -> Result<Value> {
        Ok(command(host, "state", "")?.body["payload_base64"].clone())
    };
    let none = json!(NONE);
    running(&host)?;
    assert_eq!(command(&host, "save", "bread")?.status, 200);
    restart(&host)?;
    assert_eq!(state(&host)?, BREAD);

    assert_eq!(command(&host, "save", "poison")?.status, 200);
    restart(&host)?;
    assert_eq!(state(&host)?, none);
    let shown = running(&host)?;
    assert_eq!(
        (&shown["counters"]["faults"], &shown["attempts"]),
        (&json!(3), &json!(0))
    );
    let letter = host.get(&format!("{LETTERS}/line/1"))?.body;
    assert_eq!(
        (&letter["kind"], &letter["payload_base64"], &letter["whole"]),
        (&json!("started"), &json!(POISON), &json!(true))
    );

    // The next host keeps it away as well.
    let host = host.start_again(&asked())?;
    running(&host)?;
    assert_eq!(state(&host)?, none);
    assert_eq!(running(&host)?["counters"]["faults"], 0);

    // After `retry` the next life gets it; that ends three lives more.
    assert_eq!(
        host.post(&format!("{LETTERS}/line/1/retry"), &json!({}))?
            .status,
        200
    );
    restart(&host)?;
    assert_eq!((state(&host)?, letters(&host)?.len()), (none.clone(), 1));
    assert_eq!(running(&host)?["counters"]["faults"], 3);

    // After `drop` nobody gets it any more.
    assert_eq!(
        host.post(&format!("{LETTERS}/line/2/drop"), &json!({}))?
            .status,
        200
    );
    restart(&host)?;
    assert_eq!((state(&host)?, letters(&host)?), (none, Vec::new()));
    assert_eq!(running(&host)?["counters"]["faults"], 3);
    Ok(())
}

#[test]
fn bytes_that_end_the_driver_are_dropped_and_their_connection_is_reset() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let link = format!(
        "links.peer = {{ connect = \"tcp://{}\" }}",
        listener.local_addr()?
    );
    let host = Bulkhead::start(&channel("max_attempts = 3", &link, ""))?;
    let accept = || -> Result<TcpStream> {
        let (stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(bulkhead_tests::PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let echoes = |stream: &mut TcpStream, text: &str| -> Result<()> {
        stream.write_all(text.as_bytes())?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).context("an echo")?;
        assert_eq!(back, text.as_bytes());
        Ok(())
    };
    // Alone in their turn: what was sent before them is back.
    for faults in 1..=4 {
        let mut stream = accept()?;
        echoes(&mut stream, "bread")?;
        stream.write_all(b"poison")?;
        // Three times the driver ends, the fourth time it does not hear of it; the stream ends each time.
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(rest, b""),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        let counted = host.get_until(CHANNEL, |shown| {
            let counters = &shown["counters"];
            let seen = counters["faults"].as_u64()? + counters["kept_away"].as_u64()?;
            (seen == faults).then(|| counters.clone())
        })?;
        assert_eq!(counted["faults"], faults.min(3), "{counted}");
    }
    let mut stream = accept()?;
    echoes(&mut stream, "the same life goes on")?;
    let shown = running(&host)?;
    assert_eq!(
        (&shown["incarnation"], &shown["attempts"]),
        (&json!(4), &json!(0))
    );
    let all = letters(&host)?;
    assert_eq!(
        (
            all.len(),
            &all[0]["kind"],
            &all[0]["target"],
            &all[0]["length"]
        ),
        (1, &json!("received"), &json!("peer"), &json!(6))
    );
    Ok(())
}

#[test]
fn what_is_lived_through_once_in_a_while_is_no_poison() -> Result<()> {
    let host = Bulkhead::start(&channel("max_attempts = 50", "", ""))?;
    for round in 1..=3u64 {
        // Two lives of three end by it: in the first round 1 and 2, then 4 and 5, then 7 and 8.
        let (ended, answer) = until_it_lives(&host, |host| command(host, "flaky", ""))?;
        assert_eq!((ended, code(&answer).0), (2, 200), "round {round}");
        assert_eq!(running(&host)?["incarnation"], 3 * round);
        // The fourth, without asking it of the third again.
        assert_eq!(
            host.post(&format!("{CHANNEL}/restart"), &json!({}))?.status,
            200
        );
        host.get_until(CHANNEL, |shown| {
            (shown["state"] == "running" && shown["incarnation"] == 3 * round + 1).then_some(())
        })?;
    }
    assert_eq!(running(&host)?["counters"]["faults"], 6);
    assert_eq!(letters(&host)?, Vec::<Value>::new());
    Ok(())
}

#[test]
fn the_command_line_lists_shows_retries_and_drops() -> Result<()> {
    let host = Bulkhead::start(&asked())?;
    let ask = |arguments: &[&str]| host.client(&[&["dead-letter"], arguments].concat());
    let json_of = |arguments: &[&str]| -> Result<Vec<Value>> {
        let ended = ask(&[arguments, &["--json"]].concat())?;
        assert_eq!(ended.code(), Some(0), "{ended:#?}");
        ended
            .out
            .iter()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    };
    assert_eq!(json_of(&["list"])?, Vec::<Value>::new());
    until_it_lives(&host, |host| command(host, "eat", "poison"))?;
    until_it_lives(&host, |host| write(host, 13))?;
    let listed = json_of(&["list", "--channel", "line"])?;
    let kinds: Vec<&Value> = listed.iter().map(|letter| &letter["kind"]).collect();
    assert_eq!(kinds, [&json!("command"), &json!("write")]);
    let table = ask(&["list"])?;
    assert!(
        table
            .out
            .iter()
            .any(|line| line.contains("line/2") && line.contains("level")),
        "{table:#?}"
    );

    let shown = &json_of(&["show", "line/1"])?[0];
    assert_eq!(
        (&shown["payload_base64"], &shown["faults"]),
        (&json!(POISON), &json!(3))
    );
    let text = ask(&["show", "line/1"])?.out.join("\n");
    for part in ["poison", "trapped", "answered `quarantined`", "sha256"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(json_of(&["retry", "line/1"])?[0]["number"], 1);
    let dropped = ask(&["drop", "line/2"])?;
    assert_eq!(dropped.code(), Some(0), "{dropped:#?}");
    assert_eq!(json_of(&["list"])?, Vec::<Value>::new());
    let gone = ask(&["show", "line/1"])?;
    assert_eq!(gone.code(), Some(1), "{gone:#?}");
    assert_eq!(ask(&["show", "line"])?.code(), Some(2));
    assert_eq!(ask(&["list", "--channel", "nobody"])?.code(), Some(1));
    Ok(())
}
