"""What is compared: how a kernel ended, and what it had shown and said by then."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """``ending`` is "halted", "power-off", "reset", or "exit N" with the status of isa-debug-exit. ``picture`` is the
    size of the screen and its pixels as bytes, for kernels that draw; of the others, ``screen`` is the text and
    ``colours`` has the attributes.
    """

    ending: str
    screen: str
    serial: bytes
    debugcon: bytes
    colours: bytes = b""
    picture: tuple[int, int, bytes] | None = None

    def __str__(self) -> str:
        parts = [self.ending, self.screen, self.serial.decode("latin-1"), self.debugcon.decode("latin-1")]
        if self.picture is not None:
            parts.append(f"{self.picture[0]}x{self.picture[1]} pixels")
        return "\n--\n".join(parts)


def exit_status(byte: int) -> str:
    """The ending of a write to isa-debug-exit."""
    return f"exit {(byte << 1 | 1) & 0xFF}"
