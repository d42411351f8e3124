"""A lock in which a waiting write overtakes waiting polls.

Most field protocols allow one request at a time. Handlers run concurrently, so they take turns on a `RequestLock` between their
requests: a poll of forty requests asks for it forty times, and an operator's setpoint waits for one request, not for forty.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from .executor import Wakers, pending


class Priority(Enum):
    """Who goes first."""

    WRITE = 0
    """A write, or whatever somebody waits for: before all polls."""
    POLL = 1
    """A poll: when no write waits."""


class RequestLock:
    """An asynchronous lock with two priorities; first come, first served within each.

    Nothing is handed over ahead of time: whoever is dropped while it waits has never held the lock, and the next one gets it.
    Writes that never cease keep polls waiting for ever.

        async with self.turn.hold(Priority.WRITE):
            ...
    """

    def __init__(self) -> None:
        self._held = False
        self._queues: dict[Priority, deque[Wakers]] = {one: deque() for one in Priority}

    @property
    def is_held(self) -> bool:
        """Whether somebody holds it right now."""
        return self._held

    def hold(self, priority: Priority = Priority.POLL) -> Hold:
        """Waits for the lock, and holds it for the length of an `async with`."""
        return Hold(self, priority)

    async def _acquire(self, priority: Priority) -> None:
        if not self._held and not self._keeps_waiting(priority):
            self._held = True
            return
        me = Wakers()
        queue = self._queues[priority]
        queue.append(me)
        try:
            while self._held or self._front() is not me:
                await pending(me)
            self._held = True
        finally:
            queue.remove(me)
            # It may have been this one that the last release woke.
            self._wake_next()

    def _keeps_waiting(self, priority: Priority) -> bool:
        writes, polls = self._queues[Priority.WRITE], self._queues[Priority.POLL]
        return bool(writes) or (priority is Priority.POLL and bool(polls))

    def _front(self) -> Wakers | None:
        for priority in (Priority.WRITE, Priority.POLL):
            if self._queues[priority]:
                return self._queues[priority][0]
        return None

    def _wake_next(self) -> None:
        front = self._front()
        if not self._held and front is not None:
            front.wake()


class Hold:
    """A lock that is asked for. Made by `RequestLock.hold`."""

    def __init__(self, lock: RequestLock, priority: Priority) -> None:
        self._lock = lock
        self._priority = priority

    async def __aenter__(self) -> None:
        await self._lock._acquire(self._priority)

    async def __aexit__(self, *_: object) -> None:
        self._lock._held = False
        self._lock._wake_next()
