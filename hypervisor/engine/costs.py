"""What the guest's exits cost it in virtual time: the one place that says so, by kind.

Code takes 1 ns for each of its bytes. What a guest can do in a few bytes and what is slow, on hardware or here, takes
the time below on top, whoever serves it and whoever looks on: the engine charges a kind where it counts it
(`reporting.count`). The figures are those of hardware where we are as fast as hardware. Elsewhere they are what the
built-in handlers take, so that a loop of such exits cannot hold up a virtual timeout: host time per virtual time lies
between 0.2 and 3 (``python -m bench.loops``).

Kinds that are not here take the time of their bytes alone. Most of them are executed natively when nobody listens, so
they must not cost more when somebody does.
"""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K

EXCEPTION_NS = 300
"""An exception, and what arrives as one."""

PORT_NS = 1000
"""A bus cycle of the ISA bus: loops that poll a port are as long as on a PC."""

MMIO_NS = 1000
"""An uncached access to a device."""

PAUSE_NS = 500

COSTS: dict[K, int] = {
    K.EXCEPTION: EXCEPTION_NS,
    K.HYPERCALL: EXCEPTION_NS,  # #UD, where nobody has a handler; the next three as well
    K.MONITOR: EXCEPTION_NS,
    K.MWAIT: EXCEPTION_NS,
    K.SVM: EXCEPTION_NS,
    K.INT_N: 300,
    K.INTERRUPT: 2000,
    K.SYSCALL: 60,
    K.SYSENTER: 60,
    K.CPUID: 150,
    K.RDTSC: 25,
    K.RDTSCP: 30,
    K.RDPMC: 2000,
    K.RDRAND: 4000,
    K.RDSEED: 4000,
    K.RDMSR: 2000,
    K.WRMSR: 4000,
    K.DR_READ: 4000,
    K.DR_WRITE: 4000,
    K.CLTS: 4000,
    K.LMSW: 5000,
    K.INVLPG: 500,
    K.PAUSE: PAUSE_NS,
    K.HLT: 8000,  # about what waking from it takes
    K.PORT_IN: PORT_NS,
    K.PORT_OUT: PORT_NS,
    K.MMIO_READ: MMIO_NS,
    K.MMIO_WRITE: MMIO_NS,
}
"""Virtual nanoseconds by kind."""

CR_READ_COSTS = {8: 3000}
CR_WRITE_COSTS = {0: 5000, 3: 700, 4: 5000, 8: 3000}
"""The same of MOV from and to a control register, by its number. Reads of the others, and CR2, are native."""

SYSTEM_SEGMENT_NS = 150
"""LLDT and LTR, which are served in the middle of their block."""

SPIN_NS = 2 * PAUSE_NS
"""Virtual nanoseconds within which the next PAUSE belongs to the same loop."""

KINDS, REGISTERS = 64, 16
"""The table in the block: a word for each kind, then one for each control register read, then written."""

CR_READ, CR_WRITE, WORDS = KINDS, KINDS + REGISTERS, KINDS + 2 * REGISTERS


def table() -> list[int]:
    """The words of the table."""
    words = [0] * WORDS
    for first, costs in ((0, COSTS), (CR_READ, CR_READ_COSTS), (CR_WRITE, CR_WRITE_COSTS)):
        for number, ns in costs.items():
            words[first + number] = ns
    return words
