//! The chronicle of one channel.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::event::{self, History, MAX_EVENTS, New};
use super::latency::LatencyCells;
use super::statistics::{STATISTICS, Statistics};
use crate::clock::Clock;
use crate::event::{MonotonicNs, WallNs};
use crate::exit::{Exit, ExitKind};
use crate::ids::ChannelId;
use crate::lifecycle::State;
use crate::store::{Found, Keep, Ledger, Store, StoreError};

/// Events that wait for the disk; with a word on those that found no room, the history is full of them.
const MAX_WAITING: u64 = MAX_EVENTS - 1;

/// What a channel has gone through. Its task tells it; everybody may ask it.
pub struct Chronicle {
    channel: ChannelId,
    store: Store,
    clock: Clock,
    latencies: LatencyCells,
    /// What the statistics were when this was opened.
    began: Statistics,
    fuel: AtomicU64,
    fuel_max_turn: AtomicU64,
    peak_memory: AtomicU64,
    rest: Mutex<Rest>,
    /// Whether the store has been asked to take what is new.
    asked: AtomicBool,
}

/// What is told when a state changes.
struct Rest {
    /// Of these, what stands in atomics is what it was when the host started.
    statistics: Statistics,
    /// Since when the channel has been running, if it is.
    running_since: Option<MonotonicNs>,
    /// Events that are not on the disk yet.
    events: VecDeque<Vec<u8>>,
    /// Those that found no room, since the disk has been away for long.
    lost: u64,
    /// Of those, the ones of which the store was told when it took what was new the last time.
    lost_told: u64,
}

impl Chronicle {
    /// Goes on where the last run of the host ended. Statistics that cannot be read begin anew, and the history says so.
    pub fn open(channel: ChannelId, store: Store, clock: Clock) -> Arc<Self> {
        let mut warning = None;
        let statistics = match store.slot(&STATISTICS, &channel) {
            Ok(Found::Nothing) => None,
            Ok(Found::Whole(payload)) => {
                let statistics = Statistics::decode(&payload);
                if statistics.is_none() {
                    warning = Some("their shape is not known".to_owned());
                }
                statistics
            }
            Ok(Found::SetAside(damage)) => {
                warning = Some(damage);
                None
            }
            Err(error) => {
                warning = Some(error.to_string());
                None
            }
        };
        let statistics = statistics.unwrap_or_else(|| Statistics {
            since: clock.wall(),
            ..Statistics::default()
        });
        let chronicle = Arc::new(Self {
            channel,
            store,
            clock,
            latencies: LatencyCells::beginning_with(&statistics.latencies),
            began: statistics.clone(),
            fuel: AtomicU64::new(statistics.fuel),
            fuel_max_turn: AtomicU64::new(statistics.fuel_max_turn),
            peak_memory: AtomicU64::new(statistics.peak_memory),
            rest: Mutex::new(Rest {
                statistics,
                running_since: None,
                events: VecDeque::new(),
                lost: 0,
                lost_told: 0,
            }),
            asked: AtomicBool::new(false),
        });
        if let Some(why) = warning {
            let sentence = format!("the channel's statistics begin anew: {why}");
            tracing::warn!(channel = %chronicle.channel, "{sentence}");
            chronicle.warned(clock.wall(), 0, &sentence);
        }
        chronicle
    }

    /// A turn has returned. Called by the channel's task only.
    pub fn spent(&self, fuel: u64, peak_memory: u64) {
        let total = self.fuel.load(Ordering::Relaxed).saturating_add(fuel);
        self.fuel.store(total, Ordering::Relaxed);
        for (most, now) in [
            (&self.fuel_max_turn, fuel),
            (&self.peak_memory, peak_memory),
        ] {
            if now > most.load(Ordering::Relaxed) {
                most.store(now, Ordering::Relaxed);
            }
        }
    }

    /// A turn, with what it asked for, has taken so long. Called by the channel's task only.
    pub fn took(&self, time: Duration) {
        self.latencies.count(time);
    }

    /// The running state has changed, from the first to the second.
    pub fn stepped(
        self: &Arc<Self>,
        (at, now): (WallNs, MonotonicNs),
        incarnation: u64,
        (from, to): (State, State),
        cause: &str,
    ) {
        let mut rest = self.rest();
        match (rest.running_since, to.takes_requests()) {
            (None, true) => rest.running_since = Some(now),
            (Some(since), false) => {
                rest.statistics.running += now.since(since);
                rest.running_since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
        if to == State::Starting {
            rest.statistics.lives += 1;
        }
        rest.add(event::state(from, to, cause), at, incarnation);
        drop(rest);
        self.ask();
    }

    /// A life has ended, and nobody had asked for it.
    pub fn exited(self: &Arc<Self>, at: WallNs, incarnation: u64, exit: &Exit) {
        let mut rest = self.rest();
        rest.statistics.count_exit(exit.kind);
        rest.add(event::exit(exit), at, incarnation);
        drop(rest);
        self.ask();
    }

    /// A life has ended because somebody asked for it. What follows in the history says more.
    pub fn stopped(self: &Arc<Self>) {
        self.rest().statistics.count_exit(ExitKind::Stopped);
        self.ask();
    }

    /// The host noticed something that an operator should know.
    pub fn warned(self: &Arc<Self>, at: WallNs, incarnation: u64, sentence: &str) {
        self.rest().add(event::warning(sentence), at, incarnation);
        self.ask();
    }

    /// The statistics of this moment.
    pub fn statistics(&self) -> Statistics {
        let rest = self.rest();
        let mut statistics = rest.statistics.clone();
        if let Some(since) = rest.running_since {
            statistics.running += self.clock.monotonic().since(since);
        }
        drop(rest);
        statistics.fuel = self.fuel.load(Ordering::Relaxed);
        statistics.fuel_max_turn = self.fuel_max_turn.load(Ordering::Relaxed);
        statistics.peak_memory = self.peak_memory.load(Ordering::Relaxed);
        statistics.latencies = self.latencies.read();
        statistics
    }

    /// What the statistics were when the channel was first seen in this run of the host: what it has done since is the difference.
    pub fn began(&self) -> &Statistics {
        &self.began
    }

    /// How long the turns since then took, all together.
    pub fn turn_time(&self) -> Duration {
        self.latencies.total()
    }

    /// The history, as it is on the disk. Blocks for as long as the disk takes; whoever wants the newest event in it
    /// flushes the store before.
    pub fn history(&self) -> Result<History, StoreError> {
        event::read(&self.store, &self.channel)
    }

    /// Has the store take what is new, the statistics at least.
    pub fn ask(self: &Arc<Self>) {
        if !self.asked.swap(true, Ordering::AcqRel) {
            self.store.ask(self.clone());
        }
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rest {
    fn add(&mut self, new: New<'_>, at: WallNs, incarnation: u64) {
        self.events.push_back(new.encode(at, incarnation));
        self.bound();
    }

    fn bound(&mut self) {
        while self.events.len() as u64 > MAX_WAITING {
            self.events.pop_front();
            self.lost += 1;
        }
    }
}

impl Ledger for Chronicle {
    fn take(&self) -> Vec<Keep> {
        self.asked.store(false, Ordering::Release);
        let statistics = self.statistics().encode();
        let mut rest = self.rest();
        let lost = std::mem::take(&mut rest.lost);
        rest.lost_told = lost;
        let events = std::mem::take(&mut rest.events);
        drop(rest);
        let mut keep = Vec::with_capacity(events.len() + 2);
        if lost > 0 {
            let sentence = format!("{lost} older events were lost: the store took none for long");
            let warning = event::warning(&sentence).encode(self.clock.wall(), 0);
            keep.push(Keep::List(event::list(), (&self.channel).into(), warning));
        }
        let list = |event| Keep::List(event::list(), (&self.channel).into(), event);
        keep.extend(events.into_iter().map(list));
        keep.push(Keep::Slot(&STATISTICS, (&self.channel).into(), statistics));
        keep
    }

    fn put_back(&self, keep: Vec<Keep>) {
        let mut rest = self.rest();
        let told = std::mem::take(&mut rest.lost_told);
        rest.lost += told;
        let events = keep.into_iter().skip(usize::from(told > 0));
        for keep in events.rev() {
            if let Keep::List(_, _, event) = keep {
                rest.events.push_front(event);
            }
        }
        rest.bound();
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::What;
    use super::*;
    use crate::exit::During;

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("bulkhead-history-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn open(folder: &Folder, clock: Clock) -> (Store, Arc<Chronicle>) {
        let store = Store::open(&folder.0).unwrap();
        let channel = ChannelId::new("press-3").unwrap();
        let chronicle = Chronicle::open(channel, store.clone(), clock);
        (store, chronicle)
    }

    #[tokio::test]
    async fn what_was_told_is_there_after_a_restart_and_goes_on_from_there() {
        let folder = Folder::new("restart");
        let (store, chronicle) = open(&folder, Clock::start());
        let seconds = |seconds: u64| {
            let nanos = seconds * 1_000_000_000;
            (WallNs(nanos), MonotonicNs(nanos))
        };
        let life = |chronicle: &Arc<Chronicle>, incarnation: u64| {
            let tell = |from, to, cause| {
                chronicle.stepped(seconds(incarnation), incarnation, (from, to), cause);
            };
            tell(State::Stopped, State::Starting, "the host starts");
            tell(State::Starting, State::Running, "it took its first turn");
            tell(State::Running, State::Degraded, "a link is down");
            chronicle.spent(100 * incarnation, 7_000);
            chronicle.took(Duration::from_micros(3));
        };
        life(&chronicle, 1);
        let exit = Exit::new(ExitKind::Trapped, During::Turn, "unreachable");
        chronicle.exited(seconds(11).0, 1, &exit);
        let step = (State::Degraded, State::Broken);
        chronicle.stepped(seconds(11), 1, step, "that was one too many");
        let before = chronicle.statistics();
        assert_eq!(before.running, Duration::from_secs(10));
        store.flush().await.unwrap();
        drop((store, chronicle));

        let (store, chronicle) = open(&folder, Clock::start());
        assert_eq!(chronicle.statistics(), before);
        life(&chronicle, 2);
        chronicle.stopped();
        store.flush().await.unwrap();
        let statistics = chronicle.statistics();
        let exits: Vec<_> = statistics
            .exits
            .iter()
            .map(|(k, n)| (k.as_str(), *n))
            .collect();
        assert_eq!(exits, [("stopped", 1), ("trapped", 1)]);
        assert_eq!(
            (statistics.lives, statistics.fuel, statistics.fuel_max_turn),
            (2, 300, 200)
        );
        assert_eq!(statistics.peak_memory, 7_000);
        assert_eq!(statistics.latencies.count(), 2);
        let history = chronicle.history().unwrap();
        let seen: Vec<String> = history
            .events
            .iter()
            .map(|past| {
                let what = match &past.what {
                    What::State { from, to, .. } => format!("{from} to {to}"),
                    What::Exit { kind, .. } => kind.clone(),
                    What::Warning { sentence } => sentence.clone(),
                };
                format!("{} #{} {what}", past.number, past.incarnation)
            })
            .collect();
        let expected = [
            "1 #1 stopped to starting",
            "2 #1 starting to running",
            "3 #1 running to degraded",
            "4 #1 trapped",
            "5 #1 degraded to broken",
            "6 #2 stopped to starting",
            "7 #2 starting to running",
            "8 #2 running to degraded",
        ];
        assert_eq!(seen, expected);
    }

    #[tokio::test]
    async fn the_last_hundred_are_kept_whether_the_disk_is_there_or_not() {
        let folder = Folder::new("hundred");
        let (store, chronicle) = open(&folder, Clock::start());
        for number in 0..150 {
            chronicle.warned(WallNs(number), 0, "look");
            if number % 50 == 0 {
                store.flush().await.unwrap();
            }
        }
        store.flush().await.unwrap();
        let history = chronicle.history().unwrap();
        let times: Vec<u64> = history.events.iter().map(|past| past.at.0).collect();
        assert_eq!(times, (50..150).collect::<Vec<u64>>());
        assert_eq!((history.dropped, history.unreadable), (50, 0));

        // The disk takes nothing: the newest wait, and are there in the end, with a word on what is lost.
        for number in 150..270 {
            chronicle
                .rest()
                .add(event::warning("look"), WallNs(number), 0);
        }
        let first = chronicle.take();
        chronicle.rest().add(event::warning("look"), WallNs(270), 0);
        chronicle.put_back(first);
        chronicle.ask();
        store.flush().await.unwrap();
        let history = chronicle.history().unwrap();
        let (word, events) = history.events.split_first().unwrap();
        let sentence = "22 older events were lost: the store took none for long".to_owned();
        assert_eq!(word.what, What::Warning { sentence });
        let times: Vec<u64> = events.iter().map(|past| past.at.0).collect();
        assert_eq!(times, (172..=270).collect::<Vec<u64>>());
    }
}
