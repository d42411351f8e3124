//! A good driver for a small line protocol, with one rule broken on request: `settings = { mutation = "answers-twice" }`.
//!
//! Over its link `line` it asks `R SEQ PLACE\n` and is answered `SEQ PLACE=VALUE\n`; `W SEQ PLACE VALUE\n` is answered `SEQ ok\n`. It is
//! written by hand, without the SDK's executor, so that each rule of the protocol of turns stands somewhere to be broken: look for
//! `broken(...)`. What it does without a mutation must pass every case of `bulkhead conform`.
#![cfg(target_arch = "wasm32")]

mod configuration;
mod job;
mod mutation;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

use bulkhead_sdk::abi::{
    Action, ChannelConfig, CommandDone, ConfigFault, DriverInfo, Error, Event, Happening,
    HealthDone, Instant, Open, Publish, Quality, Sample, Send, SetTimer, Start, Value, WriteDone,
};
use bulkhead_sdk::bindings::exports::bulkhead::channel::driver::Guest;

use configuration::Settings;
use job::{Asks, Job, error, sample};
use mutation::Mutation;

struct Mutant;

/// The only connection, where none was kept.
const CONNECTION: u32 = 1;
/// Runs while an answer is awaited.
const TIMEOUT: u32 = 0;
/// Runs while a late stop is on its way.
const LEAVING: u32 = 1;
/// Runs for ever.
const RESTLESS: u32 = 2;
/// No mutation.
const NONE: u8 = u8::MAX;
/// The longest line.
const LINE: usize = 256;

struct State {
    settings: Settings,
    /// Its number, or [`NONE`].
    mutation: u8,
    config: ChannelConfig,
    connection: u32,
    is_up: bool,
    buffer: Vec<u8>,
    jobs: VecDeque<Job>,
    /// The number of the request that is on its way.
    waiting: Option<u32>,
    sequence: u32,
    last: BTreeMap<u32, f64>,
    polls: u64,
    stops: u32,
    is_deaf: bool,
    hoard: Vec<Vec<u8>>,
    actions: Vec<Action>,
}

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
    static DESCRIBED: Cell<u32> = const { Cell::new(0) };
}

impl Guest for Mutant {
    fn describe() -> DriverInfo {
        DESCRIBED.set(DESCRIBED.get() + 1);
        let mutation =
            STATE.with_borrow(|state| state.as_ref().and_then(|state| state.settings.mutation));
        configuration::describe(mutation, DESCRIBED.get())
    }

    fn configure(config: ChannelConfig) -> Result<(), Vec<ConfigFault>> {
        let before =
            STATE.with_borrow(|state| state.as_ref().and_then(|state| state.settings.mutation));
        match configuration::check(&config) {
            Ok(settings) => {
                STATE.replace(Some(State::new(settings, config)));
                Ok(())
            }
            Err(faults) => {
                if before == Some(Mutation::ForgetsOnRefusal) {
                    STATE.with_borrow_mut(|state| {
                        if let Some(state) = state {
                            state.config.tags.clear();
                            state
                                .config
                                .groups
                                .iter_mut()
                                .for_each(|group| group.tags.clear());
                        }
                    });
                }
                Err(faults)
            }
        }
    }

    fn turn(_now: Instant, events: Vec<Event>) -> Result<Vec<Action>, Error> {
        STATE.with_borrow_mut(|state| {
            let state = state
                .as_mut()
                .ok_or_else(|| error("a turn before any configuration"))?;
            for event in events {
                state.take(event.what);
            }
            if state.stops == 0 {
                state.work();
            }
            Ok(std::mem::take(&mut state.actions))
        })
    }
}

impl State {
    fn new(settings: Settings, config: ChannelConfig) -> Self {
        Self {
            mutation: settings.mutation.map_or(NONE, |mutation| mutation as u8),
            settings,
            config,
            connection: CONNECTION,
            is_up: false,
            buffer: Vec::new(),
            jobs: VecDeque::new(),
            waiting: None,
            sequence: 0,
            last: BTreeMap::new(),
            polls: 0,
            stops: 0,
            is_deaf: false,
            hoard: Vec::new(),
            actions: Vec::new(),
        }
    }

    /// A comparison of two bytes, so that one mutation costs as much fuel as another, and as none.
    fn broken(&self, mutation: Mutation) -> bool {
        self.mutation == mutation as u8
    }

    fn take(&mut self, what: Happening) {
        match what {
            Happening::Started(start) => self.started(start),
            Happening::Stop(_) => self.stop(),
            Happening::Opened(opened) if opened.connection == self.connection => {
                self.is_up = true;
                self.lose_bytes();
            }
            Happening::Closed(closed) if closed.connection == self.connection => {
                assert!(
                    !self.broken(Mutation::TrapsWhenRefused)
                        || closed.reason != bulkhead_sdk::abi::CloseReason::Refused,
                    "refused"
                );
                self.is_up = false;
                self.lose_bytes();
                if self.waiting.take().is_some() {
                    self.actions.push(Action::CancelTimer(TIMEOUT));
                    self.failed(Quality::BadNotConnected);
                }
                if self.broken(Mutation::NeverComesBack)
                    && closed.outlook != bulkhead_sdk::abi::Outlook::Ended
                    && closed.reason != bulkhead_sdk::abi::CloseReason::Refused
                {
                    self.actions.push(Action::Close(self.connection));
                }
            }
            Happening::Received(received) if received.connection == self.connection => {
                self.received(&received.bytes)
            }
            Happening::Timer(TIMEOUT) => self.timed_out(),
            Happening::Timer(LEAVING) => self.actions.push(Action::Stopped),
            Happening::Timer(RESTLESS) => self.restless(),
            Happening::Poll(poll) => self.poll(poll.group, poll.cycle, &poll.skip),
            Happening::Read(read) => self.add(Job::new(Asks::Read(read.request), read.tags)),
            Happening::Write(write) => match write.value {
                Value::Float(value) if !self.broken(Mutation::WriteAlwaysFails) => {
                    let asks = Asks::Write {
                        request: write.request,
                        value,
                        read_back: write.read_back,
                        is_written: false,
                    };
                    self.add(Job::new(asks, vec![write.tag]));
                }
                _ => self.actions.push(Action::WriteDone(WriteDone {
                    request: write.request,
                    answer: Err(error("the value is no float64")),
                })),
            },
            Happening::Command(command)
                if self.broken(Mutation::NeverAnswersCommand) && command.name == "ping" => {}
            Happening::Command(command) => {
                let is_known = command.name == "ping" || self.broken(Mutation::TakesAnyCommand);
                let answer = if is_known {
                    Ok(b"pong".to_vec())
                } else {
                    let mut error = error("there is no such command");
                    if self.broken(Mutation::FailsWithGoodQuality) {
                        error.quality = Quality::Good;
                    }
                    Err(error)
                };
                self.actions.push(Action::CommandDone(CommandDone {
                    request: command.request,
                    answer,
                }));
            }
            Happening::Health(_) if self.broken(Mutation::NeverAnswersHealth) => {}
            Happening::Health(request) => self.actions.push(Action::HealthDone(HealthDone {
                request,
                answer: Ok(()),
            })),
            Happening::Cancel(request) => self.cancel(request),
            _ => {}
        }
    }

    fn started(&mut self, start: Start) {
        assert!(
            !self.broken(Mutation::OneLifeOnly) || start.incarnation == 1,
            "one life only"
        );
        let line = self
            .config
            .links
            .iter()
            .find(|link| link.name == "line")
            .map(|link| link.id);
        let mut is_lost = false;
        if let Some(state) = &start.state {
            assert!(
                !self.broken(Mutation::TrapsOnDamagedState) || state.len() == 12,
                "a state of another size"
            );
            is_lost = self.broken(Mutation::LostByItsState) && state.len() == 12;
            if let (true, Ok(request)) = (
                self.broken(Mutation::AnswersForTheDead),
                state.get(4..).unwrap_or_default().try_into(),
            ) {
                let request = u64::from_le_bytes(request);
                self.actions.push(Action::WriteDone(WriteDone {
                    request,
                    answer: Ok(None),
                }));
            }
        }
        let kept = start
            .connections
            .iter()
            .find(|connection| Some(connection.link) == line);
        match (kept, line) {
            (Some(kept), _) => {
                self.connection = kept.id;
                self.is_up = true;
                if !self.broken(Mutation::TrustsKeptConnections) {
                    // Whatever is on the way was meant for another.
                    self.is_up = false;
                    self.actions.push(Action::Reset(kept.id));
                }
            }
            (None, Some(link)) if !is_lost => self.actions.push(Action::Open(Open {
                connection: CONNECTION,
                link,
                target: None,
            })),
            _ => {}
        }
        self.restless();
    }

    fn restless(&mut self) {
        if self.broken(Mutation::NeverRests) {
            self.actions.push(Action::SetTimer(SetTimer {
                timer: RESTLESS,
                after_ns: 20_000_000,
            }));
        }
    }

    fn stop(&mut self) {
        self.stops += 1;
        if self.stops > 1 {
            assert!(!self.broken(Mutation::TrapsOnSecondStop), "stopped twice");
            return;
        }
        if self.broken(Mutation::IgnoresStop)
            || (self.broken(Mutation::NeedsToOpenFirst) && !self.is_up && self.polls == 0)
        {
            return;
        }
        self.waiting = None;
        if !self.broken(Mutation::LeavesUnanswered) {
            for job in std::mem::take(&mut self.jobs) {
                self.actions.push(job.refuse("the driver stops"));
            }
        }
        if self.broken(Mutation::StopsLate) {
            self.actions.push(Action::SetTimer(SetTimer {
                timer: LEAVING,
                after_ns: 5_000_000_000,
            }));
            return;
        }
        // Nothing may follow it, so a second `stop` in the same turn finds it said.
        self.actions.push(Action::Stopped);
    }

    fn cancel(&mut self, request: u64) {
        let Some(at) = self
            .jobs
            .iter()
            .position(|job| job.request() == Some(request))
        else {
            return;
        };
        // The one at the front may be on its way to the device.
        if at == 0 && self.waiting.is_some() && !self.broken(Mutation::IgnoresCancel) {
            return;
        }
        if at == 0 && self.waiting.take().is_some() {
            self.actions.push(Action::CancelTimer(TIMEOUT));
        }
        if let Some(job) = self.jobs.remove(at)
            && !self.broken(Mutation::IgnoresCancel)
        {
            self.actions.push(job.refuse("cancelled"));
        }
    }

    fn add(&mut self, job: Job) {
        if self.broken(Mutation::DropsInAStorm) && self.jobs.len() > 100 {
            return;
        }
        self.jobs.push_back(job);
    }

    fn poll(&mut self, group: u32, cycle: u64, skip: &[u32]) {
        self.polls += 1;
        if self.broken(Mutation::Leaks) {
            self.hoard.push(vec![7; 256]);
        }
        if self.broken(Mutation::SlowsDown) {
            self.hoard_of_time();
        }
        let tags: Vec<u32> = self
            .config
            .groups
            .iter()
            .filter(|known| known.id == group)
            .flat_map(|group| group.tags.iter().copied())
            .collect();
        let wanted = |tag: &u32| {
            let device = self.config.tags.get(*tag as usize).map(|tag| tag.device);
            self.broken(Mutation::IgnoresSkip)
                || !device.is_some_and(|device| skip.contains(&device))
        };
        let tags: Vec<u32> = tags.into_iter().filter(wanted).collect();
        if self.broken(Mutation::PublishesBeforeReading) {
            let samples = tags
                .iter()
                .map(|tag| sample(*tag, Some(0.0), Quality::Good))
                .collect();
            self.actions
                .push(Action::Publish(Publish { id: None, samples }));
        }
        self.add(Job::new(Asks::Poll { group, cycle }, tags));
    }

    /// Time that grows with every poll.
    fn hoard_of_time(&self) {
        for round in 0..self.polls {
            std::hint::black_box(round);
        }
    }

    /// Asks the next question, or ends the job that has none left.
    fn work(&mut self) {
        while self.waiting.is_none() {
            let Some(job) = self.jobs.front() else {
                return;
            };
            match job.next() {
                None => {
                    if let Some(job) = self.jobs.pop_front() {
                        self.finish(job);
                    }
                }
                Some(tag) if self.is_up => {
                    self.ask(tag);
                    if self.broken(Mutation::TrustsKeptConnections) {
                        self.lines();
                    }
                }
                Some(_) => self.failed(Quality::BadNotConnected),
            }
        }
    }

    fn ask(&mut self, tag: u32) {
        self.sequence += 1;
        let place = self
            .config
            .tags
            .get(tag as usize)
            .map(|tag| tag.address.clone())
            .unwrap_or_default();
        let question = match self.jobs.front().map(|job| &job.asks) {
            Some(Asks::Write {
                value,
                is_written: false,
                ..
            }) => format!("W {} {place} {value}\n", self.sequence),
            _ => format!("R {} {place}\n", self.sequence),
        };
        if self.broken(Mutation::CostsMore) {
            for round in 0..100_u32 {
                std::hint::black_box(round);
            }
        }
        self.actions.push(Action::Send(Send {
            connection: self.connection,
            peer: None,
            bytes: question.into_bytes(),
        }));
        self.waiting = Some(self.sequence);
        if !self.broken(Mutation::WaitsForEver) {
            let factor = if self.broken(Mutation::WaitsTooLong) {
                25
            } else {
                1
            };
            let after_ns = u64::from(self.settings.timeout_ms) * 1_000_000 * factor;
            self.actions.push(Action::SetTimer(SetTimer {
                timer: TIMEOUT,
                after_ns,
            }));
        }
    }

    fn received(&mut self, bytes: &[u8]) {
        assert!(
            !self.broken(Mutation::TrapsOnNoise) || std::str::from_utf8(bytes).is_ok(),
            "no text"
        );
        assert!(
            !self.broken(Mutation::TrapsOnLargeChunks) || bytes.len() <= 4096,
            "too much at once"
        );
        if self.is_deaf {
            return;
        }
        if self.broken(Mutation::WantsWholeLines) && !bytes.ends_with(b"\n") {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        self.lines();
    }

    /// Takes every whole line; what comes while nothing is awaited is nobody's.
    fn lines(&mut self) {
        while self.waiting.is_some() {
            let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else {
                break;
            };
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            if !self.line(&line) {
                self.is_deaf = self.broken(Mutation::DeafAfterNoise);
                self.out_of_step();
            }
        }
        if self.waiting.is_none()
            && !self.broken(Mutation::TrustsKeptConnections)
            && !self.broken(Mutation::ShiftsAfterACut)
        {
            self.buffer.clear();
        }
        if self.buffer.len() > LINE {
            self.buffer.clear();
            self.is_deaf = self.broken(Mutation::DeafAfterNoise);
            if self.waiting.is_some() {
                self.out_of_step();
            }
        }
    }

    /// Whether a line was the answer that is awaited.
    fn line(&mut self, line: &str) -> bool {
        let Some((sequence, rest)) = line.split_once(' ') else {
            return false;
        };
        if sequence.parse() != Ok(self.waiting.unwrap_or_default())
            && !self.broken(Mutation::ShiftsAfterACut)
        {
            return false;
        }
        let Some(job) = self.jobs.front_mut() else {
            return false;
        };
        if let Asks::Write {
            is_written: is_written @ false,
            read_back,
            ..
        } = &mut job.asks
        {
            if rest != "ok" {
                return false;
            }
            *is_written = true;
            if !*read_back {
                job.tags.clear();
            }
            return self.answered();
        }
        let Some((place, text)) = rest.split_once('=') else {
            return false;
        };
        let tag = job.next().unwrap_or_default();
        let is_place = self
            .config
            .tags
            .get(tag as usize)
            .is_some_and(|tag| tag.address == place);
        let number = if self.broken(Mutation::ShiftsAfterACut) {
            // The number ends where something else begins.
            text.split(' ').next().unwrap_or_default().parse().ok()
        } else {
            text.parse::<f64>()
                .ok()
                .filter(|number| is_place && number.is_finite())
        };
        let Some(mut value) = number else {
            return false;
        };
        if self.broken(Mutation::RandomValues) {
            use std::hash::{BuildHasher as _, Hasher as _};
            let random = std::collections::hash_map::RandomState::new()
                .build_hasher()
                .finish();
            value += f64::from((random % 16) as u8) / 1000.0;
        }
        self.last.insert(tag, value);
        if let Some(job) = self.jobs.front_mut() {
            job.got(sample(tag, Some(value), Quality::Good));
        }
        self.answered()
    }

    fn answered(&mut self) -> bool {
        self.waiting = None;
        self.actions.push(Action::CancelTimer(TIMEOUT));
        self.work();
        true
    }

    /// What came is no answer, or half of one: the stream is dialled anew.
    fn out_of_step(&mut self) {
        self.waiting = None;
        self.actions.push(Action::CancelTimer(TIMEOUT));
        self.actions.push(Action::Reset(self.connection));
        self.is_up = false;
        self.lose_bytes();
        self.failed(Quality::BadNoCommunication);
    }

    fn timed_out(&mut self) {
        if self.waiting.is_none() {
            return;
        }
        if self.broken(Mutation::BelievesHalfALine) {
            let line = String::from_utf8_lossy(&self.buffer).into_owned();
            if self.line(&line) {
                self.buffer.clear();
                return;
            }
        }
        self.waiting = None;
        // The answer may still come, and must not be taken for the next one's.
        self.actions.push(Action::Reset(self.connection));
        self.is_up = false;
        self.lose_bytes();
        self.failed(Quality::BadTimeout);
    }

    fn lose_bytes(&mut self) {
        if !self.broken(Mutation::ShiftsAfterACut)
            && !(self.broken(Mutation::TrustsKeptConnections) && self.is_up)
        {
            self.buffer.clear();
        }
    }

    /// The question of the job at the front has failed, and with it the rest of the job.
    fn failed(&mut self, quality: Quality) {
        let is_stale_good =
            self.broken(Mutation::GoodWhenDown) && quality == Quality::BadNotConnected;
        let Some(job) = self.jobs.front_mut() else {
            return;
        };
        while let Some(tag) = job.next() {
            let known = self.last.get(&tag).copied();
            match known {
                Some(value) if is_stale_good => job.got(sample(tag, Some(value), Quality::Good)),
                _ => job.lost(sample(tag, None, quality)),
            }
        }
    }

    fn finish(&mut self, mut job: Job) {
        let is_silent = match job.asks {
            Asks::Poll { .. } => self.broken(Mutation::NeverAnswersPoll),
            Asks::Read(_) => self.broken(Mutation::NeverAnswersRead),
            Asks::Write { .. } => self.broken(Mutation::NeverAnswersWrite),
        };
        if let Asks::Write { request, .. } = job.asks {
            let mut state = self.sequence.to_le_bytes().to_vec();
            state.extend(request.to_le_bytes());
            self.actions.push(Action::SaveState(state));
        }
        if matches!(job.asks, Asks::Poll { .. }) {
            let samples: Vec<Sample> = job.samples.clone();
            self.actions
                .push(Action::Publish(Publish { id: None, samples }));
        }
        if is_silent {
            return;
        }
        let is_read = matches!(job.asks, Asks::Read(_));
        if is_read && self.broken(Mutation::ReadsAreBad) {
            for one in &mut job.samples {
                *one = sample(one.tag, None, Quality::Bad);
            }
        }
        let answer = job.answer(
            self.broken(Mutation::ReadsInItsOwnOrder),
            self.broken(Mutation::ReadsNothingBack),
        );
        if is_read && self.broken(Mutation::AnswersTwice) {
            self.actions.push(answer.clone());
        }
        self.actions.push(answer);
    }
}

bulkhead_sdk::bindings::export_component!(Mutant with_types_in bulkhead_sdk::bindings);
