"""The guest programs that ship with the package: sources in ``guests/``, images here.

Images are build products (``python -m hypervisor.guests.build``): the wheel carries them, a checkout does not. In a
checkout an image that is missing, or older than its sources, is assembled when it is first asked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hypervisor.errors import ImageError

IMAGES = Path(__file__).parent
SOURCES = IMAGES.parents[1] / "guests"
"""The sources in a checkout; an installed package has none."""

NAMES = ("hello", "hello32", "long", "pagefault", "trapzoo", "preempt", "apic", "smp", "ping", "balloon", "hostile")
"""The shipped guests, from the simplest to the meanest."""


@dataclass(frozen=True)
class Guest:
    """A shipped guest: its image, the symbols of its source, and the first sentence of that source."""

    name: str
    description: str
    image: bytes
    symbols: dict[str, int]


def names() -> tuple[str, ...]:
    """Names of the shipped guests."""
    return NAMES


def shipped(name: str) -> Guest:
    """The shipped guest ``name``. Raises `ImageError` for an unknown name and when its image cannot be had."""
    if name not in NAMES:
        raise ImageError(f"There is no shipped guest {name!r}; the shipped guests are {', '.join(NAMES)}.")
    binary, table = image_path(name), IMAGES / f"{name}.sym"
    try:
        facts = json.loads(table.read_text(encoding="utf-8"))
        return Guest(name, facts["description"], binary.read_bytes(), facts["symbols"])
    except (OSError, ValueError, KeyError) as problem:
        reason = f"The files of the shipped guest {name} are damaged ({problem}); install the package again."
        raise ImageError(reason) from None


def image_path(name: str) -> Path:
    """Path of the image of the shipped guest ``name``, assembled now if a checkout does not have it yet."""
    if name not in NAMES:
        raise ImageError(f"There is no shipped guest {name!r}; the shipped guests are {', '.join(NAMES)}.")
    image = IMAGES / f"{name}.bin"
    if _is_stale(image):
        from hypervisor.guests.build import build

        build(SOURCES, IMAGES, (name,))
    if not image.exists():
        raise ImageError(f"The image of the shipped guest {name} is missing from {IMAGES}; install the package again.")
    return image


def descriptions() -> dict[str, str]:
    """One line about each shipped guest, by name."""
    return {name: shipped(name).description for name in NAMES}


def _is_stale(image: Path) -> bool:
    if not SOURCES.is_dir():
        return False
    table = image.with_suffix(".sym")
    if not image.exists() or not table.exists():
        return True
    built = min(image.stat().st_mtime_ns, table.stat().st_mtime_ns)
    sources = [SOURCES / f"{image.stem}.asm", *SOURCES.glob("*.inc")]
    return any(source.stat().st_mtime_ns > built for source in sources if source.exists())
