"""Makes a driver a component: what componentize-py exports as `bulkhead:channel/driver`."""

from __future__ import annotations

from .abi import Err, Instant, actions, config, events
from .config import Faults
from .driver import Driver
from .runtime import Runtime


def export(driver: type[Driver]) -> type:
    """The component of a driver. componentize-py looks for it under the name `Component` in the driver's module:

        Component = export(MyDriver)
    """
    if not (isinstance(driver, type) and issubclass(driver, Driver)):
        raise TypeError(f"export takes a class that derives from bulkhead_sdk.Driver, and {driver!r} is none")
    if not hasattr(driver, "info"):
        raise TypeError(f"{driver.__name__} does not say what it is; give it `info = Info(...)`")

    # componentize-py makes an object anew for each call, so what lasts stands beside them.
    runtime = Runtime(driver)

    class Component:
        """One incarnation."""

        def describe(self) -> config.DriverInfo:
            return runtime.describe()

        def configure(self, config_: config.ChannelConfig) -> None:
            try:
                runtime.configure(config_)
            except Faults as faults:
                raise Err([config.ConfigFault(fault.at, fault.message) for fault in faults.all]) from None

        def turn(self, now: Instant, happened: list[events.Event]) -> list[actions.Action]:
            return runtime.turn(now, happened)

    return Component
