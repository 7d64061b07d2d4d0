"""The Unicorn library of this process, loaded and recognised."""

from __future__ import annotations

import ctypes
from functools import cache as remember
from typing import Any

from hypervisor.engine import layout
from hypervisor.errors import EngineError


class Native:
    """Unicorn's exported functions, and the internal ones that the engine needs."""

    def __init__(self) -> None:
        problem = layout.platform_problem()
        if problem:
            raise EngineError(problem)
        try:
            import unicorn
            from unicorn import unicorn_py3
        except ImportError as error:
            raise EngineError(f"Unicorn cannot be loaded ({error}). Install it: pip install unicorn==2.1.4.") from error
        version = unicorn.__version__
        if version not in layout.UNICORN_VERSIONS:
            raise EngineError(
                f"Unicorn {version} is not a build whose CPU-state layout is known (known: "
                f"{', '.join(layout.UNICORN_VERSIONS)}). Install a known one: "
                f"pip install unicorn=={layout.UNICORN_VERSIONS[-1]}."
            )
        self.unicorn = unicorn
        self.library: Any = unicorn_py3.unicorn.uclib
        missing = [name for name in layout.SYMBOLS if not hasattr(self.library, name)]
        if missing:
            raise EngineError(
                f"This build of Unicorn {version} does not export {', '.join(missing)}. Install the wheel from PyPI: "
                f"pip install --force-reinstall --no-binary :none: unicorn=={version}."
            )

    def trim(self) -> None:
        """Give the memory that the library has freed back to the operating system."""
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in every C library
        if trim is not None:
            trim(ctypes.c_size_t(0))

    def address(self, name: str) -> int:
        """Address of an exported function."""
        return int(ctypes.cast(getattr(self.library, name), ctypes.c_void_p).value or 0)


@remember
def native() -> Native:
    """This process's Unicorn."""
    return Native()
