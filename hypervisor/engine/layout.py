"""Where the CPU state lies inside the loaded Unicorn library: one table, proved at start-up by `selftest`.

Unicorn's API does not offer the hidden parts of segments, the current privilege level, the pending exit or the
intercepts, so they are reached at offsets. Every offset is here, in bytes, with its meaning; nothing outside
``engine/`` knows one. The table is keyed by platform and build, so that another platform is a row and not a rewrite.

Field names are QEMU's (``CPUX86State``, ``CPUState``), QEMU 5.0.1 inside Unicorn 2.1.4.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass

# --- CPUTLBCommon, before the CPU state: which of Unicorn's TLBs have entries; statistics, from env -------------------
TLB_DIRTY = -2192  # 16 bits: MMU indexes with entries since their last flush, which leaves out the others
TLB_FULL_FLUSHES = -2184
TLB_PART_FLUSHES = -2176
TLB_ELIDED_FLUSHES = -2168  # each call of tlb_flush adds to at least one of the three

# --- CPUTLBDesc, before the CPU state: bookkeeping for each MMU index, from env ---------------------------------------
TLB_SLOW = -2160
TLB_SLOW_SIZE = 696
TLB_WINDOW_MOST = 24  # the most entries that were used at once, which decides whether the next flush doubles the TLB
TLB_USED = 32
TLB_VICTIM_NEXT = 40  # how many entries have gone to the victims since the last flush
TLB_VICTIMS, VICTIMS = 48, 8  # entries that others have displaced, in turn
TLB_VICTIM_DEVICES, TLB_DEVICES = 560, 688  # what stands beside each of them; the address of the same for the fast part
TLB_DEVICE_SIZE = 16  # which region's a device's page is
TLB_INDEXES = 3

# --- CPUTLB, before the CPU state: descriptors (mask, table) of the fast part, by MMU index, from env -----------------
TLB_FAST = -64
TLB_FAST_SIZE = 16
TLB_ENTRY_SHIFT = 6  # an entry is 64 bytes: addr_read, addr_write, addr_code, paddr, addend
TLB_ADDR_WRITE = 8
TLB_ADDR_CODE = 16
TLB_PADDR = 24  # the page's host-physical address
TLB_ADDEND = 32  # what to add to a linear address to reach it in this process
TLB_INVALID = 1 << 11  # in each of the first three: not to be used
TLB_NOTDIRTY = 1 << 10  # in addr_write: the next store takes the slow path, to look for translated code
TLB_MMIO = 1 << 9  # in addr_read and addr_write: no memory

# --- CPUX86State, the architectural state ("env"), LP64 ---------------------------------------------------------------
REGS = 0  # 16 x 8, in the order of their numbers
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(REGS, REGS + 64, 8)
R8, R9, R10, R11, R12, R13, R14, R15 = range(REGS + 64, REGS + 128, 8)
EIP = 128
EFLAGS = 136  # without the arithmetic flags and DF while code runs; complete outside uc_emu_start
CC_SRC = 152
CC_OP = 168  # how the arithmetic flags are derived; 1 = they are in CC_SRC
DF = 172  # +1 or -1
HFLAGS = 176
SEGS = 184  # ES CS SS DS FS GS, 24 bytes each
LDT = 328
TR = 352
GDT = 376
IDT = 400
CR = 424  # CR0..CR8, 8 bytes each
CR0, CR2, CR3, CR4 = CR, CR + 16, CR + 24, CR + 32
EFER = 592
FPSTT = 604  # which of the eight is ST(0)
FPUS = 608  # the status word without TOP
FPUC = 610
FPTAGS = 612  # a byte for each of the eight: 1 = empty
FPREGS = 624  # 8 x 16, in the order of the hardware's registers
FPREG_SIZE = 16
FPCS, FPDS = 754, 756  # selectors of the last x87 instruction and of its operand in memory
FPIP, FPDP = 760, 768  # their offsets
FT0 = 784  # the second operand of an x87 instruction
X87_UNUSUAL, X87_SOURCE = 794, 795  # ours, behind it: see `x87_code`
MXCSR = 816
XMM = 824  # 32 x 64
MMX_T0 = 2936  # a memory operand of MMX
X87_RAW = MMX_T0  # ours, while an x87 instruction is carried out: its memory operand; 10 bytes, of which two lie behind
SYSENTER_CS = 4800
SYSENTER_ESP = 4808
SYSENTER_EIP = 4816
STAR = 4824
VM_HSAVE = 4832
LSTAR = 4840
CSTAR = 4848
FMASK = 4856
KERNEL_GS_BASE = 4864
TSC_AUX = 4896
XCR0 = 4904
PAT = 5280
ERROR_CODE = 5384
DR = 5400  # DR0..DR7
DR6 = DR + 48
INTERCEPT = 5520
INTERCEPT_CR_READ = 5528
INTERCEPT_CR_WRITE = 5530
STATE_SIZE = 5568  # end_reset_fields: what a context switch saves
FEATURES = 5632  # 64-bit words: 1.EDX 1.ECX 7.0.EBX ...
ENV_UC = 7000

# A segment (SegmentCache): the descriptor's high word is kept in FLAGS as it stands in memory.
SEG_SELECTOR = 0
SEG_BASE = 8
SEG_LIMIT = 16
SEG_FLAGS = 20
SEG_SIZE = 24
SEG_ACCESSED, SEG_EXPAND_DOWN, SEG_CONFORMING, SEG_CODE = 1 << 8, 1 << 10, 1 << 10, 1 << 11  # of FLAGS
SEG_DPL_SHIFT, SEG_LONG, SEG_BIG = 13, 1 << 21, 1 << 22
ES, CS, SS, DS, FS, GS = range(6)

# --- CPUState ("cpu") -------------------------------------------------------------------------------------------------
CPU_CFLAGS_NEXT_TB = 24  # flags of the next block only; the low 15 bits bound its instructions
CPU_INTERRUPT_REQUEST = 28
CPU_INTERRUPT_VIRQ = 1 << 8  # of its bits: see the interrupt flag of the guest
CPU_ENV = 296
CPU_JUMP_CACHE, JUMP_CACHE_BITS = 312, 12  # addresses of translated blocks, by a hash of where in the guest they are
CPU_OPAQUE = 33136  # nobody's: the address of our block
CPU_MEM_IO_PC = 33144  # where in generated code a device access was made
CPU_TRACED = 33160  # trace_dstate: blocks are kept apart by it, and nobody else uses it
CPU_UC = 33192
CPU_CLASS, CLASS_TLB_FILL = 33200, 72  # CPUClass, the CPU's functions, and what it calls at each TLB miss
DISAS_PC_FIRST, DISAS_PC_NEXT = 8, 16  # of the translator's context: the block's address, and the instruction's
DISAS_IS_JMP, DISAS_TOO_MANY = 24, 1  # ... and what ends the block before it
DISAS_PREFIX, PREFIX_DATA = 0x2C, 8  # the instruction's prefixes, and 66h among them
DISAS_OPERAND, MO_16, MO_64 = 0x34, 1, 3  # its operand size
DISAS_CC_OP, DISAS_CC_OP_DIRTY = 0x74, 0x7C  # how the arithmetic flags are derived, and whether CC_OP lags behind
DISAS_FLAGS, TB_FLAGS = 0xA8, 16  # hidden flags and EFLAGS that the block is for: a copy, and those of the block itself
TB_PC, TB_CS_BASE, TB_SIZE, TB_CFLAGS, TB_CODE = 0, 8, 20, 24, 32  # of a translated block: for which address; its code
TB_GONE = 0x0005_0000  # of CFLAGS: it is no longer valid, or was executed once and is in no list
TB_SPECIAL = 0x000E_FFFF  # of CFLAGS: it is no longer valid, of a bounded length, or counts its instructions
DISAS_A0, DISAS_T0 = 0xD8, 0xE0  # the temporaries of an address and of an operand
DISAS_UC = 0x1F0
TRANSLATE_INSN = 32  # of the translator's table of functions
TRANSLATOR_OPS = 56  # its size
CPU_TO_ENV = 35408

# --- uc_struct --------------------------------------------------------------------------------------------------------
UC_CPU = 440
UC_TCG_CONTEXT = 768
UC_NO_EXIT_REQUEST = 2034

# --- TCGContext -------------------------------------------------------------------------------------------------------
TCG_NB_TEMPS = 48
TCG_NB_OPS = 56
TCG_CFLAGS, CF_COUNT = 100, 0x7FFF  # flags of the block that is translated; of them, the instructions that bound it
TCG_LAST_OP = 0x7390  # end of the list of operations: points to the last one's `OP_NEXT`
TCG_ENV = 0x98F0  # the temporary that is the CPU state
TCG_UC = 0x9970
TCG_CC_SRC = 0x9980  # the temporary of what the arithmetic flags are derived from
TCG_CC_OP = 0x9990  # the temporary of CC_OP
TCG_UNUSED = 0x9CD8  # a word that another target's translator uses
TCG_OPERAND = 0x9CE0  # another: what holds for the operand of the instruction being translated, see `memory_operand`
TCG_EBP = 0x99C0  # the temporary of RBP
TCG_BEXTR, TCG_PUSHF, TCG_RELEASED, TCG_PDEP, TCG_ENTER = range(0x9CE8, 0x9D10, 8)  # and more of them
TCG_EPILOGUE = 152  # the code that returns to the loop which executes blocks
TCG_BUFFER, TCG_BUFFER_SIZE = 168, 176  # the mapping for generated code
TCG_CODE_NEXT = 192  # where the next block goes
TCG_CODE_LIMIT = 208  # a block that begins above it empties the buffer
TCG_LAST = 16 << 10  # bytes at the end of the room in which no block is to begin: Unicorn's reserve, and a guard page

# --- operations of TCG ------------------------------------------------------------------------------------------------
OP_DISCARD, OP_SET_LABEL = 0, 1
OP_MOVI_I32, OP_MOVI_I64 = 6, 64  # a constant of so many bits
OP_LD_I64, OP_ST_I64, OP_ADD_I64 = 73, 77, 78
OP_LD8U_I64, OP_ST8_I64, OP_XOR_I64 = 67, 74, 89
OP_EXTU_I32_I64 = 100  # zero extension
COND_LT, COND_EQ = 2, 8  # of a branch: less, of signed numbers; equal
TYPE_I64 = 1  # of a temporary
LABEL_PRESENT = 1  # in the first byte of a label that has been set

# --- TCGOp, from its pointer to the next operation, which `TCG_LAST_OP` points to -------------------------------------
OP_CODE = -8  # which operation it is, a byte
OP_COUNTS = -7  # of a call: results << 4 | arguments
OP_BEFORE = 8  # to that of the operation before
OP_ARGS = 16  # results, arguments, function, flags

# --- struct hook (what uc_hook_add returns) and the GHashTable of blocks that call it ---------------------------------
HOOK_BEGIN, HOOK_END = 24, 32
HOOK_CALLBACK = 40
HOOK_REGIONS = 56
TABLE_NODES = 12
TABLE_HASH, TABLE_EQUAL = 32, 40

# --- MemoryRegion, and the operations (MemoryRegionOps) that a device's has -------------------------------------------
REGION_OPS = 16
REGION_OPAQUE = 24
OPS_WIDEST = 68  # impl.max_access_size: wider accesses are made in pieces; 0 stands for 4
MMIO_OPS = 32  # the operations of uc_mmio_map, within its record (mmio_cbs): callbacks and their data come before

# --- bits -------------------------------------------------------------------------------------------------------------
HF_CPL = 3
HF_INHIBIT_IRQ = 1 << 3
HF_CS32 = 1 << 4
HF_SS32 = 1 << 5
HF_ADDSEG = 1 << 6
HF_PE = 1 << 7
HF_TF = 1 << 8
HF_MP = 1 << 9
HF_EM = 1 << 10
HF_TS = 1 << 11
HF_LMA = 1 << 14
HF_CS64 = 1 << 15
HF_RF = 1 << 16
HF_VM = 1 << 17
HF_GUEST = 1 << 21
HF_OSFXSR = 1 << 22
HF_SMAP = 1 << 23
HF2_NMI = 1 << 2
HF2_GIF = 1 << 0
CC_OP_EFLAGS = 1
CC_MASK = 0x8D5  # the arithmetic flags
EXIT_BASE = 0x100  # EXCP_VMEXIT: hook number = EXIT_BASE + the manual's exit code

UNICORN_VERSIONS = ("2.1.4",)
"""Releases whose Linux x86-64 wheel has this layout."""

SYMBOLS = (
    "cpu_loop_exit_x86_64",
    "cpu_loop_exit_restore_x86_64",
    "cpu_restore_state_x86_64",
    "unicorn_fill_tlb_x86_64",
    "tlb_set_page_x86_64",
    "tcg_tb_foreach_x86_64",
    "tb_phys_invalidate_x86_64",
    "tlb_flush_x86_64",
    "tlb_flush_page_x86_64",
    "tb_flush_x86_64",
    "tlb_flush_by_mmuidx_x86_64",
    "tb_invalidate_phys_range_x86_64",
    "qemu_ram_addr_from_host_x86_64",
    "helper_rdtsc_x86_64",
    "helper_rdtscp_x86_64",
    "helper_write_crN_x86_64",
    "find_memory_mapping_x86_64",
    "helper_lookup_tb_ptr_x86_64",
    "cpu_ldub_mmuidx_ra_x86_64",
    "cpu_stb_mmuidx_ra_x86_64",
    "probe_access_x86_64",
    "raise_exception_err_ra_x86_64",
)
"""Internal functions that the wheel exports and the engine calls. They leave by longjmp, so only compiled frames call
them.
"""


@dataclass(frozen=True)
class Platform:
    """What the layout table is keyed by."""

    system: str
    machine: str


SUPPORTED = (Platform("linux", "x86_64"),)
"""Platforms that the table above has been proved on."""


def this_platform() -> Platform:
    """The platform that this process runs on."""
    machine = platform.machine().lower()
    return Platform(sys.platform, {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine))


def platform_problem() -> str | None:
    """A sentence that says why guests cannot run here, or None where they can."""
    here = this_platform()
    if here in SUPPORTED:
        return None
    known = ", ".join(f"{p.system} {p.machine}" for p in SUPPORTED)
    return (
        f"Guests cannot run on {here.system} {here.machine}: the CPU-state layout of its Unicorn build is not in the "
        f"table (known: {known}). Use a Linux x86-64 machine or container."
    )
