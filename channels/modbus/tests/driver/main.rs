//! The driver as the host sees it: events in, actions out, and bytes at the other end of its link.
//!
//! The plant at that end is written from the specification, not from the driver, so that a mistake in one is not
//! hidden by the same one in the other.

mod at_once;
mod browsing;
mod calling;
mod configuration;
mod exceptions;
mod identifying;
mod malformed;
mod plant;
mod polling;
mod rtu;
mod silence;
mod test_reading;
mod writing;
