"""Ports that talk to the developer: POST codes (80h), debug console (e9h), debug exit (f4h).

Sources: IBM PC AT Technical Reference (POST checkpoints at 80h); Bochs manual, "port_e9_hack"; QEMU
``hw/misc/debugexit.c`` as documented for ``-device isa-debug-exit``.
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.devices.parts.common import ByteDevice, Register, RegisterTable
from hypervisor.devices.parts.device_state import Stateless, adopt
from hypervisor.state import InRecord, record, u8

POST_SIZE = 1
"""Bytes of the register window (port 80h)."""
CONSOLE_SIZE = 1
"""Bytes of the register window (port e9h)."""
EXIT_SIZE = 4
"""Bytes of the register window (ports f4h-f7h)."""

REGISTERS = (
    Register(0, "POST", "rw", "80h: the last checkpoint written"),
    Register(0, "CONSOLE", "rw", "e9h: a byte of text; reads as e9h, which tells that the port exists"),
    Register(0, "EXIT", "w", "f4h: ends the run with status (value << 1) | 1; reads as zero"),
)

CONSOLE_HERE = 0xE9


@record
class PostState:
    """The last checkpoint."""

    code: int = u8()


class PostPort(ByteDevice, InRecord[PostState]):
    """Port 80h: remembers the last byte. Guests also write here to wait about a microsecond."""

    def __init__(self, name: str = "post") -> None:
        self.name = name
        self._s = PostState()

    @property
    def code(self) -> int:
        """The last checkpoint that was written, 0 to 255."""
        return self._s.code

    def reset(self) -> None:
        """Forget the checkpoint."""
        self._s = PostState()

    def restore(self, state: PostState) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._s = adopt(self.name, PostState, state)

    def _registers(self) -> RegisterTable:
        return [self._read], [self._write]

    def _read(self) -> int:
        return self._s.code

    def _write(self, value: int) -> None:
        self._s.code = value


class DebugConsole(Stateless, ByteDevice):
    """Port e9h: each byte written goes to ``sink`` at once."""

    def __init__(self, sink: Callable[[bytes], object], name: str = "debugcon") -> None:
        self.name = name
        self._sink = sink

    def _registers(self) -> RegisterTable:
        return [lambda: CONSOLE_HERE], [self._write]

    def _write(self, value: int) -> None:
        self._sink(bytes((value,)))


class DebugExit(Stateless):
    """Port f4h: a write of any size calls ``exit_with(status)``, where status is ``(value << 1) | 1``."""

    def __init__(self, exit_with: Callable[[int], object], name: str = "debugexit") -> None:
        self.name = name
        self._exit_with = exit_with

    def read(self, offset: int, size: int) -> int:
        """Zero, as QEMU's device reads."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """End the run. Only a write that starts at the first port counts."""
        if offset == 0:
            self._exit_with(value << 1 | 1)
