"""docs/traps.md speaks of every kind of exit and of every feature that is not offered."""

from __future__ import annotations

from pathlib import Path

from hypervisor.arch.cpuid import NOT_OFFERED
from hypervisor.arch.exits import FIRST_ENGINE, ExitKind

TEXT = (Path(__file__).parents[2] / "docs" / "traps.md").read_text()
KINDS = [kind.name.lower() for kind in ExitKind if 0 < kind < FIRST_ENGINE]


def test_every_kind_has_a_row_in_the_table() -> None:
    assert [kind for kind in KINDS if f"| `{kind}` |" not in TEXT] == []


def test_every_kind_occurs_in_an_example() -> None:
    code = "".join(TEXT.split("```python")[1:])
    missing = [kind for kind in KINDS if f"vm.traps.{kind}(" not in code and f'"{kind}":' not in code]
    assert missing == []


def test_what_is_not_offered_is_listed_with_its_reason() -> None:
    assert [features for features, reason in NOT_OFFERED.items() if f"| {features} | {reason} |" not in TEXT] == []
