//! One cycle: every tag of a schedule is read once, and gets one sample.
//!
//! Where units call in each has its line, and lines know nothing of each other: their cycles run at once, each as told here.
//!
//! # Who goes first
//!
//! Units that answered last time go first, those that are known to be silent last. A unit that does not answer loses its turn: the
//! others go on, and it is asked again when they are done, as often as `retries` allows. If it was silent in the cycle
//! before, it gets no second chance. After its last attempt its remaining requests are not sent at all. So a dead unit
//! costs the others one time-out in a cycle at most, and from its second cycle on nothing but the time after them.
//!
//! Over Modbus TCP, where another unit has answered in the same cycle, a poll asks a unit that is known to be silent without waiting: its
//! answer is known by its number whenever it comes, and from then on the unit is read like the others. So it costs them nothing
//! at all, unless they take turns behind a gateway: where one that answers times out meanwhile, units are waited for on that
//! stream from then on.
//! Where units take several requests at once, a poll sends that many; then this is so of several instead of one: the time-out begins
//! anew with each answer, and what was left unanswered is asked for again.
//! Where the next poll is further away than the unit's time-out, the cycle ends only when that is over, or the unit was heard
//! and read; the line is free meanwhile.
//!
//! # What a failure costs
//!
//! | failure | of this cycle is lost |
//! |---|---|
//! | exception 2 or 3 | the tags at fault: the block is halved until they are found, see `layout` |
//! | exception 6 (busy) | nothing, if the unit has time when it is asked again |
//! | time-out, exception 10 or 11 | the rest of the unit, after its last attempt |
//! | any other exception | the block |
//! | malformed answer | the rest of the unit; the others wait for the new connection |
//! | connection down | the rest of the cycle |

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bulkhead_sdk::{
    Context, DeviceId, Instant, PollReport, Priority, Quality, Sample, TagId, join_all,
};

use crate::exception::Exception;
use crate::failure::Failure;
use crate::framing::Framing;
use crate::line::{Line, Reply};
use crate::pdu::Ask;
use crate::plan::Block;
use crate::schedule::{Area, Round, Schedule};
use crate::site::Site;
use crate::unit::Unit;

/// How often blocks are halved in one cycle; the search goes on in the next one. Enough to find at least one span at fault.
const MOST_HALVINGS: u32 = 24;
/// How often it is looked at whether a unit that was called has answered.
const LISTEN: Duration = Duration::from_millis(20);
/// How long a unit that says it is busy is left alone.
pub const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// What a cycle works with, and what it has come to.
pub struct Cycle<'a, D> {
    /// The host.
    pub context: &'a Context,
    /// The ways to the units.
    pub lines: &'a [Line],
    /// The units and tags.
    pub site: &'a Site,
    /// Before or after others that wait for the line.
    pub priority: Priority,
    /// Nobody waits for the rest after this moment.
    pub until: Option<Instant>,
    /// When it comes again; not where somebody waits for it.
    pub period: Option<Duration>,
    /// Takes the samples of each block as they come.
    pub deliver: &'a D,
    halvings: u32,
    /// The connection is down: nothing more can be had in this cycle.
    down: Option<Failure>,
    /// A unit has answered in this cycle.
    somebody_answers: bool,
    report: PollReport,
}

impl<D> Clone for Cycle<'_, D> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

/// One unit's turn, or what is left of it.
struct Visit {
    /// An index into the rounds.
    round: usize,
    jobs: VecDeque<Job>,
    attempts_left: u8,
    /// It was silent, was asked without waiting, and has answered.
    was_called: bool,
}

/// One request.
#[derive(Debug, Clone, Copy)]
struct Job {
    /// An index into the areas of the round.
    area: usize,
    block: Block,
    origin: Origin,
}

/// Where a request comes from, and so what its answer teaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The plan.
    Planned,
    /// The first half of a block that was refused.
    Left,
    /// The second half; whether the first was read whole.
    Right { left_was_read: bool },
    /// A span that was refused in an earlier cycle.
    TriedAgain,
}

/// How a visit ended before its jobs did.
enum Interrupted {
    /// The unit did not answer, or was busy: it may be asked again.
    Later(Failure),
    /// The rest of the unit is lost.
    Lost(Failure),
}

impl<'a, D: Fn(Vec<Sample>)> Cycle<'a, D> {
    /// A cycle that has not begun.
    pub fn new(
        context: &'a Context,
        lines: &'a [Line],
        site: &'a Site,
        priority: Priority,
        deliver: &'a D,
    ) -> Self {
        Self {
            context,
            lines,
            site,
            priority,
            until: None,
            period: None,
            deliver,
            halvings: MOST_HALVINGS,
            down: None,
            somebody_answers: false,
            report: PollReport::default(),
        }
    }

    /// Reads everything but the units in `skip`. Each tag is delivered once.
    pub async fn run(self, schedule: &mut Schedule, skip: &[DeviceId]) -> PollReport {
        if schedule.has_one_line() {
            return self.run_line(&mut schedule.rounds, skip).await;
        }
        let cycles = schedule
            .lines()
            .map(|rounds| self.clone().run_line(rounds, skip));
        let mut report = PollReport::default();
        for of_line in join_all(cycles).await {
            report.add(of_line);
        }
        report
    }

    /// Reads what is reached over one line.
    async fn run_line(mut self, rounds: &mut [Round], skip: &[DeviceId]) -> PollReport {
        let mut visits = self.visits(rounds, skip);
        while let Some(mut visit) = visits.pop_front() {
            let round = &mut rounds[visit.round];
            let unit = &self.site.units[round.unit];
            if let Some(failure) = self.down {
                self.give_up(&visit, round, failure.quality());
                continue;
            }
            if !visit.was_called && unit.is_silent() && self.may_call(unit) {
                let called = self.call(&visit, round, unit).await;
                let waits = self.period.is_some_and(|period| period > unit.timeout);
                if called == Ok(()) && (!unit.is_silent() || waits && self.is_heard(unit).await) {
                    visit.was_called = true;
                    visits.push_back(visit);
                } else {
                    let failure = called.err().unwrap_or(Failure::Timeout(unit.timeout));
                    self.give_up(&visit, round, failure.quality());
                }
                continue;
            }
            match self.visit(&mut visit, round, unit).await {
                Ok(()) => {}
                Err(Interrupted::Later(failure)) if visit.attempts_left > 0 => {
                    visit.attempts_left -= 1;
                    if failure == Failure::Exception(Exception::BUSY) {
                        self.context.sleep(BUSY_PAUSE).await;
                    }
                    visits.push_back(visit);
                }
                Err(Interrupted::Later(failure)) => {
                    if failure != Failure::Exception(Exception::BUSY) {
                        unit.went_silent(self.context, failure);
                    }
                    self.give_up(&visit, round, failure.quality());
                }
                Err(Interrupted::Lost(failure)) => self.give_up(&visit, round, failure.quality()),
            }
        }
        for area in rounds.iter_mut().flat_map(|round| &mut round.areas) {
            area.layout.replan();
        }
        self.report
    }

    /// Who is asked for what, in the order in which they are asked. What is not asked for is delivered right away.
    fn visits(&mut self, rounds: &mut [Round], skip: &[DeviceId]) -> VecDeque<Visit> {
        let mut visits = VecDeque::with_capacity(rounds.len());
        let mut last = Vec::new();
        for (index, round) in rounds.iter_mut().enumerate() {
            let unit = &self.site.units[round.unit];
            if skip.contains(&unit.device) {
                continue;
            }
            let jobs = self.jobs(round);
            if unit.is_silent() {
                last.push(Visit {
                    round: index,
                    jobs,
                    attempts_left: 0,
                    was_called: false,
                });
            } else {
                visits.push_back(Visit {
                    round: index,
                    jobs,
                    attempts_left: unit.retries,
                    was_called: false,
                });
            }
        }
        visits.extend(last);
        visits
    }

    fn jobs(&mut self, round: &mut Round) -> VecDeque<Job> {
        let mut jobs = VecDeque::new();
        for (index, area) in round.areas.iter_mut().enumerate() {
            let job = |origin| {
                move |block| Job {
                    area: index,
                    block,
                    origin,
                }
            };
            jobs.extend(
                area.layout
                    .blocks()
                    .iter()
                    .copied()
                    .map(job(Origin::Planned)),
            );
            let again = area.layout.try_again();
            let refused: Vec<Sample> = area
                .layout
                .faulty()
                .filter(|(span, _)| again.is_none_or(|again| again.first != *span))
                .flat_map(|(span, exception)| area.bad(span, 1, exception.quality()))
                .collect();
            (self.deliver)(refused);
            jobs.extend(again.map(job(Origin::TriedAgain)));
        }
        jobs
    }

    async fn visit(
        &mut self,
        visit: &mut Visit,
        round: &mut Round,
        unit: &Unit,
    ) -> Result<(), Interrupted> {
        while let Some(job) = visit.jobs.front().copied() {
            if self.read_at_once(visit, round, unit).await? {
                continue;
            }
            let area = &mut round.areas[job.area];
            match self.read(area, job, unit).await {
                Ok(samples) => {
                    visit.jobs.pop_front();
                    (self.deliver)(samples);
                    self.learn_from_data(area, job, &mut visit.jobs);
                }
                Err(Failure::Exception(exception)) if exception.blames_a_place() => {
                    visit.jobs.pop_front();
                    self.learn_from_refusal(area, job, exception, &mut visit.jobs);
                }
                Err(failure @ Failure::Timeout(_)) => return Err(Interrupted::Later(failure)),
                Err(failure @ Failure::Exception(exception))
                    if exception.unit_is_away() || exception == Exception::BUSY =>
                {
                    return Err(Interrupted::Later(failure));
                }
                Err(failure @ Failure::Exception(_)) => {
                    visit.jobs.pop_front();
                    (self.deliver)(
                        area.bad(job.block.first, job.block.spans, failure.quality())
                            .collect(),
                    );
                }
                Err(failure) => return Err(Interrupted::Lost(failure)),
            }
        }
        Ok(())
    }

    /// Whether a unit can be asked without waiting for its answer: somebody would wait otherwise, and asks in each cycle, which is how the
    /// answer is heard.
    fn may_call(&self, unit: &Unit) -> bool {
        let line = &self.lines[unit.line];
        self.period.is_some() && self.somebody_answers && line.framing() == Framing::Tcp
    }

    /// Asks a unit that is known to be silent for the first thing that is wanted of it.
    async fn call(&mut self, visit: &Visit, round: &Round, unit: &Unit) -> Result<(), Failure> {
        let Some(job) = visit.jobs.front() else {
            return Ok(());
        };
        let ask = round.areas[job.area].ask(job.block);
        let mut exchange = self.lines[unit.line].exchange(self.priority).await;
        let (called, was_called) = match exchange.may_call() {
            true => (exchange.call(unit.number, unit.timeout, ask).await, true),
            false => {
                let asked = exchange.ask(unit.number, unit.timeout, ask).await;
                (asked.map(drop), false)
            }
        };
        self.welcome(unit.line, exchange.take_heard());
        drop(exchange);
        match called {
            Ok(()) if was_called => self.report.failed(),
            Ok(()) => unit.answered(self.context),
            Err(failure) => {
                self.report.failed();
                match failure {
                    Failure::Exception(exception) if !exception.unit_is_away() => {
                        unit.answered(self.context);
                    }
                    Failure::NotConnected(_) | Failure::NobodyCalled => self.down = Some(failure),
                    _ => {}
                }
            }
        }
        called
    }

    /// Waits for a sign of a unit that was called, for its time-out, with the line free for others. Says whether there was one.
    async fn is_heard(&mut self, unit: &Unit) -> bool {
        let until = self.context.now() + unit.timeout;
        while unit.is_silent() && self.context.now() < until {
            self.context.sleep(LISTEN).await;
            let mut exchange = self.lines[unit.line].exchange(self.priority).await;
            let listened = exchange.listen(unit.timeout).await;
            self.welcome(unit.line, exchange.take_heard());
            drop(exchange);
            if listened.is_err() {
                return false;
            }
        }
        !unit.is_silent()
    }

    /// Units that were given up have answered after all.
    fn welcome(&self, line: usize, heard: BTreeSet<u8>) {
        let heard = |known: &&Unit| known.line == line && heard.contains(&known.number);
        for unit in self.site.units.iter().filter(heard) {
            unit.answered(self.context);
        }
    }

    /// One request. A unit that answers, if only to refuse, is alive.
    async fn read(
        &mut self,
        area: &mut Area,
        job: Job,
        unit: &Unit,
    ) -> Result<Vec<Sample>, Failure> {
        if self.until.is_some_and(|until| self.context.now() >= until) {
            return Err(Failure::Overdue);
        }
        let mut exchange = self.lines[unit.line].exchange(self.priority).await;
        let outcome = exchange
            .ask(unit.number, unit.timeout, area.ask(job.block))
            .await;
        self.welcome(unit.line, exchange.take_heard());
        drop(exchange);
        match outcome {
            Ok(reply) => Ok(self.take(area, job, unit, &reply)),
            Err(failure) => {
                self.failed(unit, failure);
                Err(failure)
            }
        }
    }

    /// A request came to nothing.
    fn failed(&mut self, unit: &Unit, failure: Failure) {
        self.report.failed();
        match failure {
            Failure::Exception(exception) if !exception.unit_is_away() => {
                unit.answered(self.context);
            }
            Failure::NotConnected(_) | Failure::NobodyCalled => self.down = Some(failure),
            _ => {}
        }
    }

    /// Reads the next planned blocks of a visit in one go, where the unit takes that. Answers whether it was done. The samples of each
    /// are delivered when they come; blocks that were not answered stay in the visit.
    async fn read_at_once(
        &mut self,
        visit: &mut Visit,
        round: &mut Round,
        unit: &Unit,
    ) -> Result<bool, Interrupted> {
        let next = visit.jobs.iter().take(unit.requests_at_once.into());
        let planned = next.take_while(|job| job.origin == Origin::Planned).count();
        // Whoever waits for a read waits for it alone, and not beyond its time.
        if planned < 2 || self.until.is_some() || unit.is_silent() {
            return Ok(false);
        }
        let mut exchange = self.lines[unit.line].exchange(self.priority).await;
        if !exchange.takes_at_once(unit.number) {
            return Ok(false);
        }
        let mut open: Vec<Option<Job>> = visit.jobs.drain(..planned).map(Some).collect();
        let asks: Vec<Ask> = (open.iter().flatten())
            .map(|job| round.areas[job.area].ask(job.block))
            .collect();
        let mut refused = Vec::new();
        let outcome = exchange
            .ask_at_once(unit.number, unit.timeout, asks, |place, reply| {
                let Some(job) = open[place].take() else {
                    return;
                };
                match reply {
                    Ok(reply) => {
                        let samples = self.take(&mut round.areas[job.area], job, unit, &reply);
                        (self.deliver)(samples);
                    }
                    Err(exception) => refused.push((job, exception)),
                }
            })
            .await;
        self.welcome(unit.line, exchange.take_heard());
        drop(exchange);

        let mut again: Vec<Job> = open.into_iter().flatten().collect();
        let mut interrupted = None;
        if let Err(failure) = outcome {
            again.iter().for_each(|_| self.failed(unit, failure));
            interrupted = Some(match failure {
                Failure::Timeout(_) => Interrupted::Later(failure),
                _ => Interrupted::Lost(failure),
            });
        }
        for (job, exception) in refused {
            let failure = Failure::Exception(exception);
            self.failed(unit, failure);
            let area = &mut round.areas[job.area];
            if exception.blames_a_place() {
                self.learn_from_refusal(area, job, exception, &mut visit.jobs);
            } else if exception.unit_is_away() || exception == Exception::BUSY {
                again.push(job);
                interrupted.get_or_insert(Interrupted::Later(failure));
            } else {
                let Block { first, spans, .. } = job.block;
                (self.deliver)(area.bad(first, spans, failure.quality()).collect());
            }
        }
        for job in again.into_iter().rev() {
            visit.jobs.push_front(job);
        }
        interrupted.map_or(Ok(true), Err)
    }

    /// The samples of an answer.
    fn take(&mut self, area: &mut Area, job: Job, unit: &Unit, reply: &Reply) -> Vec<Sample> {
        self.report.answered(reply.round_trip);
        self.somebody_answers = true;
        unit.answered(self.context);
        area.samples(job.block, reply.data(), |tag, unreadable| {
            self.context
                .warn(format!("{}: {unreadable}", self.name(tag)));
        })
    }

    fn learn_from_data(&self, area: &mut Area, job: Job, jobs: &mut VecDeque<Job>) {
        match job.origin {
            Origin::Planned
            | Origin::Right {
                left_was_read: false,
            } => {}
            Origin::Left => {
                if let Some(Job {
                    origin: Origin::Right { left_was_read },
                    ..
                }) = jobs.front_mut()
                {
                    *left_was_read = true;
                }
            }
            Origin::Right {
                left_was_read: true,
            } => area.layout.apart(job.block.first),
            Origin::TriedAgain => {
                self.context.info(format!(
                    "{} can be read again",
                    self.name(area.tag(job.block.first))
                ));
                area.layout.forget();
            }
        }
    }

    fn learn_from_refusal(
        &mut self,
        area: &mut Area,
        job: Job,
        exception: Exception,
        jobs: &mut VecDeque<Job>,
    ) {
        let Block { first, spans, .. } = job.block;
        match area.layout.halves(job.block) {
            Some((left, right)) if self.halvings > 0 => {
                self.halvings -= 1;
                let origin = Origin::Right {
                    left_was_read: false,
                };
                jobs.push_front(Job {
                    block: right,
                    origin,
                    ..job
                });
                jobs.push_front(Job {
                    block: left,
                    origin: Origin::Left,
                    ..job
                });
                return;
            }
            Some(_) => {}
            None => {
                if area.layout.refused(first, exception) {
                    let name = self.name(area.tag(first));
                    self.context.warn(format!(
                        "{name} cannot be read: {}; check its address",
                        exception.message()
                    ));
                }
            }
        }
        (self.deliver)(area.bad(first, spans, exception.quality()).collect());
    }

    /// The tags of all requests that a visit has left are bad.
    fn give_up(&mut self, visit: &Visit, round: &Round, quality: Quality) {
        let bad = |job: &Job| round.areas[job.area].bad(job.block.first, job.block.spans, quality);
        (self.deliver)(visit.jobs.iter().flat_map(bad).collect());
    }

    fn name(&self, tag: TagId) -> String {
        let place = self.site.tag(tag);
        format!("tag {}", place.map_or("?", |place| place.name.as_str()))
    }
}
