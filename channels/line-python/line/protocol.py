"""One question, one answer: what goes over the line, as text.

A peer may send anything. Whatever is no answer by the letter is `Broken`: then question and answer may be out of step, and the only
safe way on is a new stream.
"""

from __future__ import annotations

import re

from bulkhead_sdk import Error, Quality

MAX_LINE = 80
"""The longest line, with its CR LF, in bytes."""

MAX_NAME = 32
"""The longest name of something that can be read or set."""

_ANSWER = re.compile(rb"(OK|ERR ([0-9]{1,9}))(?: ([ -~]*))?\r\n")

_QUALITIES = {
    2: Quality.BAD_CONFIGURATION,
    4: Quality.BAD_DEVICE_FAILURE,
    5: Quality.BAD_OUT_OF_RANGE,
}


class Broken(Error):
    """A line that is no answer."""

    def __init__(self, line: bytes) -> None:
        text = line.decode("ascii", "replace").rstrip()
        super().__init__(f"{text!r} is no answer of this protocol", quality=Quality.BAD_NO_COMMUNICATION)


class Refused(Error):
    """What the sensor refuses, in its own words."""

    def __init__(self, code: int, words: str) -> None:
        message = f"the sensor refused: {words or 'no reason given'} ({code})"
        super().__init__(message, code=code, quality=_QUALITIES.get(code, Quality.BAD))


def read(name: str) -> bytes:
    """The question for a value."""
    return f"READ {name}\r\n".encode("ascii")


def set_(name: str, value: str) -> bytes:
    """The question to take a value; an `Error` where a line does not hold it."""
    line = f"SET {name} {value}\r\n".encode("ascii")
    if len(line) > MAX_LINE:
        raise Error(f"the value does not fit into a line of {MAX_LINE} bytes; write a shorter one")
    return line


def answer(line: bytes) -> str:
    """The text of an answer that ends in CR LF; `Refused` where the sensor refuses, `Broken` for anything else."""
    match = _ANSWER.fullmatch(line)
    if match is None:
        raise Broken(line)
    text = (match[3] or b"").decode("ascii")
    if match[2] is not None:
        raise Refused(int(match[2]), text)
    return text
