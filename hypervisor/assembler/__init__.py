"""A small assembler for x86 system code (16, 32 and 64 bits, flat images) over Keystone.

Source format: Intel syntax; one statement a line, or several with ``;`` between them; ``#`` starts a comment.

=========================================  =====================================================================
``name:``, ``.name:``                      label; a dot makes it local to the label before
``.code16``, ``.code32``, ``.code64``      mode of the instructions that follow
``.org ADDRESS``                           first: where the image belongs; later: pad with zeros up to there
``.equ NAME, VALUE``                       constant
``.byte .word .dword .qword V, ...``       data of 1, 2, 4, 8 bytes (``.long`` and ``.quad`` too)
``.ascii "..."``, ``.asciz "..."``         text, without and with a zero at its end
``.skip N[, V]``, ``.align N[, V]``        N bytes, or up to the next multiple of N (of value V, else 0)
``.bss``                                   from here on addresses only: memory beyond the image's end
``.include "FILE"``                        another source
``.macro NAME a, b`` ... ``.endm``         ``\\a`` is the argument (``{x, y}`` is one), ``\\@`` a number of each use
``.rept N`` ... ``.endr``                  N copies; ``\\+`` is the copy's number from 0
=========================================  =====================================================================

A name alone is its value (``mov esi, text``), a name in brackets is the memory there. ``o16 o32 o64`` before an
instruction give its operand size (``o32 lgdt [table]``); ``jmp 8:name``, ``jmp dword 8:name`` and ``jmp far [name]``
are far. Sizes are ``byte word dword qword`` with or without ``ptr``. In 64-bit code ``[name]`` is an absolute address
and ``[rel name]`` one relative to RIP. Keystone is imported only when something is assembled.
"""

from __future__ import annotations

from pathlib import Path

from hypervisor.assembler.assembled import Image, Layout, Line
from hypervisor.assembler.problem import AssemblyError
from hypervisor.assembler.source import Reader

__all__ = ["AssemblyError", "Image", "Line", "assemble", "assemble_file"]


def assemble(source: str, *, origin: int = 0, mode: int = 32, file: str = "<asm>", folder: Path | None = None) -> Image:
    """Assemble ``source`` into a flat image at ``origin`` (a first ``.org`` overrides it), starting in ``mode`` bits.

    ``file`` names the source in errors; ``.include`` looks in ``folder``. Raises `AssemblyError`, a sentence with the
    line's number and text.

    >>> assemble("mov eax, 1; cpuid; hlt").code.hex()
    'b8010000000fa2f4'
    """
    if mode not in (16, 32, 64):
        raise AssemblyError(f"{mode} is not a mode; an instruction is 16-, 32- or 64-bit code.")
    reader = Reader(folder)
    reader.read(source, file)
    return Layout(reader.statements, origin, mode).run()


def assemble_file(path: Path) -> Image:
    """Assemble the source file ``path`` (see `assemble`); unless it says otherwise it is 32-bit code at address 0."""
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise AssemblyError(f"{path} cannot be read as a source: {problem}.") from None
    return assemble(source, file=path.name, folder=path.parent)
