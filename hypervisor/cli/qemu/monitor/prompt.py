"""The monitor's lines: reading them, answering them, and the prompt, as QEMU's readline does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypervisor.cli.qemu.monitor import monitor_commands as commands
from hypervisor.cli.qemu.monitor.expressions import NoExpression
from hypervisor.errors import HypervisorError

PROMPT = "(qemu) "
WELCOME = "QEMU 7.2 monitor - type 'help' for more information\n"
LONGEST = 4096
"""Characters of a line; more of them are dropped."""
_ERASE = (0x08, 0x7F)
_END_OF_INPUT, _CLEAR = 0x04, 0x15


class Monitor:
    """A monitor on one end. What is typed comes in by `typed`, on any one thread."""

    def __init__(self, machine: Any, write: Callable[[bytes], object]) -> None:
        self.state = commands.State(machine)
        self._line = bytearray()
        self._welcomed = False
        self._write = write

    def opened(self) -> None:
        """Somebody has come: welcome him."""
        self._line.clear()
        self._welcome()

    def typed(self, data: bytes) -> None:
        """Take what was typed; nothing means that it is turned to."""
        if not self._welcomed:
            self._welcome()
        elif not data:
            self._say(PROMPT)
        for byte in data:
            self._key(byte)

    def _welcome(self) -> None:
        self._welcomed = True
        self._say(WELCOME + PROMPT)

    def _say(self, text: str) -> None:
        self._write(text.replace("\n", "\r\n").encode())

    def _key(self, byte: int) -> None:
        if byte in b"\r\n":
            line, self._line = self._line.decode("utf-8", "replace").strip(), bytearray()
            self._say("\n")
            if line:
                self._answer(line)
            if not self.state.over:
                self._say(PROMPT)
        elif byte in _ERASE:
            if self._line:
                del self._line[-1]
                self._write(b"\b \b")
        elif byte == _CLEAR:
            self._write(b"\b \b" * len(self._line))
            self._line.clear()
        elif byte >= 0x20 and len(self._line) < LONGEST:
            self._line.append(byte)
            self._write(bytes([byte]))

    def _answer(self, line: str) -> None:
        try:
            said = commands.run(self.state, line)
        except commands.UnknownCommandError as error:
            said = str(error)
        except NoExpression as error:
            name = line.split()[0].partition("/")[0]
            said = f'{error}\nTry "help {name}" for more information'
        except (HypervisorError, OSError) as error:
            said = f"Error: {error}"
        if said:
            self._say(said + "\n")
