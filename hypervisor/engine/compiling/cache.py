"""Where compiled kernels are kept, so that only the first run after an install compiles.

The place is ``$HYPERVISOR_CACHE``, else ``$XDG_CACHE_HOME/hypervisor``, else ``~/.cache/hypervisor``, else a directory
of this user under the temporary directory: the package directory itself may be read-only. The first is taken that this
user alone can write (`private`), since what is in it is executed. Its last part is a digest of
everything that the machine code depends on, because numba looks at a kernel's own file only and would keep a stale copy
of a kernel that it calls. Nothing is made before there is something to keep.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache as remember
from importlib.util import find_spec
from pathlib import Path

from hypervisor.engine.compiling import host_processor
from hypervisor.engine.compiling.private import NotPrivate, private_folder, read_private
from hypervisor.errors import EngineError

_ENGINE = Path(__file__).parents[1]
_NEVER_COMPILED = frozenset(
    (
        "__init__.py",
        "compiling/cache.py",
        "compiling/choosing.py",
        "compiling/host_processor.py",
        "compiling/kernel_file.py",
        "compiling/loading.py",
        "compiling/plain.py",
        "compiling/private.py",
        "coverage_memory.py",
        "pcpu.py",
        "report.py",
        "selftest.py",
        "state.py",
        "tables.py",
        "task_switch.py",
        "vcpu_state.py",
    )
)
_NEVER_COMPILED_ROOMS = ("instance", "interposition", "repeating")
"""Modules of the engine, and rooms, that no kernel depends on."""

_OF_ARCH = ("apic_page", "apic_registers", "device_registers", "exits", "flags", "segments", "vectors", "vmexit_codes")
_OF_OTHER_ROOMS = (
    *(f"arch/{name}.py" for name in _OF_ARCH),
    "memory/map_words.py",
    "bus/timed_register.py",
    "units.py",
)
"""What kernels take from other rooms."""


def sources() -> list[Path]:
    """The files that machine code is made of: all of the engine's but those that no kernel depends on, and what those
    take from other rooms.
    """
    own = []
    for folder, rooms, names in os.walk(_ENGINE):
        room = os.path.relpath(folder, _ENGINE).replace(os.sep, "/")
        if room == ".":
            rooms[:] = [name for name in rooms if name not in _NEVER_COMPILED_ROOMS]
        found = {name if room == "." else f"{room}/{name}" for name in names if name.endswith(".py")}
        own += [_ENGINE / name for name in found - _NEVER_COMPILED]
    return [*sorted(own), *(_ENGINE.parent / name for name in _OF_OTHER_ROOMS)]


def _version(name: str) -> str:
    """The version of an installed package, from the name of the folder beside it: the library that reads such folders
    takes 12 ms to import, at each start. "none" where it is not installed.
    """
    spec = find_spec(name)
    for place in () if spec is None else spec.submodule_search_locations or ():
        found = list(Path(place).parent.glob(f"{name}-*.dist-info"))
        if len(found) == 1:
            return found[0].name.removeprefix(f"{name}-").removesuffix(".dist-info")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


@remember
def made_of() -> str:
    """A digest of the sources of the machine code."""
    hasher, before = hashlib.sha256(), len(str(_ENGINE.parent)) + 1
    for source in sources():
        hasher.update(str(source)[before:].replace(os.sep, "/").encode())
        hasher.update(source.read_bytes())
    return hasher.hexdigest()


def compiler() -> str:
    """What compiles here, in words."""
    python = ".".join(map(str, sys.version_info[:3]))
    return f"numba {_version('numba')}, llvmlite {_version('llvmlite')}, Python {python}"


@remember
def digest(target: str = "") -> str:
    """A name for this version of the kernels: sources, compiler and the ``target``, by default this very processor."""
    parts = (made_of(), compiler(), sys.version, os.uname().machine, target or host_processor.description())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


FILE = "kernels"
"""The file in `directory`."""

_instead: list[Path] = []
"""Where kernels are since the cache could not be written."""

_own_bases: list[Path] = []
"""Folders that are there for this process alone."""


def directory(target: str = "") -> Path:
    """The directory for this version's kernels, made if it was not there; only this user can write it.

    Where there is none, one for this process alone, removed at its end. Raises `EngineError` if not even that can be.
    """
    return _instead[-1] if _instead else _chosen(target)


def found(target: str = "") -> Path | None:
    """The file of this version's kernels if they have been compiled before, else None. Makes nothing."""
    for base in (*_own_bases, *_bases()):
        with suppress(NotPrivate, OSError):
            file = private_folder(base / digest(target), make=False) / FILE
            if os.path.lexists(file):
                return file
    return None


def instead(problem: OSError) -> Path:
    """A directory for this process alone, as the cache could not be written because of ``problem``. It is
    `directory` from now on, removed at the end. Raises `EngineError` where there is none, or where it is full, too.
    """
    full = directory()
    reason = f"{full} cannot be written: {problem.strerror or problem}"
    if _instead:
        raise EngineError(f"There is no room for compiled kernels ({reason}). Set HYPERVISOR_CACHE to one with 2 MB.")
    _instead.append(_for_this_process([reason], "set HYPERVISOR_CACHE to a folder with 2 MB to keep them"))
    return directory()


@remember
def _chosen(target: str = "") -> Path:
    reasons: list[str] = []
    for base in _bases():
        try:
            place = private_folder(base / digest(target))
            if os.access(place, os.W_OK):
                if reasons and os.environ.get("HYPERVISOR_CACHE"):
                    _say(f"HYPERVISOR_CACHE is not used ({reasons[0]}); compiled kernels go to {place}.")
                return place
            reasons.append(f"{place} cannot be written")
        except NotPrivate as problem:
            reasons.append(str(problem))
        except OSError as problem:
            reasons.append(f"{problem.filename}: {problem.strerror}")
    return _for_this_process(reasons, target=target)


def _for_this_process(reasons: list[str], hint: str = "as others could change them", target: str = "") -> Path:
    import tempfile

    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):
        try:
            made = tempfile.mkdtemp(prefix="hypervisor-", dir=parent)
        except OSError:
            continue
        try:
            base = private_folder(Path(made))
        except NotPrivate:
            os.rmdir(made)
            continue
        atexit.register(_remove, base, os.getpid())
        _own_bases.append(base)
        _say(f"compiled kernels are kept for this process only, {hint} ({'; '.join(reasons)}).")
        return private_folder(base / digest(target))
    raise EngineError(
        "There is no folder for compiled kernels that only this user can write "
        f"({'; '.join(reasons)}). Set HYPERVISOR_CACHE to one."
    )


def _remove(base: Path, process: int) -> None:
    if os.getpid() == process:  # and not a fork of it
        import shutil

        shutil.rmtree(base, ignore_errors=True)


def _say(text: str) -> None:
    print(f"hypervisor: {text}", file=sys.stderr, flush=True)


def _bases() -> Iterator[Path]:
    bases = [os.environ.get("HYPERVISOR_CACHE", "")]
    bases += [os.path.join(os.environ.get("XDG_CACHE_HOME", ""), "hypervisor")]
    bases += [os.path.join(os.path.expanduser("~"), ".cache", "hypervisor")]
    yield from (Path(base) for base in bases if os.path.isabs(base))

    import tempfile  # which takes 2 ms to import, and is seldom needed

    yield Path(tempfile.gettempdir(), f"hypervisor-{os.geteuid()}")


def read(path: Path) -> bytes:
    """The contents of a file in `directory`. Raises `EngineError` for one that somebody else may have written."""
    try:
        return read_private(path)
    except NotPrivate as problem:
        raise EngineError(f"{problem}, and what is in it would be executed. Remove {path.parent}.") from problem
    except OSError as problem:
        raise EngineError(
            f"{path} cannot be read ({problem.strerror}). Remove {path.parent}; the next run fills it."
        ) from problem
