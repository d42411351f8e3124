//! A table in PostgreSQL, or a hypertable in TimescaleDB.
//!
//! ```text
//! items ── rows ──► COPY (binary) ──────────────────────────────────────────────────────────────► samples ── COMMIT
//!                        └──► a temporary table ── INSERT .. ON CONFLICT DO NOTHING ──┘
//! ```
//!
//! The short way is twice as fast and fails as a whole where a row is there already. That happens only after a delivery of which the
//! answer was lost, so only then the long way is taken.
//!
//! - `rows`: samples as `COPY` takes them. `schema`: the tables, made and checked. `connect`: one connection. `fault`: what goes wrong.
//!
//! Invariants:
//! - **Delivered is committed.** A delivery is one transaction, and it has been delivered once its commit was answered; the server
//!   has it on its disk then. Where the answer is lost, all of it is given again, and what is there already is left out by its key.
//! - **A sample stands there once**: its key is channel, epoch and sequence. Two hosts that share a table need different names of channels.
//! - **Nothing waits for ever**: a delivery ends within [`DELIVERY`], whatever the server does, and the server itself ends what a host
//!   has begun and left.
//! - **One bad row does not hold up the others.** Where the server refuses data, the batch that it refuses is found by halves.
//!
//! Columns of `samples`:
//!
//! | column | type | what |
//! |---|---|---|
//! | `channel`, `epoch`, `sequence` | text, bigint, bigint | the key: which sample of which channel |
//! | `tag`, `device`, `grp` | text | names; `grp` is empty for a tag in no group |
//! | `server_time` | timestamptz | when the host received it, cut to microseconds |
//! | `server_time_ns`, `source_time_ns` | bigint | nanoseconds since 1970, of the host and of the device (null if it says nothing) |
//! | `quality` | text | `good`, or what is wrong |
//! | `value` | double precision | numbers, truth values as 1 and 0; null for what is neither, and for no value |
//! | `value_exact` | jsonb | what `value` does not say exactly: truth values, whole numbers beyond 2^53, texts, bytes (base64), arrays; else null |
//!
//! The value as JSON is `coalesce(value_exact, to_jsonb(value))`. What is missing for good stands in a second table, named like the first
//! with `_gaps` behind it: `at`, `at_ns`, `messages`, `samples`, `reason`.

mod connect;
mod fault;
mod rows;
mod schema;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio::time::timeout;
use tokio_postgres::{CopyInSink, Transaction};

use self::connect::Session;
use self::fault::{Fault, IS_THERE};
use self::rows::{NoRow, Rows};
use super::destination::{Destination, Undelivered};
use super::health::Health;
use crate::config::PostgresSink;
use crate::event::{Gap, Item};

/// How long a delivery may take, with opening a connection.
const DELIVERY: Duration = Duration::from_secs(30);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// Rows are sent in pieces of about so many bytes.
const PIECE: usize = 256 * 1024;

/// A database that samples are delivered to.
pub(super) struct Postgres {
    sink: PostgresSink,
    session: Option<Session>,
    health: Arc<Health>,
}

/// How rows come into the table.
#[derive(Clone, Copy)]
enum Way {
    /// At once; all of them must be new.
    Short,
    /// By a temporary table; what is there already is left out.
    Long,
}

/// Why items were not stored.
enum Refused {
    /// All of them, for this reason.
    All(Fault),
    /// One that cannot be made rows of; its place.
    One(usize, NoRow),
}

impl<E: Into<Fault>> From<E> for Refused {
    fn from(error: E) -> Self {
        Refused::All(error.into())
    }
}

impl Postgres {
    pub(super) fn new(sink: PostgresSink) -> Self {
        Self {
            sink,
            session: None,
            health: Arc::default(),
        }
    }

    async fn try_deliver(&mut self, items: &[Item]) -> Result<(), Undelivered> {
        // Taken out: whatever ends this early ends the connection, and with it what it had begun.
        let mut session = match self.session.take() {
            Some(session) if session.is_open() => session,
            _ => {
                self.health.down();
                let session = Session::open(&self.sink).await.map_err(later)?;
                self.health.up();
                session
            }
        };
        let mut stored = match session.straight {
            true => self.store(&mut session, items, Way::Short).await,
            false => self.store(&mut session, items, Way::Long).await,
        };
        if let Err(Refused::All(Fault::Data { code, .. })) = &stored
            && session.straight
        {
            // Only the long way shows what the data is refused for.
            session.straight = code == IS_THERE;
            stored = self.store(&mut session, items, Way::Long).await;
        }
        let outcome = match stored {
            Ok(()) => Ok(()),
            Err(Refused::One(item, reason)) => Err(never(item, &reason)),
            Err(Refused::All(fault @ Fault::Data { .. })) => {
                self.find(&mut session, items, fault).await
            }
            Err(Refused::All(fault)) => Err(later(fault)),
        };
        if !matches!(outcome, Err(Undelivered::Later(_))) {
            self.session = Some(session);
        }
        outcome
    }

    /// Stores all of them and commits.
    async fn store(&self, session: &mut Session, items: &[Item], way: Way) -> Result<(), Refused> {
        let transaction = session.client.transaction().await?;
        let mut rows = Rows::new();
        let copy = match way {
            Way::Short => &session.copy,
            Way::Long => &session.copy_beside,
        };
        let sink = transaction.copy_in::<_, Bytes>(copy).await?;
        let mut sink = pin!(sink);
        for (place, item) in items.iter().enumerate() {
            let Item::Batch(batch) = item else {
                continue;
            };
            rows.push(batch)
                .map_err(|wrong| Refused::One(place, wrong))?;
            if rows.len() >= PIECE {
                send(sink.as_mut(), rows.take()).await?;
            }
        }
        send(sink.as_mut(), rows.end()).await?;
        let arrived = sink.finish().await?;
        let new = match way {
            Way::Short => arrived,
            Way::Long => transaction.execute(&session.insert, &[]).await?,
        };
        for item in items {
            if let Item::Gap(gap) = item {
                note(&transaction, &session.gap, gap).await?;
            }
        }
        transaction.commit().await?;
        self.health.had_already(arrived.saturating_sub(new));
        Ok(())
    }

    /// Finds one item that the server refuses, by halves. What comes before it is stored on the way.
    async fn find(
        &self,
        session: &mut Session,
        items: &[Item],
        fault: Fault,
    ) -> Result<(), Undelivered> {
        let mut fault = fault;
        // What was refused together, and whether it was tried as it is now.
        let (mut from, mut until, mut tried) = (0, items.len(), true);
        while until - from > 1 || !tried {
            let middle = from + (until - from).div_ceil(2);
            let half = items.get(from..middle).unwrap_or_default();
            match self.store(session, half, Way::Long).await {
                Ok(()) if middle == until => break,
                Ok(()) => (from, tried) = (middle, false),
                Err(Refused::All(again @ Fault::Data { .. })) => {
                    (until, tried, fault) = (middle, true, again);
                }
                Err(Refused::All(fault)) => return Err(later(fault)),
                Err(Refused::One(place, reason)) => return Err(never(from + place, &reason)),
            }
        }
        match tried {
            true => Err(never(from, &fault)),
            // Refused together, and each half taken alone.
            false => Err(later(fault)),
        }
    }
}

async fn send(
    mut sink: std::pin::Pin<&mut CopyInSink<Bytes>>,
    bytes: Bytes,
) -> Result<(), tokio_postgres::Error> {
    sink.send(bytes).await
}

async fn note(
    transaction: &Transaction<'_>,
    statement: &tokio_postgres::Statement,
    gap: &Gap,
) -> Result<(), Fault> {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    transaction
        .execute(
            statement,
            &[
                &rows::micros_since_2000(gap.at),
                &rows::nanos(gap.at),
                &signed(gap.messages),
                &signed(gap.samples),
                &gap.reason.as_str(),
            ],
        )
        .await?;
    Ok(())
}

fn later(fault: impl Into<Fault>) -> Undelivered {
    Undelivered::Later(fault.into().to_string())
}

fn never(item: usize, reason: &impl std::fmt::Display) -> Undelivered {
    Undelivered::Never {
        item,
        reason: reason.to_string(),
    }
}

impl Destination for Postgres {
    fn health(&self) -> Option<Arc<Health>> {
        Some(self.health.clone())
    }

    async fn deliver(&mut self, items: &[Item]) -> Result<(), Undelivered> {
        if items.is_empty() {
            return Ok(());
        }
        let tried = timeout(DELIVERY, self.try_deliver(items)).await;
        let tried = tried.unwrap_or_else(|_elapsed| Err(later(Fault::Slow { within: DELIVERY })));
        match &tried {
            Err(Undelivered::Later(why)) => {
                self.health.down();
                self.health.failed(why);
            }
            Err(Undelivered::Never { reason, .. }) => {
                self.health.failed(reason);
            }
            Err(Undelivered::Closed) | Ok(()) => {}
        }
        tried
    }

    async fn close(&mut self) -> Result<(), Undelivered> {
        self.health.down();
        if let Some(session) = self.session.take() {
            // A server that does not hear it notices the closed connection.
            timeout(GOODBYE, session.close()).await.ok();
        }
        Ok(())
    }
}
