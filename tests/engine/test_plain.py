"""Uncompiled kernels give the same results as compiled ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCALE = "20" if os.environ.get("HYPERVISOR_STRESS") else "2"
ROOT = Path(__file__).parents[2]


def in_form(kernels: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with this form of the kernels."""
    environment = {**os.environ, "HYPERVISOR_KERNELS": kernels, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=1800
    )


def test_the_same_results() -> None:
    outputs = []
    for kernels in ("compiled", "plain"):
        done = in_form(kernels, "-m", "tests.engine.same_results", SCALE)
        assert done.returncode == 0, done.stderr[-2000:]
        outputs.append(done.stdout.splitlines())
    compiled, plain = outputs
    for one, other in zip(compiled, plain, strict=False):
        assert one == other
    assert len(compiled) == len(plain) > 500
    kinds = [line.split()[1] for line in compiled if line.startswith("guest")]
    assert kinds[-1] == "HLT" and {"DEADLINE", "STEPPED"} <= set(kinds)
    assert {line.split()[1] for line in compiled if line.startswith("access")} == {
        "PORT_IN", "PORT_OUT", "MMIO_READ", "MMIO_WRITE",
    }  # fmt: skip


def test_the_self_test_passes_in_plain_form() -> None:
    done = in_form(
        "plain",
        "-c",
        "from hypervisor.engine import selftest; selftest.check(); import sys; print('numba' in sys.modules)",
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_addresses_in_the_upper_half_uncompiled() -> None:
    """A word put together from bytes has no sign in Python until it is given one."""
    done = in_form("plain", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/engine/test_canonical.py")
    assert done.returncode == 0, done.stdout


def test_an_exception_in_a_plain_kernel_reaches_the_caller() -> None:
    source = """
from hypervisor.engine.compiling import plain
plain._BODIES["interrupt"] = (lambda b, number: 1 // 0, 2)
from tests.engine.programs import program
program("cpuid").pcpu.run()
"""
    done = in_form("plain", "-c", source)
    assert done.returncode == 1 and done.stderr.rstrip().endswith(
        "ZeroDivisionError: integer division or modulo by zero"
    )


def test_an_unknown_form() -> None:
    done = in_form("fast", "-c", "import hypervisor.engine.jit")
    assert "HYPERVISOR_KERNELS='fast': choose 'compiled' or 'plain'." in done.stderr
