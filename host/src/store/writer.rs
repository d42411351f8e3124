//! The one thread that writes: no channel's turn waits for the disk unless it must.
//!
//! What is to be written waits in a bounded queue. The thread takes all that waits, puts it into one transaction, commits once,
//! and answers everybody: a group commit, so that a thousand channels that crash at once cost a few waits for the disk and
//! not a thousand. If a transaction fails as a whole, each write is tried again in one of its own, so that one that the
//! database does not take fails alone.
//!
//! Besides the queue there are *ledgers*: whoever has something to keep for which nobody waits puts itself on a list, and
//! is asked for it as part of the next transaction. A ledger stands on the list once, however often it has something new; so
//! the list is bounded by the number of channels, and nothing has to be dropped when the disk is slow. A ledger waits a moment
//! for others, unless a write comes along for which somebody waits: a plant whose links flap must not wear out a disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redb::{Database, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::database::said;
use super::{Keep, Ledger, StoreError};

/// Writes that may wait for the thread.
pub(super) const QUEUE: usize = 1_024;
/// Writes from the queue in one transaction.
const MAX_GROUP: usize = 1_024;
/// Ledgers in one transaction. Few, so that a thousand channels that start at once take no memory for all they say.
const MAX_LEDGERS: usize = 64;

/// How long a ledger waits for others.
const GATHER: Duration = Duration::from_millis(100);

/// What comes to the thread.
enum Message {
    /// A write.
    Job(Box<dyn Job>),
    /// The first ledger stands on the list.
    Ledgers,
    /// Somebody waits for all that came before, ledgers included.
    Flush(oneshot::Sender<Result<(), StoreError>>),
}

/// Something to be written.
pub(super) trait Job: Send {
    /// Writes it. May be called a second time, after a transaction that was not committed.
    fn apply(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error>;
    /// Tells whoever waits what became of it.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

/// A job made of a function, for whoever waits for what it gives.
struct Write<F, T> {
    work: F,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Job for Write<F, T>
where
    F: FnMut(&WriteTransaction) -> Result<T, redb::Error> + Send,
    T: Send,
{
    fn apply(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        self.done = Some((self.work)(transaction)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let answer = match (outcome, self.done) {
            (Ok(()), Some(done)) => Ok(done),
            (Err(error), _) => Err(error),
            (Ok(()), None) => return,
        };
        // Whoever does not wait any more does not want to know.
        drop(self.reply.send(answer));
    }
}

/// The end that others hold.
pub(super) struct Writer {
    messages: Option<mpsc::Sender<Message>>,
    waiting: Arc<Waiting>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The ledgers that have something to be kept.
#[derive(Default)]
struct Waiting {
    ledgers: Mutex<Vec<Arc<dyn Ledger>>>,
    /// Whether the last commit failed; so that a failing disk is told once, not for each write.
    failing: AtomicBool,
}

impl Waiting {
    fn ledgers(&self) -> MutexGuard<'_, Vec<Arc<dyn Ledger>>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Starts the thread. It ends when this is dropped, after all that it was given before.
    pub(super) fn start(
        database: Arc<Database>,
        fault: impl Fn(String) -> StoreError + Send + 'static,
    ) -> std::io::Result<Self> {
        let (messages, queue) = mpsc::channel(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let waiting = Arc::new(Waiting::default());
        let own = waiting.clone();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                let desk = Desk {
                    database: &database,
                    waiting: &own,
                    fault: &fault,
                };
                runtime.block_on(work(desk, queue));
            })?;
        Ok(Self {
            messages: Some(messages),
            waiting,
            thread: Some(thread),
        })
    }

    /// Puts a write into the queue, if there is room. What it gives comes when it is durable.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        work: impl FnMut(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, Refused> {
        let (job, answer) = job(work);
        self.try_send(Message::Job(job))?;
        Ok(answer)
    }

    fn try_send(&self, message: Message) -> Result<(), Refused> {
        let messages = self.messages.as_ref().ok_or(Refused::Closed)?;
        messages.try_send(message).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Refused::Full,
            mpsc::error::TrySendError::Closed(_) => Refused::Closed,
        })
    }

    /// The same; waits for room.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Option<Result<T, StoreError>> {
        let (job, answer) = job(work);
        let messages = self.messages.as_ref()?;
        messages.send(Message::Job(job)).await.ok()?;
        answer.await.ok()
    }

    /// Waits until everything is durable that came before, ledgers included; fails where any of it could not be kept.
    pub(super) async fn flush(&self) -> Option<Result<(), StoreError>> {
        let (reply, answer) = oneshot::channel();
        let messages = self.messages.as_ref()?;
        messages.send(Message::Flush(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Asks the ledger soon for what it has. It must stand on the list once only: it knows whether it does.
    pub(super) fn ask(&self, ledger: Arc<dyn Ledger>) {
        let mut ledgers = self.waiting.ledgers();
        let first = ledgers.is_empty();
        ledgers.push(ledger);
        drop(ledgers);
        if first {
            // A full queue means that the thread is busy, and will look at the list before it rests.
            drop(self.try_send(Message::Ledgers));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.messages = None;
        let Some(thread) = self.thread.take() else {
            return;
        };
        // The last clone of a store may be held by a ledger, and let go of on the thread itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the thread that writes to the store has panicked");
        }
    }
}

/// Why a write was not taken.
#[derive(Debug)]
pub(super) enum Refused {
    Full,
    Closed,
}

type Answer<T> = oneshot::Receiver<Result<T, StoreError>>;

fn job<T: Send + 'static>(
    work: impl FnMut(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
) -> (Box<dyn Job>, Answer<T>) {
    let (reply, answer) = oneshot::channel();
    let job = Write {
        work,
        done: None,
        reply,
    };
    (Box::new(job), answer)
}

/// What is done with one group of writes.
#[derive(Default)]
struct Group {
    jobs: Vec<Box<dyn Job>>,
    flushes: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

impl Group {
    fn add(&mut self, message: Message) {
        match message {
            Message::Job(job) => self.jobs.push(job),
            Message::Flush(reply) => self.flushes.push(reply),
            Message::Ledgers => {}
        }
    }

    /// Writes it, and what ledgers have.
    fn keep(self, desk: &Desk<'_>) {
        let mut ledgers = std::mem::take(&mut *desk.waiting.ledgers());
        let mut rest = ledgers.split_off(ledgers.len().min(MAX_LEDGERS));
        let mut outcome = desk.commit(self.jobs, ledgers);
        while !rest.is_empty() {
            let more = rest.split_off(rest.len().min(MAX_LEDGERS));
            outcome = outcome.and(desk.commit(Vec::new(), rest));
            rest = more;
        }
        for reply in self.flushes {
            // Whoever does not wait any more does not want to know.
            drop(reply.send(outcome.clone().map_err(desk.fault)));
        }
    }
}

async fn work(desk: Desk<'_>, mut queue: mpsc::Receiver<Message>) {
    while let Some(first) = queue.recv().await {
        let mut group = Group::default();
        if matches!(first, Message::Ledgers) {
            // The end of the queue is the end of the wait too.
            if let Ok(Some(next)) = tokio::time::timeout(GATHER, queue.recv()).await {
                group.add(next);
            }
        }
        group.add(first);
        while group.jobs.len() < MAX_GROUP
            && let Ok(message) = queue.try_recv()
        {
            group.add(message);
        }
        group.keep(&desk);
    }
    // What came with the last group has been kept; what came after it has not.
    Group::default().keep(&desk);
}

/// What the thread works with.
struct Desk<'a> {
    database: &'a Database,
    waiting: &'a Waiting,
    fault: &'a dyn Fn(String) -> StoreError,
}

impl Desk<'_> {
    /// Commits these jobs and what these ledgers have. Fails where a ledger got something back.
    fn commit(
        &self,
        mut jobs: Vec<Box<dyn Job>>,
        ledgers: Vec<Arc<dyn Ledger>>,
    ) -> Result<(), String> {
        let taken = ledgers.into_iter().map(|ledger| (ledger.take(), ledger));
        let kept: Vec<(Vec<Keep>, Arc<dyn Ledger>)> =
            taken.filter(|(keep, _)| !keep.is_empty()).collect();
        if jobs.is_empty() && kept.is_empty() {
            return Ok(());
        }
        let whole = self.transaction(|transaction| {
            for job in &mut jobs {
                job.apply(transaction)?;
            }
            for keep in kept.iter().flat_map(|(keep, _)| keep) {
                keep.apply(transaction)?;
            }
            Ok(())
        });
        let Err(reason) = whole else {
            if self.waiting.failing.swap(false, Ordering::Relaxed) {
                tracing::info!("the store takes writes again");
            }
            // Whoever is answered may drop the store, and must be the last to have it then.
            drop(kept);
            for job in jobs {
                job.answer(Ok(()));
            }
            return Ok(());
        };
        if !self.waiting.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(
                reason,
                "a group of writes to the store failed; each is tried alone"
            );
        }
        let mut outcome = Ok(());
        for (keep, ledger) in kept {
            let alone = self.transaction(|transaction| {
                keep.iter().try_for_each(|keep| keep.apply(transaction))
            });
            if alone.is_err() {
                ledger.put_back(keep);
                outcome = alone;
            }
        }
        for mut job in jobs {
            let alone = self.transaction(|transaction| job.apply(transaction));
            job.answer(alone.map_err(self.fault));
        }
        outcome
    }

    /// All of it, durably, or nothing.
    fn transaction(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), String> {
        let whole = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            work(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        match catch_unwind(AssertUnwindSafe(whole)) {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(panic) => Err(said(&*panic)),
        }
    }
}
