"""Every connection that the host and this runtime both know, by id, and what the host says of it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .abi import CloseReason, Outlook, actions, events
from .errors import Closed
from .executor import Wakers
from .lock import RequestLock

if TYPE_CHECKING:
    from .shared import Shared

MAX_READ = 1024 * 1024
"""The most that one read takes, in bytes. A stream that holds more than this unread is paused, so that the peer feels it."""

_MAX_DATAGRAMS = 1024
_BACKLOG = 64
_FIRST_ACCEPTED = 1 << 31


class Life:
    """What the streams of one life of a connection share with the table."""

    def __init__(self, connection: int, peer: str, secured: bool, window: int, inherited: bool) -> None:
        self.id = connection
        self.peer = peer
        self.secured = secured
        """Whether TLS is on."""
        self.inherited = inherited
        self.ended: tuple[CloseReason, Outlook] | None = None
        self.input = bytearray()
        self.datagrams: deque[tuple[str, bytes]] = deque()
        self.credit = window
        self.writer = RequestLock()
        self.paused = False
        self.pause_told = False
        self.changed = Wakers()

    def revived(self) -> Life:
        """What the stream goes on as after all, of which nothing more was to be read."""
        life = Life(self.id, self.peer, self.secured, self.credit, self.inherited)
        life.paused, life.pause_told = self.paused, self.pause_told
        return life

    def end(self, reason: CloseReason, outlook: Outlook = Outlook.REDIALLING) -> None:
        if self.ended is None:
            self.ended = reason, outlook
            self.changed.wake()

    def start_tls(self, shared: Shared) -> None:
        """Nothing more is read from it, so that what somebody has slipped in before is not taken for what came under TLS."""
        self.input.clear()
        self.end(CloseReason.REQUESTED)
        shared.push(actions.Action_StartTls(self.id))

    def reset(self, shared: Shared) -> None:
        if self.ended is None:
            self.input.clear()
            self.datagrams.clear()
            # A device that called in is not called back.
            self.end(CloseReason.REQUESTED, Outlook.REDIALLING if self.id < _FIRST_ACCEPTED else Outlook.ENDED)
            shared.push(actions.Action_Reset(self.id))

    def tell_resume(self, shared: Shared) -> None:
        """A new life begins under the same id: a pause that this one asked for must not outlive it."""
        if self.pause_told:
            self.pause_told = False
            shared.push(actions.Action_Pause(actions.Pause(self.id, False)))

    def tell_pause(self, shared: Shared) -> None:
        """Tells the host to pause or to resume, where that has changed."""
        if self.ended is not None:
            return
        half = 2 if self.pause_told else 1
        full = len(self.input) > MAX_READ // half
        crowded = len(self.datagrams) >= _MAX_DATAGRAMS // half
        wanted = self.paused or full or crowded
        if wanted != self.pause_told:
            self.pause_told = wanted
            shared.push(actions.Action_Pause(actions.Pause(self.id, wanted)))


class Entry:
    """What the runtime knows of one connection."""

    def __init__(self, link: int, target: str | None) -> None:
        self.id: int | None = None
        """Absent until the `open` went out: while a driver is being configured nothing may."""
        self.link = link
        self.target = target
        self.life: Life | None = None
        self.down: tuple[CloseReason, Outlook] | None = None
        self.tls_declined: str | None = None
        """Why TLS was not begun, until whoever asked for it has heard."""
        self.dead = False
        """The host does not dial any more."""
        self.changed = Wakers()
        self.callers: deque[Entry] = deque()

    @property
    def called_in(self) -> bool:
        return self.id is not None and self.id >= _FIRST_ACCEPTED

    def closed(self) -> Closed:
        ended = self.life.ended if self.life is not None else None
        known = self.down if self.down is not None else ended
        return Closed(None) if known is None else Closed(*known)

    def end_life(self, reason: CloseReason, outlook: Outlook) -> None:
        self.down = reason, outlook
        if self.life is not None:
            self.life.end(reason, outlook)

    def begin_life(self, shared: Shared, life: Life) -> None:
        old, self.life = self.life, life
        if old is not None:
            # `closed` always comes first; a host that forgets it must not leave a reader on two streams.
            old.end(CloseReason.RESET)
            old.tell_resume(shared)
        self.down = None
        self.changed.wake()


class Connections:
    """See the module."""

    def __init__(self) -> None:
        self._table: dict[int, Entry] = {}
        self._last_id = 0
        self._configuring = False
        self._staged: list[Entry] = []
        self._unclaimed: list[Entry] = []

    def begin_configure(self) -> None:
        """From here to `commit` or `abandon` no open goes out."""
        self._configuring = True

    def abandon(self) -> None:
        self._staged.clear()
        self._configuring = False

    def commit(self, shared: Shared) -> None:
        """The new configuration is in force. A driver that it replaces leaves its connections for the new one to open; their streams
        begin anew, since nobody knows where the old one was."""
        self._configuring = False
        for entry in self._table.values():
            if entry not in self._unclaimed:
                if entry.life is not None:
                    entry.life.reset(shared)
                self._unclaimed.append(entry)

    def adopt(self, shared: Shared, survivors: list[events.Connection]) -> None:
        """Connections that outlived the incarnation before."""
        for one in survivors:
            entry = Entry(one.link, one.target)
            entry.id = one.id
            entry.begin_life(shared, Life(one.id, one.peer, one.secured, one.send_window, True))
            if one.id < _FIRST_ACCEPTED:
                self._last_id = max(self._last_id, one.id)
            self._table[one.id] = entry
            self._unclaimed.append(entry)

    def open_staged(self, shared: Shared) -> None:
        staged, self._staged = self._staged, []
        for entry in staged:
            if not entry.dead:
                self.open(shared, entry)

    def close_unclaimed(self, shared: Shared) -> None:
        unclaimed, self._unclaimed = self._unclaimed, []
        for entry in unclaimed:
            self.close(shared, entry)

    def open(self, shared: Shared, entry: Entry) -> None:
        if self._configuring:
            self._staged.append(entry)
            return
        claimed = self._claim(entry)
        if claimed is not None:
            self._table[claimed] = entry
            return
        self._last_id += 1
        entry.id = self._last_id
        shared.push(actions.Action_Open(actions.Open(entry.id, entry.link, entry.target)))
        self._table[entry.id] = entry

    def _claim(self, entry: Entry) -> int | None:
        """Lets `entry` take over an unclaimed connection over the same link to the same place, with those who called in there."""
        for old in self._unclaimed:
            if old.link == entry.link and old.target == entry.target and not old.called_in:
                break
        else:
            return None
        self._unclaimed.remove(old)
        callers = [one for one in self._unclaimed if one.link == entry.link and one.called_in]
        self._unclaimed = [one for one in self._unclaimed if one not in callers]
        entry.callers.extend(old.callers)
        entry.callers.extend(one for one in callers if one not in old.callers)
        old.callers.clear()
        entry.id, entry.down, entry.life = old.id, old.down, old.life
        old.life = None
        return entry.id

    def close(self, shared: Shared, entry: Entry) -> None:
        entry.end_life(CloseReason.REQUESTED, Outlook.ENDED)
        if not entry.dead:
            entry.dead = True
            if entry.id is not None:
                self._table.pop(entry.id, None)
                shared.push(actions.Action_Close(entry.id))
        entry.changed.wake()
        while entry.callers:
            self.close(shared, entry.callers.popleft())

    def opened(self, shared: Shared, opened: events.Opened) -> None:
        entry = self._table.get(opened.connection)
        if entry is not None:
            # Asked of a stream that is gone: it must not be taken for this one.
            stale = actions.Action_StartTls(opened.connection)
            shared.actions = [one for one in shared.actions if one != stale]
            life = Life(opened.connection, opened.peer, opened.secured, opened.send_window, False)
            entry.begin_life(shared, life)

    def closed(self, closed: events.Closed) -> None:
        entry = self._table.get(closed.connection)
        if entry is None:
            return
        entry.end_life(closed.reason, closed.outlook)
        if closed.outlook is Outlook.ENDED:
            entry.dead = True
            del self._table[closed.connection]
            self._unclaimed = [one for one in self._unclaimed if one is not entry]
        entry.changed.wake()

    def received(self, shared: Shared, received: events.Received) -> None:
        entry = self._table.get(received.connection)
        life = entry.life if entry is not None else None
        if life is None or life.ended is not None:
            return
        if received.peer is None:
            life.input += received.bytes
        else:
            life.datagrams.append((received.peer, received.bytes))
        life.tell_pause(shared)
        life.changed.wake()

    def sent(self, sent: events.Sent) -> None:
        entry = self._table.get(sent.connection)
        if entry is not None and entry.life is not None:
            entry.life.credit += sent.bytes
            entry.life.changed.wake()

    def accepted(self, shared: Shared, accepted: events.Accepted) -> bool:
        """Whether the caller was let in; if not, the backlog is full or nobody listens, and it is turned away."""
        listener = self._table.get(accepted.listener)
        caller = Entry(listener.link if listener is not None else 0, None)
        caller.id = accepted.connection
        life = Life(accepted.connection, accepted.peer, False, accepted.send_window, False)
        caller.begin_life(shared, life)
        if listener is None or len(listener.callers) >= _BACKLOG:
            self.close(shared, caller)
            return False
        self._table[accepted.connection] = caller
        listener.callers.append(caller)
        listener.changed.wake()
        return True

    def declined(self, shared: Shared, declined: events.Declined) -> bool:
        """Whether somebody waits to hear what the host did not do."""
        entry = self._table.get(declined.connection) if declined.connection is not None else None
        if entry is None or declined.action is not events.ActionKind.START_TLS:
            return False
        if entry.life is None or entry.life.ended is None or entry.down is not None:
            # It is down by now, or another came up.
            return False
        entry.life = entry.life.revived()
        # What it was paused for is gone.
        entry.life.tell_pause(shared)
        entry.tls_declined = declined.why
        entry.changed.wake()
        return True
