"""Links, connections and streams.

- A `Link` is a way out (or in) that the operator granted, by name.
- A `Connection` is the wish to have it open. The host dials, and goes on dialling, until it is closed.
- A `Stream` is one life of a connection. After a redial there is a *new* stream, so a reply that belongs to the old one cannot be
  taken for one on the new: every call on the old one raises `Closed`.
- A `Listener` is a link on which devices call in; each that does is a connection with one life.

On a datagram link the stream is one life of a socket: `send` and `receive` move whole datagrams.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from .abi import CloseReason, actions, config
from .connections import MAX_READ, Entry, Life
from .errors import Closed, TlsDeclined, TooLong
from .executor import pending
from .lock import Priority
from .shared import Shared

T = TypeVar("T")

_MAX_SEND = 1024 * 1024
_MAX_DATAGRAM = 65_507


class Link:
    """A link that the operator granted."""

    def __init__(self, shared: Shared, grant: config.Link) -> None:
        self._shared = shared
        self.id = grant.id
        self.name = grant.name
        """Its name in the operator's file."""
        self.kind = grant.kind
        """`tcp`, `tls`, `udp`, `unix` or `serial`."""
        self.listens = grant.listens
        """Whether devices call in here, rather than being called."""

    def open(self, target: str | None = None) -> Connection:
        """Asks the host to open the link and to keep it open, until the connection is closed.

        Returns at once; `Connection.opened` waits. `target` is an address within the range that the operator granted, such as
        `10.0.0.17:502`. A connection that outlived a restart is taken over, if it is opened in `__init__`, or in `start` before its
        first await.
        """
        entry = Entry(self.id, target)
        self._shared.connections.open(self._shared, entry)
        return Connection(self._shared, entry)

    def listen(self) -> Listener:
        """Asks the host to let devices call in on a listening link, until the listener is closed."""
        return Listener(self.open())


class Connection:
    """The wish to have a link open. Bytes are not its business: each time that it comes up there is a new `Stream`."""

    def __init__(self, shared: Shared, entry: Entry) -> None:
        self._shared = shared
        self._entry = entry

    @property
    def is_open(self) -> bool:
        """Whether there is a stream right now."""
        return self._entry.life is not None and self._entry.life.ended is None

    def stream(self) -> Stream:
        """The stream, if there is one right now; else `Closed` is raised, with why there is none."""
        life = self._entry.life
        if life is None or life.ended is not None:
            raise self._entry.closed()
        return Stream(self._shared, life)

    async def opened(self) -> Stream:
        """Waits until there is a stream, through as many dials as the host makes, and for an operator where the attempts are spent
        (`Closed.outlook`). Put a timeout around it. Raises `Closed` when the host has given up for good."""
        while not self.is_open:
            if self._entry.dead:
                raise self._entry.closed()
            await pending(self._entry.changed)
        return self.stream()

    async def start_tls(self) -> Stream:
        """Begins TLS, for a protocol that agrees on it first, where the operator allows it, and waits for the stream under it. Where
        TLS is on already, such as on a stream that outlived its incarnation, that is the stream.

        The plain stream ends with it, and nothing more is read from it. Raises `Closed` where the handshake fails: the link is
        redialled then, and is plain again. Raises `TlsDeclined` where the host declined: the plain stream goes on, without what was
        unread.
        """
        entry, plain = self._entry, self.stream()
        if plain.is_secured:
            return plain
        entry.tls_declined = None
        plain._life.start_tls(self._shared)
        while True:
            if entry.tls_declined is not None:
                raise TlsDeclined(entry.tls_declined)
            if entry.down is not None:
                raise Closed(*entry.down)
            if self.is_open:
                stream = self.stream()
                if not stream.is_secured:
                    # Another came up meanwhile, and is none of this.
                    raise Closed(CloseReason.TLS_FAILED)
                return stream
            await pending(entry.changed)

    def reset(self) -> None:
        """Drops the stream at once, whatever is on the way, and has the host redial at once. Nothing happens where there is none."""
        if self._entry.life is not None:
            self._entry.life.reset(self._shared)

    def close(self) -> None:
        """Ends the connection for good, after what was sent has left."""
        self._shared.connections.close(self._shared, self._entry)


class Listener:
    """A link on which devices call in."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def accept(self) -> Connection:
        """Waits for the next device that calls in. Its connection has one life: when it ends, nobody redials. At most 64 wait to be
        accepted; further ones are turned away."""
        entry = self._connection._entry
        while not entry.callers:
            if entry.dead:
                raise entry.closed()
            await pending(entry.changed)
        return Connection(self._connection._shared, entry.callers.popleft())

    def close(self) -> None:
        """Lets nobody call in any more."""
        self._connection.close()


@dataclass(frozen=True)
class Datagram:
    """What came in one piece over a datagram link."""

    peer: str
    """Who sent it, as an address with a port."""
    data: bytes
    """May be empty."""


class Stream:
    """One life of a `Connection`. When it has ended, what had arrived before can still be read; after that every call raises `Closed`.
    Only `reset` throws unread bytes away."""

    def __init__(self, shared: Shared, life: Life) -> None:
        self._shared = shared
        self._life = life

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self._life.ended is None

    @property
    def peer(self) -> str:
        """Who is at the other end, in words."""
        return self._life.peer

    @property
    def is_secured(self) -> bool:
        """Whether TLS is on: the link is a `tls` one, or it was begun by `Connection.start_tls`, perhaps in an incarnation before."""
        return self._life.secured

    @property
    def unread(self) -> int:
        """How many bytes have arrived and were not read."""
        return len(self._life.input)

    @property
    def is_inherited(self) -> bool:
        """Whether an incarnation before has used this stream, on a link that the operator keeps over restarts. Answers to requests that
        are forgotten may be on the way; a protocol that cannot tell begins with a `reset`."""
        return self._life.inherited

    async def read_exact(self, count: int) -> bytes:
        """Waits for exactly so many bytes. Raises `Closed` when the stream ends before they are there."""
        if count > MAX_READ:
            raise TooLong(MAX_READ)
        return await self._read(lambda unread: self._take(count) if len(unread) >= count else None)

    async def read_some(self, most: int) -> bytes:
        """Waits until there is anything, and takes at most so many bytes of it. Raises `Closed` when the stream ends with nothing
        unread."""
        return await self._read(lambda unread: self._take(min(len(unread), most)) if unread or most == 0 else None)

    async def read_until(self, delimiter: bytes, most: int) -> bytes:
        """Waits for `delimiter`, and takes everything up to and with it: at most so many bytes. Raises `TooLong` when there is none
        within them (nothing is taken then), `Closed` when the stream ends before it."""
        most = min(most, MAX_READ)

        def find(unread: bytearray) -> bytes | None:
            at = unread.find(delimiter, 0, most)
            if at >= 0:
                return self._take(at + len(delimiter))
            if len(unread) >= most:
                raise TooLong(most)
            return None

        return await self._read(find)

    async def write_all(self, data: bytes) -> None:
        """Hands all of `data` to the host, within the send window, after whoever began before.

        Returns when the last byte was handed over, not when it has left; the peer's answer is the only proof of that. A task that
        has sent anything is no longer cancelled, since the device may have acted: it answers with its result.
        """
        life = self._life
        async with life.writer.hold(Priority.POLL):
            at = 0
            while at < len(data):
                await self._credit(1)
                piece = bytes(data[at : at + min(life.credit, _MAX_SEND)])
                self._send(None, piece)
                at += len(piece)

    async def receive(self) -> Datagram:
        """Waits for the next datagram, on a datagram link."""
        life = self._life
        while not life.datagrams:
            if life.ended is not None:
                raise Closed(*life.ended)
            await pending(life.changed)
        datagram = Datagram(*life.datagrams.popleft())
        life.tell_pause(self._shared)
        return datagram

    async def send(self, data: bytes, peer: str | None = None) -> None:
        """Sends one datagram, whole: to the link's own address, or to a peer within what the operator granted."""
        if len(data) > _MAX_DATAGRAM:
            raise TooLong(_MAX_DATAGRAM)
        async with self._life.writer.hold(Priority.POLL):
            await self._credit(len(data))
            self._send(peer, bytes(data))

    def clear_input(self) -> None:
        """Throws away what has arrived and was not read."""
        self._life.input.clear()
        self._life.datagrams.clear()
        self._life.tell_pause(self._shared)

    def pause(self, on: bool) -> None:
        """Stops or resumes receiving; the peer feels it."""
        self._life.paused = on
        self._life.tell_pause(self._shared)

    def reset(self) -> None:
        """Drops the stream at once, with whatever is on the way, and has the host redial at once (at most once a second). For a peer
        that has lost its framing, or a reply that is overdue. Nothing happens where it has ended."""
        self._life.reset(self._shared)

    def probe_sent(self) -> None:
        """Tells the host that a probe was sent: the driver's own heartbeat."""
        self._tell_probe(None)

    def probe(self, round_trip: float) -> None:
        """Tells the host that the peer answered a probe after so many seconds."""
        self._tell_probe(round(round_trip * 1e9))

    def _tell_probe(self, round_trip_ns: int | None) -> None:
        if self.is_open:
            self._shared.push(actions.Action_Probe(actions.Probe(self._life.id, round_trip_ns)))

    async def _credit(self, count: int) -> None:
        """Waits until the host takes so many bytes."""
        life = self._life
        while True:
            if life.ended is not None:
                raise Closed(*life.ended)
            if life.credit >= count:
                return
            await pending(life.changed)

    def _send(self, peer: str | None, data: bytes) -> None:
        self._life.credit -= len(data)
        self._shared.executor.commit_current()
        self._shared.push(actions.Action_Send(actions.Send(self._life.id, peer, data)))

    def _take(self, count: int) -> bytes:
        taken = bytes(self._life.input[:count])
        del self._life.input[:count]
        return taken

    async def _read(self, take: Callable[[bytearray], T | None]) -> T:
        """Waits until `take` finds what it wants in the input."""
        life = self._life
        while True:
            found = take(life.input)
            if found is not None:
                life.tell_pause(self._shared)
                return found
            if life.ended is not None:
                raise Closed(*life.ended)
            await pending(life.changed)
