"""A mistake and its sentence; booting and VMs in which it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypervisor as hv
from tests.sectors import boot_sector

HALT = boot_sector(b"\xfa\xf4")  # cli; hlt
LOOP = boot_sector(b"\xfb\x90\xeb\xfd")  # sti; nop; jmp to the nop


@dataclass(frozen=True)
class Case:
    """``do(directory)`` fails with ``error``, whose text contains ``sentence``."""

    name: str
    do: Callable[[Path], object]
    error: type[Exception]
    sentence: str


def boots(name: str, image: Any, error: type[Exception], sentence: str, **options: Any) -> Case:
    """Booting ``image`` (bytes, or a path inside the test's directory) with ``options`` fails."""
    options.setdefault("memory", "4M")

    def do(directory: Path) -> object:
        return hv.boot(directory / image if isinstance(image, str) else image, **options)

    return Case(name, do, error, sentence)


def with_vm(name: str, do: Callable[[hv.VM], object], error: type[Exception], sentence: str) -> Case:
    """Something done to a VM fails."""

    def booted(_: Path) -> object:
        with hv.boot(HALT, memory="4M") as vm:
            return do(vm)

    return Case(name, booted, error, sentence)
