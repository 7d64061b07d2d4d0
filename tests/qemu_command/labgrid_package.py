"""labgrid from PyPI, and of what it needs the part that its QEMU driver imports, in a folder of its own: its pytest
plugin would be in every pytest of the environment otherwise, and gRPC beside it.
"""

from __future__ import annotations

import os
import shutil
import sys
from functools import cache
from pathlib import Path

from tests.programs import run

VERSION = "labgrid==26.0.1"
WITH = ("attrs>=21.4", "pexpect>=4.8", "ptyprocess", "pyserial-labgrid>=3.4.0.1", "xmodem>=0.4.6")
"""PyYAML, which it needs, too, is here already: mkdocs does."""


@cache
def folder() -> Path:
    """Where it is, fetched by pip when it is not there yet."""
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rootmode" / VERSION
    if not kept.is_dir():
        made = kept.with_name(f"{kept.name}.{os.getpid()}")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", made]
        run(*pip, VERSION, *WITH)
        try:
            made.rename(kept)
        except OSError:  # another worker was quicker
            shutil.rmtree(made)
    return kept
