//! What drivers say and hosts pass on: values, quality, samples.
//!
//! These are the host's own types. The ABI's, the HTTP API's and the sinks' stand at their edges and are converted there.

mod quality;
mod sample;
mod time;
mod value;

pub use quality::Quality;
pub use sample::Sample;
pub use time::{MonotonicNs, WallNs};
pub use value::{DataType, Scalar, Value};
