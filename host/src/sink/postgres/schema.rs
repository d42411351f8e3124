//! The tables that a sink writes to: made where they are missing, and checked.
//!
//! Invariants:
//! - A row that is given twice stands there once. So the table must have a unique key of channel, epoch and sequence, with or without
//!   `server_time`, which a hypertable's unique keys must contain and which is the same each time a sample is given. Without such a
//!   key nothing is written.
//! - What an operator made is left as it is: only a table that is missing is made, with its index, in one transaction.

use tokio_postgres::Client;

use super::fault::Fault;
use super::rows::COLUMNS;
use crate::config::{PostgresSink, Table};

/// Where rows arrive before those that are there already are left out. Of this connection only, and emptied by each commit.
const ARRIVED: &str = "pg_temp.bulkhead_arrived";
/// Two sinks that make the same tables at once wait for each other. Any number that nobody else uses.
const LOCK: i64 = 0x6275_6c6b_6865_6164;

/// What a connection is told before anything else. Nothing waits for ever, at neither end; and what was acknowledged was on
/// the server's disk.
const SETTINGS: &str = "SET statement_timeout = '20s'; SET idle_in_transaction_session_timeout = '20s'; \
     SET client_min_messages = warning; \
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// The statements of a connection.
#[derive(Debug)]
pub(super) struct Statements {
    /// Takes rows into the table, if all of them are new.
    pub(super) copy: String,
    /// Takes rows in beside the table.
    pub(super) copy_beside: String,
    /// Moves those that are new into the table.
    pub(super) insert: String,
    /// Notes a gap: when (as a time and in nanoseconds), messages, samples, reason.
    pub(super) gap: String,
}

impl Statements {
    pub(super) fn of(table: &Table) -> Self {
        let names = names();
        let (table, gaps) = (table.quoted(), table.gaps().quoted());
        Self {
            copy: format!("COPY {table} ({names}) FROM STDIN (FORMAT binary)"),
            copy_beside: format!("COPY {ARRIVED} ({names}) FROM STDIN (FORMAT binary)"),
            insert: format!(
                "INSERT INTO {table} ({names}) SELECT {names} FROM {ARRIVED} ON CONFLICT DO NOTHING"
            ),
            gap: format!(
                "INSERT INTO {gaps} (at, at_ns, messages, samples, reason) VALUES \
                 (timestamptz '2000-01-01 00:00:00Z' + $1::bigint * interval '1 microsecond', $2, $3, $4, $5) ON CONFLICT DO NOTHING"
            ),
        }
    }
}

fn names() -> String {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// The columns as a definition has them; `optional` may be null.
fn definition(optional: &[&str]) -> String {
    let columns = COLUMNS.iter().map(|(name, kind)| {
        let null = if optional.contains(name) {
            ""
        } else {
            " NOT NULL"
        };
        format!("{name} {kind}{null}")
    });
    columns.collect::<Vec<_>>().join(", ")
}

/// Makes a new connection ready for deliveries.
pub(super) async fn prepare(client: &mut Client, sink: &PostgresSink) -> Result<(), Fault> {
    client.batch_execute(SETTINGS).await?;
    let gaps = sink.table.gaps();
    for table in [&sink.table, &gaps] {
        if exists(client, table).await? {
            continue;
        }
        if !sink.create {
            return Err(Fault::NoTable {
                table: table.quoted(),
            });
        }
        create(client, sink).await?;
        break;
    }
    if !has_key(client, &sink.table).await? {
        return Err(Fault::NoKey {
            table: sink.table.quoted(),
        });
    }
    let columns = definition(&["source_time_ns", "value", "value_exact"]);
    let arrived =
        format!("CREATE TEMPORARY TABLE IF NOT EXISTS {ARRIVED} ({columns}) ON COMMIT DELETE ROWS");
    client.batch_execute(&arrived).await?;
    Ok(())
}

async fn exists(client: &Client, table: &Table) -> Result<bool, Fault> {
    let row = client
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&table.quoted()])
        .await?;
    Ok(row.try_get(0)?)
}

/// Makes what is missing.
async fn create(client: &mut Client, sink: &PostgresSink) -> Result<(), Fault> {
    let (table, gaps) = (sink.table.quoted(), sink.table.gaps().quoted());
    let transaction = client.transaction().await?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    if let Some(schema) = &sink.table.schema {
        let there = transaction
            .query_opt("SELECT FROM pg_namespace WHERE nspname = $1", &[schema])
            .await?;
        if there.is_none() {
            transaction
                .batch_execute(&format!("CREATE SCHEMA \"{schema}\""))
                .await?;
        }
    }
    // Another sink may have made it while this one waited.
    let is_new: bool = transaction
        .query_one("SELECT to_regclass($1) IS NULL", &[&table])
        .await?
        .try_get(0)?;
    if is_new {
        let timescale: Option<String> = match sink.timescale {
            true => transaction
                .query_opt(
                    "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace \
                     WHERE extname = 'timescaledb'",
                    &[],
                )
                .await?
                .map(|row| row.try_get(0))
                .transpose()?,
            false => None,
        };
        let columns = definition(&["source_time_ns", "value", "value_exact"]);
        let time = if timescale.is_some() {
            ", server_time"
        } else {
            ""
        };
        transaction
            .batch_execute(&format!(
                "CREATE TABLE {table} ({columns}, PRIMARY KEY (channel, epoch, sequence{time}))"
            ))
            .await?;
        if let Some(schema) = timescale {
            transaction
                .batch_execute(&format!(
                    "SELECT {schema}.create_hypertable('{table}', 'server_time', if_not_exists => true)"
                ))
                .await?;
        }
        transaction
            .batch_execute(&format!(
                "CREATE INDEX ON {table} (channel, tag, server_time)"
            ))
            .await?;
    }
    transaction
        .batch_execute(&format!(
            "CREATE TABLE IF NOT EXISTS {gaps} (at timestamptz NOT NULL, at_ns bigint NOT NULL, messages bigint NOT NULL, \
             samples bigint NOT NULL, reason text NOT NULL, PRIMARY KEY (at_ns, messages, samples, reason))"
        ))
        .await?;
    transaction.commit().await?;
    Ok(())
}

/// Whether a row that is given twice can stand there only once.
async fn has_key(client: &Client, table: &Table) -> Result<bool, Fault> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid \
             AND i.indpred IS NULL AND i.indexprs IS NULL AND \
             (SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE \"C\") FROM pg_attribute a \
              WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) \
             IN (ARRAY['channel', 'epoch', 'sequence'], ARRAY['channel', 'epoch', 'sequence', 'server_time']))",
            &[&table.quoted()],
        )
        .await?;
    Ok(row.try_get(0)?)
}
