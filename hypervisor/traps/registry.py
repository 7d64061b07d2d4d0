"""Trap handlers: registering, checking and switching them. `hypervisor.traps.dispatch` is what a run makes of them.

A plugin's handlers, a test's and the built-in ones are registered through the same methods (`TrapKinds`).
They may come and go while the guest runs, in code that its run calls: handlers, devices, conditions. The tables are
sealed anew at once then, so that such a change holds from the guest's next instruction on, and an exit costs the same
whether or not there are any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from hypervisor.arch.exits import ExitKind as K
from hypervisor.errors import TrapError
from hypervisor.memory import GuestMemory
from hypervisor.symbols.symbol_table import SymbolTable
from hypervisor.traps.compiled import Compiled
from hypervisor.traps.dispatch import Dispatch, asking
from hypervisor.traps.handlers import Handler, HandlerFunction, Watch, check_function, check_options
from hypervisor.traps.keys import Spans
from hypervisor.traps.plugins import plugin_set
from hypervisor.traps.trap import Trap
from hypervisor.traps.trap_kinds import Options, TrapKinds
from hypervisor.traps.verdicts import PASS
from hypervisor.vcpu.processor import Processor

_OPTIONS = Options.__annotations__.keys()
MAX_HANDLERS, MAX_PENDING = 4096, 512
"""Handlers of one VM, and those that are called once: what a guest has its handlers register comes to an end."""


class Guest(Protocol):
    """The run that uses the handlers (`hypervisor.run.runner.Runner`)."""

    @property
    def here(self) -> bool:
        """Whether this thread executes it: a handler, a device, a condition."""
        ...

    def traps_changed(self) -> None:
        """Use other handlers from the guest's next instruction on. Raises `TrapError` for what cannot be trapped."""
        ...


class TrapRegistry(TrapKinds):
    """The handlers of one VM; `VM.traps`."""

    def __init__(self, symbols: SymbolTable, memory: GuestMemory, check_open: Callable[[], None]) -> None:
        """``check_open`` raises `ConfigError` once the VM is closed."""
        self._symbols, self._memory, self._check_open = symbols, memory, check_open
        self._handlers: dict[str, Handler] = {}
        self.dispatch = Dispatch()
        """The handlers as the last `seal` found them."""
        self._sealed = -1
        self._stale: set[K] = set()
        """Kinds of exit whose handlers are others since then."""
        self._pending = 0
        """At least as many as there are that are called once."""
        self._numbers: dict[str, int] = {}
        """How many handlers have had a name that is a function's."""
        self._guest: Guest | None = None
        """The run that goes on."""
        self.revision = 0

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            known = ", ".join(sorted(kind for kind in vars(TrapKinds) if not kind.startswith("_")))
            raise AttributeError(f"there is no trap {name!r}; there are: {known}.")

    # --- registration -------------------------------------------------------------------------------------------------

    def _register(
        self,
        what: str,
        kinds: tuple[K, ...],
        fn: HandlerFunction | None,
        options: Options,
        key: dict[str, Spans | None],
        **more: Any,
    ) -> Trap:
        if not options.keys() <= _OPTIONS:
            unknown = options.keys() - _OPTIONS
            raise TrapError(
                f"{what}({', '.join(sorted(unknown))}=...): no such argument; besides its key a trap "
                "takes name=, mode=, when= and once=."
            )
        narrowed = tuple((field, values) for field, values in key.items() if values is not None)
        trap = Trap(self, what, lambda function: self._add(kinds, function, narrowed, **options, **more))
        if fn is not None:
            trap(fn)
        return trap

    def _add(
        self,
        kinds: tuple[K, ...],
        function: HandlerFunction,
        key: tuple[tuple[str, Spans], ...],
        name: str | None = None,
        condition: Callable[[Processor], bool] | None = None,
        **options: Any,
    ) -> str:
        """Register a handler; its name."""
        plugin = plugin_set.current() or (None if self._guest is None else self._plugin_of_caller())
        base = name or str(getattr(function, "__name__", kinds[0].name.lower()))
        full = f"{plugin}.{base}" if plugin else base
        new = Handler(full, kinds, function, key, plugin=plugin, **options)
        check_options(new)
        if new.rank == "user":
            check_function(new, function)
        self._check_open()
        if not self._changeable:
            raise self._not_from_here(f"{new.describe()} cannot be registered")
        if full in self._handlers:
            if name is not None:
                raise TrapError(f"{new.describe()}: there is a handler of this name already; choose another name=.")
            new.name = self._another(full)
        self._check_number(new)
        if new.rank == "user" and new.mode == "decide" and not new.once:  # others do not answer what it does
            self._check_overlap(new)
        new.condition = condition
        new.function = self._called(new, function)
        self._handlers[new.name] = new
        try:
            self._changed(new)
        except BaseException:
            del self._handlers[new.name]
            self._changed(new)
            raise
        return new.name

    def _another(self, name: str) -> str:
        """A name like one that is taken: ``name-2`` and so on."""
        number = self._numbers.get(name, 1) + 1
        while f"{name}-{number}" in self._handlers:
            number += 1
        self._numbers[name] = number
        return f"{name}-{number}"

    def _check_number(self, new: Handler) -> None:
        """Raise `TrapError` where there are too many, which a guest may have brought about."""
        if len(self._handlers) >= MAX_HANDLERS:
            raise TrapError(f"{new.describe()} would be one more than the {MAX_HANDLERS} that a VM can have.")
        if new.once:
            self._pending += 1
            if self._pending > MAX_PENDING:
                self._pending = sum(h.once for h in self._handlers.values()) + 1
            if self._pending > MAX_PENDING:
                raise TrapError(
                    f"{new.describe()} would be one more than the {MAX_PENDING} that wait to be called once; what they "
                    "wait for does not come."
                )

    def _plugin_of_caller(self) -> str | None:
        """The plugin whose handler registers another one."""
        caller = asking()
        return None if caller is None else caller.plugin

    def _called(self, handler: Handler, function: HandlerFunction) -> HandlerFunction:
        """What is called for a handler: for one that is called once, its removal, then itself."""
        if not handler.once or isinstance(function, Compiled):
            return function

        def once(vcpu: Any, exit: Any) -> Any:
            here = self._handlers.get(handler.name) is handler  # another one of the same exit may have removed it
            if not here or (handler.condition is not None and not handler.condition(vcpu)):
                return None if handler.mode == "observe" else PASS
            self.remove(handler.name)
            return function(vcpu, exit)

        return once

    def _check_overlap(self, new: Handler) -> None:
        for old in self._handlers.values():
            if old is not new and new.clashes(old):
                raise TrapError(
                    f"{new.describe()} ({new.describe_key()}) overlaps {old.describe()} ({old.describe_key()}). "
                    "Narrow one of them, or disable the other."
                )

    @property
    def _changeable(self) -> bool:
        """Whether this is the thread that runs the VM, if any does."""
        return self._guest is None or self._guest.here

    def _not_from_here(self, what: str) -> TrapError:
        return TrapError(f"{what} from this thread while the VM runs; do it in a handler, between runs or in a pause.")

    def _check_changeable(self, what: str) -> None:
        """Raise `TrapError` in another thread than the one that runs the VM; what is only taken away is taken from a
        closed one, too.
        """
        if not self._changeable:
            raise self._not_from_here(what)

    def _changed(self, handler: Handler) -> None:
        """A handler has come or gone."""
        self.revision += 1
        self._stale.update(handler.kinds)
        if self._guest is not None:
            self._guest.traps_changed()

    # --- what there is ------------------------------------------------------------------------------------------------

    def compiled(self) -> list[Handler]:
        """The enabled handlers that run inside the engine, each for one kind and one range of a key at a time, in the
        order in which they are asked: narrowest first.
        """
        inside = [part for h in self._handlers.values() if h.enabled and h.compiled for part in h.apart()]
        return sorted(inside, key=Handler.breadth)

    def watches(self) -> list[Watch]:
        """What enabled memory traps look at."""
        return [watch for h in self._handlers.values() if h.enabled for watch in h.watches]

    def execute_addresses(self) -> frozenset[int]:
        """The linear addresses that enabled execute traps stop at."""
        traps = [h for h in self._handlers.values() if h.enabled and K.EXECUTE in h.kinds]
        return frozenset(address for h in traps for one in h.key[0][1] for address in one)

    def names(self) -> list[str]:
        """Handlers by name, in the order of their registration."""
        return list(self._handlers)

    def __contains__(self, name: object) -> bool:
        return name in self._handlers

    def describe(self, name: str) -> str:
        """A handler in a few words: what it is called, for which exits, and how it is narrowed. Raises `TrapError`."""
        handler = self._find(name)
        states = (handler.mode == "observe", "observes"), (handler.once, "once"), (not handler.enabled, "disabled")
        more = "".join(f", {word}" for holds, word in states if holds)
        return f"{handler.describe()} ({handler.describe_key()}){more}"

    def by_hand(self) -> list[Handler]:
        """The enabled handlers that answer, and that neither a plugin nor we have registered."""
        return [
            one for one in self._handlers.values()
            if one.rank == "user" and one.plugin is None and one.enabled and one.mode == "decide"
        ]  # fmt: skip

    def __repr__(self) -> str:
        mine = [h.name for h in self._handlers.values() if h.rank == "user"]
        return f"<traps: {', '.join(mine) or 'no handlers but our own'}>"

    # --- switching ----------------------------------------------------------------------------------------------------

    def _find(self, name: str) -> Handler:
        if name not in self._handlers:
            mine = ", ".join(sorted(h.name for h in self._handlers.values() if h.rank == "user")) or "none"
            raise TrapError(f"there is no handler {name!r}; there are: {mine}.")
        return self._handlers[name]

    def enable(self, name: str) -> None:
        """Switch a handler on again. Between runs, or in code that the VM's run calls, as the following three."""
        self._check_open()
        self._check_changeable(f"handler {name!r} cannot be enabled")
        handler = self._find(name)
        if not handler.enabled:
            handler.enabled = True
            try:
                self._check_overlap(handler)
                self._changed(handler)
            except TrapError:
                handler.enabled = False
                self._changed(handler)
                raise

    def disable(self, name: str) -> None:
        """Switch a handler off until `enable`."""
        self._check_changeable(f"handler {name!r} cannot be disabled")
        handler = self._find(name)
        handler.enabled = False
        self._changed(handler)

    def replace(self, name: str, function: HandlerFunction) -> None:
        """Give a handler another function; its key, mode and name stay."""
        self._check_open()
        self._check_changeable(f"handler {name!r} cannot be replaced")
        handler = self._find(name)
        check_function(handler, function)
        handler.function = self._called(handler, function)
        self._changed(handler)

    def remove(self, name: str) -> None:
        """Forget a handler."""
        self._check_changeable(f"handler {name!r} cannot be removed")
        handler = self._find(name)
        del self._handlers[name]
        self._changed(handler)

    # --- for runs -----------------------------------------------------------------------------------------------------

    def seal(self) -> Dispatch:
        """The tables that a run uses, made anew if handlers have come or gone."""
        if self._sealed != self.revision:
            handlers = (h for h in self._handlers.values() if h.compiled is None)
            self.dispatch = Dispatch(handlers, self.dispatch, self._stale)
            self._sealed = self.revision
            self._stale.clear()
        return self.dispatch

    def used_by(self, guest: Guest | None) -> None:
        """Note that a run has begun, or with None that it has ended."""
        self._guest = guest
