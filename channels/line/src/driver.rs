//! The driver: what the SDK calls.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bulkhead_sdk::{
    Capabilities, Config, Connection, Context, Driver, Error, Fault, Faults, GroupId, Info,
    LinkWish, NoSettings, Poll, PollReport, Priority, Quality, Read, RequestLock, Sample, Start,
    StartReason, Stop, TagId, Value, Write,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::point::{self, Point};
use crate::protocol::{Answer, MAX_LINE, Question, Refusal};

/// The link that leads to the sensor.
pub const LINK: &str = "line";

/// What an operator can set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How long to wait for an answer, in milliseconds: 1 to 60,000.
    #[schemars(range(min = 1, max = 60_000))]
    pub timeout_ms: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { timeout_ms: 1000 }
    }
}

/// A sensor behind a line.
#[derive(Debug)]
pub struct LineDriver {
    context: Context,
    connection: Connection,
    /// One question at a time; a write overtakes the polls that wait.
    turn: RequestLock<()>,
    timeout: Duration,
    points: BTreeMap<TagId, Rc<Point>>,
    /// The same tags, ready to be polled.
    groups: BTreeMap<GroupId, Vec<Rc<Point>>>,
}

/// Why a question has no good answer.
#[derive(Debug)]
enum Failed {
    /// The sensor refused, or answered with no value of the tag's type. The next question may do better.
    Question(Error),
    /// The line is of no use before there is a new stream.
    Line(Error),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Question(error) | Failed::Line(error) => error,
        }
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        let quality = match refusal.code {
            Refusal::NO_SUCH_NAME => Quality::BadConfiguration,
            Refusal::FAILURE => Quality::BadDeviceFailure,
            Refusal::OUT_OF_RANGE => Quality::BadOutOfRange,
            _ => Quality::Bad,
        };
        let error = Error::new(refusal.to_string());
        Self::Question(error.with_code(refusal.code).with_quality(quality))
    }
}

impl Driver for LineDriver {
    type Settings = Settings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "line",
            version: env!("CARGO_PKG_VERSION"),
            protocol: "READ and SET, one line at a time",
            address_help: point::HELP,
            links: &[LinkWish {
                name: LINK,
                kinds: &["tcp", "tls", "unix", "serial"],
                required: true,
            }],
            can: Capabilities::READ | Capabilities::WRITE | Capabilities::SCRIPTED_TIME,
        }
    }

    fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        if !(1..=60_000).contains(&config.settings.timeout_ms) {
            faults.push(Fault::settings("timeout_ms", "write 1 to 60000"));
        }
        for device in config.devices.iter().skip(1) {
            faults.push(device.fault(
                "name",
                "a line leads to one sensor; give this one a channel of its own",
            ));
        }
        let mut points = BTreeMap::new();
        for tag in &config.tags {
            if !point::is_spoken(tag.data_type) {
                let message = format!(
                    "a line carries no {}; use a number, a bool or a string",
                    tag.data_type
                );
                faults.push(tag.fault("type", message));
            }
            let name =
                point::name(&tag.address).map_err(|error| tag.fault("address", error.to_string()));
            if let Some(name) = faults.keep(name) {
                let point = Point {
                    tag: tag.id,
                    device: tag.device,
                    name,
                    data_type: tag.data_type,
                };
                points.insert(tag.id, Rc::new(point));
            }
        }
        let groups = config.groups.iter().map(|group| {
            let points = group.tags.iter().filter_map(|id| points.get(id).cloned());
            (group.id, points.collect())
        });
        let groups = groups.collect();
        let link = config
            .link(LINK)
            .expect("the SDK refuses a configuration without it");
        faults.into_result(Self {
            context,
            connection: link.open(),
            turn: RequestLock::default(),
            timeout: Duration::from_millis(config.settings.timeout_ms.into()),
            points,
            groups,
        })
    }

    async fn start(&self, start: Start) -> Result<(), Error> {
        // Over a stream that outlived a crash, the answer to a question of the dead may be on its way. After a reload there is
        // none; see `stop`.
        if start.reason != StartReason::Reconfigured
            && let Ok(stream) = self.connection.stream()
            && stream.is_inherited()
        {
            stream.reset();
        }
        Ok(())
    }

    async fn stop(&self, _stop: Stop) {
        if self.turn.try_lock(Priority::Write).is_none() {
            // A question that nobody will hear the answer of.
            self.connection.reset();
        }
    }

    async fn poll(&self, poll: Poll) -> Result<PollReport, Error> {
        let points = self.groups.get(&poll.group).map_or(&[][..], Vec::as_slice);
        let wanted = points
            .iter()
            .filter(|point| !poll.skip.contains(&point.device));
        let mut report = PollReport::default();
        let samples = self.read_all(wanted, Priority::Poll, &mut report).await;
        self.context.publish(samples);
        Ok(report)
    }

    async fn read(&self, read: Read) -> Result<Vec<Sample>, Error> {
        let points = read.tags.iter().map(|tag| self.point(*tag));
        let points = points.collect::<Result<Vec<_>, Error>>()?;
        let mut report = PollReport::default();
        Ok(self.read_all(points, Priority::Write, &mut report).await)
    }

    async fn write(&self, write: Write) -> Result<Option<Value>, Error> {
        let point = self.point(write.tag)?;
        let value = point::write(&write.value)
            .ok_or_else(|| Error::new("a line cannot carry this value"))?;
        let question = Question::Set(&point.name, &value);
        self.ask(question, Priority::Write).await?;
        if write.read_back {
            Ok(Some(self.read_one(point, Priority::Write).await?))
        } else {
            Ok(None)
        }
    }
}

impl LineDriver {
    fn point(&self, tag: TagId) -> Result<&Rc<Point>, Error> {
        let point = self.points.get(&tag);
        point.ok_or_else(|| Error::new(format!("there is no tag {tag}")))
    }

    /// One sample for each point, in order. When the line fails, the rest is not asked for: each would wait in vain.
    async fn read_all<'a>(
        &self,
        points: impl IntoIterator<Item = &'a Rc<Point>>,
        priority: Priority,
        report: &mut PollReport,
    ) -> Vec<Sample> {
        let mut samples = Vec::new();
        let mut lost = None;
        for point in points {
            let read = match lost {
                Some(quality) => Err(quality),
                None => {
                    let asked = self.context.now();
                    match self.read_one(point, priority).await {
                        Ok(value) => {
                            report.answered(self.context.now() - asked);
                            Ok(value)
                        }
                        Err(failed) => {
                            report.failed();
                            let line_is_lost = matches!(failed, Failed::Line(_));
                            let quality = Error::from(failed).quality;
                            lost = line_is_lost.then_some(quality);
                            Err(quality)
                        }
                    }
                }
            };
            samples.push(Sample {
                tag: point.tag,
                quality: read.as_ref().err().copied().unwrap_or(Quality::Good),
                value: read.ok(),
                source_time_ns: None,
            });
        }
        samples
    }

    async fn read_one(&self, point: &Point, priority: Priority) -> Result<Value, Failed> {
        let text = self.ask(Question::Read(&point.name), priority).await?;
        point::read(&text, point.data_type).ok_or_else(|| {
            let message = format!(
                "the sensor answered {text:?}, which is no {}",
                point.data_type
            );
            Failed::Question(Error::new(message).with_quality(Quality::BadTypeMismatch))
        })
    }

    /// One question, and the text of its answer.
    ///
    /// Between two questions the lock is free, so that a write need not wait for a whole poll.
    async fn ask(&self, question: Question<'_>, priority: Priority) -> Result<String, Failed> {
        let question = question
            .encode()
            .map_err(|error| Failed::Question(Error::new(error.to_string())))?;
        let _turn = self.turn.lock(priority).await;
        let stream = self.connection.stream();
        let stream = stream.map_err(|closed| Failed::Line(closed.into()))?;
        // Whatever goes wrong on the way, a late answer must not be taken for that of the next question.
        let fail = |error: Error| {
            stream.reset();
            Failed::Line(error)
        };
        if stream.unread() > 0 {
            let error = Error::new("the sensor has spoken without being asked");
            return Err(fail(error.with_quality(Quality::BadNoCommunication)));
        }
        let exchange = async {
            stream.write_all(&question).await?;
            stream.read_until(b'\n', MAX_LINE).await
        };
        let answer = match self.context.timeout(self.timeout, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(fail(error.into())),
            Err(elapsed) => return Err(fail(elapsed.into())),
        };
        match Answer::decode(&answer) {
            Ok(Answer::Ok(text)) => Ok(text),
            Ok(Answer::Err(refusal)) => Err(refusal.into()),
            Err(broken) => {
                let error = Error::new(broken.to_string());
                Err(fail(error.with_quality(Quality::BadNoCommunication)))
            }
        }
    }
}
