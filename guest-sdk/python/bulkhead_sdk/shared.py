"""What every handle of one runtime shares: the clock of the turn, the actions so far, the executor, the timers.

One per `Runtime`: nothing here is global, so that two drivers can be tested side by side.
"""

from __future__ import annotations

import heapq
import os
import sys
from collections import deque
from collections.abc import Coroutine
from typing import Any

from .abi import Instant, Level, actions, log
from .connections import Connections
from .executor import Duty, Executor, Kind, Wakers
from .values import DataType

IN_COMPONENT = sys.platform == "wasi"

_LOG_LINES = 1024
_HOST_TIMER = 0
_MASK = (1 << 64) - 1


class Timers:
    """Every sleep that is under way, over *one* timer of the host, set to the earliest of them and left to run out where a sleep is
    dropped before its time: a request that is answered in time then costs no action at all."""

    def __init__(self) -> None:
        self._sleeping: list[tuple[int, int, Wakers]] = []
        self._alive: set[int] = set()
        self._next = 0
        self._armed: int | None = None

    def add(self, deadline_ns: int, wakers: Wakers) -> int:
        key = self._next
        self._next += 1
        self._alive.add(key)
        heapq.heappush(self._sleeping, (deadline_ns, key, wakers))
        return key

    def drop(self, key: int) -> None:
        """Forgets a sleep, if it has not ended. One in the middle of the heap is skipped when its time comes."""
        self._alive.discard(key)

    def fire(self, now_ns: int) -> None:
        while self._sleeping and self._sleeping[0][0] <= now_ns:
            _, key, wakers = heapq.heappop(self._sleeping)
            if key in self._alive:
                self._alive.discard(key)
                wakers.wake()

    def disarm(self) -> None:
        self._armed = None

    def arm(self, now_ns: int, at_once: bool) -> actions.Action | None:
        """What the host's timer has to be set to at the end of a turn, if it has to be touched: to the earliest sleep's end, or so that
        the next turn comes at once."""
        while self._sleeping and self._sleeping[0][1] not in self._alive:
            heapq.heappop(self._sleeping)
        if not self._sleeping and not at_once:
            return None
        earliest = now_ns if at_once else self._sleeping[0][0]
        if self._armed is not None and self._armed <= earliest:
            return None
        self._armed = earliest
        return actions.Action_SetTimer(actions.SetTimer(_HOST_TIMER, max(0, earliest - now_ns)))


class Random:
    """Random numbers that the host can foretell: SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*,
    2014). In a component the seed comes from the host, at the first number: `random` of the standard library was seeded when the
    component was built, and is the same in every instance. Not for secrets."""

    def __init__(self, seed: int | None) -> None:
        self._state = seed

    def next(self) -> int:
        if self._state is None:
            self._state = int.from_bytes(os.urandom(8), "little")
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((self._state ^ (self._state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)


class Shared:
    """See the module."""

    def __init__(self, seed: int | None) -> None:
        self.clock = Instant(0, 0)
        self.actions: list[actions.Action] = []
        self.executor = Executor()
        self.timers = Timers()
        self.connections = Connections()
        self.random = Random(seed)
        self.types: dict[int, DataType] = {}
        """The type of each tag."""
        self.unstored: dict[int, str | None] = {}
        """Batches whose `stored` has not come; or why it does not."""
        self.next_batch = 0
        self.stored = Wakers()
        self.answered = Wakers()
        self.log_lines: deque[tuple[Level, str]] = deque(maxlen=_LOG_LINES)
        self._staged: tuple[list[Coroutine[Any, None, None]], list[actions.Action]] | None = None

    @property
    def now_ns(self) -> int:
        return self.clock.monotonic_ns

    def push(self, action: actions.Action) -> None:
        if self._staged is None:
            self.actions.append(action)
        else:
            self._staged[1].append(action)

    def spawn(self, coroutine: Coroutine[Any, None, None]) -> None:
        if self._staged is None:
            self.executor.spawn(Duty(Kind.NOTHING), coroutine)
        else:
            self._staged[0].append(coroutine)

    def begin_configure(self) -> None:
        """From here on nothing takes effect."""
        self._staged = ([], [])
        self.connections.begin_configure()

    def abandon_configure(self) -> None:
        """The new configuration was refused: what it asked for is forgotten."""
        if self._staged is not None:
            for coroutine in self._staged[0]:
                coroutine.close()
        self._staged = None
        self.connections.abandon()

    def commit_configure(self) -> None:
        """The new configuration is in force, and so is what it asked for."""
        coroutines, staged = self._staged or ([], [])
        self._staged = None
        self.actions.extend(staged)
        for coroutine in coroutines:
            self.executor.spawn(Duty(Kind.NOTHING), coroutine)
        self.connections.commit(self)

    def log(self, level: Level, message: str) -> None:
        """In a component the line goes out at once; natively it is kept until somebody takes it."""
        if IN_COMPONENT:
            log.write(level, message)
        else:
            self.log_lines.append((level, message))
