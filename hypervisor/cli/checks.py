"""What ``hypervisor doctor`` looks at, in the order in which things depend on each other."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import hypervisor

DISTRIBUTION = "rootmode"
LOWEST_PYTHON = (3, 11)


class State(Enum):
    """How a check came out. Only `BROKEN` keeps guests from running."""

    OK = "ok"
    NOTE = "note"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str
    state: State
    text: str


Check = Callable[[], Finding]


def python() -> Finding:
    """The interpreter's version."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < LOWEST_PYTHON:
        return Finding("Python", State.BROKEN, f"{found} is too old; install Python 3.11 or newer.")
    return Finding("Python", State.OK, found)


def platform() -> Finding:
    """Whether guests can run on this operating system and processor."""
    from hypervisor.engine import layout

    here = layout.this_platform()
    if problem := layout.platform_problem():
        return Finding("platform", State.BROKEN, problem)
    return Finding("platform", State.OK, f"{here.system} {here.machine}")


def unicorn() -> Finding:
    """The CPU emulator's version."""
    from hypervisor.engine import layout

    known = ", ".join(layout.UNICORN_VERSIONS)
    found = installed_version("unicorn")
    if found is None:
        return Finding("unicorn", State.BROKEN, f"is not installed; run: pip install unicorn=={known}")
    if found not in layout.UNICORN_VERSIONS:
        text = f"{found} is not a version whose state layout is known; run: pip install unicorn=={known}"
        return Finding("unicorn", State.BROKEN, text)
    return Finding("unicorn", State.OK, found)


def numba() -> Finding:
    """The compiler of the engine's kernels."""
    found = installed_version("numba")
    if found is None:
        return Finding("numba", State.BROKEN, "is not installed; run: pip install numba")
    return Finding("numba", State.OK, f"{found}, with llvmlite {installed_version('llvmlite')}")


def engine() -> Finding:
    """The engine's own proof that it knows the loaded emulator's state layout."""
    from hypervisor.engine import selftest

    selftest.check()
    return Finding("engine", State.OK, "the self-test passed on the loaded library")


def kernels() -> Finding:
    """Which compiled kernels run, and where they lie."""
    from hypervisor.engine.compiling.choosing import choose
    from hypervisor.engine.compiling.host_processor import LEVEL

    chosen = choose()
    if isinstance(chosen, str):
        return Finding("kernels", State.NOTE, f"none yet: the next run compiles for up to 30 s, as {chosen}")
    made = f"by {chosen.kernels.compiler}; {chosen.path}"
    if chosen.shipped:
        better = "`hypervisor doctor --compile` makes some for this very processor"
        return Finding("kernels", State.OK, f"those of the package, compiled for {LEVEL} {made} ({better})")
    return Finding("kernels", State.OK, f"compiled here, for this processor ({chosen.kernels.processor}) {made}")


def keystone() -> Finding:
    """The assembler, which only `run_asm` and building the guests need."""
    found = installed_version("keystone-engine")
    if found is None:
        text = "is not installed, which run_asm() needs; guests run without it. To have it: pip install keystone-engine"
        return Finding("keystone", State.NOTE, text)
    return Finding("keystone", State.OK, found)


def package() -> Finding:
    """That ``import hypervisor`` means this package: an unrelated distribution has the same import name."""
    names = importlib.metadata.packages_distributions()
    others = [*foreign_distributions(names), *foreign_directories(sys.path, _own_directory())]
    if others:
        text = (
            f"another package named hypervisor is installed ({', '.join(others)}) and one hides the other; "
            "uninstall it, or give each its own environment."
        )
        return Finding("package", State.BROKEN, text)
    version = installed_version(DISTRIBUTION) or "(not installed)"
    return Finding("package", State.OK, f"{DISTRIBUTION} {version}, in {_own_directory()}")


def command() -> Finding:
    """That typing ``hypervisor`` starts this package's command."""
    ours = Path(sysconfig.get_path("scripts")) / "hypervisor"
    found = shutil.which("hypervisor")
    if found is None:
        return Finding("command", State.NOTE, f"hypervisor is not on PATH; this environment's is {ours}")
    if Path(found).resolve() != ours.resolve():
        return Finding("command", State.NOTE, f"typing hypervisor starts {found}, not this environment's {ours}")
    return Finding("command", State.OK, found)


CHECKS: tuple[Check, ...] = (python, platform, unicorn, numba, engine, kernels, keystone, package, command)


def foreign_distributions(names: Mapping[str, Sequence[str]]) -> list[str]:
    """Installed distributions other than ours that provide ``hypervisor``, from `packages_distributions`'s mapping."""
    return sorted({name for name in names.get("hypervisor", ()) if name.lower() != DISTRIBUTION})


def foreign_directories(path: Iterable[str], own: Path) -> list[str]:
    """Packages or modules named ``hypervisor`` on the import path that are not a copy of this package."""
    found = []
    for entry in path:
        for candidate in (Path(entry) / "hypervisor" / "__init__.py", Path(entry) / "hypervisor.py"):
            if not candidate.is_file() or candidate.parent.resolve() == own.resolve():
                continue
            if not (candidate.parent / "engine" / "layout.py").is_file():
                found.append(str(candidate))
    return found


def _own_directory() -> Path:
    return Path(hypervisor.__path__[0])


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
