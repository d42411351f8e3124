//! A host for native tests of a driver: a configuration in a few lines, scripted peers, and a clock that obeys.
//!
//! [`FakeHost`] runs a [`Driver`](crate::Driver) by turns, as the real host does, but in no time: its clock moves only
//! when a test says so, or to the next timer while a test waits for an answer. Every action list is
//! held against the rules of `wit/actions.wit`; one that the real host would refuse fails the test, and
//! so does a request that is answered twice, or not at all.
//!
//! ```
//! use std::time::Duration;
//! use bulkhead_sdk::testing::{FakeHost, Setup};
//! # use bulkhead_sdk::*;
//! # struct Echo { context: Context, plc: Connection, tag: TagId }
//! # impl Driver for Echo {
//! #     type Settings = NoSettings;
//! #     type DeviceSettings = NoSettings;
//! #     type TagSettings = NoSettings;
//! #     fn info() -> Info {
//! #         Info { name: "echo", version: "0.1.0", protocol: "", address_help: "",
//! #             links: &[LinkWish { name: "plc", kinds: &["tcp"], required: true }],
//! #             can: Capabilities::empty() }
//! #     }
//! #     fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
//! #         let plc = config.link("plc").expect("required").open();
//! #         Ok(Self { context, plc, tag: config.tags[0].id })
//! #     }
//! #     async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
//! #         let stream = self.plc.stream()?;
//! #         stream.write_all(b"?").await?;
//! #         let reply = stream.read_array::<2>();
//! #         let Ok(reply) = self.context.timeout(Duration::from_secs(1), reply).await else {
//! #             stream.reset();
//! #             return Err(Elapsed.into());
//! #         };
//! #         let value = Some(Value::Uint(u16::from_be_bytes(reply?).into()));
//! #         self.context.publish(vec![Sample { tag: self.tag, value,
//! #             quality: Quality::Good, source_time_ns: None }]);
//! #         let mut report = PollReport::default();
//! #         report.answered(Duration::ZERO);
//! #         Ok(report)
//! #     }
//! # }
//! let setup = Setup::new()
//!     .link("plc", "tcp")
//!     .tag("level", "0", "uint16")
//!     .group("fast", Duration::from_millis(100), &["level"]);
//! let mut host = FakeHost::<Echo>::start(setup).expect("the configuration is in order");
//!
//! // A peer that answers each request.
//! host.peer("plc", |request| match request {
//!     b"?" => vec![0x01, 0x02],
//!     _ => Vec::new(),
//! });
//! assert_eq!(host.poll("fast").failed, 0);
//! assert_eq!(host.value("level"), Some(Value::Uint(0x0102)));
//!
//! // A peer that is silent: the clock moves on to the driver's own timeout.
//! host.peer("plc", |_| Vec::new());
//! assert_eq!(host.poll("fast").failed, 1);
//! assert_eq!(host.quality("level"), Some(Quality::BadTimeout));
//!
//! host.stop();
//! ```

mod host;
mod ledger;
mod setup;
mod world;

pub use host::FakeHost;
pub use ledger::Answer;
pub use setup::Setup;
