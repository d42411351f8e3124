//! Sends back what it receives over its link `peer`, and keeps count of it over incarnations.
//!
//! Each tag is a text; its address says what it shows: `started` (why, in which incarnation and with which saved
//! state this life began), `peer` (who is at the other end, or `nobody`), `echoed` (bytes, those of earlier lives
//! included). The command `save` keeps the bytes that it is given as the state; `progress` answers after one report.

use std::cell::{Cell, RefCell};

use bulkhead_sdk::{
    Capabilities, Command, Config, Connection, Context, Driver, Error, Faults, Info, LinkWish,
    NoSettings, Poll, PollReport, Quality, Sample, Start, Tag, Value,
};

/// The driver.
pub struct Echo {
    tags: Vec<Tag<NoSettings>>,
    connection: Connection,
    context: Context,
    started: RefCell<String>,
    peer: RefCell<Option<String>>,
    echoed: Cell<u64>,
}

impl Driver for Echo {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "echo",
            version: env!("CARGO_PKG_VERSION"),
            protocol: "echo (RFC 862)",
            address_help: "`started`, `peer` or `echoed`",
            links: &[LinkWish {
                name: "peer",
                kinds: &["tcp"],
                required: true,
            }],
            can: Capabilities::COMMANDS,
        }
    }

    fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
        let link = config.link("peer").ok_or_else(|| {
            bulkhead_sdk::Fault::new("links.peer", "missing; grant it as `links.peer`")
        })?;
        Ok(Self {
            connection: link.open(),
            tags: config.tags,
            context,
            started: RefCell::default(),
            peer: RefCell::default(),
            echoed: Cell::new(0),
        })
    }

    async fn start(&self, start: Start) -> Result<(), Error> {
        let state = start.state.as_deref().map(String::from_utf8_lossy);
        let before = state
            .as_deref()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        self.echoed.set(before);
        self.started.replace(format!(
            "{:?} in incarnation {} with the state {}",
            start.reason,
            start.incarnation,
            state.as_deref().unwrap_or("none")
        ));
        loop {
            // Only a connection that is denied for good ends here.
            let stream = self.connection.opened().await.map_err(Error::from)?;
            self.peer.replace(Some(stream.peer().to_owned()));
            while let Ok(bytes) = stream.read_some(64 * 1024).await {
                self.echoed.set(self.echoed.get() + bytes.len() as u64);
                self.context
                    .save_state(self.echoed.get().to_string().into_bytes());
                if stream.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            self.peer.replace(None);
        }
    }

    async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
        let samples = self.tags.iter().map(|tag| {
            let text = match tag.address.as_str() {
                "started" => self.started.borrow().clone(),
                "peer" => self
                    .peer
                    .borrow()
                    .clone()
                    .unwrap_or_else(|| "nobody".to_owned()),
                _ => self.echoed.get().to_string(),
            };
            Sample {
                tag: tag.id,
                value: Some(Value::Text(text)),
                quality: Quality::Good,
                source_time_ns: None,
            }
        });
        self.context.publish(samples.collect());
        Ok(PollReport::default())
    }

    async fn command(&self, command: Command) -> Result<Vec<u8>, Error> {
        match command.name.as_str() {
            "save" => {
                self.context.save_state(command.payload.clone());
                Ok(command.payload)
            }
            "progress" => {
                self.context.progress(0.5, "half of it");
                Ok(command.payload)
            }
            other => Err(Error::not_supported(other)),
        }
    }
}

bulkhead_sdk::export!(Echo);
