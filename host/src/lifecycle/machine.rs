//! Everything that is decided about a channel's lives: the table, the restart policy and the time, and nothing that acts.
//!
//! ```text
//!  order ─────────┐
//!  observed ──────┤                ┌──► Step: the new state, and what to do (launch, ask to stop, drop, ...)
//!  end of a life ─┼─── Machine ────┤
//!  time ──────────┘                └──► wake(): when to come again with the time, if nothing else happens before
//! ```
//!
//! Who drives it keeps one promise: a life begins when a step says [`Effect::Launch`], and is over before the machine hears
//! of its end. Whatever else goes on, the machine never asks for a second life beside the first, never plans more attempts
//! than the policy grants, and never leaves a channel that should run without a moment at which it is looked at again:
//! `simulation.rs` says so for ten thousand plants.

use std::time::Duration;

use super::{Denied, Effect, Input, State, next};
use crate::config::Restart;
use crate::event::MonotonicNs;
use crate::restart::{Decision, ExitClass, History, Why, decide};

/// How much later than it should an instance is dropped that is beyond stopping by itself: one whose host code hangs.
const LAST_GRACE: Duration = Duration::from_millis(500);

/// What an operator may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Run.
    Start,
    /// Rest, until somebody wants otherwise.
    Stop,
    /// A fresh instance.
    Restart,
    /// Forget earlier attempts, and do not wait for the next.
    Reset,
}

impl From<Order> for Input {
    fn from(order: Order) -> Self {
        match order {
            Order::Start => Input::Start,
            Order::Stop => Input::Stop,
            Order::Restart => Input::Restart,
            Order::Reset => Input::Reset,
        }
    }
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it was asked to.
    Stopped,
    /// It was asked to, did not in time, and was dropped.
    Overdue,
    /// Otherwise.
    Unasked(ExitClass),
}

/// Why the next life begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The host has started, or the channel never ran before.
    First,
    /// An operator wants it.
    Asked,
    /// The restart policy grants it.
    Fault,
}

/// What the machine has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The state before.
    pub before: State,
    /// The state from now on.
    pub next: State,
    /// What to do.
    pub effect: Effect,
    /// What the restart policy says of the end that led here.
    pub decision: Option<Decision>,
    /// Restarts that the policy has spent, the one that it now grants included.
    pub attempts: u32,
}

/// What the time has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// The next life begins.
    Launch(Step),
    /// The delay is over, but so many channels restart that this one's turn comes later.
    Turn(MonotonicNs),
    /// The instance must be dropped now: it was to stop, and is beyond doing so by itself. Its end is to be reported.
    Overdue,
    /// The channel was healthy for long enough: earlier attempts are forgotten.
    Forgiven,
}

/// What is to come by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    /// A retry, once this moment has come and the host lets it through.
    Retry(MonotonicNs),
    /// A retry that the host lets through at this moment.
    Turn(MonotonicNs),
    /// The instance is dropped if it has not ended by itself.
    Drop(MonotonicNs),
}

/// What is decided about one channel.
#[derive(Clone, Debug)]
pub struct Machine {
    restart: Restart,
    state: State,
    history: History,
    plan: Plan,
    /// Of the last life that was asked for; `None` before the first.
    cause: Option<Cause>,
    /// Whether it restarts, or has just restarted, for a reason of the host's own: that is no break in its health.
    recycling: bool,
}

impl Machine {
    /// A channel that has never run.
    pub fn new(restart: Restart) -> Self {
        Self {
            restart,
            state: State::Stopped,
            history: History::default(),
            plan: Plan::Nothing,
            cause: None,
            recycling: false,
        }
    }

    /// What the channel is doing.
    pub fn state(&self) -> State {
        self.state
    }

    /// Restarts that the policy has spent.
    pub fn attempts(&self) -> u32 {
        self.history.attempts()
    }

    /// Why the present life began, or is to begin.
    pub fn cause(&self) -> Cause {
        self.cause.unwrap_or(Cause::First)
    }

    /// When the next life begins by itself, if nothing happens before.
    pub fn retry_at(&self) -> Option<MonotonicNs> {
        match self.plan {
            Plan::Retry(at) | Plan::Turn(at) => Some(at),
            Plan::Nothing | Plan::Drop(_) => None,
        }
    }

    /// When to call [`Machine::due`], if nothing happens before.
    pub fn wake(&self) -> Option<MonotonicNs> {
        let planned = match self.plan {
            Plan::Nothing => None,
            Plan::Retry(at) | Plan::Turn(at) | Plan::Drop(at) => Some(at),
        };
        let settled = self.history.settles_at(&self.restart);
        planned.into_iter().chain(settled).min()
    }

    /// An operator, or the host in their stead, wants something. An instance that is asked to stop is dropped soon after
    /// `deadline`.
    pub fn order(
        &mut self,
        order: Order,
        now: MonotonicNs,
        deadline: MonotonicNs,
    ) -> Result<Step, Denied> {
        let step = self.step(order.into(), now)?;
        self.recycling = false;
        match step.effect {
            Effect::Launch => {
                self.history = History::default();
                self.cause = Some(match self.cause {
                    None => Cause::First,
                    Some(_) => Cause::Asked,
                });
            }
            Effect::Forget => {
                self.history = History::default();
                self.observe_health(now);
            }
            Effect::AskToStop => self.plan = Plan::Drop(deadline.after(LAST_GRACE)),
            Effect::Drop | Effect::Wait | Effect::GiveUp | Effect::Announce | Effect::Nothing => {}
        }
        Ok(step)
    }

    /// The host wants a fresh instance for a reason of its own. Attempts and health stay as they are. Otherwise as
    /// [`Machine::order`].
    pub fn recycle(&mut self, now: MonotonicNs, deadline: MonotonicNs) -> Result<Step, Denied> {
        // Known before the state changes: leaving `running` in this way is no break in its health.
        let before = std::mem::replace(&mut self.recycling, true);
        let step = self.step(Input::Restart, now);
        match &step {
            Ok(_) => self.plan = Plan::Drop(deadline.after(LAST_GRACE)),
            Err(_) => self.recycling = before,
        }
        step
    }

    /// Something was observed of the instance: `Started`, `Impaired` or `Recovered`.
    pub fn observe(&mut self, input: Input, now: MonotonicNs) -> Result<Step, Denied> {
        self.step(input, now)
    }

    /// The life is over. `random` is any number, fresh for each call.
    pub fn ended(&mut self, end: End, now: MonotonicNs, random: u64) -> Result<Step, Denied> {
        let asked = matches!(self.state, State::Stopping | State::Restarting);
        let (input, decision) = match end {
            End::Stopped => (Input::Ended, None),
            End::Overdue if asked => (Input::StopOverdue, None),
            End::Overdue => (Input::Ended, None),
            // The operator wanted it gone, and it is: nothing is left to decide.
            End::Unasked(_) if asked => (Input::FaultRetry, None),
            End::Unasked(class) if self.state.has_instance() => {
                let decision = decide(&self.restart, &mut self.history, class, now, random);
                let input = match decision {
                    Decision::After(_) => Input::FaultRetry,
                    Decision::Broken {
                        why: Why::Unmendable,
                        ..
                    } => Input::FaultUnmendable,
                    Decision::Broken {
                        why: Why::BudgetSpent { .. } | Why::Never,
                        ..
                    } => Input::FaultBroken,
                    Decision::Done => Input::Ended,
                };
                (input, Some(decision))
            }
            // Without an instance there is no end either; the table says so.
            End::Unasked(_) => (Input::FaultRetry, None),
        };
        let mut step = self.step(input, now)?;
        step.decision = decision;
        step.attempts = self.history.attempts();
        if step.effect == Effect::Launch {
            if !self.recycling {
                self.history = History::default();
            }
            self.cause = Some(Cause::Asked);
        }
        let after = match decision {
            Some(Decision::After(delay)) => Some(delay),
            Some(Decision::Broken { retry, .. }) => retry,
            Some(Decision::Done) | None => None,
        };
        if let Some(delay) = after {
            self.plan = Plan::Retry(now.after(delay));
        }
        Ok(step)
    }

    /// What the time has brought. `turn` says from when on the host lets one more restart through.
    pub fn due(
        &mut self,
        now: MonotonicNs,
        turn: impl FnOnce(MonotonicNs) -> MonotonicNs,
    ) -> Result<Due, Denied> {
        match self.plan {
            Plan::Drop(at) if now >= at => return Ok(Due::Overdue),
            Plan::Retry(at) if now >= at => {
                let from = turn(now);
                if from > now {
                    self.plan = Plan::Turn(from);
                    return Ok(Due::Turn(from));
                }
                return self.retry(now);
            }
            Plan::Turn(at) if now >= at => return self.retry(now),
            Plan::Nothing | Plan::Retry(_) | Plan::Turn(_) | Plan::Drop(_) => {}
        }
        if self.history.settle(&self.restart, now) {
            return Ok(Due::Forgiven);
        }
        Ok(Due::Nothing)
    }

    /// Gives attempts back: what they were spent on is out of the way.
    pub fn give_back(&mut self, attempts: u32) {
        self.history.give_back(attempts);
    }

    fn retry(&mut self, now: MonotonicNs) -> Result<Due, Denied> {
        let step = self.step(Input::RetryDue, now)?;
        self.cause = Some(Cause::Fault);
        Ok(Due::Launch(step))
    }

    fn step(&mut self, input: Input, now: MonotonicNs) -> Result<Step, Denied> {
        let before = self.state;
        let transition = next(before, input)?;
        self.state = transition.next;
        match transition.effect {
            // Whatever was planned was planned for the state before.
            Effect::Launch | Effect::Drop | Effect::Wait | Effect::GiveUp | Effect::AskToStop => {
                self.plan = Plan::Nothing;
            }
            Effect::Announce | Effect::Forget | Effect::Nothing => {}
        }
        self.observe_health(now);
        Ok(Step {
            before,
            next: transition.next,
            effect: transition.effect,
            decision: None,
            attempts: self.history.attempts(),
        })
    }

    fn observe_health(&mut self, now: MonotonicNs) {
        match self.state {
            State::Running => {
                self.recycling = false;
                self.history.healthy(now);
            }
            State::Restarting | State::Starting if self.recycling => {}
            State::Stopped
            | State::Starting
            | State::Degraded
            | State::Stopping
            | State::Restarting
            | State::Backoff
            | State::Broken => {
                self.recycling = false;
                self.history.impaired(&self.restart, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RestartMode;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> MonotonicNs {
        MonotonicNs(seconds * 1_000_000_000)
    }

    /// Runs since second 2, after one fault.
    fn faulted_once() -> Machine {
        let mut machine = Machine::new(Restart {
            mode: RestartMode::Permanent,
            max_attempts: 3,
            first_delay: Duration::ZERO,
            delay: SECOND,
            factor: 2.0,
            max_delay: SECOND,
            reset_after: 60 * SECOND,
            retry_broken: None,
            jitter: 0.0,
        });
        machine.order(Order::Start, at(0), at(0)).unwrap();
        machine.observe(Input::Started, at(1)).unwrap();
        machine
            .ended(End::Unasked(ExitClass::Faulted), at(2), 0)
            .unwrap();
        machine.due(at(2), |now| now).unwrap();
        machine.observe(Input::Started, at(2)).unwrap();
        assert_eq!(machine.attempts(), 1);
        machine
    }

    #[test]
    fn recycling_gives_no_attempt_back_and_breaks_no_health() {
        let mut machine = faulted_once();
        for seconds in [20, 40] {
            let step = machine.recycle(at(seconds), at(seconds + 5)).unwrap();
            assert_eq!(step.effect, Effect::AskToStop);
            let step = machine.ended(End::Stopped, at(seconds), 0).unwrap();
            assert_eq!((step.effect, step.attempts), (Effect::Launch, 1));
            assert_eq!(machine.cause(), Cause::Asked);
            machine.observe(Input::Started, at(seconds)).unwrap();
        }
        assert_eq!(machine.due(at(61), |now| now), Ok(Due::Nothing));
        assert_eq!(machine.due(at(62), |now| now), Ok(Due::Forgiven));
    }

    #[test]
    fn an_operators_restart_gives_all_attempts_back() {
        let mut machine = faulted_once();
        machine.recycle(at(20), at(25)).unwrap();
        assert!(machine.recycle(at(20), at(25)).is_err());
        machine.ended(End::Stopped, at(20), 0).unwrap();
        machine.observe(Input::Started, at(20)).unwrap();
        machine.order(Order::Restart, at(21), at(26)).unwrap();
        machine.ended(End::Stopped, at(22), 0).unwrap();
        assert_eq!(machine.attempts(), 0);
    }
}
