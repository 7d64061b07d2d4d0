"""``screendump``: the screen as a file, PPM as QEMU writes it, or PNG."""

from __future__ import annotations

from typing import Any

from hypervisor.errors import ConfigError


def write(vm: Any, path: str, kind: str = "ppm") -> None:
    """Write the picture. Raises `ConfigError` where there is none, or no file."""
    if vm.screen is None:
        raise ConfigError("there is no screen.")
    if kind == "png":
        data = vm.screen.png()
    elif kind == "ppm":
        pixels = vm.screen.pixels
        height, width = pixels.shape[:2]
        data = f"P6\n{width} {height}\n255\n".encode() + pixels.tobytes()
    else:
        raise ConfigError(f"format {kind!r}: give ppm or png.")
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise ConfigError(f"failed to open file '{path}': {error.strerror}") from error
