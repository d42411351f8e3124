"""The driver as the host sees it, with a sensor at the other end of its line."""

from __future__ import annotations

import pytest
from bulkhead_sdk import CloseReason, Error, Faults, Quality, StartReason
from bulkhead_sdk.abi import actions, events
from bulkhead_sdk.testing import FakeHost, Setup
from line.driver import LineDriver


class Sensor:
    """A sensor that keeps to the protocol."""

    def __init__(self) -> None:
        self.values = {"temp": "21.5", "count": "7", "limit": "30"}

    def __call__(self, question: bytes) -> bytes:
        assert question.endswith(b"\r\n")
        return f"{self.answer(question.decode().split())}\r\n".encode()

    def answer(self, words: list[str]) -> str:
        match words:
            case ["READ", "broken"]:
                return "ERR 4 probe broken"
            case ["READ", name]:
                return f"OK {self.values[name]}" if name in self.values else "ERR 2 no such name"
            case ["SET", "temp", _]:
                return "ERR 3 measured, not set"
            case ["SET", name, value]:
                self.values[name] = value
                return "OK"
        return "ERR 1 what?"


def setup() -> Setup:
    return (
        Setup()
        .link("line", "tcp")
        .settings('{"timeout_ms": 200}')
        .tag("temp", "temp", "float64")
        .tag("count", "count", "uint16")
        .tag("limit", "limit", "float64")
        .writable()
    )


@pytest.fixture
def sensor() -> Sensor:
    return Sensor()


@pytest.fixture
def host(sensor: Sensor) -> FakeHost:
    host = FakeHost(LineDriver, setup())
    host.peer("line", sensor)
    return host


def test_a_poll_asks_for_each_tag_in_order(host: FakeHost) -> None:
    done = host.poll("all")
    assert (done.requests, done.failed) == (3, 0)
    assert host.take_sent("line") == b"READ temp\r\nREAD count\r\nREAD limit\r\n"
    assert [host.value(tag) for tag in ("temp", "count", "limit")] == [21.5, 7, 30.0]
    host.stop()


def test_what_one_tag_gets_wrong_is_that_tags_alone(sensor: Sensor) -> None:
    wrong = setup().tag("broken", "broken", "float64").tag("nobody", "nobody", "float64").tag("narrow", "temp", "uint8")
    host = FakeHost(LineDriver, wrong)
    host.peer("line", sensor)
    done = host.poll("all")
    assert (done.requests, done.failed) == (6, 3)
    assert host.quality("temp") is Quality.GOOD
    assert host.quality("broken") is Quality.BAD_DEVICE_FAILURE
    assert host.quality("nobody") is Quality.BAD_CONFIGURATION
    assert host.quality("narrow") is Quality.BAD_TYPE_MISMATCH


def test_what_is_set_is_read(host: FakeHost, sensor: Sensor) -> None:
    assert host.write("limit", 42.5) is None
    assert sensor.values["limit"] == "42.5"
    assert host.write("limit", 43.0, read_back=True) == 43.0
    assert [sample.value for sample in host.read("limit", "temp")] == [43.0, 21.5]
    host.stop()


def test_a_refusal_is_handed_on_with_its_code(sensor: Sensor) -> None:
    host = FakeHost(LineDriver, Setup().link("line", "tcp").tag("temp", "temp", "float64").writable())
    host.peer("line", sensor)
    with pytest.raises(Error, match=r"the sensor refused: measured, not set \(3\)") as refused:
        host.write("temp", 1.0)
    assert refused.value.code == 3
    with pytest.raises(Error, match="a line cannot carry this value"):
        host.write("temp", float("nan"))


def test_a_write_overtakes_the_questions_that_wait() -> None:
    host = FakeHost(LineDriver, setup())
    host.begin_poll("all")
    write = host.begin_write("limit", 1.0)
    assert host.take_sent("line") == b"READ temp\r\n"
    host.receive("line", b"OK 1\r\n")
    assert host.take_sent("line") == b"SET limit 1\r\n"
    host.receive("line", b"OK\r\n")
    assert host.finish(write) is None
    assert host.take_sent("line") == b"READ count\r\n"
    host.receive("line", b"OK 2\r\n")
    host.receive("line", b"OK 3\r\n")
    assert host.finish_poll("all").failed == 0
    host.stop()


def test_a_silent_sensor_costs_one_timeout_and_a_new_stream() -> None:
    host = FakeHost(LineDriver, setup())
    before = host.now_ns
    done = host.poll("all")
    assert (done.requests, done.failed) == (1, 1)
    assert host.now_ns - before == 200_000_000
    assert {host.quality(tag) for tag in ("temp", "count", "limit")} == {Quality.BAD_TIMEOUT}
    host.take_sent("line")
    host.begin_poll("all")
    assert host.take_sent("line") == b"READ temp\r\n"
    for answer in (b"OK 1\r\n", b"OK 2\r\n", b"OK 3\r\n"):
        host.receive("line", answer)
    assert host.finish_poll("all").failed == 0
    assert host.value("temp") == 1.0


def test_an_answer_in_pieces_is_one_answer() -> None:
    host = FakeHost(LineDriver, setup())
    host.begin_poll("all")
    for byte in b"OK 12.25\r\n":
        host.receive("line", bytes([byte]))
    host.receive("line", b"OK 1\r\nOK")
    host.finish_poll("all")
    assert host.value("temp") == 12.25
    assert host.quality("limit") is Quality.BAD_NO_COMMUNICATION, "it spoke before it was asked"


@pytest.mark.parametrize(
    "noise",
    ["\r\n", "21.5\r\n", "OK21.5\r\n", "OK 21.5\n", "OK 1\r\nOK 2\r\n", "ERR\r\n", "OK nan\r\n", "OK \x002\r\n", "x" * 200],
)
def test_noise_gives_no_good_sample(noise: str) -> None:
    host = FakeHost(LineDriver, setup())
    host.begin_poll("all")
    host.receive("line", noise.encode())
    assert host.finish_poll("all").failed > 0
    good = [sample for sample in host.take_samples() if sample.quality is Quality.GOOD]
    # Two answers in one piece: the first may be believed, nothing after it.
    assert len(good) == noise.startswith("OK 1\r\n")
    host.stop()


def test_a_line_that_is_down_is_not_asked(host: FakeHost) -> None:
    host.away("line", CloseReason.REFUSED)
    before = host.now_ns
    host.poll("all")
    assert host.now_ns == before
    assert host.quality("temp") is Quality.BAD_NOT_CONNECTED
    assert host.quality("limit") is Quality.BAD_NOT_CONNECTED
    host.restore("line")
    host.poll("all")
    assert host.quality("limit") is Quality.GOOD


def test_a_line_that_breaks_under_a_question_gives_bad_samples() -> None:
    host = FakeHost(LineDriver, setup())
    host.begin_poll("all")
    host.receive("line", b"OK 2")
    host.drop_connection("line", CloseReason.RESET)
    assert host.finish_poll("all").failed == 1
    assert host.quality("temp") is Quality.BAD_NOT_CONNECTED
    host.stop()


def test_every_fault_is_named_at_once() -> None:
    wrong = (
        Setup()
        .link("line", "tcp")
        .settings('{"timeout_ms": 0}')
        .device("one")
        .tag("a", "two words", "float64")
        .tag("b", "temp", "double")
        .device("two")
    )
    with pytest.raises(Faults) as raised:
        FakeHost(LineDriver, wrong)
    places = [fault.at for fault in raised.value.all]
    assert places == ["settings.timeout_ms", "tag b.type", "device two.name", "tag a.address"]


def test_a_question_that_nobody_hears_the_answer_of_leaves_no_stream_behind() -> None:
    host = FakeHost(LineDriver, setup())
    host.begin_poll("all")
    host.stop()
    assert any(isinstance(action, actions.Action_Reset) for action in host.history)


@pytest.mark.parametrize(
    ("reason", "resets"), [(StartReason.RESTART_AFTER_FAULT, True), (StartReason.RECONFIGURED, False)]
)
def test_a_stream_that_outlived_a_crash_begins_anew(reason: StartReason, resets: bool) -> None:
    survivor = events.Connection(1, 0, None, False, "the sensor", 1000)
    host = FakeHost(LineDriver, setup(), reason=reason, survivors=[survivor])
    assert any(isinstance(action, actions.Action_Reset) for action in host.history) == resets
    host.begin_poll("all")
    assert host.take_sent("line") == b"READ temp\r\n"
