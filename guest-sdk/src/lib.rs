//! Write a Bulkhead driver as plain async Rust.
//!
//! A driver speaks one protocol. It is compiled to a WebAssembly component and runs inside hard limits, with no way
//! to reach anything but the links that its operator granted. The host owns every socket, timer and poll schedule; it calls
//! the driver with a batch of *events* (a group is due, bytes arrived), and the driver returns a batch of *actions* (send this,
//! publish that). That is one *turn*. Nothing blocks, so nothing can hang.
//!
//! State machines are no pleasure to write, so this crate hides them. You implement [`Driver`] with `async fn`s that wait
//! for bytes, for time, for each other; a small executor turns each wait into the end of a turn.
//!
//! # A whole driver
//!
//! A thermometer with several probes, over TCP. `T3\n` asks for probe 3 and is answered by degrees, as in `21.5\n`; `S3 20.0\n`
//! moves its setpoint, and is answered by `ok\n`.
//!
//! ```
//! use std::time::Duration;
//!
//! use bulkhead_sdk::*;
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//!
//! /// What the operator may set: unknown keys and wrong types are found and named by the SDK.
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields, default)]
//! struct Settings {
//!     /// How long to wait for an answer, in milliseconds.
//!     timeout_ms: u64,
//! }
//!
//! impl Default for Settings {
//!     fn default() -> Self {
//!         Self { timeout_ms: 1000 }
//!     }
//! }
//!
//! struct Thermometer {
//!     context: Context,
//!     /// One question at a time; a write overtakes the polls that wait.
//!     line: RequestLock<Connection>,
//!     timeout: Duration,
//!     /// The number of the probe that each tag stands for.
//!     probes: Vec<(TagId, u8)>,
//! }
//!
//! impl Driver for Thermometer {
//!     type Settings = Settings;
//!     type DeviceSettings = NoSettings;
//!     type TagSettings = NoSettings;
//!
//!     fn info() -> Info {
//!         Info {
//!             name: "thermometer",
//!             version: env!("CARGO_PKG_VERSION"),
//!             protocol: "Thermometer line protocol",
//!             address_help: "The number of a probe, from 0 to 255",
//!             links: &[LinkWish { name: "line", kinds: &["tcp", "serial"], required: true }],
//!             can: Capabilities::WRITE,
//!         }
//!     }
//!
//!     fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
//!         let mut faults = Faults::new();
//!         let mut probes = Vec::new();
//!         for tag in &config.tags {
//!             match tag.address.parse() {
//!                 Ok(probe) => probes.push((tag.id, probe)),
//!                 Err(_) => faults.push(tag.fault("address", "no probe; write a number up to 255")),
//!             }
//!         }
//!         let line = config.link("line").expect("the SDK has checked required links").open();
//!         faults.into_result(Self {
//!             context,
//!             line: RequestLock::new(line),
//!             timeout: Duration::from_millis(config.settings.timeout_ms),
//!             probes,
//!         })
//!     }
//!
//!     async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
//!         let mut report = PollReport::default();
//!         let mut samples = Vec::new();
//!         for (tag, probe) in &self.probes {
//!             let asked = self.context.now();
//!             // Between two questions the lock is free, so that a write need not wait for all of them.
//!             let (value, quality) = match self.ask(Priority::Poll, format!("T{probe}\n")).await {
//!                 Ok(degrees) => {
//!                     report.answered(self.context.now() - asked);
//!                     (degrees.parse().ok().map(Value::Float), Quality::Good)
//!                 }
//!                 Err(error) => {
//!                     report.failed();
//!                     (None, error.quality)
//!                 }
//!             };
//!             // A sample without a value is bad, never a guess.
//!             let quality = if value.is_none() { quality.max(Quality::Bad) } else { quality };
//!             samples.push(Sample { tag: *tag, value, quality, source_time_ns: None });
//!         }
//!         self.context.publish(samples);
//!         Ok(report)
//!     }
//!
//!     async fn write(&self, write: Write) -> Result<Option<Value>, Error> {
//!         let probe = self.probes.iter().find(|(tag, _)| *tag == write.tag);
//!         let (Some((_, probe)), Value::Float(degrees)) = (probe, write.value) else {
//!             return Err(Error::new("a setpoint is a float"));
//!         };
//!         match self.ask(Priority::Write, format!("S{probe} {degrees:.1}\n")).await?.as_str() {
//!             "ok" => Ok(None),
//!             refusal => Err(Error::new(format!("the thermometer answered {refusal}"))),
//!         }
//!     }
//! }
//!
//! impl Thermometer {
//!     /// One question, one answer.
//!     async fn ask(&self, priority: Priority, question: String) -> Result<String, Error> {
//!         let line = self.line.lock(priority).await;
//!         let stream = line.stream()?;
//!         let exchange = async {
//!             stream.write_all(question.as_bytes()).await?;
//!             stream.read_until(b'\n', 80).await
//!         };
//!         match self.context.timeout(self.timeout, exchange).await {
//!             Ok(Ok(answer)) => Ok(String::from_utf8_lossy(&answer).trim_end().to_owned()),
//!             // A late answer must not be taken for that to the next question: begin with a new stream.
//!             Ok(Err(error)) => {
//!                 stream.reset();
//!                 Err(error.into())
//!             }
//!             Err(elapsed) => {
//!                 stream.reset();
//!                 Err(elapsed.into())
//!             }
//!         }
//!     }
//! }
//!
//! // Makes the crate a component; natively it only checks that this is a driver.
//! bulkhead_sdk::export!(Thermometer);
//!
//! // A driver is ordinary Rust, so a native test needs neither hardware nor a sandbox.
//! use bulkhead_sdk::testing::{FakeHost, Setup};
//!
//! let setup = Setup::new().link("line", "tcp").tag("oven", "3", "float64").writable();
//! let mut host = FakeHost::<Thermometer>::start(setup).expect("no faults");
//! host.peer("line", |question| match question {
//!     b"T3\n" => b"21.5\n".to_vec(),
//!     b"S3 20.0\n" => b"ok\n".to_vec(),
//!     _ => Vec::new(),
//! });
//! host.poll("all");
//! assert_eq!(host.value("oven"), Some(Value::Float(21.5)));
//! assert_eq!(host.write("oven", Value::Float(20.0)), Ok(None));
//! host.stop();
//! ```
//!
//! # What to know
//!
//! - **Handlers run concurrently**, on one thread. They take `&self`; state lives in `Cell` and `RefCell`, never borrowed across an
//!   `.await`. What must not be interleaved takes a [`RequestLock`], in which a waiting write overtakes waiting polls.
//! - **You return, the SDK answers**: exactly once, also when a request is cancelled, the driver stopped or the configuration changed.
//!   See [`Driver`].
//! - **A connection outlives its streams.** The host dials, and goes on dialling. A [`Stream`] is one life of a [`Connection`]; when
//!   it has ended, every call on it answers [`Closed`], and no reply of the old stream can turn up on the new one.
//! - **Clocks stand still within a turn.** Time passes only while you wait. No clock, thread, file, socket or random number of the
//!   standard library is of use here: what the host gives is in [`Context`].
//! - **The same events give the same actions.** Nothing here depends on addresses, hashes or the real time.
//! - **A panic ends the incarnation**, with its message in the host's log, and so does an error from [`Driver::start`]; the host starts
//!   the next one. The failure of a request is an answer, no reason to panic.
//! - **Everything is bounded.** One turn by fuel and a deadline, the input of a stream by [`MAX_READ`] and by
//!   pausing the peer, what is on its way by the send window, memory by the operator's limit.
//!
//! # Where things are
//!
//! [`abi`] has the types that cross the boundary, and [`Runtime`] runs a driver by hand, natively or in
//! a component; [`testing`] has a host for tests.

pub mod abi;
pub mod browse;
mod combine;
mod config;
mod context;
mod data_type;
mod driver;
mod error;
mod executor;
mod link;
mod lock;
mod notice;
mod random;
mod runtime;
mod shared;
pub mod testing;
mod time;
mod wakers;

#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "channel",
        additional_derives: [PartialEq],
        generate_all,
        generate_unused_types: true,
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "::bulkhead_sdk::bindings",
    });
}

pub use abi::{
    Capabilities, CloseReason, DeviceCondition, DeviceId, GroupId, Level, LinkId, Outlook, Quality,
    RequestId, Sample, Severity, StartReason, StopReason, TagId, Value,
};
pub use combine::{Either, join, join_all, select};
pub use config::{Config, Device, Fault, Faults, Group, NoSettings, Tag};
pub use context::Context;
pub use data_type::{DataType, NotADataType, Scalar};
pub use driver::{
    Command, CommandInfo, Driver, Info, LinkWish, Poll, PollReport, Read, Start, Stop, Write,
};
pub use error::{Closed, Elapsed, Error, LinkError, NotDurable, StartTlsError};
pub use link::{Connection, Datagram, Link, Listener, MAX_READ, Stream};
pub use lock::{Acquire, Priority, RequestGuard, RequestLock};
pub use notice::{Alarm, Metric};
pub use runtime::Runtime;
pub use shared::LogLine;
pub use time::{Instant, Sleep, WallTime};

/// Makes a crate a component: exports a [`Driver`]. Natively it only checks that the type is one, so that many drivers link into one
/// binary.
#[macro_export]
macro_rules! export {
    () => {
        ::std::compile_error!("name the driver: `bulkhead_sdk::export!(MyDriver);`");
    };
    ($driver:ty, $($more:tt)+) => {
        ::std::compile_error!(
            "a component is one driver: export one type, and give the others a crate of their own"
        );
    };
    ($driver:ty $(,)?) => {
        const _: () = {
            const fn is_a_driver<D: $crate::Driver>() {}
            is_a_driver::<$driver>();
        };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;

            ::std::thread_local! {
                static RUNTIME: ::std::cell::RefCell<$crate::Runtime<$driver>> =
                    ::std::cell::RefCell::new($crate::Runtime::new());
            }

            impl $crate::bindings::exports::bulkhead::channel::driver::Guest for Component {
                fn describe() -> $crate::abi::DriverInfo {
                    $crate::Runtime::<$driver>::describe()
                }

                fn configure(
                    config: $crate::abi::ChannelConfig,
                ) -> ::std::result::Result<(), ::std::vec::Vec<$crate::abi::ConfigFault>> {
                    RUNTIME.with_borrow_mut(|runtime| runtime.configure(config))
                }

                fn turn(
                    now: $crate::abi::Instant,
                    events: ::std::vec::Vec<$crate::abi::Event>,
                ) -> ::std::result::Result<::std::vec::Vec<$crate::abi::Action>, $crate::abi::Error>
                {
                    RUNTIME.with_borrow_mut(|runtime| runtime.turn(now, events))
                }
            }

    $crate::bindings::export_component!(Component with_types_in $crate::bindings);
        };
    };
}
