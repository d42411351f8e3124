"""A host for native unit tests: a clock, a queue of events, and the other end of every connection.

    setup = Setup().link("line", "tcp").tag("oven", "3", "float64").writable()
    host = FakeHost(Thermometer, setup)
    host.peer("line", lambda question: b"21.5\\n" if question == b"T3\\n" else b"")
    host.poll("all")
    assert host.value("oven") == 21.5
    host.stop()

Every action is held against the rules of `wit/actions.wit`: one that the real host would refuse raises `AssertionError`. The clock
moves only where a test says so, or from timer to timer while it waits for an answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ._ledger import Ledger, Line, Refused
from .abi import (
    CloseReason,
    Err,
    Instant,
    Ok,
    Outlook,
    Quality,
    StartReason,
    StopReason,
    actions,
    config,
    events,
    types,
)
from .driver import Driver
from .errors import Error
from .runtime import Runtime
from .values import DataType, Sample, Value, from_abi

__all__ = ["FakeHost", "Refused", "Setup"]

_SECOND = 1_000_000_000
_WALL_START_NS = 1_767_276_000_000_000_000
"""Two in the afternoon of 2026-01-01: any date that is no special one."""

_PATIENCE = 100_000
"""More turns than any honest wait takes."""

Peer = Callable[[bytes], bytes]


class Setup:
    """A channel's configuration, in a few lines of a test. Ids follow the order of the calls, from 0 for each kind.

    Where no device is named there is one called `device`; where no group is, there is one called `all`, of every tag, each second.
    """

    def __init__(self) -> None:
        self.config = config.ChannelConfig("channel", "{}", [], [], [], [])
        self.seed = 0
        self.window = 64 * 1024
        self.start_tls = True

    def settings(self, json: str) -> Setup:
        """The channel's settings, as JSON."""
        self.config.settings = json
        return self

    def link(self, name: str, kind: str, *, listens: bool = False) -> Setup:
        """Grants a link."""
        self.config.links.append(config.Link(len(self.config.links), name, kind, listens))
        return self

    def device(self, name: str, address: str = "", settings: str = "{}") -> Setup:
        """Adds a device; the tags that follow are its own."""
        self.config.devices.append(config.Device(len(self.config.devices), name, address, settings, None))
        return self

    def tag(self, name: str, address: str, data_type: str, settings: str = "{}") -> Setup:
        """Adds a tag that may be read."""
        if not self.config.devices:
            self.device("device")
        device = len(self.config.devices) - 1
        id_ = len(self.config.tags)
        self.config.tags.append(config.Tag(id_, device, name, address, data_type, True, False, settings))
        return self

    def writable(self) -> Setup:
        """Lets the last tag be written."""
        self.config.tags[-1].writable = True
        return self

    def write_only(self) -> Setup:
        """Lets the last tag be written, and not be read: it is in no group that is not named."""
        self.config.tags[-1].readable = False
        return self.writable()

    def group(self, name: str, period: float, tags: list[str]) -> Setup:
        """Polls tags together, every so many seconds."""
        ids = [next(tag.id for tag in self.config.tags if tag.name == one) for one in tags]
        self.config.groups.append(config.Group(len(self.config.groups), name, round(period * _SECOND), ids))
        return self

    def send_window(self, count: int) -> Setup:
        """How many bytes may be on their way at once; 64 KiB unless said otherwise."""
        self.window = count
        return self

    def without_start_tls(self) -> Setup:
        """Declines to begin TLS, as the host does where the operator does not allow it."""
        self.start_tls = False
        return self

    def complete(self) -> Setup:
        """Adds the device and the group that the driver can count on."""
        if not self.config.devices:
            self.device("device")
        if not self.config.groups:
            self.group("all", 1.0, [tag.name for tag in self.config.tags if tag.readable])
        return self


class FakeHost:
    """A host for one driver. Raises `Faults` where the driver does not take the configuration."""

    def __init__(
        self,
        driver: type[Driver],
        setup: Setup,
        *,
        reason: StartReason = StartReason.FIRST,
        state: bytes | None = None,
        survivors: list[events.Connection] | None = None,
    ) -> None:
        self.setup = setup.complete()
        self.now_ns = _SECOND
        self.history: list[actions.Action] = []
        """Every action so far."""
        self.saved_state: bytes | None = None
        """What the driver last asked to be kept."""
        self.ended: types.Error | None = None
        """Why the incarnation ended, if it did."""
        self._runtime = Runtime(driver, setup.seed)
        self._queue: deque[events.Event] = deque()
        self._ledger = Ledger(self.setup.config, self.setup.window)
        self._peers: dict[int, Peer] = {}
        self._away: dict[int, tuple[CloseReason, Outlook]] = {}
        self._next_request = 1
        self._cycles: dict[int, int] = {}
        self._polls_done: dict[int, actions.PollDone] = {}
        self._answers: dict[int, Any] = {}
        self._samples: list[Sample] = []
        self._last: dict[int, Sample] = {}
        self._runtime.configure(self.setup.config)
        for one in survivors or []:
            line = self._ledger.lines[one.id] = Line(one.link)
            line.up, line.streams, line.told = True, 1, 1
        self._happen(events.Happening_Started(events.Start(1, reason, state, survivors or [], [])))
        self.settle()

    # The clock.

    def settle(self) -> None:
        """Takes turns until there is nothing to tell the driver. The clock stands still."""
        for _ in range(_PATIENCE):
            if not self._queue or self.ended is not None:
                return
            batch = [self._queue.popleft() for _ in range(min(256, len(self._queue)))]
            for event in batch:
                if isinstance(event.what, events.Happening_Opened):
                    self._ledger.lines[event.what.value.connection].told += 1
            self._turn(batch)
        raise AssertionError("the driver and its peers never settle")

    def advance(self, seconds: float) -> None:
        """Lets time pass; every timer on the way runs out at its own moment."""
        until = self.now_ns + round(seconds * _SECOND)
        self.settle()
        while self._ledger.timers and min(self._ledger.timers.values()) <= until:
            self._run_out()
        self.now_ns = until

    # Requests.

    def poll(self, group: str, skip: tuple[str, ...] = ()) -> actions.PollDone:
        """Polls a group, without those devices, and waits for the answer."""
        self.begin_poll(group, skip)
        return self.finish_poll(group)

    def begin_poll(self, group: str, skip: tuple[str, ...] = ()) -> None:
        """Polls a group, and takes one turn with it."""
        id_ = self._group(group)
        cycle = self._cycles[id_] = self._cycles.get(id_, 0) + 1
        assert id_ not in self._ledger.polls, "the group is still being polled"
        self._ledger.polls[id_] = cycle
        devices = [next(one.id for one in self.setup.config.devices if one.name == name) for name in skip]
        self._happen(events.Happening_Poll(events.Poll(id_, cycle, self.now_ns, devices)))
        self.settle()

    def finish_poll(self, group: str) -> actions.PollDone:
        """Waits for the answer to a poll, moving the clock from timer to timer."""
        id_ = self._group(group)
        return self._wait_for("a poll", lambda: self._polls_done.pop(id_, None))

    def read(self, *tags: str) -> list[Sample]:
        """Reads tags, and waits for the answer; raises the driver's `Error`."""
        ids = [self._tag(name).id for name in tags]
        request = self._ask("read", ids)
        self._happen(events.Happening_Read(events.Read(request, ids, self._deadline())))
        return [_sample(one) for one in self.finish(request)]

    def write(self, tag: str, value: Value, *, read_back: bool = False) -> Value | None:
        """Writes a tag, and waits for the answer; raises the driver's `Error`."""
        answer = self.finish(self.begin_write(tag, value, read_back=read_back))
        return None if answer is None else from_abi(answer)

    def begin_write(self, tag: str, value: Value, *, read_back: bool = False) -> int:
        """Asks for a write, and takes one turn with it."""
        found = self._tag(tag)
        request = self._ask("write", found.id)
        given = DataType.parse(found.data_type).to_abi(value)
        self._happen(events.Happening_Write(events.Write(request, found.id, given, read_back, self._deadline())))
        self.settle()
        return request

    def command(self, name: str, payload: bytes = b"") -> bytes:
        """Gives a command, and waits for the answer; raises the driver's `Error`."""
        return self.finish(self.begin_command(name, payload))

    def begin_command(self, name: str, payload: bytes = b"") -> int:
        """Gives a command, and takes one turn with it."""
        request = self._ask("command", None)
        self._happen(events.Happening_Command(events.Command(request, name, payload, self._deadline())))
        self.settle()
        return request

    def health(self) -> None:
        """Asks whether the driver is well; raises the driver's `Error` where it is not."""
        request = self._ask("health", None)
        self._happen(events.Happening_Health(request))
        self.finish(request)

    def cancel(self, request: int) -> None:
        """Says that nobody waits for a request any more."""
        self._happen(events.Happening_Cancel(request))
        self.settle()

    def is_answered(self, request: int) -> bool:
        """Whether a request was answered."""
        return request in self._answers

    def finish(self, request: int) -> Any:
        """Waits for the answer to a request, moving the clock from timer to timer."""
        found = self._wait_for("a request", lambda: self._answers.pop(request, None))
        if isinstance(found, Err):
            error = found.value
            raise Error(error.message, code=error.code, quality=error.quality, trace=error.trace)
        assert isinstance(found, Ok), found
        return found.value

    def stop(self) -> None:
        """Stops the driver, with two seconds to take leave, and holds that it has answered everything."""
        self._ledger.stop_asked = True
        self._happen(events.Happening_Stop(events.Stop(self.now_ns + 2 * _SECOND, StopReason.STOPPED)))
        self._wait_for("the driver to stop", lambda: self._ledger.stopped or None)

    # Links.

    def peer(self, link: str, peer: Peer) -> None:
        """Lets `peer` answer whatever the driver sends over a link, `send` by `send`; empty is silence."""
        self._peers[self._link(link)] = peer

    def receive(self, link: str, data: bytes) -> None:
        """Lets bytes arrive over a link, in one piece."""
        self._arrive(self._line_over(link), data)
        self.settle()

    def take_sent(self, link: str) -> bytes:
        """What the driver has sent over a link since the last call."""
        line = self._ledger.lines[self._line_over(link)]
        sent, line.sent = bytes(line.sent), bytearray()
        return sent

    def drop_connection(self, link: str, reason: CloseReason) -> None:
        """Breaks a link's streams, and redials at once: the driver hears of both in the same turn."""
        for connection in self._lines_up(link):
            self._close(connection, reason)
            self._dial(connection)
        self.settle()

    def away(self, link: str, reason: CloseReason) -> None:
        """Breaks a link's streams, and fails every dial until `restore`."""
        self._lose(link, reason, Outlook.REDIALLING)

    def give_up(self, link: str, reason: CloseReason) -> None:
        """As `away`, and the attempts are spent: nobody dials until `restore`."""
        self._lose(link, reason, Outlook.GIVEN_UP)

    def _lose(self, link: str, reason: CloseReason, outlook: Outlook) -> None:
        self._away[self._link(link)] = reason, outlook
        for connection in self._lines_up(link):
            self._close(connection, reason, outlook)
        self.settle()

    def restore(self, link: str) -> None:
        """Lets dials succeed again, and those that wait first."""
        id_ = self._link(link)
        self._away.pop(id_, None)
        for connection, line in list(self._ledger.lines.items()):
            if line.link == id_ and not line.up and not line.dead:
                self._dial(connection)
        self.settle()

    # What came out.

    def take_samples(self) -> list[Sample]:
        """Every sample that was published since the last call, in order."""
        taken, self._samples = self._samples, []
        return taken

    def last(self, tag: str) -> Sample | None:
        """The last sample that was published of a tag."""
        return self._last.get(self._tag(tag).id)

    def value(self, tag: str) -> Value | None:
        """The value of the last sample that was published of a tag."""
        last = self.last(tag)
        return None if last is None else last.value

    def quality(self, tag: str) -> Quality | None:
        """The quality of the last sample that was published of a tag."""
        last = self.last(tag)
        return None if last is None else last.quality

    def take_log(self) -> list[str]:
        """What the driver has logged since the last call."""
        return [message for _, message in self._runtime.take_log()]

    # The other end.

    def _turn(self, batch: list[events.Event]) -> None:
        now = Instant(self.now_ns, _WALL_START_NS + self.now_ns)
        try:
            asked = self._runtime.turn(now, batch)
        except Err as error:
            self.ended = error.value
            return
        assert len(asked) <= 16_384, f"{len(asked)} actions in one turn"
        for action in asked:
            self._ledger.check(action)
            self._apply(action)
            self.history.append(action)

    def _apply(self, action: actions.Action) -> None:
        value = getattr(action, "value", None)
        match action:
            case actions.Action_Open():
                self._ledger.lines[value.connection] = Line(value.link)
                self._dial(value.connection)
            case actions.Action_Close():
                line = self._ledger.lines[value]
                line.up, line.dead = False, True
            case actions.Action_Reset() if self._ledger.lines[value].in_step:
                self._close(value, CloseReason.REQUESTED)
                self._dial(value)
            case actions.Action_StartTls() if not self.setup.start_tls:
                why = "the operator does not allow it"
                declined = events.Declined(events.ActionKind.START_TLS, value, None, why)
                self._happen(events.Happening_Declined(declined))
            case actions.Action_StartTls() if self._ledger.lines[value].in_step:
                self._come_up(value, True)
            case actions.Action_Send():
                self._sent(value)
            case actions.Action_SetTimer():
                self._ledger.timers[value.timer] = self.now_ns + value.after_ns
            case actions.Action_CancelTimer():
                self._ledger.timers.pop(value, None)
            case actions.Action_Publish():
                for sample in map(_sample, value.samples):
                    self._last[sample.tag] = sample
                    self._samples.append(sample)
                if value.id is not None:
                    self._happen(events.Happening_Stored(value.id))
            case actions.Action_PollDone():
                self._polls_done[value.group] = value
            case actions.Action_ReadDone() | actions.Action_WriteDone() | actions.Action_CommandDone() | actions.Action_HealthDone():
                self._answers[value.request] = value.answer
            case actions.Action_SaveState():
                self.saved_state = bytes(value)
            case _:
                pass

    def _sent(self, send: actions.Send) -> None:
        """Bytes that left: the peer answers, and the credit comes back when half of the window is free again."""
        line = self._ledger.lines[send.connection]
        if not line.in_step:
            return
        line.sent += send.bytes
        line.in_flight += len(send.bytes)
        if line.in_flight > self.setup.window // 2:
            self._happen(events.Happening_Sent(events.Sent(send.connection, line.in_flight)))
            line.in_flight = 0
        peer = self._peers.get(line.link)
        reply = peer(bytes(send.bytes)) if peer is not None else b""
        if reply:
            self._arrive(send.connection, reply)

    def _arrive(self, connection: int, data: bytes) -> None:
        for at in range(0, len(data), 64 * 1024):
            self._happen(events.Happening_Received(events.Received(connection, None, data[at : at + 64 * 1024])))

    def _dial(self, connection: int) -> None:
        line = self._ledger.lines[connection]
        if line.link in self._away:
            self._close(connection, *self._away[line.link])
            return
        self._come_up(connection, self.setup.config.links[line.link].kind == "tls")

    def _come_up(self, connection: int, secured: bool) -> None:
        line = self._ledger.lines[connection]
        line.up, line.in_flight = True, 0
        line.streams += 1
        opened = events.Opened(connection, line.link, secured, "a fake peer", self.setup.window)
        self._happen(events.Happening_Opened(opened))

    def _close(self, connection: int, reason: CloseReason, outlook: Outlook = Outlook.REDIALLING) -> None:
        self._ledger.lines[connection].up = False
        self._happen(events.Happening_Closed(events.Closed(connection, reason, outlook)))

    def _wait_for(self, what: str, there: Callable[[], Any]) -> Any:
        for _ in range(_PATIENCE):
            self.settle()
            found = there()
            if found is not None:
                return found
            assert self.ended is None, f"the incarnation ended, waiting for {what}: {self.ended}"
            assert self._ledger.timers, f"waiting for {what}, and nothing is left that could happen"
            self._run_out()
        raise AssertionError(f"waiting for {what} in vain")

    def _run_out(self) -> None:
        """Moves the clock to the next timer, and tells the driver."""
        timer, due = min(self._ledger.timers.items(), key=lambda one: (one[1], one[0]))
        self.now_ns = max(self.now_ns, due)
        del self._ledger.timers[timer]
        self._happen(events.Happening_Timer(timer))
        self.settle()

    def _happen(self, what: events.Happening) -> None:
        self._queue.append(events.Event(self.now_ns, what))

    def _ask(self, kind: str, about: Any) -> int:
        request = self._next_request
        self._next_request += 1
        self._ledger.requests[request] = (kind, about)
        return request

    def _deadline(self) -> int:
        return self.now_ns + 60 * _SECOND

    def _tag(self, name: str) -> config.Tag:
        return next(tag for tag in self.setup.config.tags if tag.name == name)

    def _group(self, name: str) -> int:
        return next(group.id for group in self.setup.config.groups if group.name == name)

    def _link(self, name: str) -> int:
        return next(link.id for link in self.setup.config.links if link.name == name)

    def _lines_up(self, link: str) -> list[int]:
        id_ = self._link(link)
        return [connection for connection, line in self._ledger.lines.items() if line.link == id_ and line.up]

    def _line_over(self, link: str) -> int:
        """The oldest connection over a link that is not closed for good."""
        id_ = self._link(link)
        return next(one for one, line in sorted(self._ledger.lines.items()) if line.link == id_ and not line.dead)


def _sample(sample: types.Sample) -> Sample:
    value = None if sample.value is None else from_abi(sample.value)
    return Sample(sample.tag, value, sample.quality, sample.source_time_ns)
