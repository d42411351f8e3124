//! One task per channel: from incarnation to incarnation, by the lifecycle table and the restart policy.
//!
//! ```text
//!            ┌──────────────── command ────────────────┐
//!  Stopped ──► Starting ── incarnation under way ── Exit ──► decide ──► Backoff ── due ──► Starting
//!                                                               └─────► Broken ── command ─┘
//! ```
//!
//! The table decides every step; this file does what the table says. The incarnation runs inside this very task, so
//! that two can never run at once, and a panic in it is caught here.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use super::prepare::{Prepared, start_budget};
use crate::bindings::events::StartReason;
use crate::bus::Happened;
use crate::channel::{Connections, Incarnation, Mail, Mailbox, Parts, RequestError, Shared};
use crate::event::{MonotonicNs, Quality};
use crate::exit::{During, Exit, ExitKind};
use crate::lifecycle::{Denied, Effect, Input, State};
use crate::restart::{Decision, ExitClass, History, Why, decide};

/// How long a driver has to stop when an operator asks.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long after a fault a driver takes one event in each turn, so that a culprit is known by name.
const ATTRIBUTION: Duration = Duration::from_secs(60);

/// What a door, or the host, wants of a channel.
pub(super) enum Command {
    /// A step in the lifecycle.
    Step {
        /// `Start`, `Stop` or `Restart`.
        input: Input,
        /// Whether the table allows it.
        reply: oneshot::Sender<Result<(), Denied>>,
    },
    /// The host stops: stop by this moment, and end the task.
    Shutdown(MonotonicNs),
}

/// What the task of a channel owns.
pub(super) struct Life {
    pub(super) shared: Arc<Shared>,
    pub(super) prepared: Prepared,
    pub(super) mailbox: Mailbox,
    pub(super) connections: Connections,
    pub(super) commands: mpsc::Receiver<Command>,
}

/// What the task knows between incarnations.
struct Between {
    history: History,
    reason: StartReason,
    retry_at: Option<MonotonicNs>,
    /// By when the host wants everything to have stopped.
    shutdown: Option<MonotonicNs>,
}

impl Life {
    /// Lives until the host stops.
    pub(super) async fn run(mut self) {
        let mut between = Between {
            history: History::default(),
            reason: StartReason::First,
            retry_at: None,
            shutdown: None,
        };
        loop {
            match self.shared.state() {
                State::Starting => self.incarnation(&mut between).await,
                State::Stopped | State::Broken => {
                    self.connections.clear();
                    self.turn_away();
                    if between.shutdown.is_some() {
                        return;
                    }
                    tokio::select! {
                        biased;
                        command = self.commands.recv() => match command {
                            Some(command) => drop(obey(&self.shared, command, &mut between, None)),
                            None => return,
                        },
                        // From a door that saw the channel run a moment ago.
                        Some(mail) = self.mailbox.recv() => self.turn_one_away(mail),
                    }
                }
                State::Backoff => {
                    let clock = self.shared.clock();
                    let due = between.retry_at.unwrap_or_else(|| clock.monotonic());
                    tokio::select! {
                        biased;
                        command = self.commands.recv() => match command {
                            Some(command) => drop(obey(&self.shared, command, &mut between, None)),
                            None => return,
                        },
                        () = tokio::time::sleep_until(clock.instant(due)) => {
                            step(&self.shared, Input::RetryDue, "the delay of the restart policy is over");
                        }
                    }
                }
                // An incarnation is left only by a step out of these states.
                State::Running | State::Degraded | State::Stopping | State::Restarting => {
                    step(
                        &self.shared,
                        Input::FaultBroken,
                        "the host lost track of the channel's instance",
                    );
                    step(
                        &self.shared,
                        Input::Stop,
                        "the host lost track of the channel's instance",
                    );
                }
            }
        }
    }

    /// Runs one incarnation, then decides what follows.
    async fn incarnation(&mut self, between: &mut Between) {
        let number = match next_number(&self.shared).await {
            Ok(number) => number,
            Err(exit) => {
                self.conclude(exit, between);
                return;
            }
        };
        self.shared.update(|status| status.incarnation = number);
        let (stop, mut stop_order) = mpsc::channel(1);
        let config = self.shared.config().clone();
        let parts = Parts {
            shared: &self.shared,
            driver: &self.prepared.driver,
            config: &self.prepared.config,
            mailbox: &mut self.mailbox,
            connections: &mut self.connections,
            stop: &mut stop_order,
            number,
            reason: match (number, between.reason) {
                (1, _) => StartReason::First,
                // Not the first of the channel, only of this process.
                (_, StartReason::First) => StartReason::HostRestart,
                (_, reason) => reason,
            },
            alone: (between.history.attempts() > 0)
                .then_some(ATTRIBUTION.min(config.restart.reset_after)),
            start: start_budget(&config),
        };
        let mut status = self.shared.watch();
        let running = AssertUnwindSafe(Incarnation::run(parts)).catch_unwind();
        let mut running = Box::pin(running);
        let exit = loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    let command = command.unwrap_or(Command::Shutdown(self.shared.clock().monotonic()));
                    if obey(&self.shared, command, between, Some(&stop)) == Effect::Drop {
                        break None;
                    }
                }
                exit = &mut running => break Some(exit.unwrap_or_else(|panic| host_fault(&*panic))),
                Ok(()) = status.changed() => {
                    let now = self.shared.clock().monotonic();
                    match status.borrow_and_update().state {
                        State::Running => between.history.healthy(now),
                        State::Degraded => between.history.impaired(&config.restart, now),
                        State::Stopped
                        | State::Starting
                        | State::Stopping
                        | State::Restarting
                        | State::Backoff
                        | State::Broken => {}
                    }
                }
            }
        };
        drop(running);
        match exit {
            Some(exit) => self.conclude(exit, between),
            None => self.clear_up(
                false,
                Quality::BadOutOfService,
                "the channel was stopped while it started",
            ),
        }
    }

    /// An incarnation has ended: says so, and takes the step that the table and the policy ask for.
    fn conclude(&mut self, exit: Exit, between: &mut Between) {
        let state = self.shared.state();
        let sentence = exit.to_string();
        if state == State::Restarting {
            // However it ended: the operator wants the next one, with all attempts before it.
            between.reason = StartReason::ManualRestart;
            between.history = History::default();
            self.shared.update(|status| status.attempts = 0);
        }
        let Some(class) = exit.kind.class() else {
            let input = if exit.during == During::Idle {
                Input::StopOverdue
            } else {
                Input::Ended
            };
            self.clear_up(input == Input::Ended, Quality::BadOutOfService, &sentence);
            step(&self.shared, input, &sentence);
            return;
        };
        let in_order = class == ExitClass::Finished;
        self.report(exit, class);
        self.clear_up(in_order, Quality::BadStale, &sentence);
        if matches!(state, State::Stopping | State::Restarting) {
            step(&self.shared, Input::FaultRetry, &sentence);
            return;
        }
        let now = self.shared.clock().monotonic();
        let restart = &self.shared.config().restart;
        match decide(restart, &mut between.history, class, now, fastrand::u64(..)) {
            Decision::After(delay) => {
                between.reason = StartReason::RestartAfterFault;
                between.retry_at = Some(now.after(delay));
                let attempts = between.history.attempts();
                let next = crate::event::WallNs(
                    self.shared
                        .clock()
                        .wall()
                        .0
                        .saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)),
                );
                let reason = format!(
                    "{sentence}; attempt {attempts} of {} follows in {delay:.1?}",
                    restart.max_attempts
                );
                self.shared.update(|status| {
                    status.attempts = attempts;
                    status.next_attempt = Some(next);
                });
                step(&self.shared, Input::FaultRetry, &reason);
                if delay.is_zero() {
                    step(&self.shared, Input::RetryDue, &sentence);
                }
            }
            Decision::Broken(why) => {
                let input = match why {
                    Why::Unmendable => Input::FaultUnmendable,
                    Why::BudgetSpent { .. } | Why::Never => Input::FaultBroken,
                };
                step(
                    &self.shared,
                    input,
                    &format!("{sentence}; the channel {why}"),
                );
            }
            Decision::Done => step(&self.shared, Input::Ended, &sentence),
        }
    }

    /// Tells the log, the status and the bus of an end that nobody asked for.
    fn report(&self, exit: Exit, class: ExitClass) {
        let instance = self.shared.instance();
        let backtrace = exit
            .backtrace
            .iter()
            .map(|frame| match &frame.source {
                Some(source) => format!("{} at {source}", frame.function),
                None => frame.function.clone(),
            })
            .collect::<Vec<_>>()
            .join(" <- ");
        if class == ExitClass::Finished {
            tracing::info!(%instance, kind = %exit.kind, "{}", exit.sentence);
        } else {
            self.shared.count_fault();
            tracing::error!(
                %instance,
                kind = %exit.kind,
                during = exit.during.as_str(),
                remedy = exit.kind.remedy(),
                backtrace,
                "{}",
                exit.sentence
            );
        }
        let now = self.shared.clock().wall();
        self.shared
            .update(|status| status.last_exit = Some((now, status.incarnation, exit.clone())));
        self.shared.announce(Happened::Exit(exit));
    }

    /// Nothing of an incarnation is good after its end.
    fn clear_up(&mut self, in_order: bool, quality: Quality, reason: &str) {
        self.connections.end_incarnation(in_order);
        let (wall, instance) = (self.shared.clock().wall(), self.shared.instance());
        let changes = self
            .shared
            .tags()
            .mark(|_| true, quality, &reason.into(), wall);
        self.shared.publish(&instance, changes, wall);
        self.shared.update(|status| {
            for link in &mut status.links {
                link.up = false;
                link.wanted = false;
                "no driver uses it now".clone_into(&mut link.detail);
            }
            for device in &mut status.devices {
                device.condition = "unknown";
                device.why.clear();
            }
        });
    }

    /// Answers what waits for a driver that will not come by itself.
    fn turn_away(&mut self) {
        while let Ok(mail) = self.mailbox.try_recv() {
            self.turn_one_away(mail);
        }
    }

    fn turn_one_away(&self, mail: Mail) {
        let Mail::Request(request) = mail else { return };
        let status = self.shared.status();
        let error = RequestError::NotRunning {
            channel: self.shared.id().to_string(),
            state: status.state,
            why: status.reason,
        };
        if request.reply.send(Err(error)).is_err() {
            tracing::debug!(instance = %self.shared.instance(), "whoever asked has gone");
        }
    }
}

/// The number of the next incarnation. Waits for the disk now and then only.
async fn next_number(shared: &Arc<Shared>) -> Result<u64, Exit> {
    if let Some(number) = shared.store().reserved_incarnation(shared.id()) {
        return Ok(number);
    }
    let shared = shared.clone();
    let reserved =
        tokio::task::spawn_blocking(move || shared.store().next_incarnation(shared.id())).await;
    let fault = |sentence: String| Exit::new(ExitKind::HostFault, During::Start, sentence);
    match reserved {
        Ok(Ok(number)) => Ok(number),
        Ok(Err(error)) => Err(fault(error.to_string())),
        Err(error) => Err(fault(format!(
            "reserving an incarnation number failed: {error}"
        ))),
    }
}

/// Does what a command says, as far as the table allows. Gives the effect that is left for the caller.
fn obey(
    shared: &Shared,
    command: Command,
    between: &mut Between,
    stop: Option<&mpsc::Sender<MonotonicNs>>,
) -> Effect {
    let now = shared.clock().monotonic();
    let (input, reply, deadline) = match command {
        Command::Step { input, reply } => (input, Some(reply), now.after(STOP_GRACE)),
        Command::Shutdown(deadline) => {
            between.shutdown = Some(deadline);
            (Input::Stop, None, deadline)
        }
    };
    let reason = if between.shutdown.is_some() {
        "the host stops"
    } else {
        "an operator asked for it"
    };
    let answer = shared.step(input, reason);
    let effect = match &answer {
        Ok(transition) => {
            match transition.effect {
                Effect::AskToStop => {
                    // Room for one, and asked once: the order is never lost.
                    if let Some(stop) = stop
                        && stop.try_send(deadline).is_err()
                    {
                        tracing::debug!(instance = %shared.instance(), "it had ended before it was asked to stop");
                    }
                }
                Effect::Launch => {
                    between.history = History::default();
                    between.reason = StartReason::ManualRestart;
                    shared.update(|status| status.attempts = 0);
                }
                Effect::Drop
                | Effect::Wait
                | Effect::GiveUp
                | Effect::Announce
                | Effect::Nothing => {}
            }
            transition.effect
        }
        Err(_) => Effect::Nothing,
    };
    if let Some(reply) = reply
        && reply.send(answer.map(drop)).is_err()
    {
        tracing::debug!(instance = %shared.instance(), "whoever gave the command did not wait for the answer");
    }
    effect
}

/// Takes a step that the table cannot deny here; says so in the log if it does.
fn step(shared: &Shared, input: Input, reason: &str) {
    if let Err(denied) = shared.step(input, reason) {
        tracing::error!(instance = %shared.instance(), %denied, "the lifecycle table denied a step of the host itself");
    }
}

fn host_fault(panic: &(dyn std::any::Any + Send)) -> Exit {
    let said = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Exit::new(
        ExitKind::HostFault,
        During::Turn,
        format!("the host panicked in this channel's task: {said}"),
    )
}
