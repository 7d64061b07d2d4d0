"""Plugins: finding them, giving them their options, and attaching them to a VM.

A plugin is a class. Its constructor's keyword parameters are its options; three methods, each optional, are its life::

    class Dice:
        def __init__(self, port: int = 0x300, sides: int = 6) -> None: ...
        def attach(self, vm) -> None: ...    # before the first run: register traps, attach devices
        def reset(self) -> None: ...         # the VM was reset
        def detach(self) -> None: ...        # the VM is being closed

Two more are for `hypervisor.VM.state`: ``state()`` returns a record (`hypervisor.state`) of all that the plugin
remembers of its VM, and ``restore(state)`` goes on from one. A plugin that remembers nothing, or lets devices of its
own do so, says ``stateless = True``.

It is named by text (``NAME[,key=value]...`` for an installed plugin, ``MODULE:CLASS[,key=value]...`` for any importable
one), or handed over as a class or an instance.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from hypervisor.errors import PluginError
from hypervisor.traps.plugins.plugin_options import convert, parameters
from hypervisor.traps.plugins.strangers import current, running

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "hypervisor.plugins"
"""The entry-point group under which installed packages announce plugins."""

SHIPPED = {
    "audit": "hypervisor.plugins.audit:Audit",
    "coverage": "hypervisor.plugins.lcov:Lcov",
    "strace": "hypervisor.plugins.strace:Strace",
}
"""Those of the package, by name; an installed one of the same name comes first."""

API = 1
"""The version of what handlers and plugins are given. It grows when something that they use changes or goes; a plugin
that says ``api = 1`` needs that version.
"""

HOOKS = {"attach": 1, "reset": 0, "detach": 0}
"""The methods that a plugin may have, with the number of arguments that each is called with."""


class PluginPart:
    """A plugin as a part of a machine's state."""

    def __init__(self, name: str, plugin: object) -> None:
        self._name, self._plugin = name, plugin

    def state(self) -> Any:
        """What it remembers. Raises `PluginError` where it fails."""
        return _call(self._name, self._plugin, "state")

    def restore(self, state: Any) -> None:
        """Go on from ``state``. Raises `PluginError` where it fails."""
        _call(self._name, self._plugin, "restore", state)


class PluginSet:
    """The plugins of one VM, in the order in which they were given."""

    def __init__(self, plugins: Iterable[object] = ()) -> None:
        """Find and construct every plugin. Raises `PluginError` for the first that cannot be."""
        self._plugins = [make(plugin) for plugin in ((plugins,) if isinstance(plugins, str) else plugins)]
        self._attached: list[tuple[str, object]] = []

    def __iter__(self) -> Iterator[tuple[str, object]]:
        return iter(self._plugins)

    def __len__(self) -> int:
        return len(self._plugins)

    def parts(self) -> list[tuple[str, PluginPart]]:
        """Those that have a state, by name. Raises `PluginError` for one that does not say whether it has."""
        found = []
        for number, (name, plugin) in enumerate(self._plugins):
            if all(callable(getattr(plugin, method, None)) for method in ("state", "restore")):
                found.append((f"plugin {number} {name}", PluginPart(name, plugin)))
            elif getattr(plugin, "stateless", False) is not True:
                raise PluginError(
                    f"Plugin {name} does not say what it remembers, so the state of its machine cannot be taken: give "
                    "it state() and restore(state), with a record (hypervisor.state), or stateless = True."
                )
        return found

    def attach(self, vm: object) -> None:
        """Call each ``attach(vm)`` in order. If one raises, those before it are detached and `PluginError` is
        raised. On KeyboardInterrupt all that had begun are: nobody knows how far the last one has come.
        """
        for name, plugin in self._plugins:
            self._attached.append((name, plugin))
            try:
                _call(name, plugin, "attach", vm)
            except BaseException as error:
                if isinstance(error, PluginError):
                    self._attached.pop()
                self.detach(ignore_errors=True)  # one that was interrupted, too: it may be half attached
                raise

    def reset(self) -> None:
        """Call each ``reset()`` in order. Raises `PluginError` for the first that fails."""
        for name, plugin in self._attached:
            _call(name, plugin, "reset")

    def detach(self, *, ignore_errors: bool = False) -> None:
        """Call each ``detach()``, last attached first, every one; then raise the first error unless told not to."""
        errors: list[PluginError] = []
        while self._attached:
            name, plugin = self._attached.pop()
            try:
                _call(name, plugin, "detach")
            except PluginError as error:
                errors.append(error)
        if errors and not ignore_errors:
            raise errors[0]


def check_for_another(plugins: Iterable[object]) -> None:
    """Raise `PluginError` for plugins, as they were given, that cannot be in a second machine: objects that remember
    something of the first one.
    """
    for plugin in plugins:
        given = plugin[0] if isinstance(plugin, tuple) else plugin
        if not isinstance(given, (str, type)) and getattr(given, "stateless", False) is not True:
            name = type(given).__name__
            raise PluginError(
                f"Plugin {name} was given as an object, which remembers one machine and cannot be in two: give the "
                f"class, or (class, options), so that each machine gets a {name} of its own."
            )


def make(plugin: object) -> tuple[str, object]:
    """Name and instance of a plugin given as text, as (text, options), as a class, or as an instance.

    Raises `PluginError`: not found, not a plugin, an unknown or malformed option, or a constructor that raised.
    """
    options: Mapping[str, object] = {}
    if isinstance(plugin, tuple):
        if len(plugin) != 2 or not isinstance(plugin[1], Mapping):
            raise PluginError(f"{plugin!r} is no plugin with options; give (plugin, {{option: value}}).")
        plugin, options = plugin
    if isinstance(plugin, str):
        name, written = parse(plugin)
        return name, _construct(name, find(name), {**written, **options})
    if isinstance(plugin, type):
        return plugin.__name__, _construct(plugin.__name__, plugin, options)
    name = type(plugin).__name__
    _check_hooks(name, plugin)
    return name, plugin


def parse(text: str) -> tuple[str, dict[str, str]]:
    """``NAME,key=value,...`` taken apart. A comma within a value is written twice, as in QEMU's options."""
    name, *pairs = (part.replace("\0", ",") for part in text.replace(",,", "\0").split(","))
    options: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise PluginError(
                f"Plugin {name}: {pair!r} is not an option; write key=value (and ,, for a comma in a value)."
            )
        if key in options:
            raise PluginError(f"Plugin {name}: the option {key!r} is given twice; keep one.")
        options[key] = value
    if not name:
        raise PluginError(f"{text!r} names no plugin; write NAME[,key=value] or MODULE:CLASS[,key=value].")
    return name, options


def find(name: str) -> type:
    """The class that ``name`` means: an installed plugin, or ``MODULE:CLASS``."""
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        if not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
            raise PluginError(f"{name!r} names no plugin; write MODULE:CLASS, such as mypackage.plugins:Dice.")
        return _import(name)
    candidates = [entry for entry in installed() if entry.name == name]
    if len({entry.value for entry in candidates}) > 1:
        owners = ", ".join(f"{entry.value} ({entry.dist.name if entry.dist else '?'})" for entry in candidates)
        raise PluginError(f"Plugin {name} is announced by several packages: {owners}. Use MODULE:CLASS.")
    if candidates:
        return _import(candidates[0].value, name)
    if name in SHIPPED:
        return _import(SHIPPED[name], name)
    known = sorted({entry.name for entry in installed()} | SHIPPED.keys())
    similar = get_close_matches(name, known, n=1)
    hint = f" Did you mean {similar[0]}?" if similar else f" There are: {', '.join(known)}."
    raise PluginError(f"There is no plugin {name}.{hint} A plugin that is not installed is given as MODULE:CLASS.")


def installed() -> list[EntryPoint]:
    """The entry points of every installed plugin; nothing is imported."""
    from importlib.metadata import entry_points

    return list(entry_points(group=GROUP))


def _import(target: str, name: str | None = None) -> type:
    name = name or target
    module_name, _, attribute = target.partition(":")
    try:
        with running(name, f": importing {module_name} failed"):
            found: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                found = getattr(found, part, None)
    except PluginError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            raise _not_there(name, module_name, error.__cause__) from error.__cause__
        raise
    if not isinstance(found, type):
        raise PluginError(f"Plugin {name}: {module_name} has no class {attribute!r}.")
    return found


def _not_there(name: str, module_name: str, error: ModuleNotFoundError) -> PluginError:
    """What to say where a module is missing: the plugin's own, or one that it needs."""
    if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
        return PluginError(f"Plugin {name}: {module_name} needs the module {error.name}, which is not there.")
    return PluginError(
        f"Plugin {name}: there is no module {error.name}. Install it, or put its directory on PYTHONPATH."
    )


def _construct(name: str, cls: type, options: Mapping[str, object]) -> object:
    accepted = parameters(name, cls)
    arguments: dict[str, object] = {}
    for key, value in options.items():
        if key not in accepted:
            similar = get_close_matches(key, accepted, n=1)
            hint = f" Did you mean {similar[0]}?" if similar else f" Its options are: {', '.join(accepted) or 'none'}."
            raise PluginError(f"Plugin {name} has no option {key!r}.{hint}")
        arguments[key] = convert(name, key, value, accepted[key].annotation) if isinstance(value, str) else value
    missing = [key for key, option in accepted.items() if option.required and key not in arguments]
    if missing:
        raise PluginError(f"Plugin {name} needs the option {missing[0]!r}; write {name},{missing[0]}=VALUE.")
    with running(name, " could not be constructed"):
        plugin: object = cls(**arguments)
    _check_hooks(name, plugin)
    return plugin


def _check_hooks(name: str, plugin: object) -> None:
    import inspect

    with running(name, ": its methods cannot be looked at"):
        hooks = {hook: method for hook in HOOKS if (method := getattr(plugin, hook, None)) is not None}
        wanted = getattr(plugin, "api", API)
    if wanted != API:
        raise PluginError(
            f"Plugin {name} is written for version {wanted!r} of the handler API, and this is version {API}."
        )
    if not hooks:
        raise PluginError(f"Plugin {name} has none of attach(vm), reset() and detach(): it could never do anything.")
    for hook, method in hooks.items():
        try:
            inspect.signature(method).bind(*(None,) * HOOKS[hook])
        except (TypeError, ValueError):
            expected = "attach(self, vm)" if hook == "attach" else f"{hook}(self)"
            raise PluginError(f"Plugin {name}: its method {hook} must be callable as {expected}.") from None


def _call(name: str, plugin: object, hook: str, *arguments: object) -> Any:
    with running(name, f": {hook} failed"):
        method = getattr(plugin, hook, None)
        return None if method is None else method(*arguments)


__all__ = ["GROUP", "PluginSet", "check_for_another", "current", "find", "installed", "make", "parse"]
