//! Hostile guests against a whole host: `docs/HOSTILE.md` lists the cases, and which test shows each.
//!
//! In every case the same host process goes on, the neighbours miss nothing (counted at their device), memory stays within the
//! quota of the channel and the host's own share that `docs/LIMITS.md` states, and the operator reads a typed reason under
//! the instance id.

mod bounds;
mod files;
mod plant;
mod ports;
mod running;
mod table;
mod traps;

/// One test at a time: each counts what reaches a device within a period, and would slow the others down.
static MACHINE: std::sync::Mutex<()> = std::sync::Mutex::new(());
