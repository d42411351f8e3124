//! Ten thousand plants: machines, one limiter and a clock, against guests and operators who do anything at any time.
//!
//! The world below drives each [`Machine`] as the supervisor's task does, and keeps its own account of what may be: how many
//! instances there are, which attempts the policy owes, when the host restarted what. The accounts are kept from
//! what is seen outside, never from the machine's own fields, so that the two can disagree. The seed of a plant that
//! goes wrong is printed: make it the only one in [`SEEDS`], and the same happens again.

use std::time::Duration;

use fastrand::Rng;

use super::*;
use crate::config::{Rate, Restart, RestartMode};
use crate::event::MonotonicNs;
use crate::restart::{Decision, ExitClass, Limiter};

/// The plants.
const SEEDS: std::ops::Range<u64> = 0..10_000;
/// What happens in each before it is left alone.
const EVENTS: usize = 250;
const SECOND: u64 = 1_000_000_000;
/// How long an instance has to stop when it is asked.
const GRACE: Duration = Duration::from_secs(5);

/// What an instance will do by itself.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Start,
    Impair,
    Recover,
    End(End),
}

/// One channel, and what is known of it from outside.
struct Plant {
    machine: Machine,
    restart: Restart,
    /// Instances that were launched and are not over.
    instances: u32,
    /// What the instance does next, and when.
    deed: Option<(MonotonicNs, Deed)>,
    /// When it was asked to stop.
    asked: Option<MonotonicNs>,
    /// Whether it should run: operators want it, it has not ended in order, and no retry is beyond hope.
    should_run: bool,
    /// Attempts since an operator's order or the last long health.
    spent: u32,
    well_since: Option<MonotonicNs>,
    /// When it last ended by a fault.
    fell: Option<MonotonicNs>,
    /// From when on the host lets it through, until it goes.
    grant: Option<MonotonicNs>,
}

/// How often each thing happened: what never happens proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    FastRetry,
    SlowRetry,
    Turn,
    Overdue,
    Forgiven,
    Broken,
    Hopeless,
    Denied,
}

const MARKS: [Mark; 8] = [
    Mark::FastRetry,
    Mark::SlowRetry,
    Mark::Turn,
    Mark::Overdue,
    Mark::Forgiven,
    Mark::Broken,
    Mark::Hopeless,
    Mark::Denied,
];

struct World {
    rng: Rng,
    now: MonotonicNs,
    rate: Rate,
    limiter: Limiter,
    plants: Vec<Plant>,
    /// When the host let a restart through.
    granted: Vec<MonotonicNs>,
    seen: Vec<Mark>,
    /// Whether guests and operators still misbehave.
    wild: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rate = Rate {
            per_second: rng.u32(1..=5),
            burst: rng.u32(1..=5),
        };
        let count = rng.usize(1..=12);
        Self {
            now: MonotonicNs(0),
            rate,
            limiter: Limiter::new(rate),
            plants: (0..count).map(|_| Plant::new(&mut rng)).collect(),
            granted: Vec::new(),
            seen: Vec::new(),
            wild: true,
            rng,
        }
    }

    /// Something wild happens to somebody, or time passes until something is due.
    fn event(&mut self) {
        let which = self.rng.usize(..self.plants.len());
        match self.rng.u32(..10) {
            0 => self.order(which, Order::Start),
            1 => self.order(which, Order::Stop),
            2 => self.order(which, Order::Restart),
            3 => self.order(which, Order::Reset),
            4 => self.quake(),
            _ => self.pass(),
        }
    }

    /// All instances fault within the same moment.
    fn quake(&mut self) {
        let soon = self.now.after(Duration::from_millis(1));
        for plant in &mut self.plants {
            if plant.instances > 0 {
                plant.deed = Some((soon, Deed::End(End::Unasked(ExitClass::Faulted))));
            }
        }
    }

    /// Time passes until the next thing is due, which then happens.
    fn pass(&mut self) {
        let alarms = (0..).zip(&self.plants).flat_map(|(index, plant)| {
            let alarm = plant.machine.wake().map(|at| (at, index, false));
            let deed = plant.deed.map(|(at, _)| (at, index, true));
            [alarm, deed].into_iter().flatten()
        });
        let Some((at, which, is_deed)) = alarms.min() else {
            return;
        };
        // A task may be late, never early.
        let late = if self.wild && self.rng.u32(..4) == 0 {
            self.rng.u64(..SECOND)
        } else {
            0
        };
        self.now = self.now.max(at).after(Duration::from_nanos(late));
        if is_deed {
            self.deed(which);
        } else {
            self.alarm(which);
        }
        self.check(which);
    }

    fn order(&mut self, which: usize, order: Order) {
        let now = self.now;
        let plant = &mut self.plants[which];
        let (state, attempts) = (plant.machine.state(), plant.machine.attempts());
        match plant.machine.order(order, now, now.after(GRACE)) {
            Err(denied) => {
                self.seen.push(Mark::Denied);
                assert_eq!(
                    (plant.machine.state(), plant.machine.attempts()),
                    (state, attempts),
                    "a denied order changed something: {denied}"
                );
            }
            Ok(step) => {
                // What an operator wants is done, and begins with all attempts.
                plant.should_run = order != Order::Stop;
                if order != Order::Stop && step.effect != Effect::AskToStop {
                    plant.spent = 0;
                    assert_eq!(plant.machine.attempts(), 0, "{order:?}");
                }
                self.follow(which, step);
            }
        }
        self.check(which);
    }

    fn alarm(&mut self, which: usize) {
        let now = self.now;
        let plant = &mut self.plants[which];
        let (state, attempts) = (plant.machine.state(), plant.machine.attempts());
        let (limiter, granted, grant) = (&mut self.limiter, &mut self.granted, &mut plant.grant);
        let turn = |at| {
            let from = limiter.take(at);
            granted.push(from);
            assert_eq!(grant.replace(from), None, "two turns for one restart");
            from
        };
        match plant.machine.due(now, turn).unwrap() {
            Due::Nothing => panic!("rang for nothing"),
            Due::Turn(at) => {
                assert!(at > now, "a turn that has come");
                self.seen.push(Mark::Turn);
            }
            Due::Forgiven => {
                self.seen.push(Mark::Forgiven);
                let well = plant.well_since.expect("forgiven without health");
                assert!(
                    now.since(well) >= plant.restart.reset_after,
                    "forgiven early"
                );
                assert!(
                    attempts > 0 && plant.machine.attempts() == 0,
                    "forgiven nothing"
                );
                plant.spent = 0;
            }
            Due::Overdue => {
                self.seen.push(Mark::Overdue);
                let asked = plant.asked.expect("dropped, but not asked");
                assert!(now.since(asked) >= GRACE, "dropped early");
                self.end(which, End::Overdue);
            }
            Due::Launch(step) => {
                let grant = plant.grant.take().expect("the host let it through");
                assert!(grant <= now, "before its turn");
                plant.retried(state, now);
                if state == State::Broken {
                    self.seen.push(Mark::SlowRetry);
                } else {
                    self.seen.push(Mark::FastRetry);
                }
                self.follow(which, step);
            }
        }
    }

    fn deed(&mut self, which: usize) {
        let (now, wild) = (self.now, self.wild);
        let plant = &mut self.plants[which];
        let Some((_, deed)) = plant.deed.take() else {
            return;
        };
        let attempts = plant.machine.attempts();
        let input = match deed {
            Deed::End(end) => return self.end(which, end),
            Deed::Start => Input::Started,
            Deed::Impair => Input::Impaired,
            Deed::Recover => Input::Recovered,
        };
        if let Ok(step) = plant.machine.observe(input, now) {
            if step.next == State::Running {
                plant.well_since.get_or_insert(now);
            } else {
                plant.settle(now);
            }
            // A device that is away spends nothing.
            assert!(plant.machine.attempts() <= attempts);
        }
        plant.deed = plant.next_deed(&mut self.rng, now, wild);
    }

    /// The instance is over.
    fn end(&mut self, which: usize, end: End) {
        let (now, random) = (self.now, self.rng.u64(..));
        let plant = &mut self.plants[which];
        let asked = plant.asked.take().is_some();
        plant.settle(now);
        assert_eq!(plant.instances, 1, "the end of nobody");
        plant.instances = 0;
        plant.deed = None;
        let step = plant.machine.ended(end, now, random).unwrap();
        if asked {
            assert_eq!(step.decision, None, "what was asked for is no fault");
            plant.spent = 0;
        }
        match step.decision {
            Some(Decision::After(delay)) => {
                plant.spent += 1;
                plant.fell = Some(now);
                assert!(plant.spent <= plant.restart.max_attempts, "over budget");
                assert_eq!(step.attempts, plant.spent);
                assert_eq!(plant.machine.retry_at(), Some(now.after(delay)));
            }
            Some(Decision::Broken { retry, .. }) => {
                let hopeless = end == End::Unasked(ExitClass::Unmendable)
                    || plant.restart.mode == RestartMode::Never
                    || plant.restart.retry_broken.is_none();
                assert_eq!(retry.is_none(), hopeless, "{end:?}");
                assert!(
                    retry.is_none() || plant.spent == plant.restart.max_attempts,
                    "broken with attempts left"
                );
                plant.should_run &= !hopeless;
                plant.fell = Some(now);
                self.seen.push(Mark::Broken);
                self.seen.extend(hopeless.then_some(Mark::Hopeless));
            }
            Some(Decision::Done) => {
                assert_eq!(end, End::Unasked(ExitClass::Finished));
                plant.should_run = false;
            }
            None => {}
        }
        self.follow(which, step);
    }

    /// Does what a step says, as the supervisor's task does.
    fn follow(&mut self, which: usize, step: Step) {
        let (now, wild) = (self.now, self.wild);
        let plant = &mut self.plants[which];
        if matches!(step.effect, Effect::Launch | Effect::Drop) {
            plant.grant = None;
        }
        match step.effect {
            Effect::Launch => {
                assert_eq!(plant.instances, 0, "two incarnations");
                plant.instances += 1;
                plant.asked = None;
                plant.deed = plant.next_deed(&mut self.rng, now, wild);
            }
            Effect::AskToStop => {
                plant.asked = Some(now);
                plant.settle(now);
                plant.deed = plant.next_deed(&mut self.rng, now, wild);
            }
            Effect::Drop | Effect::Wait | Effect::GiveUp => {
                plant.instances = 0;
                plant.deed = None;
                plant.asked = None;
            }
            Effect::Announce | Effect::Forget | Effect::Nothing => {}
        }
        assert_eq!(
            matches!(step.effect, Effect::Nothing | Effect::Forget),
            step.next == step.before
        );
    }

    /// What must hold of a channel at any time.
    fn check(&self, which: usize) {
        let plant = &self.plants[which];
        let state = plant.machine.state();
        assert_eq!(plant.instances, u32::from(state.has_instance()), "{state}");
        // An operator's order counts the attempts anew, whenever it is carried out.
        assert!(plant.machine.attempts() <= plant.restart.max_attempts);
        let forgotten = plant.should_run
            && plant.instances == 0
            && plant.machine.retry_at().is_none_or(|at| at > self.latest());
        assert!(!forgotten, "forgotten in {state}");
        if !plant.should_run && plant.instances == 0 {
            assert_eq!(plant.machine.wake(), None, "haunted in {state}");
        }
    }

    /// No retry is further away than this: the longest delay, and the turns of all others before it.
    fn latest(&self) -> MonotonicNs {
        let longest = Duration::from_secs(2 * 600);
        let turns = Duration::from_secs(1 + self.granted.len() as u64);
        self.now.after(longest + turns)
    }

    /// In any stretch of time the host let through no more than it may.
    fn check_rate(&self) {
        let (rate, burst) = (self.rate.per_second, self.rate.burst);
        for (index, first) in self.granted.iter().enumerate() {
            for (count, last) in (1u128..).zip(&self.granted[index..]) {
                let earned = last.since(*first).as_nanos() * u128::from(rate) / u128::from(SECOND);
                assert!(
                    count <= u128::from(burst) + earned,
                    "the host restarts too much"
                );
            }
        }
    }

    /// Nobody misbehaves any more: whoever should run does, and all is forgiven.
    fn calm(&mut self) {
        self.wild = false;
        let mut left = 100_000;
        for which in 0..self.plants.len() {
            let plant = &mut self.plants[which];
            // One that was asked to stop ends as it was going to, or is dropped.
            if plant.instances > 0 && plant.asked.is_none() {
                plant.deed = plant.next_deed(&mut self.rng, self.now, false);
            }
        }
        while self
            .plants
            .iter()
            .any(|plant| plant.machine.wake().is_some() || plant.deed.is_some())
        {
            self.pass();
            left -= 1;
            assert!(left > 0, "it never comes to rest");
        }
        for plant in &self.plants {
            let state = plant.machine.state();
            assert_eq!(plant.should_run, state == State::Running, "{state}");
            assert!(!plant.should_run || plant.machine.attempts() == 0);
        }
    }
}

impl Plant {
    fn new(rng: &mut Rng) -> Self {
        let modes = [
            RestartMode::Permanent,
            RestartMode::Permanent,
            RestartMode::Transient,
            RestartMode::Never,
        ];
        let delay = Duration::from_millis(rng.u64(0..20_000));
        let restart = Restart {
            mode: modes[rng.usize(..modes.len())],
            max_attempts: rng.u32(0..6),
            first_delay: Duration::from_secs(rng.u64(0..3) / 2),
            delay,
            factor: 1.0 + 3.0 * rng.f64(),
            max_delay: delay + Duration::from_secs(rng.u64(0..60)),
            reset_after: Duration::from_secs(rng.u64(1..600)),
            retry_broken: (rng.u32(..4) > 0).then(|| Duration::from_millis(rng.u64(100..600_000))),
            jitter: rng.f64(),
        };
        Self {
            machine: Machine::new(restart.clone()),
            restart,
            instances: 0,
            deed: None,
            asked: None,
            should_run: false,
            spent: 0,
            well_since: None,
            fell: None,
            grant: None,
        }
    }

    /// Its health is over; if it lasted, what was spent is forgotten.
    fn settle(&mut self, now: MonotonicNs) {
        if let Some(since) = self.well_since.take()
            && now.since(since) >= self.restart.reset_after
        {
            self.spent = 0;
        }
    }

    /// It begins again by itself: not too early, and not out of nothing.
    fn retried(&mut self, state: State, now: MonotonicNs) {
        let least = |delay: Duration| delay.mul_f64((1.0 - self.restart.jitter).max(0.0) * 0.999);
        let waited = now.since(self.fell.expect("it fell"));
        match state {
            State::Broken => {
                let slow = self.restart.retry_broken.expect("a slow retry is planned");
                assert!(waited >= least(slow), "a storm of slow retries");
            }
            State::Backoff => {
                let fast = match self.spent {
                    0 => panic!("an attempt that was not spent"),
                    1 => self.restart.first_delay,
                    _ => self.restart.delay.min(self.restart.max_delay),
                };
                assert!(waited >= least(fast), "attempt {} too early", self.spent);
            }
            other => panic!("a retry out of {other}"),
        }
    }

    /// What the instance does next, now that it is in this state.
    fn next_deed(
        &self,
        rng: &mut Rng,
        now: MonotonicNs,
        wild: bool,
    ) -> Option<(MonotonicNs, Deed)> {
        let after = |rng: &mut Rng, most: u64| now.after(Duration::from_nanos(rng.u64(..most)));
        let state = self.machine.state();
        if !wild {
            let soon = now.after(Duration::from_secs(1));
            return match state {
                State::Starting => Some((soon, Deed::Start)),
                State::Degraded => Some((soon, Deed::Recover)),
                State::Stopping | State::Restarting => Some((soon, Deed::End(End::Stopped))),
                State::Running | State::Stopped | State::Backoff | State::Broken => None,
            };
        }
        let end = [
            End::Unasked(ExitClass::Faulted),
            End::Unasked(ExitClass::Faulted),
            End::Unasked(ExitClass::Finished),
            End::Unasked(ExitClass::Unmendable),
        ][rng.usize(..4).min(rng.usize(..4))];
        match state {
            State::Starting if rng.u32(..3) == 0 => Some((after(rng, SECOND), Deed::End(end))),
            State::Starting => Some((after(rng, SECOND), Deed::Start)),
            State::Stopping | State::Restarting => match rng.u32(..4) {
                // Hangs; it must be dropped.
                0 => None,
                1 => Some((after(rng, 4 * SECOND), Deed::End(end))),
                2 => Some((now.after(GRACE), Deed::End(End::Overdue))),
                _ => Some((after(rng, 4 * SECOND), Deed::End(End::Stopped))),
            },
            State::Running | State::Degraded => {
                let deeds = [Deed::Impair, Deed::Recover, Deed::End(end)];
                Some((after(rng, 900 * SECOND), deeds[rng.usize(..3)]))
            }
            State::Stopped | State::Backoff | State::Broken => None,
        }
    }
}

/// Names the plant that goes wrong.
struct Witness(u64);

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the plant with seed {} went wrong", self.0);
        }
    }
}

#[test]
fn ten_thousand_plants() {
    let mut seen = Vec::new();
    for seed in SEEDS {
        let _witness = Witness(seed);
        let mut world = World::new(seed);
        for _ in 0..EVENTS {
            world.event();
        }
        world.calm();
        world.check_rate();
        seen.append(&mut world.seen);
    }
    for mark in MARKS {
        let count = seen.iter().filter(|seen| **seen == mark).count();
        println!("{mark:?}: {count}");
        assert!(count >= 1_000, "{mark:?} happened {count} times only");
    }
}
