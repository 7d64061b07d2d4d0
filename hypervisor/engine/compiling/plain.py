"""The kernels uncompiled: ``HYPERVISOR_KERNELS=plain`` runs them as the Python functions that they are.

Much slower, with the same results: the specification that the compiled form is tested against. Only the thin steps from
C into Python are compiled (see `trampolines`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from hypervisor.arch.exits import ExitKind
from hypervisor.engine import block as b
from hypervisor.engine.compiling.compiler import Code
from hypervisor.engine.kernels import by_pointer, polling
from hypervisor.engine.kernels.instructions import decode, syscalls
from hypervisor.engine.kernels.memory import (
    access,
    frame_table,
    freezing,
    gate,
    guest_tlb,
    merging,
    notes,
    packed_tlb,
    page_walk,
    supervisor,
    swapping,
)
from hypervisor.engine.kernels.repeating import short_cases
from hypervisor.engine.kernels.segments import canonical, far_branches, far_returns, load_segment, system_segments
from hypervisor.engine.kernels.stopping import rest_of_block
from hypervisor.engine.kernels.tlb import fill
from hypervisor.engine.kernels.translation import misread
from hypervisor.engine.kernels.vmexit import (
    events,
    io,
    on_vmexit,
    raising,
    run_loop,
    switch,
    time_and_control,
    time_stamp,
    token,
    translated,
)

_PREFIX = "plain_"
_BODIES: dict[str, tuple[Callable[..., Any], int]] = {
    "interrupt": (on_vmexit.on_exit, 2),
    "port_in": (io.port_in, 3),
    "port_out": (io.port_out, 4),
    "syscall": (syscalls.on_syscall, 1),
    "sysenter": (syscalls.on_sysenter, 1),
    "mmio_read": (io.mmio_read, 3),
    "mmio_write": (io.mmio_write, 4),
    "tlb": (fill.fill, 5),
    "block": (run_loop.on_block, 3),
    "code": (run_loop.on_code, 2),
    "jump": (run_loop.on_jump, 3),
    "read_time": (time_and_control.read_time, 3),
    "write_control": (time_and_control.write_control, 2),
    "load_segment": (load_segment.load_segment, 3),
    "far_jump": (far_branches.far_jump, 4),
    "far_call": (far_branches.far_call, 5),
    "far_return": (far_returns.far_return, 3),
    "interrupt_return": (far_returns.interrupt_return, 3),
    "real_interrupt_return": (far_returns.real_interrupt_return, 2),
    "leave_syscall": (syscalls.leave_syscall, 2),
    "leave_sysenter": (syscalls.leave_sysenter, 2),
    "refused_branch": (canonical.refused_branch, 1),
    "check_table": (canonical.check_table, 2),
    "check_port": (misread.check_port, 3),
    "load_system_segment": (system_segments.load_system_segment, 3),
}
"""The hooks' bodies and how many words they take."""

_CALLS: dict[str, Callable[..., Any]] = {
    "run": run_loop.run,
    "repeat": short_cases.repeat,
    "begin_case": short_cases.begin,
    "event": lambda p, vector, error, kind, rip: raising.raise_event(p, vector, error, kind, rip, 0),
    "exception": lambda p, vector, error: raising.raise_exception(p, vector, error, 0),
    "complete": lambda p, length: raising.complete(p, length, 0),
    "enter_syscall": lambda p, length: syscalls.enter_syscall(p, length, 0),
    "enter_sysenter": lambda p, length: syscalls.enter_sysenter(p, length, 0),
    "sync": access.sync_hflags,
    "flush": access.flush_tlb,
    "flush_guest": guest_tlb.flush_all,
    "in_block": rest_of_block.in_block,
    "forget_code": translated.forget_code,
    "retranslate": translated.retranslate,
    "written": notes.written,
    "own": gate.own,
    "covered": access.covered,
    "rest_of_fill": fill.rest_of_fill,
    "take_frame": frame_table.take,
    "trim_frames": frame_table.trim,
    "own_frame": frame_table.own,
    "own_frames": frame_table.own_several,
    "lay_pages": frame_table.lay,
    "clear_pages": frame_table.clear,
    "add_leaf": frame_table.add_leaf,
    "remove_leaf": frame_table.remove_leaf,
    "release_zones": frame_table.release,
    "freeze_map": freezing.freeze,
    "adopt_zones": freezing.adopt,
    "put_back_zones": freezing.put_back,
    "drop_leaves": freezing.drop,
    "keep_frames": frame_table.keep_for,
    "merge_zone": merging.merge_zone,
    "prune_merged": merging.prune,
    "pick_pages": swapping.pick,
    "swap_pages": swapping.swap,
    "drop_slots": swapping.drop_slots,
    "pack_tlb": packed_tlb.pack,
    "unpack_tlb": packed_tlb.unpack,
    "poll": polling.poll,
    "save": switch.save,
    "load": switch.load,
    "clock": time_stamp.clock,
    "spin": lambda p: time_stamp.spin(p, 0),
    "let_go": token.let_go,
    "walk": page_walk.walk,
    "translate": guest_tlb.translate,
    "walk_and_keep": guest_tlb.walk_and_keep,
    "read_bytes": supervisor.read_bytes,
    "write_bytes": supervisor.write_bytes,
    "deliver": events.deliver,
    "decode": decode.decode,
}
"""What the pCPU calls from outside, as `hooks.ENTRIES`."""

by_pointer.register(
    {
        name: _CALLS[name]
        for name in (
            "walk",
            "translate",
            "walk_and_keep",
            "read_bytes",
            "write_bytes",
            "deliver",
            "decode",
            "run",
            "own",
            "covered",
            "rest_of_fill",
        )
    }
)


class PlainCode(Code):
    """`compiler.Code` without machine code, but for the trampolines."""

    def __init__(self) -> None:
        super().__init__()
        self.token = 0  # kernels have the interpreter lock while they run: who waited for the token would keep it
        self._failure: BaseException | None = None
        self._keep: list[Any] = []
        self.bodies = {b.PLAIN + 8 * n: self._callback(self._guarded(*_BODIES[name])) for n, name in enumerate(b.HOOKS)}
        machine_code = self.address
        self.address = {
            name: machine_code.get(_PREFIX + name, address)
            for name, address in machine_code.items()
            if not name.startswith(_PREFIX)
        }
        self.call = {name: self._checked(function) for name, function in _CALLS.items()}

    def compile_handler(self, function: Any, name: str) -> int:
        """The address of a user's handler, which stays a Python function."""
        return self._callback((function, 5))

    def _callback(self, body: tuple[Callable[..., Any], int]) -> int:
        function, words = body
        pointer = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * words)(function)
        self._keep.append(pointer)
        return ctypes.cast(pointer, ctypes.c_void_p).value or 0

    def _guarded(self, function: Callable[..., Any], words: int) -> tuple[Callable[..., int], int]:
        """A body whose exception ends the run instead of vanishing in C."""

        def body(p: int, *arguments: int) -> int:
            try:
                return int(function(p, *arguments) or 0)
            except BaseException as problem:
                self._failure = problem
                ctypes.c_int64.from_address(p + b.X_KIND).value = ExitKind.FAILED
                stop = ctypes.c_uint64.from_address(p + b.F_EMU_STOP).value
                ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64)(stop)(ctypes.c_uint64.from_address(p + b.UC).value)
                return 0

        return body, words

    def _checked(self, function: Callable[..., Any]) -> Callable[..., int]:
        def call(p: int, *arguments: int) -> int:
            result = int(function(p, *arguments) or 0)
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            return result

        return call
