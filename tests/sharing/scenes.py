"""Simulated hosts whose schedules are compared as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import hypervisor as hv
from hypervisor.testing.simulation import Busy, Job, Jobs, Periodic, SimulatedVm, Simulation, Waking, Workload

MS = 0.001


def busy(name: str, share: hv.Share | None = None, begin: float = 0.0) -> SimulatedVm:
    """Computes without end."""
    return SimulatedVm(name, Busy(begin), share)


def reserved(name: str, budget_ms: float, period_ms: float, workload: Workload | None = None) -> SimulatedVm:
    """Has a reservation, and needs all of it in each of its periods unless it has something else to do."""
    share = hv.Share(budget=budget_ms * MS, period=period_ms * MS)
    return SimulatedVm(name, workload or Periodic(period_ms * MS, budget_ms * MS), share)


@dataclass(frozen=True)
class Scene:
    """VMs that share a host for a while, and the rows that come of it."""

    scheduler: str
    vms: Callable[[], Sequence[SimulatedVm]]
    expected: str
    pcpus: int = 1
    ms: float = 100.0
    tick_ms: float = 1.0
    patience_ms: float = 0.0
    then: Callable[[Simulation, Sequence[SimulatedVm]], None] = lambda simulation, vms: None

    def text(self) -> str:
        """Its rows."""
        vms = self.vms()
        simulation = Simulation(self.scheduler, vms, self.pcpus, self.patience_ms * MS)
        self.then(simulation, vms)
        return simulation.run(self.ms * MS).chart(self.tick_ms * MS)


def _a_weight_and_a_cap_come(simulation: Simulation, vms: Sequence[SimulatedVm]) -> None:
    simulation.at(0.04, lambda now: now.share(vms[0], hv.Share(weight=3)))
    simulation.at(0.12, lambda now: now.share(vms[1], hv.Share(cap=0.1)))


def _edf_comes(simulation: Simulation, vms: Sequence[SimulatedVm]) -> None:
    simulation.at(0.05, lambda now: now.switch("edf"))


SCENES = {
    "in turn": Scene(
        "round-robin",
        lambda: [busy("a"), busy("b"), SimulatedVm("c", Jobs((Job(0.03, 0.005), Job(0.075, 0.005))))],
        """
ms 0         10        20        30        40        50        60        70        80        90
a 00000000000000000000--------------------00000000000000000000-------------------------000000000000000
b --------------------00000000000000000000-------------------------00000000000000000000---------------
c ..............................------------------------------00000..........-------------------------
""",
    ),
    "weights of 1, 2 and 5": Scene(
        "credit",
        lambda: [busy(f"w{weight}", hv.Share(weight=weight)) for weight in (1, 2, 5)],
        """
ms 0         10        20        30        40        50        60        70        80        90
w1 0000000-----------------------------------------------------0000000---------------------------------
w2 -------00000000----------------------00000000----------------------00000000----------------------000
w5 ---------------0000000000000000000000--------000000000000000---------------0000000000000000000000---
""",
    ),
    "a weight that is too great for two pCPUs counts as one": Scene(
        "credit",
        lambda: [busy(f"w{weight}", hv.Share(weight=weight)) for weight in (1, 2, 5)],
        """
ms 0         40        80        120       160       200       240       280       320       360
w1 00--------0000000000-----------------0000000------------000000-------------000000-------------000000
w2 111111111111--------00000000000000000-------000000000000------0000000000000------0000000000000------
w5 --00000000--1111111111111111111111111111111111111111111111111111111111111111111111111111111111111111
""",
        pcpus=2,
        ms=400,
        tick_ms=4,
    ),
    "who wakes goes before who computes": Scene(
        "credit",
        lambda: [busy("a"), busy("b"), SimulatedVm("types", Waking(0.02, 0.002, seed=3))],
        """
ms    0         10        20        30        40        50        60        70        80        90
a     00000------------------------0--00000000000000000--------------------------00000000000000000000-----
b     -----00000000000000000000--------------------------000000000000000000--------------------------00000
types .....--------------------0000.00.................00..................000000.........................
""",
    ),
    "who slept long has saved nothing up": Scene(
        "credit",
        lambda: [busy("a"), busy("late", begin=0.05)],
        """
ms   0         20        40        60        80        100       120       140
a    0000000000000000000000000----------0000000000----------00000000000000000000
late .........................0000000000----------0000000000--------------------
""",
        ms=150,
        tick_ms=2,
    ),
    "a cap leaves the pCPU idle": Scene(
        "credit",
        lambda: [busy("half", hv.Share(cap=0.5)), SimulatedVm("c", Jobs((Job(0.11, 0.02),)))],
        """
ms   0         40        80        120       160       200       240       280
half 000000000000xxxxxxxxxxxxx00000-----0000000xxxxxxxx000000000000xxxxxxxxxxxxx
c    ...........................---00000........................................
""",
        ms=300,
        tick_ms=4,
    ),
    "shares that change": Scene(
        "credit",
        lambda: [busy("a"), busy("b")],
        """
ms 0         30        60        90        120       150       180       210
a 0000000------0000---0000000---0000000000000----00000000000000000000---0000000000
b -------000000----000-------000-------------0000xxxxxxxxxxxxxxxxxxxx000xxxxxxxxxx
""",
        ms=240,
        tick_ms=3,
        then=_a_weight_and_a_cap_come,
    ),
    "one may run on one pCPU only": Scene(
        "credit",
        lambda: [
            busy("any"),
            busy("on0", hv.Share(pcpus=[0]), begin=0.03),
            busy("too0", hv.Share(pcpus=[0]), begin=0.05),
        ],
        """
ms   0         10        20        30        40        50        60        70        80        90
any  0000000000000000000000000000001111111111111111111111111111111111111111111111111111111111111111111111
on0  ..............................00000000000000000000--------------------00000000000000000000----------
too0 ..................................................00000000000000000000--------------------0000000000
""",
        pcpus=2,
    ),
    "all of a pCPU is promised, and no deadline missed": Scene(
        "edf",
        lambda: [reserved("p", 3, 10), reserved("q", 7.5, 25), reserved("r", 16, 40), busy("b")],
        """
ms 0         5         10        15        20        25        30        35        40        45        50
p 000000..............000000..............000000..............000000..............000000..............000000....
q ------00000000000000------0.......................---------------------000000000------000000........------0000
r ---------------------------0000000000000------00000000000000------00000.........------------00000000----------
b --------------------------------------------------------------------------------------------------------------
""",
        tick_ms=0.5,
        ms=55,
    ),
    "what reservations leave goes by weights": Scene(
        "edf",
        lambda: [reserved("p", 3, 10), reserved("q", 5, 20), busy("one"), busy("three", hv.Share(weight=3))],
        """
ms    0         10        20        30        40        50        60        70        80        90
p     000.......000.......000.......000.......000.......000.......000.......000.......000.......000.......
q     ---00000............---00000............---00000............---00000............---00000............
one   --------00------------------00------------------00------------------00------------------00----------
three -------------0000000-------------0000000-------------0000000-------------0000000-------------0000000
""",
    ),
    "who wants more than its budget has the rest like others": Scene(
        "edf",
        lambda: [reserved("more", 3, 10, Busy()), busy("b")],
        """
ms   0         10        20        30        40        50        60        70        80        90
more 0000000000000-------0000000000000-------0000000000000-------0000000000000-------000-------0000000000
b    -------------0000000-------------0000000-------------0000000-------------0000000---0000000----------
""",
    ),
    "reservations on two pCPUs": Scene(
        "edf",
        lambda: [reserved("p", 3, 10), reserved("q", 7, 20), reserved("r", 15, 30), busy("b"), busy("c")],
        """
ms 0         10        20        30        40        50        60        70        80        90
p 000.......000.......000.......000.......000.......000.......000.......000.......000.......000.......
q 1111111.............1111111.............1111111.............1111111.............1111111.............
r ---000000011111111............1111111111---00000............---000000011111111............1111111111
b -------111--------11-------111-----------------1111111111111-------111--------11-------111----------
c -------------0000000---0000000---0000000--------00---0000000-------------0000000---0000000---0000000
""",
        pcpus=2,
    ),
    "it takes a while to leave": Scene(
        "credit",
        lambda: [busy("a"), busy("b", hv.Share(weight=2))],
        """
ms 0         10        20        30        40        50        60        70        80        90
a 000000000000000-------------------------------000000000000000-------------------------------00000000
b ---------------0000000000000000000000000000000---------------0000000000000000000000000000000--------
""",
        patience_ms=2,
    ),
    "another scheduler comes": Scene(
        "round-robin",
        lambda: [busy("a"), busy("b"), busy("c", hv.Share(weight=2))],
        """
ms 0         20        40        60        80        100       120       140
a 0000000000---------------0000000------------------------------00000000----------
b ----------0000000000------------00000000------------------------------0000000---
c --------------------00000---------------0000000000000000000000---------------000
""",
        ms=160,
        tick_ms=2,
        then=_edf_comes,
    ),
}
