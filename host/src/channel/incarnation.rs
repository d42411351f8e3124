//! One life of a channel's driver: the loop that turns events into turns.
//!
//! ```text
//! start ─ configure ─ started ─┬─ gather ─ turn ─ validate ─ apply ─┐
//!                              └──────────── wait ◄─────────────────┘        any fault, `stopped` ─► Exit
//! ```
//!
//! Whatever ends the loop is an [`Exit`]: the loop has no other way out. Timers, polls and bytes that were not
//! delivered end with it; requests that were dispatched are answered as restarted when it is dropped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep_until, timeout_at};

use super::alarms::Alarms;
use super::allowance::Allowance;
use super::connections::Connections;
use super::devices::Devices;
use super::health::HealthChecks;
use super::intake::Lost;
use super::mailbox::{Mail, Mailbox};
use super::pending::Pending;
use super::polls::Polls;
use super::portion::Portion;
use super::shared::{Shared, raise};
use super::timers::Timers;
use super::validate::{self, Context};
use super::witness;
use crate::bindings::actions::Action;
use crate::bindings::config::ChannelConfig;
use crate::bindings::events::{self, Declined, Event, Happening, StartReason, StopReason};
use crate::driver::{Budget, Driver, Instance, InstanceSpec};
use crate::event::{MonotonicNs, Sample, WallNs};
use crate::exit::{During, Exit, ExitKind};
use crate::ids::{GroupId, InstanceId, LinkId};
use crate::lifecycle::Input;
use crate::limits::{NOTICES, TEXT_BYTES};
use crate::recorder::{Call, Recording};
use crate::store::{Found, SAVED_STATE};
use crate::text::shown;

/// What an incarnation is made of.
pub(crate) struct Parts<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) driver: &'a Driver,
    pub(crate) config: ChannelConfig,
    pub(crate) mailbox: &'a mut Mailbox,
    pub(crate) connections: &'a mut Connections,
    /// The links without which the driver is useless, as it says.
    pub(crate) required: &'a [LinkId],
    /// Brings the order to stop.
    pub(crate) stop: oneshot::Receiver<StopOrder>,
    pub(crate) number: u64,
    pub(crate) reason: StartReason,
    /// For how long it takes one event in each turn, so that a culprit is known by name.
    pub(crate) alone: Option<Duration>,
    pub(crate) start: Budget,
    /// What it is given is kept here, if anywhere.
    pub(crate) recording: Option<&'a mut Recording>,
}

/// An instance is to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StopOrder {
    /// When it is dropped, whether it has answered or not.
    pub(crate) deadline: MonotonicNs,
    pub(crate) reason: StopReason,
}

/// One life, under way.
pub(crate) struct Incarnation<'a> {
    pub(super) shared: &'a Shared,
    pub(super) mailbox: &'a mut Mailbox,
    pub(super) connections: &'a mut Connections,
    pub(super) required: &'a [LinkId],
    /// Whether some of the requests that wait for a link may go on.
    pub(super) may_go_on: bool,
    stop: oneshot::Receiver<StopOrder>,
    pub(super) id: Arc<InstanceId>,
    instance: Option<Instance>,
    pub(super) timers: Timers,
    pub(super) polls: Polls,
    pub(super) pending: Pending,
    pub(super) health: HealthChecks,
    /// The events of the next turn.
    pub(super) batch: Vec<Event>,
    /// How many.
    pub(super) portion: Portion,
    /// What they carry, in bytes: bounded too.
    pub(super) batch_bytes: usize,
    /// Whether nothing more goes into it: its one event is under suspicion, or the next is.
    pub(super) batch_closed: bool,
    /// The event under suspicion before which the batch ended: it comes alone in the next turn.
    pub(super) suspect: Option<Event>,
    /// Until when it is one.
    alone_until: Option<MonotonicNs>,
    /// What the driver is to be told in the next turn that it was not carried out, since when.
    pub(super) declined: VecDeque<(MonotonicNs, Declined)>,
    /// Received while waiting, before anything else was looked at.
    pub(super) first: Option<Mail>,
    /// Whether due polls and timers come before the mail: turned about whenever a batch is full, so that neither starves.
    pub(super) schedule_first: bool,
    /// Set once the driver was asked to stop.
    pub(super) stopping: Option<StopOrder>,
    pub(super) stop_told: bool,
    /// Why each link is down, where it is wanted and down.
    pub(super) links_down: Vec<Option<Arc<str>>>,
    pub(super) devices: Devices,
    /// Why each device is down, where the driver has said so.
    pub(super) devices_down: Vec<Option<Arc<str>>>,
    pub(super) alarms: Alarms,
    /// What was lost in the present batch: those tags go bad when the driver has been told.
    pub(super) just_lost: Vec<Lost>,
    /// What this turn hands on, as one batch: a driver that publishes its samples one by one fills no queue.
    pub(super) handed_on: Vec<Sample>,
    /// Samples that may be published now.
    pub(super) samples: Allowance,
    /// Alarms and device states that may be given now.
    pub(super) notices: Allowance,
    /// When the last turn began, until its end is noted.
    turn_began: Option<MonotonicNs>,
    pub(super) recording: Option<&'a mut Recording>,
    /// Groups that are not polled, and whose tags say so.
    pub(super) left_out: Vec<GroupId>,
}

impl<'a> Incarnation<'a> {
    /// Lives until something ends it.
    pub(crate) async fn run(parts: Parts<'a>) -> Exit {
        // Dropped with this future, if it does not end by itself.
        let _guard = parts.shared.pulse().guard();
        match Self::live(parts).await {
            Ok(never) => match never {},
            Err(exit) => exit,
        }
    }

    async fn live(parts: Parts<'a>) -> Result<std::convert::Infallible, Exit> {
        // What comes once in a life, or at its end, is no part of the future that every idle channel holds.
        let mut this = Box::pin(Self::begin(parts)).await?;
        loop {
            if this.stopping.is_none()
                && let Ok(order) = this.stop.try_recv()
            {
                this.stopping = Some(order);
            }
            let now = this.shared.clock().monotonic();
            this.note_turn(now);
            if this.alone_until.is_some_and(|until| now >= until) {
                this.alone_until = None;
                let most = this.shared.config().limits.batch;
                this.portion.set_most(most);
            }
            this.recycle_if_due(now);
            // Whatever waits: a driver that always has something to do must not outlive its order to stop.
            if this.stopping.is_some_and(|order| now >= order.deadline) {
                return Err(overdue());
            }
            this.shared
                .pulse()
                .busy(now.after(this.shared.config().limits.turn_deadline));
            this.check_health(now)?;
            this.gather(now);
            if this.batch.is_empty() {
                this.shared.pulse().idle();
                this.wait().await?;
                continue;
            }
            this.turn(now).await?;
            // A turn that never waits would keep its thread for ever under load.
            if !tokio::task::coop::has_budget_remaining() {
                this.note_turn(this.shared.clock().monotonic());
            }
            tokio::task::consume_budget().await;
        }
    }

    /// Instantiates, configures, gives the first turn.
    async fn begin(parts: Parts<'a>) -> Result<Self, Exit> {
        let Parts {
            shared,
            driver,
            config,
            mailbox,
            connections,
            required,
            stop,
            number,
            reason,
            alone,
            start,
            mut recording,
        } = parts;
        let limits = &shared.config().limits;
        let clock = shared.clock();
        let id = Arc::new(InstanceId {
            channel: shared.id().clone(),
            incarnation: number,
        });
        let seed = fastrand::u64(..);
        let spec = InstanceSpec {
            instance: (*id).clone(),
            memory: limits.memory,
            seed,
            start,
            turn: Budget {
                fuel: limits.fuel_per_turn,
                deadline: limits.turn_deadline,
            },
        };
        let now = || (clock.monotonic(), clock.wall());
        // It starts, takes its configuration and its first turn.
        shared.pulse().busy(
            clock
                .monotonic()
                .after(start.deadline * 2 + limits.turn_deadline),
        );
        let start_at = now();
        if let Some(recording) = &mut recording {
            recording.opening.seed = seed;
            recording.opening.start = Call::at(start_at);
        }
        let instance = Instance::start(driver, spec, start_at).await?;
        let configure_at = now();
        if let Some(recording) = &mut recording {
            recording.opening.start.fuel = Some(instance.stats().fuel);
            recording.opening.configure = Some(Call::at(configure_at));
        }
        let (instance, answer) = instance.configure(&config, configure_at).await?;
        if let Some(recording) = &mut recording
            && let Some(call) = &mut recording.opening.configure
        {
            call.fuel = Some(instance.stats().fuel);
        }
        if let Err(faults) = answer {
            let all: Vec<String> = faults
                .iter()
                .take(20)
                .map(|fault| format!("{}: {}", fault.at, fault.message))
                .collect();
            let said = format!("the driver refuses its configuration: {}", all.join("; "));
            let sentence = shown(&said, TEXT_BYTES);
            return Err(Exit::new(
                ExitKind::Misconfigured,
                During::Configure,
                sentence,
            ));
        }
        let survivors = connections.begin(number);
        let state = match shared.store().slot(&SAVED_STATE, shared.id()) {
            Ok(Found::Whole(state)) => Some(state),
            Ok(Found::Nothing) => None,
            // What cannot be read is as good as never saved.
            Ok(Found::SetAside(damage)) => {
                shared.warn(format!(
                    "the driver's saved state was set aside, and the driver starts without one: {damage}"
                ));
                None
            }
            Err(error) => {
                let sentence = error.to_string();
                return Err(Exit::new(ExitKind::HostFault, During::Start, sentence));
            }
        };
        let begun = clock.monotonic();
        let mut this = Self {
            mailbox,
            stop,
            id,
            instance: Some(instance),
            timers: Timers::default(),
            polls: Polls::new(&shared.config().groups, shared.index(), begun),
            pending: Pending::default(),
            health: HealthChecks::new(shared.config().health.clone(), shared.index(), begun),
            // Grows with its use: most channels never see more than a few events at once.
            batch: Vec::new(),
            batch_bytes: 0,
            batch_closed: false,
            suspect: None,
            portion: Portion::new(
                if alone.is_some() { 1 } else { limits.batch },
                limits.fuel_per_turn,
            ),
            alone_until: alone.map(|alone| begun.after(alone)),
            declined: VecDeque::new(),
            first: None,
            schedule_first: false,
            stopping: None,
            stop_told: false,
            links_down: vec![None; shared.config().links.len()],
            devices: Devices::default(),
            devices_down: vec![None; shared.config().devices.len()],
            alarms: Alarms::default(),
            just_lost: Vec::new(),
            handed_on: Vec::new(),
            samples: Allowance::new(u64::from(limits.samples_per_second), begun),
            notices: Allowance::new(NOTICES, begun),
            turn_began: None,
            recording,
            left_out: Vec::new(),
            may_go_on: !shared.waiting().is_empty(),
            shared,
            connections,
            required,
        };
        this.follow_locks(begun);
        let connections = survivors
            .into_iter()
            .map(|survivor| events::Connection {
                id: survivor.id.0,
                link: survivor.link.0,
                target: survivor.target,
                secured: survivor.secured,
                peer: survivor.peer,
                send_window: survivor.send_window,
            })
            .collect();
        let start = events::Start {
            incarnation: number,
            reason,
            state,
            connections,
            features: Vec::new(),
        };
        let mut what = Happening::Started(start);
        if let Some(letter) = this.kept_away(&what)
            && let Happening::Started(start) = &mut what
        {
            tracing::warn!(instance = %this.id, letter = letter.number, "the saved state is kept away from the driver: it starts without one");
            start.state = None;
        }
        this.batch.push(Event {
            at_ns: begun.0,
            what,
        });
        this.turn(begun).await?;
        // Denied only if the operator stopped the channel meanwhile; then the order to stop is on its way.
        if let Err(denied) = shared.step(
            Input::Started,
            "the driver took its configuration and its first turn",
        ) {
            tracing::debug!(instance = %this.id, %denied, "started too late");
        }
        this.refresh_links(begun);
        if shared.config().links.is_empty() {
            this.polls.all_soon(begun);
        }
        Ok(this)
    }

    /// Waits for anything that makes a turn worthwhile.
    async fn wait(&mut self) -> Result<(), Exit> {
        let next = [
            self.timers.next(),
            self.pending.next(),
            self.shared.waiting().next(),
            // Nothing is polled after the order to stop, so what is due then is nothing to wake up for.
            self.polls.next().filter(|_| self.stopping.is_none()),
            self.health.next().filter(|_| self.stopping.is_none()),
            self.stopping.map(|order| order.deadline),
        ]
        .into_iter()
        .flatten()
        .min();
        let clock = self.shared.clock();
        let alarm = async move {
            match next {
                Some(moment) => {
                    let sleep: Sleep = sleep_until(clock.instant(moment));
                    sleep.await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Ok(order) = &mut self.stop, if self.stopping.is_none() => self.stopping = Some(order),
            mail = self.mailbox.recv() => match mail {
                Some(mail) => self.first = Some(mail),
                None => return Err(Exit::new(ExitKind::HostFault, During::Idle, "the mailbox is gone")),
            },
            () = alarm => {}
        }
        Ok(())
    }

    /// Gives the batch to the driver, does what it asks for, and sees to it that it is noted how long that takes. What was
    /// in it is accused where it ends the driver, and cleared where it does not. An end of it says what the driver was told.
    async fn turn(&mut self, now: MonotonicNs) -> Result<(), Exit> {
        self.turn_began = Some(now);
        if let Err(exit) = self.take_turn(now).await {
            self.note_turn(self.shared.clock().monotonic());
            let (told, more) = witness::told(&self.batch, self.shared.config());
            Box::pin(self.accuse(&exit, now)).await;
            return Err(exit.in_turn(told, more));
        }
        if self.shared.quarantine().watches() {
            self.shared.quarantine().forget(now);
            self.acquit();
        }
        self.batch.clear();
        self.batch_bytes = 0;
        self.batch_closed = false;
        Ok(())
    }
    async fn take_turn(&mut self, now: MonotonicNs) -> Result<(), Exit> {
        let wall = self.shared.clock().wall();
        let Some(instance) = self.instance.take() else {
            return Err(Exit::new(
                ExitKind::HostFault,
                During::Idle,
                "a turn was begun without an instance",
            ));
        };
        if let Some(recording) = &mut self.recording {
            recording.turn((now, wall), &self.batch);
        }
        let turn = instance.turn((now, wall), &self.batch);
        let (instance, actions) = match self.stopping {
            None => turn.await?,
            Some(order) => timeout_at(self.shared.clock().instant(order.deadline), turn)
                .await
                .map_err(|_elapsed| overdue())??,
        };
        let counters = &self.shared.counters;
        raise(&counters.turns, 1);
        raise(&counters.events, self.batch.len() as u64);
        raise(&counters.actions, actions.len() as u64);

        let stats = instance.stats();
        if let Some(recording) = &mut self.recording {
            recording.done(stats.fuel, actions.len());
        }
        counters
            .fuel_last
            .store(stats.fuel, std::sync::atomic::Ordering::Relaxed);
        if stats.peak_memory
            > counters
                .peak_memory
                .load(std::sync::atomic::Ordering::Relaxed)
        {
            counters
                .peak_memory
                .store(stats.peak_memory, std::sync::atomic::Ordering::Relaxed);
        }
        self.portion.took(self.batch.len(), stats.fuel);
        self.shared.chronicle().spent(stats.fuel, stats.peak_memory);
        self.instance = Some(instance);
        self.take_actions(actions, now, wall).await?;
        self.mark_lost_links(wall);
        Ok(())
    }

    async fn take_actions(
        &mut self,
        actions: Vec<Action>,
        now: MonotonicNs,
        wall: WallNs,
    ) -> Result<(), Exit> {
        if actions.is_empty() {
            return Ok(());
        }
        let context = Context {
            tags: &self.shared.config().tags,
            rules: self.shared.tags().rules(),
            devices: self.shared.config().devices.len(),
            connections: &*self.connections,
            polls: &self.polls,
            pending: &self.pending,
            health: &self.health,
            timers: &self.timers,
            alarms: &self.alarms,
            declined: self.declined.len(),
            samples_per_second: self.shared.config().limits.samples_per_second,
            samples_left: self.samples.left(now),
            notices_left: self.notices.left(now),
        };
        let spent = validate::validate(&actions, &context).map_err(|refusal| {
            let fuel = self.instance.as_ref().map(|instance| instance.stats().fuel);
            Exit {
                fuel,
                ..Exit::new(ExitKind::Refused, During::Turn, refusal.to_string())
            }
        })?;
        self.samples.spend(spent.samples);
        self.notices.spend(spent.notices);
        let applied = self.apply(actions, now, wall).await;
        self.flush(wall);
        applied
    }

    /// Notes how long the last turn took, once. The loop reads the clock anyway after a turn; it is read for this alone only
    /// where others get to run before that, or the turn was the last.
    fn note_turn(&mut self, now: MonotonicNs) {
        if let Some(began) = self.turn_began.take() {
            self.shared.chronicle().took(now.since(began));
        }
    }
}

/// The end of a driver that was asked to stop and has not.
fn overdue() -> Exit {
    let sentence = "the driver did not stop in time, so it was dropped";
    Exit::new(ExitKind::Stopped, During::Idle, sentence)
}
