"""A tag, as the sensor knows it: a name, and how the text of its value is read and written."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from bulkhead_sdk import DataType, Value

from .protocol import MAX_NAME

HELP = """The name of a value as the sensor knows it, such as temp: 1 to 32 of a-z A-Z 0-9 _ - .
Types: bool (0 or 1), all integers, float32, float64 and string."""

_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_NAME}}}")
_WHOLE = re.compile(r"-?[0-9]{1,20}")
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")


@dataclass(frozen=True)
class Point:
    """A tag."""

    tag: int
    device: int
    name: str
    """What the sensor calls it."""
    data_type: DataType


def is_name(given: str) -> bool:
    """Whether it is a name. One that has a blank or a line break in it would be another question."""
    return _NAME.fullmatch(given) is not None


def is_spoken(data_type: DataType) -> bool:
    """Whether values of a type go over the line."""
    return data_type.length is None and data_type.scalar != "bytes"


def read(text: str, data_type: DataType) -> Value | None:
    """The value that a text stands for; nothing where it stands for none of this type."""
    value: Value | None = None
    if data_type.scalar == "bool":
        value = {"0": False, "1": True}.get(text)
    elif data_type.scalar == "string":
        value = text
    elif data_type.integer_range is not None:
        value = int(text) if _WHOLE.fullmatch(text) else None
    elif _DECIMAL.fullmatch(text):
        value = float(text)
        value = value if math.isfinite(value) else None
    return value if value is not None and data_type.accepts(value) else None


def write(value: Value) -> str | None:
    """A value as text; nothing where a line cannot carry it."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return (str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)) if math.isfinite(value) else None
    if isinstance(value, str) and all(" " <= one <= "~" for one in value):
        return value
    return None
