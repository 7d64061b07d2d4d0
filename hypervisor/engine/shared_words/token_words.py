"""The token that pCPUs pass each other: who has it asks for the interpreter lock next. Words that kernels share.

There is one for the process, as there is one lock. See `hypervisor.engine.kernels.vmexit.token`.
"""

from __future__ import annotations

import ctypes
import os

_WORD = ctypes.c_int64
_LINE = 8  # words of a cache line

LENT, BRIEF = 1, 2
"""In the owner's word: its guest runs; its guest ran long before the last exit, so that it needs the lock briefly."""


class TokenWords(ctypes.Structure):
    """Who has the token. Times are in cycles of the host's counter."""

    owner: int
    """Address of the pCPU's block, with `LENT` and `BRIEF`; 0 for nobody."""
    since: int
    """When the owner's guest was entered or left last."""
    taken_at: int
    """When the owner got it."""
    cpu_clock: int
    """The clock of the CPU time of the owner's thread."""

    next: int
    """Whom it is handed to when the owner's guest runs next, likewise; 0 for nobody."""
    next_clock: int
    """The clock of the CPU time of that thread."""

    _fields_ = [
        ("before", _WORD * _LINE), ("owner", _WORD), ("since", _WORD), ("taken_at", _WORD), ("cpu_clock", _WORD),
        ("next", _WORD), ("next_clock", _WORD), ("behind", _WORD * (2 * _LINE - 6)),
    ]  # fmt: skip
    """With room on both sides: nobody else's words are in its cache lines."""


TOKEN = TokenWords()
"""This process's."""


def _forked() -> None:
    """Nobody of those who had the token, or wanted it, is here."""
    TOKEN.owner = TOKEN.next = 0


os.register_at_fork(after_in_child=_forked)


def token_word(name: str) -> int:
    """The offset of a word of `TokenWords`."""
    return int(getattr(TokenWords, name).offset)


__all__ = ["BRIEF", "LENT", "TOKEN", "TokenWords", "token_word"]
