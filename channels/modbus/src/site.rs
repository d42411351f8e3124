//! The configuration, checked and laid out for polling.

use std::collections::BTreeMap;

use bulkhead_sdk::{Config, Device, DeviceId, Error, Fault, Faults, GroupId, Quality, Tag, TagId};

use crate::driver::{LINK, Modbus};
use crate::framing::Framing;
use crate::pdu::Ask;
use crate::plan::{Limits, Span};
use crate::point::{Point, Wish, resolve};
use crate::schedule::Schedule;
use crate::settings::{Callers, ChannelSettings, DeviceSettings, TagSettings};
use crate::unit::Unit;

/// A channel's units, tags and groups.
#[derive(Debug)]
pub struct Site {
    /// In the operator's order; others refer to them by index.
    pub units: Vec<Unit>,
    /// Their names in the operator's file, in the same order.
    pub names: Vec<String>,
    /// Every tag, by id.
    tags: Vec<Place>,
    /// What one request may ask for, in bits and in registers.
    pub limits: RequestLimits,
    /// What the operator says of the channel.
    pub settings: ChannelSettings,
    /// How many lines lead to the units.
    pub lines: usize,
    /// What whoever calls in says of itself, and the line that it then is.
    pub greetings: Vec<(Vec<u8>, usize)>,
}

/// A tag, and the unit that has it.
#[derive(Debug)]
pub struct Place {
    /// Its id.
    pub id: TagId,
    /// Its name in the operator's file.
    pub name: String,
    /// An index into the units.
    pub unit: usize,
    /// Where it is, and what it means.
    pub point: Point,
}

/// What one request may ask for.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Of coils and discrete inputs.
    pub bits: Limits,
    /// Of registers.
    pub registers: Limits,
}

impl Site {
    /// Checks a configuration, and makes the schedule of each group. Everything that is wrong is said at once. The tags are taken out
    /// of it.
    pub fn new(config: &mut Config<Modbus>) -> Result<(Self, BTreeMap<GroupId, Schedule>), Faults> {
        let tags = std::mem::take(&mut config.tags);
        let config = &*config;
        let mut faults = Faults::new();
        let settings = &config.settings;
        for (name, message) in settings.faults() {
            faults.push(Fault::settings(name, message));
        }
        let link = config.link(LINK);
        let callers = link.filter(|link| link.listens()).map(|_| settings.callers);
        let mut site = Self {
            units: Vec::with_capacity(config.devices.len()),
            names: Vec::with_capacity(config.devices.len()),
            tags: Vec::with_capacity(tags.len()),
            limits: RequestLimits::new(settings),
            settings: settings.clone(),
            lines: 1,
            greetings: Vec::new(),
        };
        let mut places: BTreeMap<DeviceId, (usize, &DeviceSettings)> = BTreeMap::new();
        for device in &config.devices {
            let line = site.line(device, callers, &mut faults);
            if let Some(unit) = unit(device, line, settings, &mut faults) {
                places.insert(device.id, (site.units.len(), &device.settings));
                site.units.push(unit);
                site.names.push(device.name.clone());
            }
        }
        let framing = Framing::new(settings, link.map_or("", |link| link.kind()));
        at_once(config, framing, &mut faults);
        for tag in tags {
            let known = places.get(&tag.device).copied();
            let order = known.and_then(|(_, device)| device.order);
            let point = resolve(wish(&tag, order.unwrap_or(settings.order)), settings);
            if let Err(wrong) = &point {
                for (field, message) in wrong {
                    faults.push(tag.fault(field, message));
                }
            }
            let Some((unit, _)) = known else { continue };
            let is_broadcast = framing.is_broadcast(site.units[unit].number);
            let is_polled = || {
                let mut groups = config.groups.iter();
                groups.any(|group| group.tags.contains(&tag.id))
            };
            if is_broadcast && (!tag.writable || is_polled()) {
                let message = "unit 0 is all units at once, and none answers; give the tag access = \"w\", outside of any group";
                faults.push(tag.fault("access", message));
            }
            if let Ok(point) = point {
                site.tags.push(Place {
                    id: tag.id,
                    name: tag.name,
                    unit,
                    point,
                });
            }
        }
        site.tags.sort_by_key(|place| place.id);
        let schedules = config
            .groups
            .iter()
            .map(|group| (group.id, Schedule::new(&site, &group.tags)))
            .collect();
        faults.into_result((site, schedules))
    }
}

impl Site {
    /// The line of a device that is added now: the only one, or its own where units call in one by one.
    fn line(
        &mut self,
        device: &Device<DeviceSettings>,
        callers: Option<Callers>,
        faults: &mut Faults,
    ) -> usize {
        let greeting = device.settings.greeting();
        match callers {
            Some(Callers::Greeting) => {}
            _ if device.settings.greeting.is_some() => {
                let message = "nobody greets here; leave this out, or let units call in on a link that listens, with callers = \"greeting\"";
                faults.push(device.fault("settings.greeting", message));
                return 0;
            }
            Some(Callers::Unit) => {
                self.lines = self.units.len() + 1;
                return self.units.len();
            }
            Some(Callers::Any) | None => return 0,
        }
        let Some(greeting) = greeting else {
            if device.settings.greeting.is_none() {
                let message =
                    "a unit is known by what its caller says of itself; give the device a greeting";
                faults.push(device.fault("settings.greeting", message));
            }
            return 0;
        };
        for (other, line) in &self.greetings {
            if *other == greeting {
                return *line;
            }
            if other.starts_with(&greeting) || greeting.starts_with(other) {
                let message = "it begins like the greeting of another device, so that they cannot be told apart";
                faults.push(device.fault("settings.greeting", message));
                return 0;
            }
        }
        let line = self.greetings.len();
        self.greetings.push((greeting, line));
        self.lines = line + 1;
        line
    }

    /// A unit and its name, by that; by nothing where there is one.
    pub fn named(&self, device: Option<&str>) -> Result<(&str, &Unit), Error> {
        let place = match device {
            None if self.units.len() == 1 => Some(0),
            None => None,
            Some(name) => self.names.iter().position(|known| known == name),
        };
        let found = place.and_then(|place| Some((self.names.get(place)?, self.units.get(place)?)));
        found
            .map(|(name, unit)| (name.as_str(), unit))
            .ok_or_else(|| {
                Error::new(format!(
                    "name one of the devices {} as `device`",
                    self.names.join(", ")
                ))
            })
    }

    /// A tag by its id.
    pub fn tag(&self, tag: TagId) -> Option<&Place> {
        let place = self.tags.binary_search_by_key(&tag, |place| place.id);
        self.tags.get(place.ok()?)
    }

    /// Some tag of a unit.
    pub fn tag_of(&self, unit: usize) -> Option<&Place> {
        self.tags.iter().find(|place| place.unit == unit)
    }

    /// A tag by its id, where somebody asks for it.
    pub fn place(&self, tag: TagId) -> Result<&Place, Error> {
        self.tag(tag).ok_or_else(|| {
            Error::new("there is no such tag").with_quality(Quality::BadConfiguration)
        })
    }
}

impl Place {
    /// The request that reads the tag alone.
    pub fn read(&self) -> Ask {
        let Span { start, count } = self.point.span;
        Ask::Read {
            table: self.point.table,
            start,
            count,
        }
    }
}

impl RequestLimits {
    fn new(settings: &ChannelSettings) -> Self {
        Self {
            bits: Limits {
                most: settings.max_bits,
                gap: settings.max_gap_bits,
            },
            registers: Limits {
                most: settings.max_registers,
                gap: settings.max_gap_registers,
            },
        }
    }
}

/// Reads can be under way at once only where answers say what they are answers to, and where the line needs no peace between.
fn at_once(config: &Config<Modbus>, framing: Framing, faults: &mut Faults) {
    let why = if framing != Framing::Tcp {
        "over RTU one request follows the other, since answers do not say what they answer; leave this out"
    } else if config.settings.pause_ms > 0 {
        "with pause_ms one request follows the other; leave one of them out"
    } else {
        return;
    };
    if config.settings.requests_at_once > 1 {
        faults.push(Fault::settings("requests_at_once", why.to_owned()));
    }
    for device in &config.devices {
        let own = device.settings.requests_at_once;
        if own.is_some_and(|requests| requests > 1) {
            faults.push(device.fault("settings.requests_at_once", why.to_owned()));
        }
    }
}

fn wish<'a>(tag: &'a Tag<TagSettings>, order: crate::order::Order) -> Wish<'a> {
    Wish {
        address: &tag.address,
        data_type: tag.data_type,
        writable: tag.writable,
        settings: &tag.settings,
        order,
    }
}

fn unit(
    device: &Device<DeviceSettings>,
    line: usize,
    channel: &ChannelSettings,
    faults: &mut Faults,
) -> Option<Unit> {
    let own = &device.settings;
    for (name, message) in own.faults() {
        faults.push(device.fault(&format!("settings.{name}"), message));
    }
    if device.link.as_ref().is_some_and(|link| link.name() != LINK) {
        faults.push(device.fault(
            "link",
            format!("all units are reached over the link {LINK}; leave this out"),
        ));
    }
    let number = match device.address.trim() {
        "" => Some(channel.unit_id),
        address => address.parse().ok(),
    };
    let Some(number) = number else {
        let message = format!(
            "{:?} is no unit; give a number from 0 to 255",
            device.address
        );
        faults.push(device.fault("address", message));
        return None;
    };
    Some(Unit::new(device.id, number, line, own, channel))
}
