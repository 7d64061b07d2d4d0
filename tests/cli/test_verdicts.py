"""The exit statuses of the issue, with real guests: a handful of bytes each, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HALT = "fa f4"  # cli; hlt
LOOP = "fb 90 eb fd"  # sti; nop; jmp to the nop
SPIN = "fb eb fe"  # sti; jmp $
POWER_OFF = "ba 04 06 b8 00 20 ef"  # mov dx, 0x604; mov ax, 0x2000; out dx, ax
RESET = "b0 fe e6 64"  # mov al, 0xfe; out 0x64, al
IDLE = "b0 ff e6 21 e6 a1 fb f4 eb fd"  # mask every interrupt; sti; hlt; jmp to the hlt
UNDEFINED = "0f 0b"  # ud2, where there is no IDT


def debug_exit(value: int) -> str:
    """``mov al, value; out 0xf4, al``."""
    return f"b0 {value:02x} e6 f4"


def run(image: Path, *arguments: str, mode: int = 16) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from hypervisor.cli import main; sys.exit(main())", "run", str(image)]
    command += ["--format", "flat", "--at", "0x8000", "--mode", str(mode), "--memory", "8M", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("code", "mode", "arguments", "status", "reason", "message"),
    [
        pytest.param(POWER_OFF, 16, [], 0, "powered-off", "", id="power-off"),
        pytest.param(debug_exit(0), 16, [], 1, "debug-exit", "", id="debug-exit"),
        pytest.param(debug_exit(16), 16, [], 33, "debug-exit", "", id="debug-exit-33"),
        pytest.param(debug_exit(62), 16, [], 125, "debug-exit", "", id="debug-exit-125"),
        pytest.param(debug_exit(16), 16, ["--success", "33"], 0, "debug-exit", "", id="success-33"),
        pytest.param(debug_exit(17), 16, ["--success", "33,0x23"], 0, "debug-exit", "", id="success-of-several"),
        pytest.param(debug_exit(0), 16, ["--success", "33"], 1, "debug-exit", "", id="success-is-another"),
        pytest.param(HALT, 16, ["--success", "33"], 123, "halted", "RIP 0x", id="success-is-no-halt"),
        pytest.param(POWER_OFF, 16, ["--success", "33"], 0, "powered-off", "", id="success-beside-power-off"),
        pytest.param(RESET, 16, [], 122, "reset", "--reboot", id="reset"),
        pytest.param(HALT, 16, [], 123, "halted", "RIP 0x", id="halted"),
        pytest.param(HALT, 16, ["--halt-ok"], 0, "halted", "", id="halt-ok"),
        pytest.param("fa eb fe", 16, [], 123, "halted", "RIP 0x8001", id="endless-loop-without-interrupts"),
        pytest.param(IDLE, 16, [], 123, "idle", "RIP 0x", id="idle"),
        pytest.param(SPIN, 16, [], 123, "idle", "RIP 0x8001", id="endless-loop-that-nothing-interrupts"),
        pytest.param(LOOP, 16, ["--timeout", "0.3"], 124, "timeout", "RIP 0x800", id="timeout"),
        pytest.param(LOOP, 16, ["--virtual-timeout", "0.01"], 124, "virtual-timeout", "RIP 0x", id="virtual-timeout"),
        pytest.param(UNDEFINED, 32, [], 126, "crashed", "ud2", id="crash"),
    ],
)
def test_verdict(
    tmp_path: Path, code: str, mode: int, arguments: list[str], status: int, reason: str, message: str
) -> None:
    image, stats = tmp_path / "guest.bin", tmp_path / "stats.json"
    image.write_bytes(bytes.fromhex(code))
    result = run(image, "--stats", str(stats), *arguments, mode=mode)
    assert result.returncode == status, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    figures = json.loads(stats.read_text())
    assert figures["reason"] == reason
    assert figures["status"] == status
    assert figures["wall_s"] > 0
    assert figures["host_memory_bytes"] > 0


def test_a_missing_image_is_one_sentence(tmp_path: Path) -> None:
    result = run(tmp_path / "nothing.bin")
    assert result.returncode == 125
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "nothing.bin" in result.stderr
