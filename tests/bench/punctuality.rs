//! `bench punctuality`: a hundred channels at 100 ms for a minute, while one core is busy elsewhere: how long after its moment each poll is
//! handed to its driver, and how many are skipped. The floor is as many bare tasks with timers of their own, in turn with the host.

use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead::channel::Punctuality;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::host::{BenchHost, driver};
use crate::report::{line, quantile};

const CHANNELS: u32 = 100;
const PERIOD: Duration = Duration::from_millis(100);
/// After the start, before anything counts.
const SETTLE: Duration = Duration::from_secs(3);
const MINUTE: Duration = Duration::from_secs(60);
const FLOOR: Duration = Duration::from_secs(20);

/// A process that keeps one core busy until it is dropped.
struct Busy(Child);

impl Busy {
    fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let child = command.arg("spin").stdin(Stdio::piped()).spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.kill().is_ok() {
            drop(self.0.wait());
        }
    }
}

/// Keeps a core busy, until whoever started it is gone.
pub(crate) fn spin() {
    std::thread::spawn(|| {
        let mut end = String::new();
        drop(std::io::stdin().read_line(&mut end));
        std::process::exit(0);
    });
    let mut number = 0u64;
    loop {
        number = std::hint::black_box(number.wrapping_add(1));
    }
}

/// Measures and prints.
pub(crate) fn run(json: bool) -> Result<()> {
    let mut text = String::new();
    for number in 0..CHANNELS {
        write!(
            text,
            "[[channel]]\nid = \"c{number}\"\ndriver = \"{}\"\n[[channel.group]]\nname = \"all\"\nperiod = \"100ms\"\ntags = [",
            driver("signal")?.display()
        )?;
        for tag in 0..10 {
            write!(
                text,
                "{{ name = \"t{tag}\", address = \"sine\", type = \"float64\" }},"
            )?;
        }
        text.push_str("]\n");
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let busy = Busy::start()?;
    eprintln!("bench: {CHANNELS} bare timers for 20 s, one core busy");
    let mut bare = runtime.block_on(bare())?;
    eprintln!("bench: {CHANNELS} channels at 100 ms for a minute, one core busy");
    let figures = runtime.block_on(channels(&text))?;
    drop(busy);
    let floor = [0.5, 0.99, 1.0].map(|at| quantile(&mut bare, at));
    if json {
        println!(
            "{}",
            serde_json::json!({
                "bench": "punctuality",
                "polls": figures.polls,
                "skipped": figures.skipped,
                "deviation_p50_us": figures.p50_us.round(),
                "deviation_p99_us": figures.p99_us.round(),
                "deviation_most_us": figures.most_us.round(),
                "bare_p50_us": floor[0].round(),
                "bare_p99_us": floor[1].round(),
                "bare_most_us": floor[2].round(),
            })
        );
        return Ok(());
    }
    let bare = |at: usize| Some((floor[at], "bare timer"));
    line("polls", figures.polls as f64, "", None, "none");
    line("moments skipped", figures.skipped as f64, "", None, "0");
    line("late, p50 (at most)", figures.p50_us, "us", bare(0), "none");
    line("late, p99 (at most)", figures.p99_us, "us", bare(1), "none");
    line(
        "late, most (at most)",
        figures.most_us,
        "us",
        bare(2),
        "none",
    );
    Ok(())
}

struct Figures {
    polls: u64,
    skipped: u64,
    p50_us: f64,
    p99_us: f64,
    most_us: f64,
}

async fn channels(text: &str) -> Result<Figures> {
    let host = BenchHost::start(text).await?;
    // While channels start, they take the time that others would be polled in; that is no matter of a plant that runs.
    sleep(SETTLE).await;
    let begun = counted(&host);
    sleep(MINUTE).await;
    let all = counted(&host);
    host.stop().await;
    ensure!(all.len() == CHANNELS as usize, "each channel has one group");
    let mut deviation = bulkhead::history::Latencies::default();
    for (group, before) in all.iter().zip(&begun) {
        let counts = group.deviation.0.iter().zip(before.deviation.0);
        for (sum, (count, before)) in deviation.0.iter_mut().zip(counts) {
            *sum += count - before;
        }
    }
    let micros = |share| {
        let limit = deviation.quantile(share).context("polls were counted")?;
        anyhow::Ok(limit.as_secs_f64() * 1e6)
    };
    let since = |of: fn(&Punctuality) -> u64| -> u64 {
        all.iter().map(of).sum::<u64>() - begun.iter().map(of).sum::<u64>()
    };
    let last = deviation.0.iter().rposition(|count| *count > 0);
    let most = last.and_then(bulkhead::history::bucket_limit);
    Ok(Figures {
        polls: since(|group| group.polls),
        skipped: since(|group| group.skipped),
        p50_us: micros(0.5)?,
        p99_us: micros(0.99)?,
        most_us: most.unwrap_or_default().as_secs_f64() * 1e6,
    })
}

/// How punctual each group was so far.
fn counted(host: &BenchHost) -> Vec<Punctuality> {
    let channels = host.host.channels();
    channels
        .iter()
        .flat_map(|channel| channel.punctuality())
        .collect()
}

/// Microseconds that each tick of so many timers comes late, their phases spread.
async fn bare() -> Result<Vec<f64>> {
    let mut timers = JoinSet::new();
    let began = Instant::now();
    for number in 0..CHANNELS {
        timers.spawn(async move {
            let mut ticks = interval_at(began + PERIOD + PERIOD * number / CHANNELS, PERIOD);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let mut late = Vec::new();
            while began.elapsed() < FLOOR {
                let due = ticks.tick().await;
                late.push(due.elapsed().as_secs_f64() * 1e6);
            }
            late
        });
    }
    Ok(timers.join_all().await.concat())
}
