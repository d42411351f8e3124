//! The thread that writes one outbox, and the ends that others hold.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::group::Group;
use super::queue::{Acknowledged, Before, Bounds, Change, Chunk, Queue, QueueReader, marks_of};
use super::{Counts, Mark, OutboxError};
use crate::bus::{Message, Received, Subscription};
use crate::clock::Clock;
use crate::config::Overflow;
use crate::event::{Batch, Gap, GapReason, Item, WallNs};
use crate::store;

/// How long a lane waits that cannot write.
const RETRY: Duration = Duration::from_secs(1);
/// How often it says that it cannot.
const REMIND: Duration = Duration::from_secs(60);
/// How long it waits for what the sink delivers when the host stops.
const LAST: Duration = Duration::from_secs(4);
/// How often it looks for what is too old.
const LOOK: Duration = Duration::from_secs(5);

/// One sink's outbox as it should be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The sink's name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// How much it may hold.
    pub bounds: Bounds,
    /// For how long a batch waits for others, so as to share their commit.
    pub commit: Duration,
}

/// How an outbox is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxStatus {
    /// The file.
    pub path: PathBuf,
    /// What it may hold.
    pub bounds: Bounds,
    /// What it has counted.
    pub counts: Counts,
    /// How long the oldest sample has been in it; zero if it is empty.
    pub oldest: Duration,
    /// Commits since the host started.
    pub commits: u64,
    /// What they took, all together.
    pub commit_time: Duration,
    /// Whether it takes more at the moment.
    pub accepting: bool,
    /// Why it does not.
    pub trouble: Option<String>,
}

/// What an outbox was emptied of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Samples that will not be delivered.
    pub samples: u64,
}

/// A running outbox. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

/// What a sink takes out of its outbox, in order.
pub struct Parcels {
    shared: Arc<Shared>,
    clock: Clock,
    /// The last chunk that was handed out.
    cursor: u64,
    _left: DropGuard,
}

/// A sink's filter: what of a batch is for it.
type Admit = dyn FnMut(&Arc<Batch>) -> Option<Arc<Batch>> + Send;

/// The writing end; `run` is its life.
pub struct Lane {
    plan: Plan,
    subscription: Subscription,
    admit: Box<Admit>,
    clock: Clock,
    stop: CancellationToken,
    queue: Option<Queue>,
    waiting: Group,
    /// When the queue's clock was looked at last.
    looked: Instant,
    reminded: Option<Instant>,
    /// A damaged file was set aside, and no other says so yet.
    was_set_aside: bool,
    shared: Arc<Shared>,
}

struct Shared {
    /// Held while a transaction is under way: what is being read is not dropped meanwhile.
    file: Mutex<File>,
    status: Mutex<OutboxStatus>,
    acknowledged: Mutex<Acknowledged>,
    purges: Mutex<Vec<oneshot::Sender<Purged>>>,
    /// The newest chunk.
    newest: AtomicU64,
    to_lane: Notify,
    to_sink: Notify,
    /// All that was on the bus has been written, or never will be.
    ended: CancellationToken,
    /// The sink takes nothing more.
    left: CancellationToken,
    /// The file could not be read, and is to be opened anew.
    unreadable: AtomicBool,
    /// Samples that it could not write before it ended.
    lost: AtomicU64,
}

#[derive(Default)]
struct File {
    /// `None` while it cannot be opened.
    reader: Option<QueueReader>,
    /// Chunks up to this number are with the sink.
    in_flight: u64,
}

impl Shared {
    /// What was acknowledged and is not noted yet, to be noted now.
    fn take_acknowledged(&self) -> Acknowledged {
        let mut all = locked(&self.acknowledged);
        let until = all.until;
        std::mem::replace(
            &mut all,
            Acknowledged {
                until,
                ..Acknowledged::default()
            },
        )
    }

    /// It could not be noted.
    fn put_back(&self, earlier: Acknowledged) {
        let mut all = locked(&self.acknowledged);
        all.damaged += earlier.damaged;
        all.refused += earlier.refused;
        for (channel, mark) in earlier.marks {
            // What has come meanwhile is later.
            all.marks.entry(channel).or_insert(mark);
        }
    }

    /// The file cannot be read: the lane opens it anew.
    fn broken(&self, reason: &str) {
        let mut status = locked(&self.status);
        if status.trouble.as_deref() != Some(reason) {
            tracing::error!(file = %status.path.display(), reason, "an outbox cannot be read");
            status.trouble = Some(reason.to_owned());
        }
        drop(status);
        self.unreadable.store(true, Ordering::Relaxed);
        self.to_lane.notify_one();
    }
}

/// Says so where a thread panicked: nobody else would know.
struct Witness(Arc<Shared>);

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut status = locked(&self.0.status);
            status.accepting = false;
            status.trouble = Some(
                "the outbox's thread has ended in a fault of Bulkhead's own: start the host again, and report it with the log"
                    .to_owned(),
            );
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    /// Starts the thread. `admit` is the sink's filter.
    pub fn start(
        plan: Plan,
        subscription: Subscription,
        admit: impl FnMut(&Arc<Batch>) -> Option<Arc<Batch>> + Send + 'static,
        clock: Clock,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> (Self, Parcels) {
        let shared = Arc::new(Shared {
            file: Mutex::default(),
            status: Mutex::new(OutboxStatus {
                path: plan.path.clone(),
                bounds: plan.bounds,
                counts: Counts::default(),
                oldest: Duration::ZERO,
                commits: 0,
                commit_time: Duration::ZERO,
                accepting: false,
                trouble: None,
            }),
            acknowledged: Mutex::default(),
            purges: Mutex::default(),
            newest: AtomicU64::new(0),
            to_lane: Notify::new(),
            to_sink: Notify::new(),
            ended: CancellationToken::new(),
            left: CancellationToken::new(),
            unreadable: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        });
        let lane = Lane {
            plan,
            subscription,
            admit: Box::new(admit),
            clock,
            stop,
            queue: None,
            waiting: Group::default(),
            looked: Instant::now(),
            reminded: None,
            was_set_aside: false,
            shared: shared.clone(),
        };
        let runtime = tokio::runtime::Handle::current();
        tasks.spawn_blocking(move || runtime.block_on(lane.run()));
        let parcels = Parcels {
            _left: shared.left.clone().drop_guard(),
            shared: shared.clone(),
            clock,
            cursor: 0,
        };
        (Self { shared }, parcels)
    }

    /// How it is.
    pub fn status(&self) -> OutboxStatus {
        locked(&self.shared.status).clone()
    }

    /// Whether it has written all that it ever will.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.is_cancelled()
    }

    /// Samples that it could not write before it ended.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// The number of the newest chunk.
    pub fn newest(&self) -> u64 {
        self.shared.newest.load(Ordering::Acquire)
    }

    /// How far each channel has got. Waits for the disk.
    pub fn marks(&self) -> Result<Vec<Mark>, OutboxError> {
        let file = locked(&self.shared.file);
        file.reader
            .as_ref()
            .map_or(Ok(Vec::new()), |reader| tried(|| reader.marks()))
    }

    /// What is in it after a chunk, and the number of the last chunk of that; empty at the end. Waits for the disk.
    pub fn peek(&self, after: u64, most_samples: u64) -> Result<(u64, Vec<Item>), OutboxError> {
        let file = locked(&self.shared.file);
        let Some(reader) = &file.reader else {
            return Ok((after, Vec::new()));
        };
        let chunks = tried(|| reader.read(after, most_samples, WallNs(0)))?;
        let last = chunks.last().map_or(after, |chunk| chunk.number);
        Ok((
            last,
            chunks.into_iter().flat_map(|chunk| chunk.entries).collect(),
        ))
    }

    /// Drops all that is not with the sink at the moment; a gap stands in its place. `None` if the lane has ended.
    pub async fn purge(&self) -> Option<Purged> {
        let (answer, answered) = oneshot::channel();
        locked(&self.shared.purges).push(answer);
        self.shared.to_lane.notify_one();
        tokio::select! {
            purged = answered => purged.ok(),
            () = self.shared.ended.cancelled() => None,
        }
    }
}

impl Parcels {
    /// The next chunks, as soon as there are any, until they hold `most_samples`; what is there at once where `linger` is zero, or what has
    /// come within it. `None` once the lane has ended and everything was handed out.
    pub(crate) async fn next(&mut self, most_samples: u64, linger: Duration) -> Option<Parcel> {
        let mut until: Option<Instant> = None;
        loop {
            let shared = self.shared.clone();
            let woken = shared.to_sink.notified();
            let ended = self.shared.ended.is_cancelled();
            // While it waits for more, nothing is read that would be read again.
            let is_due = until.is_none_or(|until| ended || Instant::now() >= until);
            let chunks = if is_due {
                self.read(most_samples)
            } else {
                Vec::new()
            };
            let samples: u64 = chunks
                .iter()
                .flat_map(|chunk| &chunk.entries)
                .map(Item::samples)
                .sum();
            if !chunks.is_empty() {
                let now = Instant::now();
                let waits_until = *until.get_or_insert(now + linger);
                if samples >= most_samples || ended || now >= waits_until {
                    return Some(self.hand_out(chunks));
                }
            } else if is_due {
                if ended {
                    return None;
                }
                until = None;
            }
            let wait = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => woken.await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = shared.ended.cancelled(), if !ended => {}
            }
        }
    }

    fn read(&self, most_samples: u64) -> Vec<Chunk> {
        if self.shared.newest.load(Ordering::Acquire) <= self.cursor {
            return Vec::new();
        }
        let mut file = locked(&self.shared.file);
        let Some(reader) = &file.reader else {
            return Vec::new();
        };
        match tried(|| reader.read(self.cursor, most_samples, self.clock.wall())) {
            Ok(chunks) => {
                if let Some(last) = chunks.last() {
                    file.in_flight = file.in_flight.max(last.number);
                }
                chunks
            }
            Err(error) => {
                file.reader = None;
                drop(file);
                self.shared.broken(&error.to_string());
                Vec::new()
            }
        }
    }

    fn hand_out(&mut self, chunks: Vec<Chunk>) -> Parcel {
        let marks = marks_of(chunks.iter().flat_map(|chunk| &chunk.entries));
        self.cursor = chunks.last().map_or(self.cursor, |chunk| chunk.number);
        Parcel {
            until: self.cursor,
            damaged: chunks.iter().map(|chunk| chunk.damaged).sum(),
            marks,
            items: chunks.into_iter().flat_map(|chunk| chunk.entries).collect(),
        }
    }

    /// The sink has acknowledged all of it, but for so many samples that its peer will never take.
    pub(crate) fn acknowledge(&self, parcel: Parcel, refused: u64) {
        {
            let mut acknowledged = locked(&self.shared.acknowledged);
            acknowledged.until = parcel.until;
            acknowledged.damaged += parcel.damaged;
            acknowledged.refused += refused;
            acknowledged.marks.extend(parcel.marks);
        }
        self.shared.to_lane.notify_one();
    }
}

/// Chunks on their way to a sink.
pub struct Parcel {
    until: u64,
    damaged: u64,
    marks: BTreeMap<Box<str>, (u64, u64)>,
    pub(crate) items: Vec<Item>,
}

impl Lane {
    /// Gathers and commits until the host stops, then what is left, once.
    async fn run(mut self) {
        let _ended = self.shared.ended.clone().drop_guard();
        let _witness = Witness(self.shared.clone());
        self.open();
        let mut stopping = false;
        while !stopping {
            let room = self.waiting.fullness() < 1.0;
            let retry = if self.reminded.is_some() { RETRY } else { LOOK };
            let shared = self.shared.clone();
            tokio::select! {
                received = self.subscription.next(), if room => match received {
                    Some(received) => self.take(received),
                    None => stopping = true,
                },
                () = shared.to_lane.notified() => {}
                () = tokio::time::sleep(retry) => {}
                () = self.stop.cancelled() => stopping = true,
            }
            // Company: whatever comes within the interval shares the commit, acknowledgements too.
            self.gather();
            let is_enough = self.waiting.fullness() >= 0.5;
            if !stopping && !is_enough && !self.plan.commit.is_zero() {
                let stop = self.stop.clone();
                tokio::select! {
                    () = tokio::time::sleep(self.plan.commit) => {}
                    () = stop.cancelled() => stopping = true,
                }
            }
            if self.shared.unreadable.swap(false, Ordering::Relaxed) {
                locked(&self.shared.file).reader = None;
                self.queue = None;
            }
            self.gather();
            self.commit();
        }
        // The channels have stopped: what is on the bus is the last.
        loop {
            self.gather();
            let was_empty = self.waiting.is_empty();
            self.commit();
            if was_empty || !self.waiting.is_empty() {
                break;
            }
        }
        let lost = self.waiting.samples();
        self.shared.lost.store(lost, Ordering::Relaxed);
        self.shared.ended.cancel();
        // What the sink still delivers would come again if nobody noted it.
        if tokio::time::timeout(LAST, self.shared.left.cancelled())
            .await
            .is_ok()
        {
            self.waiting.clear();
            self.commit();
        }
    }

    fn gather(&mut self) {
        while self.waiting.fullness() < 1.0 {
            // Without `unconstrained` tokio may say that there is nothing, only to let others run.
            let next = tokio::task::unconstrained(self.subscription.next()).now_or_never();
            match next.flatten() {
                Some(received) => self.take(received),
                None => break,
            }
        }
    }

    fn take(&mut self, received: Received) {
        let item = match received {
            Received::Message(Message::Samples(batch)) => match (self.admit)(&batch) {
                Some(batch) => Item::Batch(batch),
                None => return,
            },
            Received::Message(Message::Event(_)) => return,
            Received::Gap(missed) => Item::Gap(Gap {
                messages: missed.messages,
                samples: missed.samples,
                reason: GapReason::Slow,
                at: self.clock.wall(),
            }),
        };
        self.waiting.push(&item);
    }

    /// Commits what waits, if it may, and what was acknowledged.
    fn commit(&mut self) {
        if self.queue.is_none() {
            self.open();
        }
        let now = Instant::now();
        let elapsed = now - self.looked;
        let mut purges = std::mem::take(&mut *locked(&self.shared.purges));
        // Whoever has given up does not want it any more.
        purges.retain(|asked| !asked.is_closed());
        let acknowledged = locked(&self.shared.acknowledged).until;
        let Some(queue) = &mut self.queue else {
            locked(&self.shared.purges).extend(purges);
            return;
        };
        let blocked = self.plan.bounds.overflow == Overflow::Block && queue.is_full();
        let entries = if blocked && purges.is_empty() {
            <&Group>::default()
        } else {
            &self.waiting
        };
        let idle = entries.is_empty() && purges.is_empty() && acknowledged == queue.removed();
        if idle && (elapsed < LOOK || queue.counts().samples == 0) {
            return;
        }
        let before = queue.counts().dropped;
        let mut file = locked(&self.shared.file);
        let change = Change {
            entries,
            acknowledged: self.shared.take_acknowledged(),
            in_flight: file.in_flight,
            purge: !purges.is_empty(),
            elapsed,
            now: self.clock.wall(),
        };
        let done = tried(|| queue.change(&change));
        let took = now.elapsed();
        match done {
            Ok(()) => {
                let accepted = !entries.is_empty();
                if accepted {
                    self.waiting.clear();
                }
                self.looked = now;
                let is_full = queue.is_full();
                let counts = queue.counts().clone();
                let oldest = file
                    .reader
                    .as_ref()
                    .and_then(|reader| tried(|| reader.oldest()).ok().flatten());
                drop(file);
                self.shared.newest.store(counts.next, Ordering::Release);
                self.shared.to_sink.notify_one();
                let purged = counts.dropped[GapReason::Purged as usize]
                    .saturating_sub(before[GapReason::Purged as usize]);
                for answer in purges {
                    if answer.send(Purged { samples: purged }).is_err() {
                        tracing::debug!("whoever asked for a purge has gone");
                    }
                }
                self.say_dropped(&before, &counts);
                if blocked && !is_full && !self.waiting.is_empty() {
                    // There is room again: at once.
                    self.shared.to_lane.notify_one();
                }
                let blocked = is_full && self.plan.bounds.overflow == Overflow::Block;
                let mut status = locked(&self.shared.status);
                status.counts = counts;
                status.oldest = oldest.unwrap_or_default();
                status.commits += 1;
                status.commit_time += took;
                status.accepting = !blocked;
                status.trouble = blocked.then(|| {
                    "the outbox is full and blocks: see to its sink, or make `max_bytes` larger"
                        .to_owned()
                });
                drop(status);
                if self.reminded.take().is_some() {
                    tracing::info!(sink = self.plan.name, "the outbox accepts samples again");
                }
            }
            Err(error) => {
                file.reader = None;
                drop(file);
                self.shared.put_back(change.acknowledged);
                self.queue = None;
                locked(&self.shared.purges).extend(purges);
                self.complain(&error.to_string());
                self.open();
                self.only_make_room();
            }
        }
    }

    /// Where nothing can be added, what was acknowledged may still go, and leave room.
    fn only_make_room(&mut self) {
        let Some(queue) = &mut self.queue else { return };
        if locked(&self.shared.acknowledged).until <= queue.removed() {
            return;
        }
        let mut file = locked(&self.shared.file);
        let change = Change {
            acknowledged: self.shared.take_acknowledged(),
            in_flight: file.in_flight,
            now: self.clock.wall(),
            ..Change::default()
        };
        if tried(|| queue.change(&change)).is_err() {
            self.shared.put_back(change.acknowledged);
            file.reader = None;
            self.queue = None;
        }
    }

    fn open(&mut self) {
        match self.opened() {
            Ok(queue) => {
                let mut file = locked(&self.shared.file);
                file.reader = Some(queue.reader());
                drop(file);
                let newest = queue.counts().next;
                self.shared.newest.store(newest, Ordering::Release);
                let mut status = locked(&self.shared.status);
                status.counts = queue.counts().clone();
                status.accepting = self.reminded.is_none();
                drop(status);
                self.queue = Some(queue);
                self.shared.to_sink.notify_one();
            }
            Err(error) => self.complain(&error.to_string()),
        }
    }

    fn opened(&mut self) -> Result<Queue, OutboxError> {
        let plan = &self.plan;
        let fault = |reason: String| OutboxError::Open {
            path: plan.path.clone(),
            reason,
        };
        if let Some(folder) = plan.path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| fault(error.to_string()))?;
        }
        let lost = "what the sink had not acknowledged is in that file";
        let (database, aside) =
            store::open_database(&plan.path, lost).map_err(|error| fault(error.to_string()))?;
        self.was_set_aside |= aside.is_some();
        let before = Before {
            // The numbers of a file that is not there any more are not used again.
            newest: self.shared.newest.load(Ordering::Acquire),
            was_set_aside: self.was_set_aside,
            samples: locked(&self.shared.status).counts.samples,
            now: self.clock.wall(),
        };
        let queue = tried(|| Queue::new(Arc::new(database), plan.bounds, before))?;
        self.was_set_aside = false;
        Ok(queue)
    }

    fn complain(&mut self, reason: &str) {
        if self.reminded.is_none_or(|at| at.elapsed() >= REMIND) {
            let waiting: u64 = self.waiting.samples();
            tracing::error!(
                sink = self.plan.name,
                reason,
                waiting,
                "the outbox accepts nothing at the moment; it tries again each second"
            );
            self.reminded = Some(Instant::now());
        }
        let mut status = locked(&self.shared.status);
        status.accepting = false;
        status.trouble = Some(reason.to_owned());
    }

    fn say_dropped(&self, before: &[u64; GapReason::ALL.len()], counts: &Counts) {
        for (reason, (before, now)) in GapReason::ALL
            .iter()
            .zip(before.iter().zip(&counts.dropped))
        {
            if now > before {
                tracing::warn!(
                    sink = self.plan.name,
                    reason = reason.as_str(),
                    samples = now - before,
                    "the outbox dropped samples"
                );
            }
        }
    }
}

/// The library panics where a file is damaged in ways that it does not expect.
fn tried<T>(work: impl FnOnce() -> Result<T, OutboxError>) -> Result<T, OutboxError> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|panic| Err(OutboxError::Panicked(store::said(&*panic))))
}
