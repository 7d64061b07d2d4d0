"""Every option of ``hypervisor run``, with real guests in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hypervisor.assembler import assemble
from tests.cli.command import ECHO, FLAT, KEYS, POWER_OFF, PRINT_AL, ROOT, boot_sector, flat, hypervisor


@pytest.mark.parametrize(
    ("guest", "status", "last"),
    [
        ("hello", 0, "Hello"),
        ("hello32", 0, "command line: hello32"),
        ("long", 33, "done"),
        ("pagefault", 0, "pagefault: good"),
        ("trapzoo", 0, "trapzoo: "),
        ("preempt", 0, "preempt: good"),
        ("apic", 0, "apic: good"),
        ("smp", 0, "smp: good"),
        ("balloon", 0, "balloon: nobody wants memory here"),
        ("hostile", 0, "attempts, contained"),
    ],
)
def test_shipped_guests(guest: str, status: int, last: str) -> None:
    result = hypervisor("run", guest, "--timeout", "60")
    assert (result.returncode, result.stderr) == (status, b"")
    assert last in result.stdout.decode().splitlines()[-1]


@pytest.mark.parametrize(("guest", "status"), [("hello", 0), ("hello32", 0), ("long", 33), ("preempt", 0), ("apic", 0)])
def test_shipped_guests_by_the_wall_clock(guest: str, status: int) -> None:
    result = hypervisor("run", guest, "--clock", "wall", "--timeout", "60")
    assert (result.returncode, result.stderr) == (status, b"")


def test_an_image_beside_us_is_not_taken_for_a_shipped_guest(tmp_path: Path) -> None:
    flat(tmp_path / "hello", f"mov al, 'x'; {PRINT_AL}; {POWER_OFF}")
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    assert hypervisor("run", str(tmp_path / "hello"), *FLAT, env=environment).stdout == b"x"


def test_append_is_the_kernels_command_line() -> None:
    result = hypervisor("run", "hello32", "--append", "one two")
    assert b"command line: hello32 one two\n" in result.stdout


MODULES = """
.equ FLAGS, 0x10002
.org 0x100000
.code32
header: .dword 0x1badb002, FLAGS, -(0x1badb002 + FLAGS), header, header, 0, 0, start
start:
    cld
    mov ebp, [ebx + 20]
    mov ebx, [ebx + 24]
next:
    mov esi, [ebx]
    mov ecx, [ebx + 4]
    sub ecx, esi
    mov dx, 0x3f8
    rep outsb
    mov esi, [ebx + 8]
text:
    lodsb
    out dx, al
    test al, al
    jnz text
    add ebx, 16
    dec ebp
    jnz next
    mov dx, 0x604
    mov ax, 0x2000
    out dx, ax
"""


def test_modules_arrive_with_their_arguments(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(assemble(MODULES).code)
    (tmp_path / "a").write_bytes(b"[contents of a]")
    (tmp_path / "b").write_bytes(b"[contents of b]")
    result = hypervisor("run", str(kernel), "--module", f"{tmp_path}/a=x=1 y", "--module", f"{tmp_path}/b")
    assert result.returncode == 0, result.stderr
    first, second, _ = result.stdout.split(b"\0")
    assert first.startswith(b"[contents of a]") and first.endswith(b" x=1 y")
    assert second.startswith(b"[contents of b]")


def test_strict_stops_at_the_first_access_that_nothing_answers(tmp_path: Path) -> None:
    image = flat(tmp_path / "image", f"mov dx, 0x1234; in al, dx; {POWER_OFF}")
    assert hypervisor("run", image, *FLAT).returncode == 0
    result = hypervisor("run", image, *FLAT, "--strict")
    assert result.returncode == 121
    assert b"0x1234" in result.stderr and b"RIP 0x800" in result.stderr


RESET_ONCE = f"""
    mov al, 'a'
    {PRINT_AL}
    cmp byte ptr [0x500], 1
    je off
    mov byte ptr [0x500], 1
    mov al, 0xfe
    out 0x64, al
    hlt
off: {POWER_OFF}
"""


def test_reboot_starts_the_guest_again(tmp_path: Path) -> None:
    image = flat(tmp_path / "image", RESET_ONCE)
    once = hypervisor("run", image, *FLAT)
    assert (once.returncode, once.stdout) == (122, b"a")
    assert b"--reboot" in once.stderr
    again = hypervisor("run", image, *FLAT, "--reboot")
    assert (again.returncode, again.stdout, again.stderr) == (0, b"aa", b"")


def test_the_seed_decides_what_is_random(tmp_path: Path) -> None:
    draw = "; ".join(f"rdrand ax; {PRINT_AL}; mov al, ah; {PRINT_AL}" for _ in range(4))
    image = flat(tmp_path / "image", f"{draw}; {POWER_OFF}")
    outputs = [hypervisor("run", image, *FLAT, "--seed", seed).stdout for seed in ("1", "1", "2")]
    assert len(outputs[0]) == 8
    assert outputs[0] == outputs[1] != outputs[2]


def figures(path: Path, *arguments: str) -> dict[str, Any]:
    result = hypervisor("run", *arguments, "--stats", str(path))
    facts: dict[str, Any] = json.loads(path.read_text())
    assert facts["status"] == result.returncode
    return facts


def test_clocks(tmp_path: Path) -> None:
    wait = "mov ah, 0x86; mov cx, {0}; mov dx, {1}; int 0x15"
    short = boot_sector(tmp_path / "short", f"{wait.format(300_000 >> 16, 300_000 & 0xFFFF)}; {POWER_OFF}")
    long = boot_sector(tmp_path / "long", f"{wait.format(100_000_000 >> 16, 100_000_000 & 0xFFFF)}; {POWER_OFF}")
    wall = figures(tmp_path / "wall.json", short, "--clock", "wall")
    assert wall["reason"] == "powered-off" and wall["virtual_s"] >= 0.3
    # A sleep may be the shorter for what the clock was held back before, while the host was busy.
    assert abs(wall["virtual_s"] - wall["wall_s"]) < 0.2
    virtual = figures(tmp_path / "virtual.json", long)
    assert virtual["reason"] == "powered-off" and virtual["virtual_s"] >= 100 > virtual["wall_s"]


def test_stats(tmp_path: Path) -> None:
    first, second = (figures(tmp_path / name, "long") for name in ("a.json", "b.json"))
    assert first["reason"] == "debug-exit" and first["debug_exit"] == 33
    assert first["exits"]["port_out"] > 0
    assert first["exits"] == second["exits"] and first["virtual_s"] == second["virtual_s"]
    assert 0 < first["wall_s"] < 60
    assert 0 < first["host_memory_bytes"] < 6 << 20


PLUGIN = """
class Answer:
    def __init__(self, port: int = 0x300, value: str = "?") -> None:
        self.port, self.value = port, ord(value)

    def attach(self, vm) -> None:
        import hypervisor as hv

        @vm.traps.port_in(self.port)
        def answer(vcpu, exit):
            exit.value = self.value
            return hv.HANDLED
"""


def test_plugins_take_options(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    image = flat(tmp_path / "image", f"mov dx, 0x310; in al, dx; {PRINT_AL}; {POWER_OFF}")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = hypervisor("run", image, *FLAT, "--plugin", "mine:Answer,port=0x310,value=!", env=environment)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"!", b"")


def test_a_plugin_that_raises_is_told_with_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN.replace("exit.value = self.value", "exit.value = self.nothing"))
    image = flat(tmp_path / "image", f"mov dx, 0x300; in al, dx; {POWER_OFF}")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = hypervisor("run", image, *FLAT, "--plugin", "mine:Answer", env=environment)
    assert result.returncode == 125
    assert b"has no attribute 'nothing'" in result.stderr and b"mine.py" in result.stderr


def test_a_crash_shows_registers_code_faults_and_exits(tmp_path: Path) -> None:
    source = "in al, 0x80; lidt [table]; int3; table: .word 0; .dword 0"
    image = flat(tmp_path / "image", source)
    result = hypervisor("run", image, *FLAT)
    assert result.returncode == 126
    report = result.stderr.decode()
    expected = ["triple fault at RIP 0x8007", "1. #BP breakpoint, at 0x8007", "edx 00830f10", "-> 0x8007: cc"]
    expected += ["in 0x80 -> 0x0 (1) at 0x8000", "stack:"]
    for text in expected:
        assert text in report, report


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_piped_input_reaches_the_serial_port(tmp_path: Path, clock: str) -> None:
    image = flat(tmp_path / "image", ECHO)
    text = bytes(range(128)).replace(b"q", b"") * 20  # longer than any FIFO
    result = hypervisor("run", image, *FLAT, "--clock", clock, "--timeout", "60", input=text + b"q")
    assert (result.returncode, result.stdout) == (0, text)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_piped_input_reaches_the_bios_keyboard(tmp_path: Path, clock: str) -> None:
    image = boot_sector(tmp_path / "image", KEYS)
    result = hypervisor("run", image, "--clock", clock, "--timeout", "60", input=b"keys of a pipe" * 4 + b"q")
    assert (result.returncode, result.stdout) == (0, b"keys of a pipe" * 4)


def test_input_from_a_file_and_output_to_a_file(tmp_path: Path) -> None:
    image = flat(tmp_path / "image", ECHO)
    (tmp_path / "in").write_bytes(b"from a fileq")
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        command = [sys.executable, "-m", "hypervisor", "run", image, *FLAT]
        subprocess.run(command, stdin=source, stdout=sink, check=True, timeout=60, cwd=ROOT)
    assert (tmp_path / "out").read_bytes() == b"from a file"


def test_a_guest_that_waits_for_input_that_ended_is_idle(tmp_path: Path) -> None:
    # UART interrupts on, everything else masked.
    source = """
        mov word ptr [0x70], serve; mov word ptr [0x72], 0
        mov al, 0x11; out 0x20, al; mov al, 0x18; out 0x21, al; mov al, 4; out 0x21, al; mov al, 1; out 0x21, al
        mov al, 0xef; out 0x21, al
        mov dx, 0x3f9; mov al, 1; out dx, al; mov dx, 0x3fc; mov al, 8; out dx, al
        sti
    wait: hlt
        jmp wait
    serve: mov dx, 0x3f8; in al, dx; out dx, al; mov al, 0x20; out 0x20, al
        iret
    """
    image = flat(tmp_path / "image", source)
    result = hypervisor("run", image, *FLAT, "--timeout", "60", input=b"to its end")
    assert (result.returncode, result.stdout) == (123, b"to its end")
    assert b"nothing can ever wake it" in result.stderr


def test_a_place_in_a_shipped_guest_has_its_symbol() -> None:
    result = hypervisor("run", "preempt", "--virtual-timeout", "0.002")
    assert result.returncode == 124
    assert re.search(rb"at RIP 0x[0-9a-f]+ \([a-z_.]+(\+0x[0-9a-f]+)?\)", result.stderr), result.stderr
