"""The options of a command that describe a machine: those of `hypervisor.MachineConfig`, which says what they are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field
from typing import Annotated, Any

import typer

from hypervisor.errors import ConfigError
from hypervisor.vm.config import MachineConfig, Option, options

NO_DEFAULT = frozenset(("clock",))
"""Options whose default depends on where the command runs."""


def with_machine_options(command: Callable[..., int]) -> Callable[..., int]:
    """A command that takes a machine's options besides its own, and gets what was given as ``machine``: a dictionary
    of the fields.
    """
    own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "machine"]
    rows = options()

    def with_options(**values: Any) -> int:
        texts = {each.name: values.pop(each.name) for each, _ in rows}
        return command(machine=parsed(texts), **values)

    with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
    parameters = [_parameter(each, option) for each, option in rows]
    kept = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    with_options.__signature__ = inspect.Signature([*parameters, *kept])  # type: ignore[attr-defined]  # for typer
    return with_options


def _parameter(each: Field[Any], option: Option) -> inspect.Parameter:
    kind: Any = bool if option.flag else list[str] if option.many or option.once else option.kind
    default = None if each.name in NO_DEFAULT or option.many or option.once else each.default
    declared: Any
    if option.name.startswith("-"):
        declared = typer.Option(option.name, help=option.help, metavar=option.metavar)
    else:
        declared = typer.Argument(help=option.help, metavar=option.metavar)
    value: Any = kind if default is not None else kind | None
    annotation = Annotated[value, declared]
    return inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def parsed(texts: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that ``texts`` mean: those that were given and are not as usual. Raises `ConfigError`."""
    values = {}
    for each, option in options():
        given = texts.get(each.name)
        if option.once:
            given = _only(option.name, given)
        if given is None or (given == each.default and each.name not in NO_DEFAULT):
            continue
        try:
            values[each.name] = tuple(map(_reader(option), given)) if option.many else _reader(option)(given)
        except ConfigError as error:
            raise ConfigError(f"{option.name}: {error}") from error
    return values


def _reader(option: Option) -> Callable[[Any], Any]:
    return option.parse or (lambda value: value)


def _only(name: str, values: Sequence[str] | None) -> str | None:
    """The value of an option for which the machine has one place. Raises `ConfigError` if there are more."""
    if values and len(values) > 1:
        raise ConfigError(f"{name} is given {len(values)} times, and there is one such drive; leave the others out.")
    return values[0] if values else None


__all__ = ["MachineConfig", "parsed", "with_machine_options"]
