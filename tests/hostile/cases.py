"""All directed attacks, by name: what the guest is, and how it may end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.hostile.scenes import Scene

CASES: dict[str, Case] = {}


@dataclass(frozen=True)
class Case:
    """An attack: a function that makes the guest, and the reasons with which its run may end."""

    make: Callable[[], Scene]
    ends: frozenset[str]


def case(*ends: str) -> Callable[[Callable[[], Scene]], Callable[[], Scene]]:
    """Register an attack under its function's name."""

    def register(make: Callable[[], Scene]) -> Callable[[], Scene]:
        add(make.__name__, make, *ends)
        return make

    return register


def add(name: str, make: Callable[[], Scene], *ends: str) -> None:
    """Register an attack."""
    assert name not in CASES, name
    CASES[name] = Case(make, frozenset(ends))


def load() -> dict[str, Case]:
    """Every attack."""
    from tests.hostile import (
        attack_apic,
        attack_code,
        attack_control,
        attack_devices,
        attack_paging,
        attack_segments,
        attack_tasks,
    )

    modules = (attack_control, attack_devices, attack_paging, attack_segments, attack_tasks)
    assert all((attack_apic, attack_code, *modules))
    return CASES
