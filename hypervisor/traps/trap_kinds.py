"""The kinds of exit as methods: what each is narrowed by, and what that may be.

What all take beside their key is in `Options`. A method's first argument may be the handler itself, so that
``@vm.traps.hlt`` is ``@vm.traps.hlt()``; without a handler the call makes a decorator. Either way it returns a `Trap`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, Unpack

from hypervisor.arch.exits import ExitKind as K
from hypervisor.errors import TrapError
from hypervisor.memory import GuestMemory
from hypervisor.symbols.symbol_table import SymbolTable
from hypervisor.traps.handlers import HandlerFunction, Watch
from hypervisor.traps.keys import Keys, Spans, merged, some_of, spans
from hypervisor.traps.returning import returned
from hypervisor.traps.trap import Trap
from hypervisor.vcpu.processor import Processor

_SVM = ("vmrun", "vmmcall", "vmload", "vmsave", "stgi", "clgi", "skinit", "invlpga")
_CR_NUMBERS = (0, 2, 3, 4, 8)
_DR_NUMBERS = tuple(range(8))
_LINEAR, _GPA_BITS = (1 << 64) - 1, 40
Text = str
"""The class, which in `TrapKinds` is the instruction STR."""


class Options(TypedDict, total=False):
    """What every trap takes beside its key.

    ``name`` is by default the function's; ``mode`` says whether it decides or looks on, and ``when`` whether who looks
    on sees the exit as it arrives or the final values. ``once`` has it removed when it is called for the first time.
    ``rank`` is for what the machine itself is made of: "builtin" is asked last, "private" first.
    """

    name: str | None
    mode: Literal["decide", "observe"]
    when: Literal["before", "after"]
    once: bool
    rank: Literal["user", "builtin", "private"]


Access = Literal["r", "w", "rw", "wr"]
"""Directions: what the guest reads, what it writes, or both."""

Given = HandlerFunction | None
KeysOr = Keys | HandlerFunction | None
"""A key, or the handler of a trap without one."""


class PlainTrap(Protocol):
    """Registers a trap for a kind that has no key."""

    def __call__(self, fn: Given = None, **options: Unpack[Options]) -> Trap:
        """With a handler, or as a decorator."""
        ...


class _Plain:
    """Such a kind, as a method."""

    def __init__(self, kind: K, what: str) -> None:
        self._kind, self.__doc__ = kind, what

    if TYPE_CHECKING:

        def __get__(self, kinds: TrapKinds, owner: object = None) -> PlainTrap: ...

    else:

        def __get__(self, kinds, owner=None):
            return self if kinds is None else partial(kinds._plain, self._kind)


class TrapKinds(ABC):
    """What can be trapped. Each method raises `TrapError` for what is no key of its kind, an unknown argument, and a
    function that cannot be a handler.
    """

    _symbols: SymbolTable
    _memory: GuestMemory

    @abstractmethod
    def _register(
        self,
        what: Text,
        kinds: tuple[K, ...],
        fn: Given,
        options: Options,
        key: dict[Text, Spans | None],
        **more: Any,
    ) -> Trap:
        """Register a handler, now or when the decorator gets it."""

    def _plain(self, kind: K, fn: Given = None, **options: Unpack[Options]) -> Trap:
        return self._register(kind.name.lower(), (kind,), fn, options, {})

    # --- ports, device memory, registers ------------------------------------------------------------------------------

    def port(
        self, ports: KeysOr = None, fn: Given = None, *, access: Access = "rw", **options: Unpack[Options]
    ) -> Trap:
        """IN and OUT, INS and OUTS; ``exit.direction`` says which."""
        return self._keyed("port", _directions("port", access, K.PORT_IN, K.PORT_OUT), "port", ports, fn, options, 16)

    def port_in(self, ports: KeysOr = None, fn: Given = None, **options: Unpack[Options]) -> Trap:
        """IN and INS from a port, a range of ports, or a list of these."""
        return self._keyed("port_in", (K.PORT_IN,), "port", ports, fn, options, 16)

    def port_out(self, ports: KeysOr = None, fn: Given = None, **options: Unpack[Options]) -> Trap:
        """OUT and OUTS to a port, a range of ports, or a list of these."""
        return self._keyed("port_out", (K.PORT_OUT,), "port", ports, fn, options, 16)

    def mmio(
        self, where: KeysOr = None, fn: Given = None, *, access: Access = "rw", **options: Unpack[Options]
    ) -> Trap:
        """Loads and stores of guest-physical addresses that are no memory; ``exit.direction`` says which."""
        kinds = _directions("mmio", access, K.MMIO_READ, K.MMIO_WRITE)
        return self._device_memory("mmio", kinds, where, fn, options)

    def mmio_read(self, where: KeysOr = None, fn: Given = None, **options: Unpack[Options]) -> Trap:
        """Loads from guest-physical addresses that are no memory."""
        return self._device_memory("mmio_read", (K.MMIO_READ,), where, fn, options)

    def mmio_write(self, where: KeysOr = None, fn: Given = None, **options: Unpack[Options]) -> Trap:
        """Stores to guest-physical addresses that are no memory."""
        return self._device_memory("mmio_write", (K.MMIO_WRITE,), where, fn, options)

    def msr(self, msr: KeysOr = None, fn: Given = None, *, access: Access = "rw", **options: Unpack[Options]) -> Trap:
        """RDMSR and WRMSR; ``exit.direction`` says which."""
        return self._keyed("msr", _directions("msr", access, K.RDMSR, K.WRMSR), "msr", msr, fn, options, 32)

    def rdmsr(self, msr: KeysOr = None, fn: Given = None, **options: Unpack[Options]) -> Trap:
        """RDMSR of one register, a range of them, or a list of these."""
        return self._keyed("rdmsr", (K.RDMSR,), "msr", msr, fn, options, 32)

    def wrmsr(self, msr: KeysOr = None, fn: Given = None, **options: Unpack[Options]) -> Trap:
        """WRMSR of one register, a range of them, or a list of these."""
        return self._keyed("wrmsr", (K.WRMSR,), "msr", msr, fn, options, 32)

    def cr(self, number: KeysOr = None, fn: Given = None, *, access: Access = "rw", **options: Unpack[Options]) -> Trap:
        """MOV from and to a control register; ``exit.direction`` says which."""
        kinds = _directions("cr", access, K.CR_READ, K.CR_WRITE)
        return self._numbered("cr", kinds, number, fn, options, _CR_NUMBERS)

    def cr_read(self, number: KeysOr = None, fn: Given = None, **options: Unpack[Options]) -> Trap:
        """MOV from a control register (0, 2, 3, 4 or 8)."""
        return self._numbered("cr_read", (K.CR_READ,), number, fn, options, _CR_NUMBERS)

    def cr_write(self, number: KeysOr = None, fn: Given = None, **options: Unpack[Options]) -> Trap:
        """MOV to a control register (0, 2, 3, 4 or 8); a handler may change ``exit.value``, which is then checked and
        stored.
        """
        return self._numbered("cr_write", (K.CR_WRITE,), number, fn, options, _CR_NUMBERS)

    def dr(self, number: KeysOr = None, fn: Given = None, *, access: Access = "rw", **options: Unpack[Options]) -> Trap:
        """MOV from and to a debug register; ``exit.direction`` says which."""
        kinds = _directions("dr", access, K.DR_READ, K.DR_WRITE)
        return self._numbered("dr", kinds, number, fn, options, _DR_NUMBERS)

    def dr_read(self, number: KeysOr = None, fn: Given = None, **options: Unpack[Options]) -> Trap:
        """MOV from a debug register."""
        return self._numbered("dr_read", (K.DR_READ,), number, fn, options, _DR_NUMBERS)

    def dr_write(self, number: KeysOr = None, fn: Given = None, **options: Unpack[Options]) -> Trap:
        """MOV to a debug register."""
        return self._numbered("dr_write", (K.DR_WRITE,), number, fn, options, _DR_NUMBERS)

    # --- instructions -------------------------------------------------------------------------------------------------

    def cpuid(
        self,
        *given: KeysOr,
        leaf: Keys | None = None,
        subleaf: Keys | None = None,
        **options: Unpack[Options],
    ) -> Trap:
        """CPUID, narrowed by leaf (EAX) and subleaf (ECX); the first argument may be the leaf."""
        leaf, fn = _sorted("cpuid", "leaf", given, leaf)
        key = {"leaf": spans("cpuid", "leaf", leaf, 32), "subleaf": spans("cpuid", "subleaf", subleaf, 32)}
        return self._register("cpuid", (K.CPUID,), fn, options, key)

    def hypercall(self, *given: KeysOr, number: Keys | None = None, **options: Unpack[Options]) -> Trap:
        """VMMCALL and VMCALL, narrowed by RAX; the first argument may be that number."""
        number, fn = _sorted("hypercall", "number", given, number)
        key = {"number": spans("hypercall", "number", number, 64)}
        return self._register("hypercall", (K.HYPERCALL,), fn, options, key)

    def svm(self, fn: Given = None, *, instruction: Text | None = None, **options: Unpack[Options]) -> Trap:
        """The SVM instructions, which are undefined for a guest unless a handler says otherwise."""
        key = None
        if instruction is not None:
            if instruction not in _SVM:
                raise TrapError(f"svm(instruction={instruction!r}): choose one of {', '.join(_SVM)}.")
            key = (range(_SVM.index(instruction), _SVM.index(instruction) + 1),)
        return self._register("svm", (K.SVM,), fn, options, {"number": key})

    clts = _Plain(K.CLTS, "CLTS.")
    hlt = _Plain(K.HLT, "HLT.")
    invd = _Plain(K.INVD, "INVD.")
    invlpg = _Plain(K.INVLPG, "INVLPG.")
    iret = _Plain(K.IRET, "IRET.")
    lgdt = _Plain(K.LGDT, "LGDT.")
    lidt = _Plain(K.LIDT, "LIDT.")
    lldt = _Plain(K.LLDT, "LLDT.")
    lmsw = _Plain(K.LMSW, "LMSW.")
    ltr = _Plain(K.LTR, "LTR.")
    monitor = _Plain(K.MONITOR, "MONITOR.")
    mwait = _Plain(K.MWAIT, "MWAIT.")
    pause = _Plain(K.PAUSE, "PAUSE.")
    popf = _Plain(K.POPF, "POPF.")
    pushf = _Plain(K.PUSHF, "PUSHF.")
    rdpmc = _Plain(K.RDPMC, "RDPMC.")
    rdrand = _Plain(K.RDRAND, "RDRAND.")
    rdseed = _Plain(K.RDSEED, "RDSEED.")
    rdtsc = _Plain(K.RDTSC, "RDTSC.")
    rdtscp = _Plain(K.RDTSCP, "RDTSCP.")
    sgdt = _Plain(K.SGDT, "SGDT.")
    sidt = _Plain(K.SIDT, "SIDT.")
    sldt = _Plain(K.SLDT, "SLDT.")
    smsw = _Plain(K.SMSW, "SMSW.")
    str = _Plain(K.STR, "STR.")
    syscall = _Plain(K.SYSCALL, "SYSCALL.")
    sysenter = _Plain(K.SYSENTER, "SYSENTER.")
    wbinvd = _Plain(K.WBINVD, "WBINVD.")

    # --- events -------------------------------------------------------------------------------------------------------

    def int_n(self, vector: KeysOr = None, fn: Given = None, **options: Unpack[Options]) -> Trap:
        """INT n."""
        return self._keyed("int_n", (K.INT_N,), "vector", vector, fn, options, 8)

    def exception(self, vector: KeysOr = None, fn: Given = None, **options: Unpack[Options]) -> Trap:
        """An exception of the guest, by vector (0 to 31): ``hv.PF`` and the like, or a list of these."""
        return self._keyed("exception", (K.EXCEPTION,), "vector", vector, fn, options, 5)

    def interrupt(self, vector: KeysOr = None, fn: Given = None, **options: Unpack[Options]) -> Trap:
        """An external interrupt that is about to enter the guest."""
        return self._keyed("interrupt", (K.INTERRUPT,), "vector", vector, fn, options, 8)

    # --- places -------------------------------------------------------------------------------------------------------

    def execute(self, address: int | Text | Iterable[int | Text], fn: Given = None, **options: Unpack[Options]) -> Trap:
        """The instruction at a linear address or symbol, before it runs; or at several."""
        given: list[Any] = (
            list(address) if isinstance(address, Iterable) and not isinstance(address, Text) else [address]
        )
        linear = [self._symbols.address(one) for one in given]
        for one in linear:
            if isinstance(one, bool) or not 0 <= one <= _LINEAR:
                raise TrapError(f"execute({one!r}): a linear address of at most 64 bits is needed.")
        if not linear:
            raise TrapError("execute([]): name an address or a symbol at least.")
        key = merged(range(one, one + 1) for one in linear)
        return self._register("execute", (K.EXECUTE,), fn, options, {"address": key})

    def on_return(self, vcpu: Processor, fn: Given = None, *, popped: int = 0, **options: Unpack[Options]) -> Trap:
        """The return of the function that the vCPU is at the first instruction of, once: the handler is called at the
        instruction behind the CALL, with the result in RAX.

        It is told from a return of another call by the stack pointer, and in ring 3 by CR3. ``popped`` are bytes of
        arguments that the function takes off the stack itself (RET n). Raises `hypervisor.GuestFault` where the return
        address cannot be read. A call that never returns leaves its handler behind.
        """
        if popped < 0:
            raise TrapError(f"on_return(popped={popped!r}): a number of bytes is needed.")
        address, condition = returned(vcpu, popped)
        options["once"] = True
        key: dict[Text, Spans | None] = {"address": (range(address, address + 1),)}
        return self._register("on_return", (K.EXECUTE,), fn, options, key, condition=condition)

    def memory(
        self,
        where: range | Iterable[range],
        fn: Given = None,
        *,
        access: Text = "rwx",
        space: Literal["physical", "virtual"] = "physical",
        **options: Unpack[Options],
    ) -> Trap:
        """Reads, writes and fetches (``access``) of a range of memory, or of several, guest-physical or guest-virtual
        (``space``).
        """
        if not access or set(access) - set("rwx"):
            raise TrapError(f"memory(access={access!r}): write one or more of the letters r, w and x.")
        if space not in ("physical", "virtual"):
            raise TrapError(f"memory(space={space!r}): choose 'physical' or 'virtual'.")
        ranges: list[Any] = [where] if isinstance(where, range) or not isinstance(where, Iterable) else list(where)
        for one in ranges:
            if not isinstance(one, range) or one.step != 1 or len(one) == 0 or one.start < 0:
                raise TrapError(f"memory({one!r}): a non-empty range of addresses with step 1 is needed.")
        if not ranges:
            raise TrapError(f"memory({where!r}): the list is empty; name a range at least.")
        watches = tuple(Watch(one, access, space) for one in merged(ranges))
        return self._register("memory", (K.MEMORY,), fn, options, {}, watches=watches)

    # --- what they have in common -------------------------------------------------------------------------------------

    def _keyed(
        self, what: Text, kinds: tuple[K, ...], field: Text, key: KeysOr, fn: Given, options: Options, bits: int
    ) -> Trap:
        key, fn = _key_or_handler(key, fn)
        return self._register(what, kinds, fn, options, {field: spans(what, field, key, bits)})

    def _numbered(
        self, what: Text, kinds: tuple[K, ...], key: KeysOr, fn: Given, options: Options, allowed: tuple[int, ...]
    ) -> Trap:
        key, fn = _key_or_handler(key, fn)
        return self._register(what, kinds, fn, options, {"number": some_of(what, key, allowed)})

    def _device_memory(self, what: Text, kinds: tuple[K, ...], where: KeysOr, fn: Given, options: Options) -> Trap:
        """A trap for device memory, which RAM is not: the engine serves accesses to that by itself."""
        key, fn = _key_or_handler(where, fn)
        places = spans(what, "gpa", key, _GPA_BITS)
        for one in places or ():
            for region in self._memory.ram_within(one.start, len(one)):
                if K.MMIO_READ in kinds or region.writable:  # stores to read-only memory go to the device there
                    end = region.gpa + region.size
                    access = "w" if K.MMIO_READ not in kinds else "rw" if len(kinds) > 1 else "r"
                    raise TrapError(
                        f"{what}: {region.gpa:#x}-{end - 1:#x} is RAM, whose accesses are none of device memory. Watch "
                        f"it with traps.memory(range({region.gpa:#x}, {end:#x}), access={access!r}), or leave it out."
                    )
        return self._register(what, kinds, fn, options, {"gpa": places})


def _key_or_handler(key: KeysOr, fn: Given) -> tuple[Keys | None, Given]:
    """A handler may stand in the key's place."""
    if callable(key):
        if fn is not None:
            raise TrapError(f"{key!r} and {fn!r}: a trap has one handler, and its key is a number, a range or a list.")
        return None, key
    return key, fn


def _sorted(what: Text, field: Text, given: tuple[KeysOr, ...], key: Keys | None) -> tuple[Keys | None, Given]:
    """A key and a handler, of which either may be the only one."""
    if len(given) > 2:
        raise TrapError(f"{what}: a {field} and a handler are all that it takes without a name.")
    first, fn = (*given, None, None)[:2]
    if callable(first) or first is None:
        return _key_or_handler(key, first if fn is None else fn)  # type: ignore[arg-type]  # checked when registered
    if key is not None:
        raise TrapError(f"{what}({first!r}, {field}={key!r}): the {field} is given twice; keep one.")
    return first, fn  # type: ignore[return-value]  # likewise


def _directions(what: Text, access: Text, read: K, write: K) -> tuple[K, ...]:
    kinds = {"r": (read,), "w": (write,), "rw": (read, write), "wr": (read, write)}.get(access)
    if kinds is None:
        raise TrapError(f"{what}(access={access!r}): choose 'r', 'w' or 'rw'.")
    return kinds


__all__ = ["Access", "Options", "TrapKinds"]
