"""LLVM's language to native code."""

from __future__ import annotations

from typing import Any


def object_file(module: Any) -> bytes:
    """The object file of a module of `llvmlite.ir`, for the processor that this runs on."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        opt=3, reloc="pic", codemodel="jitdefault", jit=True
    )
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    return bytes(machine.emit_object(parsed))
