"""What the driver owes and what it may do: the rules of `wit/actions.wit`, held against every action of a test."""

from __future__ import annotations

from typing import Any

from .abi import Err, Ok, Quality, actions, config, types
from .values import DataType, from_abi

_MIB = 1024 * 1024


class Refused(AssertionError):
    """The real host would refuse this turn."""


class Line:
    """A connection, as the host knows it."""

    def __init__(self, link: int) -> None:
        self.link = link
        self.up = False
        self.dead = False
        self.streams = 0
        """How many streams there have been; what the driver sends before it was told of the newest is dropped."""
        self.told = 0
        self.in_flight = 0
        self.sent = bytearray()

    @property
    def in_step(self) -> bool:
        return self.up and self.told == self.streams


class Ledger:
    """Everything by which an action can be judged."""

    def __init__(self, channel: config.ChannelConfig, window: int) -> None:
        self.config = channel
        self.window = window
        self.polls: dict[int, int] = {}
        self.requests: dict[int, tuple[str, Any]] = {}
        self.lines: dict[int, Line] = {}
        self.timers: dict[int, int] = {}
        self.stop_asked = False
        self.stopped = False

    def check(self, action: actions.Action) -> None:
        """Judges one action, and settles what it answers."""
        _ensure(not self.stopped, "an action after `stopped`")
        value = getattr(action, "value", None)
        match action:
            case actions.Action_Open():
                _ensure(value.connection < 1 << 31, f"connection {value.connection} is in the host's range")
                _ensure(value.connection not in self.lines, f"connection {value.connection} was used before")
                _ensure(any(link.id == value.link for link in self.config.links), f"no link {value.link}")
            case actions.Action_Close() | actions.Action_Reset() | actions.Action_StartTls():
                self._known(value)
            case actions.Action_Pause() | actions.Action_Probe():
                self._known(value.connection)
            case actions.Action_Send():
                self._check_send(value)
            case actions.Action_Publish():
                for sample in value.samples:
                    self._check_sample(sample)
            case actions.Action_PollDone():
                owed = self.polls.pop(value.group, None)
                _ensure(owed == value.cycle, f"no such poll is under way: {value}")
                _ensure(value.failed <= value.requests, f"more failures than requests: {value}")
            case actions.Action_ReadDone():
                tags = self._settle(value.request, "read")
                self._check_error(value.answer)
                if isinstance(value.answer, Ok):
                    answered = [sample.tag for sample in value.answer.value]
                    _ensure(answered == tags, f"read {tags}, answered {answered}")
                    for sample in value.answer.value:
                        self._check_sample(sample)
            case actions.Action_WriteDone():
                tag = self._settle(value.request, "write")
                self._check_error(value.answer)
                if isinstance(value.answer, Ok) and value.answer.value is not None:
                    self._check_value(tag, value.answer.value)
            case actions.Action_CommandProgress():
                _ensure(self.requests.get(value.request, ("",))[0] == "command", f"no such command is under way: {value}")
                _ensure(0.0 <= value.fraction <= 1.0, f"a fraction of {value.fraction}")
            case actions.Action_CommandDone():
                self._settle(value.request, "command")
                self._check_error(value.answer)
                count = len(value.answer.value) if isinstance(value.answer, Ok) else 0
                _ensure(count <= _MIB, f"an answer of {count} bytes")
            case actions.Action_HealthDone():
                self._settle(value.request, "health")
                self._check_error(value.answer)
            case actions.Action_DeviceState():
                _ensure(any(one.id == value.device for one in self.config.devices), f"no device {value.device}")
            case actions.Action_SaveState():
                _ensure(len(value) <= _MIB, f"a state of {len(value)} bytes")
            case actions.Action_Stopped():
                _ensure(self.stop_asked, "`stopped` without `stop`")
                _ensure(not self.requests and not self.polls, f"`stopped` with requests unanswered: {self.requests} {self.polls}")
                self.stopped = True
            case _:
                pass

    def _settle(self, request: int, kind: str) -> Any:
        asked, about = self.requests.pop(request, ("", None))
        _ensure(asked == kind, f"no such {kind} is under way: {request}")
        return about

    def _check_error(self, answer: Any) -> None:
        if isinstance(answer, Err):
            _ensure(answer.value.quality.value >= Quality.BAD.value, f"a failure that is not bad: {answer.value}")

    def _known(self, connection: int) -> None:
        _ensure(connection in self.lines, f"connection {connection} was never opened")

    def _check_send(self, send: actions.Send) -> None:
        self._known(send.connection)
        line, count = self.lines[send.connection], len(send.bytes)
        room = self.window - line.in_flight
        _ensure(count <= _MIB, f"a send of {count} bytes")
        _ensure(not line.in_step or count <= room, f"a send of {count} bytes into a window of {room}")

    def _check_sample(self, sample: types.Sample) -> None:
        if sample.value is not None:
            self._check_value(sample.tag, sample.value)
            return
        _ensure(any(tag.id == sample.tag for tag in self.config.tags), f"no tag {sample.tag}")
        _ensure(sample.quality.value >= Quality.BAD.value, f"a {sample.quality.name} sample without a value")

    def _check_value(self, tag: int, value: types.Value) -> None:
        found = next((one for one in self.config.tags if one.id == tag), None)
        if found is None:
            raise Refused(f"no tag {tag}")
        data_type = DataType.parse(found.data_type)
        plain = from_abi(value)
        fits = data_type.accepts(plain) and type(data_type.to_abi(plain)) is type(value)
        _ensure(fits, f"{value} for tag {found.name}, a {data_type}")


def _ensure(holds: bool, broken: str) -> None:
    if not holds:
        raise Refused(f"the host would refuse this turn: {broken}")
