//! The driver: what the SDK calls, put together from the rest.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bulkhead_sdk::{
    Capabilities, Command, CommandInfo, Config, Context, Driver, Error, Faults, GroupId, Info,
    LinkWish, Listener, Poll, PollReport, Priority, Quality, Read, Sample, Start, StartReason,
    Stop, TagId, Value, Write,
};

use crate::address;
use crate::browse;
use crate::calling;
use crate::cycle::Cycle;
use crate::framing::Framing;
use crate::identify;
use crate::line::{Line, Way};
use crate::schedule::Schedule;
use crate::settings::{Callers, ChannelSettings, DeviceSettings, TagSettings, WriteFunction};
use crate::site::Site;
use crate::test_read;
use crate::write;

/// The link that leads to the units.
pub const LINK: &str = "plc";

/// A Modbus client.
#[derive(Debug)]
pub struct Modbus {
    context: Context,
    plant: Rc<Plant>,
    /// Where the units call in.
    listener: Option<Listener>,
    /// Taken out while its group is polled, which happens once at a time.
    schedules: BTreeMap<GroupId, RefCell<Option<Schedule>>>,
    /// How often each group comes.
    periods: BTreeMap<GroupId, Duration>,
    write_function: WriteFunction,
}

/// The units, and the ways to them.
#[derive(Debug)]
pub struct Plant {
    /// What the operator says of them.
    pub site: Site,
    /// One, or one for each unit or group of units that calls in.
    pub lines: Vec<Line>,
    /// How it is found out who calls.
    pub callers: Callers,
}

impl Modbus {
    /// Leaves behind only streams that are in step, for whoever comes next with another configuration.
    fn leave(&self) {
        for line in &self.plant.lines {
            line.leave();
        }
    }
}

impl Drop for Modbus {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Driver for Modbus {
    type Settings = ChannelSettings;
    type DeviceSettings = DeviceSettings;
    type TagSettings = TagSettings;

    fn info() -> Info {
        Info {
            name: "modbus",
            version: env!("CARGO_PKG_VERSION"),
            protocol: "Modbus Application Protocol 1.1b3 over TCP and serial lines",
            address_help: address::HELP,
            links: &[LinkWish {
                name: LINK,
                kinds: &["tcp", "tls", "unix", "serial"],
                required: true,
            }],
            can: Capabilities::READ
                | Capabilities::WRITE
                | Capabilities::COMMANDS
                | Capabilities::BROWSE
                | Capabilities::SCRIPTED_TIME,
        }
    }

    fn commands() -> Vec<CommandInfo> {
        vec![
            identify::offer(),
            test_read::offer(),
            bulkhead_sdk::browse::offer(browse::HELP),
        ]
    }

    fn configure(mut config: Config<Self>, context: Context) -> Result<Self, Faults> {
        let (site, schedules) = Site::new(&mut config)?;
        let link = config
            .link(LINK)
            .expect("the SDK refuses a configuration without it");
        let settings = &config.settings;
        let framing = Framing::new(settings, link.kind());
        let pause = Duration::from_millis(settings.pause_ms.into());
        let line = |way| Line::new(context.clone(), way, framing, pause);
        let (listener, lines) = if link.listens() {
            let called = || line(Way::CalledIn(RefCell::default()));
            let lines = std::iter::repeat_with(called).take(site.lines);
            (Some(link.listen()), lines.collect())
        } else {
            (None, vec![line(Way::Dialled(link.open()))])
        };
        Ok(Self {
            context,
            plant: Rc::new(Plant {
                site,
                lines,
                callers: settings.callers,
            }),
            listener,
            periods: config
                .groups
                .iter()
                .map(|group| (group.id, group.period))
                .collect(),
            schedules: schedules
                .into_iter()
                .map(|(id, schedule)| (id, RefCell::new(Some(schedule))))
                .collect(),
            write_function: settings.write_function,
        })
    }

    async fn start(&self, start: Start) -> Result<(), Error> {
        // The one before has left only what is in step; see `stop`.
        if start.reason != StartReason::Reconfigured {
            for line in &self.plant.lines {
                line.begin_anew();
            }
        }
        if let Some(listener) = &self.listener {
            calling::listen(&self.context, listener, &self.plant).await;
        }
        Ok(())
    }

    async fn stop(&self, _stop: Stop) {
        self.leave();
    }

    async fn poll(&self, poll: Poll) -> Result<PollReport, Error> {
        let slot = self
            .schedules
            .get(&poll.group)
            .ok_or_else(|| Error::new("there is no such group"))?;
        let mut schedule = slot
            .take()
            .ok_or_else(|| Error::new("the group is being polled already"))?;
        let publish = |samples| self.context.publish(samples);
        let Plant { site, lines, .. } = &*self.plant;
        let mut cycle = Cycle::new(&self.context, lines, site, Priority::Poll, &publish);
        cycle.period = self.periods.get(&poll.group).copied();
        let report = cycle.run(&mut schedule, &poll.skip).await;
        slot.replace(Some(schedule));
        Ok(report)
    }

    async fn read(&self, read: Read) -> Result<Vec<Sample>, Error> {
        let Plant { site, lines, .. } = &*self.plant;
        for tag in &read.tags {
            site.place(*tag)?;
        }
        let found: RefCell<BTreeMap<TagId, Sample>> = RefCell::default();
        let keep = |samples: Vec<Sample>| {
            let by_tag = samples.into_iter().map(|sample| (sample.tag, sample));
            found.borrow_mut().extend(by_tag);
        };
        let mut cycle = Cycle::new(&self.context, lines, site, Priority::Write, &keep);
        cycle.until = Some(read.deadline);
        cycle.run(&mut Schedule::new(site, &read.tags), &[]).await;
        let mut found = found.take();
        let missing = |tag| Sample {
            tag,
            value: None,
            quality: Quality::Bad,
            source_time_ns: None,
        };
        Ok(read
            .tags
            .into_iter()
            .map(|tag| found.remove(&tag).unwrap_or_else(|| missing(tag)))
            .collect())
    }

    async fn write(&self, write: Write) -> Result<Option<Value>, Error> {
        let Plant { site, lines, .. } = &*self.plant;
        write::write(&self.context, lines, site, self.write_function, write).await
    }

    async fn command(&self, command: Command) -> Result<Vec<u8>, Error> {
        let Plant { site, lines, .. } = &*self.plant;
        match command.name.as_str() {
            identify::COMMAND => identify::identify(&self.context, lines, site, &command).await,
            bulkhead_sdk::browse::COMMAND => {
                browse::browse(&self.context, lines, site, &command).await
            }
            test_read::COMMAND => test_read::read(&self.context, lines, site, &command).await,
            other => Err(Error::not_supported(other)),
        }
    }
}
