"""The data block: everything that the compiled kernels know, as named 64-bit words.

Compiled code that is kept on disk cannot contain addresses of this process, so each kernel gets the address of one
block of words and finds the rest through it. Values here are byte offsets into the block. One pCPU has one block; words
in the ``vCPU`` group are saved and loaded when the pCPU changes vCPU.
"""

from __future__ import annotations

from hypervisor.arch.vmexit_codes import CODES
from hypervisor.engine import costs
from hypervisor.errors import InternalError
from hypervisor.memory.map_words import MAP_SIZE

_names: list[str] = []


def signed(value: int) -> int:
    """A 64-bit word as the block and the kernels hold it."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def names() -> list[str]:
    """The name of each word, in order; one of several words is there as often."""
    return list(_names)


def _word(name: str, count: int = 1) -> int:
    if name in _names:
        raise InternalError(f"two words of the block are called {name}: each would write over the other.")
    offset = 8 * len(_names)
    _names.extend([name] * count)
    return offset


# --- Unicorn: addresses of structures and functions -------------------------------------------------------------------
ENV = _word("env")
CPU = _word("cpu")
UC = _word("uc")
F_EMU_START = _word("uc_emu_start")
F_EMU_STOP = _word("uc_emu_stop")
F_REG_READ = _word("uc_reg_read")
F_TLB_FLUSH = _word("tlb_flush")
F_TLB_FLUSH_PAGE = _word("tlb_flush_page")
F_LOOP_EXIT = _word("cpu_loop_exit")
F_LOOP_EXIT_RESTORE = _word("cpu_loop_exit_restore")
F_RESTORE_STATE = _word("cpu_restore_state")
F_TB_INVALIDATE = _word("tb_invalidate_phys_range")
F_TB_FLUSH = _word("tb_flush")
F_EACH_BLOCK = _word("tcg_tb_foreach")
F_DROP_BLOCK = _word("tb_phys_invalidate")
F_DROP_TRAPPED = _word("drop_trapped")  # what the first of these calls, see kernels.vmexit.translated
NEW_TRAPS = _word("new_traps")  # address of linear addresses that it looks for
NEW_TRAP_COUNT = _word("new_trap_count")
F_MADVISE = _word("madvise")
F_SET_PAGE = _word("tlb_set_page")
F_RDTSC = _word("helper_rdtsc")
F_RDTSCP = _word("helper_rdtscp")
F_WRITE_CR = _word("helper_write_crN")
F_LOOKUP = _word("helper_lookup_tb_ptr")
F_MISSED_BLOCK = _word("missed_block")  # what `next_block` does not find
F_PROBE = _word("probe_access")
F_LOAD8 = _word("cpu_ldub_mmuidx_ra")
F_LOAD16 = _word("cpu_lduw_mmuidx_ra")  # these as `slow_path` has them
F_LOAD32 = _word("cpu_ldl_mmuidx_ra")
F_LOAD64 = _word("cpu_ldq_mmuidx_ra")
F_STORE8 = _word("cpu_stb_mmuidx_ra")
F_STORE16 = _word("cpu_stw_mmuidx_ra")
F_STORE32 = _word("cpu_stl_mmuidx_ra")
F_STORE64 = _word("cpu_stq_mmuidx_ra")
F_RAISE = _word("raise_exception_err_ra")
F_X87 = _word("x87_execute")  # see `x87_code`
X87_IMAGE = _word("x87_image", 14)  # the guest's x87 state as FNSAVE has it
F_TCG_CALL = _word("tcg_gen_callN")
F_TCG_OP1 = _word("tcg_gen_op1")
F_TCG_OP2 = _word("tcg_gen_op2")
F_TCG_OP3 = _word("tcg_gen_op3")
F_TCG_BRANCH = _word("tcg_gen_brcond_i64")
F_TCG_LABEL = _word("gen_new_label")
F_TCG_TEMP = _word("tcg_temp_new_internal")
F_TCG_FREE = _word("tcg_temp_free_internal")
F_ENTER_MMX = _word("helper_enter_mmx")
F_MMX_READY = _word("mmx_ready")  # see `mmx_code`
F_MMX_DONE = _word("mmx_done")
F_SELF = _word("pthread_self")
F_PYTHON = _word("python")  # in-place callback: int64(kind) -> verdict
F_WALK = _word("f_walk")  # kernels that others call through a pointer, so that each is compiled once
F_TRANSLATE = _word("f_translate")
F_WALK_AND_KEEP = _word("f_walk_and_keep")
F_READ = _word("f_read")
F_WRITE = _word("f_write")
F_DELIVER = _word("f_deliver")
F_DECODE = _word("f_decode")
F_RUN = _word("f_run")
F_OWN = _word("f_own")
F_COVERED = _word("f_covered")
F_REST_OF_FILL = _word("f_rest_of_fill")
F_READ_MMIO = _word("f_read_mmio")  # the hooks of the device window
F_WRITE_MMIO = _word("f_write_mmio")
HOOKS = (
    "interrupt", "port_in", "port_out", "syscall", "sysenter", "mmio_read", "mmio_write", "tlb", "block", "code",
    "jump", "read_time", "write_control", "load_segment", "far_jump", "far_call", "far_return", "interrupt_return",
    "real_interrupt_return", "leave_syscall", "leave_sysenter", "refused_branch", "check_table", "check_port",
    "load_system_segment",
)  # fmt: skip
PLAIN = _word("plain", len(HOOKS))  # uncompiled hook bodies, in the order of HOOKS
SCRATCH = _word("scratch", 4)

# --- memory -----------------------------------------------------------------------------------------------------------
MAP = _word("map", MAP_SIZE >> 3)  # where the VM's page maps are, as `hypervisor.memory.map_words` says
FRAMES = _word("frames")  # address of the host's frame table, as it says too
GENERATIONS = _word("generations")  # the word of that table
MARKS = _word("marks")  # another one
EXECUTABLE_AT = _word("executable_at")  # address of a note for each frame, see kernels.memory.notes
WRITABLE_AT = _word("writable_at")
TRANSLATED = _word("translated")  # address of the generation of each frame that this engine has translated, 0 for none
NOTES_SIZE = _word("notes_size")  # bytes of the two tables of notes
SHARED_AT = _word("shared_at")  # address of where in the TLB pages are whose frames are shared, see there
EPOCH = _word("epoch")  # changes with each flush of the whole TLB of Unicorn's
RAM = _word("ram")  # process address of host-physical 0
RAM_ADDR = _word("ram_addr")  # Unicorn's own number for host-physical 0
A20 = _word("a20")  # AND mask of guest-physical addresses
ONES_PAGE = _word("ones_page")  # host-physical page full of 0xff, fetched where there is no memory
GUEST_TLB = _word("guest_tlb")  # address of the loaded vCPU's TLB, 0 none, see kernels.memory.guest_tlb
FILL_PLACE = _word("fill_place")  # where in generated code the last access was that missed, 0 in none
DEVICE_PAGE = _word("device_page")  # guest-physical page that was accessed last of those that are no memory, -1 none
WALKED_LEVELS = 4
WALKED_TABLES = _word(
    "walked_tables", 2 * WALKED_LEVELS
)  # by level: a page of tables, and where it lies in this process
LOOKASIDE_AGE = _word("lookaside_age")  # see kernels.memory.lookaside
LOOKASIDE = _word("lookaside", 3 * 16)  # (linear page | kind of access, age, what to add)

# --- time -------------------------------------------------------------------------------------------------------------
LINE = 64  # bytes of a cache line of the host, of which the block begins one
_word("before_now", -len(_names) % (LINE >> 3))  # each block of the guest's reads and writes what follows: in one line
NOW = _word("now")  # retired bytes plus jumps, in virtual nanoseconds
RING_AT = _word("ring_at")  # how many events the ring has seen; stands beside the clock because each event needs both
DEADLINE = _word("deadline")  # stop before the first block that starts at or after this; 0 = look closer now
NEXT = _word("next")  # the deadline that DEADLINE returns to
BLOCK_END = _word("block_end")  # linear end of the block that was counted last
BLOCK_LEFT = _word("block_left")  # what BLOCK_END was before the block was left in its middle, 0 if it was not
FLOOR = _word("floor")  # the furthest that any vCPU of the VM has come: clocks show no less
KICK = _word("kick")  # another thread wants the pCPU: the only word written from outside, read at each block
KICKED = 1 << 62  # what is written: added to any time it is later than every deadline
COMPLETE = _word("complete")  # length of an instruction that Python carried out: go past it before running on
STEP = _word("step")  # 0 free running, 1 armed, 2 one block has started, 3 it is to be looked at and not begun
RESTING = _word("resting")  # 1: the block that is about to begin is the rest of one
RUNNING = _word("running")  # 1 inside uc_emu_start
THREAD = _word("thread")  # pthread_self of the thread that runs the guest
SKIPS = _word("skips")  # 1: loops that do nothing until the next event are not run round by round
ABORTED = _word("aborted")  # Unicorn called abort, see kernels.stopping.emergency
BEYOND = _word("beyond")  # 1: it did because RIP has to be cut to 32 bits
FORGOTTEN = _word("forgotten")  # bytes of translated code that have been forgotten since what was freed went back
NO_FRAME = _word("no_frame")  # 1: the host had no frame left for a store; `PAGE_LOST`
CODE_ROOM = _word("code_room")  # bytes for translated code, from when it is emptied next
CODE_FULL = _word("code_full")  # 1: there is little room left for translated code, see kernels.vmexit.translated
REPEATED = _word("repeated")  # 1: the next block is one instruction of a block that has been counted

# --- the interpreter lock, see kernels.vmexit.token -------------------------------------------------------------------
TOKEN = _word("token")  # address of the process's `TokenWords`, 0: this pCPU takes no part
ENTERED = _word("entered")  # when the guest was entered last, in cycles of the host's counter
LEFT = _word("left")  # when it was left last, likewise
BALANCE = _word("balance")  # by how much longer its guest has run between exits than Python served them
CPU_CLOCK = _word("cpu_clock")  # the clock of the CPU time of the thread that has the pCPU
CPU_TIME = _word("cpu_time", 2)  # what such a clock shows
F_USLEEP = _word("usleep")

# --- the instruction that is being translated, see sse_and_mmx --------------------------------------------------------
MEDIA_OPCODES = _word("media_opcodes")  # address of the table of `media_opcodes`
ALTERED_AT = _word("altered_at")  # linear address of the instruction whose bytes the translator sees with other bits
ALTERED = _word("altered", 2)  # by which bits each of its bytes differs
MMX_WRITTEN = _word("mmx_written")  # the MMX register that it writes, 8 none
CALL_ARGUMENTS = _word("call_arguments")  # of a call that we emit

# --- events -----------------------------------------------------------------------------------------------------------
FAULT = _word("fault")  # fault that the TLB fill found: vector, or -1
FAULT_ERROR = _word("fault_error")
FAULT_ADDRESS = _word("fault_address")
FLAGS = _word("flags")  # the arithmetic flags that generated code computed last, see kernels.stopping.lost_flags
FLAGS_AT = _word("flags_at")  # NOW, then
FLAGS_BY = _word("flags_by")  # where in the generated code
FLAGS_LOST = _word("flags_lost")  # 1: the guest is left in the middle of the instruction that did
INTR = _word("intr")  # level of the interrupt controller's output
ARMED = _word("armed")  # an interrupt request was raised while a block ran
EVENT_RIP = _word("event_rip")

# --- an instruction that is served inside its block, see in_place and program_stack -----------------------------------
PLACE = _word("place")  # where in generated code it was called
KEEP_RF = _word("keep_rf")  # 1: RF has been loaded at the end of a block that began with RF, and stays
FRAME_SIZE = _word("frame_size")  # bytes of each item of its stack frame
FRAME_ITEMS = _word("frame_items")  # how many it has got, or put, so far
FRAME_WANTED = _word("frame_wanted")  # how many it needs
FRAME = _word("frame", 2 * 32)  # linear address and value of each

# --- an instruction that the translator takes for another one, see misread --------------------------------------------
MISREAD_AT = _word("misread_at")  # linear address of the byte at which something is to be done
MISREAD = _word("misread")  # what
MISREAD_CONTEXT = _word("misread_context")  # address of the translator's context
MISREAD_CHECK = _word("misread_check")  # what INS must be allowed

# --- what the last exit was -------------------------------------------------------------------------------------------
X_KIND = _word("x_kind")  # ExitCode, 0 = none
X_INFO = _word("x_info", 6)

# --- what listens -----------------------------------------------------------------------------------------------------
LISTEN = _word("listen", 2)  # bit per exit kind: Python wants it
INTERCEPTS = _word("intercepts")  # the VMCB's first intercept words, as the VM wants them
LISTEN_EXCEPTIONS = _word("listen_exceptions")
PORTS = _word("ports")  # address of 65,536 bytes for IN, then as many for OUT: 0 Python, n compiled handler n
COMPILED = _word("compiled")  # address of rows (function, state, the next handler of the same exits)
WINDOWS = _word("windows")  # address of rows (first, end, handler, 1 for writes): compiled device memory
WINDOW_COUNT = _word("window_count")
CPUID = _word("cpuid")  # address of each vCPU's rows (leaf, subleaf or -1, eax, ebx, ecx, edx)
CPUID_COUNT = _word("cpuid_count")
C_CPUID = _word("c_cpuid")  # the first compiled handler of a kind, 0 = none
C_RDMSR = _word("c_rdmsr")
C_HYPERCALL = _word("c_hypercall")
EXECUTES = _word("executes")  # how many linear addresses have an execute trap
EXECUTES_AT = _word("executes_at")  # address of them
VIRTUAL = _word("virtual")  # watched linear addresses: rows (start, end, MAP_TRAP bits)
VIRTUAL_COUNT = _word("virtual_count")
SEEN = _word("seen")  # the linear pages among them that the TLB may lead to the device window: `SEATS` words, -1 none
WALL = _word("wall")  # 1: the clock follows the host
F_CLOCK = _word("f_clock")  # clock_gettime
WALL_BASE = _word("wall_base")
DUE = _word("due")  # by the wall clock: the latest time to be shown before the timer that is due has fired
SHOWN = _word("shown")  # the latest time by the wall clock that the guest has read here
TIMER = _word("timer")  # by the wall clock: when the guest is left for a timer, see kernels.stopping.wall_timer
LOOKED_AT = _word("looked_at")  # the host's clock when the guest was last looked at for that
LOOKED_NOW = _word("looked_now")  # and how far it had come, as `now`
APIC_BASE = _word("apic_base")  # guest-physical page of the local APICs that the engine serves, -1 none
TIMED_PORTS = _word("timed_ports")  # address of the table of ports that only time changes, see kernels.vmexit
TIMED_MEMORY = _word("timed_memory")  # likewise for device memory
VCPUS = _word("vcpus")  # address of the addresses of the VM's `VcpuWords`
VCPU_COUNT = _word("vcpu_count")
TURNS = _word("turns")  # address of its `TurnWords`
ROW = _word("row")  # address of the `VcpuWords` of the vCPU on the pCPU
APIC = _word("apic")  # address of its local APIC's page, 0 none
EDGES = _word("edges")  # address of 64 KiB: the map of edges that the VM's coverage keeps, 0 none
BLOCK_TABLE = _word("block_table")  # address of its table of blocks, see kernels.coverage.entered; 0 none
LAST_WORDS = _word("last_words")  # address of the VM's line, see `hypervisor.engine.interposition.fatal_signals`

# --- per vCPU: saved and loaded with the CPU state --------------------------------------------------------------------
VCPU = _word("vcpu_first", 0)
GUEST_DR7 = _word("guest_dr7")
NMI_BLOCKED = _word("nmi_blocked")
TSC_OFFSET = _word("tsc_offset")
SKIP = _word("skip")  # linear address whose execute trap has just been served, -1 none
CAREFUL = _word("careful")  # instructions still to be run one by one, to find the one that Unicorn cannot translate
SPINS = _word("spins")  # PAUSE instructions in quick succession that end its turn, 0 = none do
SPINS_LEFT = _word("spins_left")
SPUN_AT = _word("spun_at")  # when its last PAUSE was, or its turn began
WORKED = _word("worked")  # 1: it has done something else than PAUSE in this turn
SKIPPED = _word("skipped")  # 1: it has skipped rounds of a jump to itself in this turn
NUMBER = _word("number")  # which of the VM's vCPUs it is
REST_AT = _word(
    "rest_at"
)  # linear address at which its block was left in the middle, see kernels.stopping.rest_of_block
REST_END = _word("rest_end")  # linear end of that block, 0 none
RESTED = _word("rested")  # 1: the last block that it began was the rest of one
REST_TRIED = _word("rest_tried")  # how often the instruction has been left since another one was executed
PREVIOUS = _word("previous")  # half the number of the block that it began last, for the map of edges
GUEST_TLB_AGE = _word("guest_tlb_age")  # which entries there are valid
DIRTY = _word("dirty")  # what is to be done before it runs, by the bits below
VCPU_END = 8 * len(_names)
HIDDEN_FLAGS, TLB_TOO = 1, 2
"""In `DIRTY`: hidden flags are to be derived again; the guest's TLB is to be flushed."""

# --- walk results -----------------------------------------------------------------------------------------------------
W_VECTOR = _word("w_vector")  # -1 none
W_ERROR = _word("w_error")
W_PERM = _word("w_perm")
W_SHIFT = _word("w_shift")
W_LEVEL = _word("w_level")
D_LENGTH = _word("d_length")  # decoded instruction: bytes, 0 = could not be decoded
D_OPCODE = _word("d_opcode")  # 0x0Fxx for two-byte opcodes
D_MODRM = _word("d_modrm")  # -1 none
D_REG = _word("d_reg")  # ModRM.reg with REX.R
D_RM = _word("d_rm")  # ModRM.rm with REX.B
D_SIZE = _word("d_size")  # operand size in bytes
D_ADDRESS_SIZE = _word("d_address_size")
D_REPEAT = _word("d_repeat")  # F2, F3 or 0
D_EA = _word("d_ea")  # linear address of the memory operand
D_IMMEDIATE = _word("d_immediate")
N_VECTOR = _word("n_vector")  # fault while an event was delivered, -1 none
N_ERROR = _word("n_error")
N_ADDRESS = _word("n_address")
N_COUNT = _word("n_count")
CHAIN = _word("chain", 3 * 8)  # the faults of the last failed delivery: (vector, error, address) x 8

# --- statistics -------------------------------------------------------------------------------------------------------
C_FILLS = _word("c_fills")
C_FLIPS = _word("c_flips")
C_STOPS = _word("c_stops")
C_EMPTIED = _word("c_emptied")
COUNTS = _word("counts", 128)  # exits by ExitCode
EXIT_KINDS = _word("exit_kinds", CODES)  # the kind of each #VMEXIT code, see `hypervisor.arch.exits.KINDS`
COSTS = _word("costs", costs.WORDS)  # virtual nanoseconds of each, see `costs`
RING_ENTRIES, RING_WORDS = 1024, 4
RING = _word("ring", RING_WORDS * RING_ENTRIES)  # the last exits and events, see `kernels.stopping.reporting.ring`

SIZE = 8 * len(_names)

NOTE_MANY = 1 << 27
"""A note is where the TLB may have something: linear page << 16 | epoch, or this | epoch for several places."""
SHARED_ROWS, SHARED_ROW = 4096, 16
"""Rows of `SHARED_AT`, found by page of the base map: the page, and a note."""

GUARD_ABORT, GUARD_SELF, GUARD_CPU_ABORT, GUARD_BLOCKS, GUARD_SIZE = 0, 8, 16, 24, 1024
"""The table of `interpose`: addresses of ``abort``, of ``pthread_self``, of where cpu_abort calls it,
and of up to `GUARD_SIZE` blocks."""


(
    SIGNAL_GUARD, SIGNAL_SPOKEN, SIGNAL_WRITE, SIGNAL_RAISE, SIGNAL_ACTION, SIGNAL_DEFAULT, SIGNAL_LINE, SIGNAL_LATER,
    SIGNAL_MAP, SIGNAL_SWAPS,
) = range(0, 80, 8)  # fmt: skip
SIGNAL_MOST_SWAPS = 64
SIGNAL_ROWS, SIGNAL_ROW_SIZE = SIGNAL_SWAPS + 8 * SIGNAL_MOST_SWAPS, 24
"""The table of `fatal_signals`: the address of the one above; 1 when the line has been written; three
functions of the C library; addresses of the default disposition, of room for the line, and of what stands behind RIP if
that is not exact; mmap; the frame tables of up to `SIGNAL_MOST_SWAPS` hosts with a swap file, or zeros; then a row for
each signal up to a zero: its number, the addresses of its name and of the disposition before ours."""

LINE_SIGNAL, LINE_VCPU, LINE_RIP, LINE_BYTES = "\1\2\3\4"
"""Characters of the line at `LAST_WORDS` that stand for what is known only when it is written."""

EDGES_SIZE, BLOCK_ROWS = 1 << 16, 1 << 18
"""Bytes of the map of edges, and rows of 16 bytes of the table of blocks; a word behind them is 1 if
one found no room."""
TRACE_EDGES, TRACE_BLOCKS = 1, 2
"""What translations note, in the word of the CPU by which Unicorn keeps them apart."""

PAGE_LOST = 2
"""For `NO_FRAME`: a page that the guest has used could not be read from the swap file."""
OUT_OF_FRAMES, LOST_PAGES = -2, -3
"""What ``FAILED`` tells when the host had no frame left, and when a page of some VM was lost; -1 is an emergency,
anything else Unicorn's error."""
MMIO_BASE = 1 << 41
TIMED_ROW, TIMED_ROWS = 3, 64  # words of a row of `TIMED_PORTS` and `TIMED_MEMORY`, and how many there may be
SEAT, SEATS = 40, 256
"""The device window: guest-physical addresses, and above them from bit `SEAT` on 0, or 1 + a place in `SEEN`."""
"""Host-physical address at which guest-physical 0 appears to the device window."""
MAXPHYADDR = 40
STEP_ONE, STEP_BEGUN, STEP_LOOK = 1, 2, 3
"""Values of `STEP`."""
LOOKASIDE_ENTRIES = 16
CHAIN_ENTRIES = 8

BLOOM_BITS = 4096
GUEST_TLB_DATA, GUEST_TLB_CODE = 1 << 14, 1 << 12
"""Entries of a vCPU's TLB, of 16 bytes: as many as Unicorn's may have (`kernels.tlb.tlb_entry`), and for code."""
GUEST_TLB_AT = 4096
"""Where it lies behind the first of the vCPU's saved words: on pages of its own."""
GUEST_TLB_CODE_AT = 16 * GUEST_TLB_DATA
GUEST_TLB_BLOOM_AT = GUEST_TLB_CODE_AT + 16 * GUEST_TLB_CODE
"""A Bloom filter behind them: where large pages lie that are in pieces there."""
GUEST_TLB_SIZE = GUEST_TLB_BLOOM_AT + BLOOM_BITS // 8
JUMPED, CALLED, RETURNED = 8, 9, 10
"""W_LEVEL where an instruction asks for a task switch (`hypervisor.engine.task_switch`)."""
