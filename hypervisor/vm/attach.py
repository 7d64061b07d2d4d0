"""Making a device out of what `VM.attach` was given."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from hypervisor.bus import Device, Line
from hypervisor.errors import DeviceError
from hypervisor.traps.callables import only_begins

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine


def build(vm: Machine, device: object, line: Line | None) -> Device:
    """A device instance: ``device`` itself, or what it makes of those it names of line, irq, clock, memory, vm."""
    if inspect.isclass(device) or inspect.isfunction(device):
        offered = {"line": line, "irq": line, "clock": vm.clock, "memory": vm.dma, "dma": vm.dma, "vm": vm}
        wanted = inspect.signature(device).parameters
        arguments = {name: offered[name] for name in wanted if name in offered}
        try:
            device = device(**arguments)
        except TypeError as error:
            raise DeviceError(
                f"{device!r} cannot be made with {', '.join(arguments) or 'no arguments'}: {error}."
            ) from error
    elif line is not None:
        _connect(device, line)
    if not isinstance(device, Device):
        missing = [name for name in ("name", "read", "write", "reset", "state", "restore") if not hasattr(device, name)]
        raise DeviceError(f"{device!r} is not a device: it has no {', '.join(missing)} (see hypervisor.bus.Device).")
    for name in ("read", "write", "reset", "state", "restore"):
        if made := only_begins(getattr(device, name)):
            raise DeviceError(f"{device.name}.{name}: calling it only makes {made}.")
    return device


def _connect(device: Any, line: Line) -> None:
    """Give an instance its interrupt line: a `Line` of its own is joined, an empty attribute ``line`` or ``irq`` is
    set.
    """
    for name in ("line", "irq"):
        if hasattr(device, name):
            own = getattr(device, name)
            if isinstance(own, Line):
                own.connect(line.set)
            else:
                setattr(device, name, line)
            return
    raise DeviceError(f"{device.name}: irq= was given, but the device has no attribute 'line' or 'irq' to connect.")
