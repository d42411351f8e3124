"""Types of tags, and settings: what fits, what does not, and how it is named."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest
from bulkhead_sdk import DataType, NoSettings, setting
from bulkhead_sdk.abi import types
from bulkhead_sdk.settings import parse, schema


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("bool", True, types.Value_Boolean(True)),
        ("int8", -128, types.Value_Int(-128)),
        ("uint64", 2**64 - 1, types.Value_Uint(2**64 - 1)),
        ("float32", 1, types.Value_Float(1.0)),
        ("string", "é", types.Value_Text("é")),
        ("bytes", bytearray(b"x"), types.Value_Bytes(b"x")),
        ("int16[2]", [1, -2], types.Value_Ints([1, -2])),
        ("bool[1]", [False], types.Value_Booleans([False])),
        ("float64[2]", [1, 2.5], types.Value_Floats([1.0, 2.5])),
        ("string[2]", ["é", ""], types.Value_Texts(["é", ""])),
    ],
)
def test_values_go_to_the_host_in_the_type_of_their_tag(name: str, value: object, expected: object) -> None:
    converted = DataType.parse(name).to_abi(value)  # type: ignore[arg-type]
    assert converted == expected and type(converted) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bool", 1),
        ("int8", 128),
        ("uint8", -1),
        ("uint8", True),
        ("int16", 1.0),
        ("float64", "1"),
        ("float64", True),
        ("string", b"x"),
        ("bytes", "x"),
        ("int16[2]", [1]),
        ("int16[2]", [1, 40_000]),
        ("int16", [1]),
        ("string[2]", ["a"]),
        ("string[2]", ["a", 1]),
        ("string[2]", "ab"),
        ("string", ["a"]),
        ("bytes[1]", [b"a"]),
    ],
)
def test_what_is_no_value_of_a_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"is no {name.replace('[', '.')[:5]}"):
        DataType.parse(name).to_abi(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "int", "INT16", "int16[", "int16[0]", "int16[65537]", "[4]", "int16[4] ", "double"])
def test_what_is_no_type_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="is no data type"):
        DataType.parse(name)


@dataclass
class Retry:
    """How often."""

    count: int = setting(3, "Attempts", least=0, most=10)


@dataclass
class Settings:
    """What an operator can set."""

    host: str
    timeout_ms: int = setting(1000, "How long to wait", least=1, most=60_000)
    ratio: float = 1.0
    order: Literal["big", "little"] = "big"
    unit: int | None = None
    names: list[str] = field(default_factory=list)
    retry: Retry = field(default_factory=Retry)


def test_a_schema_says_all_that_is_checked() -> None:
    made = schema(Settings)
    assert made["required"] == ["host"]
    assert made["additionalProperties"] is False
    assert made["description"] == "What an operator can set."
    properties = made["properties"]
    assert properties["timeout_ms"] == {
        "type": "integer",
        "description": "How long to wait",
        "minimum": 1,
        "maximum": 60_000,
        "default": 1000,
    }
    assert properties["order"] == {"enum": ["big", "little"], "default": "big"}
    assert properties["unit"] == {"type": ["integer", "null"], "default": None}
    assert properties["retry"]["properties"]["count"]["maximum"] == 10
    json.dumps(made)
    assert "properties" not in schema(NoSettings)


def test_settings_are_read_with_their_defaults() -> None:
    given = '{"host": "a", "ratio": 2, "order": "little", "names": ["x"], "retry": {"count": 5}}'
    found, faults = parse(Settings, given, "settings")
    assert faults == []
    assert found == Settings("a", 1000, 2.0, "little", None, ["x"], Retry(5))


def test_every_fault_of_settings_is_found_at_once() -> None:
    given = {
        "timeout_ms": "long",
        "ratio": True,
        "order": "middle",
        "unit": 1.5,
        "names": ["x", 5],
        "retry": {"count": 11, "pause": 1},
        "colour": "red",
    }
    found, faults = parse(Settings, json.dumps(given), "settings")
    assert found is None
    assert [at for at, _ in faults] == [
        "settings.colour",
        "settings.host",
        "settings.timeout_ms",
        "settings.ratio",
        "settings.order",
        "settings.unit",
        "settings.names[1]",
        "settings.retry.pause",
        "settings.retry.count",
    ]
    words = dict(faults)
    assert words["settings.timeout_ms"] == '"long" is not a whole number'
    assert words["settings.retry.count"] == "11 is out of range; write 0 to 10"
    assert words["settings.host"] == "this setting is required"


def test_settings_have_a_depth_that_the_stack_bears() -> None:
    for given in ["[" * 10_000, '{"names": ' * 10_000, '{"host": ["]]", ' + "[" * 100 + "]" * 101 + "}"]:
        found, faults = parse(Settings, given, "settings")
        assert found is None
        assert faults == [("settings", "lists and tables are nested in each other more than 64 deep")]
    # Brackets in a text are none.
    found, faults = parse(Settings, '{"host": "' + "[{" * 100 + '\\"["}', "settings")
    assert not faults
    assert found is not None and found.host.endswith('"[')


@pytest.mark.parametrize("given", ["[]", "5", '"x"', "{", "nonsense"])
def test_what_is_no_table_is_a_fault(given: str) -> None:
    found, faults = parse(NoSettings, given, "device a.settings")
    assert found is None and faults[0][0] == "device a.settings"
