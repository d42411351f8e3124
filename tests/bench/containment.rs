//! `bench containment`: what a driver that misbehaves costs the others.
//!
//! - A neighbour takes a turn each millisecond, first in quiet, then beside each culprit, several times in turn: the p99 of its answers
//!   beside its quiet p99 in the same run. A poll that traps three times is kept away from its driver; the first culprit traps by a timer
//!   of its own, for ever. The others have each such event lifted at once, as nobody would: so has, for comparison, one that traps in polls.
//! - A turn that never ends: how long after its deadline it is stopped.
//! - Five hundred channels that trap each 20 ms, by a timer of their own: the p99 of the HTTP API, beside that of as many channels that do not.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bulkhead::channel::Ask;
use bulkhead::event::Value;
use bulkhead::ids::TagId;
use bulkhead::lifecycle::State;
use bulkhead::supervisor::ChannelHandle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::host::{BenchHost, driver, root};
use crate::report::{line, quantile};

/// How often quiet and culprit follow one another, and the neighbour's turns in each.
const ROUNDS: usize = 3;
const TURNS: usize = 1_000;
/// Turns that never end.
const SPINS: usize = 50;
const DEADLINE: Duration = Duration::from_millis(100);
/// Channels that trap at once, and questions to the API.
const TRAPPING: usize = 500;
const QUESTIONS: usize = 400;

/// A way to misbehave, for as long as it runs.
struct Culprit {
    does: &'static str,
    guest: &'static str,
    settings: &'static str,
}

const CULPRITS: [Culprit; 7] = [
    Culprit {
        does: "traps",
        guest: "traps",
        settings: r#"{ when = "timer" }"#,
    },
    Culprit {
        does: "traps, and again at once by hand",
        guest: "traps",
        settings: r#"{ when = "poll" }"#,
    },
    Culprit {
        does: "loops until its deadline",
        guest: "spins",
        settings: r#"{ when = "poll" }"#,
    },
    Culprit {
        does: "takes memory until refused",
        guest: "hoards",
        settings: r#"{ piece_mib = 8, at_once = true }"#,
    },
    Culprit {
        does: "floods with samples",
        guest: "floods",
        settings: r#"{ what = "samples", count = 100 }"#,
    },
    Culprit {
        does: "floods with actions",
        guest: "floods",
        settings: r#"{ what = "actions", count = 16000 }"#,
    },
    Culprit {
        does: "floods the log",
        guest: "floods",
        settings: r#"{ what = "logs", count = 20000 }"#,
    },
];

struct Figures {
    first_exit_ms: f64,
    overrun_p50_ms: f64,
    overrun_max_ms: f64,
    api_quiet_p99_ms: f64,
    api_p99_ms: f64,
    traps: u64,
}

struct Neighbour {
    culprit: &'static Culprit,
    quiet_us: f64,
    beside_us: f64,
    restarts_per_second: f64,
}

/// Measures and prints.
pub(crate) fn run(json: bool, only: Option<&str>) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let neighbours = runtime.block_on(neighbours(only))?;
    print_neighbours(&neighbours, json);
    if only.is_some() {
        return Ok(());
    }
    let figures = runtime.block_on(measure())?;
    if json {
        let rounded = |figure: f64| (figure * 100.0).round() / 100.0;
        println!(
            "{}",
            serde_json::json!({
                "bench": "containment",
                "first_exit_ms": rounded(figures.first_exit_ms),
                "overrun_p50_ms": rounded(figures.overrun_p50_ms),
                "overrun_max_ms": rounded(figures.overrun_max_ms),
                "api_p99_ms": rounded(figures.api_p99_ms),
                "api_quiet_p99_ms": rounded(figures.api_quiet_p99_ms),
                "traps": figures.traps,
            })
        );
        return Ok(());
    }
    line(
        "stopped after its deadline, p50",
        figures.overrun_p50_ms,
        "ms",
        None,
        "none",
    );
    line(
        "stopped after its deadline, most",
        figures.overrun_max_ms,
        "ms",
        None,
        "at most 50",
    );
    line(
        "its first exit, with source lines looked up",
        figures.first_exit_ms,
        "ms",
        None,
        "none",
    );
    line(
        &format!("API p99 while {TRAPPING} channels trap"),
        figures.api_p99_ms,
        "ms",
        Some((figures.api_quiet_p99_ms, "none traps")),
        "none",
    );
    println!("{} traps meanwhile", figures.traps);
    Ok(())
}

fn print_neighbours(neighbours: &[Neighbour], json: bool) {
    if !json {
        println!("p99 of a neighbour's answer beside a driver that");
    }
    for Neighbour {
        culprit,
        quiet_us,
        beside_us,
        restarts_per_second,
    } in neighbours
    {
        if json {
            println!(
                "{}",
                serde_json::json!({
                    "bench": "containment",
                    "culprit": culprit.does,
                    "neighbour_p99_us": beside_us.round(),
                    "neighbour_quiet_p99_us": quiet_us.round(),
                    "restarts_per_second": restarts_per_second.round(),
                })
            );
            continue;
        }
        line(
            &format!("  {}", culprit.does),
            *beside_us,
            "us",
            Some((*quiet_us, "quiet")),
            "at most 2",
        );
        if *restarts_per_second >= 1.0 {
            println!("    {restarts_per_second:.0} restarts a second meanwhile");
        }
    }
}

async fn neighbours(only: Option<&str>) -> Result<Vec<Neighbour>> {
    let mut neighbours = Vec::new();
    for culprit in &CULPRITS {
        if only.is_some_and(|only| !culprit.does.contains(only)) {
            continue;
        }
        eprintln!("bench: beside a driver that {}", culprit.does);
        neighbours.push(beside(culprit).await?);
    }
    Ok(neighbours)
}

async fn measure() -> Result<Figures> {
    eprintln!("bench: turns that never end");
    let (first_exit_ms, mut overruns) = overruns().await?;
    eprintln!("bench: {TRAPPING} channels that trap at once");
    let (mut quiet, _) = api(r#"{ when = "never" }"#)?;
    let (mut trapping, traps) = api(r#"{ when = "timer" }"#)?;
    Ok(Figures {
        first_exit_ms,
        overrun_p50_ms: quantile(&mut overruns, 0.5),
        overrun_max_ms: quantile(&mut overruns, 1.0),
        api_quiet_p99_ms: quantile(&mut quiet, 0.99),
        api_p99_ms: quantile(&mut trapping, 0.99),
        traps,
    })
}

/// A channel that is restarted at once, as often as it ends.
fn channel(id: &str, guest: &Path, settings: &str, more: &str) -> String {
    format!(
        "[[channel]]\nid = \"{id}\"\ndriver = \"{}\"\nsettings = {settings}\n{more}\n\
         limits = {{ memory = \"64MiB\", fuel_per_turn = 10_000_000_000, turn_deadline = \"{}ms\" }}\n\
         restart = {{ max_attempts = 1000, delay = \"0s\", max_delay = \"0s\", jitter = 0.0 }}\n\
         [[channel.group]]\nname = \"all\"\nperiod = \"20ms\"\n\
         tags = [{{ name = \"t\", address = \"x\", type = \"float64\", access = \"rw\" }}]\n",
        guest.display(),
        DEADLINE.as_millis(),
    )
}

const NEIGHBOUR: &str =
    "tag = [{ name = \"t\", address = \"hold(0)\", type = \"float64\", access = \"rw\" }]";

async fn beside(culprit: &'static Culprit) -> Result<Neighbour> {
    let signal = driver("signal")?;
    let guest = driver(&format!("guests/{}", culprit.guest))?;
    let toml = format!(
        "[[channel]]\nid = \"neighbour\"\ndriver = \"{}\"\n{NEIGHBOUR}\n{}",
        signal.display(),
        channel("culprit", &guest, culprit.settings, "enabled = false"),
    );
    let host = BenchHost::start(&toml).await?;
    let of = |name: &str| host.host.channel(name).context("it is configured");
    let (neighbour, culprit_channel) = (of("neighbour")?, of("culprit")?);
    let (mut quiet, mut beside) = (Vec::new(), Vec::new());
    let (mut restarts, mut seconds) = (0, 0.0);
    for _ in 0..ROUNDS {
        quiet.extend(answers(&neighbour).await?);
        culprit_channel.start().await?;
        let mut lifting = JoinSet::new();
        lifting.spawn(lift_all(culprit_channel.clone()));
        let (before, began) = (culprit_channel.status().incarnation, Instant::now());
        beside.extend(answers(&neighbour).await?);
        seconds += began.elapsed().as_secs_f64();
        restarts += culprit_channel.status().incarnation - before;
        lifting.shutdown().await;
        // It may have used up its restarts.
        if culprit_channel.status().state != State::Broken {
            culprit_channel.stop().await?;
        }
        let mut status = culprit_channel.watch();
        let ended = |state| matches!(state, State::Stopped | State::Broken);
        status.wait_for(|status| ended(status.state)).await?;
    }
    host.stop().await;
    Ok(Neighbour {
        culprit,
        quiet_us: quantile(&mut quiet, 0.99),
        beside_us: quantile(&mut beside, 0.99),
        restarts_per_second: restarts as f64 / seconds,
    })
}

/// Gives each event another chance as soon as it is kept away from its driver: else the third fault would be the last.
async fn lift_all(channel: Arc<ChannelHandle>) {
    loop {
        for letter in channel.dead_letters() {
            if let Err(error) = channel.lift_dead_letter(letter.number, false).await {
                eprintln!("bench: {error}");
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Microseconds of each of so many writes, one in each millisecond.
async fn answers(neighbour: &ChannelHandle) -> Result<Vec<f64>> {
    let mut took = Vec::with_capacity(TURNS);
    for number in 0..TURNS {
        let ask = Ask::Write {
            tag: TagId(0),
            value: Value::Float(number as f64),
            read_back: false,
        };
        let began = Instant::now();
        neighbour.submit(ask, Duration::from_secs(60))?.await??;
        took.push(began.elapsed().as_secs_f64() * 1e6);
        sleep(Duration::from_millis(1)).await;
    }
    Ok(took)
}

/// Milliseconds that each of so many endless turns takes beyond its deadline, until its exit is known. The first one comes apart: for it
/// the driver's source lines are looked up, once for all that follow.
async fn overruns() -> Result<(f64, Vec<f64>)> {
    use bulkhead::bindings::config::ChannelConfig;
    use bulkhead::bindings::events::{Event, Happening, Poll, Start, StartReason};
    use bulkhead::config::CompileLimits;
    use bulkhead::driver::{Budget, Driver, Instance, InstanceSpec};
    use bulkhead::engine::{Compiler, Engine, EngineOptions, Pool};
    use bulkhead::event::{MonotonicNs, WallNs};
    use bulkhead::exit::ExitKind;
    use bulkhead::ids::{ChannelId, InstanceId};

    let engine = Engine::new(&EngineOptions {
        pool: Pool::even(4, 64 << 20),
        cache_dir: root()?.join("target/bench/data/cache"),
        compiler: Compiler::InProcess,
        compile: CompileLimits::default(),
    })?;
    let spins = Driver::load(&engine, &driver("guests/spins")?, None)?;
    let now = (MonotonicNs(1), WallNs(1));
    let budget = Budget {
        fuel: u64::MAX / 2,
        deadline: DEADLINE,
    };
    let spec = InstanceSpec {
        instance: InstanceId {
            channel: ChannelId::new("bench")?,
            incarnation: 1,
        },
        memory: 64 << 20,
        seed: 1,
        start: budget,
        turn: budget,
    };
    let config = ChannelConfig {
        name: "channel".to_owned(),
        settings: r#"{"when":"start"}"#.to_owned(),
        links: Vec::new(),
        devices: Vec::new(),
        groups: Vec::new(),
        tags: Vec::new(),
    };
    let started = Event {
        at_ns: 1,
        what: Happening::Started(Start {
            incarnation: 1,
            reason: StartReason::First,
            state: None,
            connections: Vec::new(),
            features: Vec::new(),
        }),
    };
    let poll = Event {
        at_ns: 1,
        what: Happening::Poll(Poll {
            group: 0,
            cycle: 1,
            scheduled_ns: 1,
            skip: Vec::new(),
        }),
    };
    let mut overruns = Vec::with_capacity(SPINS);
    for _ in 0..=SPINS {
        let instance = Instance::start(&spins, spec.clone(), now).await;
        let instance = instance.map_err(|exit| anyhow::anyhow!("{exit}"))?;
        let configured = instance.configure(&config, now).await;
        let (instance, faults) = configured.map_err(|exit| anyhow::anyhow!("{exit}"))?;
        faults.map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
        let events = [started.clone(), poll.clone()];
        let began = Instant::now();
        match instance.turn(now, &events).await {
            Err(exit) if exit.kind == ExitKind::DeadlineExceeded => {}
            Err(exit) => bail!("it ended otherwise: {exit}"),
            Ok(_) => bail!("it ended by itself"),
        }
        overruns.push(began.elapsed().saturating_sub(DEADLINE).as_secs_f64() * 1e3);
    }
    let first = overruns.remove(0);
    Ok((first, overruns))
}

/// A host of its own process, which ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        if self.0.kill().is_ok() {
            drop(self.0.wait());
        }
    }
}

/// Milliseconds of each of so many questions to the API of a host of channels with such settings, and how many of them trapped
/// meanwhile.
fn api(settings: &str) -> Result<(Vec<f64>, u64)> {
    let folder = root()?.join("target/bench");
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    drop(listener);
    let traps = driver("guests/traps")?;
    let mut toml = format!(
        "[host]\ndata_dir = \"data-api\"\nrestarts_per_second = 10000\nrestart_burst = 10000\n\
         [http]\nlisten = \"127.0.0.1:{port}\"\n"
    );
    for number in 0..TRAPPING {
        write!(
            toml,
            "{}",
            channel(&format!("c{number}"), &traps, settings, "")
        )?;
    }
    let file = folder.join("api.toml");
    std::fs::write(&file, toml)?;
    let program = std::env::var_os("BULKHEAD_BIN")
        .map_or_else(|| folder.with_file_name("release/bulkhead"), Into::into);
    let started = Command::new(&program)
        .arg("run")
        .arg(&file)
        .args(["--log-level", "off"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _process = Process(started.with_context(|| format!("{} is not there", program.display()))?);
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .new_agent();
    let url = format!("http://127.0.0.1:{port}/api/v1/status");
    let up = (0..1200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        agent.get(&url).call().is_ok()
    });
    if !up {
        bail!("the host of {TRAPPING} channels does not answer");
    }
    std::thread::sleep(Duration::from_secs(1));
    let faults = || -> Result<u64> {
        let list = format!("http://127.0.0.1:{port}/api/v1/channels?limit=1000");
        let text = agent.get(&list).call()?.body_mut().read_to_string()?;
        let list: serde_json::Value = serde_json::from_str(&text)?;
        let channels = list["channels"].as_array().context("channels")?;
        Ok(channels
            .iter()
            .filter_map(|channel| channel["incarnation"].as_u64())
            .sum())
    };
    let before = faults()?;
    let mut took = Vec::with_capacity(QUESTIONS);
    for _ in 0..QUESTIONS {
        let began = Instant::now();
        agent.get(&url).call()?.body_mut().read_to_string()?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok((took, faults()?.saturating_sub(before)))
}
