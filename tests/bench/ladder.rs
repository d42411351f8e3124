//! `bench ladder`: from a simulated Modbus device through drivers in their sandboxes to a broker, at growing rates: what comes out,
//! what it costs, how late it is.
//!
//! Three other processes take part on the same machine: the device, mosquitto, and this one, which reads what the broker has. The
//! host's own cost is what the kernel has counted for its process: while nobody asks anything of it, and while somebody writes a
//! tag fifty times a second over HTTP. All other figures are of both together. Each rung is run in memory with QoS 0, and
//! through the outbox with QoS 1.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead_tests::{Bulkhead, Folder, Peer, Running, free_port};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::report::quantile;

/// Tags per second: links, registers of each, milliseconds between polls.
const RUNGS: [(u64, u64, u64, u64); 5] = [
    (1_000, 10, 100, 1_000),
    (10_000, 100, 100, 1_000),
    (50_000, 50, 1_000, 1_000),
    (100_000, 100, 1_000, 1_000),
    (1_000_000, 100, 1_000, 100),
];
/// Until everything is up and the first seconds are over.
const WARM_UP: Duration = Duration::from_secs(5);
/// For how long is measured, without writes and with them.
const MEASURED: Duration = Duration::from_secs(15);

/// Measures and prints. `only`: the rung of this rate.
pub(crate) fn run(json: bool, only: Option<u64>, at_once: u8) -> Result<()> {
    if !json {
        println!(
            "{:>9} {:>7} {:>10} {:>10} {:>6} {:>8} {:>8} {:>9} {:>15} {:>15}",
            "tags/s",
            "outbox",
            "achieved",
            "published",
            "CPU %",
            "+ writes",
            "MiB",
            "dev. p99",
            "age p50 / p99",
            "write p50 / p99"
        );
    }
    for (rate, links, registers, period) in RUNGS {
        if only.is_some_and(|only| only != rate) {
            continue;
        }
        for outbox in [false, true] {
            eprintln!(
                "bench: {rate} tags/s, {links} links of {registers} registers, outbox: {outbox}"
            );
            let found = measure((links, registers, period), outbox, at_once)?;
            if json {
                let mut found = found;
                found["bench"] = "ladder".into();
                found["tags_per_s"] = rate.into();
                found["outbox"] = outbox.into();
                found["requests_at_once"] = at_once.into();
                println!("{found}");
                continue;
            }
            let figure = |key: &str| found[key].as_f64().unwrap_or(f64::NAN);
            println!(
                "{rate:>9} {:>7} {:>10.0} {:>10.0} {:>6.1} {:>8.1} {:>8.1} {:>6.1} ms {:>6.1} / {:>5.1} {:>6.1} / {:>5.1}",
                outbox,
                figure("achieved_per_s"),
                figure("published_per_s"),
                figure("cpu_percent"),
                figure("cpu_percent_with_writes"),
                figure("rss_mib"),
                figure("poll_deviation_p99_ms"),
                figure("age_p50_ms"),
                figure("age_p99_ms"),
                figure("write_p50_ms"),
                figure("write_p99_ms"),
            );
        }
    }
    Ok(())
}

fn measure(
    (links, registers, period): (u64, u64, u64),
    outbox: bool,
    at_once: u8,
) -> Result<Value> {
    let device = Peer::simulated(&["--moving-inputs", "--max-connections", "2000"])?;
    let broker = Broker::start()?;
    let reader = Reader::start(broker.port)?;
    let host = Bulkhead::start(&config(
        &device,
        broker.port,
        (links, registers, period),
        outbox,
        at_once,
    )?)?;
    let tags = links * (registers - 1);
    host.get_until("/api/v1/status", |status| {
        (status["tags"]["good"].as_u64()? >= tags).then_some(())
    })?;
    std::thread::sleep(WARM_UP);

    let pid = host.process().id();
    let late = deviations(&host)?;
    let (counted, samples) = (Instant::now(), published(&host)?);
    reader.begin();
    let (began, cpu) = (Instant::now(), cpu_seconds(pid)?);
    std::thread::sleep(MEASURED);
    let (begun_writing, cpu_by_itself) = (Instant::now(), cpu_seconds(pid)?);
    let mut writes = Vec::new();
    let mut number = 0_u64;
    while begun_writing.elapsed() < MEASURED {
        number += 1;
        let path = format!("/api/v1/tags/c{}/written/write", number % links);
        let begun = Instant::now();
        let reply = host.post(&path, &json!({ "value": number % 1_000 }))?;
        ensure!(reply.status == 200, "{:?}", reply.body);
        writes.push(begun.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(20));
    }
    let cpu_with_writes =
        (cpu_seconds(pid)? - cpu_by_itself) / begun_writing.elapsed().as_secs_f64();
    let (received, mut ages) = reader.end();
    let received = received as f64 / began.elapsed().as_secs_f64();
    let cpu = (cpu_by_itself - cpu) / (begun_writing - began).as_secs_f64();
    let samples = (published(&host)? - samples) as f64 / counted.elapsed().as_secs_f64();
    let deviation = deviation_p99(&late, &deviations(&host)?);
    let memory = memory_mib(pid)?;
    drop(host);
    let round = |figure: f64| (figure * 100.0).round() / 100.0;
    Ok(json!({
        "achieved_per_s": round(samples),
        "published_per_s": round(received),
        "cpu_percent": round(100.0 * cpu),
        "cpu_percent_with_writes": round(100.0 * cpu_with_writes),
        "cpu_us_per_sample": round(1e6 * cpu / samples.max(1.0)),
        "rss_mib": round(memory),
        "poll_deviation_p99_ms": round(deviation),
        "age_p50_ms": round(quantile(&mut ages, 0.5)),
        "age_p99_ms": round(quantile(&mut ages, 0.99)),
        "write_p50_ms": round(quantile(&mut writes, 0.5)),
        "write_p99_ms": round(quantile(&mut writes, 0.99)),
    }))
}

fn config(
    device: &Peer,
    broker: u16,
    (links, registers, period): (u64, u64, u64),
    outbox: bool,
    at_once: u8,
) -> Result<String> {
    let mut text = String::new();
    for link in 0..links {
        write!(
            text,
            "[[channel]]\nid = \"c{link}\"\ndriver = \"$DRIVERS/modbus.wasm\"\nlinks.plc = {{ connect = \"tcp://{}\" }}\n\
             limits = {{ samples_per_second = 1_000_000 }}\nsettings = {{ unit_id = 1, requests_at_once = {at_once} }}\nrecorder = {{ size = \"16KiB\" }}\n\
             tag = [{{ name = \"written\", address = \"holding:{}\", type = \"uint16\", access = \"rw\" }}]\n\
             [[channel.group]]\nname = \"all\"\nperiod = \"{period}ms\"\ntags = [\n",
            device.address(),
            400 + link
        )?;
        // One of them is the one that is written.
        for register in 1..registers {
            writeln!(
                text,
                "{{ name = \"t{register}\", address = \"input:{}\", type = \"uint16\", report = \"change\" }},",
                1_000 + register
            )?;
        }
        text.push_str("]\n");
    }
    let (qos, queue) = if outbox { (1, 16_384) } else { (0, 16_384) };
    write!(
        text,
        "[[sink]]\nkind = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{broker}\"\nqos = {qos}\nqueue = {queue}\noutbox = {outbox}\nbatch = 20_000\n"
    )?;
    Ok(text)
}

struct Broker {
    _running: Running,
    _folder: Folder,
    port: u16,
}

impl Broker {
    fn start() -> Result<Self> {
        let (folder, port) = (Folder::new()?, free_port());
        let text = format!(
            "listener {port} 127.0.0.1\nuser root\nallow_anonymous true\nlog_dest stderr\nset_tcp_nodelay true\n\
             max_queued_messages 0\nmax_inflight_messages 0\n"
        );
        let path = folder.write("mosquitto.conf", text)?;
        let mut command = Command::new("mosquitto");
        let running = Running::start(command.arg("-c").arg(path))
            .context("install mosquitto with `apt-get install mosquitto`")?;
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(
                begun.elapsed() < Duration::from_secs(20),
                "mosquitto does not listen"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self {
            _running: running,
            _folder: folder,
            port,
        })
    }
}

/// Reads everything that the broker has, in a thread, and counts: values, and how old they are.
struct Reader {
    counts: Arc<AtomicBool>,
    values: Arc<AtomicU64>,
    ages: Arc<Mutex<Vec<f64>>>,
}

impl Reader {
    /// Connects and subscribes, with QoS 0 (OASIS MQTT 3.1.1, sections 3.1 and 3.8).
    fn start(port: u16) -> Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.write_all(b"\x10\x12\x00\x04MQTT\x04\x02\x00\x00\x00\x06reader")?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        ensure!(answer == [0x20, 2, 0, 0], "the broker refuses: {answer:?}");
        stream.write_all(b"\x82\x0f\x00\x01\x00\x0abulkhead/#\x00")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        ensure!(
            answer == [0x90, 3, 0, 1, 0],
            "the broker refuses: {answer:?}"
        );
        let reader = Self {
            counts: Arc::default(),
            values: Arc::default(),
            ages: Arc::default(),
        };
        let (counts, values, ages) = (
            reader.counts.clone(),
            reader.values.clone(),
            reader.ages.clone(),
        );
        std::thread::spawn(move || {
            let mut stream = std::io::BufReader::with_capacity(1 << 20, stream);
            // Ends with the broker.
            while let Ok(Some(payload)) = publish(&mut stream) {
                if counts.load(Ordering::Relaxed)
                    && let Some((found, time)) = look(&payload)
                {
                    let now = SystemTime::now()
                        .duration_since(UNIX_EPOCH)
                        .unwrap_or_default();
                    let age = now.as_nanos().saturating_sub(u128::from(time)) as f64 / 1e6;
                    values.fetch_add(found, Ordering::Relaxed);
                    ages.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(age);
                }
            }
        });
        Ok(reader)
    }

    fn begin(&self) {
        self.counts.store(true, Ordering::Relaxed);
    }

    fn end(&self) -> (u64, Vec<f64>) {
        self.counts.store(false, Ordering::Relaxed);
        let mut ages = self.ages.lock().unwrap_or_else(PoisonError::into_inner);
        (
            self.values.load(Ordering::Relaxed),
            std::mem::take(&mut ages),
        )
    }
}

/// The payload of the next publish; `None` where it is another packet that does not matter.
fn publish(stream: &mut impl Read) -> Result<Option<Vec<u8>>> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let kind = byte[0];
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        stream.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
        if shift > 21 {
            bail!("a length beyond the standard");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    if kind & 0xf6 != 0x30 {
        return Ok(Some(Vec::new()));
    }
    let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
    Ok(Some(body.split_off(2 + topic)))
}

/// How many values a payload has, and when the host received them. The bench's own names and values have neither commas nor braces.
fn look(payload: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(payload).ok()?;
    let after = |key: &str| text.find(key).map(|at| &text[at + key.len()..]);
    let values = after("\"values\":{")?;
    let values = &values[..values.find('}')?];
    let count = match values {
        "" => 0,
        some => 1 + some.bytes().filter(|byte| *byte == b',').count() as u64,
    };
    let time = after("\"time_ns\":")?;
    let digits = time.bytes().take_while(u8::is_ascii_digit).count();
    Some((count, time[..digits].parse().ok()?))
}

/// Samples that all channels have published.
fn published(host: &Bulkhead) -> Result<u64> {
    let mut all = 0;
    let mut path = "/api/v1/channels?limit=1000".to_owned();
    loop {
        let page = host.get(&path)?.body;
        for channel in page["channels"].as_array().context("channels")? {
            let name = channel["channel"]
                .as_str()
                .or(channel["id"].as_str())
                .context("a name")?;
            let shown = host.get(&format!("/api/v1/channels/{name}"))?.body;
            all += shown["counters"]["samples"].as_u64().context("a counter")?;
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/v1/channels?limit=1000&cursor={cursor}"),
            None => return Ok(all),
        }
    }
}

/// How late the polls of all channels were so far: by the upper end of each bucket in nanoseconds, how many.
fn deviations(host: &Bulkhead) -> Result<BTreeMap<u64, u64>> {
    let page = host.get("/api/v1/channels?limit=1000")?.body;
    let mut all = BTreeMap::new();
    for channel in page["channels"].as_array().context("channels")? {
        let name = channel["channel"]
            .as_str()
            .or(channel["id"].as_str())
            .context("a name")?;
        let shown = host.get(&format!("/api/v1/channels/{name}"))?.body;
        for group in shown["groups"].as_array().context("groups")? {
            let buckets = &group["punctuality"]["deviations"];
            for bucket in buckets.as_array().context("deviations")? {
                let below = bucket["below_ns"].as_u64().unwrap_or(u64::MAX);
                *all.entry(below).or_default() += bucket["polls"].as_u64().context("polls")?;
            }
        }
    }
    Ok(all)
}

/// The 99th percentile of those that came after `before`, in milliseconds: within its bucket as if all were spread evenly.
fn deviation_p99(before: &BTreeMap<u64, u64>, after: &BTreeMap<u64, u64>) -> f64 {
    let mut new = after.clone();
    for (below, polls) in before {
        *new.entry(*below).or_default() -= polls;
    }
    let rank = new.values().sum::<u64>() as f64 * 0.99;
    let mut seen = 0.0;
    for (below, polls) in new {
        let (below, polls) = (below as f64, polls as f64);
        if seen + polls >= rank {
            return (below / 2.0 + below / 2.0 * (rank - seen) / polls) / 1e6;
        }
        seen += polls;
    }
    f64::NAN
}

/// Processor time of a process so far, in seconds (proc(5): fields 14 and 15 of `stat`, in ticks of 10 ms).
fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = text.rsplit(')').next().context("a name")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("a field")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

fn memory_mib(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .context("VmRSS")?
        .trim()
        .trim_end_matches(" kB")
        .trim()
        .parse()?;
    Ok(kib / 1024.0)
}
