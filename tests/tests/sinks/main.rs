//! Samples on their way to where they are kept: real servers, crashes and outages.
#![expect(
    clippy::unwrap_used,
    reason = "in what only tests call, a panic is the failure of the test"
)]

mod ledger;
mod mqtt;
mod nats;
mod postgres;
