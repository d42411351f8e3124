//! The table cell by cell, and what must hold for every way through it.

use expect_test::expect_file;
use proptest::prelude::*;

use super::*;

#[test]
fn the_table_is_the_committed_one() {
    let mut text =
        String::from("state       input             next        effect, or why it is denied\n");
    for state in State::ALL {
        text.push('\n');
        for input in Input::ALL {
            let cell = match next(state, input) {
                Ok(Transition { next, effect }) => {
                    format!("{:<11} {}", next.as_str(), effect.as_str())
                }
                Err(denied) => format!("denied      {denied}"),
            };
            text += &format!("{:<11} {:<17} {cell}\n", state.as_str(), input.as_str());
        }
    }
    expect_file!["table.txt"].assert_eq(&text);
}

#[test]
fn a_denial_names_the_remedy() {
    for state in State::ALL {
        for input in Input::ALL {
            if let Err(denied) = next(state, input) {
                assert_eq!((denied.state, denied.input), (state, input));
                assert!(denied.why.contains("; "), "{denied}");
            }
        }
    }
}

#[test]
fn an_effect_fits_the_instance_that_is_there() {
    for state in State::ALL {
        for input in Input::ALL {
            let Ok(Transition { next, effect }) = next(state, input) else {
                continue;
            };
            let cell = format!("{state} + {input}");
            let stays = matches!(effect, Effect::Nothing | Effect::Forget);
            assert_eq!(stays, next == state, "{cell}");
            let begins = next == State::Starting && state != State::Starting;
            assert_eq!(effect == Effect::Launch, begins, "{cell}");
            assert_eq!(effect == Effect::Wait, next == State::Backoff, "{cell}");
            assert_eq!(effect == Effect::GiveUp, next == State::Broken, "{cell}");
            assert_eq!(effect == Effect::Drop, next == State::Stopped, "{cell}");
            if effect == Effect::Launch {
                assert!(
                    !state.has_instance() || input.ends_instance(),
                    "two incarnations: {cell}"
                );
            }
            if input.ends_instance() {
                assert!(state.has_instance(), "an end without an instance: {cell}");
                assert!(
                    !next.has_instance() || effect == Effect::Launch,
                    "a ghost: {cell}"
                );
            }
        }
    }
}

#[test]
fn from_every_state_stop_leads_to_stopped() {
    for state in State::ALL {
        let after = next(state, Input::Stop).map_or(state, |transition| transition.next);
        for end in Input::ALL.into_iter().filter(|input| input.ends_instance()) {
            let end = next(after, end).map_or(after, |transition| transition.next);
            assert_eq!(end, State::Stopped, "{state}");
        }
    }
}

#[test]
fn every_state_can_be_reached_and_left() {
    for target in State::ALL {
        let cells = || {
            State::ALL
                .into_iter()
                .flat_map(|from| Input::ALL.map(|input| (from, next(from, input))))
        };
        let arrives = |(from, cell): (State, Result<Transition, Denied>)| {
            from != target && cell.is_ok_and(|transition| transition.next == target)
        };
        let leaves = |(from, cell): (State, Result<Transition, Denied>)| {
            from == target && cell.is_ok_and(|transition| transition.next != target)
        };
        assert!(cells().any(arrives), "{target} cannot be reached");
        assert!(cells().any(leaves), "{target} cannot be left");
    }
}

proptest! {
    /// The task's own view of the world, driven by effects alone, never disagrees with the table.
    #[test]
    fn instances_follow_the_effects(inputs in prop::collection::vec(0..Input::ALL.len(), 0..200)) {
        let mut state = State::Stopped;
        let mut instances = 0;
        let mut retry_planned = false;
        for input in inputs.into_iter().map(|index| Input::ALL[index]) {
            let Ok(transition) = next(state, input) else { continue };
            if input.ends_instance() {
                instances -= 1;
            }
            match transition.effect {
                Effect::Launch => {
                    instances += 1;
                    retry_planned = false;
                }
                Effect::Drop | Effect::GiveUp | Effect::Wait => {
                    instances = 0;
                    retry_planned = transition.effect == Effect::Wait;
                }
                Effect::AskToStop | Effect::Announce | Effect::Forget | Effect::Nothing => {}
            }
            state = transition.next;
            prop_assert_eq!(instances, i32::from(state.has_instance()));
            prop_assert_eq!(retry_planned, state == State::Backoff);
        }
    }
}
