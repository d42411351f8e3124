"""Settings as dataclasses: their JSON Schema, and everything that is wrong with an operator's.

A field is annotated with `bool`, `int`, `float`, `str`, `Literal[...]`, `list[...]` of such, `... | None`, or another such
dataclass. `setting` gives it a default, a description and bounds:

    @dataclass
    class Settings:
        timeout_ms: int = setting(1000, "How long to wait for an answer", least=1, most=60_000)
"""

from __future__ import annotations

import dataclasses
import json
import re
import types as _types
import typing
from dataclasses import MISSING, dataclass, field
from typing import Any, Literal, TypeVar, Union

T = TypeVar("T")

_META = "bulkhead"


@dataclass
class NoSettings:
    """For a driver without settings of some kind: anything but `{}` is a fault."""


def setting(
    default: Any = MISSING,
    help: str = "",
    *,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """A field of settings: required where it has no default."""
    meta = {_META: {"help": help, "least": least, "most": most}}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=meta)
    return field(default=default, metadata=meta) if default is not MISSING else field(metadata=meta)


def schema(cls: type) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a dataclass of settings."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_object_schema(cls)}


def _object_schema(cls: type) -> dict[str, Any]:
    properties, required = {}, []
    hints = typing.get_type_hints(cls)
    for one in dataclasses.fields(cls):
        meta = one.metadata.get(_META, {})
        described = _type_schema(hints[one.name])
        for key, name in (("help", "description"), ("least", "minimum"), ("most", "maximum")):
            if meta.get(key) not in (None, ""):
                described[name] = meta[key]
        default = _default(one)
        if default is MISSING:
            required.append(one.name)
        else:
            described["default"] = dataclasses.asdict(default) if dataclasses.is_dataclass(default) else default
        properties[one.name] = described
    out: dict[str, Any] = {"title": cls.__name__, "type": "object", "additionalProperties": False}
    # A dataclass without words of its own gets its signature for them.
    if cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}("):
        out["description"] = cls.__doc__.strip()
    if properties:
        out["properties"] = properties
    if required:
        out["required"] = required
    return out


_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string", _types.NoneType: "null"}
_ARTICLES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _type_schema(hint: Any) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _NAMES:
        return {"type": _NAMES[hint]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": _type_schema(arguments[0])}
    if origin in (Union, _types.UnionType):
        kinds = [_type_schema(one) for one in arguments]
        if all(set(kind) == {"type"} for kind in kinds):
            return {"type": [kind["type"] for kind in kinds]}
        return {"anyOf": kinds}
    if dataclasses.is_dataclass(hint):
        return _object_schema(hint)
    raise TypeError(f"{hint!r} cannot be the type of a setting; see bulkhead_sdk.settings")


def _default(one: dataclasses.Field[Any]) -> Any:
    if one.default is not MISSING:
        return one.default
    return one.default_factory() if one.default_factory is not MISSING else MISSING


#: Lists and tables within each other, at most: the stack of a component is short, and Python's reader goes down a step for each.
MAX_DEPTH = 64

_TEXT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def _depth(text: str) -> int:
    deepest = depth = 0
    for bracket in _BRACKET.findall(_TEXT.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def parse(cls: type[T], text: str, at: str) -> tuple[T | None, list[tuple[str, str]]]:
    """Settings from JSON, and each fault with its place. Where a value is only out of range there are settings all the same, so that
    the driver can look for further faults."""
    if _depth(text) > MAX_DEPTH:
        return None, [(at, f"lists and tables are nested in each other more than {MAX_DEPTH} deep")]
    try:
        table = json.loads(text or "{}")
    except ValueError as error:
        return None, [(at, f"this is not JSON: {error}")]
    if not isinstance(table, dict):
        return None, [(at, "settings are a table of names and values")]
    faults: list[tuple[str, str]] = []
    value = _parse_object(cls, table, at, faults)
    return value, faults


def _parse_object(cls: type[T], table: dict[str, Any], at: str, faults: list[tuple[str, str]]) -> T | None:
    hints = typing.get_type_hints(cls)
    fields = {one.name: one for one in dataclasses.fields(cls)}  # type: ignore[arg-type]
    whole = True
    for key in table:
        if key not in fields:
            known = ", ".join(fields) or "nothing"
            faults.append((f"{at}.{key}", f"there is no such setting; there is {known}"))
    found = {}
    for name, one in fields.items():
        if name in table:
            before = len(faults)
            found[name] = _parse_value(hints[name], table[name], f"{at}.{name}", faults)
            if len(faults) > before:
                whole = False
            else:
                _check_bounds(one, found[name], f"{at}.{name}", faults)
        elif _default(one) is MISSING:
            whole = False
            faults.append((f"{at}.{name}", "this setting is required"))
    return cls(**found) if whole else None


def _check_bounds(one: dataclasses.Field[Any], value: Any, at: str, faults: list[tuple[str, str]]) -> None:
    meta = one.metadata.get(_META, {})
    least, most = meta.get("least"), meta.get("most")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if (least is not None and value < least) or (most is not None and value > most):
        range_ = f"{least} to {most}" if None not in (least, most) else f"at least {least}" if most is None else f"at most {most}"
        faults.append((at, f"{value} is out of range; write {range_}"))


def _parse_value(hint: Any, value: Any, at: str, faults: list[tuple[str, str]]) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in _ARTICLES:
        if type(value) is not hint:
            faults.append((at, f"{json.dumps(value)[:80]} is not {_ARTICLES[hint]}"))
        return value
    if origin is Literal:
        if not any(value == one and type(value) is type(one) for one in arguments):
            faults.append((at, f"{json.dumps(value)[:80]} is none of {', '.join(map(str, arguments))}"))
        return value
    if origin is list:
        if not isinstance(value, list):
            faults.append((at, f"{json.dumps(value)[:80]} is not a list"))
            return []
        return [_parse_value(arguments[0], one, f"{at}[{place}]", faults) for place, one in enumerate(value)]
    if origin in (Union, _types.UnionType):
        if value is None and _types.NoneType in arguments:
            return None
        tried: list[tuple[str, str]] = []
        for one in arguments:
            if one is _types.NoneType:
                continue
            tried = []
            parsed = _parse_value(one, value, at, tried)
            if not tried:
                return parsed
        faults.extend(tried)
        return None
    if isinstance(value, dict):
        return _parse_object(hint, value, at, faults)
    faults.append((at, f"{json.dumps(value)[:80]} is not a table"))
    return None
