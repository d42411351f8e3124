"""The types of tags, and values as plain Python: `bool`, `int`, `float`, `str`, `bytes`, or a list of those but `bytes`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Union

from .abi import Quality, types

Value = Union[bool, int, float, str, bytes, list[bool], list[int], list[float], list[str]]
"""The value of a tag."""

_BITS = {f"{sign}int{bits}": (sign == "", bits) for sign in ("", "u") for bits in (8, 16, 32, 64)}
_SCALARS = {"bool", *_BITS, "float32", "float64", "string", "bytes"}
_SHAPE = re.compile(r"([a-z0-9]+)(?:\[([0-9]{1,5})\])?")


@dataclass(frozen=True)
class DataType:
    """The type of a tag: a scalar such as `int16`, or an array of them."""

    scalar: str
    """`bool`, `int8` to `int64`, `uint8` to `uint64`, `float32`, `float64`, `string` or `bytes`."""
    length: int | None = None
    """How many elements an array has, from 1 to 65,536; `None` for a single value."""

    @classmethod
    def parse(cls, text: str) -> DataType:
        """From its name in the operator's file; `ValueError` where it is none."""
        match = _SHAPE.fullmatch(text)
        if match and match[1] in _SCALARS:
            length = None if match[2] is None else int(match[2])
            if length is None or 1 <= length <= 65_536:
                return cls(match[1], length)
        raise ValueError(
            f"{text!r} is no data type; use bool, int8 to int64, uint8 to uint64, float32, float64, string or bytes, "
            "with [n] behind it for an array of n"
        )

    def __str__(self) -> str:
        return self.scalar if self.length is None else f"{self.scalar}[{self.length}]"

    @property
    def integer_range(self) -> tuple[int, int] | None:
        """The least and the greatest value of an integer type."""
        if self.scalar not in _BITS:
            return None
        signed, bits = _BITS[self.scalar]
        return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)

    def accepts(self, value: Any) -> bool:
        """Whether a value is of this type and, for integers, within its range."""
        if self.length is None:
            return self._accepts_one(value)
        is_list = isinstance(value, (list, tuple)) and len(value) == self.length
        return is_list and self.scalar != "bytes" and all(map(self._accepts_one, value))

    def _accepts_one(self, value: Any) -> bool:
        if self.scalar == "bool":
            return isinstance(value, bool)
        if self.scalar == "string":
            return isinstance(value, str)
        if self.scalar == "bytes":
            return isinstance(value, (bytes, bytearray))
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        bounds = self.integer_range
        if bounds is None:
            return True
        return isinstance(value, int) and bounds[0] <= value <= bounds[1]

    def to_abi(self, value: Value) -> types.Value:
        """As the host takes it; `ValueError` where it is not of this type."""
        if not self.accepts(value):
            raise ValueError(f"{value!r} is no {self}")
        single, many, convert = self._cases()
        if self.length is not None:
            return many([convert(one) for one in value])  # type: ignore[union-attr]
        return single(convert(value))

    def _cases(self) -> tuple[Any, Any, Any]:
        if self.scalar == "bool":
            return types.Value_Boolean, types.Value_Booleans, bool
        if self.scalar == "string":
            return types.Value_Text, types.Value_Texts, str
        if self.scalar == "bytes":
            return types.Value_Bytes, None, bytes
        if self.scalar in ("float32", "float64"):
            return types.Value_Float, types.Value_Floats, float
        signed, _ = _BITS[self.scalar]
        if signed:
            return types.Value_Int, types.Value_Ints, int
        return types.Value_Uint, types.Value_Uints, int


def from_abi(value: types.Value) -> Value:
    """A value of the host as plain Python."""
    return value.value


@dataclass(frozen=True)
class Sample:
    """One reading of one tag."""

    tag: int
    """The id of the tag."""
    value: Value | None = None
    """Absent only if the quality is bad: never a guess."""
    quality: Quality = Quality.GOOD
    """How far it can be trusted."""
    source_time_ns: int | None = None
    """When the device took the value, in nanoseconds since 1970, where the protocol carries such a time."""
