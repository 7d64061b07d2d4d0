"""What a host tells of its VMs while they run."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

import hypervisor as hv
from tests.core.bare import bare

LOOP = "again: inc rbx; jmp again"
STARTED, PAUSED, RESUMED, STOPPED, CRASHED = (
    hv.What.STARTED,
    hv.What.PAUSED,
    hv.What.RESUMED,
    hv.What.STOPPED,
    hv.What.CRASHED,
)


def told(events: hv.HostEvents) -> list[tuple[hv.What, hv.Reason | None]]:
    """All that waits."""
    found = []
    while (event := events.next(0.0)) is not None:
        found.append((event.what, event.reason))
    return found


def test_a_run_is_told_from_its_beginning_to_its_end() -> None:
    with hv.Host("4M") as host, bare(LOOP, host=host) as vm, host.events() as events:
        heard = []

        def hear(count: int) -> None:
            for _ in range(count):
                event = events.next(10)
                assert event is not None and event.vm == "bare"
                heard.append(event)

        vm.start()
        assert vm.pause()
        hear(2)
        vm.resume()
        hear(1)
        with vm.paused():
            pass
        hear(2)
        vm.stop("enough")
        hear(1)
        whats = [event.what for event in heard]
        assert whats == [STARTED, PAUSED, RESUMED, PAUSED, RESUMED, STOPPED] and events.next(0) is None
        assert (heard[-1].reason, heard[-1].message) == (hv.Reason.STOPPED, "enough")
        times = [event.virtual_s for event in heard]
        assert times[0] == 0.0 and times == sorted(times) and times[-1] == vm.clock.now_ns / 1e9


@pytest.mark.parametrize(
    ("code", "what", "reason"),
    [
        ("cli; hlt", STOPPED, hv.Reason.HALTED),
        ("lidt [0x80000]; int3", CRASHED, hv.Reason.CRASHED),
        ("out 0x80, al", STOPPED, hv.Reason.HOST_ERROR),
        (LOOP, STOPPED, hv.Reason.VIRTUAL_TIMEOUT),
    ],
)
def test_ends_are_told_with_their_reasons(code: str, what: hv.What, reason: hv.Reason) -> None:
    with hv.Host("4M") as host, bare(code, host=host) as vm, host.events() as events:

        @vm.traps.port_out(0x80)
        def fails(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            raise RuntimeError("a handler's mistake")

        result = vm.run(virtual_timeout=0.001)
        assert events.next(0).what is STARTED  # type: ignore[union-attr]
        last = events.next(0)
        assert last is not None and (last.what, last.reason, last.message) == (what, reason, result.message)
        assert last.virtual_s == pytest.approx(result.virtual_s)
        assert events.next(0) is None


def test_a_stop_in_a_pause_is_told_once_and_nothing_goes_on() -> None:
    with hv.Host("4M") as host, bare(LOOP, host=host) as vm, host.events() as events:
        vm.start()
        vm.pause()
        vm.stop()
        assert told(events) == [(STARTED, None), (PAUSED, None), (STOPPED, hv.Reason.STOPPED)]


def test_what_an_interrupt_ends_is_told() -> None:
    with hv.Host("4M") as host, bare("out 0x80, al", host=host) as vm, host.events() as events:

        @vm.traps.port_out(0x80)
        def ends(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            raise SystemExit(3)

        with pytest.raises(SystemExit):
            vm.run()
        assert [what for what, _ in told(events)] == [STARTED, STOPPED]


def test_each_vm_has_its_story_in_order() -> None:
    """Eight VMs on two pCPUs, begun, paused and stopped by as many threads."""
    stories: dict[str, list[hv.What]] = {f"vm{n}": [] for n in range(8)}
    with hv.Host("16M", 2) as host, host.events() as events:

        def live(name: str) -> None:
            with bare(LOOP, host=host) as vm:
                vm.name = name
                for _ in range(5):
                    vm.start()
                    vm.pause()
                    vm.resume()
                    vm.stop()

        threads = [threading.Thread(target=live, args=(name,)) for name in stories]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while (event := events.next(0)) is not None:
            stories[event.vm].append(event.what)
        assert events.lost == 0
    for story in stories.values():
        assert story.count(STARTED) == story.count(STOPPED) == 5
        open_ = paused = False
        for what in story:
            assert {STARTED: not open_, PAUSED: open_ and not paused, RESUMED: paused, STOPPED: open_}[what], story
            open_ = what is not STOPPED
            paused = what is PAUSED


def test_a_reader_that_does_not_read_loses_what_is_oldest() -> None:
    with hv.Host("4M") as host, bare("cli; hlt", host=host) as vm, host.events(limit=3) as events:
        for _ in range(4):
            vm.vcpu.rip = 0x10000
            vm.run()
        assert events.lost == 5
        assert [what for what, _ in told(events)] == [STOPPED, STARTED, STOPPED]


def test_reading_ends_with_the_reader_and_with_the_host() -> None:
    host = hv.Host("4M")
    ends: list[Callable[[], None]] = [host.close]
    with host.events() as one:
        ends.insert(0, one.close)
        other = host.events()
        for events, end in zip((one, other), ends, strict=True):
            heard: list[hv.HostEvent] = []
            thread = threading.Thread(target=heard.extend, args=(events,))
            thread.start()
            end()
            thread.join(10)
            assert not thread.is_alive()
            assert list(events) == []
    with pytest.raises(hv.ConfigError):
        host.events()
