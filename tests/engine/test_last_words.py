"""The line that a dying process writes about its guest, and that the signal takes its course without change."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hypervisor.arch.flags import CR4_OSFXSR
from hypervisor.engine import block as b
from hypervisor.engine.compiling.compiler import code
from tests.engine.programs import program

ROOT = Path(__file__).parents[2]
_UNGUARDED = "from hypervisor.engine.interposition import interpose; del interpose.CALLS['helper_{}_x86_64']\n"
_SSE = _UNGUARDED.format("pcmpestri_xmm")
_DIVIDE = _UNGUARDED.format("idivl_EAX")
_READS_BADLY = """
import hypervisor as hv
hv.run_asm("nop; mov eax, 1; .byte 0x66,0x0f,0x3a,0x61,0xd6,0x0c; hlt", mode=64, regs={"rdx": 0x80000000})
"""
_LINE = (
    "hypervisor: SIGSEGV while VM 'run_asm' ran: vCPU 0, RIP 0x0000000000010006, "
    "instruction 66 0f 3a 61 d6 0c f4 cc cc cc cc cc cc cc cc. Please report this.\n"
)
_SENT = """
import os, signal, threading
import hypervisor as hv
with hv.Host("8M") as host:
    vm = host.create_vm(b"\\xe6\\x80\\xf4", memory="1M", format="flat", at=0x10000, mode=32, name="b\\u00e4r\\n'x'")
    @vm.traps.port_out(0x80)
    def out(vcpu, exit):
        DO
    print(vm.run(timeout=10).reason.value)
"""


@pytest.fixture(autouse=True, scope="module")
def compiled() -> None:
    """The kernels are there before processes are started that wait for them."""
    code()


def _run(source: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", source], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_a_helper_that_reads_a_bad_address() -> None:
    done = _run(_SSE + _READS_BADLY)
    assert (done.returncode, done.stderr) == (-signal.SIGSEGV, _LINE)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_faulthandler_still_speaks(before: bool) -> None:
    """Set before us, it is called by us; set after us, it calls us."""
    enable = "import faulthandler; faulthandler.enable()\n"
    done = _run(_SSE + enable * before + "interpose.guard()\n" + enable * (not before) + _READS_BADLY)
    assert done.returncode == -signal.SIGSEGV
    assert _LINE in done.stderr and done.stderr.count("hypervisor: ") == 1
    assert done.stderr.count("Fatal Python error: Segmentation fault") == 1 and 'File "<string>"' in done.stderr


def test_generated_code_that_faults() -> None:
    """The guest's page is taken from under generated code, which has its address from the TLB."""
    source = """
import ctypes, os, signal
import hypervisor as hv
with hv.Host("8M") as host:
    code = b"\\xa1\\0\\0\\2\\0\\xe6\\x80\\x40\\xa1\\0\\0\\2\\0\\xf4"  # mov eax, [0x20000]; out 0x80, al; inc; mov; hlt
    vm = host.create_vm(code, memory="1M", format="flat", at=0x10000, mode=32, name="guest")
    vm.memory.write(0x20000, b"1")
    @vm.traps.port_out(0x80)
    def out(vcpu, exit):
        frame = vm.memory.pages.word(0x20) & ~0xFFF
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(host.memory.address + frame), 4096, 0) == 0
        return hv.HANDLED
    vm.run(timeout=10)
"""
    done = _run(source)
    line = "hypervisor: SIGSEGV while VM 'guest' ran: vCPU 0, RIP 0x0000000000010008, instruction a1 00 00 02 00 f4 "
    assert done.returncode == -signal.SIGSEGV and done.stderr.startswith(line), done.stderr


def test_an_instruction_that_the_translator_sees_with_other_bits_leaves_the_line_and_the_clock_alone() -> None:
    """These bits lay where the clock's latest time is, and their second word where the line's address is."""
    guest = program(".byte 0x0F, 0xC2, 0xC1, 0x18; hlt")  # CMPPS xmm0, xmm1 with a predicate beyond 7
    guest.registers.set("cr4", CR4_OSFXSR)
    words = {b.SHOWN: 0x1122334455667788, b.LAST_WORDS: guest.word(b.LAST_WORDS)}
    assert words[b.LAST_WORDS]
    guest.put(b.SHOWN, words[b.SHOWN])
    guest.pcpu.run()
    assert {offset: guest.word(offset) for offset in words} == words


_AT_THE_END = (
    _DIVIDE
    + """
from hypervisor.engine import block as b
from tests.engine.programs import SIZE, program
guest = program("hlt", paging=True)
guest.memory[SIZE - 4 : SIZE] = b"\\xf7\\xf9\\xeb\\xfe"  # idiv ecx; jmp $
for name, value in (("rip", SIZE - 4), ("rax", 0), ("rdx", 1 << 31), ("rcx", (1 << 32) - 1)):
    guest.registers.set(name, value)
guest.put(b.NUMBER, 107)
MORE
guest.pcpu.run()
"""
)


@pytest.mark.parametrize(
    ("more", "where"), [("", ""), ("import faulthandler; faulthandler.enable()", " or later in its block")]
)
def test_the_end_of_what_can_be_fetched_and_a_high_number(more: str, where: str) -> None:
    """On the main thread, where faulthandler has a stack of its own, from which it sends the signal on."""
    done = _run(_AT_THE_END.replace("MORE", more))
    line = f"hypervisor: SIGFPE while VM '' ran: vCPU 107, RIP 0x000000000003fffc{where}, instruction f7 f9 eb fe"
    assert done.returncode == -signal.SIGFPE and done.stderr.endswith(line + ". Please report this.\n"), done.stderr


@pytest.mark.parametrize("name", ["SIGBUS", "SIGILL"])
def test_a_signal_sent_while_a_guest_runs(name: str) -> None:
    done = _run(_SENT.replace("DO", f"signal.raise_signal(signal.{name})"))
    line = f"hypervisor: {name} while VM \"b\\xe4r\\n'x'\" ran: vCPU 0, RIP 0x0000000000010000, instruction e6 80 f4 "
    assert done.returncode == -signal.Signals[name] and done.stderr.startswith(line), done.stderr
    assert done.stderr.count("\n") == 1


def test_threads_without_a_guest_say_nothing() -> None:
    """A signal to another thread while this one runs a guest."""
    kill = "threading.Thread(target=lambda: signal.raise_signal(signal.SIGSEGV)).start(); threading.Event().wait(20)"
    done = _run(_SENT.replace("DO", kill))
    assert (done.returncode, done.stderr) == (-signal.SIGSEGV, "")


def test_handlers_of_a_program_are_called() -> None:
    source = """
import os, signal, time
caught = []
signal.signal(signal.SIGFPE, lambda number, frame: caught.append(number))
signal.signal(signal.SIGILL, signal.SIG_IGN)
import hypervisor as hv
assert hv.run_asm("hlt").reason is hv.Reason.HALTED
for number in (signal.SIGFPE, signal.SIGILL, signal.SIGFPE):
    os.kill(os.getpid(), number)
    time.sleep(0)
assert caught == [signal.SIGFPE] * 2, caught
signal.signal(signal.SIGSEGV, lambda number, frame: caught.append(number))  # set later, it takes our place
os.kill(os.getpid(), signal.SIGSEGV)
time.sleep(0)
assert caught[2:] == [signal.SIGSEGV], caught
"""
    done = _run(source)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_handler_without_an_engine() -> None:
    source = "import hypervisor, signal\nprint(open('/proc/self/status').read().split('SigCgt:')[1].split()[0])"
    caught = int(_run(source).stdout, 16)
    assert not caught & sum(1 << number - 1 for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL))
