//! Which devices an incarnation leaves out of its polls: those that keep silent, and those that an operator has locked.
//!
//! That a device is silent is the driver's word (`device-state` with `down`): it knows how often it has asked. A poll that asked the device, and
//! at whose end it is down, is a silent one; after some of them in a row the device is demoted ([`crate::demotion`]). Its tags are bad from the
//! driver's first word on. Whatever makes the driver say something better ends the demotion, and so does its link when it comes
//! up: then each device behind it has all its chances again.
//!
//! A poll of which every device is left out is not handed out at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::addressed;
use super::incarnation::Incarnation;
use super::mailbox::{Ask, RequestError};
use super::shared::{DeviceStanding, Shared};
use crate::bus::Happened;
use crate::demotion::Standing;
use crate::event::{MonotonicNs, Quality};
use crate::ids::{DeviceId, GroupId, LinkId, TagId};

/// The devices of one incarnation that are not like the others.
#[derive(Default)]
pub(super) struct Devices {
    /// Those that are down.
    silent: BTreeMap<DeviceId, Standing>,
    /// Those that are locked, and a sentence about it.
    locked: BTreeMap<DeviceId, Arc<str>>,
    /// Which change of the locks this is.
    locks_seen: u64,
    /// What the polls under way leave out.
    left_out: BTreeMap<GroupId, Vec<DeviceId>>,
    /// The devices of groups, as far as they were asked for.
    groups: BTreeMap<GroupId, Arc<[DeviceId]>>,
}

impl Devices {
    /// Whether all of them are like each other.
    fn is_quiet(&self) -> bool {
        self.silent.is_empty() && self.locked.is_empty()
    }

    /// Whether none is locked.
    pub(super) fn none_locked(&self) -> bool {
        self.locked.is_empty()
    }

    /// Why a device is locked, if it is.
    pub(super) fn locked(&self, device: DeviceId) -> Option<&Arc<str>> {
        self.locked.get(&device)
    }

    fn of_group(&mut self, shared: &Shared, group: GroupId) -> Arc<[DeviceId]> {
        let known = self.groups.entry(group).or_insert_with(|| {
            let config = shared.config();
            let tags = config.groups.get(group.index()).map(|group| &*group.tags);
            let device = |tag: &TagId| Some(config.tags.get(tag.index())?.device);
            let mut devices: Vec<DeviceId> =
                tags.unwrap_or_default().iter().filter_map(device).collect();
            devices.sort_unstable();
            devices.dedup();
            devices.into()
        });
        known.clone()
    }
}

impl Incarnation<'_> {
    /// What a poll that is due leaves out; `None` where that is everything.
    pub(super) fn left_out_of(&mut self, group: GroupId, now: MonotonicNs) -> Option<Vec<u32>> {
        if self.devices.is_quiet() {
            return Some(Vec::new());
        }
        let all = self.devices.of_group(self.shared, group);
        let mut left_out = Vec::new();
        for device in all.iter() {
            let locked = self.devices.locked.contains_key(device);
            let silent = self.devices.silent.get_mut(device);
            if locked || silent.is_some_and(|standing| !standing.admit(now)) {
                left_out.push(*device);
            } else if self
                .devices
                .silent
                .get(device)
                .is_some_and(Standing::is_demoted)
            {
                self.note_standing(*device);
            }
        }
        if left_out.len() == all.len() {
            return None;
        }
        let skip = left_out.iter().map(|device| device.0).collect();
        if !left_out.is_empty() {
            self.devices.left_out.insert(group, left_out);
        }
        Some(skip)
    }

    /// A poll has ended: those that it asked, and that are down still, were silent.
    pub(super) fn polled(&mut self, group: GroupId, now: MonotonicNs) {
        if self.devices.is_quiet() {
            return;
        }
        let left_out = self.devices.left_out.remove(&group).unwrap_or_default();
        let Some(policy) = self.shared.config().demotion else {
            return;
        };
        for device in self.devices.of_group(self.shared, group).iter() {
            if left_out.contains(device) {
                continue;
            }
            let Some(standing) = self.devices.silent.get_mut(device) else {
                continue;
            };
            let was = standing.is_demoted();
            if let Some(pause) = standing.silent(policy, now, fastrand::u64(..)) {
                if was {
                    tracing::debug!(instance = %self.id, device = %self.device_name(*device), ?pause, "a probe found the device silent still");
                } else {
                    tracing::warn!(instance = %self.id, device = %self.device_name(*device), ?pause, "the device keeps silent, and is polled less");
                    let why = format!("it keeps silent, and is polled less: {}", self.why(*device));
                    self.announce_device(*device, "demoted", why);
                }
                self.note_standing(*device);
            }
        }
    }

    /// The driver has spoken of a device.
    pub(super) fn heard_of(&mut self, device: DeviceId, down: bool) {
        if down {
            self.devices.silent.entry(device).or_default();
        } else if let Some(standing) = self.devices.silent.remove(&device)
            && standing.is_demoted()
        {
            tracing::info!(instance = %self.id, device = %self.device_name(device), "the device is polled with the others again");
            self.note_standing(device);
        }
    }

    /// A link is up: what was silent behind it may have been so for that reason alone.
    pub(super) fn forgive_devices(&mut self, link: LinkId) {
        let behind: Vec<DeviceId> = self
            .devices
            .silent
            .keys()
            .copied()
            .filter(|device| self.shared.device_uses(*device, link))
            .collect();
        for device in behind {
            self.devices.silent.insert(device, Standing::default());
            self.note_standing(device);
        }
    }

    /// Looks at the locks, if they have changed: tags behind a new one are bad at once, those behind one that was lifted are polled at
    /// once.
    pub(super) fn follow_locks(&mut self, now: MonotonicNs) {
        let generation = self.shared.locks().generation();
        if generation == self.devices.locks_seen {
            return;
        }
        self.devices.locks_seen = generation;
        let config = self.shared.config().clone();
        for (number, device) in (0u32..).zip(&config.devices) {
            let id = DeviceId(number);
            let lock = self.shared.locks().of(&device.name);
            let why: Option<Arc<str>> = lock.map(|lock| lock.sentence(&device.name).into());
            let before = match &why {
                Some(why) => self.devices.locked.insert(id, why.clone()),
                None => self.devices.locked.remove(&id),
            };
            if before == why {
                continue;
            }
            match why {
                Some(why) => self.bar(id, &why),
                None => self.poll_device_soon(id, now),
            }
            self.note_standing(id);
        }
    }

    /// The tags of a device are out of service.
    fn bar(&self, device: DeviceId, why: &Arc<str>) {
        let wall = self.shared.clock().wall();
        let changes = self.shared.tags().mark(
            |tag| tag.device == device,
            Quality::BadOutOfService,
            why,
            wall,
        );
        self.shared.publish(&self.id, changes, wall);
    }

    fn poll_device_soon(&mut self, device: DeviceId, now: MonotonicNs) {
        for number in (0u32..).take(self.shared.config().groups.len()) {
            let group = GroupId(number);
            if self.devices.of_group(self.shared, group).contains(&device) {
                self.polls.soon(group, now);
            }
        }
    }

    /// The refusal of a request to a device that was locked since it was asked for.
    pub(super) fn barred(&self, ask: &Ask) -> Option<RequestError> {
        if self.devices.none_locked() {
            return None;
        }
        let tags: &[TagId] = match ask {
            Ask::Write { tag, .. } => std::slice::from_ref(tag),
            Ask::Read(tags) => tags,
            Ask::Command { payload, .. } => return addressed::refusal(self.shared, payload),
        };
        let known = &self.shared.config().tags;
        let mut devices = tags.iter().filter_map(|tag| known.get(tag.index()));
        let device = devices.find(|tag| self.devices.locked.contains_key(&tag.device))?;
        self.shared.refusal_of_locked(device.device)
    }

    /// Puts into the status how often a device is polled.
    fn note_standing(&self, device: DeviceId) {
        let lock = self
            .shared
            .config()
            .devices
            .get(device.index())
            .and_then(|config| self.shared.locks().of(&config.name));
        let demoted = self.devices.silent.get(&device);
        let standing = match (lock, demoted.filter(|standing| standing.is_demoted())) {
            (Some(lock), _) => DeviceStanding::Locked(lock),
            (None, Some(standing)) => DeviceStanding::Demoted {
                next: standing.resting().map(|until| self.shared.wall_of(until)),
            },
            (None, None) => DeviceStanding::Polled,
        };
        self.shared.set_standing(device, standing);
    }

    fn device_name(&self, device: DeviceId) -> &str {
        let devices = &self.shared.config().devices;
        devices
            .get(device.index())
            .map_or("?", |device| device.name.as_str())
    }

    fn why(&self, device: DeviceId) -> String {
        let down = self.devices_down.get(device.index()).cloned().flatten();
        down.map_or_else(String::new, |why| why.to_string())
    }

    fn announce_device(&self, device: DeviceId, condition: &'static str, why: String) {
        self.shared.announce(Happened::Device {
            device: self.device_name(device).to_owned(),
            condition,
            why,
        });
    }
}
