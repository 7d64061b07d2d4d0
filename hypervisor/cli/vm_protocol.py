"""What the command line needs of a VM, and nothing more: this is also what its tests fake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from hypervisor.cli.status import Outcome
from hypervisor.cli.tty.terminal_keys import Keyboard

if TYPE_CHECKING:
    from hypervisor.run.ending.conditions import Condition


class Console(Protocol):
    """The VM's console: the serial port and BIOS teletype."""

    def listen(self, listener: Callable[[bytes], object]) -> object:
        """Call ``listener`` with each piece of output as it is produced, on the thread that runs the VM."""
        ...

    def feed(self, read: Callable[[], bytes]) -> None:
        """Call ``read`` for input when the guest wants some, on the thread that runs the VM."""
        ...

    def open_input(self) -> None:
        """Say that input may come at any time: a guest that waits is not idle then."""
        ...

    def close_input(self) -> None:
        """Say that no more input will come."""
        ...

    def send(self, data: bytes) -> None:
        """Queue input. May be called from any thread."""
        ...

    @property
    def pending(self) -> int:
        """Bytes of input that the guest has not taken yet."""
        ...


class Mode(Protocol):
    """What a screen is set to."""

    @property
    def kind(self) -> str:
        """``"text"``, or a kind of picture."""
        ...


class Row(Protocol):
    """A row of text."""

    @property
    def text(self) -> str:
        """Its characters."""
        ...

    @property
    def attributes(self) -> bytes:
        """An index of `Screen.colours` for each."""
        ...


class Screen(Protocol):
    """The VM's screen. It may be asked from any thread."""

    @property
    def mode(self) -> Mode:
        """What it is set to."""
        ...

    @property
    def text(self) -> str:
        """Its text."""
        ...

    @property
    def rows(self) -> Sequence[Row]:
        """Its rows."""
        ...

    @property
    def colours(self) -> Sequence[tuple[int, int]]:
        """Colour and background, 0 to 15 each, by attribute."""
        ...

    @property
    def cursor(self) -> tuple[int, int] | None:
        """Row and column, if it is shown."""
        ...

    @property
    def pixels(self) -> Any:
        """Its picture, an array of height by width by 3."""
        ...


class Vcpu(Protocol):
    """The first virtual CPU."""

    @property
    def rip(self) -> int:
        """Where it stands."""
        ...


class Symbols(Protocol):
    """The guest's symbol table."""

    def lookup(self, address: int) -> tuple[str, int] | None:
        """The symbol at or before ``address`` and the distance in bytes."""
        ...


class Result(Outcome, Protocol):
    """A ``RunResult``."""

    @property
    def wall_s(self) -> float:
        """Host seconds from start to end."""
        ...

    @property
    def virtual_s(self) -> float:
        """Guest seconds from start to end."""
        ...

    @property
    def exits(self) -> Mapping[str, int]:
        """Exits by kind."""
        ...

    @property
    def host_events(self) -> Mapping[str, int]:
        """What the host caused (TLB fills, kicks), by kind: it need not repeat from run to run."""
        ...


class Server(Protocol):
    """The gdb server."""

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""
        ...


class Config(Protocol):
    """What a VM was made from."""

    @property
    def clock(self) -> str:
        """``"virtual"`` or ``"wall"``."""
        ...


class Guest(Protocol):
    """A VM."""

    @property
    def config(self) -> Config:
        """What it was made from."""
        ...

    @property
    def console(self) -> Console:
        """Its console."""
        ...

    @property
    def keyboard(self) -> Keyboard:
        """Its keyboard."""
        ...

    @property
    def screen(self) -> Screen | None:
        """Its screen, if the board has a display adapter."""
        ...

    @property
    def vcpu(self) -> Vcpu:
        """Its first virtual CPU."""
        ...

    @property
    def symbols(self) -> Symbols:
        """Its symbols."""
        ...

    @property
    def began(self) -> float:
        """When its creation began, before its image was loaded: of `time.monotonic`."""
        ...

    @property
    def host_memory_bytes(self) -> int:
        """Host memory that the VM's frames take now, in bytes."""
        ...

    @property
    def busy_in(self) -> str:
        """Whose code holds up the guest at this moment, as a sentence needs it, or empty. From any thread."""
        ...

    def run(
        self, *, until: Condition | str | None = None, timeout: float | None, virtual_timeout: float | None
    ) -> Result:
        """Run until something ends it; times in seconds."""
        ...

    def gdb(self, port: int, wait: bool) -> Server:
        """Let gdb debug the guest."""
        ...

    def log(self, *what: str, to: str | None) -> object:
        """Write a line for each event of these categories to a file, or to stderr."""
        ...

    def save(self, path: str, *, embed: bool, progress: Callable[[int, int], object] | None = None) -> None:
        """Write the machine into a file."""
        ...

    def request_stop(self, text: str, urgent: bool = False) -> None:
        """End the run soon, with reason ``stopped``, and what holds it up if that is urgent. From any thread."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...
