"""A machine with what a board puts into it: what people see and touch of it, its drives, its firmware."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypervisor.bus import Line
from hypervisor.console.serial_port import SerialPorts
from hypervisor.errors import DeviceError
from hypervisor.run.machine import Machine
from hypervisor.vm.device_memory import MemoryBlock
from hypervisor.vm.media import Media

if TYPE_CHECKING:
    from hypervisor.console.expecting import Source
    from hypervisor.console.guest_console import GuestConsole
    from hypervisor.console.keyboard import Keyboard
    from hypervisor.console.mouse import Mouse
    from hypervisor.console.screen import Screen
    from hypervisor.console.speaker import Speaker
    from hypervisor.console.streams import Stream
    from hypervisor.vm.machine_state import SmallParts
    from hypervisor.vm.stateful import Firmware
    from hypervisor.vm.watching.coverage import Coverage


POWER_BUTTON = "power button"
"""What it is called in a machine's inbox, if the board has one."""


class Furnished(Machine):
    """The parts of a machine that a board fills in."""

    coverage: Coverage
    """Which of its blocks the guest executes."""

    def _init_board(self) -> None:
        """What a board fills in."""
        self.blocks: list[MemoryBlock] = []
        """Memory beside RAM, which is closed with the VM."""
        self.irq_lines: Callable[[int], Line] | None = None
        nothing: Any = None  # on a board without them; declared as what ours have, so that users need not ask
        self.console: GuestConsole = nothing
        self.serial = SerialPorts()
        self.debugcon: Stream = nothing
        self.bios_tty: Stream = nothing
        self.keyboard: Keyboard = nothing
        self.mouse: Mouse = nothing
        self.speaker: Speaker = nothing
        self.screen: Screen = nothing
        self.searched: list[Source] = []
        """Where ``until="text"`` and `expect` look: the streams and screens of the board."""
        self.media = Media()
        """What is in the machine's drives; the board's disk controllers are built around it."""
        self.firmware: Firmware | None = None
        """What ran before the guest, of the room above; None without."""
        self.small_parts: SmallParts | None = None
        """See `hypervisor.vm.machine_state.small_parts_of`."""
        self.on_cast: list[Callable[[], None]] = []
        """Called when the parts were copied from those of another machine: the engine is told where they are."""
        self.owns_host = False
        """Whether the host is closed with the last of its VMs and snapshots."""

    @property
    def consoles(self) -> dict[str, Stream]:
        """All that the guest can write on, by name: ``console``, which shows what people should see, ``serial0`` and
        so on, ``debugcon``, ``bios``. Each can be attached to, logged and searched.
        """
        named: dict[str, Stream | None] = {"console": self.console}
        named |= {f"serial{number}": port for number, port in sorted(self.serial.items())}
        named |= {"debugcon": self.debugcon, "bios": self.bios_tty}
        return {name: stream for name, stream in named.items() if stream is not None}

    def press_power_button(self) -> None:
        """Press the machine's power button: a guest in ACPI mode gets an interrupt, and usually shuts down. From any
        thread; it is a message (`inbox`). Raises `DeviceError` on a board without.
        """
        self.check_open()
        if not self.inbox.connected(POWER_BUTTON):
            raise DeviceError(f"The board of the VM {self.name} has no power button: that is a part of acpi-pm.")
        self.inbox.put(POWER_BUTTON, b"")
