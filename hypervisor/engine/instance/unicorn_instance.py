"""A Unicorn instance in guest mode, with its block of words for the kernels. Nobody else holds the handle."""

from __future__ import annotations

import ctypes
from typing import Any

from hypervisor.engine import block as b
from hypervisor.engine import layout
from hypervisor.engine.compiling.compiler import code
from hypervisor.engine.instance import guest_mode
from hypervisor.engine.instance.device_window import map_device_window
from hypervisor.engine.instance.first_words import put_first_words
from hypervisor.engine.instance.room import SHARING, check_room, room_for
from hypervisor.engine.interposition.interpose import guard
from hypervisor.engine.interposition.native import native
from hypervisor.engine.tables import GuestTables
from hypervisor.errors import EngineError, InternalError
from hypervisor.memory import HostMemory

_FEATURES_OFF = ((1, 1 << 30 | 1 << 3), (2, 1 << 18))  # (word, bits): RDRAND and MONITOR, RDSEED


class UnicornInstance:
    """An instance over the host's memory with ``code_cache`` bytes of room for translated code of each VM. ``nothing``
    are the tables of no VM, which it has at first.

    Kernels get the address of the block, `at`, as their first argument: ``call[name](at, ...)``.
    """

    def __init__(self, memory: HostMemory, nothing: GuestTables, code_cache: int) -> None:
        reserved = room_for(SHARING, code_cache)
        check_room(reserved)
        self._native = native()
        self._kernels = code()
        self.call: dict[str, Any] = self._kernels.call
        """Kernels by their names, as functions that release the interpreter lock."""
        room = (ctypes.c_ubyte * (b.SIZE + b.LINE))()
        self.block = (ctypes.c_int64 * (b.SIZE >> 3)).from_buffer(room, -ctypes.addressof(room) % b.LINE)
        self.at = ctypes.addressof(self.block)
        self.words = memoryview(self.block).cast("B").cast("q")
        """The block, by word."""
        unicorn = self._native.unicorn
        self._uc: Any = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self._uc.ctl_set_cpu_model(unicorn.x86_const.UC_CPU_X86_EPYC)
        self._uc.ctl_set_tcg_buffer_size(reserved)
        self._uc.mem_map_ptr(0, memory.end, unicorn.UC_PROT_ALL, memory.address)
        self._control = guest_mode.control_pages(self._uc)
        self.env = self._find_the_cpu()
        """Address of the CPU's state."""
        self._keep = put_first_words(self.words, memory, nothing)
        self._add_hooks()
        guard().add(self.at)
        try:
            guest_mode.enter(self._uc, self.words)
            self._serve_misses()
        except BaseException:  # an interrupt, too: the guard would go on reading a block that is gone
            guard().remove(self.at)
            raise

    def _find_the_cpu(self) -> int:
        """Put the CPU's addresses into the block, and the block's where kernels that Unicorn calls look for it."""
        uc = int(self._uc._uch.value)
        cpu = peek(uc + layout.UC_CPU)
        env = peek(cpu + layout.CPU_ENV)
        _prove_pointers(uc, cpu, env)
        for offset, value in ((b.UC, uc), (b.CPU, cpu), (b.ENV, env)):
            self.words[offset >> 3] = value
        ctypes.c_uint64.from_address(cpu + layout.CPU_OPAQUE).value = self.at
        ctypes.c_uint8.from_address(uc + layout.UC_NO_EXIT_REQUEST).value = 1
        for word, bits in _FEATURES_OFF:
            feature = ctypes.c_uint64.from_address(env + layout.FEATURES + 8 * word)
            feature.value &= ~bits
        return env

    def _add_hooks(self) -> None:
        unicorn, address = self._native.unicorn, self._kernels.address
        self._hook(unicorn.UC_HOOK_INTR, address["interrupt"])
        self._hook(unicorn.UC_HOOK_BLOCK, address["block"])
        for name, instruction in (
            ("syscall", unicorn.x86_const.UC_X86_INS_SYSCALL),
            ("sysenter", unicorn.x86_const.UC_X86_INS_SYSENTER),
        ):
            self._hook(unicorn.UC_HOOK_INSN, address[name], ctypes.c_int(instruction))
        map_device_window(self._native.library, self._uc._uch, self.at, address["read_mmio"], address["write_mmio"])
        self._uc.ctl_set_tlb_mode(unicorn.UC_TLB_VIRTUAL)
        self._uc.ctl_exits_enabled(True)

    def _serve_misses(self) -> None:
        """Have our fill called at each TLB miss. (Until here Unicorn's own took linear addresses for physical ones.)"""
        at = peek(self.words[b.CPU >> 3] + layout.CPU_CLASS) + layout.CLASS_TLB_FILL
        if peek(at) != self._native.address("unicorn_fill_tlb_x86_64"):
            raise EngineError(
                "This Unicorn build does not serve TLB misses where the layout table says. Install a known build: "
                f"pip install --force-reinstall unicorn=={layout.UNICORN_VERSIONS[-1]}."
            )
        ctypes.c_uint64.from_address(at).value = self._kernels.address["tlb"]
        self.call["flush"](self.at)

    def _hook(self, kind: int, address: int, *extra: Any, begin: int = 1, end: int = 0) -> int:
        handle = ctypes.c_size_t()
        error = self._native.library.uc_hook_add(
            self._uc._uch,
            ctypes.byref(handle),
            kind,
            ctypes.c_void_p(address),
            ctypes.c_void_p(self.at),
            ctypes.c_uint64(begin),
            ctypes.c_uint64(end),
            *extra,
        )
        if error:
            raise InternalError(f"Unicorn refused hook kind {kind:#x} (error {error}). Please report this.")
        if kind in (self._native.unicorn.UC_HOOK_BLOCK, self._native.unicorn.UC_HOOK_CODE):
            _keep_no_regions(int(handle.value), address, begin, end)
        return int(handle.value)

    def hook_code(self, address: int) -> int:
        """Have the kernel ``code`` called before the instruction at a linear address, in what is translated from now
        on; the hook, for `move_hook`.
        """
        return self._hook(self._native.unicorn.UC_HOOK_CODE, self._kernels.address["code"], begin=address, end=address)

    def move_hook(self, hook: int, address: int) -> None:
        """Have a hook called before another instruction, in what is translated from now on."""
        for offset in (layout.HOOK_BEGIN, layout.HOOK_END):
            ctypes.c_uint64.from_address(hook + offset).value = address

    def keep_apart(self, edges: bool, blocks: bool) -> None:
        """Which translations are for the guest from now on: those that note edges, blocks. Before a flush of the TLB,
        with which Unicorn forgets what it was about to run.
        """
        kind = (b.TRACE_EDGES if edges else 0) | (b.TRACE_BLOCKS if blocks else 0)
        ctypes.c_uint64.from_address(self.words[b.CPU >> 3] + layout.CPU_TRACED).value = kind

    def flags(self) -> int:
        """RFLAGS in the middle of an instruction, where the arithmetic flags are not in the state."""
        return int(self._uc.reg_read(self._native.unicorn.x86_const.UC_X86_REG_EFLAGS))

    def close(self) -> None:
        """Free the instance. The host's memory must not be closed before."""
        guard().remove(self.at)
        self._uc = None
        self._native.trim()


def peek(address: int) -> int:
    """The 64-bit word at an address of this process."""
    return ctypes.c_uint64.from_address(address).value


def _keep_no_regions(hook: int, callback: int, begin: int, end: int) -> None:
    """Unicorn notes each block that calls a hook, for when the hook is deleted: a table that grows with each new
    address that a guest runs at. We delete none, so one entry will do: to its table all keys are the same.
    """
    table = peek(hook + layout.HOOK_REGIONS)
    found = tuple(peek(hook + offset) for offset in (layout.HOOK_CALLBACK, layout.HOOK_BEGIN, layout.HOOK_END))
    if found != (callback, begin, end) or peek(table + layout.TABLE_NODES) & 0xFFFFFFFF:
        raise EngineError(
            "A hook of this Unicorn build does not lie where the layout table says. Install a known build: "
            f"pip install --force-reinstall unicorn=={layout.UNICORN_VERSIONS[-1]}."
        )
    for function in (layout.TABLE_HASH, layout.TABLE_EQUAL):
        ctypes.c_uint64.from_address(table + function).value = guard().one


def _prove_pointers(uc: int, cpu: int, env: int) -> None:
    """Pointer identities that hold only if the layout table fits the loaded library."""
    if env != cpu + layout.CPU_TO_ENV or peek(cpu + layout.CPU_UC) != uc or peek(env + layout.ENV_UC) != uc:
        raise EngineError(
            "The CPU state of this Unicorn build does not lie where the layout table says. Install a known build: "
            f"pip install --force-reinstall unicorn=={layout.UNICORN_VERSIONS[-1]}."
        )
