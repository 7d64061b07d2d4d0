"""What every plugin keeps, ours and a user's: `check_plugin`."""

from __future__ import annotations

from typing import Any

LIMIT_S = 30.0
"""Host seconds for each run of the guest."""


def check_plugin(plugin: Any, image: str = "hello", **options: Any) -> None:
    """Raise AssertionError, with a sentence, if a plugin breaks what `hypervisor.traps.plugins.plugin_set` asks of it.

    ``plugin`` is what ``plugins=`` takes, but no object, since several machines get one each; ``image`` and
    ``options`` are those of `hypervisor.boot`, for a guest that comes to an end by itself.

    Checked: it can be made, attached and detached, time and again; a run with it does not end by an error of the host,
    before a reset and behind one; it says what it remembers, and a machine that is restored, or forked, remembers the
    same; a fork goes on and is closed by itself; two machines have nothing in common that one of them would notice.
    """
    import hypervisor as hv

    assert isinstance(plugin, (str, type, tuple)), f"{plugin!r}: give the class, or its name, or (class, options)."
    options = {"memory": "16M", **options}

    def booted() -> hv.VM:
        return hv.boot(image, plugins=[plugin], **options)

    with booted() as first, booted() as second:
        name = next(iter(first.plugins))[0]
        mine, others = _handlers(first), _handlers(second)
        assert mine == others, f"{name}: a second machine has the handlers {others}, the first one {mine}."
        fresh = first.state().to_bytes()
        _run(first, name, "the first run")
        untouched = second.state().to_bytes()
        assert fresh == untouched, f"{name}: a machine that has not run is another one after a run of its neighbour."
        then = first.state()
        with first.fork() as fork:
            assert fork.state().to_bytes() == then.to_bytes(), f"{name}: a fork remembers something else."
        first.reset()
        _run(first, name, "a run behind a reset")
        first.restore(then)
        assert first.state().to_bytes() == then.to_bytes(), f"{name}: restored, it remembers something else."
        second.restore(then.to_bytes())
        assert second.state().to_bytes() == then.to_bytes(), f"{name}: restored elsewhere, it remembers something else."


def _handlers(vm: Any) -> list[str]:
    return [handler for handler in vm.traps.names() if not handler.startswith("builtin.")]


def _run(vm: Any, name: str, which: str) -> None:
    import hypervisor as hv

    result = vm.run(timeout=LIMIT_S)
    assert result.reason is not hv.Reason.HOST_ERROR, f"{name}: {which} ended by {result.message}"
    assert result.reason is not hv.Reason.TIMEOUT, f"{name}: {which} did not end in {LIMIT_S:.0f} s."


__all__ = ["check_plugin"]
