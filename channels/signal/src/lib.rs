//! A driver without a device: signals to look at while the plant is not there, and the shortest whole driver to learn from.
//!
//! - `call`: how an address is written.
//! - `wave`: the signals that follow the clock, as pure functions.
//! - `browse`: the list of them, for people who look for one.
//! - `signal`: where the values of one tag come from, and how they become values of its type.
//! - This file: what the host sees of them.
//!
//! Everything that can be wrong is found by `configure`; after it nothing can fail but a write.

mod browse;
mod call;
mod signal;
mod wave;

use std::collections::BTreeMap;
use std::rc::Rc;

use bulkhead_sdk::{
    Capabilities, Command, CommandInfo, Config, Context, DataType, DeviceId, Driver, Error, Faults,
    GroupId, Info, NoSettings, Poll, PollReport, Quality, Read, Sample, TagId, Value, Write,
};
use signal::Signal;

/// The driver: a signal for each tag.
#[derive(Debug)]
pub struct SignalDriver {
    context: Context,
    tags: BTreeMap<TagId, Rc<Point>>,
    /// The same tags, ready to be polled.
    groups: BTreeMap<GroupId, Vec<Rc<Point>>>,
}

/// A tag.
#[derive(Debug)]
struct Point {
    tag: TagId,
    device: DeviceId,
    data_type: DataType,
    signal: Signal,
}

impl Driver for SignalDriver {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "signal",
            version: env!("CARGO_PKG_VERSION"),
            protocol: "signals made up from the clock",
            address_help: signal::HELP,
            links: &[],
            can: Capabilities::READ
                | Capabilities::WRITE
                | Capabilities::BROWSE
                | Capabilities::SCRIPTED_TIME,
        }
    }

    fn commands() -> Vec<CommandInfo> {
        vec![bulkhead_sdk::browse::offer(browse::HELP)]
    }

    fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let mut tags = BTreeMap::new();
        for tag in &config.tags {
            match Signal::parse(&tag.address, tag.data_type, tag.id.into()) {
                Err(error) => faults.push(tag.fault("address", error.to_string())),
                Ok(signal) if tag.writable && !signal.holds() => faults.push(tag.fault(
                    "access",
                    "only hold can be written; change the address or the access",
                )),
                Ok(signal) => {
                    let point = Point {
                        tag: tag.id,
                        device: tag.device,
                        data_type: tag.data_type,
                        signal,
                    };
                    tags.insert(tag.id, Rc::new(point));
                }
            }
        }
        let groups = config.groups.iter().map(|group| {
            let points = group.tags.iter().filter_map(|id| tags.get(id).cloned());
            (group.id, points.collect())
        });
        faults.into_result(Self {
            context,
            groups: groups.collect(),
            tags,
        })
    }

    async fn poll(&self, poll: Poll) -> Result<PollReport, Error> {
        let points = self.groups.get(&poll.group).map_or(&[][..], Vec::as_slice);
        let mut samples = Vec::with_capacity(points.len());
        for point in points {
            if !poll.skip.contains(&point.device) {
                // The moment that was due, not the one that it became: a late poll shows in no signal.
                let value = point.signal.poll(poll.scheduled, poll.cycle);
                samples.push(good(point.tag, value));
            }
        }
        self.context.publish(samples);
        Ok(PollReport::default())
    }

    async fn read(&self, read: Read) -> Result<Vec<Sample>, Error> {
        let now = self.context.now();
        let read_one = |tag: &TagId| Ok(good(*tag, self.point(*tag)?.signal.at(now)));
        read.tags.iter().map(read_one).collect()
    }

    async fn write(&self, write: Write) -> Result<Option<Value>, Error> {
        let point = self.point(write.tag)?;
        if !point.signal.holds() {
            return Err(Error::new(
                "only a tag with the address hold can be written",
            ));
        }
        if !point.data_type.accepts(&write.value) {
            return Err(Error::new(format!("the value is no {}", point.data_type)));
        }
        point.signal.write(write.value.clone());
        Ok(write.read_back.then_some(write.value))
    }

    async fn command(&self, command: Command) -> Result<Vec<u8>, Error> {
        match command.name.as_str() {
            bulkhead_sdk::browse::COMMAND => browse::browse(&command),
            other => Err(Error::not_supported(other)),
        }
    }
}

impl SignalDriver {
    fn point(&self, id: TagId) -> Result<&Point, Error> {
        self.tags
            .get(&id)
            .map(Rc::as_ref)
            .ok_or_else(|| Error::new(format!("there is no tag {id}")))
    }
}

fn good(tag: TagId, value: Value) -> Sample {
    Sample {
        tag,
        value: Some(value),
        quality: Quality::Good,
        source_time_ns: None,
    }
}

bulkhead_sdk::export!(SignalDriver);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bulkhead_sdk::testing::{FakeHost, Setup};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn start(setup: Setup) -> FakeHost<SignalDriver> {
        FakeHost::start(setup).expect("the configuration is in order")
    }

    #[test]
    fn a_group_is_published_at_once_and_in_order() {
        let setup = Setup::new()
            .tag("wave", "ramp(period=8s, min=0, max=80)", "float64")
            .tag("count", "counter", "uint16")
            .tag("slow", "counter(step=10)", "uint16")
            .group("fast", SECOND, &["count", "wave"])
            .group("slow", 10 * SECOND, &["slow"]);
        let mut host = start(setup);
        let mut seen = Vec::new();
        for _ in 0..3 {
            let done = host.poll("fast");
            assert_eq!((done.requests, done.failed), (0, 0));
            seen.extend(host.take_samples().into_iter().map(|s| (s.tag, s.value)));
            host.advance(SECOND);
        }
        // The fake host's clock begins at one second.
        assert_eq!(
            seen,
            [
                (1, Some(Value::Uint(1))),
                (0, Some(Value::Float(10.0))),
                (1, Some(Value::Uint(2))),
                (0, Some(Value::Float(20.0))),
                (1, Some(Value::Uint(3))),
                (0, Some(Value::Float(30.0))),
            ]
        );
        host.poll("slow");
        assert_eq!(host.value("slow"), Some(Value::Uint(10)));
        host.stop();
    }

    #[test]
    fn a_skipped_device_is_left_out() {
        let setup = Setup::new()
            .device("a", "")
            .tag("one", "counter", "uint8")
            .device("b", "")
            .tag("two", "counter", "uint8")
            .group("all", SECOND, &["one", "two"]);
        let mut host = start(setup);
        host.poll_skipping("all", &["a"]);
        let tags: Vec<TagId> = host.take_samples().iter().map(|s| s.tag).collect();
        assert_eq!(tags, [1]);
    }

    #[test]
    fn what_is_written_is_held() {
        let setup = Setup::new()
            .tag("setpoint", "hold(20)", "uint8")
            .writable()
            .tag("wave", "sine", "float64");
        let mut host = start(setup);
        host.poll("all");
        assert_eq!(host.value("setpoint"), Some(Value::Uint(20)));

        assert_eq!(host.write("setpoint", Value::Uint(30)), Ok(None));
        let read = host.read(&["setpoint"]).expect("a hold can be read");
        assert_eq!(read[0].value, Some(Value::Uint(30)));
        assert_eq!(
            host.write_read_back("setpoint", Value::Uint(31)),
            Ok(Some(Value::Uint(31)))
        );
        host.poll("all");
        assert_eq!(host.value("setpoint"), Some(Value::Uint(31)));

        let refused = host.write("setpoint", Value::Uint(300)).unwrap_err();
        assert_eq!(refused.message, "the value is no uint8");
        let refused = host.write("wave", Value::Float(1.0)).unwrap_err();
        assert!(refused.message.starts_with("only a tag"), "{refused:?}");
        assert_eq!(host.health(), Ok(()));
    }

    #[test]
    fn every_fault_is_reported_with_its_tag() {
        let setup = Setup::new()
            .tag("a", "cosine", "float64")
            .tag("fine", "sine", "float64")
            .tag("b", "ramp(max=300)", "uint8")
            .tag("c", "sine", "float64")
            .writable()
            .tag("d", "sine", "double")
            .tag("e", "sine", "float64")
            .tag_settings(r#"{"colour": "red"}"#);
        let faults = FakeHost::<SignalDriver>::start(setup)
            .err()
            .expect("faults");
        let places: Vec<&str> = faults.iter().map(|fault| fault.at.as_str()).collect();
        assert_eq!(
            places,
            [
                "tag d.type",
                "tag e.settings.colour",
                "tag a.address",
                "tag b.address",
                "tag c.access",
            ]
        );
    }
}
