"""The real gdb at the other end: scripts for it, and guests for it, built with nasm and gcc when first asked for."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import hypervisor as hv
from tests.programs import program, run

HERE = Path(__file__).parent
PATIENCE_S = 60
SETTINGS = ("set pagination off", "set confirm off", "set width 0", "set debuginfod enabled off")

Debug = Callable[..., "Transcript"]


class Transcript(NamedTuple):
    """What gdb said, and how the guest ended."""

    text: str
    result: hv.RunResult

    def __contains__(self, what: str) -> bool:
        return what in self.text


@pytest.fixture
def debug() -> Debug:
    """``debug(vm, script)``: run the VM to its end under a gdb that types the script; extra keywords go to `VM.run`."""

    def debug(
        vm: hv.VM,
        script: str,
        started: Callable[[subprocess.Popen[str]], object] | None = None,
        cwd: Path | None = None,
        **run: Any,
    ) -> Transcript:
        server = vm.gdb(wait=True)
        lines = [*SETTINGS, *map(str.strip, script.replace("CONNECT", f"target remote :{server.port}").splitlines())]
        typed = [word for line in lines for word in ("-ex", line)]  # an error does not end these, as it ends a file
        gdb = subprocess.Popen(
            [program("gdb"), "-nx", "-batch", *typed],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
        )
        said: list[str] = []

        def listen() -> None:
            said.append(gdb.communicate()[0])
            if "could not connect" in said[0] or ": Connection " in said[0]:
                vm.request_stop("gdb has gone without having come")

        listener = threading.Thread(target=listen)
        listener.start()
        if started is not None:
            started(gdb)
        try:
            result = vm.run(**{"timeout": PATIENCE_S, **run})
            server.close()
            listener.join(PATIENCE_S)
        finally:
            gdb.kill()
            listener.join()
        return Transcript(said[0], result)

    return debug


@pytest.fixture(scope="session")
def modes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The boot sector of modes.asm; beside it, modes.elf has its symbols and lines."""
    out = tmp_path_factory.mktemp("modes")
    run("nasm", "-f", "elf64", "-g", "-F", "dwarf", "-o", out / "modes.o", HERE / "modes.asm")
    run("ld", "-Ttext=0x7c00", "-e", "start", "-o", out / "modes.elf", out / "modes.o")
    run("objcopy", "-O", "binary", "-j", ".text", out / "modes.elf", out / "modes.bin")
    return out / "modes.bin"


@pytest.fixture(scope="session")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """kernel.c as a multiboot kernel with debug information."""
    out = tmp_path_factory.mktemp("kernel")
    shutil.copy(HERE / "kernel.c", out)
    flags = "-m32 -g -O0 -ffreestanding -nostdlib -static -fno-pie -no-pie -fno-stack-protector -fcf-protection=none"
    link = "-Wl,-Ttext=0x100000,--build-id=none,-n,-e,start"
    run("gcc", *flags.split(), link, "-o", "kernel.elf", "kernel.c", cwd=out)
    return out / "kernel.elf"
