//! Every connection that the host and this runtime both know, by id, and what the host says of it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::stream::{Datagram, Life, Up};
use crate::abi::{self, Action, ActionKind, CloseReason, ConnectionId, LinkId, Open, Outlook};
use crate::error::Closed;
use crate::shared::Shared;
use crate::wakers::Wakers;

/// How many devices may have called in without being accepted; further ones are turned away.
const BACKLOG: usize = 64;

/// What the runtime knows of one connection, shared between its handles and the table.
pub(super) struct Entry {
    /// Absent until the `open` went out: within `configure` nothing may.
    pub(super) id: Cell<Option<ConnectionId>>,
    pub(super) link: LinkId,
    pub(super) target: Option<String>,
    /// The newest life. It may have ended.
    pub(super) life: RefCell<Option<Rc<Life>>>,
    /// What the host said last: why a dial failed, or a life ended. Nothing, where the newest life has not ended, or was reset by
    /// the driver a moment ago.
    pub(super) down: Cell<Option<Closed>>,
    /// Why TLS was not begun, until whoever asked for it has heard.
    pub(super) tls_declined: RefCell<Option<String>>,
    /// The host does not dial any more.
    pub(super) dead: Cell<bool>,
    /// Woken when the connection comes up, dies, or somebody calls in.
    pub(super) changed: Wakers,
    pub(super) callers: RefCell<VecDeque<Rc<Entry>>>,
}

impl Entry {
    pub(super) fn new(link: LinkId, target: Option<String>) -> Rc<Self> {
        Rc::new(Self {
            id: Cell::new(None),
            link,
            target,
            life: RefCell::new(None),
            down: Cell::new(None),
            tls_declined: RefCell::new(None),
            dead: Cell::new(false),
            changed: Wakers::default(),
            callers: RefCell::default(),
        })
    }

    /// Whether a device opened it, rather than this driver.
    fn called_in(&self) -> bool {
        self.id.get().is_some_and(|id| id >= FIRST_ACCEPTED)
    }

    pub(super) fn closed(&self) -> Closed {
        let down = self.down.get();
        down.or_else(|| self.life.borrow().as_ref()?.ended())
            .unwrap_or(Closed::NOT_YET)
    }

    pub(super) fn end_life(&self, closed: Closed) {
        self.down.set(Some(closed));
        if let Some(life) = &*self.life.borrow() {
            life.end(closed);
        }
    }

    /// The stream is to go on under TLS.
    pub(super) fn start_tls(&self, shared: &Shared) {
        self.tls_declined.take();
        if let Some(life) = &*self.life.borrow() {
            life.start_tls(shared);
        }
    }

    /// It goes on in plain, unless it is down by now, or another came up. Whether somebody waits to hear that.
    fn tls_declined(&self, shared: &Shared, why: String) -> bool {
        let life = self.life.borrow().clone();
        let Some(ended) = life.filter(|life| life.has_ended() && self.down.get().is_none()) else {
            return false;
        };
        let life = ended.revived();
        // What it was paused for is gone.
        life.tell_pause(shared);
        self.life.replace(Some(life));
        self.tls_declined.replace(Some(why));
        self.changed.wake();
        true
    }

    fn begin_life(&self, shared: &Shared, life: Rc<Life>) {
        if let Some(old) = self.life.replace(Some(life)) {
            // `closed` always comes first; a host that forgets it must not leave a reader on two streams.
            old.end(Closed::redialling(CloseReason::Reset));
            old.tell_resume(shared);
        }
        self.down.set(None);
        self.changed.wake();
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Connections {
    table: RefCell<BTreeMap<ConnectionId, Rc<Entry>>>,
    last_id: Cell<ConnectionId>,
    /// Opened within `configure`: they wait for the next turn.
    staged: RefCell<Vec<Rc<Entry>>>,
    /// Whether opening is staged, and dropping leaves a connection for the next driver to claim.
    configuring: Cell<bool>,
    /// How many of those that are staged a configuration has asked for that was accepted, and whose first turn is still to come.
    accepted: Cell<usize>,
    /// Up, and without an owner.
    unclaimed: RefCell<Vec<Rc<Entry>>>,
}

impl Connections {
    /// From here to [`commit`](Self::commit) or [`abandon`](Self::abandon) no open goes out, and no drop closes.
    pub(crate) fn begin_configure(&self) {
        self.configuring.set(true);
        self.accepted.set(self.staged.borrow().len());
    }

    /// The new configuration was refused: what it opened was never there.
    pub(crate) fn abandon(&self) {
        self.staged.borrow_mut().truncate(self.accepted.get());
        self.configuring.set(false);
    }

    /// The new configuration is in force. Where a task was cut off in mid-exchange, streams may be in mid-frame:
    /// those that are handed over begin anew.
    pub(crate) fn commit(&self, shared: &Shared, mid_exchange: bool) {
        self.configuring.set(false);
        if mid_exchange {
            for entry in self.unclaimed.borrow().iter() {
                if let Some(life) = &*entry.life.borrow() {
                    life.reset(shared);
                }
            }
        }
    }

    /// Connections that outlived the incarnation before.
    pub(crate) fn adopt(&self, shared: &Shared, survivors: Vec<abi::Connection>) {
        for survivor in survivors {
            let entry = Entry::new(survivor.link, survivor.target);
            entry.id.set(Some(survivor.id));
            let life = Life::new(Up {
                id: survivor.id,
                peer: survivor.peer,
                secured: survivor.secured,
                window: survivor.send_window,
                inherited: true,
            });
            entry.begin_life(shared, life);
            if survivor.id < FIRST_ACCEPTED {
                self.last_id.set(self.last_id.get().max(survivor.id));
            }
            self.table.borrow_mut().insert(survivor.id, entry.clone());
            self.unclaimed.borrow_mut().push(entry);
        }
    }

    /// Opens what `configure` asked for: over a connection without an owner where there is one, else anew.
    pub(crate) fn open_staged(&self, shared: &Shared) {
        let staged = std::mem::take(&mut *self.staged.borrow_mut());
        for entry in staged {
            if !entry.dead.get() {
                self.open(shared, entry);
            }
        }
    }

    /// Closes what nobody claimed.
    pub(crate) fn close_unclaimed(&self, shared: &Shared) {
        let unclaimed = std::mem::take(&mut *self.unclaimed.borrow_mut());
        for entry in unclaimed {
            self.close(shared, &entry);
        }
    }

    pub(super) fn open(&self, shared: &Shared, entry: Rc<Entry>) {
        if self.configuring.get() {
            self.staged.borrow_mut().push(entry);
            return;
        }
        if let Some(id) = self.claim(&entry) {
            self.table.borrow_mut().insert(id, entry);
            return;
        }
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        entry.id.set(Some(id));
        shared.push(Action::Open(Open {
            connection: id,
            link: entry.link,
            target: entry.target.clone(),
        }));
        self.table.borrow_mut().insert(id, entry);
    }

    /// Lets `entry` take over an unclaimed connection over the same link to the same place.
    fn claim(&self, entry: &Entry) -> Option<ConnectionId> {
        let mut unclaimed = self.unclaimed.borrow_mut();
        let index = unclaimed.iter().position(|old| {
            old.link == entry.link && old.target == entry.target && !old.called_in()
        })?;
        let old = unclaimed.remove(index);
        let (callers, others) = std::mem::take(&mut *unclaimed)
            .into_iter()
            .partition::<Vec<_>, _>(|other| other.link == entry.link && other.called_in());
        *unclaimed = others;
        entry.callers.borrow_mut().extend(old.callers.take());
        entry.callers.borrow_mut().extend(callers);
        entry.id.set(old.id.get());
        entry.down.set(old.down.get());
        entry.life.replace(old.life.take());
        old.id.get()
    }

    /// The last handle was dropped.
    pub(super) fn let_go(&self, shared: &Shared, entry: &Rc<Entry>) {
        if self.configuring.get() {
            if entry.id.get().is_none() {
                entry.dead.set(true);
            } else if !entry.dead.get() {
                self.unclaimed.borrow_mut().push(entry.clone());
            }
        } else {
            self.close(shared, entry);
        }
    }

    pub(super) fn close(&self, shared: &Shared, entry: &Entry) {
        entry.end_life(Closed::ended(CloseReason::Requested));
        if !entry.dead.replace(true)
            && let Some(id) = entry.id.get()
        {
            self.table.borrow_mut().remove(&id);
            shared.push(Action::Close(id));
        }
        entry.changed.wake();
        for caller in entry.callers.take() {
            self.close(shared, &caller);
        }
    }

    pub(crate) fn opened(&self, shared: &Shared, opened: abi::Opened) {
        if let Some(entry) = self.entry(opened.connection) {
            // Asked of a stream that is gone: it must not be taken for this one.
            let stale =
                |one: &Action| matches!(one, Action::StartTls(id) if *id == opened.connection);
            shared.actions.borrow_mut().retain(|one| !stale(one));
            let life = Life::new(Up {
                id: opened.connection,
                peer: opened.peer,
                secured: opened.secured,
                window: opened.send_window,
                inherited: false,
            });
            entry.begin_life(shared, life);
        }
    }

    pub(crate) fn closed(&self, closed: &abi::Closed) {
        let Some(entry) = self.entry(closed.connection) else {
            return;
        };
        entry.end_life(Closed {
            reason: Some(closed.reason),
            outlook: closed.outlook,
        });
        if closed.outlook == Outlook::Ended {
            entry.dead.set(true);
            self.table.borrow_mut().remove(&closed.connection);
            self.unclaimed
                .borrow_mut()
                .retain(|old| old.id.get() != Some(closed.connection));
        }
        entry.changed.wake();
    }

    pub(crate) fn received(&self, shared: &Shared, received: abi::Received) {
        if let Some(life) = self.life(received.connection) {
            match received.peer {
                None => life.received(shared, received.bytes),
                Some(peer) => {
                    let bytes = received.bytes;
                    life.received_datagram(shared, Datagram { peer, bytes });
                }
            }
        }
    }

    pub(crate) fn sent(&self, sent: &abi::Sent) {
        if let Some(life) = self.life(sent.connection) {
            life.credited(sent.bytes);
        }
    }

    /// Whether the caller was let in; if not, the backlog is full or nobody listens, and it is turned away.
    pub(crate) fn accepted(&self, shared: &Shared, accepted: abi::Accepted) -> bool {
        let listener = self.entry(accepted.listener);
        let link = listener.as_ref().map_or(0, |listener| listener.link);
        let caller = Entry::new(link, None);
        caller.id.set(Some(accepted.connection));
        let life = Life::new(Up {
            id: accepted.connection,
            peer: accepted.peer,
            secured: false,
            window: accepted.send_window,
            inherited: false,
        });
        caller.begin_life(shared, life);
        match listener {
            Some(listener) if listener.callers.borrow().len() < BACKLOG => {
                self.table
                    .borrow_mut()
                    .insert(accepted.connection, caller.clone());
                listener.callers.borrow_mut().push_back(caller);
                listener.changed.wake();
                true
            }
            _ => {
                self.close(shared, &caller);
                false
            }
        }
    }

    /// Whether somebody waits to hear what the host did not do.
    pub(crate) fn declined(&self, shared: &Shared, declined: &abi::Declined) -> bool {
        let entry = declined.connection.and_then(|id| self.entry(id));
        declined.action == ActionKind::StartTls
            && entry.is_some_and(|entry| entry.tls_declined(shared, declined.why.clone()))
    }

    fn entry(&self, id: ConnectionId) -> Option<Rc<Entry>> {
        self.table.borrow().get(&id).cloned()
    }

    fn life(&self, id: ConnectionId) -> Option<Rc<Life>> {
        self.table.borrow().get(&id)?.life.borrow().clone()
    }
}

/// Ids from here up are the host's, for connections that a listening link accepted.
pub(super) const FIRST_ACCEPTED: ConnectionId = 1 << 31;
