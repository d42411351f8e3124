//! The table itself. No wildcard arms: a new state or input must be thought through in every cell.

use super::{Denied, Effect, Input, State, Transition};

/// What becomes of a connection in `state` upon `input`.
pub fn next(state: State, input: Input) -> Result<Transition, Denied> {
    let go = |next, effect| Ok(Transition { next, effect });
    let deny = |why| Err(Denied { state, input, why });
    const NOT_OPEN: &str = "is not wanted by its driver; start the channel, whose driver opens it";
    const OPEN_BEFORE: &str = "is open already; nothing needs to be done";
    const NOT_DIALLING: &str = "has no dial that this could be about; nothing needs to be done";
    const NO_STREAM: &str = "has no stream that this could be about; nothing needs to be done";
    const NOT_WAITING: &str = "waits for no redial; nothing needs to be done";

    match state {
        State::Disconnected => match input {
            Input::Open => go(State::Connecting, Effect::Dial),
            Input::Up
            | Input::DialFailed
            | Input::Lost
            | Input::Spent
            | Input::Refused
            | Input::Reset
            | Input::Due
            | Input::Reconnect
            | Input::PathGone
            | Input::PathBack
            | Input::Close => deny(NOT_OPEN),
        },
        State::Connecting => match input {
            Input::Open => deny(OPEN_BEFORE),
            Input::Up => go(State::Connected, Effect::Serve),
            Input::DialFailed => go(State::Reconnecting, Effect::Wait),
            Input::Lost => deny(NO_STREAM),
            Input::Spent => go(State::Failed, Effect::GiveUp),
            Input::Refused => go(State::Disconnected, Effect::Finish),
            // What the driver wants is under way.
            Input::Reset => go(State::Connecting, Effect::Nothing),
            Input::Due => deny(NOT_WAITING),
            Input::Reconnect | Input::PathBack => go(State::Connecting, Effect::Dial),
            // It ends by itself, one way or another.
            Input::PathGone => go(State::Connecting, Effect::Nothing),
            Input::Close => go(State::Disconnected, Effect::Finish),
        },
        State::Connected => match input {
            Input::Open => deny(OPEN_BEFORE),
            Input::Up | Input::DialFailed | Input::Refused => deny(NOT_DIALLING),
            Input::Lost => go(State::Reconnecting, Effect::Wait),
            Input::Spent => go(State::Failed, Effect::GiveUp),
            // Its delay is none, or what is left of the second since the last one.
            Input::Reset => go(State::Reconnecting, Effect::Wait),
            Input::Due => deny(NOT_WAITING),
            Input::Reconnect | Input::PathGone => go(State::Reconnecting, Effect::Dial),
            Input::PathBack => go(State::Connected, Effect::Nothing),
            Input::Close => go(State::Disconnected, Effect::Finish),
        },
        State::Reconnecting => match input {
            Input::Open => deny(OPEN_BEFORE),
            Input::Up => go(State::Connected, Effect::Serve),
            Input::DialFailed => go(State::Reconnecting, Effect::Wait),
            Input::Lost => deny(NO_STREAM),
            Input::Spent => go(State::Failed, Effect::GiveUp),
            Input::Refused => go(State::Disconnected, Effect::Finish),
            // A driver that asks again and again hurries nobody.
            Input::Reset => go(State::Reconnecting, Effect::Nothing),
            Input::Due | Input::Reconnect | Input::PathBack => {
                go(State::Reconnecting, Effect::Dial)
            }
            Input::PathGone => go(State::Reconnecting, Effect::Nothing),
            Input::Close => go(State::Disconnected, Effect::Finish),
        },
        State::Failed => match input {
            Input::Open => deny(OPEN_BEFORE),
            Input::Up | Input::DialFailed | Input::Spent | Input::Refused => deny(NOT_DIALLING),
            Input::Lost => deny(NO_STREAM),
            // The attempts are the operator's to give.
            Input::Reset | Input::PathGone => go(State::Failed, Effect::Nothing),
            Input::Due => deny(NOT_WAITING),
            Input::Reconnect | Input::PathBack => go(State::Reconnecting, Effect::Dial),
            Input::Close => go(State::Disconnected, Effect::Finish),
        },
    }
}
