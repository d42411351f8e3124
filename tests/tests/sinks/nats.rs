//! Samples in a real stream (nats-server with JetStream): each one once and in order, whatever is killed.
//!
//! The stream is read over a socket: its protocol is lines, and no client of it is packaged by Debian.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead_tests::{Authority, Bulkhead, Folder, PATIENCE, Running, free_port, rounds};
use serde_json::{Value as Json, json};

/// Two channels with a counter each 20 ms.
const CHANNELS: &str = "[[channel]]\nid = \"a\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
    [[channel.group]]\nname = \"fast\"\nperiod = \"20ms\"\ntags = [\n\
    { name = \"count\", address = \"counter\", type = \"uint64\" }]\n\
    [[channel]]\nid = \"b.2\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
    [[channel.group]]\nname = \"fast\"\nperiod = \"20ms\"\ntags = [\n\
    { name = \"count\", address = \"counter\", type = \"uint64\" }]\n";

/// A server in a folder of its own. Ends with its value.
struct Server {
    // Ends first: the folder is removed when nobody writes to it any more.
    running: Option<Running>,
    folder: Folder,
    port: u16,
}

impl Server {
    /// With further lines of configuration, in which `$DIR` is its folder.
    fn start(lines: &str) -> Result<Self> {
        Self::start_in(Folder::new()?, lines)
    }

    fn start_in(folder: Folder, lines: &str) -> Result<Self> {
        let port = free_port();
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"$DIR/jetstream\" }}\n{lines}\n"
        );
        let text = text.replace("$DIR", &folder.path().display().to_string());
        folder.write("nats.conf", text)?;
        let mut server = Self {
            running: None,
            folder,
            port,
        };
        server.start_again()?;
        Ok(server)
    }

    /// Starts it where it was.
    fn start_again(&mut self) -> Result<()> {
        // Debian has it where only the administrator looks.
        const DEBIAN: &str = "/usr/sbin/nats-server";
        let program = if Path::new(DEBIAN).exists() {
            DEBIAN
        } else {
            "nats-server"
        };
        let mut command = Command::new(program);
        command.arg("-c").arg(self.folder.path().join("nats.conf"));
        let running = Running::start(&mut command).context("apt-get install --yes nats-server")?;
        running
            .err()
            .wait_for(0, |line| line.contains("Server is ready").then_some(()))
            .context("nats-server does not start")?;
        self.running = Some(running);
        Ok(())
    }

    /// Kills it without a word.
    fn kill(&mut self) -> Result<()> {
        self.running.take().context("it runs")?.kill()
    }

    /// The sink that leads here.
    fn sink(&self, keys: &str) -> String {
        format!(
            "{CHANNELS}[[sink]]\nkind = \"nats\"\nname = \"out\"\nurl = \"nats://127.0.0.1:{}\"\n{keys}\n",
            self.port
        )
    }

    fn reader(&self) -> Result<Reader> {
        self.reader_as("{}")
    }

    /// Who logs in as this.
    fn reader_as(&self, login: &str) -> Result<Reader> {
        let mut login: Json = serde_json::from_str(login)?;
        login["verbose"] = false.into();
        login["headers"] = true.into();
        login["no_responders"] = true.into();
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut reader = Reader {
            lines: BufReader::new(stream.try_clone()?),
            stream,
            reads: 0,
        };
        reader.say(&format!("CONNECT {login}\r\nSUB answers.* {ANSWERS}\r\n"))?;
        Ok(reader)
    }
}

/// Reads a stream.
struct Reader {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
    /// How often it has read a stream: each time by a subscription of its own.
    reads: u32,
}

/// The subscription that answers come to.
const ANSWERS: u32 = 1;

/// What comes to a subscription. A stream's messages keep the subject that they were published under.
struct Came {
    subscription: u32,
    headers: String,
    payload: Vec<u8>,
}

impl Reader {
    fn say(&mut self, said: &str) -> Result<()> {
        Ok(self.stream.write_all(said.as_bytes())?)
    }

    fn next(&mut self) -> Result<Came> {
        loop {
            let mut line = String::new();
            ensure!(self.lines.read_line(&mut line)? > 0, "the server hung up");
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words[at].parse::<usize>().with_context(|| line.clone());
            match words.first() {
                Some(&"PING") => self.say("PONG\r\n")?,
                Some(&"-ERR") => bail!("{line}"),
                Some(&("MSG" | "HMSG")) => {
                    let total = number(words.len() - 1)?;
                    let headers = if words[0] == "HMSG" {
                        number(words.len() - 2)?
                    } else {
                        0
                    };
                    let subscription = words[2].parse()?;
                    let mut bytes = vec![0; total + 2];
                    self.lines.read_exact(&mut bytes)?;
                    return Ok(Came {
                        subscription,
                        headers: String::from_utf8(bytes[..headers].to_vec())?,
                        payload: bytes[headers..total].to_vec(),
                    });
                }
                _ => {}
            }
        }
    }

    /// Asks JetStream.
    fn ask(&mut self, what: &str, payload: &Json) -> Result<Json> {
        let payload = payload.to_string();
        self.say(&format!(
            "PUB $JS.API.{what} answers.1 {}\r\n{payload}\r\n",
            payload.len()
        ))?;
        loop {
            let came = self.next()?;
            if came.subscription == ANSWERS {
                ensure!(!came.payload.is_empty(), "{what}: {}", came.headers);
                return Ok(serde_json::from_slice(&came.payload)?);
            }
        }
    }

    /// Makes a stream, or changes it.
    fn configure(&mut self, verb: &str, stream: &str, keys: Json) -> Result<()> {
        let mut config = json!({
            "name": stream, "subjects": [format!("{stream}.>")], "retention": "limits", "storage": "file",
            "discard": "new", "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "num_replicas": 1,
        });
        for (key, value) in keys.as_object().context("keys")? {
            config[key] = value.clone();
        }
        let answer = self.ask(&format!("STREAM.{verb}.{stream}"), &config)?;
        ensure!(answer["error"].is_null(), "{answer}");
        Ok(())
    }

    /// Everything that a stream holds now, in its order: the header `Nats-Msg-Id` and the payload.
    fn read(&mut self, stream: &str) -> Result<Vec<(String, Json)>> {
        let info = self.ask(&format!("STREAM.INFO.{stream}"), &json!({}))?;
        if info["error"]["err_code"] == 10_059 {
            // It is not there yet.
            return Ok(Vec::new());
        }
        let count = info["state"]["messages"]
            .as_u64()
            .with_context(|| info.to_string())?;
        self.reads += 1;
        let own = ANSWERS + self.reads;
        self.say(&format!("SUB samples.{own} {own}\r\n"))?;
        let consumer = json!({ "stream_name": stream, "config": {
            "deliver_subject": format!("samples.{own}"), "deliver_policy": "all", "ack_policy": "none",
            "replay_policy": "instant",
        }});
        // Answer and messages come in any order.
        let consumer = consumer.to_string();
        self.say(&format!(
            "PUB $JS.API.CONSUMER.CREATE.{stream} answers.2 {}\r\n{consumer}\r\n",
            consumer.len()
        ))?;
        let (mut messages, mut name) = (Vec::new(), None);
        while (messages.len() as u64) < count || name.is_none() {
            let came = self.next()?;
            if came.subscription == ANSWERS {
                let answer: Json = serde_json::from_slice(&came.payload)?;
                name = Some(
                    answer["name"]
                        .as_str()
                        .with_context(|| answer.to_string())?
                        .to_owned(),
                );
                continue;
            }
            if came.subscription != own {
                continue;
            }
            let id = came
                .headers
                .lines()
                .find_map(|line| line.strip_prefix("Nats-Msg-Id: "));
            let id = id.with_context(|| came.headers.clone())?.to_owned();
            messages.push((id, serde_json::from_slice(&came.payload)?));
        }
        messages.truncate(usize::try_from(count)?);
        let name = name.context("a consumer")?;
        self.say(&format!("UNSUB {own}\r\n"))?;
        self.ask(&format!("CONSUMER.DELETE.{stream}.{name}"), &json!({}))?;
        Ok(messages)
    }
}

/// In the order of the stream and without taking anything out: each id once, and by channel each number once and the counter without
/// a gap. Gives the number of samples.
fn check(messages: &[(String, Json)]) -> Result<usize> {
    let mut ids = BTreeSet::new();
    let mut last: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
    let mut samples = 0;
    for (id, message) in messages {
        ensure!(ids.insert(id), "{id} is there twice");
        if message["channel"].is_null() {
            bail!("a gap: {message}");
        }
        let (channel, epoch) = (
            message["channel"].as_str().context("a channel")?,
            number(message, "epoch")?,
        );
        let values = message["values"].as_object().context("values")?;
        ensure!(
            values.len() == 1 && message["offsets"].is_null(),
            "{message}"
        );
        samples += 1;
        let sequence = number(message, "sequence")?;
        ensure!(
            *id == format!(
                "{channel}:{epoch}:{sequence}-{sequence}:1:{}",
                number(message, "time_ns")?
            ),
            "{id}: {message}"
        );
        let good = message["quality"].is_null();
        let before = last.get(channel).copied();
        let value = match good {
            true => number(&message["values"], "count")?,
            false => before.map_or(0, |(.., value)| value),
        };
        if let Some((last_epoch, last_sequence, last_value)) = before {
            let follows = epoch == last_epoch
                && sequence == last_sequence + 1
                && (!good || value > last_value);
            ensure!(
                epoch > last_epoch && sequence == 1 || follows,
                "{before:?}, then {message}"
            );
        }
        last.insert(channel.to_owned(), (epoch, sequence, value));
    }
    Ok(samples)
}

fn number(of: &Json, key: &str) -> Result<u64> {
    of[key].as_u64().with_context(|| format!("{key}: {of}"))
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

fn no_trouble(host: &Bulkhead) -> Result<()> {
    host.get_until("/api/v1/status", |status| {
        status["sinks"][0]["trouble"].is_null().then_some(())
    })
}

/// Waits until what a channel has counted by now is in the stream.
fn wait_for_now(host: &Bulkhead, reader: &mut Reader, stream: &str) -> Result<()> {
    let count = host.get_until("/api/v1/tags/a/count", |tag| tag["value"].as_u64())?;
    let epoch = |message: &Json| message["epoch"].as_u64();
    for _ in 0..600 {
        let messages = reader.read(stream)?;
        let now = messages
            .iter()
            .filter_map(|(_, message)| epoch(message))
            .max();
        let is_there = messages.iter().any(|(_, message)| {
            epoch(message) == now
                && message["channel"] == "a"
                && message["values"]["count"]
                    .as_u64()
                    .is_some_and(|value| value >= count)
        });
        if is_there {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    bail!("{count} never came: {}", host.process().printed())
}

#[test]
fn every_sample_is_there_once_and_in_order_whatever_is_killed() -> Result<()> {
    let mut server = Server::start("")?;
    let config = server.sink("");
    let mut host = Bulkhead::start(&config)?;
    for round in 0..rounds(5, 50) {
        no_trouble(&host)?;
        wait_for_now(&host, &mut server.reader()?, "BULKHEAD")?;
        server.kill()?;
        trouble(&host, "the NATS server")?;
        if round % 2 == 0 {
            // What it holds while the server is away stands in its outbox.
            host = Bulkhead::start_in(host.kill()?, &config, &[])?;
        }
        server.start_again()?;
        no_trouble(&host)?;
        // In the midst of a delivery, as it may be.
        host = Bulkhead::start_in(host.kill()?, &config, &[])?;
    }
    let mut reader = server.reader()?;
    wait_for_now(&host, &mut reader, "BULKHEAD")?;
    host.stop_gently()?;
    let samples = check(&reader.read("BULKHEAD")?)?;
    assert!(samples > 100, "{samples}");
    let info = reader.ask("STREAM.INFO.BULKHEAD", &json!({}))?;
    assert_eq!(info["config"]["subjects"], json!(["bulkhead.*.*"]));
    assert_eq!(info["config"]["duplicate_window"], 120_000_000_000u64);
    Ok(())
}

#[test]
fn a_wrong_password_is_named_and_a_right_one_holds_from_then_on() -> Result<()> {
    let server = Server::start("authorization { users = [ { user: plant, password: hush } ] }")?;
    let own = Folder::new()?;
    let secret = own.write("secret", "wrong\n")?;
    let host = Bulkhead::start(&server.sink(&format!(
        "user = \"plant\"\npassword = \"file:{}\"",
        secret.display()
    )))?;
    trouble(&host, "`password`")?;
    own.write("secret", "hush\n")?;
    no_trouble(&host)?;
    let mut reader = server.reader_as(r#"{"user":"plant","pass":"hush"}"#)?;
    wait_for_now(&host, &mut reader, "BULKHEAD")?;
    check(&reader.read("BULKHEAD")?)?;
    Ok(())
}

#[test]
fn samples_go_by_tls_to_the_right_server_only() -> Result<()> {
    let folder = Folder::new()?;
    let authority = Authority::new(folder.path(), "plant-ca")?;
    let right = authority.sign("server", "DNS:nats.plant.example", 1)?;
    let ca = authority.ca();
    let lines = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}",
        right.cert.display(),
        right.key.display()
    );
    let server = Server::start_in(folder, &lines)?;
    let sink = |ca: &Path, name: &str| {
        let keys = format!("ca = \"{}\"\nserver_name = \"{name}\"", ca.display());
        server.sink(&keys).replace("nats://", "tls://")
    };
    let delivers = |host: &Bulkhead| {
        host.get_until("/api/v1/status", |status| {
            let sink = &status["sinks"][0];
            (sink["written_samples"].as_u64()? > 20).then_some(())
        })
    };
    let host = Bulkhead::start(&sink(&ca, "nats.plant.example"))?;
    delivers(&host)?;
    host.stop_gently()?;
    let host = Bulkhead::start(&server.sink(""))?;
    trouble(&host, "tls://")?;
    host.stop_gently()?;
    let host = Bulkhead::start(&sink(&ca, "other.plant.example"))?;
    trouble(&host, "`server_name`")?;
    host.stop_gently()?;
    let other = Folder::new()?;
    let stranger = Authority::new(other.path(), "other-ca")?;
    let host = Bulkhead::start(&sink(&stranger.ca(), "nats.plant.example"))?;
    trouble(&host, "`ca`")?;
    host.stop_gently()?;
    Ok(())
}

#[test]
fn a_full_stream_is_waited_for_and_loses_nothing() -> Result<()> {
    let server = Server::start("")?;
    let mut reader = server.reader()?;
    reader.configure("CREATE", "small", json!({ "max_bytes": 20_000 }))?;
    let keys = "stream = \"small\"\nsubject = \"small.{channel}\"\ncreate = false";
    let host = Bulkhead::start(&server.sink(keys))?;
    trouble(&host, "raise the limits of the stream")?;
    check(&reader.read("small")?)?;
    reader.configure("UPDATE", "small", json!({}))?;
    no_trouble(&host)?;
    wait_for_now(&host, &mut reader, "small")?;
    check(&reader.read("small")?)?;
    Ok(())
}

#[test]
fn a_missing_stream_is_asked_for_and_a_deleted_one_is_made_again() -> Result<()> {
    let server = Server::start("")?;
    let host = Bulkhead::start(&server.sink("create = false"))?;
    trouble(&host, "`create = true`")?;
    host.stop_gently()?;
    let host = Bulkhead::start(&server.sink(""))?;
    let mut reader = server.reader()?;
    no_trouble(&host)?;
    host.get_until("/api/v1/status", |status| {
        status["sinks"][0]["written_samples"]
            .as_u64()
            .filter(|count| *count > 20)
    })?;
    let deleted = reader.ask("STREAM.DELETE.BULKHEAD", &json!({}))?;
    assert_eq!(deleted["success"], true, "{deleted}");
    trouble(&host, "does not take bulkhead.")?;
    no_trouble(&host)?;
    wait_for_now(&host, &mut reader, "BULKHEAD")?;
    Ok(())
}

#[test]
fn what_is_longer_than_the_server_takes_is_cut() -> Result<()> {
    let server = Server::start("max_payload: 4096")?;
    let tags: Vec<String> = (0..400)
        .map(|at| {
            format!("{{ name = \"counter_{at:03}\", address = \"counter\", type = \"uint64\" }}")
        })
        .collect();
    let many = format!(
        "[[channel]]\nid = \"a\"\ndriver = \"$DRIVERS/signal.wasm\"\n[[channel.group]]\nname = \"fast\"\nperiod = \"100ms\"\ntags = [{}]\n",
        tags.join(", ")
    );
    let host = Bulkhead::start(&server.sink("").replace(CHANNELS, &many))?;
    host.get_until("/api/v1/status", |status| {
        let sink = &status["sinks"][0];
        (sink["written_samples"].as_u64()? > 2_000).then_some(())
    })?;
    host.stop_gently()?;
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    let messages = server.reader()?.read("BULKHEAD")?;
    for (id, message) in &messages {
        ensure!(message.to_string().len() <= 4_096, "{message}");
        let values = message["values"].as_object().context("values")?.len() as u64;
        let next = next.entry(number(message, "epoch")?).or_insert(1);
        assert_eq!(number(message, "sequence")?, *next, "{id}");
        *next += values;
    }
    let first = &messages.first().context("messages came")?.1;
    assert_eq!(number(first, "sequence")?, 1);
    let values = first["values"].as_object().context("values")?.len();
    assert!(values < 400, "the first batch is cut: {values}");
    Ok(())
}
