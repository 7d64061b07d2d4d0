"""Build step of the wheel and of editable installs: assembles ``guests/*.asm`` into ``hypervisor/guests/``.

Git ignores the images, so they are named to hatchling as artifacts. The wheel carries them and runs without Keystone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GuestsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Assembles the shipped guests with the assembler of this very source tree."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects the files of a wheel (``version`` is ``standard`` or ``editable``)."""
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        for path in _build(root):
            build_data["artifacts"].append("/" + path.relative_to(root).as_posix())


def _build(root: Path) -> list[Path]:
    """Run `hypervisor.guests.build` without the package's own ``__init__``: its dependencies are not installed here."""
    package = ModuleType("hypervisor")
    package.__path__ = [str(root / "hypervisor")]
    before = dict(sys.modules)
    sys.modules["hypervisor"] = package
    try:
        from hypervisor.guests.build import build

        return build(root / "guests", root / "hypervisor" / "guests")
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "hypervisor"]:
            del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if name.partition(".")[0] == "hypervisor"})
