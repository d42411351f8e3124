"""One driver, run by turns: what a component forwards to, and what a test holds."""

from __future__ import annotations

import json
import traceback
from collections.abc import Coroutine, Iterable
from enum import Enum, auto
from typing import Any

from . import settings
from .abi import Err, Instant, Level, Ok, Quality, StartReason, actions, config, events, types
from .config import Faults, parse
from .context import Context, to_abi
from .driver import Command, Driver, Poll, PollReport, Read, Start, Stop, Write
from .errors import Elapsed, Error
from .executor import Duty, Kind, Task, pending
from .shared import Shared
from .values import Sample, from_abi


class _Phase(Enum):
    """Where an incarnation stands."""

    WAITING = auto()
    """Configured or not, `started` has not come. Goes to `RUNNING`."""
    REPLACED = auto()
    """The driver was replaced since the last turn; the next one starts it, and is `RUNNING`."""
    RUNNING = auto()
    """Goes to `REPLACED`, `STOPPED` or `FAILED`."""
    STOPPED = auto()
    """`stopped` was said: nothing may follow."""
    FAILED = auto()
    """`start` failed or there was a defect, and so does every turn from here on."""


class Runtime:
    """A driver with its tasks, timers and connections: everything that one incarnation is.

    Deterministic: the same configuration, seed and events give the same actions.
    """

    def __init__(self, driver: type[Driver], seed: int | None = None) -> None:
        """`seed` is for a native host or a test; in a component random numbers come from the host."""
        self._class = driver
        self._shared = Shared(seed)
        self._driver: Driver | None = None
        self._phase = _Phase.WAITING
        self._failure: types.Error | None = None
        self._incarnation = 0
        self._groups: dict[int, list[tuple[int, int]]] = {}

    def describe(self) -> config.DriverInfo:
        """What the driver is."""
        info = self._class.info
        return config.DriverInfo(
            name=info.name,
            version=info.version,
            protocol=info.protocol,
            settings_schema=json.dumps(settings.schema(self._class.Settings)),
            device_schema=json.dumps(settings.schema(self._class.DeviceSettings)),
            tag_schema=json.dumps(settings.schema(self._class.TagSettings)),
            address_help=info.address_help,
            links=[config.LinkWish(wish.name, list(wish.kinds), wish.required) for wish in info.links],
            commands=[command.to_abi() for command in self._class.commands],
            can=info.can,
        )

    def configure(self, channel: config.ChannelConfig) -> None:
        """Takes a configuration; raises `Faults` with every fault at once. The configuration before stays in force then."""
        shared, old_types = self._shared, self._shared.types
        shared.begin_configure()
        faults = Faults()
        driver = None
        try:
            parsed = parse(self._class, channel, shared, faults)
            if parsed is not None:
                shared.types = {tag.id: tag.data_type for tag in parsed.tags}
                try:
                    driver = self._class(parsed, Context(shared))
                except Faults as more:
                    faults.all.extend(more.all)
            faults.check()
        except BaseException:
            shared.types = old_types
            shared.abandon_configure()
            raise
        assert driver is not None, "without faults there is a driver"
        self._replace(driver, channel)

    def turn(self, now: Instant, happened: list[events.Event]) -> list[actions.Action]:
        """Takes a turn: events in, actions out. Raises `Err` when `Driver.start` failed, when there was no configuration, or when a
        handler raised what is no `Error`. The runtime is of no use then."""
        if self._failure is not None:
            raise Err(self._failure)
        try:
            return self._turn(now, happened)
        except Error as error:
            self._failure = error.to_abi()
        except Exception as defect:
            what = f"a defect of the driver: {type(defect).__name__}: {defect}"
            self._failure = Error(what, trace=traceback.format_exc()).to_abi()
            self._shared.log(Level.ERROR, f"{what} at {_place(defect)}")
        self._phase = _Phase.FAILED
        raise Err(self._failure)

    def take_log(self) -> list[tuple[Level, str]]:
        """What the driver has logged since the last call, at most 1,024 lines. Empty in a component, whose log goes to the host."""
        lines = list(self._shared.log_lines)
        self._shared.log_lines.clear()
        return lines

    def _turn(self, now: Instant, happened: list[events.Event]) -> list[actions.Action]:
        shared = self._shared
        if self._driver is None:
            raise Error("a turn before any configuration was accepted")
        shared.clock = now
        shared.executor.begin_turn()
        if self._phase is _Phase.REPLACED:
            self._begin(Start(self._incarnation, StartReason.RECONFIGURED, None, ()))
        for event in happened:
            self._wake_until(event.at_ns)
            self._deliver(event.what)
            self._run()
        self._wake_until(now.monotonic_ns)
        taken, shared.actions = shared.actions, []
        if self._phase is _Phase.STOPPED:
            # Whatever came of taking things down must not follow the last word.
            last = next((at for at, one in enumerate(taken) if isinstance(one, actions.Action_Stopped)), -1)
            return taken[: last + 1]
        shared.actions = taken
        shared.connections.close_unclaimed(shared)
        arm = shared.timers.arm(now.monotonic_ns, shared.executor.has_more())
        if arm is not None:
            shared.push(arm)
        taken, shared.actions = shared.actions, []
        return taken

    def _wake_until(self, nanos: int) -> None:
        """Lets the sleeps end that were due then: before what happened later, so that a reply that came in time is not too late only
        because the turn is."""
        self._shared.timers.fire(nanos)
        self._run()

    def _replace(self, driver: Driver, channel: config.ChannelConfig) -> None:
        """Puts `driver` in the place of the one before, whose tasks are dropped and answered."""
        cancelled = self._shared.executor.cancel_all()
        device_of = {tag.id: tag.device for tag in channel.tags}
        self._groups = {
            group.id: [(tag, device_of[tag]) for tag in group.tags if tag in device_of] for group in channel.groups
        }
        self._driver = driver
        self._shared.commit_configure()
        self._answer_cancelled(cancelled, "the configuration changed")
        if self._phase is _Phase.RUNNING:
            self._phase = _Phase.REPLACED

    def _begin(self, start: Start) -> None:
        assert self._driver is not None, "asked for at the beginning of each turn"
        self._phase = _Phase.RUNNING
        self._shared.connections.open_staged(self._shared)
        self._spawn(Duty(Kind.START), self._driver.start(start))

    def _deliver(self, what: events.Happening) -> None:
        handler = _HANDLERS[type(what)]
        handler(self, getattr(what, "value", None))

    def _started(self, start: events.Start) -> None:
        self._incarnation = start.incarnation
        self._shared.connections.adopt(self._shared, start.connections)
        self._begin(Start(start.incarnation, start.reason, start.state, tuple(start.features)))

    def _accepted(self, accepted: events.Accepted) -> None:
        if not self._shared.connections.accepted(self._shared, accepted):
            self._shared.log(Level.WARN, "turned a caller away: too many wait already")

    def _poll(self, poll: events.Poll) -> None:
        duty = Duty(Kind.POLL, poll.group, poll.cycle)
        self._spawn(duty, self._run_poll(poll))

    async def _run_poll(self, poll: events.Poll) -> PollReport:
        assert self._driver is not None, "asked for at the beginning of each turn"
        skip = frozenset(poll.skip)
        try:
            return await self._driver.poll(Poll(poll.group, poll.cycle, poll.scheduled_ns, skip))
        except Error as error:
            self._shared.log(Level.ERROR, f"poll failed: {error}")
            self._publish_bad(poll.group, skip, error.quality)
            raise

    def _publish_bad(self, group: int, skip: frozenset[int], quality: Quality) -> None:
        quality = quality if quality.value >= Quality.BAD.value else Quality.BAD
        tags = [tag for tag, device in self._groups.get(group, []) if device not in skip]
        if tags:
            batch = [types.Sample(tag, None, quality, None) for tag in tags]
            self._shared.push(actions.Action_Publish(actions.Publish(None, batch)))

    def _read(self, read: events.Read) -> None:
        assert self._driver is not None, "asked for at the beginning of each turn"
        handler = self._driver.read(Read(tuple(read.tags), read.deadline_ns))
        self._spawn(Duty(Kind.READ, read.request), handler)

    def _write(self, write: events.Write) -> None:
        assert self._driver is not None, "asked for at the beginning of each turn"
        value = from_abi(write.value)
        handler = self._driver.write(Write(write.request, write.tag, value, write.read_back, write.deadline_ns))
        self._spawn(Duty(Kind.WRITE, write.request), self._typed(write.tag, handler))

    async def _typed(self, tag: int, handler: Coroutine[Any, None, Any]) -> Any:
        """What a write read back, in the type of its tag."""
        value = await handler
        return None if value is None else self._shared.types[tag].to_abi(value)

    def _command(self, command: events.Command) -> None:
        assert self._driver is not None, "asked for at the beginning of each turn"
        handler = self._driver.command(
            Command(command.request, command.name, bytes(command.payload), command.deadline_ns)
        )
        self._spawn(Duty(Kind.COMMAND, command.request), handler)

    def _cancel(self, request: int) -> None:
        cancelled = self._shared.executor.cancel(request)
        self._answer_cancelled([cancelled] if cancelled is not None else [], "nobody waits any more")

    def _health(self, request: int) -> None:
        assert self._driver is not None, "asked for at the beginning of each turn"
        self._spawn(Duty(Kind.HEALTH, request), self._driver.health())

    def _stored(self, batch: int) -> None:
        self._shared.unstored.pop(batch, None)
        self._shared.stored.wake()

    def _declined(self, declined: events.Declined) -> None:
        """Tells whoever waits for what was not carried out; the log, where nobody does."""
        shared = self._shared
        if declined.batch is not None and declined.batch in shared.unstored:
            shared.unstored[declined.batch] = declined.why
            shared.stored.wake()
            return
        if shared.connections.declined(shared, declined):
            return
        name = declined.action.name.lower().replace("_", "-")
        self._shared.log(Level.WARN, f"the host declined {name}: {declined.why}")

    def _stop(self, stop: events.Stop) -> None:
        self._spawn(Duty(Kind.STOP), self._run_stop(Stop(stop.reason, stop.deadline_ns)))

    async def _run_stop(self, stop: Stop) -> None:
        """Lets what runs finish for half of the time, then lets the driver take leave."""
        assert self._driver is not None, "asked for at the beginning of each turn"
        context = Context(self._shared)
        grace_ns = max(0, stop.deadline_ns - context.now_ns) // 2
        try:
            await context.deadline(context.now_ns + grace_ns, self._all_answered())
        except Elapsed:
            self._shared.log(Level.WARN, "stopping with requests unfinished")
        await self._driver.stop(stop)

    async def _all_answered(self) -> None:
        while self._shared.executor.requests() > 0:
            await pending(self._shared.answered)

    def _spawn(self, duty: Duty, coroutine: Coroutine[Any, None, Any]) -> None:
        self._shared.executor.spawn(duty, coroutine)

    def _run(self) -> None:
        """Runs what the turn may run. Nothing runs after the end."""
        if self._phase is not _Phase.STOPPED:
            self._shared.executor.run(self._finished)

    def _finished(self, duty: Duty, value: Any, error: Error | None) -> None:
        if self._phase is _Phase.STOPPED:
            return
        if duty.kind is Kind.STOP:
            self._answer_cancelled(self._shared.executor.cancel_all(), "the driver stops")
            self._shared.push(actions.Action_Stopped())
            self._phase = _Phase.STOPPED
            return
        if duty.kind is Kind.START and error is not None:
            raise error
        if duty.kind is Kind.NOTHING and error is not None:
            self._shared.log(Level.ERROR, f"a task failed: {error}")
        self._answer(duty, value, error)
        if duty.is_request():
            self._shared.answered.wake()

    def _answer_cancelled(self, tasks: Iterable[Task], why: str) -> None:
        for task in tasks:
            message = f"cancelled: {why}"
            if task.committed and task.duty.kind in (Kind.WRITE, Kind.COMMAND):
                # Something of it has left: whoever asked must not take it for undone.
                message += "; the device may or may not have acted on it"
            self._answer(task.duty, None, Error(message))
        self._shared.answered.wake()

    def _answer(self, duty: Duty, value: Any, error: Error | None) -> None:
        """Answers a request."""
        if not duty.is_request():
            return
        if duty.kind is Kind.POLL:
            # A group that a reload took away is owed nothing, and unknown to the host.
            if duty.request in self._groups:
                report = _report(value, error)
                done = actions.PollDone(
                    duty.request, duty.cycle, report.requests, report.failed, report.mean_round_trip_ns
                )
                self._shared.push(actions.Action_PollDone(done))
            return
        action, done_class = _ANSWERS[duty.kind]
        answer = Err(error.to_abi()) if error is not None else Ok(self._converted(duty.kind, value))
        self._shared.push(action(done_class(duty.request, answer)))

    def _converted(self, kind: Kind, value: Any) -> Any:
        if kind is Kind.READ:
            return [to_abi(self._shared, sample) for sample in _checked(value, list, "read")]
        if kind is Kind.COMMAND:
            return bytes(_checked(value, (bytes, bytearray), "command"))
        return value


def _report(value: Any, error: Error | None) -> PollReport:
    if error is None:
        return _checked(value, PollReport, "poll")
    report = PollReport()
    report.fail()
    return report


def _checked(value: Any, wanted: Any, handler: str) -> Any:
    if not isinstance(value, wanted):
        names = wanted.__name__ if isinstance(wanted, type) else wanted[0].__name__
        raise TypeError(f"{handler} returned {value!r}, and should return {names}")
    return value


def _place(defect: BaseException) -> str:
    """Where an exception was raised, in a few words."""
    frames = traceback.extract_tb(defect.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"


_ANSWERS = {
    Kind.READ: (actions.Action_ReadDone, actions.ReadDone),
    Kind.WRITE: (actions.Action_WriteDone, actions.WriteDone),
    Kind.COMMAND: (actions.Action_CommandDone, actions.CommandDone),
    Kind.HEALTH: (actions.Action_HealthDone, actions.HealthDone),
}

_HANDLERS = {
    events.Happening_Started: Runtime._started,
    events.Happening_Stop: Runtime._stop,
    events.Happening_Opened: lambda me, value: me._shared.connections.opened(me._shared, value),
    events.Happening_Closed: lambda me, value: me._shared.connections.closed(value),
    events.Happening_Accepted: Runtime._accepted,
    events.Happening_Received: lambda me, value: me._shared.connections.received(me._shared, value),
    events.Happening_Sent: lambda me, value: me._shared.connections.sent(value),
    events.Happening_Timer: lambda me, value: me._shared.timers.disarm(),
    events.Happening_Poll: Runtime._poll,
    events.Happening_Read: Runtime._read,
    events.Happening_Write: Runtime._write,
    events.Happening_Command: Runtime._command,
    events.Happening_Cancel: Runtime._cancel,
    events.Happening_Health: Runtime._health,
    events.Happening_Stored: Runtime._stored,
    events.Happening_Declined: Runtime._declined,
}
