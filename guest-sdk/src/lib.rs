//! Write a Bulkhead driver as plain async Rust.

pub mod abi;
mod combine;
mod config;
mod context;
mod data_type;
mod driver;
mod error;
mod executor;
mod link;
mod lock;
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
    Capabilities, CloseReason, DeviceCondition, DeviceId, GroupId, Level, LinkId, Quality,
    RequestId, Sample, StartReason, TagId, Value,
};
pub use combine::{Either, join, join_all, select};
pub use config::{Config, Device, Fault, Faults, Group, NoSettings, Tag};
pub use context::Context;
pub use data_type::{DataType, NotADataType, Scalar};
pub use driver::{Command, Driver, Info, LinkWish, Poll, PollReport, Read, Start, Write};
pub use error::{Closed, Elapsed, Error, LinkError};
pub use link::{Connection, Link, Listener, MAX_READ, Stream};
pub use lock::{Acquire, Priority, RequestGuard, RequestLock};
pub use runtime::Runtime;
pub use shared::LogLine;
pub use time::{Instant, Sleep, WallTime};

/// Makes a crate a component: exports a [`Driver`]. Expands to nothing natively, so that many drivers link into one binary.
#[macro_export]
macro_rules! export {
    ($driver:ty) => {
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
                    RUNTIME.with_borrow_mut(|runtime| runtime.configure(&config))
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
