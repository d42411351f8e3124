//! The table itself. No wildcard arms: a new state or input must be thought through in every cell.

use super::{Denied, Effect, Input, State, Transition};

/// What becomes of a channel in `state` upon `input`.
pub fn next(state: State, input: Input) -> Result<Transition, Denied> {
    let go = |next, effect| Ok(Transition { next, effect });
    let deny = |why| Err(Denied { state, input, why });
    const NO_INSTANCE: &str = "has no instance that this could be about; nothing needs to be done";
    const NOT_WAITING: &str = "waits for no retry; nothing needs to be done";
    const NOT_STOPPING: &str = "was not asked to stop; nothing needs to be done";
    const STARTED_BEFORE: &str = "has started already; nothing needs to be done";

    match state {
        State::Stopped => match input {
            Input::Start => go(State::Starting, Effect::Launch),
            Input::Stop => deny("is stopped already; nothing needs to be done"),
            Input::Restart => deny("is stopped; start it"),
            Input::Reset => deny("is stopped, and a start begins with all attempts; start it"),
            Input::Started
            | Input::Impaired
            | Input::Recovered
            | Input::Ended
            | Input::StopOverdue
            | Input::FaultRetry
            | Input::FaultBroken
            | Input::FaultUnmendable => deny(NO_INSTANCE),
            Input::RetryDue => deny(NOT_WAITING),
        },
        State::Starting => match input {
            Input::Start => deny("is starting already; wait for it"),
            // It has done nothing yet that it could finish in order.
            Input::Stop => go(State::Stopped, Effect::Drop),
            Input::Restart => deny("is starting already; wait for it"),
            Input::Reset => go(State::Starting, Effect::Forget),
            Input::Started => go(State::Running, Effect::Announce),
            Input::Impaired | Input::Recovered => {
                deny("has not started yet; its health counts from then on")
            }
            Input::Ended => go(State::Stopped, Effect::Drop),
            Input::StopOverdue => deny(NOT_STOPPING),
            Input::FaultRetry => go(State::Backoff, Effect::Wait),
            Input::FaultBroken | Input::FaultUnmendable => go(State::Broken, Effect::GiveUp),
            Input::RetryDue => deny(NOT_WAITING),
        },
        State::Running => match input {
            Input::Start => deny("is running already; restart it for a fresh instance"),
            Input::Stop => go(State::Stopping, Effect::AskToStop),
            Input::Restart => go(State::Restarting, Effect::AskToStop),
            Input::Reset => go(State::Running, Effect::Forget),
            Input::Started => deny(STARTED_BEFORE),
            Input::Impaired => go(State::Degraded, Effect::Announce),
            Input::Recovered => deny("is well already; nothing needs to be done"),
            Input::Ended => go(State::Stopped, Effect::Drop),
            Input::StopOverdue => deny(NOT_STOPPING),
            Input::FaultRetry => go(State::Backoff, Effect::Wait),
            Input::FaultBroken | Input::FaultUnmendable => go(State::Broken, Effect::GiveUp),
            Input::RetryDue => deny(NOT_WAITING),
        },
        State::Degraded => match input {
            Input::Start => {
                deny("is running already, though degraded; restart it for a fresh instance")
            }
            Input::Stop => go(State::Stopping, Effect::AskToStop),
            Input::Restart => go(State::Restarting, Effect::AskToStop),
            Input::Reset => go(State::Degraded, Effect::Forget),
            Input::Started => deny(STARTED_BEFORE),
            Input::Impaired => go(State::Degraded, Effect::Nothing),
            Input::Recovered => go(State::Running, Effect::Announce),
            Input::Ended => go(State::Stopped, Effect::Drop),
            Input::StopOverdue => deny(NOT_STOPPING),
            Input::FaultRetry => go(State::Backoff, Effect::Wait),
            Input::FaultBroken | Input::FaultUnmendable => go(State::Broken, Effect::GiveUp),
            Input::RetryDue => deny(NOT_WAITING),
        },
        State::Stopping => match input {
            Input::Start => deny("is stopping; start it when it has stopped"),
            Input::Stop => deny("is stopping already; wait for it"),
            Input::Restart | Input::Reset => deny("is stopping; start it when it has stopped"),
            Input::Started => deny(STARTED_BEFORE),
            // Links come and go while it finishes; nobody minds any more.
            Input::Impaired | Input::Recovered => go(State::Stopping, Effect::Nothing),
            // The operator wanted it gone, and it is gone, in order or not: that is no fault to make up for.
            Input::Ended
            | Input::StopOverdue
            | Input::FaultRetry
            | Input::FaultBroken
            | Input::FaultUnmendable => go(State::Stopped, Effect::Drop),
            Input::RetryDue => deny(NOT_WAITING),
        },
        State::Restarting => match input {
            Input::Start => deny("is restarting already; wait for it"),
            // It has been asked to finish; only what comes after is another.
            Input::Stop => go(State::Stopping, Effect::Announce),
            Input::Restart => deny("is restarting already; wait for it"),
            Input::Reset => deny("is restarting already, with all attempts; wait for it"),
            Input::Started => deny(STARTED_BEFORE),
            Input::Impaired | Input::Recovered => go(State::Restarting, Effect::Nothing),
            Input::Ended
            | Input::StopOverdue
            | Input::FaultRetry
            | Input::FaultBroken
            | Input::FaultUnmendable => go(State::Starting, Effect::Launch),
            Input::RetryDue => deny(NOT_WAITING),
        },
        State::Backoff => match input {
            Input::Start | Input::Restart | Input::Reset | Input::RetryDue => {
                go(State::Starting, Effect::Launch)
            }
            Input::Stop => go(State::Stopped, Effect::Drop),
            Input::Started
            | Input::Impaired
            | Input::Recovered
            | Input::Ended
            | Input::StopOverdue
            | Input::FaultRetry
            | Input::FaultBroken
            | Input::FaultUnmendable => deny(NO_INSTANCE),
        },
        State::Broken => match input {
            // The slow retry of one whose attempts are spent. For any other no retry is planned.
            Input::Start | Input::Restart | Input::Reset | Input::RetryDue => {
                go(State::Starting, Effect::Launch)
            }
            Input::Stop => go(State::Stopped, Effect::Drop),
            Input::Started
            | Input::Impaired
            | Input::Recovered
            | Input::Ended
            | Input::StopOverdue
            | Input::FaultRetry
            | Input::FaultBroken
            | Input::FaultUnmendable => deny(NO_INSTANCE),
        },
    }
}
