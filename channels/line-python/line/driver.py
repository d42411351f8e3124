"""The driver: what the SDK calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bulkhead_sdk import (
    Capabilities,
    Config,
    Context,
    Driver,
    Error,
    Faults,
    Info,
    LinkWish,
    Poll,
    PollReport,
    Priority,
    Quality,
    Read,
    RequestLock,
    Sample,
    Start,
    StartReason,
    Stop,
    Value,
    Write,
    setting,
)

from . import point, protocol
from .point import Point

LINK = "line"
"""The link that leads to the sensor."""


@dataclass
class Settings:
    """What an operator can set."""

    timeout_ms: int = setting(1000, "How long to wait for an answer, in milliseconds: 1 to 60,000.", least=1, most=60_000)


class LineLost(Exception):
    """The line is of no use before there is a new stream: the failure of a question that is one of the whole line."""

    def __init__(self, error: Error) -> None:
        super().__init__(str(error))
        self.error = error


class LineDriver(Driver):
    """A sensor behind a line."""

    info = Info(
        name="line-python",
        version="0.1.0",
        protocol="READ and SET, one line at a time",
        address_help=point.HELP,
        links=(LinkWish(LINK, ("tcp", "tls", "unix", "serial")),),
        can=Capabilities.READ | Capabilities.WRITE | Capabilities.SCRIPTED_TIME,
    )
    Settings = Settings

    def __init__(self, config: Config[Settings], context: Context) -> None:
        faults = Faults()
        for device in config.devices[1:]:
            faults.add(device.fault("name", "a line leads to one sensor; give this one a channel of its own"))
        self.points: dict[int, Point] = {}
        for tag in config.tags:
            if not point.is_spoken(tag.data_type):
                faults.add(tag.fault("type", f"a line carries no {tag.data_type}; use a number, a bool or a string"))
            if point.is_name(tag.address):
                self.points[tag.id] = Point(tag.id, tag.device, tag.address, tag.data_type)
            else:
                what = f"{tag.address!r} is no name; write 1 to {protocol.MAX_NAME} of a-z A-Z 0-9 _ - . such as temp"
                faults.add(tag.fault("address", what))
        faults.check()
        self.groups = {group.id: [self.points[tag] for tag in group.tags] for group in config.groups}
        self.context = context
        self.timeout = config.settings.timeout_ms / 1000
        self.connection = config.link(LINK).open()
        # One question at a time; a write overtakes the polls that wait.
        self.turn = RequestLock()

    async def start(self, start: Start) -> None:
        # Over a stream that outlived a crash, the answer to a question of the dead may be on its way. After a reload there is none;
        # see `stop`.
        inherited = self.connection.is_open and self.connection.stream().is_inherited
        if inherited and start.reason is not StartReason.RECONFIGURED:
            self.connection.reset()

    async def stop(self, stop: Stop) -> None:
        if self.turn.is_held:
            # A question that nobody will hear the answer of.
            self.connection.reset()

    async def poll(self, poll: Poll) -> PollReport:
        report = PollReport()
        wanted = [one for one in self.groups[poll.group] if one.device not in poll.skip]
        self.context.publish(await self.read_all(wanted, Priority.POLL, report))
        return report

    async def read(self, read: Read) -> list[Sample]:
        points = [self.points[tag] for tag in read.tags]
        return await self.read_all(points, Priority.WRITE, PollReport())

    async def write(self, write: Write) -> Value | None:
        point_ = self.points[write.tag]
        text = point.write(write.value)
        if text is None:
            raise Error("a line cannot carry this value")
        try:
            await self.ask(protocol.set_(point_.name, text), Priority.WRITE)
            return await self.read_one(point_, Priority.WRITE) if write.read_back else None
        except LineLost as lost:
            raise lost.error from None

    async def read_all(self, points: Iterable[Point], priority: Priority, report: PollReport) -> list[Sample]:
        """One sample for each point, in order. When the line fails, the rest is not asked for: each would wait in vain."""
        samples = []
        lost: Quality | None = None
        for one in points:
            if lost is not None:
                samples.append(Sample(one.tag, None, lost))
                continue
            asked_ns = self.context.now_ns
            try:
                value = await self.read_one(one, priority)
            except LineLost as failed:
                report.fail()
                lost = failed.error.quality
                samples.append(Sample(one.tag, None, lost))
            except Error as error:
                report.fail()
                samples.append(Sample(one.tag, None, error.quality))
            else:
                report.answered(self.context.now_ns - asked_ns)
                samples.append(Sample(one.tag, value))
        return samples

    async def read_one(self, one: Point, priority: Priority) -> Value:
        """The value of a point."""
        text = await self.ask(protocol.read(one.name), priority)
        value = point.read(text, one.data_type)
        if value is None:
            what = f"the sensor answered {text!r}, which is no {one.data_type}"
            raise Error(what, quality=Quality.BAD_TYPE_MISMATCH)
        return value

    async def ask(self, question: bytes, priority: Priority) -> str:
        """One question, and the text of its answer. Between two questions the lock is free, so that a write need not wait for a whole
        poll."""
        async with self.turn.hold(priority):
            try:
                stream = self.connection.stream()
                if stream.unread:
                    raise Error("the sensor has spoken without being asked", quality=Quality.BAD_NO_COMMUNICATION)
                await stream.write_all(question)
                answer = await self.context.timeout(self.timeout, stream.read_until(b"\n", protocol.MAX_LINE))
                return protocol.answer(answer)
            except protocol.Refused:
                raise
            except Error as error:
                # Whatever went wrong on the way, a late answer must not be taken for that of the next question.
                self.connection.reset()
                raise LineLost(error) from None
