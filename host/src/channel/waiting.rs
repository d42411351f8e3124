//! Reads, writes and commands that wait for a link to come up again.
//!
//! ```text
//!  taken from the mailbox ── its link is up ──────────────────────────► the driver
//!            └── its link is being dialled ─► waits ── link up, in order ──┘
//!                                               ├─ deadline, or no room: `link-down`
//!                                               ├─ taken back by whoever asked
//!                                               └─ the channel stops: `not-running`
//! ```
//!
//! What waits was never handed to a driver, so it outlives every restart of it, and whoever is told `link-down` knows that nothing was
//! sent. Bytes never wait: a protocol's frame is worth nothing on another stream.
//!
//! **Order.** What acts on the device (writes and commands) goes before what looks at it (reads); within each of the two, first come,
//! first served. A command stands among the writes, since it may build upon those before it. So a read sees what was
//! written before it.
//!
//! **Exactly one answer.** Whoever takes an entry out of the queue answers it, and an answer of the queue is sent under its lock: a
//! door that gives up and finds nothing here finds its answer, or else the driver has the request.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mailbox::{Ask, Request, RequestError, Stayed};
use crate::event::{MonotonicNs, Value, bytes_of_texts};
use crate::ids::{LinkId, RequestId};

/// The most bytes that the waiting requests of a channel may carry.
const MAX_BYTES: usize = crate::limits::WAITING_BYTES;

/// The link that a request waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// Which.
    pub(super) link: LinkId,
    /// Its name.
    pub(super) name: String,
    /// Why it is down: a sentence that begins with its name.
    pub(super) why: Arc<str>,
}

impl Obstacle {
    /// The answer to a request that this stood in the way of.
    pub(super) fn refusal(&self, stayed: Stayed) -> RequestError {
        RequestError::LinkDown {
            link: self.name.clone(),
            why: self.why.clone(),
            stayed,
        }
    }
}

/// Which goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Writes and commands.
    Acts,
    /// Reads.
    Looks,
}

impl Class {
    fn of(ask: &Ask) -> Self {
        match ask {
            Ask::Write { .. } | Ask::Command { .. } => Class::Acts,
            Ask::Read(_) => Class::Looks,
        }
    }
}

/// The place of a request: its class, then when it came.
type Place = (Class, u64);

/// The requests of one channel that wait, whatever incarnation is under way. A handle: clones see the same queue.
#[derive(Clone, Default)]
pub struct Waiting {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    queue: Mutex<Queue>,
    /// How many there are, to be asked for in every turn.
    count: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    entries: BTreeMap<Place, Entry>,
    places: HashMap<u64, Place>,
    deadlines: BTreeSet<(MonotonicNs, u64)>,
    bytes: usize,
    arrivals: u64,
}

struct Entry {
    request: Request,
    obstacle: Obstacle,
    bytes: usize,
}

impl Waiting {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.inner.count.load(Ordering::Relaxed)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets a request wait for a link, or answers it where `most` wait already.
    pub(super) fn push(&self, request: Request, obstacle: Obstacle, most: usize) {
        let mut queue = self.lock();
        let bytes = carried(&request.ask);
        let is_full =
            |queue: &Queue| queue.entries.len() >= most || queue.bytes + bytes > MAX_BYTES;
        if is_full(&queue) {
            queue.forget_abandoned();
        }
        if is_full(&queue) {
            let waiting = queue.entries.len();
            request.answer(Err(obstacle.refusal(Stayed::Full { waiting })));
        } else {
            queue.push(request, obstacle, bytes);
        }
        self.note(&queue);
    }

    /// Takes out the first that may go on, in their order.
    pub(super) fn take_first(&self, may_go: impl Fn(&Ask) -> bool) -> Option<Request> {
        let mut queue = self.lock();
        let mut entries = queue.entries.iter();
        let place = entries.find(|(_, entry)| may_go(&entry.request.ask));
        let place = *place?.0;
        let entry = queue.take(place);
        self.note(&queue);
        entry.map(|entry| entry.request)
    }

    /// Takes a request out that nobody waits for any more. Gives what stood in its way; `None` where it does not wait here.
    pub(crate) fn withdraw(&self, id: RequestId) -> Option<RequestError> {
        if self.is_empty() {
            return None;
        }
        let mut queue = self.lock();
        let place = *queue.places.get(&id.0)?;
        let Entry {
            request, obstacle, ..
        } = queue.take(place)?;
        self.note(&queue);
        let after = request.timeout;
        Some(obstacle.refusal(Stayed::Down { after }))
    }

    /// The next deadline.
    pub(super) fn next(&self) -> Option<MonotonicNs> {
        if self.is_empty() {
            return None;
        }
        self.lock().deadlines.first().map(|(moment, _)| *moment)
    }

    /// Answers those whose time is up.
    pub(super) fn expire(&self, now: MonotonicNs) {
        if self.is_empty() {
            return;
        }
        let mut queue = self.lock();
        let mut late = Vec::new();
        while let Some((moment, id)) = queue.deadlines.first().copied()
            && moment <= now
        {
            let Some(place) = queue.places.get(&id).copied() else {
                break; // Every deadline has its place.
            };
            late.extend(queue.take(place));
        }
        self.refuse(queue, late, |request| Stayed::Down {
            after: request.timeout,
        });
    }

    /// Refuses those that were taken out. They are counted out first: whoever hears the answer may look.
    fn refuse(
        &self,
        queue: MutexGuard<'_, Queue>,
        taken: Vec<Entry>,
        why: impl Fn(&Request) -> Stayed,
    ) {
        self.note(&queue);
        drop(queue);
        for Entry {
            request, obstacle, ..
        } in taken
        {
            let refusal = obstacle.refusal(why(&request));
            request.answer(Err(refusal));
        }
    }

    /// The reason why a link is down is another now.
    pub(super) fn explain(&self, link: LinkId, why: &Arc<str>) {
        if self.is_empty() {
            return;
        }
        for entry in self.lock().entries.values_mut() {
            if entry.obstacle.link == link {
                entry.obstacle.why = why.clone();
            }
        }
    }

    /// Answers those that wait for a link that nobody dials any more.
    pub(super) fn give_up(&self, link: LinkId) {
        if self.is_empty() {
            return;
        }
        let mut queue = self.lock();
        let entries = queue.entries.iter();
        let places: Vec<Place> = entries
            .filter(|(_, entry)| entry.obstacle.link == link)
            .map(|(place, _)| *place)
            .collect();
        let vain = places
            .into_iter()
            .filter_map(|place| queue.take(place))
            .collect();
        self.refuse(queue, vain, |_| Stayed::GaveUp);
    }

    /// Answers all of them: there is no driver to wait for.
    pub(crate) fn turn_away(&self, say: impl Fn() -> RequestError) {
        if self.is_empty() {
            return;
        }
        let mut queue = self.lock();
        let taken = std::mem::take(&mut *queue);
        self.note(&queue);
        drop(queue);
        for entry in taken.entries.into_values() {
            entry.request.answer(Err(say()));
        }
    }

    fn note(&self, queue: &Queue) {
        self.inner
            .count
            .store(queue.entries.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.inner
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, request: Request, obstacle: Obstacle, bytes: usize) {
        self.arrivals += 1;
        let place = (Class::of(&request.ask), self.arrivals);
        self.places.insert(request.id.0, place);
        self.deadlines.insert((request.deadline, request.id.0));
        self.bytes += bytes;
        let entry = Entry {
            request,
            obstacle,
            bytes,
        };
        self.entries.insert(place, entry);
    }

    fn take(&mut self, place: Place) -> Option<Entry> {
        let entry = self.entries.remove(&place)?;
        self.places.remove(&entry.request.id.0);
        self.deadlines
            .remove(&(entry.request.deadline, entry.request.id.0));
        self.bytes -= entry.bytes;
        Some(entry)
    }

    /// Makes room: whoever asked for these has gone.
    fn forget_abandoned(&mut self) {
        let gone =
            |(place, entry): (&Place, &Entry)| entry.request.reply.is_closed().then_some(*place);
        let gone: Vec<Place> = self.entries.iter().filter_map(gone).collect();
        for place in gone {
            drop(self.take(place));
        }
    }
}

/// What a request carries, in bytes.
fn carried(ask: &Ask) -> usize {
    match ask {
        Ask::Read(tags) => size_of_val(&**tags),
        Ask::Write { value, .. } => match value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Booleans(all) => all.len(),
            Value::Ints(all) => size_of_val(&**all),
            Value::Uints(all) => size_of_val(&**all),
            Value::Floats(all) => size_of_val(&**all),
            Value::Texts(all) => bytes_of_texts(all),
            Value::Boolean(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_) => 0,
        },
        Ask::Command { payload, .. } => payload.len(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::sync::{oneshot, watch};

    use super::*;
    use crate::channel::Answer;
    use crate::ids::TagId;

    type Reader = oneshot::Receiver<Result<Answer, RequestError>>;

    fn obstacle(link: u32) -> Obstacle {
        Obstacle {
            link: LinkId(link),
            name: format!("l{link}"),
            why: format!("link l{link} is down: refused").into(),
        }
    }

    /// A write, a read or a command, to what lies behind a link: its number is in the tag, or in the name.
    fn request(id: u64, kind: char, link: u32, deadline: u64) -> (Request, Reader) {
        let (reply, reader) = oneshot::channel();
        let ask = match kind {
            'w' => Ask::Write {
                tag: TagId(link),
                value: Value::Int(1),
                read_back: false,
            },
            'c' => Ask::Command {
                name: link.to_string().into(),
                payload: vec![0; 10],
                progress: watch::Sender::new(None),
            },
            _ => Ask::Read([TagId(link)].into()),
        };
        let request = Request {
            id: RequestId(id),
            edition: 0,
            ask,
            deadline: MonotonicNs(deadline),
            timeout: Duration::from_nanos(deadline),
            reply,
        };
        (request, reader)
    }

    fn link_of(ask: &Ask) -> u32 {
        match ask {
            Ask::Write { tag, .. } => tag.0,
            Ask::Read(tags) => tags[0].0,
            Ask::Command { name, .. } => name.parse().unwrap(),
        }
    }

    fn code(reader: &mut Reader) -> Option<&'static str> {
        match reader.try_recv() {
            Ok(Err(error)) => Some(error.code()),
            Ok(Ok(_)) => Some("done"),
            Err(_) => None,
        }
    }

    /// What goes on, in its order, when these links are up.
    fn released(waiting: &Waiting, up: &[u32]) -> Vec<u64> {
        std::iter::from_fn(|| waiting.take_first(|ask| up.contains(&link_of(ask))))
            .map(|request| request.id.0)
            .collect()
    }

    #[test]
    fn what_acts_goes_before_what_looks_and_each_in_its_order() {
        let waiting = Waiting::default();
        let mut readers = Vec::new();
        for (id, kind, link) in [
            (1, 'r', 0),
            (2, 'w', 1),
            (3, 'c', 0),
            (4, 'w', 0),
            (5, 'r', 1),
            (6, 'c', 1),
        ] {
            let (request, reader) = request(id, kind, link, 100);
            waiting.push(request, obstacle(link), 10);
            readers.push(reader);
        }
        assert_eq!(released(&waiting, &[]), [0; 0]);
        assert_eq!(released(&waiting, &[0]), [3, 4, 1]);
        assert_eq!(
            (released(&waiting, &[0, 1]), waiting.len()),
            (vec![2, 6, 5], 0)
        );
    }

    #[test]
    fn a_full_queue_forgets_the_abandoned_and_refuses_the_rest() {
        let waiting = Waiting::default();
        let (first, gone) = request(1, 'w', 0, 100);
        let (second, mut stays) = request(2, 'w', 0, 100);
        let (third, mut takes_its_place) = request(3, 'r', 0, 100);
        let (fourth, mut refused) = request(4, 'w', 0, 100);
        waiting.push(first, obstacle(0), 2);
        waiting.push(second, obstacle(0), 2);
        drop(gone);
        waiting.push(third, obstacle(0), 2);
        waiting.push(fourth, obstacle(0), 2);
        let said = refused.try_recv().unwrap().unwrap_err();
        assert_eq!(
            said.to_string(),
            "link l0 is down: refused, and 2 requests wait for a link already"
        );
        assert_eq!((code(&mut stays), code(&mut takes_its_place)), (None, None));
        assert_eq!(released(&waiting, &[0]), [2, 3]);

        let (mut large, mut too_large) = request(5, 'c', 0, 100);
        if let Ask::Command { payload, .. } = &mut large.ask {
            *payload = vec![0; MAX_BYTES + 1];
        }
        waiting.push(large, obstacle(0), 2);
        assert_eq!(code(&mut too_large), Some("link-down"));
    }

    #[test]
    fn the_answer_names_the_link_and_its_latest_reason() {
        let waiting = Waiting::default();
        let (first, mut reader) = request(1, 'w', 7, 1_000_000);
        waiting.push(first, obstacle(7), 2);
        waiting.explain(LinkId(7), &"link l7 is down: no answer in time".into());
        waiting.explain(LinkId(6), &"another".into());
        assert_eq!(waiting.next(), Some(MonotonicNs(1_000_000)));
        waiting.expire(MonotonicNs(999_999));
        assert!(reader.try_recv().is_err());
        waiting.expire(MonotonicNs(1_000_000));
        let error = reader.try_recv().unwrap().unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (
                "link-down",
                "link l7 is down: no answer in time, and it was not up within 1ms"
            )
        );
        assert_eq!(
            (waiting.next(), waiting.withdraw(RequestId(1))),
            (None, None)
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        Come { kind: char, link: u32, time: u64 },
        Up { links: Vec<u32>, most: usize },
        Pass { time: u64 },
        GiveUp { of: usize },
        Leave { of: usize },
        Stop,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let kind = prop::sample::select(vec!['w', 'r', 'c']);
        let step = prop_oneof![
            8 => (kind, 0u32..3, 1u64..50).prop_map(|(kind, link, time)| Step::Come { kind, link, time }),
            3 => (prop::collection::vec(0u32..3, 0..3), 0usize..6).prop_map(|(links, most)| Step::Up { links, most }),
            3 => (0u64..20).prop_map(|time| Step::Pass { time }),
            2 => (0usize..40).prop_map(|of| Step::GiveUp { of }),
            1 => (0usize..40).prop_map(|of| Step::Leave { of }),
            1 => Just(Step::Stop),
        ];
        prop::collection::vec(step, 1..80)
    }

    /// A request as the model knows it.
    struct Known {
        id: u64,
        kind: char,
        link: u32,
        deadline: u64,
        reader: Option<Reader>,
        /// What became of it.
        fate: Option<&'static str>,
    }

    proptest! {
        /// Against a list that is searched: each request has one fate, and what goes on keeps its order.
        #[test]
        fn each_request_has_one_fate_and_none_overtakes(steps in steps()) {
            const MOST: usize = 8;
            let waiting = Waiting::default();
            let mut all: Vec<Known> = Vec::new();
            let mut now = 0u64;
            for step in steps {
                match step {
                    Step::Come { kind, link, time } => {
                        let id = all.len() as u64 + 1;
                        let (request, reader) = request(id, kind, link, now + time);
                        let there = |known: &&mut Known| known.fate.is_none();
                        if all.iter_mut().filter(there).count() >= MOST {
                            for known in all.iter_mut().filter(there).filter(|known| known.reader.is_none()) {
                                known.fate = Some("forgotten");
                            }
                        }
                        let full = all.iter_mut().filter(there).count() >= MOST;
                        waiting.push(request, obstacle(link), MOST);
                        let fate = full.then_some("link-down");
                        all.push(Known { id, kind, link, deadline: now + time, reader: Some(reader), fate });
                    }
                    Step::Up { links, most } => {
                        for _ in 0..most {
                            let gone = waiting.take_first(|ask| links.contains(&link_of(ask)));
                            let expected = all
                                .iter_mut()
                                .filter(|known| known.fate.is_none() && links.contains(&known.link))
                                .min_by_key(|known| (known.kind == 'r', known.id));
                            prop_assert_eq!(gone.as_ref().map(|request| request.id.0), expected.as_ref().map(|known| known.id));
                            if let (Some(request), Some(known)) = (gone, expected) {
                                known.fate = Some("done");
                                drop(request.reply.send(Ok(Answer::Write(None))));
                            }
                        }
                    }
                    Step::Pass { time } => {
                        now += time;
                        waiting.expire(MonotonicNs(now));
                        for known in all.iter_mut().filter(|known| known.fate.is_none() && known.deadline <= now) {
                            known.fate = Some("link-down");
                        }
                    }
                    Step::GiveUp { of } => {
                        let Some(known) = all.get_mut(of) else { continue };
                        let withdrawn = waiting.withdraw(RequestId(known.id));
                        prop_assert_eq!(withdrawn.is_some(), known.fate.is_none());
                        if known.fate.is_none() {
                            known.fate = Some("withdrawn");
                        }
                    }
                    Step::Leave { of } => {
                        if let Some(known) = all.get_mut(of).filter(|known| known.fate.is_none()) {
                            known.reader = None;
                        }
                    }
                    Step::Stop => {
                        waiting.turn_away(|| RequestError::Restarted);
                        for known in all.iter_mut().filter(|known| known.fate.is_none()) {
                            known.fate = Some("restarted");
                        }
                    }
                }
                let there = all.iter().filter(|known| known.fate.is_none());
                prop_assert_eq!(waiting.len(), there.clone().count());
                prop_assert_eq!(waiting.next().map(|at| at.0), there.map(|known| known.deadline).min());
            }
            for known in &mut all {
                if let Some(reader) = &mut known.reader {
                    let expected = known.fate.filter(|fate| *fate != "withdrawn");
                    prop_assert_eq!(code(reader), expected, "request {}", known.id);
                }
            }
        }
    }
}
