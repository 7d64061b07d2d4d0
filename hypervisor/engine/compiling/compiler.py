"""From kernels to machine code: compile once per install or before it, then load it without numba and LLVM.

numba turns the entry points of `hooks` into native objects, which are linked (`linking`) and kept in `cache.directory`:
importing numba takes longer than a small guest runs, and LLVM and its linker take 60 ms of each process that begins.
A wheel brings kernels for a common level of processors (`shipping`), to be used until better ones are there
(`choosing`).
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache as remember
from pathlib import Path
from typing import Any

from hypervisor.engine.compiling import cache, host_processor, next_block
from hypervisor.engine.compiling.choosing import Chosen, choose
from hypervisor.engine.compiling.kernel_file import KernelFile, unpack
from hypervisor.engine.compiling.loading import LoadedCode
from hypervisor.engine.floating_point.floating import compile_floating
from hypervisor.engine.shared_words.token_words import TOKEN
from hypervisor.errors import EngineError, TrapError

_C_TYPES: dict[str, Any] = {"l": ctypes.c_int64, "i": ctypes.c_int32, "u": ctypes.c_uint32, "B": ctypes.c_uint8}
_C_TYPES["v"] = None


def c_function(signature: str, address: int) -> Any:
    """A ctypes function from a signature such as ``"l(ll)"``; calling it releases the interpreter lock."""
    result, arguments = signature[:-1].split("(")
    return ctypes.CFUNCTYPE(_C_TYPES[result], *[_C_TYPES[c] for c in arguments])(address)


def compile_function(function: Any, signature: str) -> tuple[str, bytes]:
    """Native code of one function: (symbol, object file)."""
    from numba import cfunc, types

    kinds = {"l": types.int64, "i": types.int32, "u": types.uint32, "B": types.uint8, "v": types.void}
    result, arguments = signature[:-1].split("(")
    compiled = cfunc(kinds[result](*[kinds[c] for c in arguments]))(function)
    library = compiled._library
    return compiled._wrapper_name, library.codegen._tm.emit_object(library._final_module)


def compile_kernels(target: str) -> KernelFile:
    """Compile all kernels. ``target`` says in words what for: the processor that this runs on, or numba's settings
    know better (`shipping`). Raises `EngineError` where numba is missing.
    """
    try:
        from hypervisor.engine.compiling import hooks, host_entries, trampolines
        from hypervisor.engine.compiling.linking import link
    except ImportError as error:
        raise EngineError(
            f"The engine's compiler cannot be loaded ({error}). Install numba: pip install numba."
        ) from error
    objects, signatures = {}, {}
    for function, signature in (*hooks.ENTRIES, *host_entries.ENTRIES, *trampolines.TRAMPOLINES):
        objects[function.__name__] = compile_function(function, signature)
        signatures[function.__name__] = signature
    objects["next_block"], signatures["next_block"] = next_block.compile_next(), next_block.SIGNATURE
    return KernelFile(cache.made_of(), target, cache.compiler(), link(objects), signatures, compile_floating())


def fill(reason: str) -> Path:
    """Compile into the cache or, where that has no room or cannot be written, into a place for this process alone;
    the file. Says so first, with the ``reason``, a clause.
    """
    words = f"compiling the engine's kernels (once per install, about 20 s), as {reason} ..."
    print(f"hypervisor: {words}", file=sys.stderr, flush=True)
    if os.environ.get("HYPERVISOR_KERNELS") == "plain":
        return _fill_in_another_process()
    kernels = compile_kernels(host_processor.model()).pack()
    try:
        return write(cache.directory() / cache.FILE, kernels)
    except OSError as problem:
        place = cache.instead(problem)
    try:
        return write(place / cache.FILE, kernels)
    except OSError as again:
        return cache.instead(again)  # raises


def _fill_in_another_process() -> Path:
    """This one has the uncompiled forms of everything that the compiler reads."""
    import subprocess

    place = cache.directory()
    environment = {**os.environ, "HYPERVISOR_KERNELS": "compiled", "HYPERVISOR_CACHE": str(place.parent)}
    command = [sys.executable, "-c", "from hypervisor.engine.compiling.compiler import fill; fill('asked to')"]
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise EngineError(f"The hooks for uncompiled kernels could not be compiled: {last[0]}.")
    return place / cache.FILE


def write(path: Path, data: bytes) -> Path:
    """Write a file at once, so that a second process never sees half of it. Raises `OSError`."""
    import tempfile

    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:  # a full disk is left as it was found
        os.unlink(name)
        raise
    return path


class Code:
    """The loaded machine code: addresses and callables by entry name."""

    def __init__(self) -> None:
        chosen = choose()
        if isinstance(chosen, str):
            path = fill(chosen)
            chosen = Chosen(unpack(cache.read(path)), path)
        linked = chosen.kernels.linked
        self._loaded = LoadedCode(linked.content, linked.own, linked.outside, linked.unwinding)
        self.address: dict[str, int] = {name: self._loaded.address + at for name, at in linked.entries.items()}
        self._linkers: list[Any] = []
        self.floating = chosen.kernels.floating
        self.token = ctypes.addressof(TOKEN)
        """What pCPUs take turns by at asking for the interpreter lock, 0 if they do not."""
        self.bodies: dict[int, int] = {}  # block words: uncompiled bodies of hooks
        self.call: dict[str, Any] = {
            name: c_function(signature, self.address[name]) for name, signature in chosen.kernels.signatures.items()
        }

    def compile_handler(self, function: Any, name: str) -> int:
        """The address of a user's compiled handler: ``handler(state, cpu, first, second, value) -> int``.

        All are 64-bit words. Raises `TrapError` when numba cannot compile it, with its ``name``.
        """
        import llvmlite.binding as llvm
        from numba.core.errors import NumbaError

        try:
            symbol, code = compile_function(function, "l(lllll)")
        except NumbaError as error:
            raise TrapError(f"handler {name!r} cannot be compiled: {error}") from error
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
        linker = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        linker.add_object_file(llvm.ObjectFileRef.from_data(code))
        linker.finalize_object()
        self._linkers.append(linker)
        address: int = linker.get_function_address(symbol)
        return address


@remember
def code() -> Code:
    """This process's machine code."""
    if os.environ.get("HYPERVISOR_KERNELS") == "plain":
        from hypervisor.engine.compiling.plain import PlainCode

        return PlainCode()
    return Code()
