"""What an engine notes of frames: where in its TLB they are, and what it has translated in them.

A frame is in its *code* state while its generation is odd: engines may have translated what is in it, and no TLB entry
grants stores to it. It becomes *writable* by going to the next generation. An engine notes the generation that it
translated; at the first fetch after a VM came to it, or after its guest or the host wrote, that is an old one, and what
was translated is dropped. So nobody reaches into another thread's engine, and a VM that moves takes nothing with it.

A note says where in the TLB something may be. There is one for the executable and one for the writable entries of each
frame, and one for pages whose frames are shared, found by their numbers, because what many pages show cannot be found
by its frame. An epoch is what lies between two flushes of ours; notes of another one say nothing.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine.jit import call2, call3, kernel, ld64, s64, st64
from hypervisor.engine.kernels.memory.access import flush_tlb
from hypervisor.engine.kernels.memory.lookaside import forget
from hypervisor.memory import map_words as m_

_SHARED_AT, _EPOCH, _GENERATIONS = b_.SHARED_AT, b_.EPOCH, b_.GENERATIONS
_EXECUTABLE_AT, _WRITABLE_AT, _TRANSLATED = b_.EXECUTABLE_AT, b_.WRITABLE_AT, b_.TRANSLATED
_UC, _CPU, _F_TB_INVALIDATE, _RAM_ADDR = b_.UC, b_.CPU, b_.F_TB_INVALIDATE, b_.RAM_ADDR
_F_TLB_FLUSH_PAGE, _C_FLIPS = b_.F_TLB_FLUSH_PAGE, b_.C_FLIPS
_TO_WORD, _MANY, _IN_EPOCH = m_.TO_WORD, b_.NOTE_MANY, b_.NOTE_MANY - 1
_SHARED_ROW, _SHARED_MASK = b_.SHARED_ROW, b_.SHARED_ROWS - 1


@kernel
def of_frame(b, table, frame):  # type: ignore[no-untyped-def]
    """Where a table of this engine has the word of a frame."""
    return ld64(b + table) + (frame >> _TO_WORD)


@kernel
def noted(b, va):  # type: ignore[no-untyped-def]
    """What a note says for linear ``va`` alone."""
    return s64(va << 16) | ld64(b + _EPOCH)


@kernel
def note(b, at, va):  # type: ignore[no-untyped-def]
    """The TLB gets an entry at linear ``va`` of what ``at`` is noted for."""
    word, epoch, here = ld64(at), ld64(b + _EPOCH), noted(b, va)
    if word != here:
        st64(at, _MANY | epoch if word & _IN_EPOCH == epoch else here)
    return 0


@kernel
def _drop(b, at):  # type: ignore[no-untyped-def]
    """Take what ``at`` is noted for out of the TLB."""
    word = ld64(at)
    if word & _IN_EPOCH == ld64(b + _EPOCH):
        if word & _MANY:
            flush_tlb(b)
        else:
            call2(ld64(b + _F_TLB_FLUSH_PAGE), ld64(b + _CPU), (word >> 16) & ~0xFFF)
            st64(at, 0)
    return 0


@kernel
def note_shared(b, page, va):  # type: ignore[no-untyped-def]
    """The TLB gets an entry at linear ``va`` for a page of the base map whose frame is shared."""
    row = ld64(b + _SHARED_AT) + _SHARED_ROW * (page & _SHARED_MASK)
    if ld64(row) != page and ld64(row + 8) & _IN_EPOCH == ld64(b + _EPOCH):
        st64(row + 8, _MANY | ld64(b + _EPOCH))  # two pages have one row
        return 0
    st64(row, page)
    return note(b, row + 8, va)


@kernel
def drop_shared(b, page):  # type: ignore[no-untyped-def]
    """A page of the base map has another frame now: nothing leads to the old one any more."""
    row = ld64(b + _SHARED_AT) + _SHARED_ROW * (page & _SHARED_MASK)
    if ld64(row) == page or ld64(row + 8) & _MANY:
        _drop(b, row + 8)
    return forget(b)


@kernel
def _invalidate(b, hpa, size):  # type: ignore[no-untyped-def]
    start = ld64(b + _RAM_ADDR) + hpa
    return call3(ld64(b + _F_TB_INVALIDATE), ld64(b + _UC), start, start + size)


@kernel
def fetched(b, frame):  # type: ignore[no-untyped-def]
    """The TLB gets an executable entry for a frame: bring it into its code state, and drop what was translated before
    it changed.
    """
    at, translated = of_frame(b, _GENERATIONS, frame), of_frame(b, _TRANSLATED, frame)
    generation = ld64(at)
    if generation & 1 == 0:
        generation += 1
        st64(at, generation)
        st64(b + _C_FLIPS, ld64(b + _C_FLIPS) + 1)
        _drop(b, of_frame(b, _WRITABLE_AT, frame))
        forget(b)
    if ld64(translated) != generation:
        if ld64(translated):
            _invalidate(b, frame, 4096)
        st64(translated, generation)
    return 0


@kernel
def writable(b, frame):  # type: ignore[no-untyped-def]
    """The TLB gets a writable entry for a frame in its code state: drop all its code, because Unicorn would look at the
    first store only.
    """
    at, translated = of_frame(b, _GENERATIONS, frame), of_frame(b, _TRANSLATED, frame)
    st64(at, ld64(at) + 1)
    st64(b + _C_FLIPS, ld64(b + _C_FLIPS) + 1)
    if ld64(translated):
        _invalidate(b, frame, 4096)
        st64(translated, 0)
    return _drop(b, of_frame(b, _EXECUTABLE_AT, frame))


@kernel
def overwrites_itself(b, frame):  # type: ignore[no-untyped-def]
    """Code stores into its own frame, through an entry where Unicorn invalidates exactly what is overwritten: for this
    engine the frame stays in its code state, and for others it is another generation.
    """
    at, translated = of_frame(b, _GENERATIONS, frame), of_frame(b, _TRANSLATED, frame)
    generation = ld64(at) + 2
    st64(at, generation)
    st64(translated, generation)
    return 0


@kernel
def written(b, hpa, size):  # type: ignore[no-untyped-def]
    """The host wrote ``size`` bytes within a frame: code translated from them is stale."""
    frame = hpa & ~0xFFF
    at, translated = of_frame(b, _GENERATIONS, frame), of_frame(b, _TRANSLATED, frame)
    generation = ld64(at)
    if generation & 1:
        st64(at, generation + 2)
        if ld64(translated) == generation:  # else all of it is stale already
            _invalidate(b, hpa, size)
            st64(translated, generation + 2)
    return 0


__all__ = [
    "drop_shared", "fetched", "note", "note_shared", "noted", "of_frame", "overwrites_itself", "writable", "written"
]  # fmt: skip
