"""The token: which pCPU asks for the interpreter lock next.

Python's lock is handed over badly where several threads leave it for a microsecond at each exit: whoever gives it back
wakes one that waits, and has taken it again before that one is awake. So pCPUs queue here, in front of the lock, which
is then free as a rule for who has the token. They keep to it as a courtesy and nothing depends on it: a pCPU that takes
the token away, or goes past it, waits for the lock like any other thread. Threads that run no guest know no token.

- While its guest runs the owner has *lent* the token, and goes on with it at the next exit if nobody took it.
- A pCPU whose guest ran long before this exit needs the lock briefly, and takes what is lent at once. Nobody waits long
  for it, so one whose owner is so is waited for in a loop.
- Two that exit all the time would only take it, and what their handlers have in the caches, away from each other:
  they take turns, and who waits sleeps.
- An owner whose thread does not execute (a handler that sleeps, a lock) is not waited for.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine.jit import call1, call2, compare64, cycles, inlined, kernel, ld64, seldom, st64
from hypervisor.engine.shared_words.token_words import BRIEF, LENT, token_word

_TOKEN, _ENTERED, _LEFT, _BALANCE, _CPU_CLOCK, _CPU_TIME = (
    b_.TOKEN, b_.ENTERED, b_.LEFT, b_.BALANCE, b_.CPU_CLOCK, b_.CPU_TIME,
)  # fmt: skip
_F_CLOCK, _F_USLEEP = b_.F_CLOCK, b_.F_USLEEP
_OWNER, _SINCE, _TAKEN_AT, _OWNERS_CLOCK, _NEXT, _NEXT_CLOCK = (
    token_word(name) for name in ("owner", "since", "taken_at", "cpu_clock", "next", "next_clock")
)
_WHO = ~(LENT | BRIEF)

# (Times are in cycles of the host's counter: two to five of them are a nanosecond.)
LONG, LONGEST = 25_000, 400_000
"""By how much longer than Python its guest must run, on the average of some exits, for a pCPU to need the lock briefly;
and what one exit counts at most.
"""
TURN = 50_000_000
"""After which the owner lets another one have it that exits as often, too: some 20 ms, as each turn begins with cold
caches.
"""
SPIN = 75_000
"""For how long to wait in a loop before a sleep."""
LOOK, LOOK_NS = 8_000, 500
"""A thread whose CPU time grows by less than so many nanoseconds in `LOOK` waits for something, or for a processor."""
NAP_US, LONGEST_NAP_US, PER_US = 20, 5000, 2_500
"""Sleeps, in microseconds: each is twice as long as the one before, up to the end of the owner's turn, but where it is
soon over. Who wakes up more often takes the time of who works, where both have a core together. And cycles of one, more
or less.
"""


@kernel
def _hand_over(token, owner, now):  # type: ignore[no-untyped-def]
    """Let the one have it that asked; nobody, if that one has given up meanwhile."""
    seldom()
    st64(token + _TAKEN_AT, now)
    st64(token + _OWNERS_CLOCK, ld64(token + _NEXT_CLOCK))
    return compare64(token + _OWNER, owner, ld64(token + _NEXT))


@inlined
def lend(b):  # type: ignore[no-untyped-def]
    """The guest is about to run: whoever wants the token may have it."""
    token = ld64(b + _TOKEN)
    if token:
        now, owner = cycles(), ld64(token + _OWNER)
        if owner & _WHO == b:
            st64(token + _SINCE, now)
            if ld64(token + _NEXT):
                _hand_over(token, owner, now)
            else:
                compare64(token + _OWNER, owner, owner | LENT)
        elif owner:  # it was taken away while Python slept, or has never been here: that needs the lock briefly
            now -= LONGEST
            st64(b + _LEFT, now)
        st64(b + _ENTERED, now)
    return 0


@kernel
def _is_to_be_had(token, owner, brief, now):  # type: ignore[no-untyped-def]
    """Whether it may be taken from its owner at this moment."""
    passed = now - ld64(token + _SINCE)
    if owner == 0 or passed > TURN:  # (it may be a pCPU that is gone)
        return True
    if owner & LENT == 0:
        return False
    return brief or owner & BRIEF or passed > LONG or now - ld64(token + _TAKEN_AT) > TURN


@kernel
def _cpu_time(b, token):  # type: ignore[no-untyped-def]
    """Nanoseconds for which the owner's thread has executed, -1 if it is gone."""
    if call2(ld64(b + _F_CLOCK), ld64(token + _OWNERS_CLOCK), b + _CPU_TIME) & 0xFFFFFFFF:
        return -1
    return ld64(b + _CPU_TIME) * 1_000_000_000 + ld64(b + _CPU_TIME + 8)


@kernel
def _executes(b, token):  # type: ignore[no-untyped-def]
    """Whether the owner's thread does."""
    before, began = _cpu_time(b, token), cycles()
    while cycles() - began < LOOK:
        pass
    return before >= 0 and _cpu_time(b, token) - before >= LOOK_NS


@kernel
def _wait(b, token, brief):  # type: ignore[no-untyped-def]
    """Get the token; when that was."""
    seldom()
    began, nap, wish = cycles(), NAP_US, b | brief
    while True:
        now, owner = cycles(), ld64(token + _OWNER)
        if owner & _WHO == b:  # it was handed over
            compare64(token + _NEXT, wish, 0)
            return now
        soon = brief or owner & BRIEF or now - ld64(token + _TAKEN_AT) > TURN
        there = _is_to_be_had(token, owner, brief, now)
        spinning = soon and now - began < SPIN
        if not there and not spinning and not _executes(b, token):
            there = True
        if there:
            if compare64(token + _OWNER, owner, wish) == owner:
                st64(token + _TAKEN_AT, now)
                st64(token + _OWNERS_CLOCK, ld64(b + _CPU_CLOCK))
                compare64(token + _NEXT, wish, 0)
                return now
        else:
            if soon and ld64(token + _NEXT) == 0:
                st64(token + _NEXT_CLOCK, ld64(b + _CPU_CLOCK))
                compare64(token + _NEXT, 0, wish)
            if not spinning:
                call1(ld64(b + _F_USLEEP), nap)
                left = ld64(token + _TAKEN_AT) + TURN - cycles()
                nap = NAP_US if soon else max(min(2 * nap, LONGEST_NAP_US, left // PER_US), NAP_US)
                began = cycles()


@inlined
def take(b):  # type: ignore[no-untyped-def]
    """The guest was left for Python."""
    token = ld64(b + _TOKEN)
    if token:
        now, owner = cycles(), ld64(token + _OWNER)
        entered = ld64(b + _ENTERED)
        longer = min(max(now - entered - (entered - ld64(b + _LEFT)), -LONG), LONGEST)
        balance = ld64(b + _BALANCE) + (longer - ld64(b + _BALANCE) >> 2)
        st64(b + _BALANCE, balance)
        brief = BRIEF if balance >= LONG else 0
        if owner & _WHO != b or compare64(token + _OWNER, owner, b | brief) != owner:
            now = _wait(b, token, brief)
        st64(token + _SINCE, now)
        st64(b + _LEFT, now)
    return 0


@kernel
def let_go(b):  # type: ignore[no-untyped-def]
    """The pCPU's thread does something else, or waits for it."""
    token = ld64(b + _TOKEN)
    if token:
        owner = ld64(token + _OWNER)
        if owner & _WHO == b:
            compare64(token + _OWNER, owner, 0)
    return 0


__all__ = ["lend", "let_go", "take"]
