//! One task per channel: from incarnation to incarnation, as the machine decides.
//!
//! ```text
//!            ┌───────────────────────────── order, slow retry ────────────────────────────┐
//!  Stopped ──► Starting ── incarnation under way ── Exit ──► the machine ──► Backoff ── due ──► Starting
//!                                                                     └────► Broken ──────────┘
//! ```
//!
//! [`Machine`] decides every step; this file does what it says, and brings it orders, ends and the time. The incarnation
//! runs inside this very task, so that two can never run at once, and a panic in it is caught here.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use super::abi_config::abi_config;
use super::flight::Flight;
use super::prepare::{Prepared, start_budget};
use crate::bindings::events::{StartReason, StopReason};
use crate::bus::Happened;
use crate::channel::{
    Connections, DeviceStanding, Incarnation, Mail, Mailbox, Parts, RequestError, Shared, StopOrder,
};
use crate::config::Restart;
use crate::event::{MonotonicNs, Quality};
use crate::exit::{During, Exit, ExitKind};
use crate::lifecycle::{Cause, Denied, Due, Effect, End, Machine, Order, State, Step};
use crate::restart::{Decision, ExitClass, Limiter};

/// How long a driver has to stop when an operator asks.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long after a fault a driver takes one event in each turn, so that a culprit is known by name.
const ATTRIBUTION: Duration = Duration::from_secs(60);

/// What a door, or the host, wants of a channel.
pub(super) enum Command {
    /// From an operator.
    Order {
        /// What.
        order: Order,
        /// Whether the table allows it.
        reply: oneshot::Sender<Result<(), Denied>>,
    },
    /// The host stops: stop by this moment, and end the task.
    Shutdown(MonotonicNs),
    /// The configuration has the channel no more: stop by this moment, and end the task, which drops the sender.
    Remove(MonotonicNs, oneshot::Sender<()>),
    /// The configuration has another channel of this name: go on as that one.
    Renew(Box<Renewal>),
}

/// A channel's other configuration, and what goes with it.
pub(super) struct Renewal {
    pub(super) shared: Arc<Shared>,
    pub(super) prepared: Prepared,
    /// Whether what was said of tags and sent over connections means the same under both configurations.
    pub(super) meaning_stays: bool,
    /// Another mailbox, where the size of it is another.
    pub(super) mailbox: Option<(mpsc::Sender<Mail>, Mailbox)>,
    /// When the present instance is dropped, if it has not stopped.
    pub(super) deadline: MonotonicNs,
    /// Dropped when the channel has gone over to it.
    pub(super) done: oneshot::Sender<()>,
}

/// What the task of a channel owns.
pub(super) struct Life {
    pub(super) shared: Arc<Shared>,
    pub(super) prepared: Prepared,
    pub(super) mailbox: Mailbox,
    pub(super) connections: Connections,
    /// `None` where nothing is recorded.
    pub(super) flight: Option<Flight>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// Of the whole host.
    pub(super) limiter: Arc<Mutex<Limiter>>,
    /// Dropped with the task of a channel that is removed.
    pub(super) removal: Option<oneshot::Sender<()>>,
    /// Taken up as soon as there is no instance.
    pub(super) renewal: Option<Box<Renewal>>,
    /// Whether the next incarnation is the first under its configuration.
    pub(super) renewed: bool,
    /// Whether the channel was at rest when its renewal came, or was to rest after it.
    pub(super) rests: bool,
    /// Whether the last incarnation ended in order.
    pub(super) ended_in_order: bool,
}

/// How the instance that lives is asked to stop, once.
struct StopSwitch(Option<oneshot::Sender<StopOrder>>);

impl StopSwitch {
    /// Gives whether there was still somebody to ask.
    fn ask(&mut self, order: StopOrder) -> bool {
        self.0.take().is_some_and(|stop| stop.send(order).is_ok())
    }
}

/// Whether the task goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Host {
    Runs,
    Stops,
    /// It runs on without this channel.
    Drops,
}

impl Life {
    /// Lives until the host stops.
    pub(super) async fn run(mut self) {
        let mut host = Host::Runs;
        loop {
            // There is no instance here, whatever the state says.
            if let Some(renewal) = self.renewal.take() {
                self.renew(*renewal, host);
            }
            let state = self.shared.state();
            match state {
                State::Starting => self.incarnation(&mut host).await,
                State::Stopped | State::Broken | State::Backoff => {
                    let waits = state == State::Backoff;
                    if !waits {
                        self.connections.clear();
                        self.turn_away();
                        if host != Host::Runs {
                            return;
                        }
                    }
                    tokio::select! {
                        biased;
                        command = self.commands.recv() => match command {
                            Some(command) => {
                                self.obey(command, &mut host, None);
                            }
                            None => return,
                        },
                        () = alarm(&self.shared) => {
                            let reason = if waits {
                                "the delay of the restart policy is over"
                            } else {
                                "a broken channel is tried again after `restart.retry_broken`"
                            };
                            tick(&self.shared, &self.limiter, reason);
                        }
                        // From a door that saw the channel run a moment ago.
                        Some(mail) = self.mailbox.recv(), if !waits => self.turn_one_away(mail),
                    }
                }
                // An incarnation is left only by a step out of these states.
                State::Running | State::Degraded | State::Stopping | State::Restarting => {
                    let lost = "the host lost track of the channel's instance";
                    self.conclude(Exit::new(ExitKind::HostFault, During::Idle, lost));
                }
            }
        }
    }

    /// Runs one incarnation, then lets the machine decide what follows.
    async fn incarnation(&mut self, host: &mut Host) {
        let number = match next_number(&self.shared).await {
            Ok(number) => number,
            Err(exit) => {
                self.conclude(exit);
                return;
            }
        };
        self.shared.update(|status| status.incarnation = number);
        let turns_before = self.turns();
        let (stop, stop_order) = oneshot::channel();
        let mut stop = StopSwitch(Some(stop));
        let config = self.shared.config().clone();
        let mut recording = self
            .flight
            .as_ref()
            .and_then(|flight| flight.begin(&self.shared));
        let parts = Parts {
            shared: &self.shared,
            driver: &self.prepared.driver,
            config: abi_config(&config),
            mailbox: &mut self.mailbox,
            connections: &mut self.connections,
            required: &self.prepared.required,
            stop: stop_order,
            number,
            reason: match (number, self.shared.machine(Machine::cause)) {
                _ if std::mem::take(&mut self.renewed) => StartReason::Reconfigured,
                (1, _) => StartReason::First,
                // Not the first of the channel, only of this process.
                (_, Cause::First) => StartReason::HostRestart,
                (_, Cause::Asked) => StartReason::ManualRestart,
                (_, Cause::Fault) => StartReason::RestartAfterFault,
            },
            alone: (self.shared.machine(Machine::attempts) > 0)
                .then_some(ATTRIBUTION.min(config.restart.reset_after)),
            start: start_budget(&config),
            recording: recording.as_mut(),
        };
        let mut status = self.shared.watch();
        let running = AssertUnwindSafe(Incarnation::run(parts)).catch_unwind();
        let mut running = Box::pin(running);
        let exit = loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    let command = command.unwrap_or(Command::Shutdown(self.shared.clock().monotonic()));
                    let asked = Asked {
                        shared: &self.shared,
                        removal: &mut self.removal,
                        renewal: &mut self.renewal,
                        rests: &mut self.rests,
                    };
                    if asked.obey(command, host, Some(&mut stop)) == Effect::Drop {
                        break None;
                    }
                }
                exit = &mut running => break Some(exit.unwrap_or_else(|panic| host_fault(&*panic))),
                () = alarm(&self.shared) => {
                    if tick(&self.shared, &self.limiter, "") == Due::Overdue {
                        break Some(Exit::new(
                            ExitKind::Stopped,
                            During::Idle,
                            "the channel's task did not stop in time, so it was dropped",
                        ));
                    }
                }
                // What the instance is like has a bearing on when the alarm rings.
                Ok(()) = status.changed() => {}
            }
        };
        drop(running);
        match exit {
            Some(mut exit) => {
                if let (Some(flight), Some(recording)) = (&self.flight, recording) {
                    if recording.recycling && exit.kind.class().is_none() {
                        self.connections.keep_all();
                    }
                    flight.end(&self.shared, &self.prepared, number, recording, &mut exit);
                }
                let in_order = exit.kind.class().is_none() && exit.during != During::Idle;
                self.ended_in_order = in_order;
                if in_order && self.renewal.as_ref().is_some_and(|it| it.meaning_stays) {
                    self.connections.keep_all();
                }
                self.conclude(exit);
            }
            None => self.dropped_while_starting(self.turns() > turns_before),
        }
    }

    /// The turns that its drivers have taken.
    fn turns(&self) -> u64 {
        self.shared.status().counters.turns
    }

    /// An instance was dropped before the channel ran. `has_acted`: something of what it wanted may have been done.
    fn dropped_while_starting(&mut self, has_acted: bool) {
        let stays = self.renewal.as_ref().map(|renewal| renewal.meaning_stays);
        match stays {
            // It knew nothing and did nothing: all is as the incarnation before has left it, and goes on under the other configuration.
            Some(true) if !has_acted => {
                if self.ended_in_order {
                    self.connections.keep_all();
                }
                let why = "its configuration was reloaded while it started";
                self.clear_up(true, Quality::BadOutOfService, why);
            }
            Some(_) => {
                self.ended_in_order = false;
                let why = "the driver was dropped while it started: the configuration was reloaded";
                self.clear_up(false, Quality::BadStale, why);
            }
            None => {
                self.ended_in_order = false;
                let why = "the channel was stopped while it started";
                self.clear_up(false, Quality::BadOutOfService, why);
            }
        }
    }

    /// An incarnation has ended: says so, and takes the step that the machine decides on.
    fn conclude(&mut self, exit: Exit) {
        let sentence = exit.to_string();
        let end = match exit.kind.class() {
            None if exit.during == During::Idle => End::Overdue,
            None => End::Stopped,
            Some(class) => End::Unasked(class),
        };
        match end {
            End::Stopped | End::Overdue => {
                self.shared.chronicle().stopped();
                self.clear_up(end == End::Stopped, Quality::BadOutOfService, &sentence);
            }
            End::Unasked(class) => {
                self.report(exit, class);
                let in_order = class == ExitClass::Finished;
                self.clear_up(in_order, Quality::BadStale, &sentence);
            }
        }
        let restart = &self.shared.config().restart;
        // What has ended the driver each time is kept away from it from now on: neither this fault counts nor those before it.
        let pardoned = self.shared.quarantine().take_given_back();
        self.shared.give_back(pardoned.saturating_sub(1));
        let step = self.shared.steer(
            |machine, now| machine.ended(end, now, fastrand::u64(..)),
            |step| reason_after(step, restart, &sentence, pardoned > 0),
        );
        self.shared.give_back(pardoned.min(1));
        match step {
            // Where there is no delay, there is no wait for the timer either.
            Ok(Step {
                decision: Some(Decision::After(delay)),
                ..
            }) if delay.is_zero() => {
                tick(&self.shared, &self.limiter, &sentence);
            }
            Ok(_) => {}
            Err(denied) => lost(&self.shared, &denied),
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
        let events = exit
            .events
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        if class == ExitClass::Finished {
            tracing::info!(%instance, kind = %exit.kind, "{}", exit.sentence);
        } else {
            self.shared.count_fault();
            tracing::error!(
                %instance,
                kind = %exit.kind,
                during = exit.during.as_str(),
                remedy = exit.kind.remedy(),
                bundle = exit.bundle.as_ref().map(|path| tracing::field::display(path.display())),
                backtrace,
                events,
                events_left_out = exit.events_left_out,
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
        let goes_on = |renewal: &Renewal| in_order && renewal.meaning_stays;
        if !self.renewal.as_deref().is_some_and(goes_on) {
            let changes = self
                .shared
                .tags()
                .mark(|_| true, quality, &reason.into(), wall);
            self.shared.publish(&instance, changes, wall);
        }
        self.shared.update(|status| {
            for link in &mut status.links {
                link.up = false;
                link.wanted = false;
                "no driver uses it now".clone_into(&mut link.detail);
            }
            for device in &mut status.devices {
                device.condition = "unknown";
                device.why.clear();
                if let DeviceStanding::Demoted { .. } = device.standing {
                    device.standing = DeviceStanding::Polled;
                }
            }
        });
    }

    fn obey(&mut self, command: Command, host: &mut Host, stop: Option<&mut StopSwitch>) {
        let asked = Asked {
            shared: &self.shared,
            removal: &mut self.removal,
            renewal: &mut self.renewal,
            rests: &mut self.rests,
        };
        asked.obey(command, host, stop);
    }

    /// Goes over to another configuration, and starts under it, unless the channel is to rest.
    fn renew(&mut self, renewal: Renewal, host: Host) {
        let Renewal {
            shared,
            prepared,
            meaning_stays,
            mailbox,
            deadline: _,
            done,
        } = renewal;
        let before = std::mem::replace(&mut self.shared, shared);
        self.prepared = prepared;
        self.renewed = true;
        before.waiting().turn_away(|| RequestError::Restarted);
        self.shared.take_over(&before, meaning_stays);
        let keep = meaning_stays && self.ended_in_order && mailbox.is_none();
        self.connections.renew(self.shared.journals(), keep);
        if let Some((sender, receiver)) = mailbox {
            let mut old = std::mem::replace(&mut self.mailbox, receiver);
            while let Ok(mail) = old.try_recv() {
                if let Mail::Request(request) = mail {
                    drop(request.reply.send(Err(RequestError::Restarted)));
                }
            }
            self.connections.move_to(sender);
        }
        let enabled = self.shared.config().enabled;
        let rests = std::mem::take(&mut self.rests);
        let runs = match enabled == before.config().enabled {
            true => !rests,
            false => enabled,
        };
        if !runs {
            // What was good goes over with the tags, and nobody reads them any more.
            let why = "the channel was stopped when its configuration was reloaded".into();
            let (wall, quality) = (self.shared.clock().wall(), Quality::BadOutOfService);
            let changes = self
                .shared
                .tags()
                .mark_unless_bad(|_| true, quality, &why, wall);
            self.shared.publish(&self.shared.instance(), changes, wall);
        }
        if runs && host == Host::Runs {
            let start = |machine: &mut Machine, now| machine.order(Order::Start, now, now);
            let why = "its configuration was reloaded";
            if let Err(denied) = self.shared.steer(start, |_| why.to_owned()) {
                lost(&self.shared, &denied);
            }
        }
        if done.send(()).is_err() {
            tracing::debug!(instance = %self.shared.instance(), "whoever reloaded did not wait");
        }
    }

    /// Answers what waits for a driver that will not come by itself.
    fn turn_away(&mut self) {
        while let Ok(mail) = self.mailbox.try_recv() {
            self.turn_one_away(mail);
        }
        self.shared.waiting().turn_away(|| self.not_running());
    }

    fn turn_one_away(&self, mail: Mail) {
        let Mail::Request(request) = mail else {
            return; // Neither links nor those who wait no more are owed anything.
        };
        if request.reply.send(Err(self.not_running())).is_err() {
            tracing::debug!(instance = %self.shared.instance(), "whoever asked has gone");
        }
    }

    fn not_running(&self) -> RequestError {
        let status = self.shared.status();
        RequestError::NotRunning {
            channel: self.shared.id().to_string(),
            state: status.state,
            why: status.reason,
        }
    }
}

/// The number of the next incarnation. Waits for the disk now and then only.
async fn next_number(shared: &Shared) -> Result<u64, Exit> {
    let fault = |sentence: String| Exit::new(ExitKind::HostFault, During::Start, sentence);
    let (store, id) = (shared.store(), shared.id());
    if let Some(number) = store.reserved_incarnation(id) {
        return Ok(number);
    }
    store
        .reserve_incarnations(vec![id.clone()])
        .await
        .map_err(|error| fault(error.to_string()))?;
    store
        .reserved_incarnation(id)
        .ok_or_else(|| fault("no incarnation number is left".to_owned()))
}

/// What a command bears upon.
struct Asked<'a> {
    shared: &'a Shared,
    removal: &'a mut Option<oneshot::Sender<()>>,
    renewal: &'a mut Option<Box<Renewal>>,
    rests: &'a mut bool,
}

impl Asked<'_> {
    /// Does what a command says, as far as the table allows. Gives the effect that is left for the caller.
    fn obey(self, command: Command, host: &mut Host, stop: Option<&mut StopSwitch>) -> Effect {
        let shared = self.shared;
        let (order, reply, deadline) = match command {
            Command::Order { order, reply } => {
                if self.renewal.is_some() {
                    *self.rests = order == Order::Stop;
                }
                let deadline = shared.clock().monotonic().after(STOP_GRACE);
                (order, Some(reply), deadline)
            }
            Command::Shutdown(deadline) => {
                *host = Host::Stops;
                (Order::Stop, None, deadline)
            }
            Command::Remove(deadline, ended) => {
                *self.removal = Some(ended);
                *host = Host::Drops;
                (Order::Stop, None, deadline)
            }
            Command::Renew(mut renewal) => {
                let deadline = renewal.deadline;
                match self.renewal.take() {
                    // It has not been taken up: what holds between that and this one does not hold for what runs.
                    Some(pending) => {
                        renewal.meaning_stays &= pending.meaning_stays;
                        renewal.mailbox = renewal.mailbox.or(pending.mailbox);
                    }
                    None => {
                        *self.rests = matches!(shared.state(), State::Stopped | State::Stopping);
                    }
                }
                *self.renewal = Some(renewal);
                if stop.is_none() {
                    return Effect::Nothing;
                }
                (Order::Stop, None, deadline)
            }
        };
        let (reason, sentence) = match host {
            Host::Stops => (StopReason::HostStopping, "the host stops"),
            Host::Drops => (
                StopReason::Stopped,
                "the configuration has this channel no more",
            ),
            Host::Runs if self.renewal.is_some() => {
                (StopReason::Reconfigured, "its configuration is reloaded")
            }
            Host::Runs if order == Order::Restart => {
                (StopReason::Restarting, "an operator asked for it")
            }
            Host::Runs => (StopReason::Stopped, "an operator asked for it"),
        };
        let answer = shared.steer(
            |machine, now| machine.order(order, now, deadline),
            |_| sentence.to_owned(),
        );
        let effect = answer.as_ref().map_or(Effect::Nothing, |step| step.effect);
        if effect == Effect::AskToStop
            && let Some(stop) = stop
            && !stop.ask(StopOrder { deadline, reason })
        {
            tracing::debug!(instance = %shared.instance(), "it had ended before it was asked to stop");
        }
        if let Some(reply) = reply
            && reply.send(answer.map(drop)).is_err()
        {
            tracing::debug!(instance = %shared.instance(), "whoever gave the command did not wait for the answer");
        }
        effect
    }
}

/// Rings when the machine wants to know the time; never, if it does not.
async fn alarm(shared: &Shared) {
    match shared.machine(Machine::wake) {
        Some(at) => tokio::time::sleep_until(shared.clock().instant(at)).await,
        None => std::future::pending().await,
    }
}

/// Lets the machine know the time; `reason` is why the next life begins, if it does.
fn tick(shared: &Shared, limiter: &Mutex<Limiter>, reason: &str) -> Due {
    let turn = |now| {
        limiter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(now)
    };
    let due = shared.tick(turn, |_| reason.to_owned());
    match due {
        Ok(due) => {
            if let Due::Turn(at) = due {
                let wait = at.since(shared.clock().monotonic());
                tracing::info!(instance = %shared.instance(), ?wait, "many channels restart, so this one waits for its turn");
            }
            due
        }
        Err(denied) => {
            lost(shared, &denied);
            Due::Nothing
        }
    }
}

/// The table denied a step of the host itself.
fn lost(shared: &Shared, denied: &Denied) {
    tracing::error!(instance = %shared.instance(), %denied, "the lifecycle table denied a step of the host itself");
}

/// Why a channel is in the state that the end of its instance led to.
fn reason_after(step: &Step, restart: &Restart, sentence: &str, pardoned: bool) -> String {
    match step.decision {
        Some(Decision::After(_)) if pardoned => {
            format!("{sentence}; what ended the driver is kept away from it, and it goes on")
        }
        Some(Decision::After(delay)) => {
            let when = if delay.is_zero() {
                "at once".to_owned()
            } else {
                format!("in {delay:.1?}")
            };
            format!(
                "{sentence}; attempt {} of {} follows {when}",
                step.attempts, restart.max_attempts
            )
        }
        Some(Decision::Broken { why, retry: None }) => format!("{sentence}; the channel {why}"),
        Some(Decision::Broken {
            why,
            retry: Some(delay),
        }) => {
            format!("{sentence}; the channel {why}; it is tried again in {delay:.1?}")
        }
        Some(Decision::Done) | None => sentence.to_owned(),
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
