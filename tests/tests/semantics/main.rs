//! What the WIT says of events and actions, sentence by sentence, against a whole host in this process.
//!
//! The driver is the guest `puppet`: it does what a test writes to its tag `strings`, and tells in its tag `journal` what it was
//! told. So a test sees both sides: what came to the driver, and what came of its actions.
#![expect(
    clippy::unwrap_used,
    reason = "in what only tests call, a panic is the failure of the test"
)]

mod atomic;
mod batches;
mod connections;
mod devices;
mod lives;
mod peer;
mod polls;
mod quality;
mod recovery;
mod refused;
mod reload;
mod requests;
mod stage;
mod state;
mod stopping;
mod streams;
mod texts;
mod words;
