"""The executor: tasks on one thread, and a queue of those that can go on.

A coroutine that waits yields the `Wakers` that may let it go on; the executor notes the task there. The queue holds each task at
most once and is first in, first out: the same wakes in the same order run the same tasks in the same order. asyncio is of no use
here: its loop wants a clock and a selector, and a driver has neither.

A turn runs so many steps of tasks at most: where a line is lost under a thousand requests, what is left of them fails in the next
turns, which are asked for at once. All of it in one turn would cost more fuel than a turn has.

A task carries its duty: what the host is owed when it ends. The duty leaves together with the task, so each request is answered
exactly once.
"""

from __future__ import annotations

import types as _types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeVar

from .errors import Error

T = TypeVar("T")


class Kind(Enum):
    """What a task is for."""

    NOTHING = auto()
    """A task that the driver spawned."""
    START = auto()
    """Nothing is owed, but a failure ends the incarnation."""
    STOP = auto()
    POLL = auto()
    READ = auto()
    WRITE = auto()
    COMMAND = auto()
    HEALTH = auto()


@dataclass(frozen=True)
class Duty:
    """What the host is owed when a task ends."""

    kind: Kind
    request: int = 0
    """The request; for a poll its group."""
    cycle: int = 0
    """Of a poll."""

    def is_request(self) -> bool:
        """Whether somebody waits for the answer."""
        return self.kind not in (Kind.NOTHING, Kind.START, Kind.STOP)


class Task:
    """A coroutine with its duty."""

    __slots__ = ("cancelled", "committed", "coroutine", "duty", "ended", "executor", "queued")

    def __init__(self, executor: Executor, duty: Duty, coroutine: Coroutine[Any, None, Any]) -> None:
        self.executor = executor
        self.duty = duty
        self.coroutine = coroutine
        self.queued = False
        self.committed = False
        """Whether it has sent bytes: the device may have acted, so that a cancel comes too late."""
        self.cancelled = False
        """Whether a cancel came too late."""
        self.ended = False

    def wake(self) -> None:
        if not self.queued and not self.ended:
            self.queued = True
            self.executor.ready.append(self)


class Wakers:
    """Tasks that are all woken by the next change. Whoever is woken looks again, and registers again."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: list[Task] = []

    def register(self, task: Task) -> None:
        if task not in self._tasks:
            # One that was cancelled, or went on by another way and ended, would stay here until the next wake, which may never come.
            self._tasks = [one for one in self._tasks if not one.ended]
            self._tasks.append(task)

    def wake(self) -> None:
        if self._tasks:
            woken, self._tasks = self._tasks, []
            for task in woken:
                task.wake()


@_types.coroutine
def pending(*wakers: Wakers) -> Generator[tuple[Wakers, ...], None, None]:
    """Waits until one of these is woken, or something else lets the task go on: look again afterwards."""
    yield wakers


#: Steps in one turn: a step of a handler is a question or an answer, and costs up to 300,000 units of fuel; a turn has 50 million.
MAX_STEPS = 64


class Executor:
    """See the module."""

    def __init__(self) -> None:
        self.ready: deque[Task] = deque()
        self._steps = MAX_STEPS
        self.current: Task | None = None
        self._tasks: dict[Task, None] = {}

    def spawn(self, duty: Duty, coroutine: Coroutine[Any, None, Any]) -> None:
        """Takes a task in; it runs at the next `run`."""
        task = Task(self, duty, coroutine)
        self._tasks[task] = None
        task.wake()

    def run(self, finished: Callable[[Duty, Any, Error | None], None]) -> None:
        """Runs until no task can go on, or the turn has had its steps, and hands on how each finished one ended."""
        while self.ready and self._steps > 0:
            task = self.ready.popleft()
            task.queued = False
            if task.ended:
                continue
            self._steps -= 1
            self.current = task
            value, error = None, None
            try:
                wakers = task.coroutine.send(None)
            except StopIteration as stop:
                value = stop.value
            except Error as failed:
                error = failed
            else:
                for one in wakers:
                    one.register(task)
                continue
            finally:
                self.current = None
            self._forget(task)
            finished(task.duty, value, error)

    def begin_turn(self) -> None:
        """Steps are counted anew."""
        self._steps = MAX_STEPS

    def has_more(self) -> bool:
        """Whether something is left for the next turn."""
        return bool(self.ready)

    def commit_current(self) -> None:
        """Notes that the running task has sent bytes: from here on it is not cancelled, but answers with its result."""
        if self.current is not None:
            self.current.committed = True

    def cancel(self, request: int) -> Task | None:
        """Ends the task of a request. Nothing happens where it has ended; one that is committed is told."""
        for task in self._tasks:
            kind = task.duty.kind
            if task.duty.request == request and task.duty.is_request() and kind is not Kind.POLL:
                if task.committed:
                    task.cancelled = True
                    return None
                self._end(task)
                return task
        return None

    def cancel_all(self) -> list[Task]:
        """Ends every task but the running one, in the order in which they began."""
        ended = [task for task in self._tasks if task is not self.current]
        for task in ended:
            self._end(task)
        return ended

    def requests(self) -> int:
        """How many tasks somebody waits for."""
        return sum(task.duty.is_request() for task in self._tasks)

    def _end(self, task: Task) -> None:
        self._forget(task)
        task.coroutine.close()

    def _forget(self, task: Task) -> None:
        task.ended = True
        self._tasks.pop(task, None)


class _Branch:
    """One of several awaitables in one task."""

    __slots__ = ("coroutine", "done", "value")

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.coroutine = _as_coroutine(awaitable)
        self.done = False
        self.value: Any = None

    def step(self) -> tuple[Wakers, ...]:
        """Goes on as far as it can; what it waits for then. Nothing, where it is done."""
        if self.done:
            return ()
        try:
            return self.coroutine.send(None)
        except StopIteration as stop:
            self.done, self.value = True, stop.value
            return ()
        except BaseException:
            self.done = True
            raise

    def close(self) -> None:
        if not self.done:
            self.done = True
            self.coroutine.close()


async def _wrap(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _as_coroutine(awaitable: Awaitable[Any]) -> Coroutine[Any, None, Any]:
    return awaitable if isinstance(awaitable, Coroutine) else _wrap(awaitable)


async def select(*awaitables: Awaitable[Any]) -> tuple[int, Any]:
    """Waits for whichever is ready first, and drops the others: its place, and its value.

    The first named is asked first, so that the same events give the same result. A read that is dropped leaves its bytes where they
    are; a write that is dropped may have sent a part.
    """
    branches = [_Branch(awaitable) for awaitable in awaitables]
    try:
        while True:
            wakers: list[Wakers] = []
            for place, branch in enumerate(branches):
                wakers.extend(branch.step())
                if branch.done:
                    return place, branch.value
            await pending(*wakers)
    finally:
        for branch in branches:
            branch.close()


async def join(*awaitables: Awaitable[Any]) -> list[Any]:
    """Waits for all, and gives their results in the order of the arguments. The first that raises ends the others.

    Every wake asks every unfinished one again: for tens of awaitables, not for thousands.
    """
    branches = [_Branch(awaitable) for awaitable in awaitables]
    try:
        while True:
            wakers = [waker for branch in branches for waker in branch.step()]
            if all(branch.done for branch in branches):
                return [branch.value for branch in branches]
            await pending(*wakers)
    finally:
        for branch in branches:
            branch.close()
