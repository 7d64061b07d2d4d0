"""What comes from outside enters a machine at a virtual time: told with these times, a second run goes as the first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.run.inbox import Message, MessageState
from tests.meanwhile import alongside
from tests.twins import bios_guest

AT = 0x10000
READS = """
    mov dx, 0x3f9; mov al, 0; out dx, al        # no interrupts: it polls the line
again:
    add ebx, ebx; add ebx, 7; mov dx, 0x3fd; in al, dx; test al, 1; jz again
    mov dx, 0x3f8; in al, dx; out dx, al; mov cl, al; inc esi; rdtsc; mov [0x20000 + esi * 4], eax
    cmp cl, '.'; jne again
    cli; hlt
"""
"""Echoes what is sent until a full stop comes, and notes when each byte came."""


def reader() -> hv.VM:
    code = assemble(READS, origin=AT, mode=32).code
    return hv.boot(code, memory="1M", format="flat", mode=32, at=AT)


def bios(folder: Path, cpus: int) -> hv.VM:
    guest = bios_guest.make(folder)
    return hv.boot(hv.MachineConfig.of(None, {**guest.options, "cpus": cpus}))


@contextmanager
def typing(vm: hv.VM, texts: list[str], seed: int) -> Iterator[None]:
    """Somebody sends texts at moments that are the host's doing."""
    rng, over = Random(seed), threading.Event()

    def send() -> None:
        while vm.runner is None and not over.wait(0.001):  # else all may be there when it begins
            pass
        for text in texts:
            over.wait(rng.random() * 0.02)
            vm.serial[0].send(text)
        while not over.wait(0.01):  # whatever was lost
            pass

    with alongside(send, over.set):
        yield


@pytest.mark.parametrize("seed", range(2))
def test_a_recording_is_played_again(seed: int) -> None:
    texts = [f"text {n} from outside; " * (1 + n % 3) for n in range(6)] + ["."]
    with reader() as live, reader() as again:
        live.inbox.recording = []
        with typing(live, texts, seed):
            assert live.run(timeout=120).reason is hv.Reason.HALTED
        recorded = live.inbox.recording
        assert b"".join(message.content for message in recorded) == "".join(texts).encode()
        assert len({message.at for message in recorded}) > 1
        again.inbox.replay(recorded)
        again.run(timeout=120)
        assert again.console.text == "".join(texts) == live.console.text
        live_times, said = live.memory.read(0x20000, 0x1000), live.console.text
        assert again.state() == live.state()
    with reader() as late:
        late.inbox.replay([message._replace(at=message.at + 5000) for message in recorded])
        late.run(timeout=120)
        assert late.console.text == said  # and yet it has seen that they came later
        assert late.memory.read(0x20000, 0x1000) != live_times


@pytest.mark.parametrize("cpus", [1, 2])
def test_keys_and_mouse_are_played_again(cpus: int, tmp_path: Path) -> None:
    with bios(tmp_path, cpus) as live, bios(tmp_path, cpus) as again:
        live.inbox.recording = []
        bios_guest.person(live)
        with typing(live, ["typed at the line"] * 4, 5):
            live.run(virtual_timeout=0.1, timeout=60)
            live.keyboard.type("more")
            live.mouse.move(1, 1)
            live.run(virtual_timeout=1, timeout=60)
        again.inbox.replay(live.inbox.recording)
        again.run(virtual_timeout=0.1, timeout=60)
        again.run(virtual_timeout=1, timeout=60)
        names = {message.to for message in live.inbox.recording}
        assert names == {"keyboard", "mouse", "serial port 0", "typed ahead"}
        assert again.console.bytes == live.console.bytes
        assert again.state() == live.state()


def test_what_waits_is_part_of_the_state() -> None:
    with reader() as vm, reader() as twin:
        vm.serial[0].send("not there yet.")
        assert vm.serial[0].pending == 14
        twin.restore(vm.state().to_bytes())
        assert twin.serial[0].pending == 14
        for one in (vm, twin):
            one.run(timeout=60)
        assert twin.console.text == "not there yet." and twin.state() == vm.state()


def test_more_than_a_receiver_holds_arrives_in_order() -> None:
    text = "".join(chr(33 + n % 90) for n in range(70_000)).replace(".", ":")
    with reader() as vm:
        vm.serial[0].send(text)
        vm.serial[0].send(".")
        vm.run(virtual_timeout=0.01, timeout=60)
        assert vm.serial[0].pending > 4000
        state = vm.state()
        assert len(state.parts["serial 0 queue"].waiting) == vm.serial[0].pending == 70_001 - 65_536


def test_messages_that_cannot_be_delivered_are_refused() -> None:
    with reader() as vm:
        vm.run(virtual_timeout=0.001)
        for message in (Message(0, "serial port 0", b"late"), Message(1 << 40, "nobody", b"")):
            with pytest.raises(hv.ConfigError, match="cannot be delivered"):
                vm.inbox.replay([message])
        state = vm.state()
        state.parts["inbox"].messages.append(MessageState(5, "nobody", b""))
        with pytest.raises(hv.ConfigError, match="nothing that is called nobody"):
            vm.restore(state)
