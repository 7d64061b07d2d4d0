"""Assembly text into machine code that runs wherever it is put: LLVM's assembler, one section, nothing to relocate.

What goes through here executes a guest's floating-point instruction on the host's own unit (`x87_code`, `sse_code`):
no compiler for Python functions reaches that.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_SECTION = b".text"


def assemble(source: str, labels: Sequence[str]) -> bytes:
    """Machine code of Intel syntax. It begins with the offset of each of the ``labels``, 32 bits each."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    head = "\n".join(f".long {label} - start" for label in labels)
    lines = f".intel_syntax noprefix\nstart:\n{head}\n{source}".splitlines()
    module = "\n".join(f'module asm "{line}"' for line in lines)
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(reloc="pic", codemodel="jitdefault", jit=True)
    code = machine.emit_object(llvm.parse_assembly(f'target triple = "{llvm.get_process_triple()}"\n{module}\n'))
    sections = llvm.ObjectFileRef.from_data(code).sections()
    return next(bytes(section.data()) for section in sections if section.name() == _SECTION)


def offsets(code: bytes, labels: Sequence[str]) -> dict[str, int]:
    """Where each label lies in what `assemble` made."""
    return dict(zip(labels, struct.unpack_from(f"<{len(labels)}I", code), strict=True))
