//! A Modbus client, as a Bulkhead driver: Modbus TCP, and RTU over serial lines or streams.
//!
//! What it does: reads coils, discrete inputs, input and holding registers of any number of units behind one connection
//! (functions 1 to 4), in the fewest requests that the limits allow, and writes coils and holding registers (5, 6,
//! 15, 16, 22, 23); asks a unit what it is (43/14). What it does not do: ASCII, and the functions that no tag needs.
//!
//! The map, from the pure to the driver:
//!
//! | file | knows |
//! |---|---|
//! | `address`, `order`, `value`, `encode`, `point` | how a tag is written down, and what its bytes mean |
//! | `pdu`, `exception` | what is asked and answered |
//! | `framing`, `mbap`, `rtu` | how that travels: Modbus TCP, and RTU as on serial lines |
//! | `plan`, `layout` | which requests read a set of tags, and what a unit was found to lack |
//! | `settings`, `site`, `schedule`, `unit` | the configuration, checked and laid out |
//! | `line`, `wire`, `failure` | one request and its answer, over a connection that may break |
//! | `calling` | units that call in, and who they are |
//! | `cycle`, `write`, `identify`, `browse`, `test_read` | reading a group or some tags; writing one; asking a unit what it is, and what it has; reading what is no tag |
//! | `driver` | the trait that the SDK calls |
//!
//! None of them knows a socket, a clock or a thread: `line` awaits bytes and time of the SDK, everything above it is
//! ordinary code. Start with `driver`, then `cycle`.
//!
//! Two promises shape it. *A value is good only if its bytes came in this cycle, in the one answer that the request
//! allows.* And *what is wrong with one tag or unit costs the others as little as can be*: `cycle` says how little.

pub mod address;
pub mod browse;
pub mod calling;
pub mod cycle;
pub mod driver;
pub mod encode;
pub mod exception;
pub mod failure;
pub mod framing;
pub mod identify;
pub mod layout;
pub mod line;
pub mod mbap;
pub mod order;
pub mod pdu;
pub mod plan;
pub mod point;
pub mod rtu;
pub mod schedule;
pub mod settings;
pub mod site;
pub mod test_read;
pub mod unit;
pub mod value;
mod wire;
pub mod write;

pub use driver::Modbus;

bulkhead_sdk::export!(Modbus);
