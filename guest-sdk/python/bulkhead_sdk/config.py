"""What the operator asks of a channel, with typed settings, and everything that is wrong with it at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from . import settings
from .abi import config as abi
from .link import Link
from .shared import Shared
from .values import DataType

S = TypeVar("S")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a configuration."""

    at: str
    """Where: `settings.timeout_ms`, `device press.address`, `tag temp.address`."""
    message: str
    """What is wrong and what would be right, in one sentence."""


class Faults(Exception):
    """Everything that is wrong with a configuration, in the order in which it was found."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Adds one."""
        self.all.append(fault)

    def check(self) -> None:
        """Raises them, if there are any."""
        if self.all:
            raise self

    def __str__(self) -> str:
        return "\n".join(f"{fault.at}: {fault.message}" for fault in self.all)


@dataclass
class Device:
    """A thing addressed within the channel."""

    id: int
    name: str
    address: str
    """In the protocol's own terms; empty where the operator gave none."""
    settings: Any
    link: Link | None
    """The link that leads to it, where the channel has several."""

    def fault(self, field: str, message: str) -> Fault:
        """A fault of one of its fields: `address`, or `settings` with a path."""
        return Fault(f"device {self.name}.{field}", message)


@dataclass
class Tag:
    """A named value of a device."""

    id: int
    device: int
    """The id of the device that has it."""
    name: str
    address: str
    """In the protocol's own syntax."""
    data_type: DataType
    readable: bool
    """One that may not be read is written only, and is in no group."""
    writable: bool
    settings: Any

    def fault(self, field: str, message: str) -> Fault:
        """A fault of one of its fields: `address`, `type`, `access`, or `settings` with a path."""
        return Fault(f"tag {self.name}.{field}", message)


@dataclass
class Group:
    """Tags that are polled together."""

    id: int
    name: str
    period_ns: int
    tags: list[int]
    """Their ids, in the operator's order."""


@dataclass
class Config(Generic[S]):
    """Everything that an operator says about a channel, as far as its driver is concerned."""

    name: str
    """The channel's, in the operator's file."""
    settings: S
    links: list[Link]
    devices: list[Device]
    """At least one."""
    groups: list[Group]
    tags: list[Tag]

    def link(self, name: str) -> Link:
        """The link of that name. One that the driver's `info` requires is always there; for another, `KeyError` where the operator did
        not grant it."""
        for link in self.links:
            if link.name == name:
                return link
        raise KeyError(f"no link {name} was granted")

    def settings_fault(self, path: str, message: str) -> Fault:
        """A fault of the channel's settings; `path` as in `timeout_ms`."""
        return Fault(f"settings.{path}", message)


def parse(driver: Any, config: abi.ChannelConfig, shared: Shared, faults: Faults) -> Config[Any] | None:
    """What parsed of a configuration; what did not is added to the faults. No settings, no config: then the driver cannot be asked."""
    links = [Link(shared, link) for link in config.links]
    wishes_met = _check_links(driver.info, links, faults)
    channel_settings = _settings(driver.Settings, config.settings, "settings", faults)
    devices = []
    for one in config.devices:
        at = f"device {one.name}.settings"
        device_settings = _settings(driver.DeviceSettings, one.settings, at, faults)
        if device_settings is not None:
            link = next((link for link in links if link.id == one.link), None)
            devices.append(Device(one.id, one.name, one.address, device_settings, link))
    known_devices = {device.id for device in devices}
    tags = []
    for one in config.tags:
        try:
            data_type = DataType.parse(one.data_type)
        except ValueError as error:
            faults.add(Fault(f"tag {one.name}.type", str(error)))
            continue
        tag_settings = _settings(driver.TagSettings, one.settings, f"tag {one.name}.settings", faults)
        if tag_settings is not None and one.device in known_devices:
            tag = Tag(one.id, one.device, one.name, one.address, data_type, one.readable, one.writable, tag_settings)
            tags.append(tag)
    if channel_settings is None or not wishes_met:
        return None
    known_tags = {tag.id for tag in tags}
    groups = [
        Group(one.id, one.name, one.period_ns, [tag for tag in one.tags if tag in known_tags]) for one in config.groups
    ]
    return Config(config.name, channel_settings, links, devices, groups, tags)


def _settings(cls: type, text: str, at: str, faults: Faults) -> Any:
    parsed, found = settings.parse(cls, text, at)
    for place, message in found:
        faults.add(Fault(place, message))
    return parsed


def _check_links(info: Any, links: list[Link], faults: Faults) -> bool:
    met = True
    for wish in info.links:
        kinds = ", ".join(wish.kinds)
        link = next((link for link in links if link.name == wish.name), None)
        if link is None and wish.required:
            faults.add(Fault(f"links.{wish.name}", f"{info.name} needs a link named {wish.name} ({kinds}); grant it under links"))
            met = False
        elif link is not None and link.kind not in wish.kinds:
            faults.add(Fault(f"links.{wish.name}", f"{info.name} cannot use {link.kind} here; grant one of {kinds}"))
            met = False
    return met
