"""Build step of the wheel and of editable installs: assembles ``guests/*.asm`` into ``hypervisor/guests/``, and
compiles the kernels that a wheel brings.

Git ignores both, so they are named to hatchling as artifacts. The wheel runs without Keystone and starts without numba.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TAG = "py3-none-manylinux_2_17_x86_64"
"""Of a wheel with kernels: they are for Linux on x86-64, need no C library, and of Python names of its stable ABI."""


KERNELS = "hypervisor/engine/compiling/x86-64-v2.kernels"


class BuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Makes what is shipped and no source, with the code of this very source tree."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects the files of a wheel (``version`` is ``standard`` or ``editable``).

        An editable install gets no kernels, as its sources change: `make` compiles them.
        """
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        made = _assemble(root)
        if version == "standard" and (sys.platform, platform.machine()) == ("linux", "x86_64"):
            made.append(_compile(root))
            build_data.update(pure_python=False, tag=TAG)
        build_data["artifacts"] += ["/" + path.relative_to(root).as_posix() for path in made]


def _compile(root: Path) -> Path:
    """Run `hypervisor.engine.compiling.shipping`: in a process of its own, whose settings are numba's for a level of
    processors, and whose hashes are the same each time.
    """
    output = root / KERNELS
    print(
        "compiling the kernels, which takes about a minute if it was not done before ...", file=sys.stderr, flush=True
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    environment |= {"PYTHONHASHSEED": "0", "PYTHONPATH": path, "HYPERVISOR_KERNELS": "compiled"}
    command = [sys.executable, "-m", "hypervisor.engine.compiling.shipping", "--output", str(output)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"The kernels could not be compiled: {done.stderr.strip()}")
    return output


def _assemble(root: Path) -> list[Path]:
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
