"""A machine's console, or its screen, on the terminal for a while: what is typed goes to the guest, up to Ctrl-A d.

What the guest writes is read from what its console keeps, so a slow terminal holds up no guest; it may miss some.
"""

from __future__ import annotations

from hypervisor.cli.tty import ansi
from hypervisor.cli.tty.live import LiveScreen
from hypervisor.cli.tty.terminal import ESCAPE, Terminal
from hypervisor.cli.tty.terminal_keys import press
from hypervisor.cli.tty.terminal_session import INPUT_BACKLOG
from hypervisor.cli.up.patient_output import PatientOutput
from hypervisor.vm.vm import VM

SHOWN_FIRST = 8 << 10
"""Bytes that the console has shown before which are shown again."""
AT_ONCE = 64 << 10
"""Bytes between two looks at what is typed; what the guest writes beyond that is left out."""
HELP = "Ctrl-A d goes back to the table; Ctrl-A Ctrl-A sends one Ctrl-A."


class LeaveFilter:
    """Finds Ctrl-A d in what is typed."""

    def __init__(self) -> None:
        self._escaped = False

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What goes to the guest, and whether somebody wants to leave."""
        passed = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte in b"dDxX":
                    return bytes(passed), True
                passed += bytes([byte]) if byte == ESCAPE else bytes([ESCAPE, byte])
            elif byte == ESCAPE:
                self._escaped = True
            else:
                passed.append(byte)
        return bytes(passed), False


class VisitedConsole:
    """The console: the bytes that the guest writes, as they are."""

    def __init__(self, vm: VM, output: PatientOutput) -> None:
        self._vm, self._output, self._filter = vm, output, LeaveFilter()
        self._position = max(len(vm.console) - SHOWN_FIRST, 0)
        output.write(f"{ansi.LEAVE}\x1b[2J\x1b[H[{vm.name}: {HELP}]\n".encode())

    def draw(self) -> None:
        """Show what has come."""
        console = self._vm.console
        end = len(console)
        if end - self._position > AT_ONCE:
            self._output.write(f"\n[{end - self._position - AT_ONCE} bytes are left out]\n".encode())
            self._position = end - AT_ONCE
        data = console.since(self._position)[: end - self._position]
        self._position = end
        self._output.write(data)

    def typed(self, data: bytes) -> bool:
        """Pass it on; False if somebody wants to leave."""
        data, leaves = self._filter.feed(data)
        if data and self._vm.console.pending < INPUT_BACKLOG:
            self._vm.console.send(data)
        return not leaves

    def leave(self) -> None:
        """The guest may have left colours and more behind."""
        self._output.write(b"\x1b[0m")


class VisitedScreen:
    """The screen, drawn again where it has changed."""

    def __init__(self, vm: VM, terminal: Terminal, output: PatientOutput) -> None:
        self._vm, self._filter = vm, LeaveFilter()
        self._live = LiveScreen(vm.screen, terminal, output)
        self._live.enter()

    def draw(self) -> None:
        """Bring the terminal up to date."""
        self._live.draw()

    def typed(self, data: bytes) -> bool:
        """Press the keys; False if somebody wants to leave."""
        data, leaves = self._filter.feed(data)
        if data and self._vm.keyboard.pending < INPUT_BACKLOG:
            press(self._vm.keyboard, data)
        return not leaves

    def leave(self) -> None:
        """Whoever draws next takes the terminal anew."""
        self._live.leave()
