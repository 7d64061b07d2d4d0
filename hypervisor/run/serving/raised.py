"""What a handler, a device or other code of a user's raised, as a text that begins with whose code it was.

Between the run and that code lie frames of ours, which say nothing about the mistake. They are left out, of the text
and of the exception's own traceback, unless ``HYPERVISOR_TRACEBACK=full`` asks for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from traceback import StackSummary, TracebackException, format_exception, walk_tb
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from hypervisor.errors import HypervisorError, InternalError
from hypervisor.run.ending.conditions import Predicate
from hypervisor.run.threads.thread_frames import frame_of
from hypervisor.traps.handlers import Handler
from hypervisor.traps.plugins.strangers import describe

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine

OURS = str(Path(__file__).parents[2]) + os.sep
"""Where files of ours lie."""
STANDARD = str(Path(os.__file__).parent) + os.sep
"""Where the standard library lies."""
ASKS = frozenset(("_ask", "_observe", "_raised"))
"""Functions of ours whose ``handler`` is the one that is being called."""
DEEPEST_CAUSE = 16
"""Causes of an exception that are told; more are a loop, or as bad."""


def tell(vm: Machine, error: BaseException) -> str:
    """Whose code raised ``error``, what, and where in that code; frames of ours are taken out of its traceback.

    An error of ours that no code of the user's led to is its sentence alone; what is a bug of ours is told in full.
    """
    whose = _whose(vm, [frame for frame, _ in walk_tb(error.__traceback__)])
    if os.environ.get("HYPERVISOR_TRACEBACK") == "full":
        return f"{whose} raised {describe(error)}\n{_full(error)}"
    theirs = _without_ours(error.__traceback__)
    if isinstance(error, InternalError) or (theirs is None and not isinstance(error, HypervisorError)):
        return f"{whose} raised {describe(error)}\n{_full(error)}"
    if theirs is None:
        return describe(error)
    parts = [f"{whose} raised {describe(error)}\n"]
    for shown in _causes(error):
        if shown is not error:
            parts.append(f"because of {describe(shown)}\n")
        shown.__traceback__ = _without_ours(shown.__traceback__)
        parts += StackSummary.from_list(TracebackException.from_exception(shown).stack).format()
    return "".join(parts).rstrip()


def _full(error: BaseException) -> str:
    return "".join(format_exception(error)).rstrip()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, what caused it, and so on."""
    at: BaseException | None = error
    for _ in range(DEEPEST_CAUSE):
        if at is None:
            return
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """The frames of a traceback that are a user's."""
    whole = []
    while trace is not None:
        whole.append(trace)
        trace = trace.tb_next
    rest = None
    for one, theirs in reversed(list(zip(whole, _theirs(one.tb_frame for one in whole), strict=True))):
        if theirs:
            rest = TracebackType(rest, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return rest


def _theirs(frames: Iterable[FrameType]) -> Iterator[bool]:
    """For each frame, outermost first, whether it is a user's: neither ours, nor the standard library's for us."""
    ours = True
    for frame in frames:
        file = frame.f_code.co_filename
        ours = file.startswith(OURS) or (ours and file.startswith(STANDARD))
        yield not ours


def busy_in(vm: Machine, thread: int) -> str:
    """Whose code a thread that runs the VM executes at the moment, as a sentence needs it; empty where that is ours
    alone, as it is while the guest itself runs.
    """
    if vm.runner is None:
        return ""
    frames: list[FrameType] = []
    at = frame_of(thread)
    while at is not None and at.f_locals.get("self") is not vm.runner:
        frames.append(at)
        at = at.f_back
    frames.reverse()
    return _whose(vm, frames) if any(_theirs(frames)) else ""


def _whose(vm: Machine, frames: Sequence[FrameType]) -> str:
    """Whose code the frames first come to, as a sentence needs it: a handler's, a device's, a condition's, or a
    function's that one of ours has called.
    """
    devices = {id(device): f"device {name!r}" for name, device in vm.devices.items()}
    ours = "the hypervisor"
    for frame, theirs in zip(frames, _theirs(frames), strict=True):
        local: dict[str, Any] = frame.f_locals
        handler, owner = local.get("handler"), local.get("self")
        if theirs:
            return devices.get(id(owner)) or f"{getattr(frame.f_code, 'co_qualname', frame.f_code.co_name)}()"
        if frame.f_code.co_name in ASKS and isinstance(handler, Handler):
            if handler.rank == "user":
                return handler.named
            ours = f"the built-in {handler.named}"
        elif isinstance(owner, Predicate):
            return f"until={owner.text.removesuffix(' holds')}"
        elif id(owner) in devices:
            ours = devices[id(owner)]
    return ours


__all__ = ["busy_in", "tell"]
