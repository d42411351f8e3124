//! Whether the machine was ours: only then can a rhythm be asked of anyone.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::time::Instant;

/// What others may use of the machine before a late poll is no longer the host's fault, in percent.
const OTHERS_PERCENT: u64 = 10;

/// How often a witness looks at the clock.
const LOOK: Duration = Duration::from_millis(5);

/// Threads of the test, one on each processor, that want it every few milliseconds. What keeps them waiting is the machine, and hardly
/// the host, which is another process: it would have to keep a processor busy with several threads at once.
#[derive(Debug)]
struct Witnesses {
    over: Arc<AtomicBool>,
    threads: Vec<(JoinHandle<()>, Arc<Mutex<Seen>>)>,
}

/// What one of them has seen.
#[derive(Debug)]
struct Seen {
    /// When it looked last.
    looked: Instant,
    /// From when to when it was kept waiting, wherever that was longer than it takes to look.
    waits: Vec<(Instant, Instant)>,
}

impl Seen {
    fn look(&mut self) {
        let now = Instant::now();
        self.waits.extend(self.wait_until(now));
        self.looked = now;
    }

    /// The wait that ends now, if there is one.
    fn wait_until(&self, now: Instant) -> Option<(Instant, Instant)> {
        let due = self.looked + LOOK;
        (now > due + LOOK).then_some((due, now))
    }
}

impl Witnesses {
    fn start() -> Result<Self> {
        let over = Arc::<AtomicBool>::default();
        let threads = processors()?.into_iter().map(|place| {
            let seen = Arc::new(Mutex::new(Seen {
                looked: Instant::now(),
                waits: Vec::new(),
            }));
            let (ends, sees) = (over.clone(), seen.clone());
            let witness = move || {
                let mut this = CpuSet::new();
                this.set(place);
                // Where it cannot be bound to its processor, it sees what the kernel lets it see.
                let _bound = sched_setaffinity(None, &this);
                while !ends.load(Ordering::Relaxed) {
                    std::thread::sleep(LOOK);
                    lock(&sees).look();
                }
            };
            (std::thread::spawn(witness), seen)
        });
        let threads = threads.collect();
        Ok(Self { over, threads })
    }

    /// How many polls of one channel with this period their waits may have cost: those that took half of it. A moment at which several
    /// waited counts once.
    fn polls(&self, period: Duration) -> u64 {
        let now = Instant::now();
        let mut waits: Vec<(Instant, Instant)> = Vec::new();
        for (_, seen) in &self.threads {
            let seen = lock(seen);
            waits.extend(seen.waits.iter().copied().chain(seen.wait_until(now)));
        }
        waits.sort_unstable();
        // Each is joined with those that begin before it ends.
        waits.dedup_by(|next, before| {
            let is_one = next.0 <= before.1;
            if is_one {
                before.1 = before.1.max(next.1);
            }
            is_one
        });
        let waits = waits.iter().map(|(from, to)| *to - *from);
        let long = waits.filter(|wait| *wait >= period / 2);
        long.map(|wait| whole(wait, period) + 1).sum()
    }
}

/// Those that this process may use.
fn processors() -> Result<Vec<usize>> {
    let all = sched_getaffinity(None);
    let all = all.context("the kernel does not say which processors there are")?;
    let places = (0..CpuSet::MAX_CPU).filter(|place| all.is_set(*place));
    Ok(places.collect())
}

fn whole(wait: Duration, period: Duration) -> u64 {
    u64::try_from(wait.as_nanos() / period.as_nanos().max(1)).unwrap_or(u64::MAX >> 1)
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Witnesses {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for (thread, _) in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// The use of the processors from some moment on.
#[derive(Debug)]
pub struct Machine {
    begun: Ticks,
    /// What the processes that count as ours had used by then.
    ours: u64,
    witnesses: Witnesses,
}

/// Of all processors together, in the kernel's ticks.
#[derive(Debug, Clone, Copy)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl Machine {
    /// From now on.
    ///
    /// # Errors
    ///
    /// Where the kernel does not say.
    pub fn watch(processes: &[u32]) -> Result<Self> {
        Ok(Self {
            begun: ticks()?,
            ours: used(processes)?,
            witnesses: Witnesses::start()?,
        })
    }

    /// How much of all processors others have used since, in percent. Ours are these processes and this one.
    ///
    /// # Errors
    ///
    /// Where the kernel does not say, or one of them has ended.
    pub fn others_percent(&self, processes: &[u32]) -> Result<u64> {
        let (now, ours) = (ticks()?, used(processes)? - self.ours);
        let all = (now.all - self.begun.all).max(1);
        Ok((now.busy - self.begun.busy).saturating_sub(ours) * 100 / all)
    }

    /// How many of so many polls of one channel with this period may be late by all of it: as many as the machine has cost, by what
    /// its witnesses saw, and a hundredth where others took more than a little of it. Says so.
    ///
    /// # Errors
    ///
    /// As [`others_percent`](Self::others_percent).
    pub fn late_at_most(&self, polls: u64, period: Duration, processes: &[u32]) -> Result<u64> {
        let witnessed = self.witnesses.polls(period);
        if witnessed > 0 {
            println!("the machine kept everybody waiting: {witnessed} polls may be late");
        }
        let others = self.others_percent(processes)?;
        if others <= OTHERS_PERCENT {
            return Ok(witnessed);
        }
        println!("others used {others} % of this machine: one poll of a hundred may be late");
        Ok(polls.div_ceil(100).max(witnessed))
    }
}

/// `cpu user nice system idle iowait irq softirq steal ..`, see proc(5). What a hypervisor takes counts as busy.
fn ticks() -> Result<Ticks> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let all = fields.iter().sum();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    Ok(Ticks {
        busy: all - idle,
        all,
    })
}

/// What these processes and this one have used: fields 14 and 15 of `/proc/PID/stat`.
fn used(processes: &[u32]) -> Result<u64> {
    let this = std::process::id();
    let mut sum = 0;
    for process in processes.iter().chain([&this]) {
        let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name, in parentheses, may hold anything.
        let (_, rest) = text.rsplit_once(')').context("no name")?;
        let times = rest.split_whitespace().skip(11).take(2);
        for time in times {
            sum += time.parse::<u64>()?;
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::Running;

    #[test]
    fn a_wait_costs_the_polls_that_fall_into_it() -> Result<()> {
        let witnesses = Witnesses::start()?;
        assert_eq!(witnesses.threads.len(), processors()?.len());
        let hour = Duration::from_secs(3600);
        let begun = Instant::now();
        let at = |hours: f64| begun + hour.mul_f64(hours);
        let waits = [
            // Half an hour, nearly that, and three hours that two of them waited, each for a part.
            (0.0, 0.5),
            (1.0, 1.499),
            (2.0, 4.5),
            (3.0, 5.0),
            (2.5, 3.5),
        ];
        let mut seen = witnesses.threads.iter().cycle();
        for (from, to) in waits {
            let (_, seen) = seen.next().context("a witness")?;
            lock(seen).waits.push((at(from), at(to)));
        }
        assert_eq!(witnesses.polls(hour), 1 + 4);
        assert_eq!(witnesses.polls(7 * hour), 0);
        Ok(())
    }

    #[test]
    fn a_wait_counts_while_it_lasts() -> Result<()> {
        let witnesses = Witnesses::start()?;
        let hour = Duration::from_secs(3600);
        let begun = Instant::now();
        let mut seen = Seen {
            looked: begun,
            waits: Vec::new(),
        };
        assert_eq!(seen.wait_until(begun + 2 * LOOK), None);
        let wait = (begun + LOOK, begun + hour);
        assert_eq!(seen.wait_until(begun + hour), Some(wait));
        seen.look();
        assert_eq!(witnesses.polls(hour), 0);
        Ok(())
    }

    #[test]
    fn what_we_use_is_not_what_others_use() -> Result<()> {
        let mut busy = Command::new("sh");
        busy.args(["-c", "while :; do :; done"]);
        let busy = Running::start(&mut busy)?;
        let both = |machine: &Machine| -> Result<_> {
            Ok((
                machine.others_percent(&[busy.id()])?,
                machine.others_percent(&[])?,
            ))
        };
        let with = Machine::watch(&[busy.id()])?;
        let without = Machine::watch(&[])?;
        // Until it has used a second of a processor.
        while used(&[busy.id()])? - with.ours < 100 {
            std::thread::yield_now();
        }
        let ((ours, _), (_, others)) = (both(&with)?, both(&without)?);
        assert!(ours < others, "{ours} % and {others} %");
        Ok(())
    }
}
