//! The command `test-read`: reads one place of a unit as a tag would, without there being a tag.
//!
//! So that an operator finds out what an address holds, and in which order its bytes lie, before it goes into the configuration.
//! What is wrong with the tag is said as for a tag of the file. The read is one turn on the line, before all polls that wait.

use std::fmt::Write as _;

use bulkhead_sdk::{Command, CommandInfo, Context, DataType, Error, Priority, Quality, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::address::Table;
use crate::cycle::BUSY_PAUSE;
use crate::exception::Exception;
use crate::failure::Failure;
use crate::line::{Line, Reply};
use crate::pdu::Ask;
use crate::plan::Span;
use crate::point::{Point, Wish, resolve};
use crate::settings::TagSettings;
use crate::site::Site;
use crate::unit::Unit;

/// Its name.
pub const COMMAND: &str = "test-read";
const HELP: &str = "Reads an address as a tag would, without there being a tag. \
    Takes {\"device\": name, \"address\": text, \"type\": text, \"settings\": {...}} as a tag has them; the device may be left out where there is \
    one, the settings always. Answers {\"device\": name, \"unit\": number, \"value\": the value before any scaling, \"bytes\": hexadecimal}.";

/// The command as it is listed.
pub fn offer() -> CommandInfo {
    CommandInfo::new(COMMAND, HELP)
        .takes::<Wanted>()
        .answers::<Found<'_>>()
        .only_looks()
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// The name of a device; may be left out where there is one.
    device: Option<String>,
    /// As a tag has it.
    address: String,
    /// As a tag has it.
    #[serde(rename = "type")]
    data_type: String,
    /// As a tag has them.
    #[serde(default)]
    settings: TagSettings,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Found<'a> {
    /// Its name.
    device: &'a str,
    /// Its number.
    unit: u8,
    /// Before any scaling.
    value: Json,
    /// What was read, in hexadecimal.
    bytes: String,
}

/// Reads what the command wants.
pub async fn read(
    context: &Context,
    lines: &[Line],
    site: &Site,
    command: &Command,
) -> Result<Vec<u8>, Error> {
    let wanted: Wanted = command.json()?;
    let (device, unit) = site.named(wanted.device.as_deref())?;
    let point = point(site, unit, &wanted)?;
    let reply = ask(
        context,
        lines,
        unit,
        read_of(point.table, point.span),
        command,
    )
    .await?;
    let bytes = hexadecimal(reply.data());
    let value = point.codec.decode(reply.data(), 0).map_err(|unreadable| {
        Error::new(format!("{unreadable}: {bytes}")).with_quality(unreadable.quality())
    })?;
    let found = Found {
        device,
        unit: unit.number,
        value: json_of(&value),
        bytes,
    };
    serde_json::to_vec(&found).map_err(|error| Error::new(error.to_string()))
}

/// What is to be read, or everything that is wrong with it.
fn point(site: &Site, unit: &Unit, wanted: &Wanted) -> Result<Point, Error> {
    let data_type: DataType = wanted
        .data_type
        .parse()
        .map_err(|error| wrong(format!("type: {error}")))?;
    let wish = Wish {
        address: &wanted.address,
        data_type,
        writable: false,
        settings: &wanted.settings,
        order: unit.order,
    };
    resolve(wish, &site.settings).map_err(|faults| {
        let faults = faults.iter().map(|(at, fault)| format!("{at}: {fault}"));
        wrong(faults.collect::<Vec<_>>().join("; "))
    })
}

fn wrong(message: String) -> Error {
    Error::new(message).with_quality(Quality::BadConfiguration)
}

/// The request for a span of a table.
pub(crate) fn read_of(table: Table, Span { start, count }: Span) -> Ask {
    Ask::Read {
        table,
        start,
        count,
    }
}

/// Asks a unit for a command. One that is busy is asked again, as often as `retries` says.
pub(crate) async fn ask(
    context: &Context,
    lines: &[Line],
    unit: &Unit,
    ask: Ask,
    command: &Command,
) -> Result<Reply, Failure> {
    let mut attempts_left = unit.retries;
    loop {
        let mut exchange = lines[unit.line].exchange(Priority::Write).await;
        if context.now() >= command.deadline {
            return Err(Failure::Overdue);
        }
        match exchange.ask(unit.number, unit.timeout, ask.clone()).await {
            Err(Failure::Exception(Exception::BUSY)) if attempts_left > 0 => {
                attempts_left -= 1;
                drop(exchange);
                context.sleep(BUSY_PAUSE).await;
            }
            Err(failure) => return Err(failure),
            Ok(reply) => {
                unit.answered(context);
                return Ok(reply);
            }
        }
    }
}

/// What JSON has no numbers for is written as the host writes it; bytes are hexadecimal.
fn json_of(value: &Value) -> Json {
    let float = |number: f64| match number {
        number if number.is_finite() => json!(number),
        number if number.is_nan() => json!("NaN"),
        number if number > 0.0 => json!("Infinity"),
        _ => json!("-Infinity"),
    };
    match value {
        Value::Boolean(on) => json!(on),
        Value::Int(number) => json!(number),
        Value::Uint(number) => json!(number),
        Value::Float(number) => float(*number),
        Value::Text(text) => json!(text),
        Value::Bytes(bytes) => json!(hexadecimal(bytes)),
        Value::Booleans(all) => json!(all),
        Value::Ints(all) => json!(all),
        Value::Uints(all) => json!(all),
        Value::Floats(all) => all.iter().copied().map(float).collect(),
        Value::Texts(all) => json!(all),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}
