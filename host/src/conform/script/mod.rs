//! Scripts: what a driver says and does in a session, step by step, as people read it.
//!
//! ```text
//! link plc tcp
//! tag  temp 40001 int16
//!
//! case reads-a-register
//! opens plc
//! poll all
//! expect {tid:2} 0000 0006 01 03 0000 0001
//! send   {tid}   0000 0005 01 03 02 fffb
//! sample temp -5
//! done all requests=1 failed=0
//! ```
//!
//! - `words`, `steps`, `parse`: from text to `model`, with every fault and its line; `budget` bounds it. `run`: plays a case on a stage.
//! - Each case is a life of its own. What the driver has sent, published, answered or dropped and no step has told of fails the
//!   case at its end.
//!
//! `docs/CONFORMANCE.md` is the reference.

mod budget;
mod model;
mod parse;
mod run;
mod steps;
mod words;

pub use model::{Expected, ExpectedAnswer, Pieces, Script, ScriptCase, Section, Step};
pub use parse::{MAX_SCRIPT, ScriptFaults, parse};
pub(super) use run::run;
pub(super) use steps::{REASONS, STOPS};
