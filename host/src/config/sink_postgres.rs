//! A sink of kind `postgres`: PostgreSQL, with TimescaleDB where it is installed.

use std::path::Path;

use super::address::{self, Tls};
use super::fault::quoted;
use super::secret::{Secret, secret};
use super::section::Section;
use super::server_url::{PASSWORD_INSIDE, ServerUrl, without_secrets};

/// The keys of its own.
pub(super) const POSTGRES_KEYS: [&str; 10] = [
    "url",
    "password",
    "tls",
    "ca",
    "cert",
    "key",
    "server_name",
    "table",
    "create",
    "timescale",
];

const SCHEMES: &[&str] = &["postgres", "postgresql"];
const EXAMPLE: &str = "postgres://bulkhead@10.0.0.20:5432/plant";
/// PostgreSQL's own (`NAMEDATALEN` - 1).
const LONGEST_NAME: usize = 63;
/// What the table of what is missing has behind the name of the table of samples.
const GAPS: &str = "_gaps";

/// What a sink of kind `postgres` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresSink {
    /// A name or an address.
    pub host: String,
    /// Default 5432.
    pub port: u16,
    /// The role to log in as.
    pub user: String,
    /// The database.
    pub database: String,
    /// `None` where the server asks for none, as for roles that it knows by their certificate.
    pub password: Option<Secret>,
    /// How the server is checked; without it nothing is encrypted. Default none.
    pub tls: Option<Tls>,
    /// Where samples go. Default `samples`.
    pub table: Table,
    /// Whether what is missing of schema, tables and index is made. Default yes.
    pub create: bool,
    /// Whether a table that is made becomes a hypertable, where the database has TimescaleDB. Default yes.
    pub timescale: bool,
}

/// The name of a table: each part of lower-case letters, digits and `_`, beginning with no digit, so that nobody needs quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The schema; that of the role's search path, where there is none.
    pub schema: Option<String>,
    /// The table in it: short enough for its neighbour, the same name with `_gaps` behind it.
    pub name: String,
}

impl Table {
    fn parse(written: &str) -> Option<Self> {
        let is_name = |name: &str, longest: usize| {
            (1..=longest).contains(&name.len())
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        let (schema, name) = match written.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, written),
        };
        let right = schema.is_none_or(|schema| is_name(schema, LONGEST_NAME))
            && is_name(name, LONGEST_NAME - GAPS.len());
        right.then(|| Self {
            schema: schema.map(str::to_owned),
            name: name.to_owned(),
        })
    }

    /// The table of what is missing.
    pub fn gaps(&self) -> Self {
        Self {
            schema: self.schema.clone(),
            name: format!("{}{GAPS}", self.name),
        }
    }

    /// As SQL writes it, in quotes.
    pub fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("\"{schema}\".\"{}\"", self.name),
            None => format!("\"{}\"", self.name),
        }
    }
}

/// Reads the keys of its own; `None` if there is no such sink to speak of, which was reported.
pub(super) fn postgres(section: &Section<'_>, folder: &Path) -> Option<PostgresSink> {
    let password = secret(section, "password", folder);
    let tls = tls(section, folder);
    let table = table(section);
    let create = section.boolean("create", true);
    let timescale = section.boolean("timescale", true);
    let url = url(section)?;
    Some(PostgresSink {
        host: url.host,
        port: url.port.unwrap_or(5432),
        user: url.user?,
        database: url.path,
        password,
        tls,
        table,
        create,
        timescale,
    })
}

fn url(section: &Section<'_>) -> Option<ServerUrl> {
    let written = section.required("url", EXAMPLE)?;
    let wrong = match ServerUrl::parse(written, SCHEMES, EXAMPLE) {
        Err(wrong) => wrong,
        Ok(url) if url.user.as_deref().is_none_or(str::is_empty) => {
            format!("names no user; write one before an `@`, as in \"{EXAMPLE}\"")
        }
        Ok(url) if url.path.is_empty() => {
            format!("names no database; write one behind a `/`, as in \"{EXAMPLE}\"")
        }
        Ok(url) => return Some(url),
    };
    section.fault_at(
        "url",
        match wrong == PASSWORD_INSIDE {
            true => wrong,
            false => format!("{} {wrong}", without_secrets(written)),
        },
    );
    None
}

fn tls(section: &Section<'_>, folder: &Path) -> Option<Tls> {
    if section.boolean("tls", false) {
        return Some(address::tls(section, folder));
    }
    for key in ["ca", "cert", "key", "server_name"] {
        if section.has(key) {
            section.fault_at(key, format!("`{key}` belongs to TLS; add `tls = true`"));
        }
    }
    None
}

fn table(section: &Section<'_>) -> Table {
    const DEFAULT: &str = "samples";
    let written = section.string("table", DEFAULT).unwrap_or(DEFAULT);
    Table::parse(written).unwrap_or_else(|| {
        section.fault_at(
            "table",
            format!(
                "{} is no name of a table; use up to {} lower-case letters, digits and `_`, with a schema before a `.` if \
                 it has one, as in \"plant.samples\"",
                quoted(written),
                LONGEST_NAME - GAPS.len()
            ),
        );
        Table {
            schema: None,
            name: DEFAULT.to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_table_needs_no_quotes_and_leaves_room_for_its_neighbour() {
        let long = "a".repeat(58);
        for (good, quoted) in [
            ("samples", "\"samples\"".to_owned()),
            ("plant_3.samples", "\"plant_3\".\"samples\"".to_owned()),
            (&long, format!("\"{long}\"")),
        ] {
            let table = Table::parse(good).unwrap();
            assert_eq!(table.quoted(), quoted);
            assert!(table.gaps().name.len() <= LONGEST_NAME);
        }
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a.b.c",
            "Samples",
            "3a",
            "a b",
            "a\"; drop table b; --",
            "ä",
            &"a".repeat(59),
        ] {
            assert_eq!(Table::parse(bad), None, "{bad}");
        }
    }
}
