"""Figures of whole processes, each measured in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from bench.image import HALT

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-c", "import sys; from hypervisor.cli import main; sys.exit(main())"]
"""What the ``hypervisor`` command does, whether or not it is installed."""
RESET_STATUS = 122
TIMEOUT_S = 300.0
IDLE_VMS = 8


class ProcessError(Exception):
    """A process did not do what it was started for."""


def _run(command: list[str], status: int = 0) -> tuple[float, bytes]:
    start = time.perf_counter()
    # An installed package has its bytecode on disk; a checkout gets it with the first run, unless that is forbidden.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S
    )
    seconds = time.perf_counter() - start
    if done.returncode != status:
        # The last line alone: this ends up in the published table, which needs no paths of this machine.
        said = ((done.stderr or done.stdout).decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        raise ProcessError(f"the process ended with status {done.returncode}, not {status}: {said}")
    return seconds, done.stdout


def _figure(function: str, image: Path, module: str = "process") -> float:
    """What ``function`` of a module of this package returns in a new process."""
    program = f"import pathlib, sys; from bench import {module}; print({module}.{function}(pathlib.Path(sys.argv[1])))"
    return float(_run([sys.executable, "-c", program, str(image)])[1])


def linux(kernel: Path, initrd: Path, command_line: str, memory: str, clock: str) -> float:
    """Seconds from the start of ``hypervisor run`` to its end, by the reset that init asks for once it is ready."""
    options = ["--initrd", str(initrd), "--append", command_line, "--memory", memory, "--clock", clock]
    seconds, output = _run([*COMMAND, "run", str(kernel), *options], RESET_STATUS)
    if b"READY" not in output:
        raise ProcessError(f"Linux never became ready: {output[-500:]!r}")
    return seconds


def linux_off(kernel: Path, initrd: Path, command_line: str, memory: str, clock: str, cpus: int) -> float:
    """Seconds from the start of ``hypervisor run`` to its end, by the power-off that init asks for once it is ready."""
    options = ["--initrd", str(initrd), "--append", command_line, "--memory", memory, "--clock", clock]
    seconds, output = _run([*COMMAND, "run", str(kernel), *options, "--cpus", str(cpus)])
    if b"READY" not in output:
        raise ProcessError(f"Linux never became ready: {output[-500:]!r}")
    return seconds


def run_hello(image: Path) -> float:
    """Seconds for ``hypervisor run hello``, from the start of the process to its end."""
    return _run([*COMMAND, "run", "hello"])[0]


def import_package(image: Path) -> float:
    """Seconds that ``import hypervisor`` takes in a fresh interpreter."""
    program = (
        "import sys, time; start = time.perf_counter(); import hypervisor; print(time.perf_counter() - start);"
        "sys.exit('numba' in sys.modules)"
    )
    return float(_run([sys.executable, "-c", program])[1])


def create_vm(image: Path) -> float:
    """Milliseconds to create a VM from the image, in a process that has run one."""
    return _figure("_create_vm", image)


def hand_over(image: Path) -> float:
    """Microseconds from asking for a run to having what came of it, beyond what the run itself takes."""
    return _figure("_hand_over", image)


def idle_memory(image: Path) -> float:
    """MiB of host memory that one more idle VM takes, in a process that has run one."""
    return _figure("_idle_memory", image)


def _create_vm(image: Path) -> float:
    import hypervisor as hv

    with closing(hv.Host(memory="1G", cpus=1)) as host:
        seconds = []
        for _ in range(6):
            start = time.perf_counter()
            vm = host.create_vm(image=str(image), memory="64M", append=f"{HALT} 1")
            seconds.append(time.perf_counter() - start)
            vm.run(timeout=TIMEOUT_S)
            vm.close()
    return sorted(seconds[1:])[2] * 1000


def _hand_over(image: Path) -> float:
    import hypervisor as hv
    from hypervisor.run.sharing.task import Next
    from hypervisor.run.steps import Steps

    class Nothing(Steps):
        """Comes to its end as soon as a pCPU's thread executes it."""

        def slice(self, hold: object) -> Next:
            self.began = time.perf_counter()
            self.give_up()
            self.ended = time.perf_counter()
            return Next.OVER

    with closing(hv.Host(memory="1G", cpus=1)) as host:
        vm = host.create_vm(image=str(image), memory="64M", append=f"{HALT} 1")
        seconds = []
        for _ in range(1000):
            task = Nothing(vm, 1, vm.vcpu)
            start = time.perf_counter()
            vm.do(task)
            seconds.append(time.perf_counter() - start - (task.ended - task.began))
        vm.close()
    return sorted(seconds)[500] * 1e6


def _idle_memory(image: Path) -> float:
    import hypervisor as hv

    with closing(hv.Host(memory="1G", cpus=1)) as host:
        used = []
        vms = []  # all stay open
        for _ in range(IDLE_VMS + 1):
            vm = host.create_vm(image=str(image), memory="64M", append=f"{HALT} 1")
            vm.run(timeout=TIMEOUT_S)
            vms.append(vm)
            used.append(private_bytes())
        for vm in vms:
            vm.close()
    return (used[-1] - used[0]) / IDLE_VMS / 2**20


def private_bytes() -> int:
    """Memory that only this process uses, as Linux counts it."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def _of(module: str, function: str) -> Callable[[Path], float]:
    return lambda image: _figure(function, image, module)


MEASURES: dict[str, Callable[[Path], float]] = {
    function.__name__: function for function in (run_hello, import_package, create_vm, hand_over, idle_memory)
}
MEASURES |= {name: _of("forks", name) for name in ("fork", "fork_to_exit", "forks_in_a_row", "revert", "idle_fork")}
MEASURES |= {name: _of("cases", name) for name in ("short_case", "covered_case", "put_back")}
MEASURES |= {name: _of("together", name) for name in ("in_python", "computing", "eight", "linuxes")}
MEASURES |= {name: _of("wire", name) for name in ("short_frames", "long_frames")}
MEASURES |= {name: _of("saved", name) for name in ("save_linux", "open_linux")}
