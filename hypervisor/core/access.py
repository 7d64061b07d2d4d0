"""Ports and device memory: what happens in the middle of an instruction.

The engine calls in place, with the instruction half done. A device or a handler answers and the instruction completes
natively; a verdict that does not let it complete makes the engine leave the guest before the instruction, and
`InPlace.finish` carries it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.arch.exits import ExitKind as K
from hypervisor.core import completion
from hypervisor.core.exits import Exit
from hypervisor.core.result import Reason
from hypervisor.core.verdicts import HANDLED, PASS, Inject, Stop, Verdict
from hypervisor.engine import block as b
from hypervisor.errors import ConfigError

if TYPE_CHECKING:
    from hypervisor.core.runner import Runner
    from hypervisor.engine.pcpu import PCpu

_INFO = b.X_INFO >> 3
_OUT_OPCODES = (0xE6, 0xE7, 0xEE, 0xEF)


class InPlace:
    """The callback that the engine makes for one run."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._vm = runner.vm
        self._vcpu = runner.vcpu
        self._exit = Exit(runner.vcpu)
        self._verdict: Verdict | None = None
        self._complete_out = False
        tables = runner.vm.traps.seal()
        self._heard = {kind for kind, table in tables.items() if table.heard}

    def __call__(self, kind: int) -> int:
        """Serve an access; 0 to let the instruction complete, 1 to have the guest left."""
        pcpu = self._vm.on_pcpu
        if pcpu is None:
            return 1
        words = pcpu.words
        address, size = words[_INFO], words[_INFO + 1]
        try:
            if kind in self._heard:
                return self._decide(pcpu, K(kind), address, size)
            if kind == K.PORT_OUT:
                self._port_write(address, size, words[_INFO + 2] & 0xFFFFFFFF)
                return self._left_after_out()
            if kind == K.PORT_IN:
                words[_INFO + 3] = self._port_read(address, size)
            elif kind == K.MMIO_READ:
                return self._memory(pcpu, kind, address, size)
            else:
                return self._memory(pcpu, kind, address, size)
        except BaseException as error:  # must not cross the engine's frames; it ends this VM
            self._runner.fail(error)
            return 1
        return 0

    # --- devices ------------------------------------------------------------------------------------------------------

    def _port_read(self, port: int, size: int) -> int:
        mapping = self._vm.ports.find(port)
        if mapping is not None:
            if port + size <= mapping.end:
                return mapping.device.read(port - mapping.base, size)
        elif size == 1:
            return self._unclaimed("port_in", port, size)
        if size == 1:
            return 0xFF
        if mapping is None and all(self._vm.ports.find(port + n) is None for n in range(size)):
            return self._unclaimed("port_in", port, size)
        return sum(self._port_read(port + n & 0xFFFF, 1) << 8 * n for n in range(size))

    def _port_write(self, port: int, size: int, value: int) -> None:
        mapping = self._vm.ports.find(port)
        if mapping is not None and port + size <= mapping.end:
            mapping.device.write(port - mapping.base, size, value)
        elif mapping is None and all(self._vm.ports.find(port + n) is None for n in range(size)):
            self._unclaimed("port_out", port, size)
        else:
            for n in range(size):
                self._port_write(port + n & 0xFFFF, 1, value >> 8 * n & 0xFF)

    def _unclaimed(self, what: str, address: int, size: int) -> int:
        vm = self._vm
        vm.unclaimed[f"{what} {address:#x}"] += 1
        if len(vm.unclaimed) > 4096:
            vm.unclaimed.clear()
        vm.host_events["unclaimed"] += 1
        if vm.strict:
            self._runner.finish(
                Reason.STOPPED, f"{what} at {address:#x} ({size} bytes): nothing answers there, and --strict was given"
            )
        return (1 << 8 * size) - 1

    def _left_after_out(self) -> int:
        """After an OUT that ended the run (power-off and the like): leave right after it, if it is a simple one."""
        if not self._runner.finished:
            return 0
        self._complete_out = True
        return 1

    def _memory(self, pcpu: PCpu, kind: int, gpa: int, size: int) -> int:
        words = pcpu.words
        gpa &= (1 << 40) - 1
        page = gpa >> 12
        word = self._vm.tables.map[page] if page < self._vm.tables.pages else 0
        if word & b.MAP_RAM:
            if kind == K.MMIO_READ:
                if K.MEMORY in self._heard and not self._watched(gpa, size, "r"):
                    return 1
                words[_INFO + 3] = _signed(int.from_bytes(self._vm.memory.read(gpa, size), "little"))
            else:
                if K.MEMORY in self._heard and not self._watched(gpa, size, "w"):
                    return 1
                self._vm.memory.write(gpa, (words[_INFO + 2] & (1 << 8 * size) - 1).to_bytes(size, "little"))
            return 0
        mapping = self._vm.mmio.find(gpa)
        if mapping is None or gpa + size > mapping.end:
            self._unclaimed("mmio_read" if kind == K.MMIO_READ else "mmio_write", gpa, size)
            words[_INFO + 3] = -1
        elif kind == K.MMIO_READ:
            words[_INFO + 3] = _signed(mapping.device.read(gpa - mapping.base, size))
        else:
            mapping.device.write(gpa - mapping.base, size, words[_INFO + 2] & (1 << 8 * size) - 1)
        return 0

    def _watched(self, gpa: int, size: int, access: str) -> bool:
        """Ask memory traps about an access; whether it may go on."""
        exit = self._exit.begin(K.MEMORY, self._vcpu.rip, 0)
        exit.gpa = exit.address = gpa
        exit.size, exit.access = size, access
        exit.number = self._vm.tables.virtual_of(gpa)
        verdict = self._vm.traps.decide(self._vcpu, exit)
        if verdict is PASS or verdict is HANDLED:
            self._vm.traps.decided(self._vcpu, exit)
            return True
        self._verdict = verdict
        return False

    # --- handlers -----------------------------------------------------------------------------------------------------

    def _decide(self, pcpu: PCpu, kind: K, address: int, size: int) -> int:
        words = pcpu.words
        reading = kind in (K.PORT_IN, K.MMIO_READ)
        exit = self._exit.begin(kind, self._vcpu.rip, 0)
        exit.size, exit.write = size, not reading
        if kind in (K.PORT_IN, K.PORT_OUT):
            exit.port = address
        else:
            exit.gpa = address
        if not reading:
            exit.value = words[_INFO + 2] & (1 << 8 * size) - 1
        verdict = self._vm.traps.decide(self._vcpu, exit)
        if self._runner.finished:
            return 1
        if verdict is PASS or verdict is HANDLED:
            if verdict is PASS or (reading and exit.value is None):
                if not reading:
                    words[_INFO + 2] = _signed(exit.value & (1 << 8 * size) - 1)
                self._device(pcpu, kind, address, size)
                if reading:
                    exit.value = words[_INFO + 3] & (1 << 8 * size) - 1
            elif reading:
                if not isinstance(exit.value, int):
                    raise ConfigError(
                        f"exit.value = {exit.value!r}: a handler of {kind.name.lower()} writes a whole number."
                    )
                words[_INFO + 3] = _signed(exit.value & (1 << 8 * size) - 1)
            self._vm.traps.decided(self._vcpu, exit)
            return self._left_after_out() if kind is K.PORT_OUT else 0
        self._verdict = verdict
        return 1

    def _device(self, pcpu: PCpu, kind: K, address: int, size: int) -> None:
        if kind is K.PORT_OUT:
            self._port_write(address, size, pcpu.words[_INFO + 2] & 0xFFFFFFFF)
        elif kind is K.PORT_IN:
            pcpu.words[_INFO + 3] = self._port_read(address, size)
        else:
            self._memory(pcpu, kind, address, size)

    # --- after the guest was left -------------------------------------------------------------------------------------

    def finish(self, pcpu: PCpu) -> int:
        """The guest was left in the middle of an instruction: do what the verdict says; a further exit's kind, or 0."""
        verdict, self._verdict = self._verdict, None
        if self._complete_out:
            self._complete_out = False
            length = pcpu.decode()
            if length and pcpu.words[b.D_OPCODE >> 3] in _OUT_OPCODES:
                return pcpu.complete(length)
            return 0
        if isinstance(verdict, Stop):
            self._runner.finish(Reason.STOPPED, verdict.reason)
        elif isinstance(verdict, Inject):
            return completion.finish(pcpu, self._vcpu, self._exit, verdict)
        return 0

    def finish_fetch(self, pcpu: PCpu, verdict: Verdict) -> int:
        """A watched page is about to be executed, and the handlers have decided."""
        if not (verdict is PASS or verdict is HANDLED):
            return completion.finish(pcpu, self._vcpu, self._vcpu.exit, verdict)
        page = self._vcpu.exit.gpa >> 12
        tables = self._vm.tables
        saved = tables.map[page] & b.MAP_TRAP_EXECUTE
        tables.map[page] &= ~b.MAP_TRAP_EXECUTE
        further = pcpu.step()
        tables.map[page] |= saved
        pcpu.flush()
        return 0 if further == K.STEPPED else further


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
