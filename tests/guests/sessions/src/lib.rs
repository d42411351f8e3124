//! Commands that set something up for the next, take long, never end, or end the driver.
//!
//! - `open` gives a session, as `{"session":1}`; `count` with such a payload counts in it, as `{"count":1}`; `close` ends it. A session
//!   lives as long as the incarnation.
//! - `echo` gives back its payload, whatever it is. `refuse` fails with a code and a trace. `forbidden` is not on the list.
//! - `steps` reports three times, 20 ms apart, and answers `"stepped"`.
//! - `hang` reports once and waits for ever; what is left of it when it is dropped counts as `dropped`.
//! - `slow` can no longer be taken back; it answers after 300 ms, and counts as `late` where nobody waited.
//! - `counts` tells what was `begun`, `dropped` and `late` in this incarnation.
//! - `trap` panics.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bulkhead_sdk::{
    Capabilities, Command, CommandInfo, Config, Context, Driver, Error, Faults, Info, NoSettings,
    Poll, PollReport,
};
use serde::Deserialize;

/// The driver.
pub struct Sessions {
    context: Context,
    sessions: RefCell<BTreeMap<u32, u32>>,
    opened: Cell<u32>,
    begun: Cell<u32>,
    dropped: Rc<Cell<u32>>,
    late: Cell<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    session: u32,
}

/// Counts when it is dropped.
struct Dropped(Rc<Cell<u32>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

impl Driver for Sessions {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "sessions",
            version: env!("CARGO_PKG_VERSION"),
            protocol: "none",
            address_help: "anything",
            links: &[],
            can: Capabilities::COMMANDS,
        }
    }

    fn commands() -> Vec<CommandInfo> {
        [
            ("open", "Opens a session. Answers {\"session\": number}."),
            (
                "count",
                "Counts in a session. Takes {\"session\": number}, answers {\"count\": number}.",
            ),
            ("close", "Ends a session. Takes {\"session\": number}."),
            ("echo", "Answers what it takes."),
            ("refuse", "Fails."),
            ("steps", "Reports three times."),
            ("hang", "Never ends by itself."),
            ("slow", "Ends late, whether anybody waits or not."),
            ("counts", "Tells what became of the others."),
            ("trap", "Ends the driver."),
        ]
        .map(|(name, help)| CommandInfo::new(name, help))
        .into()
    }

    fn configure(_config: Config<Self>, context: Context) -> Result<Self, Faults> {
        Ok(Self {
            context,
            sessions: RefCell::default(),
            opened: Cell::new(0),
            begun: Cell::new(0),
            dropped: Rc::default(),
            late: Cell::new(0),
        })
    }

    async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
        Ok(PollReport::default())
    }

    async fn command(&self, command: Command) -> Result<Vec<u8>, Error> {
        let context = &self.context;
        let pause = Duration::from_millis(20);
        match command.name.as_str() {
            "open" => {
                let session = self.opened.get() + 1;
                self.opened.set(session);
                self.sessions.borrow_mut().insert(session, 0);
                Ok(format!("{{\"session\":{session}}}").into())
            }
            "count" => {
                let Named { session } = command.json()?;
                let mut sessions = self.sessions.borrow_mut();
                let count = sessions.get_mut(&session).ok_or_else(|| unknown(session))?;
                *count += 1;
                Ok(format!("{{\"count\":{count}}}").into())
            }
            "close" => {
                let Named { session } = command.json()?;
                let closed = self.sessions.borrow_mut().remove(&session);
                closed.map(|_| Vec::new()).ok_or_else(|| unknown(session))
            }
            "echo" => Ok(command.payload),
            "refuse" => {
                let mut error = Error::new("the drawer is locked").with_code(17);
                error.trace = Some("drawer.rs:3".to_owned());
                Err(error)
            }
            "steps" => {
                for step in 1..=3u8 {
                    context.progress(f32::from(step) / 4.0, format!("step {step}"));
                    context.sleep(pause).await;
                }
                Ok(b"\"stepped\"".to_vec())
            }
            "hang" => {
                self.begun.set(self.begun.get() + 1);
                let _counted = Dropped(self.dropped.clone());
                context.progress(0.5, "half of it");
                std::future::pending().await
            }
            "slow" => {
                context.commit();
                self.begun.set(self.begun.get() + 1);
                context.progress(0.1, "no way back");
                context.sleep(Duration::from_millis(300)).await;
                if context.is_cancelled() {
                    self.late.set(self.late.get() + 1);
                }
                Ok(b"\"too late?\"".to_vec())
            }
            "counts" => {
                let (begun, dropped, late) =
                    (self.begun.get(), self.dropped.get(), self.late.get());
                let counts = format!("{{\"begun\":{begun},\"dropped\":{dropped},\"late\":{late}}}");
                Ok(counts.into())
            }
            "trap" => panic!("as it was told"),
            other => Err(Error::not_supported(other)),
        }
    }
}

fn unknown(session: u32) -> Error {
    Error::new(format!("there is no session {session}"))
}

bulkhead_sdk::export!(Sessions);
