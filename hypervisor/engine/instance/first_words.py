"""What kernels find in an instance's block from the beginning: addresses of functions and tables."""

from __future__ import annotations

import ctypes

from hypervisor.arch.exits import kinds_of_codes
from hypervisor.engine import block as b
from hypervisor.engine import costs
from hypervisor.engine.compiling.compiler import code
from hypervisor.engine.floating_point import media_opcodes
from hypervisor.engine.interposition.interpose import guard
from hypervisor.engine.interposition.native import native
from hypervisor.engine.tables import GuestTables
from hypervisor.memory import HostMemory
from hypervisor.memory.frames import address_of, mapping
from hypervisor.memory.map_words import GENERATIONS, MARKS, ONES

_OF_UNICORN = (
    (b.F_EMU_START, "uc_emu_start"),
    (b.F_EMU_STOP, "uc_emu_stop"),
    (b.F_REG_READ, "uc_reg_read"),
    (b.F_TLB_FLUSH, "tlb_flush_x86_64"),
    (b.F_TLB_FLUSH_PAGE, "tlb_flush_page_x86_64"),
    (b.F_LOOP_EXIT, "cpu_loop_exit_x86_64"),
    (b.F_LOOP_EXIT_RESTORE, "cpu_loop_exit_restore_x86_64"),
    (b.F_RESTORE_STATE, "cpu_restore_state_x86_64"),
    (b.F_TB_INVALIDATE, "tb_invalidate_phys_range_x86_64"),
    (b.F_TB_FLUSH, "tb_flush_x86_64"),
    (b.F_SET_PAGE, "tlb_set_page_x86_64"),
    (b.F_EACH_BLOCK, "tcg_tb_foreach_x86_64"),
    (b.F_DROP_BLOCK, "tb_phys_invalidate_x86_64"),
    (b.F_RDTSC, "helper_rdtsc_x86_64"),
    (b.F_RDTSCP, "helper_rdtscp_x86_64"),
    (b.F_WRITE_CR, "helper_write_crN_x86_64"),
    (b.F_LOOKUP, "helper_lookup_tb_ptr_x86_64"),
    (b.F_PROBE, "probe_access_x86_64"),
    (b.F_LOAD8, "cpu_ldub_mmuidx_ra_x86_64"),
    (b.F_STORE8, "cpu_stb_mmuidx_ra_x86_64"),
    (b.F_RAISE, "raise_exception_err_ra_x86_64"),
    (b.F_TCG_CALL, "tcg_gen_callN_x86_64"),
    (b.F_TCG_OP1, "tcg_gen_op1_x86_64"),
    (b.F_TCG_OP2, "tcg_gen_op2_x86_64"),
    (b.F_TCG_OP3, "tcg_gen_op3_x86_64"),
    (b.F_TCG_BRANCH, "tcg_gen_brcond_i64_x86_64"),
    (b.F_TCG_LABEL, "gen_new_label_x86_64"),
    (b.F_TCG_TEMP, "tcg_temp_new_internal_x86_64"),
    (b.F_TCG_FREE, "tcg_temp_free_internal_x86_64"),
    (b.F_ENTER_MMX, "helper_enter_mmx_x86_64"),
)
_KERNELS = (
    (b.F_WALK, "walk"),
    (b.F_TRANSLATE, "translate"),
    (b.F_WALK_AND_KEEP, "walk_and_keep"),
    (b.F_READ, "read_bytes"),
    (b.F_WRITE, "write_bytes"),
    (b.F_DELIVER, "deliver"),
    (b.F_DECODE, "decode"),
    (b.F_RUN, "run"),
    (b.F_OWN, "own"),
    (b.F_COVERED, "covered"),
    (b.F_REST_OF_FILL, "rest_of_fill"),
    (b.F_DROP_TRAPPED, "drop_trapped"),
    (b.F_READ_MMIO, "read_mmio"),
    (b.F_WRITE_MMIO, "write_mmio"),
)
_ACCESSES = (
    (b.F_LOAD16, "lduw"),
    (b.F_LOAD32, "ldl"),
    (b.F_LOAD64, "ldq"),
    (b.F_STORE16, "stw"),
    (b.F_STORE32, "stl"),
    (b.F_STORE64, "stq"),
)
"""Accesses of more than a byte, past what is put before Unicorn's (`hypervisor.engine.interposition.slow_path`)."""
_OF_LIBC = ((b.F_SELF, "pthread_self"), (b.F_CLOCK, "clock_gettime"), (b.F_MADVISE, "madvise"), (b.F_USLEEP, "usleep"))
_CONSTANTS = (
    (b.A20, -1), (b.ONES_PAGE, ONES), (b.EPOCH, 1), (b.FAULT, -1), (b.SKIP, -1), (b.NEXT, 1), (b.DEADLINE, 1),
    (b.SKIPS, 1), (b.DEVICE_PAGE, -1), *((b.WALKED_TABLES + 16 * level, -1) for level in range(b.WALKED_LEVELS)),
)  # fmt: skip


def put_first_words(words: memoryview[int], memory: HostMemory, nothing: GuestTables) -> list[object]:
    """Fill a block in which the addresses of the CPU are already. ``nothing`` are the tables of no VM. Returns what
    must live as long as the block.
    """

    def put(offset: int, value: int) -> None:
        words[offset >> 3] = value

    kernels, library, calls = code(), native(), guard()
    for offset, name in _OF_UNICORN:
        put(offset, library.address(name))
    for offset, name in _KERNELS:
        put(offset, kernels.address[name])
    for offset, name in _ACCESSES:
        put(offset, calls.access[f"cpu_{name}_mmuidx_ra_x86_64"])
    put(b.F_X87, calls.x87_execute)
    put(b.F_MISSED_BLOCK, calls.missed_block)
    put(b.F_MMX_READY, calls.mmx_ready)
    put(b.F_MMX_DONE, calls.mmx_done)
    libc = ctypes.CDLL(None)
    for offset, name in _OF_LIBC:
        put(offset, ctypes.cast(getattr(libc, name), ctypes.c_void_p).value or 0)
    put(b.TOKEN, kernels.token)
    media = ctypes.create_string_buffer(media_opcodes.table(), media_opcodes.SIZE)
    put(b.MEDIA_OPCODES, ctypes.addressof(media))
    put(b.RAM, memory.address)
    put(b.FRAMES, memory.table)
    put(b.GENERATIONS, memory.table_word(GENERATIONS))
    put(b.MARKS, memory.table_word(MARKS))
    notes = mapping(3 * memory.words_size)
    for n, word in enumerate((b.EXECUTABLE_AT, b.WRITABLE_AT, b.TRANSLATED)):
        put(word, address_of(notes) + n * memory.words_size)
    put(b.NOTES_SIZE, 2 * memory.words_size)
    shared = (ctypes.c_int64 * (b.SHARED_ROWS * b.SHARED_ROW >> 3))()
    put(b.SHARED_AT, ctypes.addressof(shared))
    to_ram = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)(
        library.address("qemu_ram_addr_from_host_x86_64")
    )
    put(b.RAM_ADDR, to_ram(words[b.UC >> 3], memory.address))
    for offset, value in (*_CONSTANTS, *nothing.words().items(), *kernels.bodies.items()):
        put(offset, value)
    for table, values in ((b.COSTS, costs.table()), (b.EXIT_KINDS, kinds_of_codes())):
        for n, value in enumerate(values):
            put(table + 8 * n, value)
    return [media, notes, shared, nothing]
