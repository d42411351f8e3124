//! The connections that a channel's driver has opened.
//!
//! They belong to the channel, not to the incarnation: those of links with `on_restart = "keep"` go on to the next one.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::mailbox::Mail;
use crate::clock::Clock;
use crate::config::{self, OnRestart};
use crate::ids::{ChannelId, ConnectionId, LinkId};
use crate::link::{
    CallerIds, Connection, DEFAULT_SEND_WINDOW, DialRate, Journal, OpenOptions, Room, StreamId,
};
use crate::reconnection::State;

/// The most connections that one channel may have open at once.
pub(super) const MAX_CONNECTIONS: usize = crate::limits::CONNECTIONS;
/// The most ranges of used ids that are told apart. A driver that counts has one.
const MAX_USED_RANGES: usize = 64;
/// Ids from here up are the host's, for devices that call in.
pub(super) const FIRST_CALLER: u32 = 1 << 31;

/// One connection.
pub(super) struct Opened {
    pub(super) link: LinkId,
    /// Where to, as the driver gave it; `None` for the link's own address, and for a device that called in.
    pub(super) target: Option<String>,
    pub(super) handle: Connection,
    /// Whether datagrams pass, rather than a stream.
    pub(super) datagrams: bool,
    /// The stream that the driver was told of last; `None` while it is down.
    pub(super) stream: Option<StreamId>,
}

/// A connection that outlived its incarnation.
pub(super) struct Survivor {
    pub(super) id: ConnectionId,
    pub(super) link: LinkId,
    pub(super) target: Option<String>,
    pub(super) secured: bool,
    pub(super) peer: String,
    pub(super) send_window: u32,
}

/// All connections of a channel.
pub(crate) struct Connections {
    channel: ChannelId,
    links: Vec<Arc<config::Link>>,
    journals: Arc<[Arc<Journal>]>,
    clock: Clock,
    mailbox: mpsc::Sender<Mail>,
    room: Room,
    dials: DialRate,
    tracker: TaskTracker,
    incarnation: u64,
    used: UsedIds,
    /// The least and the greatest id of a device that called in, of those that this incarnation was told of.
    called_in: Option<RangeInclusive<u32>>,
    callers: CallerIds,
    opened: BTreeMap<u32, Opened>,
    /// Whether all of them go on to the next incarnation.
    keep_all: bool,
}

impl Connections {
    pub(crate) fn new(
        config: &config::Channel,
        clock: Clock,
        mailbox: mpsc::Sender<Mail>,
        dials: DialRate,
        journals: Arc<[Arc<Journal>]>,
        tracker: TaskTracker,
    ) -> Self {
        Self {
            channel: config.id.clone(),
            links: journals.iter().map(|journal| journal.link()).collect(),
            journals,
            clock,
            mailbox,
            room: Room::new(crate::limits::MAILBOX_BYTES),
            dials,
            tracker,
            incarnation: 0,
            used: UsedIds::default(),
            called_in: None,
            callers: CallerIds::default(),
            opened: BTreeMap::new(),
            keep_all: false,
        }
    }

    /// Begins an incarnation: drops what does not outlive the one before, and says what does.
    pub(super) fn begin(&mut self, incarnation: u64) -> Vec<Survivor> {
        self.incarnation = incarnation;
        self.used = UsedIds::default();
        self.called_in = None;
        let keep_all = std::mem::take(&mut self.keep_all);
        let mut survivors = Vec::new();
        for (id, mut opened) in std::mem::take(&mut self.opened) {
            let keep = self
                .links
                .get(opened.link.index())
                .is_some_and(|link| link.on_restart == OnRestart::Keep);
            if !keep && !keep_all {
                continue;
            }
            if let Some(survivor) = opened.handle.survive(incarnation) {
                opened.stream = Some(survivor.stream);
                survivors.push(Survivor {
                    id: ConnectionId(id),
                    link: opened.link,
                    target: opened.target.clone(),
                    secured: survivor.secured,
                    peer: survivor.peer,
                    send_window: survivor.send_window,
                });
                if id < FIRST_CALLER {
                    self.used.use_up(id);
                } else {
                    self.has_called(id);
                }
                self.opened.insert(id, opened);
            }
        }
        survivors
    }

    /// Ends every connection whose link does not keep it over a restart. After an end in order, what the driver sent
    /// last still leaves; after a fault nobody knows what it was worth.
    pub(crate) fn end_incarnation(&mut self, in_order: bool) {
        if self.keep_all {
            return;
        }
        let ended = self.opened.extract_if(.., |_, opened| {
            self.links
                .get(opened.link.index())
                .is_none_or(|link| link.on_restart != OnRestart::Keep)
        });
        for (_, opened) in ended {
            if in_order {
                opened.handle.release();
            }
        }
    }

    /// All of them go on to the next incarnation, whatever their links say.
    pub(crate) fn keep_all(&mut self) {
        self.keep_all = true;
    }

    /// The channel has another configuration. Those over links that are as they were stay open if `keep` says so, and go on to the next
    /// incarnation; the others end, after what was sent has left.
    pub(crate) fn renew(&mut self, journals: &Arc<[Arc<Journal>]>, keep: bool) {
        let links: Vec<Arc<config::Link>> = journals.iter().map(|journal| journal.link()).collect();
        let same = |before: &config::Link| {
            let place = links.iter().position(|now| **now == *before)?;
            u32::try_from(place).ok().map(LinkId)
        };
        for (id, mut opened) in std::mem::take(&mut self.opened) {
            let before = self.links.get(opened.link.index());
            match before.and_then(|before| same(before)).filter(|_| keep) {
                Some(link) => {
                    opened.link = link;
                    self.opened.insert(id, opened);
                }
                None => opened.handle.release(),
            }
        }
        self.keep_all = keep;
        self.links = links;
        self.journals = journals.clone();
    }

    /// Where they put what they have to say from now on; none may be open.
    pub(crate) fn move_to(&mut self, mailbox: mpsc::Sender<Mail>) {
        self.mailbox = mailbox;
    }

    /// Ends them all, after what was sent has left.
    pub(crate) fn clear(&mut self) {
        self.keep_all = false;
        for opened in std::mem::take(&mut self.opened).into_values() {
            opened.handle.release();
        }
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Opened> {
        self.opened.get(&id.0)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Opened> {
        self.opened.get_mut(&id.0)
    }

    /// Opens one; the id was checked.
    pub(super) fn open(&mut self, id: ConnectionId, link: LinkId, target: Option<String>) {
        let (Some(config), Some(journal)) = (
            self.links.get(link.index()),
            self.journals.get(link.index()),
        ) else {
            return;
        };
        let options = OpenOptions {
            id,
            channel: self.channel.clone(),
            link: config.clone(),
            target: target.clone(),
            send_window: DEFAULT_SEND_WINDOW,
            room: self.room.clone(),
            callers: self.callers.clone(),
            dials: self.dials.clone(),
            journal: journal.clone(),
            clock: self.clock,
            incarnation: self.incarnation,
            seed: fastrand::u64(..),
        };
        let datagrams = config.connect.is_datagrams();
        let handle = Connection::open(options, self.mailbox.clone(), &self.tracker);
        self.used.use_up(id.0);
        self.opened.insert(
            id.0,
            Opened {
                link,
                target,
                handle,
                datagrams,
                stream: None,
            },
        );
    }

    /// Takes in a device that has called on a link.
    pub(super) fn accept(
        &mut self,
        id: ConnectionId,
        link: LinkId,
        handle: Connection,
        stream: StreamId,
    ) {
        self.has_called(id.0);
        let stream = Some(stream);
        self.opened.insert(
            id.0,
            Opened {
                link,
                target: None,
                handle,
                datagrams: false,
                stream,
            },
        );
    }

    fn has_called(&mut self, id: u32) {
        let range = self.called_in.take().unwrap_or(id..=id);
        self.called_in = Some(id.min(*range.start())..=id.max(*range.end()));
    }

    /// Whether devices call in on a link, each with a connection of its own.
    pub(super) fn listens(&self, link: LinkId) -> bool {
        let link = self.links.get(link.index());
        link.is_some_and(|link| link.connect.accepts())
    }

    /// Whether the operator lets the driver begin TLS on a stream over this link.
    pub(super) fn may_start_tls(&self, link: LinkId) -> bool {
        let link = self.links.get(link.index());
        link.is_some_and(|link| link.tls.is_some() && link.connect.kind() == "tcp")
    }

    /// Forgets one that is gone for good.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        self.opened.remove(&id.0);
    }

    /// Whether a connection over a link is down with its attempts spent.
    pub(super) fn gave_up(&self, link: LinkId) -> bool {
        let mut over = self.opened.values().filter(|opened| opened.link == link);
        over.any(|opened| opened.handle.state().borrow().kind() == State::Failed)
    }

    /// Whether the driver wants connections over a link, and whether all of those are up. One that listens is up while
    /// any device has called in.
    pub(super) fn link_state(&self, link: LinkId) -> (bool, bool) {
        let listens = self.listens(link);
        let (mut wanted, mut all_up, mut any_called) = (false, true, false);
        for (id, opened) in &self.opened {
            if opened.link == link {
                let up = opened.stream.is_some();
                if *id < FIRST_CALLER {
                    wanted = true;
                    all_up &= up;
                } else {
                    any_called |= up;
                }
            }
        }
        (wanted, wanted && all_up && (any_called || !listens))
    }

    /// Whether anything gets through a link.
    pub(super) fn way(&self, link: LinkId) -> Way {
        let listens = self.listens(link);
        let mut way = Way::Unused;
        for (id, opened) in self.opened.iter().filter(|(_, opened)| opened.link == link) {
            // That it listens brings no device nearer.
            if opened.stream.is_some() && (*id >= FIRST_CALLER || !listens) {
                return Way::Open;
            }
            way = Way::Dialled;
        }
        way
    }
}

/// Whether anything gets through a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The driver has no connection over it.
    Unused,
    /// It has, and none is up: the host dials, or waits for a call.
    Dialled,
    /// One is up, or several.
    Open,
}

/// The connections of an incarnation, as far as a list of actions can touch them.
pub(super) trait Ways {
    /// How many there are.
    fn count(&self) -> usize;
    /// Whether the channel has this link.
    fn has_link(&self, link: LinkId) -> bool;
    /// The next id that a driver may pick: ids ascend within an incarnation.
    fn least_free(&self) -> u32;
    /// Whether this incarnation has had a connection of this id, open now or gone for good.
    fn was_opened(&self, id: ConnectionId) -> bool;
    /// How many bytes may be sent now; `None` where the connection is not up.
    fn window_left(&self, id: ConnectionId) -> Option<usize>;
}

impl Ways for Connections {
    fn count(&self) -> usize {
        // Devices that call in have a bound of their own, and leave the driver's to the driver.
        self.opened.range(..FIRST_CALLER).count()
    }

    fn has_link(&self, link: LinkId) -> bool {
        link.index() < self.links.len()
    }

    fn least_free(&self) -> u32 {
        self.used.least_free()
    }

    fn was_opened(&self, id: ConnectionId) -> bool {
        let called_in = self.called_in.as_ref();
        self.used.contains(id.0) || called_in.is_some_and(|range| range.contains(&id.0))
    }

    fn window_left(&self, id: ConnectionId) -> Option<usize> {
        let opened = self.get(id)?;
        Some(opened.handle.window_left(opened.stream?))
    }
}

/// The connection ids that an incarnation has used: ascending ranges without overlap, at most [`MAX_USED_RANGES`].
#[derive(Debug, Default)]
pub(super) struct UsedIds(Vec<RangeInclusive<u32>>);

impl UsedIds {
    pub(super) fn least_free(&self) -> u32 {
        self.0.last().map_or(0, |last| last.end().saturating_add(1))
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.0.iter().rev().any(|range| range.contains(&id))
    }

    /// Notes an id greater than all before. Where a driver leaves gaps without end, the oldest are forgotten.
    pub(super) fn use_up(&mut self, id: u32) {
        match self.0.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(id) => *last = *last.start()..=id,
            Some(_) | None => self.0.push(id..=id),
        }
        if self.0.len() > MAX_USED_RANGES {
            let oldest = self.0.remove(0);
            if let Some(next) = self.0.first_mut() {
                *next = *oldest.start()..=*next.end();
            }
        }
    }
}
