"""Functions that do nothing when they are called."""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any

_BEGINS = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR


def only_begins(function: Any) -> str:
    """What a call of ``function`` makes instead of doing its work, as a sentence needs it; empty if it does it."""
    if type(function) is FunctionType and not function.__code__.co_flags & _BEGINS and not function.__dict__:
        return ""  # as almost all are
    for called in (function, getattr(function, "__call__", None)):  # noqa: B004  # of an object, its method
        if inspect.iscoroutinefunction(called):
            return "a coroutine, which nobody awaits: write def, without async"
        if inspect.isasyncgenfunction(called) or inspect.isgeneratorfunction(called):
            return "a generator, which nobody asks for its values: leave yield out"
    return ""
