//! What goes wrong with a database, in words, and whether it is the data's fault.

use std::io;
use std::time::Duration;

use tokio_postgres::error::{DbError, Error};

use crate::config::NoSecret;
use crate::link::TlsFault;
use crate::text::shown;

/// The longest word of a server that is passed on, in bytes.
const LONGEST: usize = 400;

/// Why a database took nothing. Each says what to do; all but [`Fault::Data`] may pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Secret(#[from] NoSecret),
    #[error(transparent)]
    Tls(#[from] TlsFault),
    #[error("the database at {at} cannot be reached: {cause}; start it, or correct `url`")]
    Unreachable { at: String, cause: io::Error },
    #[error(
        "the database at {at} did not let us in within {within:?}; see to it and to the network"
    )]
    NoAnswer { at: String, within: Duration },
    #[error(
        "TLS with the database at {at} failed: {cause}; check `ca`, `server_name`, and whether it offers TLS"
    )]
    Handshake { at: String, cause: String },
    #[error(
        "the database asks for a password; say where it is found as in `password = \"env:BULKHEAD_PASSWORD\"`"
    )]
    NoPassword,
    #[error(
        "the connection to the database is lost ({cause}); it is opened again, and nothing is lost"
    )]
    Lost { cause: String },
    #[error("the database took longer than {within:?}; see what slows it down")]
    Slow { within: Duration },
    #[error("the database says: {said} (SQLSTATE {code}); {remedy}")]
    Server {
        code: String,
        said: String,
        remedy: &'static str,
    },
    #[error("there is no table {table}; make it, or write `create = true`")]
    NoTable { table: String },
    #[error(
        "table {table} has no unique key of channel, epoch and sequence, so what is sent twice would stand there twice; add one"
    )]
    NoKey { table: String },
    /// It is not the database, it is what it was given.
    #[error("the database refuses it: {said} (SQLSTATE {code})")]
    Data { code: String, said: String },
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        if let Some(said) = error.as_db_error() {
            return of_server(said);
        }
        // The library's own words for it are few; its cause says more.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        if cause.as_deref() == Some("password missing") {
            return Fault::NoPassword;
        }
        let cause = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
        Fault::Lost {
            cause: shown(&cause, LONGEST),
        }
    }
}

impl Fault {
    /// What an error while logging in means.
    pub(super) fn of_login(error: Error, at: &str) -> Self {
        let is_tls = error.to_string().contains("TLS");
        match Fault::from(error) {
            Fault::Lost { cause } if is_tls => Fault::Handshake {
                at: at.to_owned(),
                cause,
            },
            other => other,
        }
    }
}

/// A row with the same key is there already (PostgreSQL manual, appendix A: `unique_violation`).
pub(super) const IS_THERE: &str = "23505";

fn of_server(error: &DbError) -> Fault {
    let code = error.code().code().to_owned();
    let mut said = error.message().to_owned();
    if let Some(detail) = error.detail() {
        said = format!("{said}; {detail}");
    }
    let said = shown(&said, LONGEST);
    // No partition for a row, or nobody whom it belongs to: what the operator of the database can mend for all rows.
    let is_of_table = code == "23503" || (code == "23514" && error.constraint().is_none());
    match is_of_data(&code) && !is_of_table {
        true => Fault::Data { code, said },
        false => Fault::Server {
            remedy: remedy(&code),
            code,
            said,
        },
    }
}

/// Whether other rows might be taken (PostgreSQL manual, appendix A): data exceptions, violated constraints, and rows or index entries
/// that are too large.
fn is_of_data(code: &str) -> bool {
    ["22", "23", "54"]
        .iter()
        .any(|class| code.starts_with(class))
}

fn remedy(code: &str) -> &'static str {
    match code {
        "28P01" | "28000" => {
            "correct the user in `url` and its `password`, or let it in (pg_hba.conf)"
        }
        "3D000" => "create the database, or correct `url`",
        "42501" => {
            "grant the role INSERT on the tables and TEMPORARY on the database, and CREATE if it is to make the tables"
        }
        "23514" => "make the partition that is missing",
        "23503" => "put in what the table refers to, or take the reference away",
        "53100" => "make room on the disk of the database",
        "53200" => "give the database more memory",
        "53300" => "let the database have more connections, or end some",
        "55P03" | "57014" => "see what slows the database down, or holds a lock on the table",
        "25006" => "this database is read-only; write the address of the primary into `url`",
        "40001" | "40P01" => "it is tried again",
        "42P01" | "3F000" => "make the table, or write `create = true`",
        "42703" | "42804" | "42P10" => {
            "the table is not as this sink makes it; write another name as `table`, or mend its columns"
        }
        code if code.starts_with("57P") || code.starts_with("58") => {
            "it is tried again; see the database's own log if that lasts"
        }
        _ => "see the database's own log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_data_did_is_the_datas_fault() {
        for code in ["22003", "22P05", "23502", "23514", "54000"] {
            assert!(is_of_data(code), "{code}");
        }
        for code in [
            "53100", "57P01", "57014", "28P01", "40001", "42P01", "08006", "XX000",
        ] {
            assert!(!is_of_data(code), "{code}");
            assert!(remedy(code).len() > 10);
        }
    }
}
