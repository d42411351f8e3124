"""What a driver can do besides answering."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, TypeVar

from .abi import DeviceCondition, Level, MetricKind, Severity, actions
from .errors import Elapsed, NotDurable
from .executor import Kind, Wakers, pending, select
from .shared import Shared
from .values import Sample

T = TypeVar("T")

_SECOND = 1_000_000_000


class Context:
    """The host, as a driver sees it. Keep it in the driver.

    Durations are in seconds, as everywhere in Python; moments are in nanoseconds, as the host gives them.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    @property
    def now_ns(self) -> int:
        """Now, on the clock that measures. It stands still within a turn: no time passes but by waiting. Before the first turn both
        clocks are at zero."""
        return self._shared.clock.monotonic_ns

    @property
    def wall_ns(self) -> int:
        """Now, on the clock that dates: nanoseconds since 1970. It may jump; never measure with it."""
        return self._shared.clock.wall_ns

    async def sleep(self, seconds: float) -> None:
        """Waits so long; the host's clock resolves about a millisecond, and is never early."""
        await self.sleep_until(self.now_ns + round(seconds * _SECOND))

    async def sleep_until(self, moment_ns: int) -> None:
        """Waits for a moment. Ready at once where it has passed."""
        if self.now_ns >= moment_ns:
            return
        timers, wakers = self._shared.timers, Wakers()
        key = timers.add(moment_ns, wakers)
        try:
            while self.now_ns < moment_ns:
                await pending(wakers)
        finally:
            timers.drop(key)

    async def timeout(self, seconds: float, awaitable: Awaitable[T]) -> T:
        """Waits for `awaitable`, but no longer than so many seconds: then it is dropped, and `Elapsed` raised.

        A request that was dropped half-way leaves its reply on the way: `reset` the stream, unless the protocol tells late replies
        apart.
        """
        return await self.deadline(self.now_ns + round(seconds * _SECOND), awaitable)

    async def deadline(self, moment_ns: int, awaitable: Awaitable[T]) -> T:
        """As `timeout`, up to a moment."""
        place, value = await select(awaitable, self.sleep_until(moment_ns))
        if place == 1:
            raise Elapsed
        return value

    def spawn(self, coroutine: Coroutine[Any, None, None]) -> None:
        """Runs a task beside the others, until it ends, the configuration changes or the incarnation does."""
        self._shared.spawn(coroutine)

    def publish(self, samples: Iterable[Sample]) -> None:
        """Hands samples on, in order. An empty batch is none. `ValueError` where a value is not of its tag's type."""
        batch = [self._to_abi(sample) for sample in samples]
        if batch:
            self._shared.push(actions.Action_Publish(actions.Publish(None, batch)))

    async def publish_durable(self, samples: Iterable[Sample]) -> None:
        """Hands samples on, and waits until they are durable: for a protocol that acknowledges to the device. Raises `NotDurable`
        where the host does not tell; they are handed on all the same."""
        batch = [self._to_abi(sample) for sample in samples]
        if not batch:
            return
        shared = self._shared
        key = shared.next_batch
        shared.next_batch += 1
        shared.unstored[key] = None
        shared.push(actions.Action_Publish(actions.Publish(key, batch)))
        try:
            while key in shared.unstored:
                why = shared.unstored[key]
                if why is not None:
                    raise NotDurable(why)
                await pending(shared.stored)
        finally:
            shared.unstored.pop(key, None)

    def device_state(self, device: int, condition: DeviceCondition, why: str) -> None:
        """Says what is known of a device, with one sentence for an operator. While it is down its tags are bad."""
        self._shared.push(actions.Action_DeviceState(actions.DeviceState(device, condition, why)))

    def metric(
        self,
        name: str,
        value: float,
        *,
        kind: MetricKind = MetricKind.GAUGE,
        unit: str = "",
        device: int | None = None,
    ) -> None:
        """Reports a figure of the driver's own: its unit in the code of UCUM (`s`, `By`, `Cel`), empty for a plain number. At most 64
        pairs of name and device in one incarnation."""
        self._shared.push(actions.Action_Metric(actions.Metric(name, kind, unit, device, value)))

    def alarm(
        self,
        code: str,
        active: bool,
        message: str,
        *,
        severity: Severity = Severity.WARNING,
        device: int | None = None,
        source_time_ns: int | None = None,
    ) -> None:
        """Raises or clears a condition that operators should see, known by its code and its device. `source_time_ns` is when it came
        or went, as the device says. At most 64 pairs of code and device in one incarnation."""
        alarm = actions.Alarm(code, severity, active, message, device, source_time_ns)
        self._shared.push(actions.Action_Alarm(alarm))

    def save_state(self, state: bytes) -> None:
        """Keeps `state` (at most 1 MiB) for the next incarnation. Durable before anything sent later leaves."""
        self._shared.push(actions.Action_SaveState(state))

    def progress(self, fraction: float, message: str) -> None:
        """Says how far the command has come that the calling task answers, from 0 to 1. Nothing happens in any other task."""
        task = self._shared.executor.current
        if task is not None and task.duty.kind is Kind.COMMAND:
            # A comparison with NaN is false: it counts as no progress.
            clamped = min(1.0, fraction) if fraction > 0 else 0.0
            self._shared.push(actions.Action_CommandProgress(actions.Progress(task.duty.request, clamped, message)))

    def commit(self) -> None:
        """Makes the calling task one that a cancel no longer drops. A task that has sent bytes is one without asking."""
        self._shared.executor.commit_current()

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits any more for what the calling task answers: a good moment to end, where that leaves nothing half-done."""
        task = self._shared.executor.current
        return task is not None and task.cancelled

    def random(self) -> int:
        """A random number of 64 bits, from the seed that the host gave and recorded. Not for secrets."""
        return self._shared.random.next()

    def log(self, level: Level, message: str) -> None:
        """Writes one line to the host's log, at once: it is seen even if the turn fails. Lines over 100 a second are dropped."""
        self._shared.log(level, message)

    def error(self, message: str) -> None:
        """Logs an error."""
        self.log(Level.ERROR, message)

    def warn(self, message: str) -> None:
        """Logs a warning."""
        self.log(Level.WARN, message)

    def info(self, message: str) -> None:
        """Logs something that an operator may like to know."""
        self.log(Level.INFO, message)

    def debug(self, message: str) -> None:
        """Logs something for whoever looks for a fault."""
        self.log(Level.DEBUG, message)

    def _to_abi(self, sample: Sample) -> Any:
        return to_abi(self._shared, sample)


def to_abi(shared: Shared, sample: Sample) -> Any:
    """A sample as the host takes it. What the host would refuse, with the whole turn, is refused here by name."""
    from .abi import Quality, types

    data_type = shared.types.get(sample.tag)
    if data_type is None:
        raise ValueError(f"there is no tag {sample.tag}")
    if sample.value is None:
        if sample.quality.value < Quality.BAD.value:
            raise ValueError(f"a sample of tag {sample.tag} is {sample.quality.name}, and has no value")
        return types.Sample(sample.tag, None, sample.quality, sample.source_time_ns)
    return types.Sample(sample.tag, data_type.to_abi(sample.value), sample.quality, sample.source_time_ns)
