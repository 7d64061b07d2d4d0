"""Running what a stranger wrote: whatever it raises becomes a sentence that says whose code it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from hypervisor.errors import HypervisorError, PluginError

LONGEST = 2000
"""Characters of a stranger's error that are shown."""

_current: ContextVar[str | None] = ContextVar("hypervisor_plugin", default=None)


def current() -> str | None:
    """The name of the plugin whose code runs now, for error messages and handler names; None outside plugins."""
    return _current.get()


@contextmanager
def running(name: str, what: str) -> Iterator[None]:
    """The block runs code of the plugin ``name``. Whatever that raises is a `PluginError` beginning with ``what``.

    SystemExit, too: a plugin may fail, but not end its host. Only KeyboardInterrupt passes, as it is the user's.
    """
    token = _current.set(name)
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the cause keeps its traceback
        raise PluginError(f"Plugin {name}{what}: {describe(error)}") from error
    finally:
        _current.reset(token)


def describe(error: BaseException) -> str:
    """Our own errors are sentences already; others need their type."""
    try:
        text = str(error)
    except Exception:  # written by the same stranger
        text = "(and its text cannot be had)"
    if len(text) > LONGEST:
        text = text[:LONGEST] + " ..."
    if isinstance(error, HypervisorError):
        return text
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind
