"""Under the virtual clock a run repeats: same output, same exits, same time, on whatever host it runs."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

import hypervisor as hv

RUNS = 20


def _long(host: hv.Host) -> tuple[bytes, dict[str, int], float]:
    with closing(host.create_vm("long", memory="16M")) as vm:
        result = vm.run(timeout=60)
        assert result.reason is hv.Reason.DEBUG_EXIT, result.message
        return vm.console.bytes, dict(result.exits), result.virtual_s


@pytest.mark.parametrize("cpus", [1, 2])
def test_long_is_the_same_in_twenty_runs_beside_another_vm(cpus: int) -> None:
    with closing(hv.Host(memory="16M", cpus=1)) as host:
        first = _long(host)
    with closing(hv.Host(memory="64M", cpus=cpus)) as host:
        stop = threading.Event()
        neighbours: list[tuple[bytes, dict[str, int], float]] = []

        def disturb() -> None:
            while not stop.is_set():
                neighbours.append(_long(host))

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            runs = [_long(host) for _ in range(RUNS)]
        finally:
            stop.set()
            thread.join()
    assert runs == [first] * RUNS
    assert neighbours == [first] * len(neighbours)
