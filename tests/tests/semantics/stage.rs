//! A host with one channel whose driver is the puppet, and all that comes out of it.

use std::path::PathBuf;
use std::sync::Arc;

use bulkhead::bus::{Bus, Happened, Message, Received, Subscription};
use bulkhead::channel::{ChannelStatus, RequestError};
use bulkhead::config::{self, Checked, Origin};
use bulkhead::engine::Compiler;
use bulkhead::event::{Quality, Sample, Severity, Value, WallNs};
use bulkhead::exit::{Exit, ExitKind};
use bulkhead::ids::TagId;
use bulkhead::lifecycle::State;
use bulkhead::supervisor::{ChannelHandle, Host, ReloadError, Reloaded, StartError, Writer};
use bulkhead_tests::{Folder, PATIENCE, paths};
use serde_json::{Value as Json, json};

/// Who writes, for the audit log.
pub(crate) const WRITER: Writer<'static> = Writer {
    via: "test",
    by: None,
};

/// The file of a guest.
pub(crate) fn path(name: &str) -> PathBuf {
    paths::guest(name).unwrap()
}

/// Something that came out of the host.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// What the puppet was told in one turn; each of its events follows.
    Page(Json),
    Told {
        event: Json,
        page: Arc<Json>,
    },
    /// A sample of another tag.
    Sample {
        tag: String,
        value: Option<Value>,
        quality: Quality,
    },
    Exit(Exit),
    Alarm {
        code: String,
        severity: Severity,
        active: bool,
        device: Option<String>,
        source_time: Option<WallNs>,
    },
    /// Polls were skipped.
    Skipped(u64),
}

/// A running host.
pub(crate) struct Stage {
    host: Host,
    bus: Subscription,
    folder: Folder,
    /// Everything that came so far, and how much of it was waited for.
    pub(crate) seen: Vec<Seen>,
    looked_at: usize,
    /// The turn of the puppet that was looked at last: its life, its number, its time.
    last: (u64, u64, u64),
    fences: u32,
}

/// The channel's parts that differ between tests, in TOML.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// Of `settings.rules`.
    pub(crate) rules: &'a str,
    /// Further keys of the channel.
    pub(crate) keys: &'a str,
    pub(crate) restart: &'a str,
    /// Further tables of the channel.
    pub(crate) tables: &'a str,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            rules: "",
            keys: "",
            restart: r#"max_attempts = 1000, delay = "0s", jitter = 0"#,
            tables: "",
        }
    }
}

impl Plan<'_> {
    pub(crate) fn toml(&self) -> String {
        let Self {
            rules,
            keys,
            restart,
            tables,
        } = self;
        let driver = path("puppet");
        let driver = driver.display();
        // The journal lies on a device of its own, to which another link leads that nobody opens: so it is told
        // whatever becomes of the link under test.
        let (link, desk) = if keys.contains("links.plc") {
            (
                r#"links.second = { connect = "tcp://127.0.0.1:9" }"#,
                r#"link = "second""#,
            )
        } else {
            ("", "")
        };
        format!(
            r#"
[[channel]]
id = "stage"
driver = "{driver}"
settings = {{ rules = [{rules}] }}
restart = {{ {restart} }}
{keys}
{link}
[[channel.device]]
name = "stage"
[[channel.device]]
name = "desk"
{desk}
{tables}
[[channel.tag]]
name = "journal"
device = "desk"
address = "journal"
type = "string"
[[channel.tag]]
name = "strings"
device = "desk"
address = "strings"
type = "string"
access = "w"
[[channel.tag]]
name = "level"
device = "stage"
address = "level"
type = "int32"
[[channel.tag]]
name = "label"
device = "desk"
address = "label"
type = "string"
access = "rw"
[[channel.tag]]
name = "row"
device = "stage"
address = "row"
type = "float64[3]"
"#
        )
    }
}

impl Stage {
    /// Starts it, and waits until the puppet has been told `started`.
    pub(crate) async fn start(plan: Plan<'_>) -> Self {
        let mut stage = Self::start_in(Folder::new().unwrap(), &plan.toml())
            .await
            .unwrap_or_else(|(_, error)| panic!("{error}"));
        stage.event("started").await;
        stage
    }

    /// Starts a host with this configuration.
    pub(crate) async fn start_in(folder: Folder, toml: &str) -> Result<Self, (Folder, StartError)> {
        let config = parsed(&folder, toml);
        let bus = Bus::new();
        let subscription = bus.subscribe(100_000);
        let store = match Host::open_store(&config.value).await {
            Ok(store) => store,
            Err(error) => return Err((folder, error)),
        };
        match Host::start_with(config, Compiler::InProcess, (store, bus), &|_| {}).await {
            Ok(host) => Ok(Self {
                host,
                bus: subscription,
                folder,
                seen: Vec::new(),
                looked_at: 0,
                last: (0, 0, 0),
                fences: 0,
            }),
            Err(error) => Err((folder, error)),
        }
    }

    /// Stops the host, and starts another one on the same folder.
    pub(crate) async fn start_again(self, plan: Plan<'_>) -> Self {
        self.host.stop(PATIENCE).await;
        let Self {
            host, bus, folder, ..
        } = self;
        drop((host, bus));
        Self::start_in(folder, &plan.toml())
            .await
            .unwrap_or_else(|(_, error)| panic!("{error}"))
    }

    /// Has the host take up this configuration.
    pub(crate) async fn reload(&self, toml: &str) -> Result<Reloaded, ReloadError> {
        let config = parsed(&self.folder, toml);
        self.host.reload(config, false, &|_| {}).await
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn channel(&self) -> Arc<ChannelHandle> {
        self.host.channels()[0].clone()
    }

    /// The id of a tag, as the driver knows it.
    pub(crate) fn tag(&self, name: &str) -> u32 {
        self.tag_id(name).0
    }

    pub(crate) fn tag_id(&self, name: &str) -> TagId {
        self.channel().tag_id(name).unwrap()
    }

    /// A step that publishes a good `level`.
    pub(crate) fn level(&self, value: i64) -> Json {
        json!({ "publish": { "tag": self.tag("level"), "value": { "int": value } } })
    }

    /// Makes the puppet do these steps in one turn; gives its answer.
    pub(crate) async fn obey(&self, steps: &[Json]) -> Result<Option<Value>, RequestError> {
        let text = Json::from(steps).to_string();
        let strings = self.tag_id("strings");
        self.channel()
            .write(strings, Value::Text(text.into()), false, PATIENCE, WRITER)
            .await
    }

    /// As [`Stage::obey`], where the turn goes well. The answer stands before the steps, so they may be on their way still:
    /// [`Stage::catch_up`] waits for them.
    pub(crate) async fn must(&self, steps: &[Json]) {
        assert_eq!(self.obey(steps).await, Ok(None), "{steps:?}");
    }

    /// As [`Stage::obey`], where the turn ends the incarnation in this way; gives the sentence.
    pub(crate) async fn fault(&mut self, steps: &[Json], kind: ExitKind) -> String {
        assert_eq!(
            self.obey(steps).await,
            Err(RequestError::Restarted),
            "{steps:?}"
        );
        let exit = self.exit().await;
        assert_eq!(exit.kind, kind, "{steps:?}: {exit}");
        exit.sentence
    }

    /// The first thing after the one that was waited for last of which `wanted` makes something.
    pub(crate) async fn wait<T>(&mut self, mut wanted: impl FnMut(&Seen) -> Option<T>) -> T {
        let wait = async {
            loop {
                while let Some(seen) = self.seen.get(self.looked_at) {
                    self.looked_at += 1;
                    if let Some(found) = wanted(seen) {
                        return found;
                    }
                }
                self.receive().await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => panic!("it never came; what came: {:#?}", self.seen),
        }
    }

    /// The next event of this kind, with the page that it stands on.
    pub(crate) async fn page(&mut self, kind: &str) -> (Json, Json) {
        self.wait(|seen| match seen {
            Seen::Told { event, page } => {
                (event["kind"] == kind).then(|| (Json::clone(page), event.clone()))
            }
            _ => None,
        })
        .await
    }

    /// The next event of this kind that the puppet is told.
    pub(crate) async fn event(&mut self, kind: &str) -> Json {
        self.page(kind).await.1
    }

    /// The next end of an incarnation.
    pub(crate) async fn exit(&mut self) -> Exit {
        self.wait(|seen| match seen {
            Seen::Exit(exit) => Some(exit.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until the channel is in this state.
    pub(crate) async fn state(&self, state: State) {
        let mut watch = self.channel().watch();
        let reached = watch.wait_for(|status| status.state == state);
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(reached) => drop(reached.unwrap()),
            Err(_) => panic!("it is never {state}: {:?}", self.channel().status()),
        }
    }

    /// Waits until the channel's status is like this.
    pub(crate) async fn status(&self, reached: impl Fn(&ChannelStatus) -> bool) {
        let mut watch = self.channel().watch();
        let reached = watch.wait_for(|status| reached(status));
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(reached) => drop(reached.unwrap()),
            Err(_) => panic!("it never is: {:?}", self.channel().status()),
        }
    }

    /// Looks at all that has come out until now: makes the puppet publish a fence, and waits for that.
    pub(crate) async fn catch_up(&mut self) {
        self.fences += 1;
        let fence = format!("fence {}", self.fences);
        let publish =
            json!({ "tag": self.tag("label"), "value": { "text": fence }, "quality": "uncertain" });
        self.must(&[json!({ "publish": publish })]).await;
        self.wait(|seen| match seen {
            Seen::Sample { value, .. } => {
                (*value == Some(Value::Text(fence.clone().into()))).then_some(())
            }
            _ => None,
        })
        .await;
    }

    /// Takes the next message.
    async fn receive(&mut self) {
        let message = match self.bus.next().await {
            Some(Received::Message(message)) => message,
            Some(Received::Gap(missed)) => panic!("{missed:?}"),
            None => panic!("the host is gone; what came: {:#?}", self.seen),
        };
        match message {
            Message::Samples(batch) => {
                for sample in &batch.samples {
                    self.take_sample(sample);
                }
            }
            Message::Event(event) => {
                self.seen.push(match &event.what {
                    Happened::Exit(exit) => Seen::Exit(exit.clone()),
                    Happened::Alarm {
                        code,
                        severity,
                        active,
                        device,
                        source_time,
                        ..
                    } => Seen::Alarm {
                        code: code.clone(),
                        severity: *severity,
                        active: *active,
                        device: device.clone(),
                        source_time: *source_time,
                    },
                    Happened::Dropped { count, .. } => Seen::Skipped(*count),
                    _ => return,
                });
            }
        }
    }

    fn take_sample(&mut self, sample: &Sample) {
        let tag = self.channel().tags().tags()[sample.tag.index()]
            .name
            .to_string();
        match (tag.as_str(), &sample.value, sample.quality) {
            ("journal", Some(Value::Text(text)), Quality::Uncertain) => {
                let page: Json = serde_json::from_str(text).unwrap();
                self.last = check(&page, self.last);
                self.seen.push(Seen::Page(page.clone()));
                let page = Arc::new(page);
                for event in events(&page) {
                    self.seen.push(Seen::Told {
                        event: event.clone(),
                        page: page.clone(),
                    });
                }
            }
            // Marked by the host.
            ("journal", ..) => {}
            (_, value, quality) => self.seen.push(Seen::Sample {
                tag,
                value: value.clone(),
                quality,
            }),
        }
    }

    /// The values of `level` with this quality that were seen so far.
    pub(crate) fn levels(&self, wanted: Quality) -> Vec<i64> {
        let level = |seen: &Seen| match seen {
            Seen::Sample {
                tag,
                value: Some(Value::Int(value)),
                quality,
                ..
            } if tag == "level" && *quality == wanted => Some(*value),
            _ => None,
        };
        self.seen.iter().filter_map(level).collect()
    }

    /// All events of this kind that the puppet was told of so far.
    pub(crate) fn told(&self, kind: &str) -> Vec<Json> {
        self.told_where(|event| event["kind"] == kind)
    }

    /// All such events that the puppet was told of so far.
    pub(crate) fn told_where(&self, wanted: impl Fn(&Json) -> bool) -> Vec<Json> {
        let told = self.seen.iter().filter_map(|seen| match seen {
            Seen::Told { event, .. } if wanted(event) => Some(event.clone()),
            _ => None,
        });
        told.collect()
    }
}

/// A configuration for a host in this folder.
fn parsed(folder: &Folder, toml: &str) -> Checked<config::Host> {
    let file = folder.write_config(toml).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let origin = Origin {
        name: file.display().to_string(),
        folder: folder.path().to_owned(),
    };
    config::parse(&text, &origin).unwrap_or_else(|faults| panic!("{text}\n{faults}"))
}

/// The events of a page.
pub(crate) fn events(page: &Json) -> impl Iterator<Item = &Json> {
    page["events"].as_array().unwrap().iter()
}

/// What holds of every turn, in every test; gives its life, its number and its time.
fn check(page: &Json, last: (u64, u64, u64)) -> (u64, u64, u64) {
    let number = |of: &Json, key: &str| of[key].as_u64().unwrap();
    let (life, turn, now) = (
        number(page, "life"),
        number(page, "turn"),
        number(page, "now"),
    );
    let expected = if life == last.0 { last.1 + 1 } else { 1 };
    assert_eq!(turn, expected, "a turn was lost: {page}");
    assert!(life >= last.0, "incarnations ascend: {page}");
    assert!(now >= last.2, "the clock never goes back: {page}");
    let count = events(page).count();
    assert!((1..=256).contains(&count), "{count} events: {page}");
    for (place, event) in events(page).enumerate() {
        assert!(number(event, "at") <= now, "not after `now`: {page}");
        assert_eq!(
            event["kind"] == "started",
            (turn, place) == (1, 0),
            "`started` is the first event, and comes once: {page}"
        );
    }
    (life, turn, now)
}
