"""A described set of machines, made and started on a host of its own."""

from __future__ import annotations

import os
import time

from hypervisor._face import Host
from hypervisor.errors import ConfigError, HypervisorError
from hypervisor.fleet.fleet_config import FleetConfig, MemberConfig
from hypervisor.outcome.result import Reason, RunResult
from hypervisor.run.observing.host_events import HostEvents
from hypervisor.vm.figures import HostFigures
from hypervisor.vm.saved.save_progress import Progress
from hypervisor.vm.vm import VM
from hypervisor.world.world import World

LOOK_S = 0.05
"""How often `Fleet.wait` looks whether anything has ended, in host seconds."""


class Fleet:
    """The machines of a description, by their names. Use it as a context manager, or `close` it."""

    def __init__(self, described: FleetConfig | str | os.PathLike[str]) -> None:
        """``described`` is a description, or the file of one. Raises `ConfigError`, `ImageError`, `PluginError`."""
        self.config = config = described if isinstance(described, FleetConfig) else FleetConfig.from_toml(described)
        host = config.host
        self.host = Host(
            config.memory, host.cpus, host.code_cache, host.scheduler, host.overcommit, host.swap, host.swap_folder
        )
        self.world = World(host=self.host, seed=host.seed)
        """Those that are on networks."""
        self.vms: dict[str, VM] = {}
        self._held: set[str] = set()
        """Those that somebody has stopped, who may start them again."""
        try:
            for name, network in config.networks.items():
                if network.capture is not None:
                    self.world.lan(name).capture(network.capture)
            for name, member in config.machines.items():
                self.vms[name] = self._made(name, member)
        except BaseException:
            self.close()
            raise

    def _made(self, name: str, member: MemberConfig) -> VM:
        try:
            vm = (self.world if member.cables else self.host).create_vm(member.machine, name=name)
            vm.share = member.share
            for cable in member.cables:
                link = cable.link or self.config.networks[cable.network].link
                self.world.lan(cable.network).connect(vm, link, mac=cable.mac)
            if member.console is not None:
                for stream in vm.consoles.values():
                    stream.keep(member.console)
            if member.log is not None:
                vm.console.log(member.log, member.log_limit)
            return vm
        except HypervisorError as error:
            raise type(error)(f"{member.place}{name}: {error}") from error

    def __getitem__(self, name: str) -> VM:
        """The machine of this name. Raises `ConfigError`."""
        if name not in self.vms:
            raise ConfigError(f"there is no machine {name!r}; there are {', '.join(self.vms)}.")
        return self.vms[name]

    # --- looking at it ------------------------------------------------------------------------------------------------

    def events(self) -> HostEvents:
        """A reader of what becomes of the machines from now on; see `hypervisor.Host.events`."""
        return self.host.events()

    def figures(self) -> HostFigures:
        """Where the host and the machines stand."""
        return self.host.figures()

    # --- running ------------------------------------------------------------------------------------------------------

    def start(self, timeout: float | None = None, virtual_timeout: float | None = None) -> None:
        """Start all machines, and return at once; times are as for `hypervisor.VM.start`."""
        for vm in self.vms.values():
            vm.start(timeout=timeout, virtual_timeout=virtual_timeout)

    def wait(self, timeout: float | None = None) -> dict[str, RunResult]:
        """Wait until no machine runs, and say how each ended; those that have not after so many host seconds are left
        out.
        """
        end_at = None if timeout is None else time.monotonic() + timeout
        while self.running and (end_at is None or time.monotonic() < end_at):
            time.sleep(LOOK_S)
        return self.results

    @property
    def running(self) -> list[str]:
        """Those whose runs are not over, those that are paused among them. A machine on a network that has failed would
        let the others wait for ever, so they are stopped here, too.
        """
        going = [name for name, vm in self.vms.items() if vm.runner is not None]
        for name, result in self.results.items():
            if name in self.world.vms and name not in self._held and result.reason is not Reason.TIMEOUT:
                self.world.follow(name, result)
        return going

    @property
    def results(self) -> dict[str, RunResult]:
        """How those ended that do not run."""
        ended = {name: (vm.runner, vm.result) for name, vm in self.vms.items()}
        return {name: result for name, (runner, result) in ended.items() if runner is None and result is not None}

    def pause(self, name: str) -> bool:
        """Let a machine stand still; whether it does."""
        return self[name].pause()

    def resume(self, name: str) -> None:
        """Let it go on: behind a pause, or where it stood when it was stopped."""
        vm = self[name]
        self._held.discard(name)
        if vm.runner is None:
            vm.start()
        else:
            vm.resume()

    def stop(self, name: str) -> RunResult | None:
        """End a machine's run; `resume` begins another one where it stands. Others of its networks wait for it."""
        self._held.add(name)
        return self[name].stop()

    def save(self, name: str, path: str | os.PathLike[str], *, progress: Progress | None = None) -> None:
        """Write a machine into a file, from which `hypervisor run` goes on; it stands still for as long. ``progress``
        is that of `hypervisor.VM.save`.
        """
        vm = self[name]
        with vm.paused():
            vm.save(path, progress=progress)

    # --- the end ------------------------------------------------------------------------------------------------------

    def stop_all(self, text: str = "stopped by the host") -> None:
        """End all runs, and wait until they are over."""
        for vm in self.vms.values():
            vm.request_stop(text)
        for vm in self.vms.values():
            vm.stop(text)

    def close(self) -> None:
        """End what runs, and give everything back. Closing twice is harmless."""
        for vm in self.vms.values():
            vm.request_stop("the set of machines is closed")
        try:
            self.world.close()
        finally:
            self.host.close()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


__all__ = ["Fleet"]
