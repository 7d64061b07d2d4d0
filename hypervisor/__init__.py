"""A type-1-style hypervisor as a Python library: unmodified x86 guests under Python trap handlers.

The public face of the package. Names are loaded when they are first used, so that ``import hypervisor`` stays cheap.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hypervisor.garbage import uncollected

if TYPE_CHECKING:
    from hypervisor._face import Host as Host
    from hypervisor._face import boot as boot
    from hypervisor._face import run_asm as run_asm
    from hypervisor.arch.segments import Segment as Segment
    from hypervisor.arch.segments import Table as Table
    from hypervisor.arch.vectors import AC as AC
    from hypervisor.arch.vectors import BP as BP
    from hypervisor.arch.vectors import BR as BR
    from hypervisor.arch.vectors import DB as DB
    from hypervisor.arch.vectors import DE as DE
    from hypervisor.arch.vectors import DF as DF
    from hypervisor.arch.vectors import GP as GP
    from hypervisor.arch.vectors import MC as MC
    from hypervisor.arch.vectors import MF as MF
    from hypervisor.arch.vectors import NM as NM
    from hypervisor.arch.vectors import NMI as NMI
    from hypervisor.arch.vectors import NP as NP
    from hypervisor.arch.vectors import OF as OF
    from hypervisor.arch.vectors import PF as PF
    from hypervisor.arch.vectors import SS as SS
    from hypervisor.arch.vectors import TS as TS
    from hypervisor.arch.vectors import UD as UD
    from hypervisor.arch.vectors import XF as XF
    from hypervisor.console.expecting import Match as Match
    from hypervisor.debug.walk import explain as explain
    from hypervisor.devices.record_device import Device as Device
    from hypervisor.errors import ConfigError as ConfigError
    from hypervisor.errors import DeviceError as DeviceError
    from hypervisor.errors import EngineError as EngineError
    from hypervisor.errors import ExpectError as ExpectError
    from hypervisor.errors import GuestCrashed as GuestCrashed
    from hypervisor.errors import GuestFault as GuestFault
    from hypervisor.errors import HostFull as HostFull
    from hypervisor.errors import HypervisorError as HypervisorError
    from hypervisor.errors import ImageError as ImageError
    from hypervisor.errors import InternalError as InternalError
    from hypervisor.errors import PageLost as PageLost
    from hypervisor.errors import PluginError as PluginError
    from hypervisor.errors import TrapError as TrapError
    from hypervisor.fleet.fleet import Fleet as Fleet
    from hypervisor.fleet.fleet_config import FleetConfig as FleetConfig
    from hypervisor.machine.isa_pc import pc as pc
    from hypervisor.network.link import Link as Link
    from hypervisor.outcome.result import Reason as Reason
    from hypervisor.outcome.result import RunResult as RunResult
    from hypervisor.outcome.result import after as after
    from hypervisor.run.observing.host_events import HostEvent as HostEvent
    from hypervisor.run.observing.host_events import HostEvents as HostEvents
    from hypervisor.run.observing.host_events import What as What
    from hypervisor.run.sharing.policies.credit import Credit as Credit
    from hypervisor.run.sharing.policies.edf import Edf as Edf
    from hypervisor.run.sharing.scheduler import RoundRobin as RoundRobin
    from hypervisor.run.sharing.scheduler import Scheduler as Scheduler
    from hypervisor.run.sharing.scheduler import Slice as Slice
    from hypervisor.run.sharing.share import Share as Share
    from hypervisor.run.sharing.usage import PCpuUsage as PCpuUsage
    from hypervisor.run.sharing.usage import Usage as Usage
    from hypervisor.traps.compiled import compiled as compiled
    from hypervisor.traps.plugins.plugin_set import API as API
    from hypervisor.traps.trap import Trap as Trap
    from hypervisor.traps.verdicts import HANDLED as HANDLED
    from hypervisor.traps.verdicts import PASS as PASS
    from hypervisor.traps.verdicts import RETRY as RETRY
    from hypervisor.traps.verdicts import Verdict as Verdict
    from hypervisor.traps.verdicts import inject as inject
    from hypervisor.traps.verdicts import stop as stop
    from hypervisor.vcpu.exit import Exit as Exit
    from hypervisor.vm.balloon import Balloon as Balloon
    from hypervisor.vm.board import Board as Board
    from hypervisor.vm.board import Part as Part
    from hypervisor.vm.config import Disk as Disk
    from hypervisor.vm.config import MachineConfig as MachineConfig
    from hypervisor.vm.figures import HostFigures as HostFigures
    from hypervisor.vm.figures import VmFigures as VmFigures
    from hypervisor.vm.repeating.cases import CaseEnd as CaseEnd
    from hypervisor.vm.repeating.cases import Input as Input
    from hypervisor.vm.snapshot import Snapshot as Snapshot
    from hypervisor.vm.snapshot import save_together as save_together
    from hypervisor.vm.vcpu import Vcpu as Vcpu
    from hypervisor.vm.vm import VM as VM
    from hypervisor.vm.watching.coverage import Coverage as Coverage
    from hypervisor.world.world import World as World

if sys.platform == "win32":
    raise ImportError(
        "hypervisor (rootmode) cannot run on Windows itself, as it needs the system calls of Unix and the Linux x86-64 "
        "build of Unicorn. Install it in WSL 2 or in a container, on an x86-64 processor."
    )

_WHERE = {
    "hypervisor._face": ("Host", "boot", "run_asm"),
    "hypervisor.vm.vcpu": ("Vcpu",),
    "hypervisor.vm.vm": ("VM",),
    "hypervisor.arch.vectors": (
        "AC", "BP", "BR", "DB", "DE", "DF", "GP", "MC", "MF", "NM", "NMI", "NP", "OF", "PF", "SS", "TS", "UD", "XF",
    ),
    "hypervisor.vcpu.exit": ("Exit",),
    "hypervisor.outcome.result": ("Reason", "RunResult", "after"),
    "hypervisor.traps.verdicts": ("HANDLED", "PASS", "RETRY", "Verdict", "inject", "stop"),
    "hypervisor.traps.compiled": ("compiled",),
    "hypervisor.traps.trap": ("Trap",),
    "hypervisor.traps.plugins.plugin_set": ("API",),
    "hypervisor.run.observing.host_events": ("HostEvent", "HostEvents", "What"),
    "hypervisor.run.sharing.policies.credit": ("Credit",),
    "hypervisor.run.sharing.policies.edf": ("Edf",),
    "hypervisor.run.sharing.scheduler": ("RoundRobin", "Scheduler", "Slice"),
    "hypervisor.run.sharing.share": ("Share",),
    "hypervisor.run.sharing.usage": ("PCpuUsage", "Usage"),
    "hypervisor.console.expecting": ("Match",),
    "hypervisor.debug.walk": ("explain",),
    "hypervisor.engine.state": ("Segment", "Table"),
    "hypervisor.devices.record_device": ("Device",),
    "hypervisor.errors": (
        "ConfigError", "DeviceError", "EngineError", "ExpectError", "GuestCrashed", "GuestFault", "HostFull",
        "HypervisorError", "ImageError", "InternalError", "PageLost", "PluginError", "TrapError",
    ),
    "hypervisor.fleet.fleet_config": ("FleetConfig",),
    "hypervisor.fleet.fleet": ("Fleet",),
    "hypervisor.machine.isa_pc": ("pc",),
    "hypervisor.network.link": ("Link",),
    "hypervisor.vm.balloon": ("Balloon",),
    "hypervisor.vm.board": ("Board", "Part"),
    "hypervisor.vm.repeating.cases": ("CaseEnd", "Input"),
    "hypervisor.vm.config": ("Disk", "MachineConfig"),
    "hypervisor.vm.watching.coverage": ("Coverage",),
    "hypervisor.vm.figures": ("HostFigures", "VmFigures"),
    "hypervisor.vm.snapshot": ("Snapshot", "save_together"),
    "hypervisor.world.world": ("World",),
}  # fmt: skip
_HOME = {name: module for module, names in _WHERE.items() for name in names}

__all__ = sorted(_HOME)  # the table above is the list


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module 'hypervisor' has no attribute {name!r}")
    with uncollected():
        value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
