//! Samples at a real broker (mosquitto), read there by its own client: each one, in order, through what brokers and networks do.
//!
//! The driver counts, so that what is missing shows: the value grows by one from sample to sample.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulkhead_tests::{Authority, Bulkhead, Folder, Running, free_port, rounds};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value as Json, json};

use crate::ledger::accepted;

/// A counter each 50 ms, and a value that can be written.
const CHANNEL: &str = "[[channel]]\nid = \"a\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
    [[channel.group]]\nname = \"fast\"\nperiod = \"50ms\"\ntags = [\n\
    { name = \"count\", address = \"counter\", type = \"uint64\" },\n\
    { name = \"held\", address = \"hold(20)\", type = \"uint8\", access = \"rw\", report = \"change\" }]\n";

/// The same channel with nothing that is polled.
const IDLE: &str = "[[channel]]\nid = \"a\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
    tag = [{ name = \"held\", address = \"hold(20)\", type = \"uint8\", access = \"rw\" }]\n";

/// A broker in a folder of its own. Ends with its value.
struct Broker {
    running: Running,
    folder: Folder,
    port: u16,
}

impl Broker {
    /// With further lines of configuration, in which `$DIR` is its folder and `$PORT` a second port.
    fn start(lines: &str) -> Result<Self> {
        Self::start_in(Folder::new()?, lines)
    }

    fn start_in(folder: Folder, lines: &str) -> Result<Self> {
        let port = free_port();
        let anonymous = if lines.contains("allow_anonymous") {
            ""
        } else {
            "allow_anonymous true\n"
        };
        // Without `user` a broker that root starts becomes somebody who may not read the folder.
        let text = format!(
            "listener {port} 127.0.0.1\nuser root\n{anonymous}log_dest stderr\nlog_type all\n{}\n",
            lines.replace("$DIR", &folder.path().display().to_string())
        );
        folder.write("mosquitto.conf", text)?;
        let running = run(folder.path())?;
        Ok(Self {
            running,
            folder,
            port,
        })
    }

    /// Kills it without a word.
    fn kill(self) -> Result<(Folder, u16)> {
        self.running.kill()?;
        Ok((self.folder, self.port))
    }

    /// Ends it in order.
    fn stop(self) -> Result<(Folder, u16)> {
        // Now and then this broker misses the signal, and waits for ever: it is told again.
        let id = self.running.id();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(5));
            let name = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            let process = i32::try_from(id).ok().and_then(Pid::from_raw);
            if let Some(process) = process.filter(|_| name.trim() == "mosquitto") {
                kill_process(process, Signal::TERM).ok();
            }
        });
        self.running.terminate()?;
        Ok((self.folder, self.port))
    }

    /// Starts it where it was.
    fn again((folder, port): (Folder, u16)) -> Result<Self> {
        let running = run(folder.path())?;
        Ok(Self {
            running,
            folder,
            port,
        })
    }

    /// The sink that leads here.
    fn sink(&self, lines: &str) -> String {
        format!(
            "{CHANNEL}[[sink]]\nkind = \"mqtt\"\nname = \"out\"\nurl = \"mqtt://127.0.0.1:{}\"\n{lines}\n",
            self.port
        )
    }

    /// How often such a line stands in its log.
    fn logged(&self, part: &str) -> usize {
        self.running
            .err()
            .so_far()
            .iter()
            .filter(|line| line.contains(part))
            .count()
    }

    fn wait_for(&self, part: &str) -> Result<()> {
        self.running
            .err()
            .wait_for(0, |line| line.contains(part).then_some(()))
    }

    /// Reads everything under a topic from now on. What comes while the reader or the broker is away is kept for it.
    fn reader(&self, name: &str, topic: &str) -> Result<Reader> {
        let mut command = client("mosquitto_sub", self.port);
        command.args([
            "-V", "mqttv311", "-i", name, "-c", "-q", "1", "-F", "%t %r %p", "-t", topic,
        ]);
        let running =
            Running::start(&mut command).context("apt-get install --yes mosquitto-clients")?;
        self.wait_for(&format!("Sending SUBACK to {name}"))?;
        Ok(Reader { running, read: 0 })
    }
}

fn run(folder: &Path) -> Result<Running> {
    // Debian has it where only the administrator looks.
    const DEBIAN: &str = "/usr/sbin/mosquitto";
    let program = if Path::new(DEBIAN).exists() {
        DEBIAN
    } else {
        "mosquitto"
    };
    let mut command = Command::new(program);
    command.arg("-c").arg(folder.join("mosquitto.conf"));
    let running = Running::start(&mut command).context("apt-get install --yes mosquitto")?;
    running
        .err()
        .wait_for(0, |line| line.ends_with(" running").then_some(()))
        .context("mosquitto does not start")?;
    Ok(running)
}

fn client(program: &str, port: u16) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    command
}

fn publish(port: u16, arguments: &[&str]) -> Result<()> {
    let ended = Running::start(
        client("mosquitto_pub", port)
            .args(["-q", "1"])
            .args(arguments),
    )?
    .wait()?;
    ensure!(ended.code() == Some(0), "{ended:#?}");
    Ok(())
}

/// mosquitto's own client, line by line.
struct Reader {
    running: Running,
    read: usize,
}

impl Reader {
    /// Topic, whether it was retained, payload.
    fn next(&mut self) -> Result<(String, bool, String)> {
        let line = self
            .running
            .out()
            .wait_for(self.read, |line| Some(line.to_owned()))?;
        self.read += 1;
        let mut parts = line.splitn(3, ' ');
        let mut part = || {
            parts
                .next()
                .map(str::to_owned)
                .with_context(|| line.clone())
        };
        Ok((part()?, part()? == "1", part()?))
    }

    /// Waits for this under that topic.
    fn wait_for(&mut self, topic: &str, payload: &str) -> Result<()> {
        loop {
            let (at, _, found) = self.next()?;
            if at == topic && found == payload {
                return Ok(());
            }
        }
    }
}

/// The members of an object, in their order.
struct Members(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(InOrder)
    }
}

#[derive(serde::Deserialize)]
struct Message {
    channel: String,
    epoch: u64,
    sequence: u64,
    values: Members,
    #[serde(default)]
    quality: BTreeMap<String, String>,
    offsets: Option<Vec<u64>>,
}

/// What was read, each sample once.
#[derive(Default)]
struct Ledger {
    /// Tag and value by epoch and sequence.
    samples: BTreeMap<(u64, u64), (String, Json)>,
    /// Of the counter, in the order in which they came first.
    counts: Vec<(u64, u64, u64)>,
    repeated: usize,
}

impl Ledger {
    fn take(&mut self, payload: &str) -> Result<()> {
        let message: Message = serde_json::from_str(payload).with_context(|| payload.to_owned())?;
        ensure!(message.channel == "a", "{payload}");
        for (at, (tag, value)) in message.values.0.into_iter().enumerate() {
            let offset = message
                .offsets
                .as_ref()
                .map_or(at as u64, |offsets| offsets[at]);
            let key = (message.epoch, message.sequence + offset);
            let is_good = !message.quality.contains_key(&tag);
            if let Some(known) = self.samples.get(&key) {
                ensure!(
                    *known == (tag, value),
                    "{key:?} was {known:?} before: {payload}"
                );
                self.repeated += 1;
                continue;
            }
            if tag == "count" && is_good {
                self.counts
                    .push((key.0, key.1, value.as_u64().context("a count")?));
            }
            self.samples.insert(key, (tag, value));
        }
        Ok(())
    }

    /// Reads until this many counts are there.
    fn read(&mut self, reader: &mut Reader, counts: usize) -> Result<()> {
        while self.counts.len() < counts {
            let (topic, _, payload) = reader.next()?;
            if topic == "bulkhead/a/fast" {
                self.take(&payload)?;
            }
        }
        Ok(())
    }

    /// Reads until this sample is there.
    fn read_until(&mut self, reader: &mut Reader, number: (u64, u64)) -> Result<()> {
        while !self.samples.contains_key(&number) {
            let (topic, _, payload) = reader.next()?;
            if topic == "bulkhead/a/fast" {
                self.take(&payload)?;
            }
        }
        Ok(())
    }

    /// Within an epoch no number is missing, and the counter goes up; where a machine stalls, polls are skipped, and the counter with them.
    fn check(&self) {
        for pair in self.counts.windows(2) {
            let [(epoch, sequence, value), (next_epoch, next_sequence, next)] = [pair[0], pair[1]];
            let follows = epoch < next_epoch
                || (epoch == next_epoch && sequence < next_sequence && value < next);
            assert!(follows, "{pair:?}");
        }
        let keys: Vec<(u64, u64)> = self.samples.keys().copied().collect();
        for pair in keys.windows(2) {
            assert!(
                pair[0].0 < pair[1].0 || pair[0].1 + 1 == pair[1].1,
                "{pair:?}"
            );
        }
    }
}

/// What the host says is wrong with its sink.
fn trouble(host: &Bulkhead, part: &str) -> Result<()> {
    host.get_until("/api/v1/status", |status| {
        status["sinks"][0]["trouble"]
            .as_str()?
            .contains(part)
            .then_some(())
    })
}

#[test]
fn every_value_arrives_in_order_by_each_version_and_quality() -> Result<()> {
    for version in ["3.1.1", "5"] {
        for qos in [0, 1] {
            let broker = Broker::start("")?;
            let mut reader = broker.reader("reader", "bulkhead/#")?;
            let host =
                Bulkhead::start(&broker.sink(&format!("version = \"{version}\"\nqos = {qos}")))?;
            reader.wait_for("bulkhead/out/status", "online")?;
            let mut ledger = Ledger::default();
            ledger.read(&mut reader, 20)?;
            ledger.check();
            assert_eq!(
                (ledger.counts[0].2, ledger.repeated),
                (1, 0),
                "{version}, QoS {qos}"
            );
            host.stop_gently()?;
            reader.wait_for("bulkhead/out/status", "offline")?;
        }
    }
    Ok(())
}

#[test]
fn who_comes_later_hears_whether_the_host_is_there() -> Result<()> {
    let broker = Broker::start("")?;
    let host = Bulkhead::start(&broker.sink(""))?;
    let mut counting = broker.reader("counting", "bulkhead/a/#")?;
    counting.next()?;
    let status = |name: &str| broker.reader(name, "bulkhead/out/status")?.next();
    let retained = |payload: &str| ("bulkhead/out/status".to_owned(), true, payload.to_owned());
    assert_eq!(status("first")?, retained("online"));
    // Nobody says goodbye: the broker says it for the host.
    let mut seeing = broker.reader("seeing", "bulkhead/out/status")?;
    host.kill()?;
    seeing.wait_for("bulkhead/out/status", "offline")?;
    assert_eq!(status("second")?, retained("offline"));
    Ok(())
}

#[test]
fn a_wrong_password_is_named_and_a_right_one_holds_from_then_on() -> Result<()> {
    let folder = Folder::new()?;
    let passwords = folder.path().join("passwords");
    let made = Running::start(
        Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(&passwords)
            .args(["gateway", "right"]),
    )?
    .wait()?;
    ensure!(made.code() == Some(0), "{made:#?}");
    let broker = Broker::start_in(
        folder,
        "allow_anonymous false\npassword_file $DIR/passwords",
    )?;
    let own = Folder::new()?;
    let secret = own.write("secret", "wrong\n")?;
    for version in ["3.1.1", "5"] {
        own.write("secret", "wrong\n")?;
        let keys = format!(
            "version = \"{version}\"\nusername = \"gateway\"\npassword = \"file:{}\"",
            secret.display()
        );
        let host = Bulkhead::start(&broker.sink(&keys))?;
        trouble(&host, "correct `username`")?;
        own.write("secret", "right\n")?;
        host.get_until("/api/v1/status", |status| {
            status["sinks"][0]["trouble"].is_null().then_some(())
        })?;
        host.stop_gently()?;
    }
    Ok(())
}

#[test]
fn a_link_does_not_flap_over_a_limit_of_sizes() -> Result<()> {
    // One message of all tags would be twice as long.
    let tags: Vec<String> = (0..40)
        .map(|at| {
            format!("{{ name = \"counter_{at}\", address = \"counter\", type = \"uint64\" }}")
        })
        .collect();
    let many = format!(
        "[[channel]]\nid = \"a\"\ndriver = \"$DRIVERS/signal.wasm\"\n[[channel.group]]\nname = \"fast\"\nperiod = \"50ms\"\ntags = [{}]\n",
        tags.join(", ")
    );
    for limit in ["max_packet_size 500", "message_size_limit 500"] {
        let broker = Broker::start(limit)?;
        let mut reader = broker.reader("reader", "bulkhead/a/#")?;
        let host = Bulkhead::start(
            &broker
                .sink("client_id = \"gateway\"")
                .replace(CHANNEL, &many),
        )?;
        let mut ledger = Ledger::default();
        while ledger.samples.len() < 40 * 20 {
            ledger.take(&reader.next()?.2)?;
        }
        ledger.check();
        assert_eq!(
            broker.logged(" as gateway "),
            1,
            "{limit}: one connection and no more"
        );
        host.stop_gently()?;
    }
    Ok(())
}

#[test]
fn samples_go_by_tls_to_the_right_broker_only() -> Result<()> {
    let folder = Folder::new()?;
    let authority = Authority::new(folder.path(), "plant-ca")?;
    let right = authority.sign("broker", "IP:127.0.0.1", 1)?;
    let ca = authority.ca();
    let port = free_port();
    let lines = format!(
        "listener {port} 127.0.0.1\ncertfile {}\nkeyfile {}",
        right.cert.display(),
        right.key.display()
    );
    let broker = Broker::start_in(folder, &lines)?;
    let mut reader = broker.reader("reader", "bulkhead/a/#")?;
    let sink = |keys: &str| {
        let plain = format!("mqtt://127.0.0.1:{}", broker.port);
        broker
            .sink(keys)
            .replace(&plain, &format!("mqtts://127.0.0.1:{port}"))
    };
    let host = Bulkhead::start(&sink(&format!("ca = \"{}\"", ca.display())))?;
    let mut ledger = Ledger::default();
    ledger.read(&mut reader, 5)?;
    ledger.check();
    host.stop_gently()?;

    let other = Folder::new()?;
    let stranger = Authority::new(other.path(), "other-ca")?;
    let host = Bulkhead::start(&sink(&format!("ca = \"{}\"", stranger.ca().display())))?;
    trouble(&host, "`ca`")?;
    Ok(())
}

#[test]
fn nothing_is_lost_where_the_broker_is_restarted() -> Result<()> {
    for version in ["3.1.1", "5"] {
        let mut broker = Broker::start(
            "persistence true\npersistence_location $DIR/\nmax_queued_messages 10000",
        )?;
        let mut reader = broker.reader("reader", "bulkhead/a/#")?;
        let host = Bulkhead::start(&broker.sink(&format!("version = \"{version}\"")))?;
        let mut ledger = Ledger::default();
        for round in 1..=3 {
            ledger.read(&mut reader, 20 * round)?;
            let left = broker.stop()?;
            trouble(&host, "the broker")?;
            broker = Broker::again(left)?;
        }
        ledger.read(&mut reader, 100)?;
        ledger.check();
        assert_eq!(ledger.counts[0].2, 1, "{version}");
    }
    Ok(())
}

/// A broker that keeps what its readers have not read, over its own end too.
fn keeping() -> Result<Broker> {
    Broker::start("persistence true\npersistence_location $DIR/\nmax_queued_messages 100000")
}

#[test]
fn nothing_is_lost_where_the_host_is_killed_in_the_midst_of_deliveries() -> Result<()> {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let broker = keeping()?;
    let mut reader = broker.reader("reader", "bulkhead/a/#")?;
    let config = broker.sink("outbox = true");
    let mut folder = Folder::new()?;
    let mut ledger = Ledger::default();
    let rounds = rounds(5, 50);
    let mut counts = 0;
    for round in 1..=rounds {
        let host = Bulkhead::start_in(folder, &config, &[])?;
        counts += random.usize(1..30);
        ledger.read(&mut reader, counts)?;
        counts = ledger.counts.len();
        // What the host says it has accepted is there in the end.
        let promised = accepted(&host, "out")?["a"];
        folder = host.kill()?;
        // Every second start only delivers.
        assert_eq!(promised.0, 2 * round - 1);
        let host = Bulkhead::start_in(folder, &config.replace(CHANNEL, IDLE), &[])?;
        host.get_until("/api/v1/outbox/out", |shown| {
            (shown["samples"] == 0).then_some(())
        })?;
        ledger.read_until(&mut reader, promised)?;
        folder = host.stop_gently()?;
    }
    ledger.check();
    eprintln!(
        "{} samples, {} of them twice",
        ledger.samples.len(),
        ledger.repeated
    );
    Ok(())
}

#[test]
fn what_a_long_outage_of_the_broker_has_piled_up_arrives_in_order() -> Result<()> {
    let broker = keeping()?;
    let mut reader = broker.reader("reader", "bulkhead/a/#")?;
    // A queue in memory that would have overflowed long before.
    let host = Bulkhead::start(&broker.sink("outbox = true\nqueue = 16"))?;
    let mut ledger = Ledger::default();
    ledger.read(&mut reader, 5)?;
    let left = broker.stop()?;
    trouble(&host, "the broker")?;
    host.get_until("/api/v1/outbox/out", |shown| {
        (shown["samples"].as_u64()? > 600).then_some(())
    })?;
    let status = host.get("/api/v1/status")?.body;
    let sink = &status["sinks"][0];
    assert!(
        sink["lag_samples"].as_u64() > Some(600) && sink["lag_ms"].as_u64() > Some(10_000),
        "{sink:#}"
    );
    let broker = Broker::again(left)?;
    let promised = accepted(&host, "out")?["a"];
    ledger.read_until(&mut reader, promised)?;
    ledger.check();
    assert_eq!(ledger.counts[0].2, 1);
    assert_eq!(
        host.get("/api/v1/status")?.body["sinks"][0]["dropped_samples"],
        0
    );
    drop(broker);
    Ok(())
}

#[test]
fn a_broker_that_was_killed_is_found_again() -> Result<()> {
    let mut broker = Broker::start("")?;
    let host = Bulkhead::start(&broker.sink(""))?;
    let mut before = 0;
    for _ in 0..rounds(5, 50) {
        // What a broker has acknowledged and not handed on goes with it, so each of its lives is a ledger of its own.
        let mut reader = broker.reader("reader", "bulkhead/a/#")?;
        let mut ledger = Ledger::default();
        // What was under way comes again, then what is new.
        let mut counts = 10;
        ledger.read(&mut reader, counts)?;
        while ledger.counts[counts - 1].2 <= before {
            counts += 1;
            ledger.read(&mut reader, counts)?;
        }
        ledger.check();
        before = ledger.counts[counts - 1].2;
        drop(reader);
        broker = Broker::again(broker.kill()?)?;
    }
    let ended = host.stop()?;
    assert!(
        !ended.err.iter().any(|line| line.contains("panicked")),
        "{ended:#?}"
    );
    Ok(())
}

#[test]
fn a_write_over_mqtt_is_done_and_answered() -> Result<()> {
    let broker = Broker::start("")?;
    let host = Bulkhead::start(&broker.sink("client_id = \"gateway\"\nwrites = true"))?;
    broker.wait_for("Sending SUBACK to gateway")?;
    let held = |wanted: u64| {
        host.get_until("/api/v1/tags/a/held", |tag| {
            (tag["value"].as_u64() == Some(wanted)).then_some(())
        })
    };
    held(20)?;
    let ask = |tag: &str, payload: &str| -> Result<Json> {
        let topic = format!("bulkhead/a/write/{tag}");
        let mut command = client("mosquitto_rr", broker.port);
        command.args([
            "-V",
            "mqttv5",
            "-q",
            "1",
            "-t",
            &topic,
            "-e",
            "asker/answers",
            "-m",
            payload,
            "-W",
            "30",
        ]);
        let ended = Running::start(&mut command)?.wait()?;
        serde_json::from_str(&ended.out.join("\n")).with_context(|| format!("{ended:#?}"))
    };
    assert_eq!(
        ask("held", r#"{"value":33,"id":"w1"}"#)?,
        json!({"id": "w1", "outcome": "done"})
    );
    held(33)?;
    for (tag, payload) in [
        ("held", "open"),
        ("held", "{}"),
        ("held", "\"text\""),
        ("none", "1"),
        ("count", "1"),
    ] {
        let answer = ask(tag, payload)?;
        assert!(
            ["refused", "failed"].contains(&answer["outcome"].as_str().context("an outcome")?),
            "{tag} {payload}: {answer}"
        );
        assert!(
            answer["message"]
                .as_str()
                .is_some_and(|message| message.len() > 5),
            "{answer}"
        );
    }
    held(33)?;

    // Without a topic of its own, the answer comes beside the write.
    let mut answers = broker.reader("answers", "bulkhead/a/write/held/answer")?;
    publish(broker.port, &["-t", "bulkhead/a/write/held", "-m", "44"])?;
    assert_eq!(answers.next()?.2, r#"{"outcome":"done"}"#);
    held(44)?;
    // What is retained would be written again and again.
    publish(
        broker.port,
        &["-t", "bulkhead/a/write/held", "-m", "55", "-r"],
    )?;
    let answer: Json = serde_json::from_str(&answers.next()?.2)?;
    assert_eq!(
        [&answer["outcome"], &answer["code"]],
        ["refused", "retained"]
    );
    held(44)?;
    Ok(())
}

#[test]
fn nobody_writes_where_writes_are_not_allowed() -> Result<()> {
    let broker = Broker::start("")?;
    let mut reader = broker.reader("reader", "bulkhead/a/fast")?;
    let host = Bulkhead::start(&broker.sink("client_id = \"gateway\""))?;
    reader.next()?;
    publish(broker.port, &["-t", "bulkhead/a/write/held", "-m", "44"])?;
    // Samples go on, and the broker knows of nobody who wants writes.
    let mut ledger = Ledger::default();
    ledger.read(&mut reader, 5)?;
    assert_eq!(broker.logged("Received SUBSCRIBE from gateway"), 0);
    assert_eq!(host.get("/api/v1/tags/a/held")?.body["value"], 20);
    Ok(())
}
