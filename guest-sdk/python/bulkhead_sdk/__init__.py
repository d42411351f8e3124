"""Write a Bulkhead driver as plain async Python.

A driver speaks one protocol. It is compiled to a WebAssembly component and runs inside hard limits, with no way to reach anything but
the links that its operator granted. The host owns every socket, timer and poll schedule; it calls the driver with a batch of *events*
(a group is due, bytes arrived), and the driver returns a batch of *actions* (send this, publish that). That is one *turn*.

You derive from `Driver` and write `async` methods that wait for bytes, for time, for each other; a small executor turns each `await`
into the end of a turn.

    class Thermometer(Driver):
        info = Info("thermometer", "0.1.0", "degrees on request", "the number of a probe", (LinkWish("line", ("tcp",)),))

        def __init__(self, config, context):
            self.context, self.tags = context, config.tags
            self.connection = config.link("line").open()
            self.turn = RequestLock()

        async def poll(self, poll):
            report = PollReport()
            for tag in self.tags:
                degrees = await self.ask(f"T{tag.address}\\n".encode())
                report.answered(0)
                self.context.publish([Sample(tag.id, float(degrees))])
            return report

        async def ask(self, question):
            async with self.turn.hold():
                stream = self.connection.stream()
                await stream.write_all(question)
                return await self.context.timeout(1.0, stream.read_until(b"\\n", 80))

    Component = export(Thermometer)

What to know:

- **You return, the SDK answers**: exactly once, also when a request is cancelled or the driver stopped. See `Driver`.
- **A connection outlives its streams.** A `Stream` is one life of a `Connection`; when it has ended, every call on it raises `Closed`.
- **Clocks stand still within a turn.** No clock, thread, file, socket or random number of the standard library is of use here: what the
  host gives is in `Context`.
- **Whatever the module does when it is imported happens once, when the component is built**; instances begin with a copy of it.

`bulkhead_sdk.testing` has a host for plain pytest.
"""

from __future__ import annotations

from .abi import (
    Capabilities,
    CloseReason,
    DeviceCondition,
    Level,
    MetricKind,
    Outlook,
    Quality,
    Severity,
    StartReason,
    StopReason,
)
from .component import export
from .config import Config, Device, Fault, Faults, Group, Tag
from .connections import MAX_READ
from .context import Context
from .driver import Command, CommandInfo, Driver, Info, LinkWish, Poll, PollReport, Read, Start, Stop, Write
from .errors import Closed, Elapsed, Error, NotDurable, NotSupported, TlsDeclined, TooLong
from .executor import join, select
from .link import Connection, Datagram, Link, Listener, Stream
from .lock import Priority, RequestLock
from .settings import NoSettings, setting
from .values import DataType, Sample, Value

__version__ = "0.1.0"

__all__ = [
    "MAX_READ",
    "Capabilities",
    "CloseReason",
    "Closed",
    "Command",
    "CommandInfo",
    "Config",
    "Connection",
    "Context",
    "DataType",
    "Datagram",
    "Device",
    "DeviceCondition",
    "Driver",
    "Elapsed",
    "Error",
    "Fault",
    "Faults",
    "Group",
    "Info",
    "Level",
    "Link",
    "LinkWish",
    "Listener",
    "MetricKind",
    "NoSettings",
    "NotDurable",
    "NotSupported",
    "Outlook",
    "Poll",
    "PollReport",
    "Priority",
    "Quality",
    "Read",
    "RequestLock",
    "Sample",
    "Severity",
    "Start",
    "StartReason",
    "Stop",
    "StopReason",
    "Stream",
    "Tag",
    "TlsDeclined",
    "TooLong",
    "Value",
    "Write",
    "export",
    "join",
    "select",
    "setting",
]
