"""Requests, tasks and clocks: what the runtime promises to every driver."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bulkhead_sdk import (
    Capabilities,
    CommandInfo,
    Config,
    Context,
    Driver,
    Error,
    Info,
    LinkWish,
    NotDurable,
    Poll,
    PollReport,
    Priority,
    Quality,
    Read,
    RequestLock,
    Sample,
    Start,
    Stop,
    TlsDeclined,
    Write,
    export,
    join,
    select,
)
from bulkhead_sdk.abi import CloseReason, Instant, StopReason, actions, config, events
from bulkhead_sdk.connections import MAX_READ
from bulkhead_sdk.executor import MAX_STEPS, Duty, Executor, Kind, Wakers, pending
from bulkhead_sdk.runtime import Runtime
from bulkhead_sdk.testing import FakeHost, Refused, Setup

INFO = Info("echo", "1.2.3", "bytes come back", "a word", (LinkWish("plc", ("tcp",), required=False),), Capabilities.WRITE)


class Echo(Driver):
    """Sends the value of a write over its link, and answers when anything comes back."""

    info = INFO

    def __init__(self, config: Config[Any], context: Context) -> None:
        self.context = context
        self.connection = config.link("plc").open() if config.links else None

    async def write(self, write: Write) -> Any:
        assert self.connection is not None
        stream = self.connection.stream()
        await stream.write_all(str(write.value).encode())
        await stream.read_some(10)
        return None

    async def poll(self, poll: Poll) -> PollReport:
        raise Error("no poll today", quality=Quality.BAD_TIMEOUT)


def setup() -> Setup:
    return Setup().link("plc", "tcp").tag("level", "x", "uint16").writable()


def test_describe_says_what_the_driver_is() -> None:
    described = Runtime(Echo).describe()
    assert (described.name, described.version) == ("echo", "1.2.3")
    assert described.links == [config.LinkWish("plc", ["tcp"], False)]
    assert described.can == Capabilities.WRITE
    assert json.loads(described.tag_schema)["type"] == "object"
    assert Runtime(Echo).describe() == described


def test_a_request_that_has_sent_nothing_is_cancelled() -> None:
    host = FakeHost(Echo, setup())
    host.away("plc", CloseReason.REFUSED)
    with pytest.raises(Error, match="connection down: refused"):
        host.write("level", 1)

    class Waits(Echo):
        async def write(self, write: Write) -> Any:
            await self.context.sleep(3600)

    host = FakeHost(Waits, setup())
    request = host.begin_write("level", 1)
    host.cancel(request)
    with pytest.raises(Error, match="cancelled: nobody waits any more$"):
        host.finish(request)


def test_a_request_that_has_sent_bytes_runs_to_its_end() -> None:
    host = FakeHost(Echo, setup())
    request = host.begin_write("level", 7)
    host.cancel(request)
    assert not host.is_answered(request)
    host.receive("plc", b"ok")
    assert host.finish(request) is None


def test_a_stop_answers_what_is_left_and_says_so_last() -> None:
    host = FakeHost(Echo, setup())
    request = host.begin_write("level", 7)
    before = host.now_ns
    host.stop()
    assert host.now_ns - before == 1_000_000_000, "half of the time"
    with pytest.raises(Error, match="may or may not have acted"):
        host.finish(request)
    assert isinstance(host.history[-1], actions.Action_Stopped)
    assert host.take_log() == ["stopping with requests unfinished"]


def test_a_poll_that_fails_as_a_whole_makes_its_tags_bad() -> None:
    host = FakeHost(Echo, Setup().device("a").tag("one", "x", "bool").device("b").tag("two", "x", "bool"))
    done = host.poll("all", skip=("a",))
    assert (done.requests, done.failed) == (1, 1)
    assert host.quality("one") is None
    assert host.quality("two") is Quality.BAD_TIMEOUT
    assert host.take_log() == ["poll failed: no poll today"]


def test_a_defect_ends_the_incarnation_with_its_traceback() -> None:
    class Broken(Echo):
        async def poll(self, poll: Poll) -> PollReport:
            return {}["nothing"]  # type: ignore[return-value]

    host = FakeHost(Broken, setup())
    with pytest.raises(AssertionError, match="the incarnation ended"):
        host.poll("all")
    assert host.ended is not None
    assert host.ended.message == "a defect of the driver: KeyError: 'nothing'"
    assert "test_runtime.py" in (host.ended.trace or "")
    assert "test_runtime.py" in host.take_log()[-1]


def test_an_error_from_start_ends_the_incarnation() -> None:
    class Unwilling(Echo):
        async def start(self, start: Start) -> None:
            raise Error("no licence")

    host = FakeHost(Unwilling, setup())
    assert host.ended is not None and host.ended.message == "no licence"


def test_a_value_of_another_type_never_leaves() -> None:
    class Wrong(Echo):
        async def poll(self, poll: Poll) -> PollReport:
            self.context.publish([Sample(0, 70_000)])
            return PollReport()

    host = FakeHost(Wrong, setup())
    with pytest.raises(AssertionError):
        host.poll("all")
    assert host.ended is not None and "70000 is no uint16" in host.ended.message


def test_what_the_host_would_refuse_fails_the_test() -> None:
    class Sends(Echo):
        async def poll(self, poll: Poll) -> PollReport:
            self.context._shared.push(actions.Action_Send(actions.Send(99, None, b"x")))
            return PollReport()

    with pytest.raises(Refused, match="connection 99 was never opened"):
        FakeHost(Sends, setup()).poll("all")


def test_sleeps_share_one_timer_and_cost_none_when_they_are_dropped() -> None:
    class Sleeps(Echo):
        async def start(self, start: Start) -> None:
            async def say(seconds: float) -> None:
                await self.context.sleep(seconds)
                self.context.info(f"{seconds}")

            await join(say(3), say(1), self.context.timeout(9, say(2)))
            self.context.info("all")

    host = FakeHost(Sleeps, setup())
    host.advance(10)
    assert host.take_log() == ["1", "2", "3", "all"]
    timers = [one.value.after_ns for one in host.history if isinstance(one, actions.Action_SetTimer)]
    assert timers == [1_000_000_000] * 3


def test_a_thousand_requests_that_fail_at_once_take_several_turns() -> None:
    class Waits(Echo):
        async def write(self, write: Write) -> Any:
            assert self.connection is not None
            await self.connection.stream().read_some(10)

    class Counts(FakeHost):
        def __init__(self) -> None:
            self.turns: list[int] = []
            super().__init__(Waits, setup())

        def _turn(self, batch: list[events.Event]) -> None:
            before = len(self.history)
            super()._turn(batch)
            done = [one for one in self.history[before:] if isinstance(one, actions.Action_WriteDone)]
            self.turns.append(len(done))

    host = Counts()
    requests = [host.begin_write("level", 1) for _ in range(1000)]
    assert not any(map(host.is_answered, requests))
    host.away("plc", CloseReason.BY_PEER)
    host.advance(0)
    assert all(map(host.is_answered, requests))
    assert max(host.turns) == MAX_STEPS
    with pytest.raises(Error, match="the peer"):
        host.finish(requests[-1])


def test_the_first_named_wins_and_the_rest_is_dropped() -> None:
    dropped = []

    class Races(Echo):
        async def start(self, start: Start) -> None:
            async def run(name: str, seconds: float) -> str:
                try:
                    await self.context.sleep(seconds)
                    return name
                finally:
                    dropped.append(name)

            self.context.info(str(await select(run("a", 1), run("b", 1))))
            self.context.info(str(await select(run("c", 5), run("d", 1))))

    host = FakeHost(Races, setup())
    host.advance(10)
    assert host.take_log() == ["(0, 'a')", "(1, 'd')"]
    assert dropped == ["a", "b", "d", "c"]


def test_what_a_task_waited_for_does_not_keep_it_when_it_has_ended() -> None:
    executor, changed = Executor(), Wakers()

    async def waits() -> None:
        await pending(changed)

    for request in range(100):
        executor.spawn(Duty(Kind.READ, request), waits())
        executor.run(lambda duty, value, error: None)
        assert executor.cancel(request) is not None
    assert len(changed._tasks) == 1


def test_a_lock_lets_writes_first_and_forgets_nobody() -> None:
    order = []

    class Locks(Echo):
        async def start(self, start: Start) -> None:
            lock = RequestLock()

            async def take(name: str, priority: Priority) -> None:
                async with lock.hold(priority):
                    order.append(name)
                    await self.context.sleep(1)

            async def give_up() -> None:
                await self.context.timeout(0.5, take("never", Priority.WRITE))

            tasks = [take("p1", Priority.POLL), take("p2", Priority.POLL), take("w1", Priority.WRITE), take("w2", Priority.WRITE)]
            for task in tasks:
                self.context.spawn(task)
            self.context.spawn(give_up())

    host = FakeHost(Locks, setup())
    host.advance(10)
    assert order == ["p1", "w1", "w2", "p2"]
    assert host.take_log() == ["a task failed: no answer in time"]


def test_writes_wait_for_room_in_the_send_window() -> None:
    class Floods(Echo):
        async def poll(self, poll: Poll) -> PollReport:
            assert self.connection is not None
            await self.connection.stream().write_all(bytes(range(250)) * 10)
            return PollReport()

    host = FakeHost(Floods, setup().send_window(1000))
    host.poll("all")
    assert host.take_sent("plc") == bytes(range(250)) * 10


def test_random_numbers_are_the_seeds() -> None:
    class Random(Echo):
        async def start(self, start: Start) -> None:
            self.context.info(str(self.context.random()))

    one, two = FakeHost(Random, setup()).take_log(), FakeHost(Random, setup()).take_log()
    # The first of SplitMix64 from the seed 0, as its authors give it.
    assert one == two == [str(0xE220A8397B1DCDAF)]


def test_a_durable_publish_waits_until_it_is_stored() -> None:
    class Durable(Echo):
        async def poll(self, poll: Poll) -> PollReport:
            await self.context.publish_durable([Sample(0, 5)])
            self.context.save_state(b"acknowledged")
            return PollReport()

    host = FakeHost(Durable, setup())
    host.poll("all")
    assert (host.value("level"), host.saved_state) == (5, b"acknowledged")


def test_another_configuration_takes_the_place_of_the_one_before() -> None:
    runtime = Runtime(Echo, seed=0)
    given = setup().complete().config
    runtime.configure(given)
    now = Instant(1, 1)
    start = events.Start(1, events.StartReason.FIRST, None, [], [])
    opened = runtime.turn(now, [events.Event(1, events.Happening_Started(start))])
    assert [type(one) for one in opened] == [actions.Action_Open]
    up = events.Happening_Opened(events.Opened(1, 0, False, "peer", 1000))
    assert runtime.turn(now, [events.Event(1, up)]) == []
    runtime.configure(given)
    health = events.Event(1, events.Happening_Health(5))
    again = runtime.turn(now, [health])
    # The connection is handed over, its stream begins anew, and nothing is opened or closed.
    assert [type(one) for one in again] == [actions.Action_Reset, actions.Action_HealthDone]


def test_what_cannot_be_exported_is_named() -> None:
    with pytest.raises(TypeError, match="takes a class that derives from bulkhead_sdk.Driver, and 5 is none"):
        export(5)  # type: ignore[arg-type]

    class Nameless(Driver):
        pass

    with pytest.raises(TypeError, match="Nameless does not say what it is; give it `info = Info"):
        export(Nameless)


def test_reads_are_answered_in_order_or_the_driver_is_told() -> None:
    class Reads(Echo):
        info = Info("reads", "1", "", "", (), Capabilities.READ)

        async def read(self, read: Read) -> list[Sample]:
            return [Sample(tag, 1) for tag in reversed(read.tags)]

    host = FakeHost(Reads, setup().tag("other", "x", "uint16"))
    with pytest.raises(Refused, match=r"read \[0, 1\], answered \[1, 0\]"):
        host.read("level", "other")


def test_commands_are_listed_with_what_they_take() -> None:
    class Crane(Echo):
        commands = (
            CommandInfo("carry", "Carries a load.", payload_schema={"type": "object"}),
            CommandInfo("swing", "Swings.", changes=False),
        )

    assert Runtime(Crane).describe().commands == [
        config.CommandInfo("carry", "Carries a load.", '{"type": "object"}', "", True),
        config.CommandInfo("swing", "Swings.", "", "", False),
    ]


def kept(connection: int, target: str | None, secured: bool = False) -> events.Connection:
    return events.Connection(connection, 0, target, secured, "a fake peer", 1000)


def test_a_connection_that_outlived_is_claimed_by_its_target() -> None:
    class Two(Echo):
        def __init__(self, config: Config[Any], context: Context) -> None:
            self.connection = config.link("plc").open("10.0.0.2:502")

    host = FakeHost(Two, setup(), survivors=[kept(1, "10.0.0.1:502"), kept(2, "10.0.0.2:502"), kept(3, None)])
    closed = [one.value for one in host.history if isinstance(one, actions.Action_Close)]
    assert sorted(closed) == [1, 3]
    assert not any(isinstance(one, actions.Action_Open) for one in host.history)


class Shy(Echo):
    """Begins TLS as soon as the link is up, and says what became of it."""

    async def start(self, start: Start) -> None:
        assert self.connection is not None
        await self.connection.opened()
        try:
            stream = await self.connection.start_tls()
            await stream.write_all(b"secured" if stream.is_secured else b"plain")
        except TlsDeclined as declined:
            await self.connection.stream().write_all(declined.message.encode())


def begun(host: FakeHost) -> int:
    return sum(isinstance(one, actions.Action_StartTls) for one in host.history)


def test_tls_begins_once_and_a_stream_without_it_goes_on() -> None:
    host = FakeHost(Shy, setup())
    assert (host.take_sent("plc"), begun(host)) == (b"secured", 1)
    host = FakeHost(Shy, setup(), survivors=[kept(1, None, secured=True)])
    assert (host.take_sent("plc"), begun(host)) == (b"secured", 0)
    host = FakeHost(Shy, setup().without_start_tls())
    assert host.take_sent("plc") == b"TLS was not begun: the operator does not allow it"


def test_a_stream_that_goes_on_without_tls_is_not_paused_for_what_is_gone() -> None:
    class Flooded(Echo):
        commands = (CommandInfo("secure", "Begins TLS."),)

        async def command(self, command: Any) -> bytes:
            assert self.connection is not None
            with pytest.raises(TlsDeclined):
                await self.connection.start_tls()
            return await self.connection.stream().read_some(10)

    host = FakeHost(Flooded, setup().without_start_tls())
    host.receive("plc", b"x" * (MAX_READ + 1))
    request = host.begin_command("secure")
    pauses = [one.value.on for one in host.history if isinstance(one, actions.Action_Pause)]
    assert pauses == [True, False]
    host.receive("plc", b"fresh")
    assert host.finish(request) == b"fresh"


def test_what_is_declined_wakes_whoever_waits_for_it() -> None:
    class Keeps(Echo):
        async def command(self, command: Any) -> bytes:
            number = int(command.payload)
            try:
                await self.context.publish_durable([Sample(0, number)])
            except NotDurable as why:
                return why.message.encode()
            return b"stored"

    runtime = Runtime(Keeps, seed=0)
    runtime.configure(setup().complete().config)
    now = Instant(1, 1)

    def turn(*happened: Any) -> list[Any]:
        return runtime.turn(now, [events.Event(1, one) for one in happened])

    turn(events.Happening_Started(events.Start(1, events.StartReason.FIRST, None, [], [])))
    asked = [events.Command(request, "keep", str(request).encode(), 9) for request in (1, 2)]
    published = turn(*(events.Happening_Command(one) for one in asked))
    batches = [one.value.id for one in published]
    declined = events.Declined(events.ActionKind.PUBLISH, None, batches[1], "not here")
    answers = turn(events.Happening_Declined(declined))
    assert [(one.value.request, one.value.answer.value) for one in answers] == [
        (2, b"not known to be durable: not here")
    ]
    answers = turn(events.Happening_Stored(batches[0]))
    assert [(one.value.request, one.value.answer.value) for one in answers] == [(1, b"stored")]


def test_a_driver_hears_why_it_stops_and_whether_to_wait() -> None:
    heard: list[Any] = []

    class Leaves(Echo):
        async def stop(self, stop: Stop) -> None:
            heard.append(stop.reason)

    host = FakeHost(Leaves, setup())
    host.give_up("plc", CloseReason.TIMED_OUT)
    with pytest.raises(Error, match="timed out, and the attempts are spent") as closed:
        host.write("level", 1)
    assert closed.value.quality is Quality.BAD_NOT_CONNECTED
    host.stop()
    assert heard == [StopReason.STOPPED]


def test_a_failure_is_bad_whatever_the_driver_says() -> None:
    assert Error("no", quality=Quality.GOOD).to_abi().quality is Quality.BAD
    assert Error("no", quality=Quality.BAD_TIMEOUT).to_abi().quality is Quality.BAD_TIMEOUT
    assert Error("no").to_abi().code is None
