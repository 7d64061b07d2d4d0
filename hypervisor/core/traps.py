"""Trap handlers: registration, validation, and the sealed tables that exits are dispatched through.

A plugin's handlers, a test's and the built-in ones are registered through the same methods. Before a run the handlers
are sealed into one tuple per kind; an exit then costs a table index and a comparison per handler.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from hypervisor.arch.exits import ExitKind as K
from hypervisor.core import plugins
from hypervisor.core.compiled import Compiled
from hypervisor.core.exits import OUTPUTS, STORED, Exit
from hypervisor.core.verdicts import HANDLED, PASS, Verdict
from hypervisor.errors import TrapError

if TYPE_CHECKING:
    from hypervisor.core.vcpu import Vcpu
    from hypervisor.core.vm import VM

HandlerFunction = Callable[..., Any]
_SVM = ("vmrun", "vmmcall", "vmload", "vmsave", "stgi", "clgi", "skinit", "invlpga")
_CR_NUMBERS = (0, 2, 3, 4, 8)


@dataclass(slots=True)
class Handler:
    """One registered handler. ``key`` narrows it: each pair is an exit's field and the half-open range of values it may
    have.
    """

    name: str
    kind: K
    function: HandlerFunction
    key: tuple[tuple[str, range], ...]
    mode: str
    when: str
    plugin: str | None
    builtin: bool
    enabled: bool = True
    watch: tuple[range, str, str] | None = None
    """For memory traps: the range, the access letters and the address space."""

    def matches(self, exit: Exit) -> bool:
        """Whether this handler is for the exit."""
        if self.watch is not None:
            return self._watches(exit)
        return all(getattr(exit, field) in values for field, values in self.key)

    def _watches(self, exit: Exit) -> bool:
        where, access, space = self.watch or (range(0), "", "")
        start = exit.address if space == "physical" else exit.number
        return exit.access in access and start is not None and start < where.stop and where.start < start + exit.size

    def describe_key(self) -> str:
        """The key as a sentence needs it."""
        if not self.key:
            return "any"
        parts = []
        for field, values in self.key:
            first, last = values.start, values.stop - 1
            parts.append(f"{field} {first:#x}" if first == last else f"{field} {first:#x}-{last:#x}")
        return ", ".join(parts)

    def size(self) -> int:
        """How much the key lets through; a smaller one is narrower."""
        total = 1
        for _, values in self.key:
            total *= len(values)
        return total if self.key else 1 << 64


_Matcher = Callable[[Exit], bool]


class Table:
    """The sealed handlers of one kind. Those that decide come with a matcher made for their key."""

    __slots__ = ("after", "before", "builtin", "decide", "outputs", "stored")

    def __init__(self, kind: K, handlers: list[Handler]) -> None:
        on = [h for h in handlers if h.enabled]
        self.before = tuple(h for h in on if h.mode == "observe" and h.when == "before")
        self.after = tuple(h for h in on if h.mode == "observe" and h.when == "after")
        decide = sorted((h for h in on if h.mode == "decide" and not h.builtin), key=Handler.size)
        self.decide: tuple[tuple[_Matcher, Handler], ...] = tuple((_matcher(h), h) for h in decide)
        self.builtin: tuple[tuple[_Matcher, Handler], ...] = tuple((_matcher(h), h) for h in on if h.builtin)
        self.outputs = OUTPUTS.get(kind, ()) if self.builtin else ()
        self.stored = kind in STORED and bool(self.builtin)

    @property
    def heard(self) -> bool:
        """Whether anyone besides the built-in handlers listens."""
        return bool(self.before or self.after or self.decide)

    @property
    def listeners(self) -> tuple[Handler, ...]:
        """All but the built-in handlers."""
        return (*self.before, *(handler for _, handler in self.decide), *self.after)


def _matcher(handler: Handler) -> _Matcher:
    """A function that says whether an exit is for this handler: the usual keys cost one comparison."""
    if handler.watch is not None or len(handler.key) > 1:
        return handler.matches
    if not handler.key:
        return lambda exit: True
    field, values = handler.key[0]
    get, start, stop = attrgetter(field), values.start, values.stop
    return lambda exit: start <= get(exit) < stop


class TrapRegistry:
    """The handlers of one VM; `VM.traps`."""

    def __init__(self, vm: VM, resolve: Callable[[int | str], int]) -> None:
        self._vm = vm
        self._handlers: dict[str, Handler] = {}
        self._resolve = resolve
        self._sealed: list[Table | None] = [None] * 128
        self._running = False
        self.revision = 0

    # --- the kinds ----------------------------------------------------------------------------------------------------

    def cpuid(self, fn: Any = None, *, leaf: int | None = None, subleaf: int | None = None, **options: Any) -> Any:
        """CPUID, narrowed by leaf (EAX) and subleaf (ECX)."""
        return self._register(
            K.CPUID, fn, options, leaf=_number("leaf", leaf, 32), subleaf=_number("subleaf", subleaf, 32)
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
        return self._keyed(K.MMIO_READ, "gpa", where, fn, options, 40)

    def mmio_write(self, where: Any = None, fn: Any = None, **options: Any) -> Any:
        """Stores to guest-physical addresses that are no memory."""
        return self._keyed(K.MMIO_WRITE, "gpa", where, fn, options, 40)

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
        return self._register(K.HYPERCALL, fn, options, number=_number("number", number, 64))

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
        linear = self._resolve(address)
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
        options["watch"] = (where, access, space)
        return self._register(K.MEMORY, fn, options)

    def __getattr__(self, name: str) -> Any:
        kind = _PLAIN_KINDS.get(name)
        if kind is None:
            known = ", ".join(sorted([*_PLAIN_KINDS, *(n for n in vars(type(self)) if not n.startswith("_"))]))
            raise AttributeError(f"there is no trap {name!r}; there are: {known}.")

        def register(fn: Any = None, **options: Any) -> Any:
            return self._register(kind, fn, options)

        return register

    # --- registration -------------------------------------------------------------------------------------------------

    def _keyed(self, kind: K, field: str, key: Any, fn: Any, options: dict[str, Any], bits: int) -> Any:
        if callable(key) and fn is None:
            key, fn = None, key
        return self._register(kind, fn, options, **{field: _range(kind, field, key, bits)})

    def _numbered(self, kind: K, number: Any, fn: Any, options: dict[str, Any], allowed: tuple[int, ...]) -> Any:
        if callable(number) and fn is None:
            number, fn = None, number
        if number is not None and number not in allowed:
            raise TrapError(f"{kind.name.lower()}({number!r}): choose one of {', '.join(map(str, allowed))}.")
        return self._register(kind, fn, options, number=None if number is None else range(number, number + 1))

    def _register(self, kind: K, fn: Any, options: dict[str, Any], **key: range | None) -> Any:
        unknown = set(options) - {"name", "mode", "when", "builtin", "watch"}
        if unknown:
            raise TrapError(
                f"{kind.name.lower()}({', '.join(sorted(unknown))}=...): no such argument; besides its key a trap "
                "takes name=, mode= and when=."
            )

        def register(function: HandlerFunction) -> HandlerFunction:
            if isinstance(function, Compiled):
                function.install(self._vm, kind, {f: r for f, r in key.items() if r is not None})
                self.revision += 1
                return function
            self._add(kind, function, tuple((f, r) for f, r in key.items() if r is not None), **options)
            return function

        return register if fn is None else register(fn)

    def _add(
        self,
        kind: K,
        function: HandlerFunction,
        key: tuple[tuple[str, range], ...],
        name: str | None = None,
        mode: str = "decide",
        when: str = "before",
        builtin: bool = False,
        watch: tuple[range, str, str] | None = None,
    ) -> None:
        plugin = plugins.current()
        base = name or str(getattr(function, "__name__", kind.name.lower()))
        full = f"{plugin}.{base}" if plugin else base
        where = f"{'plugin ' + plugin + ', ' if plugin else ''}handler {full!r} for {kind.name.lower()}"
        if not callable(function):
            raise TrapError(f"{where}: {function!r} is not a function.")
        _check_signature(function, where)
        if mode not in ("decide", "observe"):
            raise TrapError(f"{where}: mode={mode!r} is unknown; choose 'decide' or 'observe'.")
        if when not in ("before", "after"):
            raise TrapError(f"{where}: when={when!r} is unknown; choose 'before' or 'after'.")
        if mode == "decide" and when == "after":
            raise TrapError(f"{where}: when='after' is for mode='observe'; a deciding handler always comes before.")
        if self._running:
            raise TrapError(f"{where}: handlers are registered before a run, not during one.")
        new = Handler(full, kind, function, key, mode, when, plugin, builtin, watch=watch)
        if full in self._handlers:
            number = 2
            while f"{full}-{number}" in self._handlers:
                number += 1
            if name is not None:
                raise TrapError(f"{where}: there is a handler of this name already; choose another name=.")
            new.name = f"{full}-{number}"
        if mode == "decide" and not builtin:
            for old in self._handlers.values():
                if old.kind is kind and old.mode == "decide" and not old.builtin and _clash(old, new):
                    raise TrapError(
                        f"{where} ({new.describe_key()}) overlaps handler {old.name!r} ({old.describe_key()})"
                        f"{' of plugin ' + old.plugin if old.plugin else ''}. Narrow one of them, or disable the other."
                    )
        self._handlers[new.name] = new
        self.revision += 1

    def memory_watches(self) -> list[tuple[range, str, str]]:
        """The ranges that enabled memory traps watch: (range, access letters, space)."""
        return [h.watch for h in self._handlers.values() if h.watch is not None and h.enabled]

    def execute_addresses(self) -> frozenset[int]:
        """The linear addresses that enabled execute traps stop at."""
        return frozenset(h.key[0][1].start for h in self._handlers.values() if h.kind is K.EXECUTE and h.enabled)

    # --- switching ----------------------------------------------------------------------------------------------------

    def _find(self, name: str) -> Handler:
        if name not in self._handlers:
            mine = ", ".join(sorted(h.name for h in self._handlers.values() if not h.builtin)) or "none"
            raise TrapError(f"there is no handler {name!r}; there are: {mine}.")
        return self._handlers[name]

    def enable(self, name: str) -> None:
        """Switch a handler on again, from the next run on."""
        self._find(name).enabled = True
        self.revision += 1

    def disable(self, name: str) -> None:
        """Switch a handler off until `enable`, from the next run on."""
        self._find(name).enabled = False
        self.revision += 1

    def replace(self, name: str, function: HandlerFunction) -> None:
        """Give a handler another function; its key and mode stay."""
        handler = self._find(name)
        _check_signature(function, f"handler {name!r}")
        handler.function = function
        self.revision += 1

    def remove(self, name: str) -> None:
        """Forget a handler."""
        self._find(name)
        del self._handlers[name]
        self.revision += 1

    def names(self) -> list[str]:
        """Handlers by name, in the order of their registration."""
        return list(self._handlers)

    # --- dispatch -----------------------------------------------------------------------------------------------------

    def seal(self) -> dict[K, Table]:
        """The tables that a run uses."""
        by_kind: dict[K, list[Handler]] = {}
        for handler in self._handlers.values():
            by_kind.setdefault(handler.kind, []).append(handler)
        tables = {kind: Table(kind, handlers) for kind, handlers in by_kind.items()}
        self._sealed = [None] * 128
        for kind, table in tables.items():
            self._sealed[kind] = table
        return tables

    def running(self, on: bool) -> None:
        """Note that a run has begun or ended."""
        self._running = on

    def decide(self, vcpu: Vcpu, exit: Exit) -> Verdict:
        """Ask the handlers of an exit: observers first, then the deciding ones until one does not pass, then the
        built-in ones.
        """
        table = self._sealed[exit.kind]
        if table is None:
            return PASS
        for handler in table.before:
            if handler.matches(exit):
                _observe(handler, vcpu, exit)
        for matches, handler in table.decide:
            if matches(exit):
                verdict = handler.function(vcpu, exit)
                if not isinstance(verdict, Verdict):
                    raise _no_verdict(handler, verdict)
                if verdict is HANDLED:
                    if table.stored:
                        break  # the handler chose the value; the built-in one checks and stores it
                    for field in table.outputs:
                        if getattr(exit, field) is None:
                            self._fill_in(table, vcpu, exit)
                            break
                    return HANDLED
                if verdict is not PASS:
                    return verdict
        for matches, handler in table.builtin:
            if matches(exit):
                answer: Verdict = handler.function(vcpu, exit)
                if answer is not PASS:
                    return answer
        return PASS

    def _fill_in(self, table: Table, vcpu: Vcpu, exit: Exit) -> None:
        """A handler said HANDLED and left result fields unwritten: they get the built-in answer."""
        written = {field: getattr(exit, field) for field in table.outputs if getattr(exit, field) is not None}
        for matches, handler in table.builtin:
            if matches(exit) and handler.function(vcpu, exit) is not PASS:
                break
        for field, value in written.items():
            setattr(exit, field, value)

    def decided(self, vcpu: Vcpu, exit: Exit) -> None:
        """Show observers the final values of an exit."""
        table = self._sealed[exit.kind]
        if table is not None:
            for handler in table.after:
                if handler.matches(exit):
                    _observe(handler, vcpu, exit)


_PLAIN_KINDS = {
    kind.name.lower(): kind
    for kind in (
        K.CLTS, K.LMSW, K.SMSW, K.LGDT, K.LIDT, K.LLDT, K.LTR, K.SGDT, K.SIDT, K.SLDT, K.STR, K.HLT, K.PAUSE, K.MONITOR,
        K.MWAIT, K.INVLPG, K.INVD, K.WBINVD, K.RDTSC, K.RDTSCP, K.RDPMC, K.IRET, K.PUSHF, K.POPF, K.SYSCALL, K.SYSENTER,
        K.RDRAND, K.RDSEED,
    )
}  # fmt: skip
"""Kinds without a key, by the name of their method."""


def _observe(handler: Handler, vcpu: Vcpu, exit: Exit) -> None:
    saved = exit.fields()
    answer = handler.function(vcpu, exit)
    if answer is not None:
        raise TrapError(
            f"handler {handler.name!r} observes {handler.kind.name.lower()} and returned {answer!r}: an observer "
            "returns nothing. Register it with mode='decide' if it should answer."
        )
    for name, value in saved.items():
        setattr(exit, name, value)


def _no_verdict(handler: Handler, answer: object) -> TrapError:
    owner = f" of plugin {handler.plugin}" if handler.plugin else ""
    return TrapError(
        f"handler {handler.name!r} for {handler.kind.name.lower()}{owner} returned "
        f"{answer!r} instead of a verdict. End it with one of: return hv.HANDLED, return hv.PASS, return hv.RETRY, "
        "return hv.inject(vector), return hv.stop('why')."
    )


def _check_signature(function: HandlerFunction, where: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, None)
    except TypeError:
        raise TrapError(f"{where}: a handler takes (vcpu, exit), this one takes {signature}.") from None


def _clash(one: Handler, other: Handler) -> bool:
    """Whether two keys overlap and neither is narrower than the other."""
    if not one.enabled:
        return False
    if one.watch is not None:
        return False  # memory traps may overlap: each sees its own range
    a, b = dict(one.key), dict(other.key)
    for field in a.keys() & b.keys():
        if a[field].start >= b[field].stop or b[field].start >= a[field].stop:
            return False
    return not (_within(a, b) or _within(b, a)) or a == b


def _within(inner: dict[str, range], outer: dict[str, range]) -> bool:
    return all(f in inner and inner[f].start >= r.start and inner[f].stop <= r.stop for f, r in outer.items())


def _number(field: str, value: Any, bits: int) -> range | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
        raise TrapError(f"{field}={value!r}: a number of {bits} bits is needed.")
    return range(value, value + 1)


def _range(kind: K, field: str, key: Any, bits: int) -> range | None:
    if key is None:
        return None
    if isinstance(key, int) and not isinstance(key, bool):
        key = range(key, key + 1)
    if not isinstance(key, range) or key.step != 1 or len(key) == 0:
        raise TrapError(
            f"{kind.name.lower()}({key!r}): a number or a non-empty range of {field} values with step 1 is needed."
        )
    if key.start < 0 or key.stop > 1 << bits:
        raise TrapError(
            f"{kind.name.lower()}: {field} {key.start:#x}-{key.stop - 1:#x} is outside 0x0-{(1 << bits) - 1:#x}."
        )
    return key
