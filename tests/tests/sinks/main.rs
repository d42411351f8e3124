//! Samples on their way to where they are kept: real servers, crashes and outages.

mod damage;
mod ledger;
mod mqtt;
mod nats;
mod postgres;
