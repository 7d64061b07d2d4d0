"""Trap handlers: registering, checking and switching them. `hypervisor.traps.dispatch` is what a run makes of them.

A plugin's handlers, a test's and the built-in ones are registered through the same methods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypervisor.arch.exits import ExitKind as K
from hypervisor.errors import TrapError
from hypervisor.memory import GuestMemory
from hypervisor.symbols.symbol_table import SymbolTable
from hypervisor.traps.dispatch import Dispatch
from hypervisor.traps.handlers import (
    Handler,
    HandlerFunction,
    Watch,
    check_function,
    check_options,
    number_or_range,
    one_of,
)  # fmt: skip
from hypervisor.traps.handlers import number as key_number
from hypervisor.traps.plugins import plugin_set

_SVM = ("vmrun", "vmmcall", "vmload", "vmsave", "stgi", "clgi", "skinit", "invlpga")
_CR_NUMBERS = (0, 2, 3, 4, 8)
_OPTIONS = frozenset(("name", "mode", "when", "rank", "watch"))


class TrapRegistry:
    """The handlers of one VM; `VM.traps`."""

    def __init__(self, symbols: SymbolTable, memory: GuestMemory, check_open: Callable[[], None]) -> None:
        """``check_open`` raises `ConfigError` once the VM is closed."""
        self._symbols, self._memory, self._check_open = symbols, memory, check_open
        self._handlers: dict[str, Handler] = {}
        self.dispatch = Dispatch()
        """The handlers as the last `seal` found them."""
        self._sealed = -1
        self._running = False
        self.revision = 0

    # --- the kinds ----------------------------------------------------------------------------------------------------

    def cpuid(self, fn: Any = None, *, leaf: int | None = None, subleaf: int | None = None, **options: Any) -> Any:
        """CPUID, narrowed by leaf (EAX) and subleaf (ECX)."""
        return self._register(
            K.CPUID,
            fn,
            options,
            leaf=key_number(K.CPUID, "leaf", leaf, 32),
            subleaf=key_number(K.CPUID, "subleaf", subleaf, 32),
        )

    def rdmsr(self, msr: Any = None, fn: Any = None, **options: Any) -> Any:
        """RDMSR of one register or a range of them."""
        return self._keyed(K.RDMSR, "msr", msr, fn, options, 32)

    def wrmsr(self, msr: Any = None, fn: Any = None, **options: Any) -> Any:
        """WRMSR of one register or a range of them."""
        return self._keyed(K.WRMSR, "msr", msr, fn, options, 32)

    def port_in(self, ports: Any = None, fn: Any = None, **options: Any) -> Any:
        """IN and INS from a port or a range of ports."""
        return self._keyed(K.PORT_IN, "port", ports, fn, options, 16)

    def port_out(self, ports: Any = None, fn: Any = None, **options: Any) -> Any:
        """OUT and OUTS to a port or a range of ports."""
        return self._keyed(K.PORT_OUT, "port", ports, fn, options, 16)

    def mmio_read(self, where: Any = None, fn: Any = None, **options: Any) -> Any:
        """Loads from guest-physical addresses that are no memory."""
        return self._device_memory(K.MMIO_READ, where, fn, options)

    def mmio_write(self, where: Any = None, fn: Any = None, **options: Any) -> Any:
        """Stores to guest-physical addresses that are no memory."""
        return self._device_memory(K.MMIO_WRITE, where, fn, options)

    def cr_read(self, number: Any = None, fn: Any = None, **options: Any) -> Any:
        """MOV from a control register (0, 2, 3, 4 or 8)."""
        return self._numbered(K.CR_READ, number, fn, options, _CR_NUMBERS)

    def cr_write(self, number: Any = None, fn: Any = None, **options: Any) -> Any:
        """MOV to a control register (0, 2, 3, 4 or 8); a handler may change ``exit.value``, which is then checked and
        stored.
        """
        return self._numbered(K.CR_WRITE, number, fn, options, _CR_NUMBERS)

    def dr_read(self, number: Any = None, fn: Any = None, **options: Any) -> Any:
        """MOV from a debug register."""
        return self._numbered(K.DR_READ, number, fn, options, tuple(range(8)))

    def dr_write(self, number: Any = None, fn: Any = None, **options: Any) -> Any:
        """MOV to a debug register."""
        return self._numbered(K.DR_WRITE, number, fn, options, tuple(range(8)))

    def int_n(self, vector: Any = None, fn: Any = None, **options: Any) -> Any:
        """INT n."""
        return self._keyed(K.INT_N, "vector", vector, fn, options, 8)

    def exception(self, vector: Any = None, fn: Any = None, **options: Any) -> Any:
        """An exception of the guest, by vector (0 to 31)."""
        return self._keyed(K.EXCEPTION, "vector", vector, fn, options, 5)

    def interrupt(self, vector: Any = None, fn: Any = None, **options: Any) -> Any:
        """An external interrupt that is about to enter the guest."""
        return self._keyed(K.INTERRUPT, "vector", vector, fn, options, 8)

    def hypercall(self, fn: Any = None, *, number: int | None = None, **options: Any) -> Any:
        """VMMCALL and VMCALL, narrowed by RAX."""
        return self._register(K.HYPERCALL, fn, options, number=key_number(K.HYPERCALL, "number", number, 64))

    def svm(self, fn: Any = None, *, instruction: str | None = None, **options: Any) -> Any:
        """The SVM instructions, which are undefined for a guest unless a handler says otherwise."""
        key = None
        if instruction is not None:
            if instruction not in _SVM:
                raise TrapError(f"svm(instruction={instruction!r}): choose one of {', '.join(_SVM)}.")
            key = range(_SVM.index(instruction), _SVM.index(instruction) + 1)
        return self._register(K.SVM, fn, options, number=key)

    def execute(self, address: int | str, fn: Any = None, **options: Any) -> Any:
        """The instruction at a linear address or symbol, before it runs."""
        linear = self._symbols.address(address)
        return self._register(K.EXECUTE, fn, options, address=range(linear, linear + 1))

    def memory(
        self, where: range, fn: Any = None, *, access: str = "rwx", space: str = "physical", **options: Any
    ) -> Any:
        """Reads, writes and fetches (``access``) of a range of memory, guest-physical or guest-virtual (``space``)."""
        if not access or set(access) - set("rwx"):
            raise TrapError(f"memory(access={access!r}): write one or more of the letters r, w and x.")
        if space not in ("physical", "virtual"):
            raise TrapError(f"memory(space={space!r}): choose 'physical' or 'virtual'.")
        if not isinstance(where, range) or where.step != 1 or len(where) == 0 or where.start < 0:
            raise TrapError(f"memory({where!r}): a non-empty range of addresses with step 1 is needed.")
        options["watch"] = Watch(where, access, space)
        return self._register(K.MEMORY, fn, options)

    def __getattr__(self, name: str) -> Any:
        kind = _PLAIN_KINDS.get(name)
        if kind is None:
            kinds = {kind.name.lower() for kind in K}
            known = ", ".join(sorted({*_PLAIN_KINDS, *(kinds & vars(type(self)).keys())}))
            raise AttributeError(f"there is no trap {name!r}; there are: {known}.")

        def register(fn: Any = None, **options: Any) -> Any:
            return self._register(kind, fn, options)

        return register

    # --- registration -------------------------------------------------------------------------------------------------

    def _keyed(self, kind: K, field: str, key: Any, fn: Any, options: dict[str, Any], bits: int) -> Any:
        if callable(key) and fn is None:
            key, fn = None, key
        return self._register(kind, fn, options, **{field: number_or_range(kind, field, key, bits)})

    def _device_memory(self, kind: K, where: Any, fn: Any, options: dict[str, Any]) -> Any:
        """A trap for device memory, which RAM is not: the engine serves accesses to that by itself."""
        register = self._keyed
        if not callable(where) and (key := number_or_range(kind, "gpa", where, 40)) is not None:
            stores = kind is K.MMIO_WRITE
            for region in self._memory.ram_within(key.start, len(key)):
                if region.writable or not stores:  # stores to read-only memory go to the device there
                    end = region.gpa + region.size
                    raise TrapError(
                        f"{kind.name.lower()}: {region.gpa:#x}-{end - 1:#x} is RAM, whose accesses are none of device "
                        f"memory. Watch it with traps.memory(range({region.gpa:#x}, {end:#x}), "
                        f"access={'w' if stores else 'r'!r}), or leave it out."
                    )
        return register(kind, "gpa", where, fn, options, 40)

    def _numbered(self, kind: K, number: Any, fn: Any, options: dict[str, Any], allowed: tuple[int, ...]) -> Any:
        if callable(number) and fn is None:
            number, fn = None, number
        return self._register(kind, fn, options, number=one_of(kind, number, allowed))

    def _register(self, kind: K, fn: Any, options: dict[str, Any], **key: range | None) -> Any:
        if not options.keys() <= _OPTIONS:
            unknown = options.keys() - _OPTIONS
            raise TrapError(
                f"{kind.name.lower()}({', '.join(sorted(unknown))}=...): no such argument; besides its key a trap "
                "takes name=, mode= and when=."
            )

        def register(function: HandlerFunction) -> HandlerFunction:
            self._add(kind, function, tuple((f, r) for f, r in key.items() if r is not None), **options)
            return function

        return register if fn is None else register(fn)

    def _add(
        self,
        kind: K,
        function: HandlerFunction,
        key: tuple[tuple[str, range], ...],
        name: str | None = None,
        **options: Any,
    ) -> None:
        plugin = plugin_set.current()
        base = name or str(getattr(function, "__name__", kind.name.lower()))
        full = f"{plugin}.{base}" if plugin else base
        new = Handler(full, kind, function, key, plugin=plugin, **options)
        check_options(new)
        if new.rank == "user":
            check_function(new, function)
        self._check_open()
        if self._running:
            self._between_runs(f"{new.describe()} cannot be registered")
        if full in self._handlers:
            if name is not None:
                raise TrapError(f"{new.describe()}: there is a handler of this name already; choose another name=.")
            new.name = next(
                f"{full}-{n}" for n in range(2, len(self._handlers) + 3) if f"{full}-{n}" not in self._handlers
            )
        if new.rank == "user":  # others do not answer what a user's does
            self._check_overlap(new)
        self._handlers[new.name] = new
        self.revision += 1

    def _check_overlap(self, new: Handler) -> None:
        for old in self._handlers.values():
            if old is not new and new.clashes(old):
                raise TrapError(
                    f"{new.describe()} ({new.describe_key()}) overlaps {old.describe()} ({old.describe_key()}). "
                    "Narrow one of them, or disable the other."
                )

    def _between_runs(self, what: str) -> None:
        """Raise `TrapError` while the VM runs; what is only taken away is taken from a closed one, too."""
        if self._running:
            raise TrapError(f"{what} while the VM runs; do it between runs.")

    def compiled(self) -> list[Handler]:
        """The enabled handlers that run inside the engine, in the order in which they are asked: narrowest first."""
        return sorted((h for h in self._handlers.values() if h.enabled and h.compiled), key=Handler.breadth)

    def watches(self) -> list[Watch]:
        """What enabled memory traps look at."""
        return [h.watch for h in self._handlers.values() if h.watch is not None and h.enabled]

    def execute_addresses(self) -> frozenset[int]:
        """The linear addresses that enabled execute traps stop at."""
        return frozenset(h.key[0][1].start for h in self._handlers.values() if h.kind is K.EXECUTE and h.enabled)

    # --- switching ----------------------------------------------------------------------------------------------------

    def _find(self, name: str) -> Handler:
        if name not in self._handlers:
            mine = ", ".join(sorted(h.name for h in self._handlers.values() if h.rank == "user")) or "none"
            raise TrapError(f"there is no handler {name!r}; there are: {mine}.")
        return self._handlers[name]

    def enable(self, name: str) -> None:
        """Switch a handler on again. Between runs only, as the following three."""
        self._check_open()
        self._between_runs(f"handler {name!r} cannot be enabled")
        handler = self._find(name)
        if not handler.enabled:
            handler.enabled = True
            try:
                self._check_overlap(handler)
            except TrapError:
                handler.enabled = False
                raise
        self.revision += 1

    def disable(self, name: str) -> None:
        """Switch a handler off until `enable`."""
        self._between_runs(f"handler {name!r} cannot be disabled")
        self._find(name).enabled = False
        self.revision += 1

    def replace(self, name: str, function: HandlerFunction) -> None:
        """Give a handler another function; its key, mode and name stay."""
        self._check_open()
        self._between_runs(f"handler {name!r} cannot be replaced")
        handler = self._find(name)
        check_function(handler, function)
        handler.function = function
        self.revision += 1

    def remove(self, name: str) -> None:
        """Forget a handler."""
        self._between_runs(f"handler {name!r} cannot be removed")
        self._find(name)
        del self._handlers[name]
        self.revision += 1

    def names(self) -> list[str]:
        """Handlers by name, in the order of their registration."""
        return list(self._handlers)

    def by_hand(self) -> list[Handler]:
        """The enabled handlers that answer, and that neither a plugin nor we have registered."""
        return [
            one for one in self._handlers.values()
            if one.rank == "user" and one.plugin is None and one.enabled and one.mode == "decide"
        ]  # fmt: skip

    # --- for runs -----------------------------------------------------------------------------------------------------

    def seal(self) -> Dispatch:
        """The tables that a run uses, made anew if handlers have come or gone."""
        if self._sealed != self.revision:
            self.dispatch = Dispatch(h for h in self._handlers.values() if h.compiled is None)
            self._sealed = self.revision
        return self.dispatch

    def running(self, on: bool) -> None:
        """Note that a run has begun, or that it has ended."""
        self._running = on


_PLAIN_KINDS = {
    kind.name.lower(): kind
    for kind in (
        K.CLTS, K.LMSW, K.SMSW, K.LGDT, K.LIDT, K.LLDT, K.LTR, K.SGDT, K.SIDT, K.SLDT, K.STR, K.HLT, K.PAUSE, K.MONITOR,
        K.MWAIT, K.INVLPG, K.INVD, K.WBINVD, K.RDTSC, K.RDTSCP, K.RDPMC, K.IRET, K.PUSHF, K.POPF, K.SYSCALL, K.SYSENTER,
        K.RDRAND, K.RDSEED,
    )
}  # fmt: skip
"""Kinds without a key, by the name of their method."""
