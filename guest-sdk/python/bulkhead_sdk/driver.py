"""What an author writes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .abi import Capabilities, StartReason, StopReason
from .abi import config as abi
from .config import Config
from .context import Context
from .errors import NotSupported
from .settings import NoSettings
from .values import Sample, Value


@dataclass(frozen=True)
class LinkWish:
    """A link that a driver asks the operator for."""

    name: str
    """The name under which the operator's file grants it, such as `plc`."""
    kinds: tuple[str, ...]
    """The transports that the driver can use: `tcp`, `tls`, `udp`, `unix`, `serial`."""
    required: bool = True
    """Whether the driver is useless without it."""


@dataclass(frozen=True)
class Info:
    """What a driver is."""

    name: str
    """Such as `modbus`."""
    version: str
    """The driver's own version, in the form of semver.org."""
    protocol: str
    """Such as `Modbus Application Protocol 1.1b3`."""
    address_help: str
    """How a tag's address is written, for people; a few lines of text."""
    links: tuple[LinkWish, ...] = ()
    """The links that it needs or can use. One that is required and not granted, or of a kind that is not listed, is a fault that the
    SDK finds."""
    can: Capabilities = field(default_factory=lambda: Capabilities(0))
    """What it can do."""


@dataclass(frozen=True)
class CommandInfo:
    """A command that a driver offers."""

    name: str
    help: str
    """What it does, takes and answers, for people; one sentence each."""
    payload_schema: dict[str, Any] | None = None
    """JSON Schema of its payload, which is JSON then; `None` for bytes of no stated form."""
    answer_schema: dict[str, Any] | None = None
    """JSON Schema of its answer, which is JSON then; `None` for bytes of no stated form."""
    changes: bool = True
    """Whether it may change anything at a device, or at how the driver goes on."""

    def to_abi(self) -> abi.CommandInfo:
        """As the host takes it."""
        payload, answer = ("" if one is None else json.dumps(one) for one in (self.payload_schema, self.answer_schema))
        return abi.CommandInfo(self.name, self.help, payload, answer, self.changes)


@dataclass(frozen=True)
class Start:
    """How a driver comes to start."""

    incarnation: int
    """Counted from 1 for the life of the channel, over restarts of the host."""
    reason: StartReason
    """Why it begins."""
    state: bytes | None
    """What `Context.save_state` last kept."""
    features: tuple[str, ...]
    """What the host can do beyond this version of the ABI, one word each."""


@dataclass(frozen=True)
class Stop:
    """How a driver comes to stop."""

    reason: StopReason
    """Why, as far as that was known when it was asked: it says whether another incarnation follows."""
    deadline_ns: int
    """When it is dropped, whether it is done or not."""


@dataclass(frozen=True)
class Poll:
    """A group is due."""

    group: int
    """The id of the group."""
    cycle: int
    """Counts its due moments, skipped ones included."""
    scheduled_ns: int
    """When it was due."""
    skip: frozenset[int]
    """Devices to leave out this time: no request to them, and no sample of their tags."""


@dataclass
class PollReport:
    """What a poll took."""

    requests: int = 0
    failed: int = 0
    round_trips_ns: int = 0

    def answered(self, round_trip_ns: int) -> None:
        """Counts a request that was answered after so long."""
        self.requests += 1
        self.round_trips_ns += round_trip_ns

    def fail(self) -> None:
        """Counts a request that failed."""
        self.requests += 1
        self.failed += 1

    @property
    def mean_round_trip_ns(self) -> int | None:
        """The mean time from request to answer; `None` where there was no answer."""
        answered = self.requests - self.failed
        return self.round_trips_ns // answered if answered else None


@dataclass(frozen=True)
class Read:
    """Somebody wants tags read now."""

    tags: tuple[int, ...]
    """Which; at least one, none twice."""
    deadline_ns: int
    """After it the host has answered for the driver."""


@dataclass(frozen=True)
class Write:
    """Somebody wants a tag written."""

    request: int
    tag: int
    value: Value
    """In the device's own terms, of the tag's type."""
    read_back: bool
    """Whether to read the tag afterwards, and to answer with what was read."""
    deadline_ns: int


@dataclass(frozen=True)
class Command:
    """Somebody wants something that the protocol offers besides tags."""

    request: int
    name: str
    payload: bytes
    deadline_ns: int


class Driver:
    """A protocol. `info`, `__init__` and `poll` are what every driver has.

    # Handlers run concurrently

    Every event that asks for something becomes a task: while a poll awaits a reply, a write may begin. All tasks share one thread
    and change over only at an `await`. What must not be interleaved, such as a request and its reply on one line, takes a
    `RequestLock`.

    # Answers

    A handler returns; the SDK answers. Each request is answered exactly once, whatever becomes of its handler.

    - `cancel` drops the handler and answers with an error, unless the handler has sent bytes: then the device may have acted, and the
      handler runs to its end and answers with its result.
    - `stop` lets the running handlers finish for half of the time that the host gives, then calls `stop`, then drops and answers the
      rest.
    - An `Error` that a handler raises is the answer. Any other exception is a defect, and ends the incarnation with its traceback.
    """

    info: ClassVar[Info]
    """What this driver is. Always the same."""
    commands: ClassVar[tuple[CommandInfo, ...]] = ()
    """The commands that it takes. The host refuses every other name; a driver that lists none is asked for any."""
    Settings: ClassVar[type] = NoSettings
    """The settings of a channel: a dataclass, see `setting`."""
    DeviceSettings: ClassVar[type] = NoSettings
    """The settings of a device."""
    TagSettings: ClassVar[type] = NoSettings
    """The settings of a tag."""

    def __init__(self, config: Config[Any], context: Context) -> None:
        """Takes a configuration: checks it whole, and raises `Faults` with everything that is wrong with it.

        Settings that do not parse are found before. The driver is then made with what is left, to find its faults as well.
        """

    async def start(self, start: Start) -> None:
        """Runs beside everything else from the first turn on: log in, subscribe, or loop for ever.

        An `Error` ends the incarnation. A device that is away is no reason: wait for it.
        """

    async def poll(self, poll: Poll) -> PollReport:
        """Reads a group that is due, and publishes its samples.

        An `Error` says that nothing of the group could be read: the SDK publishes each of its tags, but for those of skipped devices,
        as bad with the error's quality, and logs the error.
        """
        raise NotSupported("polling")

    async def read(self, read: Read) -> list[Sample]:
        """Reads tags now: one sample each, in the order asked for. Needs `Capabilities.READ`."""
        raise NotSupported("reading on request")

    async def write(self, write: Write) -> Value | None:
        """Writes one tag, and answers with what was read back where that was asked for. Needs `Capabilities.WRITE`."""
        raise NotSupported("writing")

    async def command(self, command: Command) -> bytes:
        """Does something that the protocol offers besides tags. Needs `Capabilities.COMMANDS` or `Capabilities.BROWSE`."""
        raise NotSupported(f"the command {command.name!r}")

    async def health(self) -> None:
        """Says whether the driver is well: an `Error` says what is the matter. A device that is away need not be told here."""

    async def stop(self, stop: Stop) -> None:
        """Takes leave: log out, say good-bye. Connections need not be closed: those that end do so once what was sent has left, and
        where another incarnation follows (`Stop.reason`) some go on to it. What may still come over one that goes on is for the next
        to hear: `reset` it, if that could not know it from an answer of its own."""
