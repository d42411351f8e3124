//! Drivers that do as they are told.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test binary uses another part of this module"
)]

use std::cell::RefCell;
use std::time::Duration;

use bulkhead_sdk::testing::Setup;
use bulkhead_sdk::*;

/// One thing that a [`Probe`] does in a handler. What it reads it logs.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Wait for a stream; else the first send or read takes the one that is there.
    Opened,
    Send(&'static [u8]),
    /// Bytes that count from 0.
    SendMany(usize),
    ReadExact(usize),
    ReadUntil(u8, usize),
    ReadWithin(usize, Duration),
    Reset,
    Sleep(Duration),
    /// Held to the end, or to `Unlock`.
    Lock(Priority),
    Unlock,
    Say(&'static str),
    Fail,
    Forever,
}

/// What a [`Probe`] does when.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub start: Vec<Step>,
    pub poll: Vec<Step>,
    pub write: Vec<Step>,
    pub stop: Vec<Step>,
}

thread_local! {
    /// For the next `configure` on this thread.
    static PLAN: RefCell<Plan> = RefCell::default();
}

/// A channel with one link, `line`, and one tag, `tag`, whose polls do this.
pub fn probe(poll: &[Step]) -> Setup {
    planned(Plan {
        poll: poll.to_vec(),
        ..Plan::default()
    })
}

/// A channel with one link, `line`, and one tag, `tag`, whose handlers do this.
pub fn planned(plan: Plan) -> Setup {
    PLAN.set(plan);
    Setup::new()
        .link("line", "tcp")
        .tag("tag", "", "uint8")
        .writable()
}

/// A driver that does as it is told.
pub struct Probe {
    context: Context,
    line: Connection,
    lock: RequestLock<()>,
    plan: Plan,
}

impl Driver for Probe {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "probe",
            version: "0.1.0",
            protocol: "none",
            address_help: "",
            links: &[LinkWish {
                name: "line",
                kinds: &["tcp"],
                required: true,
            }],
            can: Capabilities::WRITE,
        }
    }

    fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
        let line = config.link("line").expect("required").open();
        let mut faults = Faults::new();
        for tag in &config.tags {
            if tag.address == "bad" {
                faults.push(tag.fault("address", "bad"));
            }
        }
        context.spawn({
            let context = context.clone();
            async move { context.info("spawned by configure") }
        });
        faults.into_result(Self {
            context,
            line,
            lock: RequestLock::default(),
            plan: PLAN.take(),
        })
    }

    async fn start(&self, start: Start) -> Result<(), Error> {
        self.context.info(format!(
            "incarnation {} {:?}",
            start.incarnation, start.reason
        ));
        self.follow(&self.plan.start).await
    }

    async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
        self.follow(&self.plan.poll).await?;
        Ok(PollReport::default())
    }

    async fn write(&self, write: Write) -> Result<Option<Value>, Error> {
        self.follow(&self.plan.write).await?;
        Ok(Some(write.value))
    }

    async fn stop(&self, _stop: Stop) {
        if let Err(error) = self.follow(&self.plan.stop).await {
            self.context.error(error.to_string());
        }
    }
}

impl Probe {
    async fn follow(&self, steps: &[Step]) -> Result<(), Error> {
        let mut kept: Option<Stream> = None;
        let mut held = None;
        for step in steps {
            let stream = match (&kept, step) {
                (_, Step::Opened) => Some(self.line.opened().await?),
                (None, step) if step.needs_a_stream() => Some(self.line.stream()?),
                _ => kept.take(),
            };
            if let Some(stream) = &stream {
                self.follow_stream(stream, *step).await?;
            }
            kept = stream;
            match *step {
                Step::Sleep(duration) => self.context.sleep(duration).await,
                Step::Lock(priority) => held = Some(self.lock.lock(priority).await),
                Step::Unlock => held = None,
                Step::Say(text) => self.context.info(text),
                Step::Fail => return Err(Error::new("told to fail").with_code(7)),
                Step::Forever => std::future::pending().await,
                _ => {}
            }
        }
        drop(held);
        Ok(())
    }

    async fn follow_stream(&self, stream: &Stream, step: Step) -> Result<(), Error> {
        let read = match step {
            Step::Send(bytes) => return Ok(stream.write_all(bytes).await?),
            Step::SendMany(count) => {
                let bytes: Vec<u8> = (0..count).map(|i| i as u8).collect();
                return Ok(stream.write_all(&bytes).await?);
            }
            Step::ReadExact(count) => stream.read_exact(count).await?,
            Step::ReadUntil(delimiter, max) => stream.read_until(delimiter, max).await?,
            Step::ReadWithin(count, time) => {
                let read = stream.read_exact(count);
                self.context.timeout(time, read).await??
            }
            Step::Reset => {
                stream.reset();
                return Ok(());
            }
            _ => return Ok(()),
        };
        let text = String::from_utf8_lossy(&read[..read.len().min(16)]).into_owned();
        self.context.info(format!("read {text}"));
        Ok(())
    }
}

impl Step {
    fn needs_a_stream(&self) -> bool {
        matches!(
            self,
            Self::Send(_)
                | Self::SendMany(_)
                | Self::ReadExact(_)
                | Self::ReadUntil(..)
                | Self::ReadWithin(..)
                | Self::Reset
        )
    }
}

/// A driver on whose link devices call in: each is answered in its own task.
pub struct Porter {
    context: Context,
    door: std::rc::Rc<Listener>,
}

impl Driver for Porter {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "porter",
            links: &[],
            ..Probe::info()
        }
    }

    fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
        let door = config.link("door").expect("granted by the test").listen();
        Ok(Self {
            context,
            door: std::rc::Rc::new(door),
        })
    }

    async fn start(&self, _start: Start) -> Result<(), Error> {
        loop {
            let caller = self.door.accept().await?;
            self.context.spawn(async move {
                let Ok(stream) = caller.stream() else { return };
                let Ok(word) = stream.read_exact(3).await else {
                    return;
                };
                let word = String::from_utf8_lossy(&word);
                let answer = format!("{word} from {}", stream.peer());
                if stream.write_all(answer.as_bytes()).await.is_ok() {
                    std::future::pending::<()>().await;
                }
            });
        }
    }

    async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
        Ok(PollReport::default())
    }
}

/// A driver that opens its link if it is told to.
pub struct Fickle {
    _line: Option<Connection>,
}

/// Whether to open.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FickleSettings {
    open: bool,
}

impl Driver for Fickle {
    type Settings = FickleSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Probe::info()
    }

    fn configure(config: Config<Self>, _context: Context) -> Result<Self, Faults> {
        let open = config.settings.open;
        let line = config.link("line").filter(|_| open).map(Link::open);
        Ok(Self { _line: line })
    }

    async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
        Ok(PollReport::default())
    }
}
