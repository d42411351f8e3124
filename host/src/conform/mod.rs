//! Conformance: what a driver must do whatever its protocol, and what a protocol must do with it, without hardware or time.
//!
//! ```text
//! script ── head ──── plant ─┐
//!        └─ cases ─ scripts ─┤── stage ── virtual host ── driver
//!             universal cases┘     └ peer (honest, silent, mangling)
//! ```
//!
//! - `stage`: one life of a driver in virtual time, with `peer`s at the other ends; what it did lies in `heard`.
//! - `universal`: the cases that hold of every driver. `plant`: what they are tried with.
//! - `script`: sessions as people write them, with bytes as `pattern` reads them.
//! - `suite`: everything together into a report (`outcome`, `junit`); `baseline`, `expectations`: what is known beforehand.
//! - `fuzz`: random events, made short. `from_bundle`: a crash as a script.
//!
//! It is a library too: a test of a driver's own can take a [`Suite`], or a [`Stage`] alone. It opens no socket, reads no clock but to
//! say how long a case took, and all that is random comes from a seed.

mod baseline;
mod expectations;
mod from_bundle;
mod fuzz;
mod heard;
mod junit;
mod outcome;
mod pattern;
mod peer;
mod plant;
mod script;
mod stage;
mod suite;
mod universal;

pub use baseline::{BASELINE, Baseline, BaselineError, Measured};
pub use expectations::{Expectations, ExpectationsError};
pub use from_bundle::to_script;
pub use fuzz::{Finding, Fuzzer};
pub use heard::{Answer, Asked, Heard, Question, TurnRecord};
pub use junit::junit;
pub use outcome::{CaseReport, CaseResult, NoPass, Report, Verdict};
pub use pattern::{BadPattern, Captures, Mismatch, Pattern};
pub use peer::{Babbler, Learned, Peer, Reach, Reaction, Reply, Shape, Silent};
pub use plant::Plant;
pub use script::{
    Expected, ExpectedAnswer, MAX_SCRIPT, Pieces, Script, ScriptCase, ScriptFaults, Section, Step,
    parse,
};
pub use stage::{Beginning, Stage};
pub use suite::{Suite, SuiteError, script_in, scripts_in};
pub use universal::{Bench, CASES, Case};

/// The version of the cases: raised whenever one demands more than before.
pub const VERSION: &str = "0.2";
