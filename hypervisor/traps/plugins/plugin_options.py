"""A plugin's options: its constructor's keyword parameters, and text converted to their types."""

from __future__ import annotations

import inspect
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypervisor.errors import PluginError
from hypervisor.traps.plugins.strangers import running

_WORDS = {"on": True, "yes": True, "true": True, "1": True, "off": False, "no": False, "false": False, "0": False}
_EXAMPLES = {int: "a whole number such as 10 or 0x300", float: "a number such as 0.5", bool: "on or off"}


@dataclass(frozen=True, slots=True)
class Option:
    """One option: the type that its parameter is annotated with, and whether it must be given."""

    annotation: Any
    required: bool


def parameters(plugin: str, cls: type) -> dict[str, Option]:
    """The options of a plugin class. Raises `PluginError` if its constructor cannot be called with keywords alone."""
    constructor: Any = cls
    with running(plugin, ": the parameters of its constructor cannot be read"):  # annotations are code
        signature = inspect.signature(cls)
        hints = get_type_hints(constructor.__init__)
    options: dict[str, Option] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise PluginError(f"Plugin {plugin}: its parameter {name!r} is positional only; options are keywords.")
        options[name] = Option(hints.get(name, str), parameter.default is parameter.empty)
    return options


def convert(plugin: str, option: str, text: str, annotation: Any) -> object:
    """``text`` as the type an option is annotated with. Raises `PluginError` naming both."""
    for kind in _alternatives(annotation):
        if kind is type(None):
            if text == "none":
                return None
        elif kind in (str, Path):
            return kind(text)
        elif kind in _EXAMPLES:
            value = _number(text, kind)
            if value is not None:
                return value
        else:
            raise PluginError(
                f"Plugin {plugin}: the option {option!r} has the type {getattr(kind, '__name__', kind)}, "
                "which cannot be written as text; use int, bool, str, float or Path."
            )
    wanted = " or ".join(_EXAMPLES.get(kind, "none") for kind in _alternatives(annotation))
    raise PluginError(f"Plugin {plugin}: the option {option!r} is {text!r}; it must be {wanted}.")


def _alternatives(annotation: Any) -> list[Any]:
    """The types of a union; None and numbers before text, which would take anything."""
    union = get_origin(annotation) in (Union, types.UnionType)
    return sorted(get_args(annotation) if union else (annotation,), key=lambda kind: kind in (str, Path))


def _number(text: str, kind: type) -> int | float | bool | None:
    try:
        if kind is bool:
            return _WORDS.get(text.lower())
        return int(text, 0) if kind is int else float(text)
    except ValueError:
        return None
