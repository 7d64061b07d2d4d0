"""Where Unicorn is not safe against a hostile guest, its own calls are led through ours.

The library calls its functions through a procedure linkage table, so a pointer there can be replaced. For safety:

- ``abort`` and ``exit`` leave the guest instead of ending the process (`emergency`), while a guest runs on the
  calling thread;
- ``tcg_temp_new_internal`` ends a block before the translator runs out of temporaries: it has 512 and does not check,
  and a block of several hundred instructions that each leak one writes beyond them;
- ``gen_intermediate_code`` translates at most `LONGEST_BLOCK` instructions at once, because a guest that jumps into the
  middle of nowhere again and again would otherwise make the host translate 512 for each that it runs. It also
  tells when the room for translated code comes to its end (`translated`), and ``cpu_loop_exit_noexc`` that a
  block which has stored into itself is gone on with;
- ``translator_loop`` gets another function for each instruction, one that refuses what the manual refuses
  (`kernels.translation.refused`), and ``tcg_gen_qemu_ld_i64`` and its like emit an operand that must be aligned as such
  (`kernels.translation.memory_operand`);
- ``cpu_ldub_code`` is how that function has SSE and MMX translated rightly: the bytes of an instruction are as it
  wants them seen (`kernels.translation.sse_and_mmx`);
- ``tlb_flush_by_mmuidx`` stops the TLB from growing (`kernels.tlb.tlb_entry`);
- ``tcg_gen_callN`` emits a call from generated code to a helper. Helpers in `CALLS` are left out there or replaced
  (`kernels.translation.calls`), which is not to be had through their own pointers: generated code calls them directly.

One more is slow for a reason that our way of filling the TLB removes (`kernels.tlb.fill`):

- ``tlb_reset_dirty_by_vaddr`` goes through the whole TLB after each translation, to make stores to the page slow again;
  no entry lets one store to a page with code at full speed, so it does nothing.

And these are wrong for a guest:

- BZHI and BEXTR are put right where the translator calls for their operations (`bit_code`).
- ``cpu_ldub_code`` reads a byte of an instruction for the translator: instructions that it would take for others are
  put right there (`kernels.translation.misread`).
- ``tcg_gen_addi_i64`` adds to RSP what a near RET releases, a number with a sign to Unicorn.
- ``gettimeofday`` is what the TLB's size is decided by, so which stale entries a guest sees would depend on the host's
  time. It stands still: the TLB grows and does not shrink.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from functools import cache as remember

from hypervisor.arch import vmexit_codes
from hypervisor.arch.flags import RFLAGS_RF, RFLAGS_VM
from hypervisor.engine import block as b
from hypervisor.engine import layout
from hypervisor.engine.compiling.compiler import code
from hypervisor.engine.floating_point.floating import NAMES as FLOATING
from hypervisor.engine.floating_point.floating import Floating
from hypervisor.engine.interposition import bit_code, slow_path
from hypervisor.engine.interposition.fatal_signals import LastWords
from hypervisor.engine.interposition.native import native
from hypervisor.engine.interposition.relocations import Relocations, writable
from hypervisor.errors import EngineError

LONGEST_BLOCK = 64
"""Instructions in a translation block."""

NEARLY_FULL = 256 << 10
"""Bytes of room for translated code with which a guest is left, so that it is emptied between two starts. Until the
next block begins at most two are translated, of less than 64 KiB each.
"""

_ENOUGH_TEMPS = 384  # of 512; no instruction needs a hundred
_ENOUGH_OPS = 4000  # nb_ops from which the translator ends a block
_CPU_ABORT_SIZE = 6  # cpu_abort is a push and a call
_ENDS = ("abort", "exit")
_RESET_DIRTY, _TIME = "tlb_reset_dirty_by_vaddr_x86_64", "gettimeofday"
_TEMP, _TRANSLATE = "tcg_temp_new_internal_x86_64", "gen_intermediate_code_x86_64"
_CALL = "tcg_gen_callN_x86_64"
_READ, _CONSTANT, _CHECK_PORT = "cpu_ldub_code_x86_64", "tcg_const_i32_x86_64", "helper_check_iob_x86_64"
_EMIT = tuple(f"tcg_gen_qemu_{way}_{kind}_x86_64" for way in ("ld", "st") for kind in ("i32", "i64"))
_LOOP = "translator_loop_x86_64"
_ORIGINAL, _OURS, _REFUSED = (layout.TRANSLATOR_OPS + 8 * n for n in range(3))
"""What stands behind our copy of the translator's functions: addresses of code."""

_FLUSH, _REPEAT = "tlb_flush_by_mmuidx_x86_64", "cpu_loop_exit_noexc_x86_64"
_ROOM = 128  # bytes for each piece of code

_IDIV = "helper_idivl_EAX_x86_64"
_MMX_OPERATIONS = ("pshufb pmaddubsw psignb psignw psignd pmulhrsw pabsb pabsw pabsd palignr").split()

_FIRST_TABLE_WRITE = vmexit_codes.IDTR_WRITE  # LIDT's; LGDT's is the next
_PORT_SIZES = {"b": 1, "w": 2, "l": 4}
_INTERCEPT = "helper_svm_check_intercept_param_x86_64"
_READ_FLAGS, _RF, _VM = "helper_read_eflags_x86_64", RFLAGS_RF, RFLAGS_VM
_ADD = "tcg_gen_addi_i64_x86_64"
_COMPUTE = "helper_cc_compute_all_x86_64"
_ROTATE = [f"helper_{name}{size}_x86_64" for name in ("rcl", "rcr") for size in "bwlq"]

_LOOKUP = "helper_lookup_tb_ptr_x86_64"

_AT_PLACE: dict[str, tuple[str, bytes]] = {
    f"helper_{helper}_x86_64": (ours, register)
    for helper, ours, register in (
        ("load_seg", "load_segment", b"\x48\x8b\x0c\x24"),  # mov rcx, [rsp]
        # mov edx, esi; xor esi, esi (or mov sil, 1); mov rcx, [rsp]
        ("lldt", "load_system_segment", b"\x89\xf2\x31\xf6\x48\x8b\x0c\x24"),
        ("ltr", "load_system_segment", b"\x89\xf2\x31\xf6\x40\xb6\x01\x48\x8b\x0c\x24"),
        ("ljmp_protected", "far_jump", b"\x4c\x8b\x04\x24"),  # mov r8, [rsp]
        ("lcall_protected", "far_call", b"\x4c\x8b\x0c\x24"),  # mov r9, [rsp]
        ("lret_protected", "far_return", b"\x48\x8b\x0c\x24"),
        ("iret_protected", "interrupt_return", b"\x48\x8b\x0c\x24"),
        ("iret_real", "real_interrupt_return", b"\x48\x8b\x14\x24"),  # mov rdx, [rsp]
        ("sysret", "leave_syscall", b"\x48\x8b\x14\x24"),
        ("sysexit", "leave_sysenter", b"\x48\x8b\x14\x24"),
    )
}
"""Helpers that are replaced by kernels which must know where they were called: by which, and how they are told."""

CALLS: dict[str, str | None] = {
    "helper_check_exit_request_x86_64": None,
    **{f"helper_{name}_xmm_x86_64": name for name in ("pcmpestrm", "pcmpestri", "pcmpistrm", "pcmpistri")},
    _IDIV: _IDIV,
    _COMPUTE: _COMPUTE,
    _READ_FLAGS: _READ_FLAGS,
    _INTERCEPT: _INTERCEPT,
    **{name: name for name in _ROTATE},
    **{name: name for name in (f"helper_{name}_mmx_x86_64" for name in _MMX_OPERATIONS)},
    "helper_rdtsc_x86_64": "rdtsc",
    "helper_rdtscp_x86_64": "rdtscp",
    "helper_write_crN_x86_64": "write_cr",
    **{name: name for name in (f"helper_{way}{size}_x86_64" for way in ("in", "out") for size in _PORT_SIZES)},
    **{name: name for name in _AT_PLACE},
    _LOOKUP: "next_block",
    "helper_reset_rf_x86_64": "reset_rf",
    **{name: name for name in FLOATING},
}
"""Helpers that our engines' generated code calls otherwise: what instead, by its name in `hooks` or
that of a piece of machine code below, or None for nothing.

- ``check_exit_request`` leaves a block at its start when ``uc_emu_stop`` has been called. Our guests are left by the
  block hook alone, which stands before it (`kernels.vmexit.run_loop`).
- The string compares of SSE4.2 read out of bounds (`kernels.instructions.string_compare`).
- ``idivl_EAX`` divides 64 bits by 32 with the host's IDIV, which faults for -2^63 / -1 as the guest's should: the
  process dies of SIGFPE. It gets the divisor 0 then, for which it raises #DE.
- ``read_eflags`` is PUSHF, which shows RF clear, and VM, too. (It also keeps the flags for code hooks, where VM stays.)
- ``lldt`` does not look at the upper half of its descriptor (`kernels.segments.load_segment`).
- ``cc_compute_all``, RCL and RCR leave a note of the flags (`kernels.stopping.lost_flags`).
- ``svm_check_intercept_param`` for CR0 is also the beginning of SMSW (`time_and_control`).
- The operations of SSSE3 on MMX registers take REX.R for a fourth bit of the register's number. Beyond MM7 lie other
  fields of the CPU state, MXCSR and XMM0 among them. The number has three bits (see `mmx_code` for the others).
- ``rdtsc`` and ``rdtscp`` are served in the middle of the block; ``write_crN`` takes its time (`in_place`).
- Floating point goes to the host's unit (`floating`).
- ``inb`` to ``outl`` would walk all hooks of instructions to find the one that serves them.
- Segment loads, far transfers and returns differ from the manual in many ways (`kernels.segments.load_segment`,
  `system_segments`, `far_branches`, `far_returns`, `syscalls`; docs/engine.md has the
  list).
- ``lookup_tb_ptr`` ends a block that jumps out of its page (`next_block`): where RIP is not canonical, the branch is
  undone. Behind STI or MOV SS it finds nothing, so that an interrupt which waits is taken there.
  ``reset_rf`` would clear RF behind an IRET that has just loaded it.
  ``svm_check_intercept_param`` stands before LGDT and LIDT, which must look at their base (`canonical`).
"""


def _jump(address: int) -> bytes:
    return b"\x48\xb8" + address.to_bytes(8, "little") + b"\xff\xe0"  # mov rax, address; jmp rax


class Guard:
    """The replaced pointers, the pieces of machine code behind them, and the table of running pCPUs."""

    one: int
    """The address of a function that returns 1, whatever it is given."""

    missed_block: int
    """The address of what looks for a block that `next_block` does not find."""

    access: dict[str, int]
    """Addresses of Unicorn's functions for accesses by helpers, as `slow_path` has them."""

    def __init__(self) -> None:
        unicorn = native()
        needed = frozenset(
            (
                _TEMP, _TRANSLATE, _LOOP, _RESET_DIRTY, _TIME, _CALL, _FLUSH, _REPEAT, _READ, _ADD,
                *bit_code.NAMES, *_EMIT,
            )
        )  # fmt: skip
        needed |= slow_path.CALLS
        relocations = Relocations(unicorn.library._handle)
        slots, table = relocations.calls(needed | frozenset(_ENDS)), relocations.data(slow_path.TABLE)
        missing = (needed | {"abort"}) - slots.keys() | slow_path.TABLE - table.keys()
        if missing:
            raise EngineError(
                f"This Unicorn does not call {', '.join(sorted(missing))} through its tables, so a guest "
                "could end the process. Install the wheel from PyPI: pip install --force-reinstall "
                f"unicorn=={layout.UNICORN_VERSIONS[-1]}."
            )
        process = ctypes.CDLL(None)
        self._first = b.GUARD_BLOCKS >> 3
        self._table = (ctypes.c_uint64 * (self._first + b.GUARD_SIZE))()
        for offset, function in ((b.GUARD_ABORT, process.abort), (b.GUARD_SELF, process.pthread_self)):
            self._table[offset >> 3] = ctypes.cast(function, ctypes.c_void_p).value or 0
        self._table[b.GUARD_CPU_ABORT >> 3] = unicorn.address("cpu_abort_x86_64") + _CPU_ABORT_SIZE
        self.signals = LastWords(ctypes.addressof(self._table))
        kernels = code()
        block_hooks = (
            kernels.address["block"],
            kernels.address["jump"],
            int(not kernels.bodies),
            kernels.address["note_block"],
        )
        first = (
            unicorn.address(_CALL), *block_hooks, unicorn.address(_READ_FLAGS), 0, unicorn.address(_LOOKUP), 0,
            len(CALLS),
        )  # fmt: skip
        self._calls = (ctypes.c_uint64 * (2 * len(CALLS) + len(first)))(*first)
        self._translator = (ctypes.c_uint64 * ((layout.TRANSLATOR_OPS >> 3) + 3))()
        self._reading = (ctypes.c_uint64 * 4)()
        translator = struct.pack("<Q", ctypes.addressof(self._translator))
        copies = [(n, _ORIGINAL if n == layout.TRANSLATE_INSN else n) for n in range(0, layout.TRANSLATOR_OPS, 8)]
        pieces = {
            "one": b"\xb8\x01\x00\x00\x00\xc3",  # mov eax, 1; ret
            # mov rdi, table; mov rsi, [rsp]
            "abort": b"\x48\xbf" + struct.pack("<Q", ctypes.addressof(self._table)) + b"\x48\x8b\x34\x24"
            + _jump(code().address["aborted"]),
            # mov rcx, table
            "signal": b"\x48\xb9" + struct.pack("<Q", self.signals.address) + _jump(code().address["on_signal"]),
            # cmp dword [rdi + nb_temps], enough; jb over; mov dword [rdi + nb_ops], enough; over:
            _TEMP: struct.pack("<BBBI", 0x81, 0x7F, layout.TCG_NB_TEMPS, _ENOUGH_TEMPS) + b"\x72\x07"
            + struct.pack("<BBBI", 0xC7, 0x47, layout.TCG_NB_OPS, _ENOUGH_OPS) + _jump(unicorn.address(_TEMP)),
            # cmp edx, longest; jbe over; mov edx, longest; over:
            # mov rax, [rdi + uc]; mov rax, [rax + tcg context]; mov rax, [rax + limit]; sub rax, rsi; cmp rax, enough
            # jge room; push rdi, rsi, rdx; mov rsi, rdi; mov rdi, table; mov rax, ours; call rax; pop rdx, rsi, rdi
            # room:
            _TRANSLATE: struct.pack("<BBIBBBI", 0x81, 0xFA, LONGEST_BLOCK, 0x76, 5, 0xBA, LONGEST_BLOCK)
            + b"\x48\x8b\x87" + struct.pack("<I", layout.CPU_UC)
            + b"\x48\x8b\x80" + struct.pack("<I", layout.UC_TCG_CONTEXT)
            + b"\x48\x8b\x80" + struct.pack("<I", layout.TCG_CODE_LIMIT) + b"\x48\x29\xf0"
            + b"\x48\x3d" + struct.pack("<I", NEARLY_FULL) + b"\x7d\x1f\x57\x56\x52\x48\x89\xfe"
            + b"\x48\xbf" + struct.pack("<Q", ctypes.addressof(self._table))
            + b"\x48\xb8" + struct.pack("<Q", code().address["full"]) + b"\xff\xd0\x5a\x5e\x5f"
            + _jump(unicorn.address(_TRANSLATE)),
            # mov r11, copy; mov rax, [rdi + n]; mov [r11 + m], rax; and so on;
            # mov rax, [r11 + ours]; mov [r11 + n], rax; mov rdi, r11
            _LOOP: b"\x49\xbb" + translator
            + b"".join(bytes((0x48, 0x8B, 0x47, n, 0x49, 0x89, 0x43, m)) for n, m in copies)
            + bytes((0x49, 0x8B, 0x43, _OURS, 0x49, 0x89, 0x43, layout.TRANSLATE_INSN)) + b"\x4c\x89\xdf"
            + _jump(unicorn.address(_LOOP)),
            # push rdi, rsi; sub rsp, 8; mov rax, refuses; call rax; add rsp, 8; pop rsi, rdi; mov ecx, eax
            # test ecx, ecx; mov rax, copy; jne over; jmp [rax + original]; over: jns known; jmp [rax + refused]
            # known: cmp ecx, 1; jne media; ret; media: push rdi, rsi; sub rsp, 8; call [rax + original]; add rsp, 8
            # pop rsi, rdi; jump to done
            "instruction": b"\x57\x56\x48\x83\xec\x08\x48\xb8" + struct.pack("<Q", code().address["refuses"])
            + b"\xff\xd0\x48\x83\xc4\x08\x5e\x5f\x89\xc1\x85\xc9\x48\xb8" + translator
            + bytes((0x75, 3, 0xFF, 0x60, _ORIGINAL, 0x79, 3, 0xFF, 0x60, _REFUSED))
            + b"\x83\xf9\x01\x75\x01\xc3\x57\x56\x48\x83\xec\x08" + bytes((0xFF, 0x50, _ORIGINAL))
            + b"\x48\x83\xc4\x08\x5e\x5f" + _jump(code().address["media_done"]),
            # mov rdx, original; jump to ours
            _FLUSH: b"\x48\xba" + struct.pack("<Q", unicorn.address(_FLUSH)) + _jump(code().address["flush_indexes"]),
            # push rdi; mov rsi, rdi; mov rdi, table; mov rax, ours; call rax; pop rdi
            _REPEAT: b"\x57\x48\x89\xfe\x48\xbf" + struct.pack("<Q", ctypes.addressof(self._table))
            + b"\x48\xb8" + struct.pack("<Q", code().address["repeats"]) + b"\xff\xd0\x5f"
            + _jump(unicorn.address(_REPEAT)),
            _CALL: b"\x49\xb9" + struct.pack("<Q", ctypes.addressof(self._calls))  # mov r9, calls
            + _jump(code().address["emit_call"]),
            _RESET_DIRTY: b"\xc3",  # ret
            # xor eax, eax; mov [rdi], rax; mov [rdi + 8], rax; ret
            _TIME: b"\x31\xc0\x48\x89\x07\x48\x89\x47\x08\xc3",
            # cmp esi, -1; jne over; cmp dword [rdi + edx], 1 << 31; jne over; cmp dword [rdi + eax], 0; jne over;
            # xor esi, esi; over:
            _IDIV: b"\x83\xfe\xff\x75\x11\x81\x7f" + struct.pack("<BI", layout.REGS + 16, 1 << 31) + b"\x75\x08"
            + b"\x83\x7f" + struct.pack("<BBH", layout.REGS, 0, 0x0275) + b"\x31\xf6" + _jump(unicorn.address(_IDIV)),
        }  # fmt: skip
        addresses = code().address
        for name in _EMIT:  # mov r9, original; jump to ours
            pieces[name] = b"\x49\xb9" + struct.pack("<Q", unicorn.address(name)) + _jump(addresses["emit_access"])
        pieces |= slow_path.pieces(unicorn.address, addresses["load_misaligned"], addresses["store_misaligned"])
        beyond, registers = layout.FPREGS + layout.FPREG_SIZE * 8, layout.FPREG_SIZE * 8
        for name in (f"helper_{name}_mmx_x86_64" for name in _MMX_OPERATIONS):
            # lea rax, [rsi - beyond]; sub rax, rdi; cmp rax, registers; jae over; sub rsi, registers; over:
            pieces[name] = (
                b"\x48\x8d\x86" + struct.pack("<i", -beyond) + b"\x48\x29\xf8\x48\x3d" + struct.pack("<I", registers)
                + b"\x73\x07\x48\x81\xee" + struct.pack("<I", registers) + _jump(unicorn.address(name))
            )  # fmt: skip
        # mov rcx, [env + block]; mov [rcx + flags], rax; mov rax, [rcx + now]; mov [rcx + flags at], rax;
        # mov rax, [rsp]; mov [rcx + flags by], rax
        note = (
            struct.pack("<i", layout.CPU_OPAQUE - layout.CPU_TO_ENV)
            + b"\x48\x89\x81" + struct.pack("<I", b.FLAGS) + b"\x48\x8b\x81" + struct.pack("<I", b.NOW)
            + b"\x48\x89\x81" + struct.pack("<I", b.FLAGS_AT) + b"\x48\x8b\x04\x24"
            + b"\x48\x89\x81" + struct.pack("<I", b.FLAGS_BY)
        )  # fmt: skip
        # sub rsp, 8; mov rax, original; call rax; add rsp, 8; mov rdx, rax; rcx from rbp, where generated code has the
        # CPU state; note; mov rax, rdx; ret
        pieces[_COMPUTE] = (
            b"\x48\x83\xec\x08\x48\xb8" + struct.pack("<Q", unicorn.address(_COMPUTE)) + b"\xff\xd0"
            + b"\x48\x83\xc4\x08\x48\x89\xc2\x48\x8b\x8d" + note + b"\x48\x89\xd0\xc3"
        )  # fmt: skip
        # test esi, esi (exit code 0: CR0 is read); jne over; push rdi, rsi, rdx; mov rax, ours; call rax;
        # pop rdx, rsi, rdi; over: lea eax, [rsi - first]; cmp eax, 1; ja original; push rdi, rsi, rdx
        # mov rdx, [rsp + 24]; mov rax, ours; call rax; pop rdx, rsi, rdi; original:
        pieces[_INTERCEPT] = (
            b"\x85\xf6\x75\x12\x57\x56\x52\x48\xb8" + struct.pack("<Q", code().address["read_cr0"])
            + b"\xff\xd0\x5a\x5e\x5f"
            + b"\x8d\x46" + struct.pack("<b", -_FIRST_TABLE_WRITE) + b"\x83\xf8\x01\x77\x17\x57\x56\x52"
            + b"\x48\x8b\x54\x24\x18"
            + b"\x48\xb8" + struct.pack("<Q", code().address["load_table"]) + b"\xff\xd0\x5a\x5e\x5f"
            + _jump(unicorn.address(_INTERCEPT))
        )  # fmt: skip
        for name, hidden in ((_READ_FLAGS, _RF), ("pushf", _RF | _VM)):
            # sub rsp, 8; mov rax, original; call rax; and rax, ~hidden; add rsp, 8; ret
            pieces[name] = (
                b"\x48\x83\xec\x08\x48\xb8" + struct.pack("<Q", unicorn.address(_READ_FLAGS))
                + b"\xff\xd0\x48\x25" + struct.pack("<i", ~hidden) + b"\x48\x83\xc4\x08\xc3"
            )  # fmt: skip
        for name in _ROTATE:  # mov rax, [rdi + flags]; rcx from rdi; note
            pieces[name] = (
                b"\x48\x8b\x87" + struct.pack("<I", layout.CC_SRC) + b"\x48\x8b\x8f" + note
                + _jump(unicorn.address(name))
            )  # fmt: skip
        for letter, size in _PORT_SIZES.items():
            # mov esi, esi; mov edx, size; mov rcx, [rsp], where the call came from
            pieces[f"helper_in{letter}_x86_64"] = (
                b"\x89\xf6\xba" + struct.pack("<I", size) + b"\x48\x8b\x0c\x24" + _jump(code().address["read_port"])
            )
            # mov esi, esi; mov edx, edx; mov ecx, size; mov r8, [rsp]
            pieces[f"helper_out{letter}_x86_64"] = (
                b"\x89\xf6\x89\xd2\xb9" + struct.pack("<I", size) + b"\x4c\x8b\x04\x24"
                + _jump(code().address["write_port"])
            )  # fmt: skip
        # mov rax, [rdi + eip]; sar rax, 47; inc rax; cmp rax, 1; jbe over; mov rsi, [rsp]; jump to ours; over:
        pieces[_LOOKUP] = (
            b"\x48\x8b\x87" + struct.pack("<I", layout.EIP) + b"\x48\xc1\xf8\x2f\x48\xff\xc0\x48\x83\xf8\x01\x76\x10"
            + b"\x48\x8b\x34\x24" + _jump(code().address["branch"]) + _jump(unicorn.address(_LOOKUP))
        )  # fmt: skip
        # the same look at RIP; over: mov rax, [rdi + uc]; mov rax, [rax + context]; mov rax, [rax + epilogue]; ret
        pieces["shadow_ends"] = (
            b"\x48\x8b\x87" + struct.pack("<I", layout.EIP) + b"\x48\xc1\xf8\x2f\x48\xff\xc0\x48\x83\xf8\x01\x76\x10"
            + b"\x48\x8b\x34\x24" + _jump(code().address["branch"])
            + b"\x48\x8b\x87" + struct.pack("<i", layout.CPU_UC - layout.CPU_TO_ENV)
            + b"\x48\x8b\x80" + struct.pack("<I", layout.UC_TCG_CONTEXT)
            + b"\x48\x8b\x80" + struct.pack("<I", layout.TCG_EPILOGUE) + b"\xc3"
        )  # fmt: skip
        for name, (ours, tell) in _AT_PLACE.items():
            pieces[name] = tell + _jump(code().address[ours])
        pieces |= bit_code.pieces(unicorn.address, _jump)
        # push rdi, rsi; sub rsp, 8; mov rax, original; call rax; add rsp, 8; pop rsi, rdi; mov rcx, [rdi + block]
        # test rcx, rcx; je end; mov rdx, rsi; sub rdx, [rcx + altered at]; cmp rdx, 15; ja next
        # xor al, [rcx + rdx + altered]; next: cmp rsi, [rcx + misread at]; jne end; mov edx, eax; mov rcx, table
        # jump to ours; end: ret
        pieces[_READ] = (
            b"\x57\x56\x48\x83\xec\x08\x48\xb8" + struct.pack("<Q", unicorn.address(_READ))
            + b"\xff\xd0\x48\x83\xc4\x08\x5e\x5f\x48\x8b\x8f" + struct.pack("<i", layout.CPU_OPAQUE - layout.CPU_TO_ENV)
            + b"\x48\x85\xc9\x74\x38\x48\x89\xf2\x48\x2b\x91" + struct.pack("<I", b.ALTERED_AT)
            + b"\x48\x83\xfa\x0f\x77\x07\x32\x84\x11" + struct.pack("<I", b.ALTERED)
            + b"\x48\x3b\xb1" + struct.pack("<I", b.MISREAD_AT) + b"\x75\x18\x89\xc2"
            + b"\x48\xb9" + struct.pack("<Q", ctypes.addressof(self._reading)) + _jump(code().address["read_code"])
            + b"\xc3"
        )  # fmt: skip
        # add rcx, [rdi + released]
        pieces[_ADD] = b"\x48\x03\x8f" + struct.pack("<I", layout.TCG_RELEASED) + _jump(unicorn.address(_ADD))
        # mov rdx, [rsp]; jump to ours
        pieces[_CHECK_PORT] = b"\x48\x8b\x14\x24" + _jump(code().address["check_port"])
        self._page = mmap.mmap(-1, _ROOM * len(pieces), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        where = {}
        for n, (name, piece) in enumerate(pieces.items()):
            self._page[n * _ROOM : n * _ROOM + len(piece)] = piece
            where[name] = start + n * _ROOM
        self.one = where["one"]
        self.missed_block = where[_LOOKUP]
        self._translator[_OURS >> 3], self._translator[_REFUSED >> 3] = where["instruction"], where["abort"]
        for n, address in enumerate((*map(unicorn.address, (_CONSTANT, _CALL, _CHECK_PORT)), where[_CHECK_PORT])):
            self._reading[n] = address
        floating = Floating(code().floating, code().address, unicorn.address)
        self.x87_execute, self.mmx_done = floating.x87_execute, floating.mmx_done
        self.mmx_ready = floating.address["helper_enter_mmx_x86_64"]
        self._keep = floating
        where |= floating.address
        self._calls[6], self._calls[8] = where["pushf"], where["shadow_ends"]
        helpers = sorted((unicorn.address(name), entry) for name, entry in CALLS.items())
        for n, (address, entry) in enumerate(helpers):
            self._calls[len(first) + 2 * n] = address
            self._calls[len(first) + 2 * n + 1] = 0 if entry is None else where.get(entry) or code().address[entry]
        self.access = {name: where[name] for name in slow_path.CALLS}
        with writable(list(table.values())):
            for slot, at in (*slots.items(), *table.items()):
                ctypes.c_uint64.from_address(at).value = where["abort" if slot in _ENDS else slot]
        self.signals.install(where["signal"])

    def add(self, block: int) -> None:
        """Guard the pCPU with this block."""
        for n in range(self._first, len(self._table)):
            if not self._table[n]:
                self._table[n] = block
                return
        raise EngineError(f"A process has at most {b.GUARD_SIZE} physical CPUs. Close a host.")

    def remove(self, block: int) -> None:
        """The pCPU with this block is gone."""
        for n in range(self._first, len(self._table)):
            if self._table[n] == block:
                self._table[n] = 0


@remember
def guard() -> Guard:
    """This process's guard."""
    return Guard()
