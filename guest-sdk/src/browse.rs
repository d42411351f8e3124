//! The command `browse`: what there is to be made a tag of.
//!
//! A driver that declares [`Capabilities::BROWSE`](crate::Capabilities::BROWSE) answers this command; one that lists commands lists
//! it too. Question and answer look the same for every driver, so that one table shows them all.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::driver::CommandInfo;
use crate::error::Error;

/// The command's name.
pub const COMMAND: &str = "browse";

/// The command as a driver lists it; `help` says what is found.
pub fn offer(help: &'static str) -> CommandInfo {
    CommandInfo::new(COMMAND, help)
        .takes::<Wanted>()
        .answers::<Answer<'_>>()
        .only_looks()
}

/// What is asked: `{"device": "press"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The name of a device; may be left out where that makes no difference.
    pub device: Option<String>,
}

/// Something that a tag can be made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Item {
    /// What it is called, for people.
    pub name: String,
    /// An address that a tag may have as it stands.
    pub address: String,
    /// A type that goes with it, such as `uint16`.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Whether a tag may write it.
    pub access: Access,
    /// One sentence.
    pub help: String,
}

/// What a tag may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Access {
    /// Only read.
    #[serde(rename = "r")]
    Read,
    /// Read and write.
    #[serde(rename = "rw")]
    ReadWrite,
}

#[derive(Serialize, JsonSchema)]
struct Answer<'a> {
    /// What was found.
    items: &'a [Item],
}

/// The answer: `{"items": [{"name", "address", "type", "access", "help"}]}`.
///
/// # Errors
///
/// Never for what can be put into an [`Item`]; the type is what a command answers with.
pub fn answer(items: &[Item]) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(&Answer { items }).map_err(|error| Error::new(error.to_string()))
}
