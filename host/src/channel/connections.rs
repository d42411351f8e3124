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
use crate::link::{Connection, DEFAULT_SEND_WINDOW, OpenOptions, Room, StreamId};

/// The most connections that one channel may have open at once.
pub(super) const MAX_CONNECTIONS: usize = crate::limits::CONNECTIONS;
/// The most ranges of used ids that are told apart. A driver that counts has one.
const MAX_USED_RANGES: usize = 64;

/// One connection.
pub(super) struct Opened {
    pub(super) link: LinkId,
    pub(super) handle: Connection,
    /// The stream that the driver was told of last; `None` while it is down.
    pub(super) stream: Option<StreamId>,
}

/// A connection that outlived its incarnation.
pub(super) struct Survivor {
    pub(super) id: ConnectionId,
    pub(super) link: LinkId,
    pub(super) peer: String,
    pub(super) send_window: u32,
}

/// All connections of a channel.
pub(crate) struct Connections {
    channel: ChannelId,
    links: Vec<Arc<config::Link>>,
    clock: Clock,
    mailbox: mpsc::Sender<Mail>,
    room: Room,
    tracker: TaskTracker,
    incarnation: u64,
    /// The ids that this incarnation has used: ascending, without overlap, at most [`MAX_USED_RANGES`].
    used: Vec<RangeInclusive<u32>>,
    opened: BTreeMap<u32, Opened>,
}

impl Connections {
    pub(crate) fn new(
        config: &config::Channel,
        clock: Clock,
        mailbox: mpsc::Sender<Mail>,
        tracker: TaskTracker,
    ) -> Self {
        Self {
            channel: config.id.clone(),
            links: config.links.iter().cloned().map(Arc::new).collect(),
            clock,
            mailbox,
            room: Room::new(crate::limits::MAILBOX_BYTES),
            tracker,
            incarnation: 0,
            used: Vec::new(),
            opened: BTreeMap::new(),
        }
    }

    /// Begins an incarnation: drops what does not outlive the one before, and says what does.
    pub(super) fn begin(&mut self, incarnation: u64) -> Vec<Survivor> {
        self.incarnation = incarnation;
        self.used.clear();
        let mut survivors = Vec::new();
        for (id, mut opened) in std::mem::take(&mut self.opened) {
            let keep = self
                .links
                .get(opened.link.index())
                .is_some_and(|link| link.on_restart == OnRestart::Keep);
            if !keep {
                continue;
            }
            if let Some(survivor) = opened.handle.survive(incarnation) {
                opened.stream = Some(survivor.stream);
                survivors.push(Survivor {
                    id: ConnectionId(id),
                    link: opened.link,
                    peer: survivor.peer,
                    send_window: survivor.send_window,
                });
                self.use_up(id);
                self.opened.insert(id, opened);
            }
        }
        survivors
    }

    /// Ends every connection whose link does not keep it over a restart. After an end in order, what the driver sent
    /// last still leaves; after a fault nobody knows what it was worth.
    pub(crate) fn end_incarnation(&mut self, in_order: bool) {
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

    /// Ends them all, after what was sent has left.
    pub(crate) fn clear(&mut self) {
        for opened in std::mem::take(&mut self.opened).into_values() {
            opened.handle.release();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.opened.len()
    }

    /// The next id that a driver may pick: ids ascend within an incarnation.
    pub(super) fn least_free(&self) -> u32 {
        self.used.last().map_or(0, |last| last.end() + 1)
    }

    /// Whether this incarnation has had a connection of this id, open now or gone for good.
    pub(super) fn was_opened(&self, id: ConnectionId) -> bool {
        self.used.iter().rev().any(|range| range.contains(&id.0))
    }

    /// Notes an id greater than all before. Where a driver leaves gaps without end, the oldest are forgotten.
    fn use_up(&mut self, id: u32) {
        match self.used.last_mut() {
            Some(last) if last.end() + 1 == id => *last = *last.start()..=id,
            Some(_) | None => self.used.push(id..=id),
        }
        if self.used.len() > MAX_USED_RANGES {
            let oldest = self.used.remove(0);
            self.used[0] = *oldest.start()..=*self.used[0].end();
        }
    }

    pub(super) fn has_link(&self, link: LinkId) -> bool {
        link.index() < self.links.len()
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Opened> {
        self.opened.get(&id.0)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Opened> {
        self.opened.get_mut(&id.0)
    }

    /// Opens one; the id was checked.
    pub(super) fn open(&mut self, id: ConnectionId, link: LinkId, target: Option<String>) {
        let Some(config) = self.links.get(link.index()) else {
            return;
        };
        let options = OpenOptions {
            id,
            channel: self.channel.clone(),
            link: config.clone(),
            target,
            send_window: DEFAULT_SEND_WINDOW,
            room: self.room.clone(),
            clock: self.clock,
            incarnation: self.incarnation,
            seed: fastrand::u64(..),
        };
        let handle = Connection::open(options, self.mailbox.clone(), &self.tracker);
        self.use_up(id.0);
        self.opened.insert(
            id.0,
            Opened {
                link,
                handle,
                stream: None,
            },
        );
    }

    /// Forgets one that is gone for good.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        self.opened.remove(&id.0);
    }

    /// Whether the driver wants connections over a link, and whether all of those are up.
    pub(super) fn link_state(&self, link: LinkId) -> (bool, bool) {
        let mut over = self
            .opened
            .values()
            .filter(|opened| opened.link == link)
            .peekable();
        let wanted = over.peek().is_some();
        (wanted, wanted && over.all(|opened| opened.stream.is_some()))
    }
}
