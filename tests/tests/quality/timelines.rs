//! What operators see of each tag while things go wrong with a device made of pymodbus, as a table that is committed beside this: moment,
//! tag, quality, the chain of reasons.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bulkhead_tests::{Bulkhead, Peer, Recorder, proxy::Proxy};
use expect_test::expect_file;
use serde_json::json;

const TAGS: [&str; 4] = ["line/near", "line/far", "line/wide", "other/t"];

struct Stage {
    host: Bulkhead,
    peer: Option<Peer>,
    proxy: Proxy,
    table: String,
    /// What stands in reasons and is another in each run.
    addresses: [String; 2],
}

impl Stage {
    fn start() -> Result<Self> {
        let peer = Peer::pymodbus()?;
        let to: SocketAddr = peer.address().parse()?;
        let proxy = Proxy::start("127.0.0.1:0", to)?;
        let host = Bulkhead::start(&format!(
            r#"
[[channel]]
id = "line"
driver = "$DRIVERS/modbus.wasm"
links.plc = {{ connect = "tcp://{}", base_delay = "50ms", max_delay = "100ms" }}
settings = {{ timeout_ms = 1_000, retries = 0 }}
restart = {{ first_delay = "0s" }}
[[channel.device]]
name = "one"
address = "1"
[[channel.device]]
name = "two"
address = "2"
[[channel.group]]
name = "fast"
period = "100ms"
tags = [
  {{ name = "near", address = "holding:100", type = "uint16", device = "one" }},
  {{ name = "far", address = "holding:100", type = "uint16", device = "two" }},
]
[[channel.group]]
name = "slow"
period = "200ms"
tags = [{{ name = "wide", address = "holding:104", type = "int32[2]", device = "one" }}]

[[channel]]
id = "other"
driver = "$DRIVERS/guests/traps.wasm"
settings = {{ when = "write" }}
restart = {{ max_attempts = 0, retry_broken = "never" }}
[[channel.group]]
name = "all"
period = "100ms"
tags = [{{ name = "t", address = "x", type = "float64", access = "rw" }}]
"#,
            proxy.address
        ))?;
        Ok(Self {
            addresses: [proxy.address.to_string(), to.to_string()],
            host,
            peer: Some(peer),
            proxy,
            table: String::new(),
        })
    }

    /// Waits until the tags have these qualities, and writes down what is said of each.
    fn moment(&mut self, what: &str, qualities: [&str; 4]) -> Result<()> {
        use std::fmt::Write as _;
        writeln!(self.table, "{what}")?;
        for (tag, quality) in TAGS.into_iter().zip(qualities) {
            // The driver may speak of a device a moment before or after it speaks of a tag.
            let path = format!("/api/v1/tags/{tag}");
            let mut last = None;
            let shown = self.host.get_until(&path, |tag| {
                let same = (tag["quality"].clone(), tag["reasons"].clone());
                let settled = last.as_ref() == Some(&same);
                last = Some(same);
                (settled && tag["quality"] == quality).then(|| tag.clone())
            })?;
            writeln!(self.table, "  {tag:<9} {quality}")?;
            for reason in shown["reasons"].as_array().into_iter().flatten() {
                let mut reason = reason.as_str().unwrap_or_default().to_owned();
                for (address, name) in self.addresses.iter().zip(["LINK", "DEVICE"]) {
                    reason = reason.replace(address, name);
                }
                // With which of the link's reasons it was marked, the first or the last, is a matter of moments: the line above says it.
                if let Some((tag, _)) = reason.split_once(": link ")
                    && tag.starts_with("tag ")
                {
                    reason.truncate(tag.len());
                }
                writeln!(self.table, "            {reason}")?;
            }
        }
        writeln!(self.table)?;
        Ok(())
    }

    /// Waits until every tag of the line has had each of these qualities, and holds that it had no other that is not good but, perhaps, `may`.
    fn in_turn(&mut self, what: &str, qualities: &[&str], may: &str) -> Result<()> {
        use std::fmt::Write as _;
        let recorder = Recorder::start(
            self.host
                .stream("/api/v1/stream?channel=line&kind=sample")?,
        );
        let of = |seen: &bulkhead_tests::Recording, tag: &str| -> BTreeSet<String> {
            let bad = seen
                .iter()
                .filter(|(_, data)| data["tag"] == tag && data["quality"] != "good");
            bad.filter_map(|(_, data)| Some(data["quality"].as_str()?.to_owned()))
                .collect()
        };
        let tags = ["near", "far", "wide"];
        recorder.wait(what, |seen| {
            tags.iter().all(|tag| {
                qualities
                    .iter()
                    .all(|quality| of(seen, tag).contains(*quality))
            })
        })?;
        let seen = recorder.so_far();
        for tag in tags {
            let others = of(&seen, tag).into_iter();
            let others: Vec<String> = others
                .filter(|other| !qualities.contains(&other.as_str()) && other != may)
                .collect();
            anyhow::ensure!(others.is_empty(), "{tag}: {others:?}");
        }
        let each = qualities.join(", ");
        writeln!(
            self.table,
            "{what}\n  line/*    in turn {each}, perhaps {may}\n"
        )?;
        Ok(())
    }

    fn order(&self, channel: &str, verb: &str) -> Result<()> {
        let reply = self
            .host
            .post(&format!("/api/v1/channels/{channel}/{verb}"), &json!({}))?;
        anyhow::ensure!(reply.status == 200, "{reply:?}");
        Ok(())
    }

    fn peer(&mut self) -> &mut Peer {
        self.peer.as_mut().expect("it is there")
    }
}

#[test]
fn what_operators_see_while_things_go_wrong() -> Result<()> {
    const GOOD: [&str; 4] = ["good"; 4];
    let mut stage = Stage::start()?;
    stage.moment("all is well", GOOD)?;

    stage.peer().set_exceptions(2, Some(4))?;
    stage.moment(
        "one unit answers exceptions",
        ["good", "bad-device-failure", "good", "good"],
    )?;
    stage.peer().set_exceptions(2, None)?;
    stage.moment("it answers again", GOOD)?;

    stage.peer().set_exceptions(2, Some(11))?;
    stage.moment(
        "a gateway says that the unit does not answer",
        ["good", "bad-no-communication", "good", "good"],
    )?;
    stage.peer().set_exceptions(2, None)?;
    stage.moment("it answers again", GOOD)?;

    let port = stage.peer().port;
    drop(stage.peer.take());
    stage.proxy.refuse()?;
    stage.host.get_until("/api/v1/channels/line", |channel| {
        let detail = channel["links"][0]["detail"].as_str()?;
        detail.contains("refused").then_some(())
    })?;
    stage.moment(
        "the device stops",
        [
            "bad-not-connected",
            "bad-not-connected",
            "bad-not-connected",
            "good",
        ],
    )?;
    stage.peer = Some(Peer::pymodbus_at(port)?);
    stage.proxy.admit()?;
    stage.moment("it starts again", GOOD)?;

    stage.proxy.set(bulkhead_tests::proxy::Manner {
        stall: true,
        ..Default::default()
    })?;
    stage.in_turn(
        "the link is silent: requests time out, and it is dialled anew, again and again",
        &["bad-timeout", "bad-not-connected"],
        // Of a tag that is still good when the other group finds its device silent: which of them is asked first is a matter of moments.
        "bad-no-communication",
    )?;
    stage.proxy.set(Default::default())?;
    stage.proxy.cut()?;
    stage.moment("it is cut, and dialled again", GOOD)?;

    stage.peer().set_delay(Duration::from_millis(300))?;
    stage.host.get_until("/api/v1/channels/line", |channel| {
        let groups = channel["groups"].as_array()?;
        let skipped = |at: usize| groups.get(at)?["punctuality"]["skipped"].as_u64();
        (skipped(0)? > 10 && skipped(1)? > 10).then_some(())
    })?;
    stage.moment(
        "each answer takes longer than the groups' periods: polls are skipped",
        GOOD,
    )?;
    stage.peer().set_delay(Duration::ZERO)?;

    stage.order("line", "stop")?;
    stage.moment(
        "an operator stops the channel",
        [
            "bad-out-of-service",
            "bad-out-of-service",
            "bad-out-of-service",
            "good",
        ],
    )?;
    stage.order("line", "start")?;
    stage.moment("and starts it", GOOD)?;
    stage.order("line", "restart")?;
    stage.moment("and restarts it", GOOD)?;

    let lock = stage.host.post(
        "/api/v1/channels/line/devices/two/lock",
        &json!({ "why": "being mended" }),
    )?;
    anyhow::ensure!(lock.status == 200, "{lock:?}");
    stage.moment(
        "an operator takes a device out of service",
        ["good", "bad-out-of-service", "good", "good"],
    )?;
    stage
        .host
        .post("/api/v1/channels/line/devices/two/unlock", &json!({}))?;
    stage.moment("and puts it back", GOOD)?;

    let write = stage
        .host
        .post("/api/v1/tags/other/t/write", &json!({ "value": 1 }))?;
    anyhow::ensure!(write.body["error"]["code"] == "restarted", "{write:?}");
    stage.moment("a driver traps", ["good", "good", "good", "bad-stale"])?;
    stage.order("other", "start")?;
    stage.moment("and is started again", GOOD)?;

    expect_file!["timelines.txt"].assert_eq(&stage.table);
    Ok(())
}
