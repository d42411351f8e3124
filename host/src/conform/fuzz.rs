//! Random events, for as long as somebody likes; what ends a driver is made as short as it can be.
//!
//! A session is a list of steps that follows from its seed alone, so a finding can be had again by its number. After its steps a
//! driver must live, answer all that it owes and stop. Shrinking leaves out steps, halves first, then single ones, for as long as what
//! is left still fails in the same way.

use std::fmt;

use super::outcome::NoPass;
use super::peer::{Learned, Reach, Silent};
use super::stage::{MILLISECOND, SECOND, Stage};
use super::universal::Bench;
use crate::bindings::events::{CloseReason, Happening, Outlook, StopReason};

/// The most steps in a session.
const STEPS: usize = 80;
/// The most sessions that shrinking takes.
const SHRINKING: usize = 2_000;
/// How long a driver has for what it owes at the end.
const LEAVE: u64 = 24 * 3_600 * SECOND;

/// What was found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The seed of its session.
    pub seed: u64,
    /// What is left of its steps, as people read them.
    pub steps: Vec<String>,
    /// How many steps there were.
    pub from: usize,
    /// What the driver did.
    pub why: String,
}

/// Tries one session after the other.
pub struct Fuzzer<'a> {
    bench: Bench<'a>,
    seed: u64,
    sessions: u64,
    events: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Poll(usize),
    Skip(usize),
    Read(u8),
    Write(usize, bool),
    Command(usize, Vec<u8>),
    Health,
    Cancel(usize),
    Bytes(Vec<u8>),
    Honest(bool),
    Drop(bool),
    Up,
    Advance(u64),
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Poll(group) => write!(formatter, "poll of group {group}"),
            Step::Skip(group) => write!(formatter, "poll of group {group} without any device"),
            Step::Read(mask) => write!(formatter, "read of tags {mask:08b}"),
            Step::Write(tag, read_back) => {
                write!(formatter, "write number {tag}, read back: {read_back}")
            }
            Step::Command(command, payload) => write!(
                formatter,
                "command {command} with {:?}",
                String::from_utf8_lossy(payload)
            ),
            Step::Health => formatter.write_str("health check"),
            Step::Cancel(request) => write!(formatter, "cancel of request {request}"),
            Step::Bytes(bytes) => {
                write!(formatter, "send")?;
                bytes
                    .iter()
                    .take(64)
                    .try_for_each(|byte| write!(formatter, " {byte:02x}"))?;
                if bytes.len() > 64 {
                    write!(formatter, " … {} bytes", bytes.len())
                } else {
                    Ok(())
                }
            }
            Step::Honest(true) => formatter.write_str("the peer answers from now on"),
            Step::Honest(false) => formatter.write_str("the peer is silent from now on"),
            Step::Drop(true) => formatter.write_str("drop, and nobody redials"),
            Step::Drop(false) => formatter.write_str("drop"),
            Step::Up => formatter.write_str("up"),
            Step::Advance(milliseconds) => write!(formatter, "advance {milliseconds}ms"),
        }
    }
}

impl<'a> Fuzzer<'a> {
    /// Sessions have the seeds from this one on.
    pub fn new(bench: Bench<'a>, seed: u64) -> Self {
        Self {
            bench,
            seed,
            sessions: 0,
            events: 0,
        }
    }

    /// How many sessions were tried.
    pub fn sessions(&self) -> u64 {
        self.sessions
    }

    /// How many steps they had.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Tries sessions while `goes_on`, at least one; ends with the first finding, which is made shorter while `shrinks`. An error is the
    /// host's own.
    pub async fn run(
        &mut self,
        goes_on: impl Fn() -> bool,
        shrinks: impl Fn() -> bool,
    ) -> Result<Option<Finding>, NoPass> {
        loop {
            let seed = self.seed.wrapping_add(self.sessions);
            let steps = made_up(seed);
            self.sessions += 1;
            self.events += steps.len() as u64;
            if let Some(why) = self.session(&steps).await? {
                let (steps, why) = self.shrunk(steps, why, shrinks).await?;
                return Ok(Some(Finding {
                    seed,
                    from: made_up(seed).len(),
                    steps: steps.iter().map(Step::to_string).collect(),
                    why,
                }));
            }
            if !goes_on() {
                return Ok(None);
            }
        }
    }

    async fn shrunk(
        &self,
        mut steps: Vec<Step>,
        mut why: String,
        shrinks: impl Fn() -> bool,
    ) -> Result<(Vec<Step>, String), NoPass> {
        let mut tries = 0;
        let goes_on = |tries: usize| tries < SHRINKING && shrinks();
        let mut piece = steps.len().div_ceil(2);
        while piece > 0 && goes_on(tries) {
            let mut from = 0;
            let mut is_shorter = false;
            while from < steps.len() && goes_on(tries) {
                let mut fewer = steps.clone();
                fewer.drain(from..(from + piece).min(steps.len()));
                tries += 1;
                match self.session(&fewer).await? {
                    Some(same) if kind(&same) == kind(&why) => {
                        (steps, why) = (fewer, same);
                        is_shorter = true;
                    }
                    _ => from += piece,
                }
            }
            if !is_shorter || piece > 1 {
                piece /= 2;
            }
        }
        for at in 0..steps.len() {
            while let Step::Bytes(bytes) = &steps[at] {
                if bytes.len() < 2 || !goes_on(tries) {
                    break;
                }
                let mut fewer = steps.clone();
                fewer[at] = Step::Bytes(bytes[..bytes.len() / 2].to_vec());
                tries += 1;
                match self.session(&fewer).await? {
                    Some(same) if kind(&same) == kind(&why) => (steps, why) = (fewer, same),
                    _ => break,
                }
            }
        }
        Ok((steps, why))
    }

    /// What is wrong after these steps, if anything is.
    async fn session(&self, steps: &[Step]) -> Result<Option<String>, NoPass> {
        match self.play(steps).await {
            Ok(()) => Ok(None),
            Err(NoPass::Failed(why)) => Ok(Some(why)),
            Err(NoPass::Skipped(_)) => Ok(None),
            Err(broken) => Err(broken),
        }
    }

    async fn play(&self, steps: &[Step]) -> Result<(), NoPass> {
        let mut stage = self.bench.begin(Box::new(Silent(Reach::Up))).await?;
        let mut requests = Vec::new();
        for step in steps {
            self.step(step, &mut stage, &mut requests).await;
            stage.check()?;
        }
        let latest = stage.now() + LEAVE;
        stage
            .until(latest, |stage| stage.heard.owed().is_empty())
            .await;
        stage.check()?;
        if let Some(owed) = stage.heard.owed().first() {
            return Err(NoPass::failed(format!(
                "a day later the driver still owes an answer: {owed}"
            )));
        }
        stage.stop(2 * SECOND, StopReason::Stopped);
        let latest = stage.now() + 2 * SECOND;
        stage
            .until(latest, |stage| stage.heard.stopped_at.is_some())
            .await;
        stage.check()?;
        if stage.heard.stopped_at.is_none() {
            return Err(NoPass::failed(
                "asked to stop within 2 s, the driver did not answer `stopped`",
            ));
        }
        Ok(())
    }

    async fn step(&self, step: &Step, stage: &mut Stage, requests: &mut Vec<u64>) {
        const TIMEOUT: u64 = 10 * SECOND;
        let config = stage.config().clone();
        let group = |number: usize| {
            config
                .groups
                .get(number % config.groups.len().max(1))
                .map(|group| group.id)
        };
        match step {
            Step::Poll(number) => {
                if let Some(group) = group(*number) {
                    stage.poll(group, Vec::new());
                }
            }
            Step::Skip(number) => {
                if let Some(group) = group(*number) {
                    stage.poll(
                        group,
                        config.devices.iter().map(|device| device.id).collect(),
                    );
                }
            }
            Step::Read(mask) if self.bench.can("read") => {
                let wanted = config
                    .tags
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| mask >> (index % 8) & 1 == 1);
                let tags: Vec<u32> = wanted.map(|(_, tag)| tag.id).collect();
                if !tags.is_empty() {
                    requests.push(stage.read(tags, TIMEOUT));
                }
            }
            Step::Write(number, read_back) if self.bench.can("write") => {
                let tags: Vec<_> = self.bench.plant.writable().collect();
                let tag = tags.get(number % tags.len().max(1));
                if let Some((id, value)) =
                    tag.and_then(|tag| Some((tag.id, self.bench.plant.value(tag)?)))
                {
                    requests.push(stage.write(id, value, *read_back, TIMEOUT));
                }
            }
            Step::Command(number, payload) => {
                let commands = &self.bench.info.commands;
                if let Some(command) = commands.get(number % commands.len().max(1)) {
                    requests.push(stage.command(&command.name, payload, TIMEOUT));
                }
            }
            Step::Health => requests.push(stage.health()),
            Step::Cancel(number) => {
                if let Some(request) = requests.get(number % requests.len().max(1)) {
                    stage.happen(Happening::Cancel(*request));
                }
            }
            Step::Bytes(bytes) => {
                for link in &config.links {
                    stage.receive(link.id, bytes);
                }
            }
            Step::Honest(true) => stage.meet(Box::new(Learned::honest(&self.bench.plant.replies))),
            Step::Honest(false) => stage.meet(Box::new(Silent(Reach::Up))),
            Step::Drop(for_now) => {
                for link in &config.links {
                    if stage.is_up(link.id) {
                        if *for_now {
                            stage.lose_for_now(link.id, CloseReason::Reset, Outlook::Redialling);
                        } else {
                            stage.lose(link.id, CloseReason::Reset);
                        }
                    }
                }
            }
            Step::Up => {
                for link in &config.links {
                    if !stage.is_up(link.id) {
                        for connection in stage.connections(link.id) {
                            stage.bring_up(connection);
                        }
                    }
                }
            }
            Step::Advance(milliseconds) => stage.advance(milliseconds * MILLISECOND).await,
            Step::Read(_) | Step::Write(..) => {}
        }
    }
}

/// What is the same about two failures: all but the numbers.
fn kind(why: &str) -> String {
    why.lines()
        .take(2)
        .flat_map(str::chars)
        .filter(|character| !character.is_ascii_digit())
        .collect()
}

fn made_up(seed: u64) -> Vec<Step> {
    let mut random = fastrand::Rng::with_seed(seed);
    let count = random.usize(1..STEPS);
    let mut step = || match random.u8(0..24) {
        0..5 => Step::Poll(random.usize(0..4)),
        5 => Step::Skip(random.usize(0..4)),
        6 | 7 => Step::Read(random.u8(1..)),
        8 | 9 => Step::Write(random.usize(0..8), random.bool()),
        10 => Step::Command(random.usize(0..8), bytes(&mut random)),
        11 => Step::Health,
        12 => Step::Cancel(random.usize(0..64)),
        13..16 => Step::Bytes(bytes(&mut random)),
        16 | 17 => Step::Honest(random.bool()),
        18 => Step::Drop(random.bool()),
        19 => Step::Up,
        _ => Step::Advance([0, 1, 10, 500, 1_000, 5_000, 60_000][random.usize(0..7)]),
    };
    std::iter::repeat_with(&mut step).take(count).collect()
}

fn bytes(random: &mut fastrand::Rng) -> Vec<u8> {
    let length = [0, 1, 7, 12, 64, 300, 70_000][random.usize(0..7)];
    let is_text = random.bool();
    std::iter::repeat_with(|| {
        if is_text {
            random.u8(b' '..b'~')
        } else {
            random.u8(..)
        }
    })
    .take(length)
    .collect()
}
