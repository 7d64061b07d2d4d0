"""Assemble the shipped guests: ``python -m hypervisor.guests.build [--sources DIR] [--output DIR] [NAME]...``.

The wheel's build hook (``hatch_build.py``) and the first use of a guest in a checkout call the same `build`. The same
sources give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hypervisor.assembler import AssemblyError, assemble_file
from hypervisor.guests import IMAGES, NAMES, SOURCES


def build(sources: Path, output: Path, names: Sequence[str] = NAMES) -> list[Path]:
    """Write ``NAME.bin`` and ``NAME.sym`` (JSON: description, origin, symbols) for each guest; returns their paths.

    A file appears whole or not at all, so that processes which start together do not meet half of one. Raises
    `AssemblyError` for a source that cannot be assembled and `OSError` when ``output`` cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for name in names:
        source = sources / f"{name}.asm"
        image = assemble_file(source)
        facts = {"description": describe(source), "origin": image.origin, "symbols": image.symbols}
        table = json.dumps(facts, indent=1, sort_keys=True) + "\n"
        for suffix, content in ((".sym", table.encode()), (".bin", image.code)):
            path = output / (name + suffix)
            _replace(path, content)
            written.append(path)
    return written


def describe(source: Path) -> str:
    """The first sentence of a source's first comment, which reads ``# NAME: sentence.``."""
    first = source.read_text(encoding="utf-8").partition("\n")[0]
    name, _, sentence = first.lstrip("# ").partition(": ")
    if name != source.stem or not sentence:
        raise AssemblyError(f"{source.name}:1: The first line must be a comment '# {source.stem}: what it does.'")
    return sentence.strip()


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns its exit status."""
    parser = argparse.ArgumentParser("python -m hypervisor.guests.build", description="Assemble the shipped guests.")
    parser.add_argument("--sources", type=Path, default=SOURCES, help="folder with the .asm and .inc files")
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder for the images (default: the package)")
    parser.add_argument("names", nargs="*", metavar="NAME", help="guests to assemble (default: all that ship)")
    options = parser.parse_args(arguments)
    try:
        for path in build(options.sources, options.output, options.names or NAMES):
            print(path)
    except (AssemblyError, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
