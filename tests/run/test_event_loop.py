"""Runs in an event loop, which goes on while they do."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import ExitStack

import pytest

import hypervisor as hv
from tests.core.bare import bare

LOOP = "again: inc rbx; jmp again"
WORK = "mov ecx, {}; again: inc rax; dec ecx; jnz again; hlt"


def test_many_at_once_while_the_loop_goes_on() -> None:
    beats = 0

    async def main(vms: list[hv.VM]) -> list[hv.RunResult]:
        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0)

        heart = asyncio.create_task(beat())
        results = await asyncio.gather(*(vm.run_async(timeout=60) for vm in vms))
        heart.cancel()
        return results

    with hv.Host("16M", 2) as host, ExitStack() as stack:
        vms = [stack.enter_context(bare(WORK.format(100_000 * n), host=host)) for n in range(1, 7)]
        results = asyncio.run(main(vms))
        assert [result.rax for result in results] == [100_000 * n for n in range(1, 7)]
        assert beats > 20


def test_cancelling_it_stops_the_vm() -> None:
    async def main(vm: hv.VM) -> None:
        task = asyncio.create_task(vm.run_async())
        while not vm.clock.now_ns:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert vm.runner is None and vm.result is not None and vm.result.message == "cancelled"
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(vm.run_async(), 0.05)
        assert vm.runner is None
        result = await vm.run_async(virtual_timeout=1e-4)
        assert result.reason is hv.Reason.VIRTUAL_TIMEOUT

    with bare(LOOP) as vm:
        asyncio.run(main(vm))


def test_one_that_does_not_return_is_ended_and_named() -> None:
    async def main(vm: hv.VM) -> None:
        task = asyncio.create_task(vm.run_async())
        while not vm.busy_in:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert vm.result is not None and vm.result.message == "cancelled, and handler 'stuck' had not returned"

    with bare("vmmcall; hlt") as vm:

        @vm.traps.hypercall()
        def stuck(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            while True:
                pass

        asyncio.run(main(vm))


def test_context_variables_are_those_of_the_task() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")
    seen: list[str] = []

    async def run(host: hv.Host, of: str) -> None:
        name.set(of)
        with bare("vmmcall; vmmcall; hlt", host=host) as vm:

            @vm.traps.hypercall()
            def notes(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
                seen.append(f"{of}{name.get()}")
                name.set(name.get() + "'")
                vcpu.rip += exit.length
                return hv.HANDLED

            await vm.run_async(timeout=60)
        assert name.get() == of

    async def main(host: hv.Host) -> None:
        await asyncio.gather(*(run(host, of) for of in "abc"))

    with hv.Host("8M", 2) as host:
        asyncio.run(main(host))
    assert sorted(seen) == ["aa", "aa'", "bb", "bb'", "cc", "cc'"]


def test_one_that_is_thrown_away_stops_the_vm() -> None:
    async def main(vm: hv.VM) -> None:
        run = vm.run_async()
        run.send(None)
        run.close()

    with bare(LOOP) as vm:
        asyncio.run(main(vm))
        result = vm.wait(60)  # behind the end of its loop
        assert result is not None and result.message == "nobody waits for it any longer"
