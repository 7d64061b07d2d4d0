"""Command lines, as bytes that end in NUL."""

from __future__ import annotations

from hypervisor.errors import ConfigError


def c_string(text: str, what: str) -> bytes:
    """``text`` with a final NUL; raises `ConfigError` if it has a NUL of its own, which would cut it short silently."""
    if "\0" in text:
        raise ConfigError(f"{what} has a NUL character in it at position {text.index(chr(0))}; remove it.")
    try:
        return text.encode(errors="surrogateescape") + b"\0"  # as the command line was typed, which need not be UTF-8
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what} cannot be written from position {error.start} on; remove that.") from error


def command_line(name: str, arguments: str) -> str:
    """The image's (or module's) name followed by its arguments: multiboot command lines, as QEMU and GRUB pass them."""
    return f"{name} {arguments}" if arguments else name
