"""Looking for a while before sleeping: what KVM calls halt polling.

An idle processor of the host wakes up in 50 microseconds or more, and what one thread asks of another is often done
sooner. So who waits looks at a word first, without the interpreter lock. Whoever sets the word has that lock, and a
thread that asks for a lock that is taken sleeps after all: it is left for it until somebody comes here, too, which is
without the lock.
"""

from __future__ import annotations

from hypervisor.engine.jit import add64, cycles, kernel, ld64

LOOK, LEAVES = 500_000, 60_000
"""For how long to look, and then to wait for who has set the word to leave the interpreter lock; in cycles of the
host's counter, two to five of which are a nanosecond.
"""


@kernel
def poll(word, comers):  # type: ignore[no-untyped-def]
    """Look at the word at a host address until it is not 0; whether it is. ``comers`` is where a word is that counts
    who comes here, in all threads.
    """
    add64(comers, 1)
    began = cycles()
    while ld64(word) == 0:
        if cycles() - began > LOOK:
            return 0
    came, began = ld64(comers), cycles()
    while ld64(comers) == came and cycles() - began < LEAVES:
        pass
    return 1
