"""A machine's console, or its screen, on the terminal for a while: what is typed goes to the guest, up to Ctrl-A d.

What the guest writes is read from what its console keeps, so a slow terminal holds up no guest; it may miss some.
"""

from __future__ import annotations

from contextlib import suppress

from hypervisor.cli.tty import ansi
from hypervisor.cli.tty.live import LiveScreen
from hypervisor.cli.tty.terminal import ESCAPE, Terminal
from hypervisor.cli.tty.terminal_keys import press
from hypervisor.cli.tty.terminal_session import INPUT_BACKLOG
from hypervisor.cli.up.patient_output import PatientOutput
from hypervisor.console.attachment import AT_ONCE
from hypervisor.errors import DeviceError
from hypervisor.vm.vm import VM

SHOWN_FIRST = 8 << 10
"""Bytes that the console has shown before which are shown again."""
HELP = "Ctrl-A d goes back to the table, Ctrl-A n to the next console; Ctrl-A Ctrl-A sends one Ctrl-A."


class Leaving:
    """Finds Ctrl-A and what follows in what is typed."""

    def __init__(self) -> None:
        self._escaped = False
        self.wanted = ""
        """``d`` or ``n``, once that was typed."""

    def feed(self, data: bytes) -> bytes:
        """What goes to the guest, up to such a wish."""
        passed = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte in b"dxn":
                    self.wanted = "n" if byte in b"n" else "d"
                    break
                passed += bytes([byte]) if byte == ESCAPE else bytes([ESCAPE, byte])
            elif byte == ESCAPE:
                self._escaped = True
            else:
                passed.append(byte)
        return bytes(passed)


class VisitedConsole:
    """A console: the bytes that the guest writes, as they are."""

    def __init__(self, vm: VM, output: PatientOutput) -> None:
        self._vm, self._output, self._keys = vm, output, Leaving()
        self._names = list(vm.consoles)
        self._enter(0)

    def _enter(self, number: int) -> None:
        name = self._names[number]
        self._number = number
        self._attached = self._vm.consoles[name].attach(SHOWN_FIRST)
        self._output.write(f"{ansi.LEAVE}\x1b[2J\x1b[H[{self._vm.name}, {name}: {HELP}]\n".encode())

    def draw(self) -> None:
        """Show what has come."""
        if skipped := self._attached.skip(AT_ONCE):
            self._output.write(f"\n[{skipped} bytes are left out]\n".encode())
        self._output.write(self._attached.read())

    def typed(self, data: bytes) -> bool:
        """Pass it on; False if somebody wants to leave."""
        data = self._keys.feed(data)
        if data and self._vm.console.pending < INPUT_BACKLOG:
            with suppress(DeviceError):  # one that takes no input
                self._attached.send(data)
        if self._keys.wanted == "n":
            self.leave()
            self._keys = Leaving()
            self._enter((self._number + 1) % len(self._names))
        return self._keys.wanted != "d"

    def leave(self) -> None:
        """The guest may have left colours and more behind."""
        self._attached.detach()
        self._output.write(b"\x1b[0m")


class VisitedScreen:
    """The screen, drawn again where it has changed."""

    def __init__(self, vm: VM, terminal: Terminal, output: PatientOutput) -> None:
        self._vm, self._keys = vm, Leaving()
        self._live = LiveScreen(vm.screen, terminal, output)
        self._live.enter()

    def draw(self) -> None:
        """Bring the terminal up to date."""
        self._live.draw()

    def typed(self, data: bytes) -> bool:
        """Press the keys; False if somebody wants to leave."""
        data = self._keys.feed(data)
        if data and self._vm.keyboard.pending < INPUT_BACKLOG:
            press(self._vm.keyboard, data)
        return not self._keys.wanted

    def leave(self) -> None:
        """Whoever draws next takes the terminal anew."""
        self._live.leave()
