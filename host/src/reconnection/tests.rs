//! The table cell by cell, and what must hold for every way through it.

use std::time::Duration;

use expect_test::expect_file;
use proptest::prelude::*;

use super::*;
use crate::backoff::{JITTER, Policy, RESET_INTERVAL, Redial};
use crate::event::MonotonicNs;

#[test]
fn the_table_is_the_committed_one() {
    let mut text =
        String::from("state         input        next          effect, or why it is denied\n");
    for state in State::ALL {
        text.push('\n');
        for input in Input::ALL {
            let cell = match next(state, input) {
                Ok(Transition { next, effect }) => {
                    format!("{:<13} {}", next.as_str(), effect.as_str())
                }
                Err(denied) => format!("denied        {denied}"),
            };
            text += &format!("{:<13} {:<12} {cell}\n", state.as_str(), input.as_str());
        }
    }
    expect_file!["table.txt"].assert_eq(&text);
}

#[test]
fn every_cell_keeps_to_the_rules() {
    for state in State::ALL {
        for input in Input::ALL {
            let cell = format!("{state} + {input}");
            match next(state, input) {
                Err(denied) => {
                    assert_eq!((denied.state, denied.input), (state, input));
                    assert!(denied.why.contains("; "), "{denied}");
                }
                Ok(Transition { next, effect }) => {
                    assert_eq!(effect == Effect::Serve, input == Input::Up, "{cell}");
                    assert_eq!(
                        effect == Effect::Finish,
                        next == State::Disconnected,
                        "{cell}"
                    );
                    let gives_up = next == State::Failed && state != State::Failed;
                    assert_eq!(effect == Effect::GiveUp, gives_up, "{cell}");
                    let dials = [State::Connecting, State::Reconnecting].contains(&next);
                    assert!(effect != Effect::Dial || dials, "{cell}");
                    assert!(effect != Effect::Nothing || next == state, "{cell}");
                }
            }
        }
    }
}

#[test]
fn close_ends_whatever_is_open_and_only_open_follows() {
    for state in State::ALL {
        let closed = next(state, Input::Close);
        if state != State::Disconnected {
            assert_eq!(closed.unwrap().next, State::Disconnected);
        }
    }
    for input in Input::ALL {
        assert_eq!(
            next(State::Disconnected, input).is_ok(),
            input == Input::Open,
            "{input}"
        );
    }
}

#[test]
fn a_link_is_as_its_worst_connection() {
    use State::{Connected, Connecting, Disconnected, Failed, Reconnecting};
    for (states, whole) in [
        (&[][..], Disconnected),
        (&[Connected, Connected], Connected),
        (&[Connected, Connecting], Connecting),
        (&[Connecting, Reconnecting, Connected], Reconnecting),
        (&[Failed, Connected], Failed),
    ] {
        assert_eq!(State::of_all(states.iter().copied()), whole);
    }
}

/// What a task would hold that does what the machine says.
#[derive(Debug, Default)]
struct Hands {
    dials: u32,
    streams: u32,
    waits_until: Option<MonotonicNs>,
}

impl Hands {
    fn obey(&mut self, step: &Step, now: MonotonicNs) {
        match step.effect {
            Effect::Dial => {
                *self = Self {
                    dials: 1,
                    ..Self::default()
                }
            }
            Effect::Serve => {
                assert_eq!(
                    (self.dials, self.streams),
                    (1, 0),
                    "a stream that nobody dialled"
                );
                *self = Self {
                    streams: 1,
                    ..Self::default()
                };
            }
            Effect::Wait => {
                *self = Self {
                    waits_until: Some(now.after(step.delay)),
                    ..Self::default()
                };
            }
            Effect::GiveUp | Effect::Finish => *self = Self::default(),
            Effect::Nothing => {}
        }
        let Self {
            dials,
            streams,
            waits_until,
        } = self;
        let waits = u32::from(waits_until.is_some());
        assert!(*dials + *streams + waits <= 1, "two at once: {self:?}");
    }
}

fn events() -> impl Strategy<Value = Vec<(Event, u64, u64)>> {
    let event = prop_oneof![
        1 => Just(Event::Open),
        8 => Just(Event::Up),
        8 => Just(Event::DialFailed),
        8 => Just(Event::Lost),
        1 => Just(Event::Refused),
        4 => Just(Event::Reset),
        8 => Just(Event::Due),
        2 => Just(Event::Reconnect),
        2 => Just(Event::PathGone),
        2 => Just(Event::PathBack),
        1 => Just(Event::Close),
    ];
    prop::collection::vec((event, 0u64..20_000, any::<u64>()), 1..200)
}

proptest! {
    #[test]
    fn never_two_connections_and_every_delay_within_its_bounds(
        base in 10u64..60_000, more in 0u64..60_000, most in prop::option::of(0u32..8), events in events(),
    ) {
        let delays = Policy {
            base: Duration::from_millis(base),
            max: Duration::from_millis(base + more),
        };
        let redial = Redial { delays, max_attempts: most, steady_after: Duration::from_secs(10) };
        let mut machine = Machine::new(redial);
        let mut hands = Hands::default();
        let mut now = MonotonicNs(0);
        for (event, pause, random) in events {
            now = now.after(Duration::from_millis(pause));
            // A task reports nothing of what it does not have.
            if matches!(event, Event::Up | Event::DialFailed | Event::Refused) && hands.dials == 0 {
                continue;
            }
            let before = (machine.state(), machine.attempts());
            let Ok(step) = machine.step(event, now, random) else {
                prop_assert_eq!((machine.state(), machine.attempts()), before, "a denial changed something");
                continue;
            };
            hands.obey(&step, now);
            if let Some(most) = most {
                prop_assert!(machine.attempts() <= most);
            }
            match event {
                Event::Close => prop_assert_eq!(step.next, State::Disconnected),
                Event::Reset => prop_assert!(step.delay <= RESET_INTERVAL),
                Event::DialFailed | Event::Lost if step.effect == Effect::Wait => {
                    let delay = step.delay.as_secs_f64();
                    prop_assert!(delay >= delays.base.as_secs_f64() * (1.0 - JITTER) - 1e-6);
                    prop_assert!(delay <= delays.max.as_secs_f64() * (1.0 + JITTER) + 1e-6);
                }
                _ => prop_assert_eq!(step.delay, Duration::ZERO),
            }
        }
    }

    /// Whatever happened: one who asks for a redial gets one, and all attempts after it.
    #[test]
    fn spent_attempts_come_back_when_somebody_asks(most in 0u32..8, events in events()) {
        let redial = Redial { max_attempts: Some(most), ..Redial::STABLE };
        let mut machine = Machine::new(redial);
        let mut now = MonotonicNs(0);
        for (event, pause, random) in events {
            now = now.after(Duration::from_millis(pause));
            if machine.step(event, now, random).is_err() && machine.state() == State::Disconnected {
                machine.step(Event::Open, now, random).unwrap();
            }
        }
        if machine.state() == State::Disconnected {
            machine.step(Event::Open, now, 0).unwrap();
        }
        let asked = machine.step(Event::Reconnect, now, 0).unwrap();
        prop_assert_eq!(asked.effect, Effect::Dial);
        let mut redials = 0;
        while machine.step(Event::DialFailed, now, 0).unwrap().effect == Effect::Wait {
            machine.step(Event::Due, now, 0).unwrap();
            redials += 1;
        }
        prop_assert_eq!((redials, machine.state()), (most, State::Failed));
        prop_assert_eq!(machine.step(Event::Reset, now, 0).unwrap().next, State::Failed);
        prop_assert_eq!(machine.step(Event::PathBack, now, 0).unwrap().effect, Effect::Dial);
        prop_assert_eq!(machine.attempts(), 0);
    }
}
