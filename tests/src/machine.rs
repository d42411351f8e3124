//! Whether the machine was ours: only then can a rhythm be asked of anyone.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;

/// What others may use of the machine before a late poll is no longer the host's fault, in percent.
const OTHERS_PERCENT: u64 = 10;

/// How often the witness looks at the clock.
const LOOK: Duration = Duration::from_millis(5);
/// The witness was kept from a processor where it looks so much too late.
const STALL: Duration = Duration::from_millis(50);
/// The period that a stall may cost a poll of.
const PERIOD: Duration = Duration::from_millis(100);

/// A thread of the test that wants a processor every few milliseconds. What keeps it waiting is the machine and not the host,
/// which is another process.
#[derive(Debug)]
struct Witness {
    over: Arc<AtomicBool>,
    /// How many polls of one channel its waits may have cost.
    periods: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    fn start() -> Self {
        let (over, periods) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (ends, counts) = (over.clone(), periods.clone());
        let thread = std::thread::spawn(move || {
            let mut before = Instant::now();
            while !ends.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK);
                let waited = before.elapsed().saturating_sub(LOOK);
                before = Instant::now();
                if waited >= STALL {
                    let whole = waited.as_millis() / PERIOD.as_millis();
                    counts.fetch_add(
                        u64::try_from(whole).unwrap_or(u64::MAX - 1) + 1,
                        Ordering::Relaxed,
                    );
                }
            }
        });
        Self {
            over,
            periods,
            thread: Some(thread),
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
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
    witness: Witness,
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
            witness: Witness::start(),
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

    /// How many of so many polls of one channel may be late by a whole period: as many as the machine has cost, by what a
    /// witness saw of it, and a hundredth where others took more than a little of it. Says so.
    ///
    /// # Errors
    ///
    /// As [`others_percent`](Self::others_percent).
    pub fn late_at_most(&self, polls: u64, processes: &[u32]) -> Result<u64> {
        let witnessed = self.witness.periods.load(Ordering::Relaxed);
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
