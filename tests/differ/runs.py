"""The programs on both machines, and the records that come back."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import hypervisor as hv
from tests.differ import image
from tests.differ import layout as at
from tests.differ.program import Program
from tests.programs import QEMU, program

MEMORY_MIB = 16
DONE, SHUTDOWN, STUCK = "done", "shutdown", "stuck"
"""How a batch ends: all programs, a triple fault, or a program that does not end."""
CPU = (
    "EPYC-Rome,-svm,-vme,-avx,-avx2,-f16c,-fma,-umip,-rdpid,-clwb,-sse4a,-misalignsse,-sha-ni,-xsavec,-xsaves,check=off"
)


def _records(memory: bytes) -> list[bytes]:
    """As many as there are; a program that got at the harness may have counted more."""
    done = min(int.from_bytes(memory[:8], "little"), (len(memory) - 8) // at.OUT_SIZE)
    return [memory[8 + n * at.OUT_SIZE : 8 + (n + 1) * at.OUT_SIZE] for n in range(done)]


def _patience_s(programs: list[Program]) -> float:
    """After which a run is stuck: many times what it takes."""
    return 2 + len(programs) / 50


def _size(programs: list[Program]) -> int:
    return 8 + len(programs) * at.OUT_SIZE


def ours(programs: list[Program]) -> tuple[list[bytes], str]:
    """The records of the programs that ended, and how the run ended."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image"
        file.write_bytes(image.build(programs))
        with hv.boot(file, memory=f"{MEMORY_MIB}M") as vm:
            result = vm.run(timeout=_patience_s(programs))
            end = f"{result.reason.value}: {result.message}"
            if result.reason is hv.Reason.DEBUG_EXIT:
                end = DONE
            elif result.message.startswith("triple fault"):
                end = SHUTDOWN
            elif result.reason in (hv.Reason.HALTED, hv.Reason.TIMEOUT):
                end = STUCK
            return _records(vm.memory.read(at.RESULTS - 8, _size(programs))), end


def qemu(programs: list[Program]) -> tuple[list[bytes], str]:
    """The same under QEMU, whose memory is a file."""
    with tempfile.TemporaryDirectory() as folder:
        file, memory = Path(folder) / "image", Path(folder) / "memory"
        file.write_bytes(image.build(programs))
        command = [
            program(QEMU),
            "-accel",
            "tcg",
            "-cpu",
            CPU,
            "-display",
            "none",
            "-nic",
            "none",
            "-no-reboot",
            "-m",
            f"{MEMORY_MIB}M",
        ]
        command += [
            "-object",
            f"memory-backend-file,id=ram,size={MEMORY_MIB}M,mem-path={memory},share=on",
            "-M",
            "pc,memory-backend=ram",
        ]
        command += [
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=4",
            "-kernel",
            str(file),
            "-vga",
            "none",
            "-serial",
            "none",
        ]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_patience_s(programs), stdin=subprocess.DEVNULL)
            end = {33: DONE, 0: SHUTDOWN}.get(done.returncode, f"exit {done.returncode}: {done.stderr.decode()}")
        except subprocess.TimeoutExpired:
            end = STUCK
        with memory.open("rb") as ram:
            ram.seek(at.RESULTS - 8)
            return _records(ram.read(_size(programs))), end
