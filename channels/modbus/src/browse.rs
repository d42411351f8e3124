//! The command `browse`: the tables that a unit has.
//!
//! Modbus has no directory: which registers mean what stands in the manual. What can be found out is which of the four tables a unit
//! serves at all, so each is asked for its first place. A unit that has the function but not that place still has the table.

use bulkhead_sdk::browse::{self, Access, Item, Wanted};
use bulkhead_sdk::{Command, Context, Error};

use crate::address::Table;
use crate::exception::Exception;
use crate::failure::Failure;
use crate::line::Line;
use crate::plan::Span;
use crate::site::Site;
use crate::test_read::{ask, read_of};

/// What it does, for people.
pub const HELP: &str = "Asks a unit which of the four tables it has. Takes {\"device\": name}, which may be left out where there is \
    one. Answers {\"items\": [{\"name\", \"address\", \"type\", \"access\", \"help\"}]}: the first place of each table.";

const TABLES: [(Table, &str); 4] = [
    (Table::Coil, "coils, single bits"),
    (Table::Discrete, "discrete inputs, single bits"),
    (Table::Input, "input registers of 16 bits"),
    (Table::Holding, "holding registers of 16 bits"),
];

/// Asks a unit for its tables. Whatever else than an answer comes of one of them is the answer to the command.
pub async fn browse(
    context: &Context,
    lines: &[Line],
    site: &Site,
    command: &Command,
) -> Result<Vec<u8>, Error> {
    let wanted: Wanted = command.json()?;
    let (_, unit) = site.named(wanted.device.as_deref())?;
    let mut items = Vec::new();
    for (table, what) in TABLES {
        let first = Span { start: 0, count: 1 };
        let said = match ask(context, lines, unit, read_of(table, first), command).await {
            Ok(_) => "the unit has the first place".to_owned(),
            Err(Failure::Exception(Exception::NO_FUNCTION)) => continue,
            Err(Failure::Exception(exception)) if exception.blames_a_place() => {
                format!("of the first place the unit says: {}", exception.message())
            }
            Err(failure) => return Err(failure.into()),
        };
        items.push(Item {
            name: table.to_string(),
            address: format!("{table}:0"),
            data_type: if table.is_bits() { "bool" } else { "uint16" }.to_owned(),
            access: match table.is_writable() {
                true => Access::ReadWrite,
                false => Access::Read,
            },
            help: format!("{what}, 0 to 65535; {said}"),
        });
    }
    browse::answer(&items)
}
