"""A physical CPU: one Unicorn instance in SVM guest mode, with its block of data for the kernels.

A pCPU runs whichever vCPU is loaded and reports why it stopped. It is driven by one thread at a time; the only word
that another thread may write is the kick.

The file is long because everything that touches the Unicorn instance is here: its construction, what runs on it, and
what it traps. Nobody else holds the handle.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypervisor.arch import vmexit_codes as code_
from hypervisor.arch.apic_page import ApicPage
from hypervisor.arch.exits import INTERCEPT_BIT, ExitKind, kinds_of_codes
from hypervisor.engine import block as b
from hypervisor.engine import costs, layout
from hypervisor.engine.compiling.compiler import code
from hypervisor.engine.floating_point import media_opcodes
from hypervisor.engine.interposition.interpose import guard
from hypervisor.engine.interposition.native import native
from hypervisor.engine.report import Report
from hypervisor.engine.room import CODE_CACHE, check_room
from hypervisor.engine.scheduling import VcpuWords
from hypervisor.engine.state import State, Views
from hypervisor.engine.tables import GuestTables
from hypervisor.engine.vcpu_tlb import VcpuTlb
from hypervisor.errors import EngineError, InternalError
from hypervisor.memory import HostMemory
from hypervisor.memory.frames import address_of, mapping
from hypervisor.memory.map_words import GENERATIONS, ONES
from hypervisor.units import FOREVER_NS

_CONTROL = 1 << 40  # host-physical address of the pCPU's own pages, out of every guest's reach
_STUB, _VMCB, _HSAVE, _MSRPM, _IOPM, _CONTROL_SIZE = 0x0, 0x1000, 0x2000, 0x4000, 0x8000, 0x10000
_WINDOW_SIZE = (1 + b.SEATS) << b.SEAT
_COMPLETE, _COUNTS, _COSTS, _NOW = b.COMPLETE >> 3, b.COUNTS >> 3, b.COSTS >> 3, b.NOW >> 3
_REST_END = b.REST_END >> 3
_DIRTY = b.DIRTY >> 3
_MUCH_CODE = 2 << 20  # bytes of translated code whose tables, freed, are worth looking for
_ALWAYS_INTERCEPTED = sum(
    1 << code_.intercept_bit(code)
    for code in (
        code_.VINTR, code_.CPUID, code_.SWINT, code_.HLT, code_.INVLPG, code_.INVLPGA, code_.MSR, code_.SHUTDOWN,
        code_.VMRUN, code_.VMMCALL, code_.VMLOAD, code_.VMSAVE, code_.STGI, code_.CLGI, code_.SKINIT, code_.RDTSCP,
        code_.RDTSC, code_.PAUSE,  # which would end the block without a single-step trap
    )
)  # fmt: skip
_FEATURES_OFF = ((1, 1 << 30 | 1 << 3), (2, 1 << 18))  # (word, bits): RDRAND and MONITOR, RDSEED

InPlace = Callable[[int], int]
"""Called in the middle of an instruction with an exit kind; returns 0 to go on, 1 to have the guest left."""


class VcpuState:
    """A vCPU that is not on a pCPU: its saved registers, and its TLB behind the block's vCPU words."""

    def __init__(self, template: bytes, number: int) -> None:
        self.memory = (ctypes.c_ubyte * layout.STATE_SIZE).from_buffer_copy(template)
        self._room = mapping(b.GUEST_TLB_AT + b.GUEST_TLB_SIZE)
        self.tlb = VcpuTlb(self._room)
        self.extra = (ctypes.c_int64 * ((b.VCPU_END - b.VCPU) >> 3)).from_buffer(self._room)
        self.extra[(b.SKIP - b.VCPU) >> 3] = -1
        self.extra[(b.NUMBER - b.VCPU) >> 3] = number
        self.extra[(b.GUEST_TLB_AGE - b.VCPU) >> 3] = 1
        self.words = VcpuWords()
        """What is known of it wherever its registers are."""
        self.views = Views.over(self.memory, memoryview(self.extra).cast("B").cast("Q"))
        self.at = self.words.state_at, self.words.extra_at = (
            ctypes.addressof(self.memory), ctypes.addressof(self.extra),
        )  # fmt: skip
        self.registers = State(self.views)

    def serve_apic(self, page: ApicPage) -> None:
        """Let the engine serve this local APIC, which is the vCPU's interrupt controller. Before it runs."""
        self.words.apic_at = ctypes.addressof(page)
        self.words.own_apic = True


class PCpu:
    """One physical CPU over the host's memory. ``code_cache`` is the room for translated code, in bytes."""

    def __init__(self, memory: HostMemory, number: int = 0, code_cache: int = CODE_CACHE) -> None:
        check_room(code_cache)
        self.number = number
        self._memory = memory
        self._native = native()
        self._code = code()
        self._call = self._code.call
        self._run, self._save, self._load = self._call["run"], self._call["save"], self._call["load"]
        self._block = (ctypes.c_int64 * (b.SIZE >> 3))()
        self._b = ctypes.addressof(self._block)
        self.words = memoryview(self._block).cast("B").cast("q")
        self.report = Report.from_buffer(self._block)
        self._keep: list[Any] = []
        self.owner: object | None = None
        self._guests: set[GuestTables] = set()
        """Of VMs whose code may have been translated here."""
        self._trimmed = 0
        """What had been forgotten when the memory of that was given back last."""
        self._execute_hooks: dict[int, int] = {}
        unicorn = self._native.unicorn
        self._uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self._uc.ctl_set_cpu_model(unicorn.x86_const.UC_CPU_X86_EPYC)
        self._uc.ctl_set_tcg_buffer_size(code_cache)
        self._uc.mem_map_ptr(0, memory.end, unicorn.UC_PROT_ALL, memory.address)
        self._control = mmap.mmap(-1, _CONTROL_SIZE)
        control = ctypes.addressof(ctypes.c_char.from_buffer(self._control))
        self._uc.mem_map_ptr(_CONTROL, _CONTROL_SIZE, unicorn.UC_PROT_ALL, control)
        uc = int(self._uc._uch.value)
        cpu = _peek(uc + layout.UC_CPU)
        env = _peek(cpu + layout.CPU_ENV)
        _prove_pointers(uc, cpu, env)
        self._env = env
        ctypes.c_uint8.from_address(uc + layout.UC_NO_EXIT_REQUEST).value = 1
        for word, bits in _FEATURES_OFF:
            feature = ctypes.c_uint64.from_address(env + layout.FEATURES + 8 * word)
            feature.value &= ~bits
        self._fill_block(uc, cpu, env)
        self._add_hooks()
        guard().add(self._b)
        self._enter_guest_mode()
        self.words[b.INTERCEPTS >> 3] = _peek(env + layout.INTERCEPT)
        memory_view = (ctypes.c_ubyte * layout.STATE_SIZE).from_address(env)
        self.template = bytes(memory_view)
        first = b.VCPU >> 3
        self._live = Views.over(memory_view, self.words[first : b.VCPU_END >> 3].cast("B").cast("Q"))
        self._loaded: VcpuState | None = None

    # --- construction -------------------------------------------------------------------------------------------------

    def _fill_block(self, uc: int, cpu: int, env: int) -> None:
        words, address, memory = self.words, self._native.address, self._memory

        def put(offset: int, value: int) -> None:
            words[offset >> 3] = value

        put(b.ENV, env)
        put(b.CPU, cpu)
        put(b.UC, uc)
        for offset, name in (
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
            (b.F_RDTSC, "helper_rdtsc_x86_64"),
            (b.F_RDTSCP, "helper_rdtscp_x86_64"),
            (b.F_WRITE_CR, "helper_write_crN_x86_64"),
            (b.F_LOOKUP, "helper_lookup_tb_ptr_x86_64"),
            (b.F_PROBE, "probe_access_x86_64"),
            (b.F_LOAD8, "cpu_ldub_mmuidx_ra_x86_64"),
            (b.F_STORE8, "cpu_stb_mmuidx_ra_x86_64"),
            (b.F_RAISE, "raise_exception_err_ra_x86_64"),
        ):
            put(offset, address(name))
        for offset, name in (
            (b.F_WALK, "walk"),
            (b.F_TRANSLATE, "translate"),
            (b.F_READ, "read_bytes"),
            (b.F_WRITE, "write_bytes"),
            (b.F_DELIVER, "deliver"),
            (b.F_DECODE, "decode"),
            (b.F_OWN, "own"),
            (b.F_COVERED, "covered"),
            (b.F_REST_OF_FILL, "rest_of_fill"),
            (b.F_BLOCK, "block"),
            (b.F_READ_MMIO, "read_mmio"),
            (b.F_WRITE_MMIO, "write_mmio"),
        ):
            put(offset, self._code.address[name])
        for offset, name in (
            (b.F_LOAD16, "lduw"),
            (b.F_LOAD32, "ldl"),
            (b.F_LOAD64, "ldq"),
            (b.F_STORE16, "stw"),
            (b.F_STORE32, "stl"),
            (b.F_STORE64, "stq"),
        ):
            put(offset, guard().access[f"cpu_{name}_mmuidx_ra_x86_64"])
        put(b.F_X87, guard().x87_execute)
        put(b.F_TCG_CALL, address("tcg_gen_callN_x86_64"))
        put(b.F_TCG_OP2, address("tcg_gen_op2_x86_64"))
        put(b.F_ENTER_MMX, address("helper_enter_mmx_x86_64"))
        put(b.F_MISSED_BLOCK, guard().missed_block)
        put(b.F_MMX_READY, guard().mmx_ready)
        put(b.F_MMX_DONE, guard().mmx_done)
        self._media = ctypes.create_string_buffer(media_opcodes.table(), media_opcodes.SIZE)
        put(b.MEDIA_OPCODES, ctypes.addressof(self._media))
        libc = ctypes.CDLL(None)
        put(b.F_SELF, ctypes.cast(libc.pthread_self, ctypes.c_void_p).value or 0)
        put(b.F_CLOCK, ctypes.cast(libc.clock_gettime, ctypes.c_void_p).value or 0)
        put(b.F_MADVISE, ctypes.cast(libc.madvise, ctypes.c_void_p).value or 0)
        put(b.RAM, memory.address)
        put(b.FRAMES, memory.table)
        put(b.GENERATIONS, memory.table_word(GENERATIONS))
        self._notes = mapping(3 * memory.words_size)
        for n, word in enumerate((b.EXECUTABLE_AT, b.WRITABLE_AT, b.TRANSLATED)):
            put(word, address_of(self._notes) + n * memory.words_size)
        put(b.NOTES_SIZE, 2 * memory.words_size)
        self._shared_at = (ctypes.c_int64 * (b.SHARED_ROWS * b.SHARED_ROW >> 3))()
        put(b.SHARED_AT, ctypes.addressof(self._shared_at))
        to_ram = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)(
            address("qemu_ram_addr_from_host_x86_64")
        )
        put(b.RAM_ADDR, to_ram(uc, memory.address))
        put(b.A20, -1)
        put(b.ONES_PAGE, ONES)
        self._nothing = GuestTables()
        for offset, value in self._nothing.words().items():
            put(offset, value)
        put(b.EPOCH, 1)
        for offset, body in self._code.bodies.items():
            put(offset, body)
        put(b.FAULT, -1)
        put(b.SKIP, -1)
        put(b.NEXT, 1)
        put(b.DEADLINE, 1)
        put(b.SKIPS, 1)
        for table, values in ((b.COSTS, costs.table()), (b.EXIT_KINDS, kinds_of_codes())):
            for n, value in enumerate(values):
                put(table + 8 * n, value)
        ctypes.c_uint64.from_address(cpu + layout.CPU_OPAQUE).value = self._b

    def _add_hooks(self) -> None:
        unicorn, address = self._native.unicorn, self._code.address
        self._hook(unicorn.UC_HOOK_TLB_FILL, address["tlb"])
        self._hook(unicorn.UC_HOOK_INTR, address["interrupt"])
        self._hook(unicorn.UC_HOOK_BLOCK, address["block_entry"])
        for name, instruction in (
            ("syscall", unicorn.x86_const.UC_X86_INS_SYSCALL),
            ("sysenter", unicorn.x86_const.UC_X86_INS_SYSENTER),
        ):
            self._hook(unicorn.UC_HOOK_INSN, address[name], ctypes.c_int(instruction))
        error = self._native.library.uc_mmio_map(
            self._uc._uch,
            ctypes.c_uint64(b.MMIO_BASE),
            ctypes.c_size_t(_WINDOW_SIZE),
            ctypes.c_void_p(address["read_mmio"]),
            ctypes.c_void_p(self._b),
            ctypes.c_void_p(address["write_mmio"]),
            ctypes.c_void_p(self._b),
        )
        if error:
            raise InternalError(f"Unicorn refused the device window (error {error}). Please report this.")
        self._widen_window(address["read_mmio"])
        self._uc.ctl_set_tlb_mode(unicorn.UC_TLB_VIRTUAL)
        self._uc.ctl_exits_enabled(True)

    def _widen_window(self, callback: int) -> None:
        """Have accesses of 8 bytes to the device window made at once: Unicorn makes two of 4 unless told."""

        def word(at: int) -> int:
            return ctypes.c_uint64.from_address(at).value

        find = self._native.library.find_memory_mapping_x86_64
        find.restype, find.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_uint64)
        region = find(self._uc._uch, b.MMIO_BASE)
        ops, record = word(region + layout.REGION_OPS), word(region + layout.REGION_OPAQUE)
        if ops != record + layout.MMIO_OPS or word(record) != callback:
            raise EngineError("This build of Unicorn has the device window's operations elsewhere. Please report it.")
        ctypes.c_uint32.from_address(ops + layout.OPS_WIDEST).value = 8

    def _hook(self, kind: int, address: int, *extra: Any, begin: int = 1, end: int = 0) -> int:
        handle = ctypes.c_size_t()
        error = self._native.library.uc_hook_add(
            self._uc._uch,
            ctypes.byref(handle),
            kind,
            ctypes.c_void_p(address),
            ctypes.c_void_p(self._b),
            ctypes.c_uint64(begin),
            ctypes.c_uint64(end),
            *extra,
        )
        if error:
            raise InternalError(f"Unicorn refused hook kind {kind:#x} (error {error}). Please report this.")
        if kind in (self._native.unicorn.UC_HOOK_BLOCK, self._native.unicorn.UC_HOOK_CODE):
            _keep_no_regions(int(handle.value), address)
        return int(handle.value)

    def _enter_guest_mode(self) -> None:
        """Execute VMRUN once; from then on the CPU stays in guest mode and every vCPU is a saved state."""
        const = self._native.unicorn.x86_const
        control = self._control
        control[_STUB : _STUB + 4] = b"\x0f\x01\xd8\xf4"  # vmrun; hlt
        for start in (_MSRPM, _IOPM):
            control[start : start + 0x2000] = b"\xff" * 0x2000

        def put(offset: int, size: int, value: int) -> None:
            control[_VMCB + offset : _VMCB + offset + size] = value.to_bytes(size, "little")

        put(0x000, 2, 1 << 8)  # CR reads: CR8
        put(0x002, 2, 1 << 0 | 1 << 4 | 1 << 8)  # CR writes: CR0, CR4, CR8; CR3 stays native
        put(0x004, 2, 0xFFFF)  # DR reads
        put(0x006, 2, 0xFFFF)  # DR writes
        put(0x008, 4, 0xFFFFFFFF)  # every exception
        put(0x00C, 8, _ALWAYS_INTERCEPTED)
        put(0x040, 8, _CONTROL + _IOPM)
        put(0x048, 8, _CONTROL + _MSRPM)
        put(0x058, 4, 1)  # ASID
        save = 0x400
        for n, attributes in enumerate((0x93, 0x9B, 0x93, 0x93, 0x93, 0x93)):
            put(save + 16 * n + 2, 2, attributes)
            put(save + 16 * n + 4, 4, 0xFFFF)
        put(save + 0x0D0, 8, 1 << 12)  # EFER.SVME, or VMRUN would not be left by #VMEXIT as intercepts
        put(save + 0x160, 8, 0x400)  # DR7
        put(save + 0x168, 8, 0xFFFF0FF0)  # DR6
        put(save + 0x158, 8, 0x10)  # CR0
        put(save + 0x170, 8, 2)
        uc = self._uc
        uc.reg_write(const.UC_X86_REG_CR4, uc.reg_read(const.UC_X86_REG_CR4) | 0x30)
        uc.msr_write(0xC0000080, 0x1D01)
        uc.msr_write(0xC0010117, _CONTROL + _HSAVE)
        uc.reg_write(const.UC_X86_REG_RAX, _CONTROL + _VMCB)
        emu_start = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint64] * 5)(self._native.address("uc_emu_start"))
        # the stub is the block that starts before the deadline of 1; the guest's first block starts after it
        failure = emu_start(self.words[b.UC >> 3], _CONTROL + _STUB, 0, 0, 0)
        hflags = ctypes.c_uint32.from_address(self._env + layout.HFLAGS)
        if failure or not hflags.value & layout.HF_GUEST or self.words[b.X_KIND >> 3] != ExitKind.DEADLINE:
            raise EngineError(
                f"VMRUN did not enter guest mode (error {failure}, hidden flags {hflags.value:#x}): this build of "
                f"Unicorn is not one that works. Install unicorn=={layout.UNICORN_VERSIONS[-1]} from PyPI."
            )
        hflags.value &= ~(1 << 20)  # SVME: the guest's SVM instructions are undefined, and arrive as #UD
        efer = ctypes.c_uint64.from_address(self._env + layout.EFER)
        efer.value &= ~(1 << 12)
        task = ctypes.c_uint32.from_address(self._env + layout.TR + layout.SEG_FLAGS)
        task.value = 0x8900  # see State.set_segment: the reset value is a busy TSS
        self.words[b.NOW >> 3] = 0
        self.words[b.NEXT >> 3] = FOREVER_NS

    # --- vCPUs --------------------------------------------------------------------------------------------------------

    def new_vcpu(self, number: int = 0) -> VcpuState:
        """A vCPU in guest mode whose registers are still to be set; its number in its VM."""
        return VcpuState(self.template, number)

    def bind(self, tables: GuestTables) -> None:
        """Use a VM's map and trap tables from now on."""
        if tables is not self._nothing:
            self._guests.add(tables)
        for offset, value in tables.words().items():
            self.words[offset >> 3] = value
        self.set_intercepts(tables.intercepts, tables.cr_read, tables.cr_write)
        self.trap_execution(tables.execute)
        self.flush()

    def part(self, tables: GuestTables) -> None:
        """A VM is being closed, whether or not it has been here."""
        self._guests.discard(tables)

    def unbind(self) -> None:
        """Use no VM's tables any more. When none is left that has been here, what was translated, and the memory that
        this took, is given back.
        """
        self.bind(self._nothing)
        if self._guests:
            return
        self.forget_code()
        if self.words[b.FORGOTTEN >> 3] - self._trimmed > _MUCH_CODE:
            self._trimmed = self.words[b.FORGOTTEN >> 3]
            native().trim()

    @property
    def translated_bytes(self) -> int:
        """Bytes of machine code that this engine has made of guests' code, since it is there."""
        translator = _peek(self.words[b.UC >> 3] + layout.UC_TCG_CONTEXT)
        made = _peek(translator + layout.TCG_CODE_NEXT) - _peek(translator + layout.TCG_BUFFER)
        return made + self.words[b.FORGOTTEN >> 3]

    @property
    def loaded(self) -> VcpuState | None:
        """The vCPU that would run."""
        return self._loaded

    def load(self, vcpu: VcpuState) -> None:
        """Make this vCPU the one that runs; its registers are then the live ones."""
        if self._loaded is vcpu:
            return
        self.unload()
        self._load(self._b, *vcpu.at)
        self.words[b.ROW >> 3], self.words[b.APIC >> 3] = ctypes.addressof(vcpu.words), vcpu.words.apic_at
        vcpu.registers.look_at(self._live)
        self._loaded = vcpu

    @contextmanager
    def _looking_at(self, vcpu: VcpuState) -> Iterator[None]:
        """Kernels see the saved state of a vCPU that is not loaded, and do not change it."""
        env = self.words[b.ENV >> 3]
        self.words[b.ENV >> 3] = ctypes.addressof(vcpu.memory)
        try:
            if vcpu.registers.dirty:
                self._call["sync"](self._b)
            yield
        finally:
            self.words[b.ENV >> 3] = env

    def unload(self) -> None:
        """Save the loaded vCPU back into its own memory."""
        vcpu = self._loaded
        if vcpu is None:
            return
        self._save(self._b, *vcpu.at)
        vcpu.registers.look_at(vcpu.views)
        self.words[b.GUEST_TLB >> 3] = 0
        self._loaded = None

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run the loaded vCPU until something is to be told; the `ExitKind`. Releases the interpreter lock."""
        if self.words[_DIRTY]:
            self.sync()
        return self._run(self._b)  # type: ignore[no-any-return]  # a ctypes function

    @property
    def in_block(self) -> bool:
        """Whether the guest was left in the middle of a block, and what comes from outside waits for its end."""
        return self.words[_REST_END] != 0 and self._call["in_block"](self._b) != 0

    def follow(self, vcpu: VcpuState) -> None:
        """The engine has put this vCPU on the pCPU by itself."""
        if self._loaded is not None:
            self._loaded.registers.look_at(self._loaded.views)
        vcpu.registers.look_at(self._live)
        self._loaded = vcpu

    def sync(self) -> None:
        """Derive the hidden flags after registers were written from outside, and flush the guest's TLB if need be."""
        self._call["sync"](self._b)
        registers = None if self._loaded is None else self._loaded.registers
        self._call["flush_guest" if registers is None or registers.flushes else "flush"](self._b)
        self.words[_DIRTY] = 0
        if registers is not None:
            registers.flushes = False

    def kick(self) -> None:
        """Make the guest stop at its next block. The one method that any thread may call.

        Unicorn's own request to stop is not for other threads: its helpers of SYSCALL, IN and others skip their
        instruction when they see one (docs/engine.md).
        """
        self.words[b.KICK >> 3] = 1

    def request_interrupt(self, number: int, level: bool) -> None:
        """Set the level of a vCPU's interrupt request; if it is the loaded one, the guest is left as soon as it can
        take it. From another thread than the one that runs the guest it is a kick, too: words that the block hook
        writes are written by nobody else.
        """
        words = self.words
        loaded = words[b.NUMBER >> 3] == number
        if loaded:
            words[b.INTR >> 3] = int(level)
        if not level:
            return
        if words[b.RUNNING >> 3] and words[b.THREAD >> 3] != threading.get_ident():
            self.kick()
        elif loaded:
            words[b.ARMED >> 3] = 1
            words[b.DEADLINE >> 3] = 0

    def step(self) -> int:
        """Run one instruction (one iteration of a repeated string instruction); `ExitKind.STEPPED` if nothing else came
        up.
        """
        if not self.in_block:  # look first at the block that would begin, so that its rest can be told from the next
            kind, step = self._step(b.STEP_LOOK, 0xFFFFFFFF)
            if kind != ExitKind.STEPPED or step != b.STEP_LOOK:
                return kind
        return self._step(b.STEP_ONE, 1)[0]

    def _step(self, step: int, instructions: int) -> tuple[int, int]:
        """Run with `STEP` at this value, and so many instructions in the first block: the exit, and what `STEP` is."""
        words = self.words
        flags = ctypes.c_uint32.from_address(words[b.CPU >> 3] + layout.CPU_CFLAGS_NEXT_TB)
        words[b.STEP >> 3] = step
        words[b.DEADLINE >> 3] = 0
        flags.value = instructions
        try:
            return self.run(), words[b.STEP >> 3]
        finally:
            words[b.STEP >> 3] = 0
            words[b.DEADLINE >> 3] = words[b.NEXT >> 3]
            flags.value = 0xFFFFFFFF

    def _outside(self, name: str, *arguments: int) -> int:
        """Call a kernel that may itself stop the guest; the exit kind it asks for, 0 for none."""
        if self.words[_DIRTY]:
            self.sync()
        self.words[b.X_KIND >> 3] = 0
        self._call[name](self._b, *arguments)
        return self.words[b.X_KIND >> 3]

    def complete(self, length: int) -> int:
        """The instruction at RIP was carried out by us: go past it. Returns an exit kind if that raised one, else 0."""
        return self._outside("complete", length)

    def spin(self) -> int:
        """A PAUSE was carried out by us: it may end the vCPU's turn. As `complete`."""
        return self._outside("spin")

    def happened(self, kind: ExitKind) -> None:
        """Count what did not come from the engine, and let it take its time."""
        words = self.words
        words[_COUNTS + kind] += 1
        words[_NOW] += words[_COSTS + kind]

    def defer_completion(self, length: int) -> int:
        """As `complete`, but by the next `run`, which is cheaper; always 0."""
        self.words[_COMPLETE] = length
        return 0

    def complete_deferred(self) -> int:
        """Do now what was deferred: whoever looks at RIP must not see it behind. As `complete`, or 0."""
        length = self.words[_COMPLETE]
        if length == 0:
            return 0
        self.words[_COMPLETE] = 0
        return self.complete(length)

    def event(self, vector: int, error: int, kind: int, rip: int) -> int:
        """Deliver an event to the guest (``kind`` as in `events`); an exit kind if that failed, else 0."""
        return self._outside("event", vector, error, kind, b.signed(rip))

    def exception(self, vector: int, error: int) -> int:
        """Raise an exception at RIP, past handlers that listen; an exit kind, else 0."""
        return self._outside("exception", vector, error)

    def enter_syscall(self, length: int) -> int:
        """Carry out SYSCALL."""
        return self._outside("enter_syscall", length)

    def enter_sysenter(self, length: int) -> int:
        """Carry out SYSENTER."""
        return self._outside("enter_sysenter", length)

    def flush(self) -> None:
        """Have every access translated anew, as after the VM's map changed. The guest cannot tell."""
        self._call["flush"](self._b)

    def flush_guest(self) -> None:
        """The guest flushes its TLB."""
        self._call["flush_guest"](self._b)

    def own(self, page: int) -> int:
        """Make the frame of a page of the base map the VM's own, so that it may be written; its word in the map, 0 if
        the host has no frame left.
        """
        return int(self._call["own"](self._b, page))

    def written(self, hpa: int, size: int) -> None:
        """The host wrote ``size`` bytes in a frame: code translated from them is stale."""
        self._call["written"](self._b, hpa, size)

    def forget_code(self) -> None:
        """Forget all translated code, as after frames changed their owner, and every translation of addresses.

        In the middle of an instruction its code is still needed: then it is forgotten before the next block.
        """
        self._call["flush"](self._b)
        if self.words[b.RUNNING >> 3]:
            self.words[b.CODE_FULL >> 3] = 1
            self.words[b.DEADLINE >> 3] = 0
        else:
            self._call["forget_code"](self._b)

    def walk(self, gva: int, access: int, how: int, vcpu: VcpuState | None = None) -> tuple[int, int, int]:
        """Translate through the page tables of the loaded vCPU, or of one that is not: (guest-physical address, -1, 0)
        or (-1, vector, error).
        """
        if vcpu is not None and vcpu is not self._loaded:
            with self._looking_at(vcpu):
                gpa = self._call["walk"](self._b, b.signed(gva), access, how)
        else:
            if self.words[_DIRTY]:
                self.sync()
            gpa = self._call["walk"](self._b, b.signed(gva), access, how)
        vector = self.words[b.W_VECTOR >> 3]
        return (gpa, -1, 0) if vector < 0 else (-1, vector, self.words[b.W_ERROR >> 3])

    def decode(self) -> int:
        """Decode the instruction at RIP into the D words; its length, 0 if unknown."""
        if self.words[_DIRTY]:
            self.sync()
        return int(self._call["decode"](self._b))

    def flags(self) -> int:
        """RFLAGS in the middle of an instruction, where the arithmetic flags are not in the state."""
        return int(self._uc.reg_read(self._native.unicorn.x86_const.UC_X86_REG_EFLAGS))

    def clock(self) -> int:
        """The loaded VM's time in nanoseconds."""
        return int(self._call["clock"](self._b))

    def on_access(self, callback: InPlace) -> None:
        """Set what is called in place for ports and device memory. It must not raise."""
        function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(callback)
        self._keep[:] = [function]
        self.words[b.F_PYTHON >> 3] = ctypes.cast(function, ctypes.c_void_p).value or 0

    # --- what is trapped ----------------------------------------------------------------------------------------------

    def intercept(self, bit: int, on: bool) -> None:
        """Switch one bit of the VMCB's intercept words (see `hypervisor.arch.exits.INTERCEPT_BIT`)."""
        field = ctypes.c_uint64.from_address(self._env + layout.INTERCEPT)
        mask = 1 << bit
        field.value = (field.value | mask) if on else field.value & ~mask

    def set_intercepts(self, bits: int, cr_read: int, cr_write: int) -> None:
        """Replace the intercepts that handlers can add to; what the hypervisor itself needs stays on."""
        bits |= _ALWAYS_INTERCEPTED
        self.words[b.INTERCEPTS >> 3] = bits
        if self.words[b.NMI_BLOCKED >> 3]:
            bits |= 1 << INTERCEPT_BIT[ExitKind.IRET]
        ctypes.c_uint64.from_address(self._env + layout.INTERCEPT).value = bits
        ctypes.c_uint16.from_address(self._env + layout.INTERCEPT_CR_READ).value = cr_read | 1 << 8
        ctypes.c_uint16.from_address(self._env + layout.INTERCEPT_CR_WRITE).value = cr_write | 1 << 0 | 1 << 4 | 1 << 8

    def trap_execution(self, addresses: frozenset[int]) -> None:
        """Leave the guest before the instruction at each of these linear addresses."""
        const = self._native.unicorn
        changed = False
        hflags = ctypes.c_uint32.from_address(self._env + layout.HFLAGS)
        guest, hflags.value = hflags.value, hflags.value & ~layout.HF_GUEST
        for address in set(self._execute_hooks) - addresses:  # Unicorn looks its page up: not in this guest's tables
            self._native.library.uc_hook_del(self._uc._uch, ctypes.c_size_t(self._execute_hooks.pop(address)))
            changed = True
        hflags.value = guest
        for address in addresses - set(self._execute_hooks):
            self._execute_hooks[address] = self._hook(
                const.UC_HOOK_CODE, self._code.address["code"], begin=address, end=address
            )
            changed = True
        if changed:
            self.words[b.EXECUTES >> 3] = len(self._execute_hooks)
            self.forget_code()

    def hooked(self, address: int) -> bool:
        """Whether the guest is left before the instruction at this linear address."""
        return address in self._execute_hooks

    def close(self) -> None:
        """Free the engine. The host's memory must not be closed before."""
        self.unload()
        guard().remove(self._b)
        self._uc = None
        native().trim()


def _keep_no_regions(hook: int, callback: int) -> None:
    """Unicorn notes each block that calls a hook, for when the hook is deleted: a table that grows with each new
    address that a guest runs at. We forget all code then, so one entry will do: to its table all keys are the same.
    """
    table = _peek(hook + layout.HOOK_REGIONS)
    if _peek(hook + layout.HOOK_CALLBACK) != callback or _peek(table + layout.TABLE_NODES) & 0xFFFFFFFF:
        raise EngineError(
            "A hook of this Unicorn build does not lie where the layout table says. Install a known build: "
            f"pip install --force-reinstall unicorn=={layout.UNICORN_VERSIONS[-1]}."
        )
    for function in (layout.TABLE_HASH, layout.TABLE_EQUAL):
        ctypes.c_uint64.from_address(table + function).value = guard().one


def _peek(address: int) -> int:
    return ctypes.c_uint64.from_address(address).value


def _prove_pointers(uc: int, cpu: int, env: int) -> None:
    """Pointer identities that hold only if the layout table fits the loaded library."""
    if env != cpu + layout.CPU_TO_ENV or _peek(cpu + layout.CPU_UC) != uc or _peek(env + layout.ENV_UC) != uc:
        raise EngineError(
            "The CPU state of this Unicorn build does not lie where the layout table says. Install a known build: "
            f"pip install --force-reinstall unicorn=={layout.UNICORN_VERSIONS[-1]}."
        )
