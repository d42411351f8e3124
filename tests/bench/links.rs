//! `bench links`: each fault between host and device, several times: how long until the tags are bad, and, once it is lifted, until samples
//! are good again; and five hundred links to a device that comes back.
//!
//! The floor is a bare client on the same wire in the same run: a blocking socket that asks as often as the host polls, waits as long
//! for an answer, and dials again at once. It knows no delay between redials, and no courtesy.
//!
//! Every plant has the defaults of a link. All run at once, each with a host, a device and a wire of its own; they wait for most of
//! the time.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead_tests::fleet::Fleet;
use bulkhead_tests::netns::{self, Network};
use bulkhead_tests::plant::{self, Fault, Options, PERIOD, Plant, Values, is_sample};
use bulkhead_tests::{Recorder, Recording};
use tokio::time::Instant;

use crate::report::{line, quantile};

/// How often each fault strikes.
const ROUNDS: usize = 5;
/// How long it lasts at least: until redials are as rare as they get. Up to a longest delay more, at random.
const LASTS: Duration = Duration::from_secs(10);
const LONGER_MS: u64 = 3_900;
/// The driver's wait for an answer; its default, but for those faults with which no answer comes within it.
const TIMEOUT: Duration = Duration::from_secs(1);
const PATIENT: Duration = Duration::from_secs(5);
/// A default link: 3 s and 30 % between redials, 3 s for the dial, and the next poll.
const BOUND: Duration = Duration::from_millis(3_900 + 3_000 + 100);
/// Aimed at for the default.
const AIM_MS: f64 = 5_000.0;
/// Links of the fleet, and the period of their polls.
const LINKS: usize = 500;
const FLEET_PERIOD: Duration = Duration::from_secs(1);

/// What one fault cost, in milliseconds.
struct Figures {
    fault: Fault,
    detection: Vec<f64>,
    detection_bare: Vec<f64>,
    recovery: Vec<f64>,
    recovery_bare: Vec<f64>,
    unanswered: usize,
    wrong: usize,
}

struct FleetFigures {
    recovery: Vec<f64>,
    bare_ms: f64,
}

/// Measures and prints.
pub(crate) fn run(json: bool) -> Result<()> {
    if !netns::is_apart() {
        let arguments = ["links", "--json"];
        return netns::again_apart(&arguments[..1 + usize::from(json)]);
    }
    let network = Network::enter()?;
    eprintln!("bench: {} faults, {ROUNDS} times each", Fault::ALL.len());
    let all: Vec<Figures> = thread::scope(|scope| {
        let plants: Vec<_> = (0..)
            .zip(Fault::ALL)
            .map(|(number, fault)| {
                let network = &network;
                scope.spawn(move || strike(network, number, fault))
            })
            .collect();
        let joined = plants.into_iter().map(|plant| {
            let joined = plant.join().ok();
            joined.context("a plant has an accident")?
        });
        joined.collect::<Result<_>>()
    })?;
    eprintln!("bench: {LINKS} links to a device that comes back");
    let fleet = fleet(&network)?;
    for figures in all {
        figures.print(json);
    }
    fleet.print(json);
    Ok(())
}

/// Lets one fault strike, again and again.
fn strike(network: &Network, number: u8, fault: Fault) -> Result<Figures> {
    let timeout = if fault.is_outage() { TIMEOUT } else { PATIENT };
    let mut plant = Plant::start(
        network,
        Options {
            fault,
            number,
            link: "",
            timeout,
        },
    )?;
    let seen = plant.record()?;
    let traffic = plant.traffic(PATIENT);
    let bare = fault
        .is_over_tcp()
        .then(|| Bare::start(plant.target.clone(), timeout));
    let mut random = fastrand::Rng::with_seed(number.into());
    let mut figures = Figures {
        fault,
        detection: Vec::new(),
        detection_bare: Vec::new(),
        recovery: Vec::new(),
        recovery_bare: Vec::new(),
        unanswered: 0,
        wrong: 0,
    };
    for _ in 0..ROUNDS {
        if let Some(bare) = &bare {
            bare.wait(plant::now_ns()?, true)?;
        }
        let injected = plant.inject()?;
        if fault.is_outage() {
            let bad = first(&seen, injected, false)?;
            figures.detection.push(ms(injected, bad));
            if let Some(bare) = &bare {
                let bad = bare.wait(injected, false)?;
                figures.detection_bare.push(ms(injected, bad));
            }
        }
        let lasts = LASTS + Duration::from_millis(random.u64(..LONGER_MS));
        let so_far = Duration::from_nanos(plant::now_ns()?.saturating_sub(injected));
        thread::sleep(lasts.saturating_sub(so_far));
        let lifted = plant.lift()?;
        let good = first(&seen, lifted, true)?;
        figures.recovery.push(ms(lifted, good));
        if let Some(bare) = &bare {
            let good = bare.wait(lifted, true)?;
            figures.recovery_bare.push(ms(lifted, good));
        }
    }
    let account = traffic.stop()?;
    figures.unanswered = account.unanswered.len();
    let values = Values::check(&seen.so_far(), account.written);
    for wrong in &values.wrong {
        eprintln!("bench: {}: wrong: {wrong}", fault.name());
    }
    ensure!(values.good > 0, "{}: no good value", fault.name());
    figures.wrong = values.wrong.len();
    Ok(figures)
}

fn ms(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

/// When the first good, or the first bad, sample came after a moment.
fn first(seen: &Recorder, after: u64, good: bool) -> Result<u64> {
    let find = |seen: &Recording| {
        let mut samples = seen.iter().filter(|event| is_sample(event, "reads"));
        samples.find_map(|(_, sample)| {
            let at = sample["server_time_ns"].as_u64()?;
            let wanted = at > after && (sample["quality"] == "good") == good;
            wanted.then_some(at)
        })
    };
    seen.wait("the tag changes", |seen| find(seen).is_some())?;
    find(&seen.so_far()).context("it has been found")
}

/// A client without a host: when it was last well, and ill.
struct Bare {
    over: Arc<AtomicBool>,
    /// Moments, and whether an answer had come.
    seen: Arc<Mutex<Vec<(u64, bool)>>>,
    thread: Option<JoinHandle<()>>,
}

impl Bare {
    fn start(target: String, timeout: Duration) -> Self {
        let over = Arc::<AtomicBool>::default();
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let (ends, tells) = (Arc::clone(&over), Arc::clone(&seen));
        let thread = thread::spawn(move || {
            let mut stream = None;
            while !ends.load(Relaxed) {
                let answered = ask(&mut stream, &target, timeout).is_ok();
                if !answered {
                    stream = None;
                }
                if let Ok(now) = plant::now_ns() {
                    let mut seen = tells.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.push((now, answered));
                }
                let pause = if answered { PERIOD } else { PERIOD / 10 };
                thread::sleep(pause);
            }
        });
        Self {
            over,
            seen,
            thread: Some(thread),
        }
    }

    /// When it was well, or ill, for the first time after a moment.
    fn wait(&self, after: u64, well: bool) -> Result<u64> {
        for _ in 0..60_000 {
            {
                let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                let found = seen.iter().find(|(at, was)| *at > after && *was == well);
                if let Some((at, _)) = found {
                    return Ok(*at);
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
        anyhow::bail!("the bare client does not notice")
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Reads register 100 of unit 2 over a stream, which is dialled where there is none.
fn ask(stream: &mut Option<TcpStream>, target: &str, timeout: Duration) -> Result<()> {
    let stream = match stream {
        Some(stream) => stream,
        None => {
            let address = target.to_socket_addrs()?.next().context("no address")?;
            let dialled = TcpStream::connect_timeout(&address, timeout)?;
            dialled.set_nodelay(true)?;
            dialled.set_read_timeout(Some(timeout))?;
            stream.insert(dialled)
        }
    };
    stream.write_all(&[0, 1, 0, 0, 0, 6, 2, 3, 0, 100, 0, 1])?;
    let mut answer = [0; 11];
    stream.read_exact(&mut answer)?;
    ensure!(answer[7..] == [3, 2, 0, 2], "{answer:?}");
    Ok(())
}

/// How long each link of a fleet takes once the device is back.
fn fleet(network: &Network) -> Result<FleetFigures> {
    let mut fleet = Fleet::start(network, LINKS, "", "", FLEET_PERIOD)?;
    let seen = fleet.record()?;
    fleet.kill();
    fleet.wait_for_bad()?;
    thread::sleep(LASTS);
    fleet.revive()?;
    let back = plant::now_ns()?;
    fleet.wait_for_good()?;
    let mut recovery = Vec::new();
    let mut done = BTreeSet::new();
    for (_, sample) in seen.so_far() {
        let at = sample["server_time_ns"].as_u64().unwrap_or(0);
        let good = sample["quality"] == "good" && at > back;
        if good && done.insert(Fleet::channel(&sample)?) {
            recovery.push(ms(back, at));
        }
    }
    ensure!(done.len() == LINKS, "{} of {LINKS} came back", done.len());

    let target = fleet.device.as_ref().context("it is back")?.address();
    let began = Instant::now();
    let mut streams = Vec::new();
    for _ in 0..LINKS {
        let mut stream = None;
        ask_first(&mut stream, &target)?;
        streams.push(stream);
    }
    Ok(FleetFigures {
        recovery,
        bare_ms: began.elapsed().as_secs_f64() * 1e3,
    })
}

/// As [`ask`], of unit 1, which is the fleet's only one.
fn ask_first(stream: &mut Option<TcpStream>, target: &str) -> Result<()> {
    let stream = stream.insert(TcpStream::connect(target)?);
    stream.set_nodelay(true)?;
    stream.write_all(&[0, 1, 0, 0, 0, 6, 1, 3, 0, 100, 0, 1])?;
    let mut answer = [0; 11];
    stream.read_exact(&mut answer)?;
    ensure!(answer[7..] == [3, 2, 0, 1], "{answer:?}");
    Ok(())
}

impl Figures {
    fn print(mut self, json: bool) {
        let at = |figures: &mut Vec<f64>, at| {
            (!figures.is_empty()).then(|| quantile(figures, at).round())
        };
        if json {
            println!(
                "{}",
                serde_json::json!({
                    "bench": "links",
                    "fault": self.fault.name(),
                    "rounds": ROUNDS,
                    "detection_p50_ms": at(&mut self.detection, 0.5),
                    "detection_max_ms": at(&mut self.detection, 1.0),
                    "detection_bare_p50_ms": at(&mut self.detection_bare, 0.5),
                    "recovery_p50_ms": at(&mut self.recovery, 0.5),
                    "recovery_max_ms": at(&mut self.recovery, 1.0),
                    "recovery_bare_p50_ms": at(&mut self.recovery_bare, 0.5),
                    "recovery_bound_ms": BOUND.as_millis(),
                    "unanswered": self.unanswered,
                    "wrong": self.wrong,
                })
            );
            return;
        }
        println!(
            "{}: {} without an answer, {} wrong",
            self.fault.name(),
            self.unanswered,
            self.wrong
        );
        for (what, ours, bare, aim) in [
            (
                "  noticed",
                &mut self.detection,
                &mut self.detection_bare,
                "none",
            ),
            (
                "  good again",
                &mut self.recovery,
                &mut self.recovery_bare,
                "at most 5000",
            ),
        ] {
            if let (Some(middle), Some(most)) = (at(ours, 0.5), at(ours, 1.0)) {
                let floor = at(bare, 0.5).map(|floor| (floor, "bare client"));
                line(&format!("{what}, p50"), middle, "ms", floor, "none");
                line(&format!("{what}, most"), most, "ms", None, aim);
            }
        }
        if quantile(&mut self.recovery, 1.0) > AIM_MS {
            println!("  (a default link may take {} ms)", BOUND.as_millis());
        }
    }
}

impl FleetFigures {
    fn print(mut self, json: bool) {
        let (middle, all) = (
            quantile(&mut self.recovery, 0.5).round(),
            quantile(&mut self.recovery, 1.0).round(),
        );
        let bare = self.bare_ms.round();
        if json {
            println!(
                "{}",
                serde_json::json!({
                    "bench": "links",
                    "links": LINKS,
                    "good_p50_ms": middle,
                    "all_good_ms": all,
                    "all_good_bare_ms": bare,
                })
            );
            return;
        }
        println!("{LINKS} links to a device that comes back");
        line("  good again, p50", middle, "ms", None, "none");
        let floor = Some((bare, "bare clients, one by one"));
        line("  good again, all", all, "ms", floor, "none");
    }
}
