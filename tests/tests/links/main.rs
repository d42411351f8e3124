//! Links against a whole host and real peers: `docs/LINKS.md` says what they do.

mod reconnection;
mod fleet;
mod outages;
