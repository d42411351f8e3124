//! The command `read-device-identification`: function 43 with type 14 of Modbus Application Protocol 1.1b3, section 6.21.
//!
//! A unit tells what it is in objects, as many in one answer as fit, and says where to go on; so this asks until there are no more. Each
//! answer is one turn on the line, and polls go between them.

use std::collections::BTreeMap;

use bulkhead_sdk::{Command, CommandInfo, Context, Error};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::line::Line;
use crate::pdu::{Ask, objects};
use crate::site::Site;
use crate::test_read::ask;

/// Its name.
pub const COMMAND: &str = "read-device-identification";
const HELP: &str = "Asks a unit what it is (function 43/14). \
    Takes {\"device\": name, \"category\": \"basic\" | \"regular\" | \"extended\"}; both may be left out, the device where there is one. \
    Answers {\"unit\": number, \"objects\": {\"vendor_name\": text, ...}}.";

/// More answers than the 256 objects that there can be need.
const MOST_ANSWERS: u32 = 256;

/// The command as it is listed.
pub fn offer() -> CommandInfo {
    CommandInfo::new(COMMAND, HELP)
        .takes::<Wanted>()
        .answers::<Identity>()
        .only_looks()
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// The name of a device; may be left out where there is one.
    device: Option<String>,
    /// How much of itself the unit is to tell.
    #[serde(default)]
    category: Category,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Category {
    #[default]
    Basic,
    Regular,
    Extended,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Identity {
    /// Its number.
    unit: u8,
    /// By name; those without one by their number.
    objects: BTreeMap<String, String>,
}

/// Asks a unit what it is.
pub async fn identify(
    context: &Context,
    lines: &[Line],
    site: &Site,
    command: &Command,
) -> Result<Vec<u8>, Error> {
    let wanted: Wanted = command.json()?;
    let (_, unit) = site.named(wanted.device.as_deref())?;
    let category = match wanted.category {
        Category::Basic => 1,
        Category::Regular => 2,
        Category::Extended => 3,
    };
    let mut found = BTreeMap::new();
    let mut object = 0;
    for _ in 0..MOST_ANSWERS {
        let asked = Ask::Identify { category, object };
        let reply = ask(context, lines, unit, asked, command).await?;
        let body = reply.body();
        for (object, value) in objects(body).map(|(_, all)| all).unwrap_or_default() {
            found.insert(named(object), String::from_utf8_lossy(value).into_owned());
        }
        match *body {
            // More follow, and they ascend: a unit that goes in circles is let go.
            [_, _, _, 0xff, next, ..] if next > object => object = next,
            _ => break,
        }
    }
    let identity = Identity {
        unit: unit.number,
        objects: found,
    };
    serde_json::to_vec(&identity).map_err(|error| Error::new(error.to_string()))
}

/// The objects that the specification names; others by their number.
fn named(object: u8) -> String {
    match object {
        0 => "vendor_name".to_owned(),
        1 => "product_code".to_owned(),
        2 => "major_minor_revision".to_owned(),
        3 => "vendor_url".to_owned(),
        4 => "product_name".to_owned(),
        5 => "model_name".to_owned(),
        6 => "user_application_name".to_owned(),
        other => format!("object_{other}"),
    }
}
