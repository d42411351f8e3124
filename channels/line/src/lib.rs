//! A driver for sensors that speak one line at a time, over TCP or a serial line.
//!
//! Small and whole, so that it can be the first driver that one reads, and what `bulkhead new` begins with. The same driver
//! in Python stands in `channels/line-python`; both are held to the same tests.
//!
//! # The protocol
//!
//! Lines of ASCII that end in CR LF, at most 80 bytes with it. The sensor speaks only when asked, and answers each line with one:
//!
//! | asked | answered |
//! |---|---|
//! | `READ temp` | `OK 21.5`, or `ERR 4 probe broken` |
//! | `SET limit 30` | `OK`, or `ERR 5 at most 120` |
//!
//! The codes of errors: 1 not understood, 2 no such name, 3 cannot be set, 4 the sensor has failed, 5 out of range.
//!
//! - [`protocol`] writes questions and takes answers apart; it knows neither links nor tags;
//! - [`point`] turns a tag into a question, and the text of an answer into a value of its type;
//! - [`driver`] puts them together.
//!
//! What is left out: more than one sensor on a line, since the protocol has no addresses. Each sensor is a channel.

pub mod driver;
pub mod point;
pub mod protocol;

pub use driver::LineDriver;

bulkhead_sdk::export!(LineDriver);
