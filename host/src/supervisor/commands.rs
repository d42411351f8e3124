//! Commands that are under way: asked of a driver by a door, with progress on the way and one answer at the end.
//!
//! ```text
//! door ── request ──► mailbox ──► driver ── command-progress ──► watch ──┐
//!   ▲                                  └─── command-done ─────► oneshot ─┤
//!   └── next: Progress, Progress, ... Answered, once ◄── deadline, cancel ┘
//! ```
//!
//! A [`RunningCommand`] belongs to whoever asked. It is answered once: by the driver, by its deadline, by a cancel, or by the end of
//! the incarnation. Dropping it is a cancel too, so that nothing goes on behind the back of a connection that was closed. The
//! driver is told of a cancel; what it answers then is counted as late, and dropped.
//!
//! Bounded: at most [`MAX_UNDER_WAY`] of a channel at once. Reports are not queued: of several the last one counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::answered::Pending;
use crate::channel::{Answer, Mail, Progress, RequestError, Waiting};
use crate::event::WallNs;
use crate::ids::RequestId;

/// Commands of one channel that may be under way at once.
pub const MAX_UNDER_WAY: usize = crate::limits::COMMANDS;

/// What is known of a command that is under way.
#[derive(Clone, Debug, PartialEq)]
pub struct UnderWay {
    /// Its number.
    pub request: RequestId,
    /// Its name.
    pub name: String,
    /// When it was given.
    pub since: WallNs,
    /// How long it may take from then.
    pub timeout: Duration,
    /// What the driver has said of it last.
    pub progress: Option<Progress>,
}

/// The commands of one channel.
#[derive(Clone, Default)]
pub(super) struct Desk {
    entries: Arc<Mutex<BTreeMap<u64, Entry>>>,
}

struct Entry {
    name: String,
    since: WallNs,
    timeout: Duration,
    progress: watch::Receiver<Option<Progress>>,
    cancel: CancellationToken,
}

/// One command, as it is handed to the desk.
pub(super) struct Opening {
    pub(super) request: RequestId,
    pub(super) name: String,
    pub(super) since: WallNs,
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
    pub(super) progress: watch::Receiver<Option<Progress>>,
    pub(super) answer: oneshot::Receiver<Result<Answer, RequestError>>,
    pub(super) mailbox: mpsc::Sender<Mail>,
    pub(super) waiting: Waiting,
}

impl Desk {
    /// Whether no further command may begin.
    pub(super) fn is_full(&self) -> bool {
        self.entries().len() >= MAX_UNDER_WAY
    }

    /// Takes a command in; `pending` is told how it is answered.
    pub(super) fn open(&self, opening: Opening, pending: Pending) -> RunningCommand {
        let cancel = CancellationToken::new();
        let entry = Entry {
            name: opening.name,
            since: opening.since,
            timeout: opening.timeout,
            progress: opening.progress.clone(),
            cancel: cancel.clone(),
        };
        self.entries().insert(opening.request.0, entry);
        RunningCommand {
            request: opening.request,
            timeout: opening.timeout,
            overdue: Box::pin(sleep_until(opening.deadline)),
            progress: Some(opening.progress),
            answer: Some(opening.answer),
            pending: Some(pending),
            cancel,
            mailbox: opening.mailbox,
            waiting: opening.waiting,
            desk: self.clone(),
        }
    }

    /// Takes a command back. Gives whether it was under way.
    pub(super) fn cancel(&self, request: RequestId) -> bool {
        let entries = self.entries();
        let Some(entry) = entries.get(&request.0) else {
            return false;
        };
        entry.cancel.cancel();
        true
    }

    pub(super) fn under_way(&self) -> Vec<UnderWay> {
        let one = |(request, entry): (&u64, &Entry)| UnderWay {
            request: RequestId(*request),
            name: entry.name.clone(),
            since: entry.since,
            timeout: entry.timeout,
            progress: entry.progress.borrow().clone(),
        };
        self.entries().iter().map(one).collect()
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandStep {
    /// It is on its way.
    Progress(Progress),
    /// It has ended, and nothing follows.
    Answered(Result<Vec<u8>, RequestError>),
}

/// A command that is under way. Dropping it takes it back.
pub struct RunningCommand {
    request: RequestId,
    timeout: Duration,
    overdue: std::pin::Pin<Box<Sleep>>,
    /// Gone when nothing can be reported any more.
    progress: Option<watch::Receiver<Option<Progress>>>,
    /// Gone once it was answered.
    answer: Option<oneshot::Receiver<Result<Answer, RequestError>>>,
    /// Gone with the answer.
    pending: Option<Pending>,
    cancel: CancellationToken,
    mailbox: mpsc::Sender<Mail>,
    waiting: Waiting,
    desk: Desk,
}

impl RunningCommand {
    /// Its number, by which it can be cancelled.
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// Waits for what comes next. Nothing is lost where this is dropped before its end. After the answer there is nothing to
    /// wait for: it says *restarted*.
    pub async fn next(&mut self) -> CommandStep {
        loop {
            let Some(answer) = &mut self.answer else {
                return CommandStep::Answered(Err(RequestError::Restarted));
            };
            let happened = tokio::select! {
                biased;
                () = self.cancel.cancelled() => Happened::GivenUp(RequestError::Cancelled),
                () = &mut self.overdue => Happened::GivenUp(RequestError::TimedOut { after: self.timeout }),
                // Before the answer, so that the last report is not lost to it. There are no reports after it.
                report = reported(&mut self.progress) => Happened::Reported(report),
                answer = answer => Happened::Answered(answer.unwrap_or(Err(RequestError::Restarted))),
            };
            match happened {
                Happened::Reported(Some(report)) => return CommandStep::Progress(report),
                Happened::Reported(None) => self.progress = None,
                Happened::Answered(answer) => {
                    self.answer = None;
                    drop(self.close());
                    return self.answered(answer);
                }
                Happened::GivenUp(error) => {
                    let answer = match (self.close(), error) {
                        // It may have been answered at this very moment: then that is what it was.
                        (Closed::Answered(answer), _) => answer,
                        (Closed::Waited(link_down), RequestError::TimedOut { .. }) => {
                            Err(link_down)
                        }
                        (Closed::Waited(_) | Closed::UnderWay, error) => Err(error),
                    };
                    return self.answered(answer);
                }
            }
        }
    }

    fn answered(&mut self, answer: Result<Answer, RequestError>) -> CommandStep {
        if let Some(pending) = self.pending.take() {
            pending.end(&answer);
        }
        CommandStep::Answered(bytes(answer))
    }

    /// The answer alone.
    pub async fn answer(mut self) -> Result<Vec<u8>, RequestError> {
        loop {
            if let CommandStep::Answered(answer) = self.next().await {
                return answer;
            }
        }
    }

    /// From here on an answer has no reader. Gives how the command stood.
    fn close(&mut self) -> Closed {
        self.desk.entries().remove(&self.request.0);
        let Some(mut answer) = self.answer.take() else {
            return Closed::UnderWay;
        };
        if let Some(link_down) = self.waiting.withdraw(self.request) {
            return Closed::Waited(link_down);
        }
        answer.close();
        if let Ok(answered) = answer.try_recv() {
            return Closed::Answered(answered);
        }
        // Where the driver has it, it is told. A full mailbox is no harm: the deadline tells it too.
        if let Err(error) = self.mailbox.try_send(Mail::Cancel(self.request)) {
            tracing::debug!(request = %self.request, %error, "a cancel did not reach the driver");
        }
        Closed::UnderWay
    }
}

/// How a command stood when nobody waited for it any more.
enum Closed {
    /// This answer was there.
    Answered(Result<Answer, RequestError>),
    /// It waited for a link, and does so no longer.
    Waited(RequestError),
    /// The driver has it, or will find that it is not wanted.
    UnderWay,
}

/// What may happen to a command that is waited for.
enum Happened {
    Reported(Option<Progress>),
    Answered(Result<Answer, RequestError>),
    /// By whoever asked, for this reason.
    GivenUp(RequestError),
}

/// The next report; `None` if there can be none any more.
async fn reported(reports: &mut Option<watch::Receiver<Option<Progress>>>) -> Option<Progress> {
    match reports {
        Some(reports) => {
            reports.changed().await.ok()?;
            reports.borrow_and_update().clone()
        }
        None => std::future::pending().await,
    }
}

fn bytes(answer: Result<Answer, RequestError>) -> Result<Vec<u8>, RequestError> {
    match answer {
        Ok(Answer::Command(bytes)) => Ok(bytes),
        // No task answers one kind of request by another.
        Ok(Answer::Read(_) | Answer::Write(_)) => Err(RequestError::Restarted),
        Err(error) => Err(error),
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        drop(self.close());
    }
}

#[cfg(test)]
mod tests {
    use super::super::answered::{Answered, Asked};
    use super::*;
    use crate::clock::Clock;

    struct Bench {
        answered: Arc<Answered>,
        desk: Desk,
        mail: mpsc::Receiver<Mail>,
        progress: watch::Sender<Option<Progress>>,
        answer: Option<oneshot::Sender<Result<Answer, RequestError>>>,
    }

    fn begin(timeout: Duration) -> (Bench, RunningCommand) {
        let desk = Desk::default();
        let (mailbox, mail) = mpsc::channel(4);
        let (answer, reply) = oneshot::channel();
        let (progress, reports) = watch::channel(None);
        let answered = Arc::new(Answered::default());
        let opening = Opening {
            request: RequestId(7),
            name: "count".into(),
            since: WallNs(1),
            timeout,
            deadline: Instant::now() + timeout,
            progress: reports,
            answer: reply,
            mailbox,
            waiting: Waiting::default(),
        };
        let pending = answered.begin(Asked::Command, Clock::start());
        let running = desk.open(opening, pending);
        let answer = Some(answer);
        let bench = Bench {
            answered,
            desk,
            mail,
            progress,
            answer,
        };
        (bench, running)
    }

    impl Bench {
        /// How the command was answered, as it was counted.
        fn counted(&self) -> Vec<&'static str> {
            let [_, _, commands] = self.answered.read();
            let some = commands
                .outcomes
                .into_iter()
                .filter(|(_, count)| *count > 0);
            some.map(|(outcome, _)| outcome).collect()
        }

        fn report(&self, fraction: f32) {
            let message = fraction.to_string();
            self.progress
                .send_replace(Some(Progress { fraction, message }));
        }

        fn answer(&mut self) -> bool {
            let answer = Ok(Answer::Command(b"done".to_vec()));
            self.answer.take().is_some_and(|to| to.send(answer).is_ok())
        }

        fn told(&mut self) -> Vec<u64> {
            std::iter::from_fn(|| match self.mail.try_recv() {
                Ok(Mail::Cancel(request)) => Some(request.0),
                _ => None,
            })
            .collect()
        }
    }

    fn progress(fraction: f32) -> CommandStep {
        let message = fraction.to_string();
        CommandStep::Progress(Progress { fraction, message })
    }

    #[tokio::test]
    async fn reports_come_before_the_answer_and_the_answer_once() {
        let (mut bench, mut running) = begin(Duration::from_secs(5));
        bench.report(0.1);
        bench.report(0.5);
        assert_eq!(running.next().await, progress(0.5), "the last one counts");
        assert_eq!(
            bench.desk.under_way()[0].progress.as_ref().unwrap().message,
            "0.5"
        );
        bench.report(1.0);
        assert!(bench.answer());
        drop(bench.progress.clone());
        assert_eq!(running.next().await, progress(1.0));
        let done = CommandStep::Answered(Ok(b"done".to_vec()));
        assert_eq!(running.next().await, done);
        assert!(bench.desk.under_way().is_empty());
        let nothing = CommandStep::Answered(Err(RequestError::Restarted));
        assert_eq!(running.next().await, nothing);
        assert!(!bench.desk.cancel(RequestId(7)));
        drop(running);
        assert_eq!(bench.told(), [0; 0], "it has answered");
        assert_eq!(bench.counted(), ["done"], "once");
    }

    #[tokio::test]
    async fn an_answer_that_is_there_counts_although_it_was_cancelled() {
        let (mut bench, mut running) = begin(Duration::from_secs(5));
        assert!(bench.answer() && bench.desk.cancel(RequestId(7)));
        let done = CommandStep::Answered(Ok(b"done".to_vec()));
        assert_eq!(running.next().await, done);
        assert_eq!(bench.told(), [0; 0]);
    }

    #[tokio::test]
    async fn a_deadline_answers_and_what_comes_later_has_no_reader() {
        let after = Duration::from_millis(1);
        let (mut bench, mut running) = begin(after);
        let overdue = CommandStep::Answered(Err(RequestError::TimedOut { after }));
        assert_eq!(running.next().await, overdue);
        assert_eq!(bench.counted(), ["timed-out"]);
        assert!(!bench.answer());
        assert_eq!(bench.told(), [7]);
    }

    #[tokio::test]
    async fn whoever_cancels_or_goes_away_has_the_driver_told_once() {
        let (mut bench, mut running) = begin(Duration::from_secs(5));
        assert!(bench.desk.cancel(RequestId(7)) && !bench.desk.cancel(RequestId(8)));
        let cancelled = CommandStep::Answered(Err(RequestError::Cancelled));
        assert_eq!(running.next().await, cancelled);
        drop(running);
        assert_eq!(bench.told(), [7]);
        assert!(!bench.answer());

        let (mut bench, running) = begin(Duration::from_secs(5));
        drop(running);
        assert_eq!((bench.told(), bench.desk.under_way().len()), (vec![7], 0));
        assert_eq!(bench.counted(), ["lost"]);
        assert!(!bench.answer());
    }

    #[tokio::test]
    async fn the_end_of_the_channels_task_is_an_answer() {
        let (bench, running) = begin(Duration::from_secs(5));
        let Bench {
            answer, progress, ..
        } = bench;
        drop((answer, progress));
        assert_eq!(running.answer().await, Err(RequestError::Restarted));
    }
}
