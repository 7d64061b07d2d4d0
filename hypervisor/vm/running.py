"""Running a VM: here and now, in the background, or in an event loop; pausing it, and ending what it does.

Whoever calls, the guest runs on a pCPU of the host, in the thread of that (`hypervisor.run.sharing`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from hypervisor.errors import ConfigError, TrapError
from hypervisor.outcome.result import RunResult
from hypervisor.run.machine import Machine
from hypervisor.run.threads.waiting import Overseer, Wait

if TYPE_CHECKING:
    from hypervisor.console.expecting import Source
    from hypervisor.run.brief import Brief
    from hypervisor.run.ending.conditions import Until
    from hypervisor.run.guest_run import GuestRun
    from hypervisor.vcpu.processor import Processor

STOP_S = 10.0
"""How long `Runs.stop` waits, in host seconds, for a handler that no exception reaches."""

LOOK_S = 0.05
"""How often who waits looks whether anything has become of it, in host seconds."""


class Runs(Machine):
    """A machine with what begins, pauses and ends its runs."""

    runner: GuestRun | Brief | None
    searched: list[Source]
    """Where ``until="text"`` and `expect` look: the streams and screens of the board."""

    def _init_run(self) -> None:
        super()._init_run()
        self._last_run: GuestRun | None = None

    # --- beginning ----------------------------------------------------------------------------------------------------

    def run(self, until: Until = None, timeout: float | None = None, virtual_timeout: float | None = None) -> RunResult:
        """Run until something ends it, and say what.

        ``until`` is a text (or compiled regular expression) on any stream or on the screen, a condition of one of them
        such as ``vm.serial[1].contains("text")``, `hypervisor.after` (seconds of virtual time) or a predicate without
        arguments, asked whenever the guest has exited. A text counts once: the next wait wants it anew. ``timeout`` is
        in host seconds from now on (an image has been loaded by then), ``virtual_timeout`` in guest seconds. Never
        raises for what a guest does.
        """
        run = self._new_run(until, timeout, virtual_timeout)
        self.do(run)
        return _result_of(run)

    def start(self, until: Until = None, timeout: float | None = None, virtual_timeout: float | None = None) -> None:
        """Begin what `run` does, and return at once: `wait` waits for its end, and `stop` brings it about.

        Handlers have the context variables of who called this. Closing the VM stops it.
        """
        self._start(self._new_run(until, timeout, virtual_timeout))

    async def run_async(
        self, until: Until = None, timeout: float | None = None, virtual_timeout: float | None = None
    ) -> RunResult:
        """As `run`, in an event loop, which goes on meanwhile. Cancelling this stops the VM, and waits until it is."""
        import asyncio  # which takes longer to import than all of this

        run = self._new_run(until, timeout, virtual_timeout)
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(over.set)

        run.when_over.append(tell)
        self._start(run)
        cancelled: asyncio.CancelledError | None = None
        while not run.over:
            try:
                await over.wait()
            except asyncio.CancelledError as error:
                cancelled = error
                run.end_soon("cancelled")
                Overseer(run, self.host.watch).look()
            except GeneratorExit:
                run.end_soon("nobody waits for it any longer")
                raise
        if cancelled is not None:
            raise cancelled
        return _result_of(run)

    def step(self, count: int, vcpu: Processor | None = None) -> int:
        """See `Vcpu.step`; the first vCPU unless another is given."""
        from hypervisor.run.steps import Steps

        if not isinstance(count, int) or count < 0:
            raise ConfigError(f"step({count!r}): give a number of instructions.")
        if self.runner is not None and self.runner.paused:
            return self.runner.step_paused(count, vcpu or self.vcpu)
        steps = Steps(self, count, vcpu or self.vcpu)
        self.do(steps)
        return steps.done

    def _new_run(self, until: Until, timeout: float | None, virtual_timeout: float | None) -> GuestRun:
        from hypervisor.run.guest_run import GuestRun
        from hypervisor.vm.until import condition

        for what, seconds in (("timeout", timeout), ("virtual_timeout", virtual_timeout)):
            if seconds is not None and not (isinstance(seconds, (int, float)) and seconds > 0):
                raise ConfigError(f"{what}={seconds!r}: give a number of seconds greater than zero.")
        return GuestRun(self, condition(until, self.clock, self.searched), timeout, virtual_timeout)

    def do(self, task: GuestRun | Brief) -> None:
        """Have a pCPU do this, and wait until it is done; see `hypervisor.run.threads.waiting`."""
        wait = Wait(task, self.host.queue)
        try:
            wait.for_task(lambda: self._begin(task))
        except BaseException as error:
            if busy := self.busy_in:  # it was not waited for any longer
                error.add_note(f"{busy} of the VM {self.name} has not returned; it cannot be run or closed before.")
            raise

    def _start(self, run: GuestRun) -> None:
        run.in_background = True
        Wait(run, self.host.queue).for_task(lambda: self._begin(run), only_begin=True)
        Overseer(run, self.host.watch).look()

    def _begin(self, task: GuestRun | Brief) -> None:
        from hypervisor.run.guest_run import GuestRun

        if self.pace is not None:
            self.pace.check_may_begin()
        self.claim(task)
        self.runner = task
        if isinstance(task, GuestRun):
            self._last_run = task
        self.has_run = True
        self.running(True)
        self.host.queue.submit(task)

    # --- while it runs ------------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> RunResult | None:
        """Wait for the end of the run that has been started, or that another thread waits for, too; the last one's
        result if none goes on. None if so many host seconds have passed before.

        Raises what `run` would. A KeyboardInterrupt ends the waiting, not the run. Raises `ConfigError` for a VM that
        has not been run, or in a handler that the run waits for in turn.
        """
        run = self._last_run
        if run is None:
            raise ConfigError(f"The VM {self.name} has not been run: there is nothing to wait for.")
        if not run.over:
            self.check_open()
        wait = Wait(run, self.host.queue)
        end_at = None if timeout is None else time.monotonic() + timeout
        with wait.joined():
            while not run.over:
                if end_at is not None and time.monotonic() >= end_at:
                    return None
                wait.some_time(end_at)
        return _result_of(run)

    def pause(self) -> bool:
        """Have the run stand still between two instructions, until `resume`, and wait until it does. Whether it does: a
        VM that does not run has nothing to pause.

        It has no pCPU then, and is as between two runs: registers and memory can be read and written, handlers
        registered, its state taken. Its time stands still, and so does the run's ``timeout``. While a debugger has it,
        it stands still already. In a handler of its own this only asks for it: it will stand still before the guest's
        next block.
        """
        return self._pause(self)

    def resume(self) -> None:
        """Let a run that was paused by `pause` go on; nothing if none is."""
        self._resume(self)

    @contextmanager
    def paused(self) -> Iterator[bool]:
        """A pause for the time of a ``with`` block, whoever resumes the run meanwhile; gives what `pause` returns."""
        mine = object()
        try:
            yield self._pause(mine)
        finally:
            self._resume(mine)

    def _pause(self, who: object) -> bool:
        run = self.runner
        if run is None:
            return False
        run.stand(who)
        if run.here:
            return True
        with Wait(run, self.host.queue).joined():
            while not run.stands_still:
                if self.runner is not run:
                    return False
                run.wait_standing(LOOK_S)
        return True

    def _resume(self, who: object) -> None:
        run = self.runner
        if run is not None:
            run.go_on(who)

    @contextmanager
    def _standing_still(self) -> Iterator[None]:
        """The block has the VM, between runs, in a pause, or as its debugger. Raises `ConfigError` while it runs."""
        with self._claimed(), self.memory.at_rest:
            yield

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        mine = object()
        run = self.runner
        if run is not None and run.attended:
            yield
            return
        if run is not None and run.stands_still and not run.paused:
            run.stand(mine)
            try:
                if run.stands_still:  # still, and from now on
                    yield
                    return
            finally:
                run.go_on(mine)
        self.claim(mine)
        try:
            yield
        finally:
            self.release(mine)

    def stop(self, text: str = "stopped by the host", timeout: float = STOP_S) -> RunResult | None:
        """End the run, wait until it is over, and return its result (that of the last one if none goes on).

        A handler that goes on for a second more, or when this is called again, is ended by an exception. Raises
        `TrapError`, which names it, if it has not returned after ``timeout`` host seconds even so: it sits where no
        exception comes. In a handler of the VM's own this only asks, and returns None.
        """
        run = self.runner
        if run is None:
            return self.result
        run.end_soon(text)
        if run.here:
            return None
        end_at = time.monotonic() + timeout
        while not run.over:
            if time.monotonic() >= end_at:
                raise TrapError(
                    f"{self.busy_in or 'the run'} of the VM {self.name} has not returned, and no exception reaches it: "
                    "the VM cannot be run or closed before it has."
                )
            seconds = run.hurry()
            run.wait(LOOK_S if seconds < 0 else min(seconds, LOOK_S))
        return self.result


def _result_of(run: GuestRun) -> RunResult:
    """The result of a run that is over; raises what it raised."""
    if run.error is not None:
        raise run.error
    assert run.result is not None
    return run.result


__all__ = ["Runs"]
