//! `bench turn`: what one event, one sample, one restart and one idle channel cost, each beside its floor.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bulkhead::bindings::config::{ChannelConfig, Device, Tag};
use bulkhead::bindings::events::{Event, Happening, Start, StartReason, Write};
use bulkhead::bindings::types::Value as AbiValue;
use bulkhead::channel::{Answer, Ask};
use bulkhead::config::CompileLimits;
use bulkhead::engine::{Compiler, Engine, EngineOptions, Pool};
use bulkhead::event::Value;
use bulkhead::ids::TagId;
use bulkhead::supervisor::ChannelHandle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bare::{Bare, BareInstance};
use crate::host::{BenchHost, driver, root, running};
use crate::report::{each_ns, line, quantile};

/// Events of one round, and rounds. The median round counts.
const EVENTS: usize = 20_000;
const ROUNDS: usize = 15;
/// Single exchanges, of which the median counts.
const EXCHANGES: usize = 20_000;
/// How long nothing happens before an exchange through an idle channel: longer than a thread of the runtime looks for work before
/// it sleeps, as it does on a gateway between two polls. Without it, whether the threads sleep is chance, and so is the floor.
const PAUSE: Duration = Duration::from_micros(100);
/// Samples in one batch.
const BATCH: usize = 256;
/// Restarts.
const TRAPS: u64 = 900;
/// Idle channels.
const IDLE: usize = 1000;

struct Figures {
    event: f64,
    event_bare: f64,
    event_unrecorded: f64,
    event_idle: f64,
    round_trip: f64,
    event_in_a_row: f64,
    round_trip_in_a_row: f64,
    sample: f64,
    sample_bare: f64,
    trap_to_running_p50: f64,
    trap_to_running_p99: f64,
    instantiate: f64,
    idle_channel: f64,
    idle_channel_rss: f64,
    native: f64,
}

/// Measures and prints.
pub(crate) fn run(json: bool) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let figures = runtime.block_on(measure())?;
    if json {
        print_json(&figures);
    } else {
        print_table(&figures);
    }
    Ok(())
}

async fn measure() -> Result<Figures> {
    progress("a bare call of signal, and an instantiation");
    let engine = engine()?;
    let signal = Bare::load(&engine, &driver("signal")?)?;
    let hold = [tag(0, "hold(0)")];
    let mut bare = begun(&signal, &hold).await?;
    let mut bare_publishes = publisher(&engine).await?;
    let instantiate = instantiations(&signal, &hold).await?;

    progress("one event through a busy channel, and the bare call in turn with it");
    let limits = "batch = 1, mailbox = 65536";
    let unrecorded = "recorder = { enabled = false }";
    let unrecorded = channel("signal", limits, "hold(0)", 1, unrecorded)?
        .replace("id = \"bench\"", "id = \"unrecorded\"");
    let both = channel("signal", limits, "hold(0)", 1, "")? + &unrecorded;
    let host = BenchHost::start(&both).await?;
    let unrecorded = host
        .host
        .channel("unrecorded")
        .context("the second channel")?;
    let (mut event, mut event_bare, mut event_unrecorded) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        event_bare.push(bare_round(&mut bare, EVENTS).await?);
        event.push(busy_round(&*host.channel()?, EVENTS).await?);
        event_unrecorded.push(busy_round(&unrecorded, EVENTS).await?);
    }
    // A handle keeps the host's folder locked.
    drop(unrecorded);
    host.stop().await;

    progress("one event through an idle channel, and a plain round trip in turn with it");
    let host = BenchHost::start(&channel("signal", "mailbox = 64", "hold(0)", 1, "")?).await?;
    let (mut event_idle, mut round_trip) = (Vec::new(), Vec::new());
    let (mut event_in_a_row, mut round_trip_in_a_row) = (Vec::new(), Vec::new());
    let (idle, count) = (host.channel()?, EXCHANGES / ROUNDS);
    for _ in 0..ROUNDS {
        round_trip.extend(plain_exchanges(count, PAUSE).await?);
        event_idle.extend(exchanges(&idle, count, PAUSE).await?);
        round_trip_in_a_row.extend(plain_exchanges(count, Duration::ZERO).await?);
        event_in_a_row.extend(exchanges(&idle, count, Duration::ZERO).await?);
    }
    drop(idle);
    host.stop().await;

    let (mut sample, mut sample_bare) = samples(&mut bare_publishes, ROUNDS).await?;

    progress("from a trap to running again");
    let restart = "restart = { max_attempts = 1000, delay = \"0s\", max_delay = \"0s\", jitter = 0.0 }\nsettings = { when = \"write\" }";
    let host = BenchHost::start(&channel("guests/traps", "mailbox = 64", "-", 1, restart)?).await?;
    let mut restarts = trap_again_and_again(&*host.channel()?).await?;
    host.stop().await;

    progress("idle channels");
    let (idle_channel, idle_channel_rss) = idle_channel_kib()?;
    let mut native = (0..ROUNDS)
        .map(|_| native_round(EVENTS))
        .collect::<Result<Vec<_>>>()?;
    Ok(Figures {
        event: quantile(&mut event, 0.5),
        event_bare: quantile(&mut event_bare, 0.5),
        event_unrecorded: quantile(&mut event_unrecorded, 0.5),
        event_idle: quantile(&mut event_idle, 0.5),
        round_trip: quantile(&mut round_trip, 0.5),
        event_in_a_row: quantile(&mut event_in_a_row, 0.5),
        round_trip_in_a_row: quantile(&mut round_trip_in_a_row, 0.5),
        sample: quantile(&mut sample, 0.5),
        sample_bare: quantile(&mut sample_bare, 0.5),
        trap_to_running_p50: quantile(&mut restarts, 0.5),
        trap_to_running_p99: quantile(&mut restarts, 0.99),
        instantiate,
        idle_channel,
        idle_channel_rss,
        native: quantile(&mut native, 0.5),
    })
}

/// For a profiler: samples alone, for so many rounds.
pub(crate) fn run_samples(rounds: usize) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let (mut sample, mut bare) = runtime.block_on(async {
        let engine = engine()?;
        let mut bare = publisher(&engine).await?;
        samples(&mut bare, rounds).await
    })?;
    let floor = Some((quantile(&mut bare, 0.5), "bare call"));
    let sample = quantile(&mut sample, 0.5);
    line(
        "one sample, batch of 256",
        sample,
        "ns",
        floor,
        "at most 1.5",
    );
    Ok(())
}

fn engine() -> Result<Engine> {
    Ok(Engine::new(&EngineOptions {
        pool: Pool::even(64, 64 << 20),
        cache_dir: root()?.join("target/bench/data/cache"),
        compiler: Compiler::InProcess,
        compile: CompileLimits::default(),
    })?)
}

/// A bare instance that publishes a batch upon each write.
async fn publisher(engine: &Engine) -> Result<BareInstance> {
    let publishes = Bare::load(engine, &driver("guests/publishes")?)?;
    let tags: Vec<Tag> = (0..BATCH as u32).map(|id| tag(id, "-")).collect();
    begun(&publishes, &tags).await
}

/// Nanoseconds of a sample through the host and in the bare call, round by round in turn.
async fn samples(bare: &mut BareInstance, rounds: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    progress("a sample in a batch of 256");
    let limits = "batch = 1, mailbox = 65536, samples_per_second = 100000000";
    let host = BenchHost::start(&channel("guests/publishes", limits, "-", BATCH, "")?).await?;
    let mut listener = host.host.bus().subscribe(1024);
    // As a stream of samples over HTTP is one.
    let mut listening = JoinSet::new();
    listening.spawn(async move { while listener.next().await.is_some() {} });
    let (mut sample, mut sample_bare) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        sample_bare.push(bare_round(bare, EVENTS / 20).await? / BATCH as f64);
        sample.push(busy_round(&*host.channel()?, EVENTS / 20).await? / BATCH as f64);
    }
    host.stop().await;
    listening.join_all().await;
    Ok((sample, sample_bare))
}

fn progress(what: &str) {
    eprintln!("bench turn: {what}");
}

/// A channel in TOML, with tags that nobody polls.
fn channel(name: &str, limits: &str, address: &str, tags: usize, more: &str) -> Result<String> {
    let tags: Vec<String> = (0..tags)
        .map(|number| {
            format!("{{ name = \"t{number}\", address = \"{address}\", type = \"float64\", access = \"rw\" }}")
        })
        .collect();
    Ok(format!(
        "[[channel]]\nid = \"bench\"\ndriver = \"{}\"\nlimits = {{ {limits} }}\n{more}\ntag = [{}]\n",
        driver(name)?.display(),
        tags.join(", ")
    ))
}

pub(crate) fn tag(id: u32, address: &str) -> Tag {
    Tag {
        id,
        device: 0,
        name: format!("t{id}"),
        address: address.to_owned(),
        data_type: "float64".to_owned(),
        readable: true,
        writable: true,
        settings: "{}".to_owned(),
    }
}

fn config(tags: &[Tag]) -> ChannelConfig {
    let device = Device {
        id: 0,
        name: "bench".to_owned(),
        address: String::new(),
        settings: "{}".to_owned(),
        link: None,
    };
    ChannelConfig {
        name: "channel".to_owned(),
        settings: "{}".to_owned(),
        links: Vec::new(),
        devices: vec![device],
        groups: Vec::new(),
        tags: tags.to_vec(),
    }
}

fn started() -> Event {
    let start = Start {
        incarnation: 1,
        reason: StartReason::First,
        state: None,
        connections: Vec::new(),
        features: Vec::new(),
    };
    Event {
        at_ns: 0,
        what: Happening::Started(start),
    }
}

pub(crate) fn write(request: u64) -> Event {
    let write = Write {
        request,
        tag: 0,
        value: AbiValue::Float(request as f64),
        read_back: false,
        deadline_ns: u64::MAX,
    };
    Event {
        at_ns: request,
        what: Happening::Write(write),
    }
}

/// A bare instance that has been configured and started.
pub(crate) async fn begun(bare: &Bare, tags: &[Tag]) -> Result<BareInstance> {
    let mut instance = bare.instantiate().await?;
    instance.configure(&config(tags)).await?;
    instance.turn(0, &[started()]).await?;
    Ok(instance)
}

/// Instantiated and configured, in microseconds: the median.
async fn instantiations(bare: &Bare, tags: &[Tag]) -> Result<f64> {
    let mut took = Vec::new();
    for _ in 0..500 {
        let began = Instant::now();
        let mut instance = bare.instantiate().await?;
        instance.configure(&config(tags)).await?;
        took.push(each_ns(began.elapsed(), 1) / 1000.0);
    }
    Ok(quantile(&mut took, 0.5))
}

/// Nanoseconds for each of so many bare turns with one write.
async fn bare_round(instance: &mut BareInstance, events: usize) -> Result<f64> {
    let began = Instant::now();
    for number in 1..=events as u64 {
        let actions = instance.turn(number, &[write(number)]).await?;
        if actions.is_empty() {
            bail!("the bare driver did not answer");
        }
    }
    Ok(each_ns(began.elapsed(), events))
}

/// Nanoseconds for each of so many writes through a channel whose mailbox is filled faster than it is drained.
async fn busy_round(channel: &ChannelHandle, events: usize) -> Result<f64> {
    let timeout = Duration::from_secs(60);
    let mut answers = Vec::with_capacity(events);
    let began = Instant::now();
    for number in 0..events {
        let ask = Ask::Write {
            tag: TagId(0),
            value: Value::Float(number as f64),
            read_back: false,
        };
        answers.push(channel.submit(ask, timeout)?);
    }
    let last = answers.pop().context("a round has events")?;
    match last.await? {
        Ok(Answer::Write(_)) => {}
        other => bail!("the driver answered {other:?}"),
    }
    let took = began.elapsed();
    for answer in answers {
        answer.await??;
    }
    Ok(each_ns(took, events))
}

/// Lets the runtime's threads fall asleep. This one is none of them.
fn pause(pause: Duration) {
    let began = Instant::now();
    while began.elapsed() < pause {
        std::hint::spin_loop();
    }
}

/// Nanoseconds of each of so many single writes, one after the other, with a pause before each.
async fn exchanges(channel: &ChannelHandle, count: usize, before: Duration) -> Result<Vec<f64>> {
    let timeout = Duration::from_secs(60);
    let mut took = Vec::with_capacity(count);
    for number in 0..count {
        let ask = Ask::Write {
            tag: TagId(0),
            value: Value::Float(number as f64),
            read_back: false,
        };
        pause(before);
        let began = Instant::now();
        channel.submit(ask, timeout)?.await??;
        took.push(each_ns(began.elapsed(), 1));
    }
    Ok(took)
}

/// The same with a task that answers at once: a mailbox, a reply, nothing between.
async fn plain_exchanges(count: usize, before: Duration) -> Result<Vec<f64>> {
    let (mailbox, mut mail) = mpsc::channel::<(u64, oneshot::Sender<u64>)>(64);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Some((number, reply)) = mail.recv().await {
            if reply.send(number).is_err() {
                return;
            }
        }
    });
    let mut took = Vec::with_capacity(count);
    for number in 0..count as u64 {
        pause(before);
        let began = Instant::now();
        let (reply, answer) = oneshot::channel();
        mailbox.send((number, reply)).await?;
        answer.await?;
        took.push(each_ns(began.elapsed(), 1));
    }
    drop(mailbox);
    while tasks.join_next().await.is_some() {}
    Ok(took)
}

/// Microseconds from each trap until the next incarnation runs.
async fn trap_again_and_again(channel: &ChannelHandle) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    let mut incarnation = running(channel, 0).await?;
    for number in 0..TRAPS {
        let ask = Ask::Write {
            tag: TagId(0),
            // Another one each time: the same would be kept away from the driver after the third.
            value: Value::Float(number as f64),
            read_back: false,
        };
        let answer = channel.submit(ask, Duration::from_secs(60))?;
        // Answered as restarted when the incarnation ends.
        drop(answer.await);
        let began = Instant::now();
        incarnation = running(channel, incarnation).await?;
        took.push(each_ns(began.elapsed(), 1) / 1000.0);
    }
    Ok(took)
}

/// KiB for each idle channel, held and resident: the difference between hosts of few and of many, each in its own process.
fn idle_channel_kib() -> Result<(f64, f64)> {
    let measure = |channels: usize| -> Result<(f64, f64)> {
        let output = std::process::Command::new(std::env::current_exe()?)
            .args(["idle", &channels.to_string()])
            .stderr(std::process::Stdio::inherit())
            .output()?;
        if !output.status.success() {
            bail!("the host of {channels} idle channels failed");
        }
        let text = String::from_utf8(output.stdout)?;
        let (held, resident) = text
            .trim()
            .split_once(' ')
            .context("the host prints two figures")?;
        Ok((held.parse()?, resident.parse()?))
    };
    let (few, many) = (measure(10)?, measure(10 + IDLE)?);
    let each = |few: f64, many: f64| (many - few) / IDLE as f64;
    Ok((each(few.0, many.0), each(few.1, many.1)))
}

/// Nanoseconds of one turn with one write, in the same driver linked natively: no sandbox, no boundary.
fn native_round(events: usize) -> Result<f64> {
    use bulkhead_sdk::abi;
    let mut runtime = bulkhead_sdk::Runtime::<signal::SignalDriver>::seeded(1);
    let native = abi::ChannelConfig {
        name: "channel".to_owned(),
        settings: "{}".to_owned(),
        links: Vec::new(),
        devices: vec![abi::Device {
            id: 0,
            name: "bench".to_owned(),
            address: String::new(),
            settings: "{}".to_owned(),
            link: None,
        }],
        groups: Vec::new(),
        tags: vec![abi::Tag {
            id: 0,
            device: 0,
            name: "t0".to_owned(),
            address: "hold(0)".to_owned(),
            data_type: "float64".to_owned(),
            readable: true,
            writable: true,
            settings: "{}".to_owned(),
        }],
    };
    runtime
        .configure(native)
        .map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    let turn = |runtime: &mut bulkhead_sdk::Runtime<signal::SignalDriver>, number: u64, what| {
        let now = abi::Instant {
            monotonic_ns: number,
            wall_ns: number,
        };
        runtime
            .turn(
                now,
                vec![abi::Event {
                    at_ns: number,
                    what,
                }],
            )
            .map_err(|error| anyhow::anyhow!("{error:?}"))
    };
    let start = abi::Start {
        incarnation: 1,
        reason: abi::StartReason::First,
        state: None,
        connections: Vec::new(),
        features: Vec::new(),
    };
    turn(&mut runtime, 0, abi::Happening::Started(start))?;
    let began = Instant::now();
    for number in 1..=events as u64 {
        let write = abi::Write {
            request: number,
            tag: 0,
            value: abi::Value::Float(number as f64),
            read_back: false,
            deadline_ns: u64::MAX,
        };
        if turn(&mut runtime, number, abi::Happening::Write(write))?.is_empty() {
            bail!("the native driver did not answer");
        }
    }
    Ok(each_ns(began.elapsed(), events))
}

fn print_json(figures: &Figures) {
    let rounded = |figure: f64| (figure * 10.0).round() / 10.0;
    println!(
        "{}",
        serde_json::json!({
            "bench": "turn",
            "event_p50_ns": rounded(figures.event),
            "event_bare_p50_ns": rounded(figures.event_bare),
            "event_unrecorded_p50_ns": rounded(figures.event_unrecorded),
            "event_idle_p50_ns": rounded(figures.event_idle),
            "tokio_round_trip_p50_ns": rounded(figures.round_trip),
            "event_in_a_row_p50_ns": rounded(figures.event_in_a_row),
            "tokio_round_trip_in_a_row_p50_ns": rounded(figures.round_trip_in_a_row),
            "sample_ns": rounded(figures.sample),
            "sample_bare_ns": rounded(figures.sample_bare),
            "trap_to_running_p50_us": rounded(figures.trap_to_running_p50),
            "trap_to_running_p99_us": rounded(figures.trap_to_running_p99),
            "instantiate_us": rounded(figures.instantiate),
            "idle_channel_kib": rounded(figures.idle_channel),
            "idle_channel_rss_kib": rounded(figures.idle_channel_rss),
            "event_native_p50_ns": rounded(figures.native),
        })
    );
}

fn print_table(figures: &Figures) {
    let bare = Some((figures.event_bare, "bare call"));
    line(
        "one event, busy channel",
        figures.event,
        "ns",
        bare,
        "at most 2",
    );
    line(
        "the flight recorder's part of it",
        figures.event,
        "ns",
        Some((figures.event_unrecorded, "unrecorded")),
        "at most 1.05",
    );
    let floor = figures.round_trip + figures.event_bare;
    // 1.5 times a plain round trip, plus the bare call.
    let aim = format!(
        "at most {:.0} ns",
        1.5 * figures.round_trip + figures.event_bare
    );
    line(
        "one event, idle channel",
        figures.event_idle,
        "ns",
        Some((floor, "round trip + bare call")),
        &aim,
    );
    line(
        "the same without a pause before it",
        figures.event_in_a_row,
        "ns",
        Some((
            figures.round_trip_in_a_row + figures.event_bare,
            "round trip + bare call",
        )),
        "none",
    );
    line(
        "one sample, batch of 256",
        figures.sample,
        "ns",
        Some((figures.sample_bare, "bare call")),
        "at most 1.5",
    );
    line(
        "trap to running, p50",
        figures.trap_to_running_p50,
        "us",
        None,
        "none",
    );
    line(
        "trap to running, p99",
        figures.trap_to_running_p99,
        "us",
        None,
        "under 1000",
    );
    line(
        "instantiate and configure, bare",
        figures.instantiate,
        "us",
        None,
        "none",
    );
    line(
        "one idle channel",
        figures.idle_channel,
        "KiB",
        None,
        "at most 64",
    );
    line(
        "with shared pages counted again",
        figures.idle_channel_rss,
        "KiB",
        None,
        "none",
    );
    line(
        "one event, driver linked natively",
        figures.native,
        "ns",
        bare,
        "none",
    );
}
