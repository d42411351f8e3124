//! Links against a whole host and real peers: `docs/LINKS.md` says what they do.

mod fleet;
mod heartbeat;
mod journals;
mod outages;
mod reconnection;
