//! `kill -9` of the host, again and again, at any moment: what anybody has seen of histories and saved states is
//! there afterwards, no life has a number that another had, and no process is left behind.
//!
//! Seen means: told by the API, or known to a device. The driver `echo` saves how many bytes it has echoed before it
//! echoes them, so its device knows what the state must be at least; the channel `trips` traps all the time, so that
//! its history grows while the host is killed.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulkhead_tests::{Bulkhead, Calls, Folder, PATIENCE, rounds};
use serde_json::Value;

fn config(calls: &Calls) -> String {
    format!(
        r#"
        [[channel]]
        id = "echo"
        driver = "$GUESTS/echo.wasm"
        links.peer = {{ connect = "tcp://{}" }}
        [[channel.group]]
        name = "all"
        period = "20ms"
        tags = [{{ name = "started", address = "started", type = "string" }}]

        [[channel]]
        id = "trips"
        driver = "$GUESTS/traps.wasm"
        settings = {{ when = "poll", after = 1 }}
        restart = {{ max_attempts = 1_000, delay = "10ms", max_delay = "10ms" }}
        [[channel.group]]
        name = "all"
        period = "10ms"
        tags = [{{ name = "t", address = "1", type = "uint32" }}]
        "#,
        calls.address
    )
}

/// What the test knows must be so.
#[derive(Default)]
struct Known {
    /// Bytes that came back: the state counts them.
    echoed: u64,
    /// Bytes that were sent: the state counts no others.
    sent: u64,
    /// The last life of the channel `echo`.
    life: u64,
    /// The events that were seen of `trips`, by number.
    events: BTreeMap<u64, Value>,
    lives: u64,
    traps: u64,
}

impl Known {
    /// Checks what the driver was started with.
    fn check_state(&mut self, host: &Bulkhead) -> Result<()> {
        let last = self.life;
        let (life, state) = host.get_until("/api/v1/tags/echo/started", |tag| {
            // `HostRestart in incarnation 257 with the state 12`
            let mut words = tag["value"].as_str()?.split(' ').skip(3);
            let life: u64 = words.next()?.parse().ok()?;
            let state = words.last()?.parse().unwrap_or(0);
            Some((life, state))
        })?;
        assert!(life > last, "life {life} after {last}");
        self.life = life;
        let possible = self.echoed..=self.sent;
        assert!(possible.contains(&state), "{state} is not in {possible:?}");
        (self.echoed, self.sent) = (state, state);
        Ok(())
    }

    /// Checks that the history of `trips` goes on from what was seen of it, and takes in what is new.
    fn check_history(&mut self, host: &Bulkhead) -> Result<()> {
        let shown = host.get("/api/v1/channels/trips")?.body;
        let reply = host.get("/api/v1/channels/trips/history")?;
        ensure!(reply.status == 200, "{reply:?}");
        let history = reply.body;
        assert_eq!(history["durable"], true, "{history:#}");
        assert_eq!(history["unreadable"], 0, "{history:#}");
        let events = history["events"].as_array().context("no events")?;
        let numbered = |event: &Value| Some((event["number"].as_u64()?, event.clone()));
        let now: BTreeMap<u64, Value> = events.iter().filter_map(numbered).collect();
        let (first, last) = match (now.keys().next(), now.keys().next_back()) {
            (Some(first), Some(last)) => (*first, *last),
            _ => anyhow::bail!("an empty history"),
        };
        assert_eq!(history["dropped"], first - 1, "{history:#}");
        assert!(first == 1 || now.len() == 100, "{} events", now.len());
        assert_eq!(now.len() as u64, last - first + 1, "a gap");
        for (number, event) in self.events.range(first..) {
            assert_eq!(now.get(number), Some(event), "event {number} was seen");
        }
        self.events.extend(now);

        // What `show` told before the history was flushed is no more than what is kept now.
        let statistics = &shown["statistics"];
        let lives = statistics["lives"].as_u64().context("no lives")?;
        let traps = statistics["exits"]["trapped"].as_u64().unwrap_or(0);
        assert!(lives >= self.lives, "{lives} after {}", self.lives);
        assert!(traps >= self.traps, "{traps} after {}", self.traps);
        (self.lives, self.traps) = (lives, traps);
        Ok(())
    }

    /// Has bytes echoed, and sends some more that may or may not be.
    fn exchange(&mut self, stream: &mut TcpStream, random: &mut fastrand::Rng) -> Result<()> {
        for _ in 0..random.usize(1..8) {
            let mut bytes = vec![b'x'; random.usize(1..200)];
            stream.write_all(&bytes)?;
            self.sent += bytes.len() as u64;
            stream.read_exact(&mut bytes)?;
            self.echoed += bytes.len() as u64;
        }
        for _ in 0..random.usize(0..4) {
            let bytes = vec![b'x'; random.usize(1..200)];
            stream.write_all(&bytes)?;
            self.sent += bytes.len() as u64;
        }
        Ok(())
    }

    /// Takes in what was still on the way when the host was killed.
    fn drain(&mut self, mut stream: TcpStream) {
        // It fails where the host's end was gone first.
        stream.shutdown(Shutdown::Write).ok();
        let mut bytes = [0; 4096];
        // An end or a reset: nothing more comes.
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            self.echoed += count as u64;
        }
    }
}

/// The processes whose current directory is this folder: the host's, and those that it started.
fn processes_in(folder: &Path) -> Result<Vec<String>> {
    // As the kernel names it: where links lead.
    let folder = folder.canonicalize()?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        // Those that end meanwhile, or belong to somebody else, have none.
        if std::fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd == folder) {
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    Ok(found)
}

/// Waits until no process is left in the folder.
fn nobody_in(folder: &Folder) -> Result<()> {
    const STEP: Duration = Duration::from_millis(2);
    let mut left = Vec::new();
    for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
        left = processes_in(folder.path())?;
        if left.is_empty() {
            return Ok(());
        }
        std::thread::sleep(STEP);
    }
    anyhow::bail!("left behind: {left:#?}")
}

#[test]
fn a_killed_host_forgets_nothing_that_anybody_has_seen() -> Result<()> {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let calls = Calls::listen()?;
    let config = config(&calls);
    let mut folder = Folder::new()?;
    let mut known = Known::default();
    for round in 1..=rounds(20, 200) {
        let checked = || -> Result<Folder> {
            let host = Bulkhead::start_in(folder, &config, &[])?;
            assert_eq!(processes_in(host.folder())?.len(), 1, "the host alone");
            let mut stream = calls.accept()?;
            known.check_state(&host)?;
            known.check_history(&host)?;
            // Now and then at once, else somewhere in the midst of it.
            if round % 5 != 0 {
                let more = known.traps + random.u64(1..4);
                host.get_until("/api/v1/channels/trips", |channel| {
                    let traps = channel["statistics"]["exits"]["trapped"].as_u64()?;
                    (traps >= more).then_some(())
                })?;
                known.check_history(&host)?;
            }
            known.exchange(&mut stream, &mut random)?;
            let folder = host.kill()?;
            known.drain(stream);
            nobody_in(&folder)?;
            Ok(folder)
        };
        folder = checked().with_context(|| format!("round {round}, seed {seed}"))?;
    }
    assert!(known.traps > 20, "{} traps", known.traps);
    println!(
        "{} lives, {} traps, {} bytes, {} events seen",
        known.life,
        known.traps,
        known.echoed,
        known.events.len()
    );
    Ok(())
}
