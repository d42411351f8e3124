//! Links against a whole host and real peers: `docs/LINKS.md` says what they do.

mod fleet;
mod given_up;
mod heartbeat;
mod journals;
mod network;
mod outages;
mod reconnection;
