//! The table, the policy and the time together: everything that is decided about a connection.

use std::time::Duration;

use super::{Denied, Effect, Input, State, next};
use crate::backoff::{Backoff, Redial};
use crate::event::MonotonicNs;

/// What the connection's task saw, or was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The driver wants it.
    Open,
    /// A dial led to a stream.
    Up,
    /// A dial led to none.
    DialFailed,
    /// The stream is gone.
    Lost,
    /// The operator's file does not grant it.
    Refused,
    /// The driver wants a fresh stream.
    Reset,
    /// The delay is over.
    Due,
    /// The operator wants a fresh stream, now.
    Reconnect,
    /// The machine lost what the stream goes through.
    PathGone,
    /// The machine got an address or an interface.
    PathBack,
    /// The driver wants it no more.
    Close,
}

/// A step that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The state before.
    pub before: State,
    /// The state since.
    pub next: State,
    /// What to do.
    pub effect: Effect,
    /// How long to wait, where the effect is [`Effect::Wait`]; nothing else waits.
    pub delay: Duration,
}

/// Decides about one connection.
#[derive(Clone, Debug)]
pub struct Machine {
    state: State,
    backoff: Backoff,
}

impl Machine {
    /// A connection that nobody has asked for.
    pub fn new(redial: Redial) -> Self {
        Self {
            state: State::Disconnected,
            backoff: Backoff::new(redial),
        }
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        self.state
    }

    /// How many redials in a row were planned without a connection that held.
    pub fn attempts(&self) -> u32 {
        self.backoff.attempts()
    }

    /// Takes a step. What is denied changes nothing.
    pub fn step(&mut self, event: Event, now: MonotonicNs, random: u64) -> Result<Step, Denied> {
        // What is denied must not have moved the delays.
        let mut backoff = self.backoff.clone();
        let mut delay = Duration::ZERO;
        let mut granted = |input| match backoff.lost(now, random) {
            Some(wait) => {
                delay = wait;
                input
            }
            None => Input::Spent,
        };
        let input = match event {
            Event::DialFailed => granted(Input::DialFailed),
            Event::Lost => granted(Input::Lost),
            Event::Up => {
                backoff.opened(now);
                Input::Up
            }
            Event::Reset => {
                if self.state == State::Connected {
                    delay = backoff.reset(now);
                }
                Input::Reset
            }
            Event::Reconnect => {
                backoff.ended(now);
                backoff.forget();
                Input::Reconnect
            }
            Event::PathBack => {
                if self.state == State::Failed {
                    backoff.forget();
                }
                Input::PathBack
            }
            Event::Open => Input::Open,
            Event::Refused => Input::Refused,
            Event::Due => Input::Due,
            Event::PathGone => {
                backoff.ended(now);
                Input::PathGone
            }
            Event::Close => Input::Close,
        };
        let transition = next(self.state, input)?;
        let before = std::mem::replace(&mut self.state, transition.next);
        self.backoff = backoff;
        Ok(Step {
            before,
            next: transition.next,
            effect: transition.effect,
            delay,
        })
    }
}
