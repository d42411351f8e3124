//! A host for one driver, without sockets and without a clock: time and events come from whoever holds it.
//!
//! It does what a channel does around a turn: it keeps what is under way, checks each list of actions with the channel's
//! own rules, refuses what a channel would refuse. It dials nothing, waits for nothing and publishes nothing; what a
//! driver asks for is handed to the caller. A replay gives it the events of a recording; a conformance test gives it those
//! of a script.

use crate::bindings::actions::Action;
use crate::bindings::config::{ChannelConfig, ConfigFault};
use crate::bindings::events::Event;
use crate::channel::{Ledger, LedgerParts};
use crate::config;
use crate::driver::{Budget, Driver, Instance, InstanceSpec, TurnStats};
use crate::event::{DataType, MonotonicNs, WallNs};
use crate::exit::{During, Exit, ExitKind};
use crate::ids::{DeviceId, TagId};

/// What a driver runs with.
#[derive(Clone, Debug)]
pub struct VirtualSetup {
    /// Its limits and its seed.
    pub spec: InstanceSpec,
    /// Its configuration.
    pub config: ChannelConfig,
    /// How many samples it may publish, averaged over ten seconds.
    pub samples_per_second: u32,
}

/// A configuration that no channel could have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tag {tag} has the type {found:?}, which there is not; write one such as `float32`")]
pub struct BadType {
    tag: String,
    found: String,
}

/// A driver and its virtual host. Gone as soon as the driver has ended.
pub struct VirtualHost {
    instance: Instance,
    setup: VirtualSetup,
    parts: LedgerParts,
    /// From the first turn on.
    ledger: Option<Ledger>,
}

impl VirtualHost {
    /// Instantiates. A type that there is not is found first.
    pub async fn start(
        driver: &Driver,
        setup: VirtualSetup,
        now: (MonotonicNs, WallNs),
    ) -> Result<Result<Self, Exit>, BadType> {
        let parts = parts(&setup)?;
        let started = Instance::start(driver, setup.spec.clone(), now).await;
        Ok(started.map(|instance| Self {
            instance,
            setup,
            parts,
            ledger: None,
        }))
    }

    /// Hands over the configuration.
    pub async fn configure(mut self, now: (MonotonicNs, WallNs)) -> Result<Self, Exit> {
        let (instance, answer) = self.instance.configure(&self.setup.config, now).await?;
        self.instance = instance;
        match answer {
            Ok(()) => Ok(self),
            Err(faults) => {
                let all: Vec<String> = faults
                    .iter()
                    .take(20)
                    .map(|fault| format!("{}: {}", fault.at, fault.message))
                    .collect();
                Err(Exit::new(
                    ExitKind::Misconfigured,
                    During::Configure,
                    format!("the driver refuses its configuration: {}", all.join("; ")),
                ))
            }
        }
    }

    /// Hands over another configuration between turns, and gives the driver's answer. What is checked against stays as it was.
    pub async fn reconfigure(
        mut self,
        config: &ChannelConfig,
        now: (MonotonicNs, WallNs),
    ) -> Result<(Self, Result<(), Vec<ConfigFault>>), Exit> {
        let (instance, answer) = self.instance.configure(config, now).await?;
        self.instance = instance;
        Ok((self, answer))
    }

    /// What `configure` may use from now on.
    pub fn set_start_budget(&mut self, budget: Budget) {
        self.instance.set_start_budget(budget);
    }

    /// What each turn may use from now on.
    pub fn set_turn_budget(&mut self, budget: Budget) {
        self.instance.set_turn_budget(budget);
    }

    /// What the last call cost.
    pub fn stats(&self) -> TurnStats {
        self.instance.stats()
    }

    /// Gives the driver its events; its actions are neither checked nor noted yet.
    pub async fn give(
        mut self,
        now: (MonotonicNs, WallNs),
        events: &[Event],
    ) -> Result<(Self, Vec<Action>), Exit> {
        let parts = &self.parts;
        self.ledger
            .get_or_insert_with(|| Ledger::new(parts.clone(), now.0))
            .deliver(events);
        let (instance, actions) = self.instance.turn(now, events).await?;
        self.instance = instance;
        Ok((self, actions))
    }

    /// Checks what the driver asked for, as a channel does.
    pub fn check(&mut self, now: MonotonicNs, actions: &[Action]) -> Result<(), Exit> {
        let Some(ledger) = &mut self.ledger else {
            return Ok(());
        };
        let fuel = Some(self.instance.stats().fuel);
        ledger.check(actions, now).map_err(|refusal| Exit {
            fuel,
            ..Exit::new(ExitKind::Refused, During::Turn, refusal.to_string())
        })
    }

    /// Notes what it asked for. Says whether it has stopped with it.
    pub fn note(&mut self, now: MonotonicNs, actions: &[Action]) -> bool {
        self.ledger
            .as_mut()
            .is_some_and(|ledger| ledger.apply(actions, now))
    }

    /// One whole turn: gives, checks, notes.
    pub async fn turn(
        self,
        now: (MonotonicNs, WallNs),
        events: &[Event],
    ) -> Result<(Self, Vec<Action>), Exit> {
        let (mut this, actions) = self.give(now, events).await?;
        this.check(now.0, &actions)?;
        if this.note(now.0, &actions) {
            let sentence = "the driver ended by itself";
            return Err(Exit::new(ExitKind::Finished, During::Turn, sentence));
        }
        Ok((this, actions))
    }
}

fn parts(setup: &VirtualSetup) -> Result<LedgerParts, BadType> {
    let config = &setup.config;
    let tags = config.tags.iter().map(|tag| {
        let data_type = DataType::parse(&tag.data_type).ok_or_else(|| BadType {
            tag: tag.name.clone(),
            found: tag.data_type.clone(),
        })?;
        Ok(config::Tag {
            name: tag.name.as_str().into(),
            device: DeviceId(tag.device),
            address: tag.address.as_str().into(),
            data_type,
            access: match (tag.readable, tag.writable) {
                (true, true) => config::Access::ReadWrite,
                (false, true) => config::Access::Write,
                (_, false) => config::Access::Read,
            },
            settings: std::sync::Arc::default(),
            treatment: std::sync::Arc::default(),
            description: "".into(),
        })
    });
    Ok(LedgerParts {
        tags: tags.collect::<Result<_, _>>()?,
        groups: config
            .groups
            .iter()
            .map(|group| config::Group {
                name: group.name.clone(),
                // A schedule needs one; nothing is scheduled here.
                period: std::time::Duration::from_nanos(group.period_ns.max(1)),
                tags: group.tags.iter().copied().map(TagId).collect(),
                stale_after: None,
            })
            .collect(),
        devices: config.devices.len(),
        links: config.links.len(),
        samples_per_second: setup.samples_per_second,
    })
}
