//! Between those who log and a pipe that nobody may be draining: a bounded queue, and a thread of its own that writes.
//!
//! Standard error is written to synchronously by the operating system: with a full pipe behind it, whoever logs would hang, and
//! with it the thread that runs other channels. So lines are handed over or dropped, never waited for, and what was dropped is
//! counted and told as soon as somebody reads again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const BOUND: usize = 1024;
/// The longest line, in bytes: a backtrace of the longest names. More is cut.
const MAX_LINE: usize = 64 * 1024;

/// Takes lines and never waits. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LogWriter {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

enum Message {
    Line(Box<[u8]>),
    /// Answered once all before it is written.
    Flush(SyncSender<()>),
}

impl LogWriter {
    /// Starts the thread. `notice` words a line about so many that were dropped, its end included.
    pub(super) fn start(
        to: impl Write + Send + 'static,
        notice: fn(u64) -> String,
    ) -> io::Result<Self> {
        Self::with_bound(to, notice, BOUND)
    }

    fn with_bound(
        to: impl Write + Send + 'static,
        notice: fn(u64) -> String,
        bound: usize,
    ) -> io::Result<Self> {
        let (queue, lines) = sync_channel(bound);
        let dropped = Arc::<AtomicU64>::default();
        let count = dropped.clone();
        std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || write_all(to, &lines, &count, notice))?;
        Ok(Self { queue, dropped })
    }

    /// Hands over a line with its end, or counts it as dropped.
    pub(super) fn line(&self, line: &[u8]) {
        let cut = line.len() > MAX_LINE;
        let mut line = line.get(..MAX_LINE).unwrap_or(line).to_vec();
        if cut {
            line.push(b'\n');
        }
        match self.queue.try_send(Message::Line(line.into())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until what was handed over is written, at most so long.
    pub(super) fn flush(&self, most: Duration) {
        const STEP: Duration = Duration::from_millis(5);
        let (done, written) = sync_channel(1);
        let mut message = Message::Flush(done);
        let mut left = most;
        // A full queue is a pipe that nobody drains, or a thread that is at it.
        while let Err(TrySendError::Full(back)) = self.queue.try_send(message) {
            if left < STEP {
                return;
            }
            std::thread::sleep(STEP);
            left -= STEP;
            message = back;
        }
        match written.recv_timeout(left) {
            // Either way nothing more can be done for these lines.
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

fn write_all(
    mut to: impl Write,
    lines: &Receiver<Message>,
    dropped: &AtomicU64,
    notice: fn(u64) -> String,
) {
    let tell = |to: &mut dyn Write| {
        let count = dropped.swap(0, Ordering::Relaxed);
        if count > 0 {
            // Nobody is left to be told where standard error is gone.
            drop(to.write_all(notice(count).as_bytes()));
        }
    };
    while let Ok(message) = lines.recv() {
        match message {
            Message::Line(line) => {
                drop(to.write_all(&line));
                tell(&mut to);
            }
            Message::Flush(done) => {
                tell(&mut to);
                drop(to.flush());
                done.send(()).ok(); // whoever flushed may have given up
            }
        }
    }
}

/// One event of the log: tracing writes it in one piece.
#[derive(Debug)]
pub(super) struct Event<'a>(&'a LogWriter);

impl Write for Event<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Event(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Writes only what it is allowed to, one line for each permission.
    struct Slow {
        permitted: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Once nobody permits any more, everything goes.
            self.permitted.recv().unwrap_or_default();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_logs_never_waits_and_what_is_dropped_is_told() {
        let (permit, permitted) = sync_channel(0);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let slow = Slow {
            permitted,
            written: written.clone(),
        };
        let log = LogWriter::with_bound(slow, |count| format!("{count} dropped\n"), 4).unwrap();
        log.line(b"first\n");
        permit.send(()).unwrap();
        // Now the thread waits for the queue again, or soon will; fill it until it is known to be full.
        let mut handed_over = 0;
        while log.dropped.load(Ordering::Relaxed) < 10 {
            log.line(b"more\n");
            handed_over += 1;
        }
        drop(permit);
        log.flush(Duration::from_secs(60));
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let kept = text.lines().filter(|line| *line == "more").count();
        assert_eq!(kept, handed_over - 10, "{text}");
        assert!(
            (4..=5).contains(&kept),
            "what fits into the queue, and one in hand: {text}"
        );
        assert_eq!(text.matches("dropped").count(), 1, "{text}");
        assert!(text.contains("10 dropped\n"), "{text}");
    }

    #[test]
    fn a_flush_gives_up_on_a_pipe_that_nobody_drains() {
        let (permit, permitted) = sync_channel(0);
        let slow = Slow {
            permitted,
            written: Arc::default(),
        };
        let log = LogWriter::with_bound(slow, |_| String::new(), 1).unwrap();
        for _ in 0..10 {
            log.line(b"x\n");
        }
        log.flush(Duration::from_millis(20));
        drop(permit);
    }
}
