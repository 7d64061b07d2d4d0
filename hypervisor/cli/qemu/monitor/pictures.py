"""``screendump``: the screen as a file, PPM as QEMU writes it, or PNG.

A VGA shows a narrow mode's dots and a low mode's lines twice, and so does the picture.
"""

from __future__ import annotations

from typing import Any

from hypervisor.console import png
from hypervisor.errors import ConfigError

NARROW, LOW = 400, 300
"""Dots and lines below which a mode is shown doubled."""


def write(vm: Any, path: str, kind: str = "ppm") -> None:
    """Write the picture. Raises `ConfigError` where there is none, or no file."""
    if vm.screen is None:
        raise ConfigError("there is no screen.")
    mode, pixels = vm.screen.mode, vm.screen.pixels
    if mode.kind != "linear":
        pixels = pixels.repeat(2 if mode.width < NARROW else 1, axis=1).repeat(2 if mode.height < LOW else 1, axis=0)
    height, width = pixels.shape[:2]
    if kind == "png":
        data = png.encode(width, height, pixels.tobytes())
    elif kind == "ppm":
        data = f"P6\n{width} {height}\n255\n".encode() + pixels.tobytes()
    else:
        raise ConfigError(f"format {kind!r}: give ppm or png.")
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise ConfigError(f"failed to open file '{path}': {error.strerror}") from error
