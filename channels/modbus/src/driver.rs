//! The driver: what the SDK calls, put together from the rest.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_sdk::{
    Capabilities, Command, Config, Context, Driver, Error, Faults, GroupId, Info, LinkWish, Poll,
    PollReport, Priority, Quality, Read, Sample, Start, TagId, Value, Write,
};

use crate::address;
use crate::cycle::Cycle;
use crate::framing::Framing;
use crate::identify;
use crate::line::{Line, Way};
use crate::schedule::Schedule;
use crate::settings::{ChannelSettings, DeviceSettings, TagSettings, WriteFunction};
use crate::site::Site;
use crate::write;

/// The link that leads to the units.
pub const LINK: &str = "plc";

/// A Modbus client.
#[derive(Debug)]
pub struct Modbus {
    context: Context,
    line: Line,
    site: Site,
    /// Taken out while its group is polled, which happens once at a time.
    schedules: BTreeMap<GroupId, RefCell<Option<Schedule>>>,
    write_function: WriteFunction,
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
                | Capabilities::SCRIPTED_TIME,
        }
    }

    fn commands() -> &'static [(&'static str, &'static str)] {
        &[(identify::COMMAND, identify::HELP)]
    }

    fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
        let (site, schedules) = Site::new(&config)?;
        let link = config
            .link(LINK)
            .expect("the SDK refuses a configuration without it");
        let pause = Duration::from_millis(config.settings.pause_ms.into());
        Ok(Self {
            line: Line::new(
                context.clone(),
                Way::Dialled(link.open()),
                Framing::new(&config.settings, link.kind()),
                pause,
            ),
            context,
            site,
            schedules: schedules
                .into_iter()
                .map(|(id, schedule)| (id, RefCell::new(Some(schedule))))
                .collect(),
            write_function: config.settings.write_function,
        })
    }

    async fn start(&self, _start: Start) -> Result<(), Error> {
        self.line.begin_anew();
        Ok(())
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
        let cycle = Cycle::new(
            &self.context,
            &self.line,
            &self.site,
            Priority::Poll,
            publish,
        );
        let report = cycle.run(&mut schedule, &poll.skip).await;
        slot.replace(Some(schedule));
        Ok(report)
    }

    async fn read(&self, read: Read) -> Result<Vec<Sample>, Error> {
        for tag in &read.tags {
            self.site.place(*tag)?;
        }
        let mut found: BTreeMap<TagId, Sample> = BTreeMap::new();
        let keep = |samples: Vec<Sample>| {
            found.extend(samples.into_iter().map(|sample| (sample.tag, sample)))
        };
        let mut cycle = Cycle::new(&self.context, &self.line, &self.site, Priority::Write, keep);
        cycle.until = Some(read.deadline);
        cycle
            .run(&mut Schedule::new(&self.site, &read.tags), &[])
            .await;
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
        write::write(
            &self.context,
            &self.line,
            &self.site,
            self.write_function,
            write,
        )
        .await
    }

    async fn command(&self, command: Command) -> Result<Vec<u8>, Error> {
        match command.name.as_str() {
            identify::COMMAND => {
                identify::identify(&self.context, &self.line, &self.site, &command).await
            }
            other => Err(Error::not_supported(other)),
        }
    }
}
