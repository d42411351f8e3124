//! A host with neighbours, and culprits that are let loose one after the other.

use std::fs;
use std::sync::{MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Bulkhead, Folder, Machine, PATIENCE, Peer, Recorder, Recording, neighbour};
use serde_json::{Value, json};

use crate::MACHINE;

/// Channels that do nothing wrong.
const NEIGHBOURS: u8 = 2;
/// What the host may take for itself while it contains one of them, in MiB; `docs/LIMITS.md` states it.
pub(crate) const HOST_MIB: u64 = 48;

/// A channel that goes wrong.
pub(crate) struct Culprit {
    /// Its name; begins with the number of the case.
    pub(crate) id: &'static str,
    pub(crate) driver: Driver,
    /// Further keys of the channel, in TOML.
    pub(crate) keys: String,
    /// Of `limits`.
    pub(crate) limits: &'static str,
    pub(crate) memory_mib: u64,
    pub(crate) restart: &'static str,
    /// Further tables of the channel.
    pub(crate) tables: &'static str,
    /// How each of its lives ends: one of these kinds, in this call, with a sentence that says this.
    pub(crate) kinds: &'static [&'static str],
    pub(crate) during: &'static str,
    pub(crate) says: &'static str,
    /// The event that stands in its report, where it took a turn.
    pub(crate) upon: Option<&'static str>,
}

pub(crate) enum Driver {
    /// Of `tests/guests`.
    Guest(&'static str),
    /// Made in the test.
    Component(Vec<u8>),
}

/// What a culprit is where nothing else is said: trapped in its first turn.
pub(crate) fn culprit(id: &'static str, driver: Driver) -> Culprit {
    Culprit {
        id,
        driver,
        keys: String::new(),
        limits: "",
        memory_mib: 8,
        restart: r#"max_attempts = 1, delay = "10ms", max_delay = "10ms", jitter = 0"#,
        tables: "",
        kinds: &["trapped"],
        during: "turn",
        says: "",
        upon: Some("started"),
    }
}

/// Restarts as fast as they can be: what is held back harms nobody.
const HOST: &str = r#"
[host]
data_dir = "$DIR/data"
restarts_per_second = 10_000
restart_burst = 10_000
"#;

/// A group that is polled and has one tag of this type.
pub(crate) const NUMBER: &str = r#"
[[channel.group]]
name = "all"
period = "50ms"
tags = [{ name = "number", address = "n", type = "float64", access = "rw" }]
"#;

impl Culprit {
    fn channel(&self, folder: &Folder) -> Result<String> {
        let Self {
            id,
            keys,
            limits,
            memory_mib,
            restart,
            tables,
            ..
        } = self;
        let driver = match &self.driver {
            Driver::Guest(name) => format!("$GUESTS/{name}.wasm"),
            Driver::Component(bytes) => {
                let file = format!("{id}.wasm");
                folder.write(&file, bytes)?;
                format!("$DIR/{file}")
            }
        };
        Ok(format!(
            r#"
            [[channel]]
            id = "{id}"
            driver = "{driver}"
            enabled = false
            limits = {{ memory = "{memory_mib}MiB", {limits} }}
            restart = {{ {restart} }}
            {keys}
            {tables}
            "#
        ))
    }
}

/// The host, its neighbours and their device.
pub(crate) struct Plant {
    pub(crate) host: Bulkhead,
    pub(crate) recorder: Recorder,
    peer: Peer,
    machine: Machine,
    pid: u32,
    _alone: MutexGuard<'static, ()>,
}

impl Plant {
    /// Starts it, with channels that are not started yet, and waits until the neighbours are good.
    pub(crate) fn start(culprits: &[Culprit]) -> Result<Self> {
        let folder = Folder::new()?;
        let channels: Result<String> = culprits.iter().map(|it| it.channel(&folder)).collect();
        Self::start_in(folder, &channels?)
    }

    /// The same with channels as they stand in a file.
    pub(crate) fn start_in(folder: Folder, channels: &str) -> Result<Self> {
        let alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = Peer::simulated(&["--units", &format!("1-{NEIGHBOURS}")])?;
        let neighbours: String = (1..=NEIGHBOURS)
            .map(|unit| neighbour::channel(unit, &peer.address()))
            .collect();
        let host = Bulkhead::start_in(folder, &(neighbours + channels + HOST), &[])?;
        let pid = host.process().id();
        let machine = Machine::watch(&[pid, peer.process().id()])?;
        // A test may be patient several times.
        let recorder = Recorder::start(host.stream_for("/api/v1/stream", 10 * PATIENCE)?);
        let plant = Self {
            host,
            recorder,
            peer,
            machine,
            pid,
            _alone: alone,
        };
        plant.neighbours_go_on()?;
        Ok(plant)
    }

    /// Starts a channel.
    pub(crate) fn let_loose(&self, id: &str) -> Result<()> {
        self.order(id, "start")
    }

    /// Gives an order to a channel.
    pub(crate) fn order(&self, id: &str, order: &str) -> Result<()> {
        let path = format!("/api/v1/channels/{id}/{order}");
        let reply = self.host.post(&path, &json!({}))?;
        ensure!(reply.status == 200, "{path}: {reply:?}");
        Ok(())
    }

    /// Waits until each neighbour has been read a few times more.
    pub(crate) fn neighbours_go_on(&self) -> Result<()> {
        let from = self.recorder.so_far().len();
        self.recorder.wait("the neighbours go on", |seen| {
            (1..=NEIGHBOURS).all(|unit| neighbour::good_reads(&seen[from..], unit).count() >= 3)
        })
    }

    /// Does something, and checks what the host took for it besides the channel's quota.
    pub(crate) fn within_bounds(
        &self,
        name: &str,
        quota_mib: u64,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let quiet_kib = self.memory_kib("VmRSS")?;
        fs::write(format!("/proc/{}/clear_refs", self.pid), "5")
            .context("the peak cannot be reset")?;
        work().with_context(|| name.to_owned())?;
        let peak_kib = self.memory_kib("VmHWM")?;
        let bound_kib = quiet_kib + 1024 * (quota_mib + HOST_MIB);
        assert!(
            peak_kib <= bound_kib,
            "{name}: {peak_kib} KiB were resident; {quiet_kib} KiB before, and a quota of {quota_mib} MiB"
        );
        Ok(())
    }

    /// Lets a culprit loose, and checks that it ends as it must, twice, and that nothing else does.
    pub(crate) fn contain(&self, culprit: &Culprit) -> Result<()> {
        let id = culprit.id;
        self.within_bounds(id, culprit.memory_mib, || {
            self.let_loose(id)?;
            self.recorder
                .wait(&format!("{id} is broken"), |seen| {
                    is_in_state(seen, id, "broken")
                })
                .with_context(|| self.host.process().printed())?;
            self.neighbours_go_on()
        })?;
        let seen = self.recorder.so_far();
        let exits = exits(&seen, id);
        assert_eq!(exits.len(), 2, "{id}: {exits:#?}");
        for (life, exit) in (1..).zip(exits) {
            self.check_exit(culprit, life, exit);
        }
        let path = format!("/api/v1/channels/{id}");
        let last = self.host.get(&path)?.body["last_exit"].clone();
        self.check_exit(culprit, 2, &last);
        Ok(())
    }

    /// The kind, the call, the sentence, the instance, the remedy, the events, and one line in the log.
    pub(crate) fn check_exit(&self, culprit: &Culprit, life: u64, exit: &Value) {
        let Culprit {
            id,
            kinds,
            during,
            says,
            upon,
            ..
        } = culprit;
        let text = |key: &str| exit[key].as_str().unwrap_or("?");
        let instance = format!("wasm/{id}#{life}");
        let kind = text("exit");
        assert!(kinds.contains(&kind), "{id}: {exit:#}");
        assert_eq!(text("during"), *during, "{id}: {exit:#}");
        assert!(text("message").contains(says), "{id}: {exit:#}");
        assert_eq!(text("instance"), instance, "{id}: {exit:#}");
        assert_eq!(exit["incarnation"], life, "{id}: {exit:#}");
        assert!(text("remedy").len() > 10, "{id}: {exit:#}");
        let events = exit["events"].as_array().expect("a list");
        let last = events
            .last()
            .map(|told| told["event"].as_str().expect("a kind"));
        assert_eq!(last, *upon, "{id}: {exit:#}");

        let tells = |line: &str| {
            line.contains("ERROR")
                && line.contains(&format!("instance={instance} "))
                && line.contains(&format!("kind={kind}"))
        };
        let err = self.host.process().err();
        // The stream may be faster than the log.
        err.wait_for(0, |line| tells(line).then_some(()))
            .unwrap_or_else(|error| panic!("life {life} of {id}: {error:#}"));
        let log = err.so_far();
        let told = log.iter().filter(|line| tells(line));
        assert_eq!(told.count(), 1, "life {life} of {id}:\n{}", log.join("\n"));
    }

    /// Waits until each neighbour has been read often enough for its rhythm to show.
    fn neighbours_show_their_rhythm(&self) -> Result<()> {
        self.recorder
            .wait("the neighbours show their rhythm", |seen| {
                (1..=NEIGHBOURS).all(|unit| neighbour::good_reads(seen, unit).count() >= 15)
            })
    }

    /// Checks that it is the same process still and that the neighbours lost nothing, and ends it.
    pub(crate) fn end(mut self) -> Result<()> {
        self.neighbours_show_their_rhythm()?;
        let status = self.host.get("/api/v1/status")?.body;
        assert_eq!(status["pid"], self.pid, "{status:#}");
        assert!(
            self.recorder.so_far().iter().all(|(name, _)| name != "gap"),
            "the recording has gaps: the test was too slow to follow"
        );
        for unit in 1..=NEIGHBOURS {
            let retired = neighbour::retire(&self.host, &mut self.peer, &self.machine, unit)?;
            self.recorder.wait("its end is recorded", |seen| {
                is_in_state(seen, &neighbour::id(unit), "stopped")
            })?;
            retired.check_published(&self.recorder.so_far());
        }
        let log = self.host.process().err().so_far();
        let fault = log.iter().find(|line| line.contains("host-fault"));
        assert_eq!(fault, None);
        ensure!(self.host.stop()?.code() == Some(0), "it ended badly");
        Ok(())
    }

    /// A line of `/proc/PID/status`, in KiB.
    fn memory_kib(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number
            .with_context(|| format!("no {name} in:\n{status}"))?
            .parse()?)
    }
}

/// Whether the last state of a channel is this one.
pub(crate) fn is_in_state(seen: &Recording, id: &str, state: &str) -> bool {
    let last = seen
        .iter()
        .rfind(|(name, data)| name == "state" && data["channel"] == *id);
    last.is_some_and(|(_, data)| data["state"] == *state)
}

/// The ends of a channel's lives.
pub(crate) fn exits<'a>(seen: &'a Recording, id: &str) -> Vec<&'a Value> {
    let ends = seen
        .iter()
        .filter(|(name, data)| name == "exit" && data["channel"] == *id);
    ends.map(|(_, data)| data).collect()
}
