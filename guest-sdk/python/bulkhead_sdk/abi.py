"""The types of `bulkhead:channel@0.1.0`, as the host and a driver exchange them.

`wit_world` is generated from `wit/` by componentize-py and stands beside this package, so that a native test needs nothing but
Python. In a component the generated modules are those of the component itself.

A driver meets a few of these (`Quality`, `Capabilities`, `CloseReason`); the rest are for whoever drives a `Runtime` by hand.
"""

from __future__ import annotations

from componentize_py_types import Err, Ok
from wit_world.imports import actions, config, events, log, types
from wit_world.imports.actions import DeviceCondition, MetricKind, Severity
from wit_world.imports.config import Capabilities
from wit_world.imports.events import CloseReason, Outlook, StartReason, StopReason
from wit_world.imports.log import Level
from wit_world.imports.types import Instant, Quality

__all__ = [
    "Capabilities",
    "CloseReason",
    "DeviceCondition",
    "Err",
    "Instant",
    "Level",
    "MetricKind",
    "Ok",
    "Outlook",
    "Quality",
    "Severity",
    "StartReason",
    "StopReason",
    "actions",
    "config",
    "events",
    "log",
    "types",
]
