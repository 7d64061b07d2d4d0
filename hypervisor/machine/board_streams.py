"""A board's streams: serial ports, debug console, BIOS teletype; and the console, which shows what users should see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.console.guest_console import GuestConsole
from hypervisor.console.serial_port import SerialPort
from hypervisor.console.streams import Stream

if TYPE_CHECKING:
    from hypervisor.vm.vm import VM


def console(vm: VM) -> GuestConsole:
    """The VM's console, made when it is first asked for."""
    there: GuestConsole | None = vm.console
    if there is None:
        there = vm.console = GuestConsole(vm, vm.serial, vm.searched)
    return there


def stream(vm: VM, name: str, *, shown: bool) -> Stream:
    """A new stream of ``vm``, for ``until=`` to look at; on the console, too, if it is ``shown``."""
    return _added(vm, Stream(name, vm), shown)


def serial(vm: VM, number: int, *, shown: bool) -> SerialPort:
    """A new serial port ``vm.serial[number]``."""
    port = SerialPort(f"serial port {number}", vm)
    vm.serial[number] = port
    _added(vm, port, shown)
    return port


def _added(vm: VM, made: Stream, shown: bool) -> Stream:
    vm.searched.append(made)
    if shown:
        console(vm).shows(made)
    return made
