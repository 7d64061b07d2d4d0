"""What a local APIC is connected to in its processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypervisor.bus import Line


@dataclass(frozen=True)
class Pins:
    """The processor's side of a local APIC: its INTR input, and what NMI, INIT and start-up messages do to it."""

    intr: Line
    nmi: Callable[[], object]
    init: Callable[[], object]
    startup: Callable[[int], object]
