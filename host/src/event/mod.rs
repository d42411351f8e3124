//! What drivers say and hosts pass on: values, quality, samples, batches of them.
//!
//! These are the host's own types. The ABI's, the HTTP API's and the sinks' stand at their edges and are converted there.

mod batch;
mod filter;
mod gap;
mod layout;
mod quality;
mod sample;
mod severity;
mod time;
mod value;

pub use batch::Batch;
pub use filter::TagFilter;
pub use gap::{Gap, GapReason, Item};
pub use layout::{Layout, TagList, TagNames};
pub use quality::Quality;
pub use sample::Sample;
pub use severity::Severity;
pub use time::{MonotonicNs, WallNs};
pub use value::{DataType, Scalar, Value};
pub(crate) use value::{are_within_bounds, bytes_of_texts};
