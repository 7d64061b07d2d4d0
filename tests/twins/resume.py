"""The other process: ``python -m tests.twins.resume JOBS [SEED]`` reads a list of jobs as JSON, each a configuration, a
time and a file with a state. It builds the machine that the configuration describes, puts the state into it, runs on to
the time, and prints what came of it as JSON, a line for each. Without a configuration it boots the file; with a seed
it does so on a busy host.
"""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path
from random import Random
from typing import Any

import hypervisor as hv
from hypervisor.state import cbor, is_record, plain
from tests.twins.disturbing import STOPPED, busy_host, disturbing

Job = tuple[str, int, str]
"""A configuration in TOML, or nothing; a time; and a file, with a state or, without a configuration, a machine."""
Outcome = dict[str, Any]
"""All of a machine that can be compared, as JSON can say it."""


def digest(state: Any) -> dict[str, str]:
    """A hash of each part of a machine's state."""
    return {
        name: hashlib.blake2b(cbor.encode(plain(part)), digest_size=12).hexdigest()
        for name, part in state.parts.items()
        if is_record(type(part))
    }


def outcome(vm: hv.VM, limit_ns: int, patience_s: float = 600.0) -> Outcome:
    """Run to the end, or to a time, and tell all that can be compared. Raises AssertionError when that takes longer
    than anybody waits for it.
    """
    reason = hv.Reason.VIRTUAL_TIMEOUT.value  # also where the last of several stops came first
    while (left := limit_ns - vm.clock.now_ns) > 0:
        result = vm.run(virtual_timeout=left / 1e9, timeout=patience_s)
        assert result.reason is not hv.Reason.TIMEOUT, (
            f"{vm.name} has come to {vm.clock.now_ns} ns in {patience_s:g} s, and not to its end, before {limit_ns} ns."
        )
        if result.message != STOPPED:
            reason = result.reason.value
            break
    state = vm.state()
    events, state.parts["machine"].events = state.parts["machine"].events, b""
    return {
        "reason": reason,
        "time": vm.clock.now_ns,
        "exits": dict(sorted(vm.stats.items())),
        "console": hashlib.blake2b(vm.console.bytes, digest_size=12).hexdigest(),
        "written": len(vm.console.bytes),
        "registers": [vcpu.dump() for vcpu in vm.vcpus],
        "parts": digest(state) | {"events": hashlib.blake2b(events, digest_size=12).hexdigest()},
    }


def differences(one: Outcome, other: Outcome) -> list[str]:
    """What differs, by name."""
    names = [name for name in one if name != "parts" and one[name] != other[name]]
    parts = one["parts"].keys() | other["parts"].keys()
    return names + sorted(name for name in parts if one["parts"].get(name) != other["parts"].get(name))


def main() -> None:
    """See above. Every second state of a configuration is put where another one has run: that must not matter."""
    jobs, rng = json.loads(Path(sys.argv[1]).read_text()), Random(0)
    with ExitStack() as stack:
        host = None
        if len(sys.argv) > 2:
            rng, host = Random(sys.argv[2]), stack.enter_context(busy_host())
        vm, made_from, used = None, "", False
        for config, limit_ns, path in jobs:
            if not config:
                with hv.boot(path) if host is None else host.create_vm(path) as booted:
                    with nullcontext() if host is None else disturbing(booted, rng):
                        came = outcome(booted, limit_ns)
                print(json.dumps(came), flush=True)
                continue
            if vm is None or made_from != config or used:
                if vm is not None:
                    vm.close()
                made = hv.MachineConfig.from_toml(config)
                vm, made_from, used = hv.boot(made) if host is None else host.create_vm(made), config, False
            else:
                used = True
            vm.restore(Path(path).read_bytes())
            with nullcontext() if host is None else disturbing(vm, rng):
                came = outcome(vm, limit_ns)
            print(json.dumps(came), flush=True)
        if vm is not None:
            vm.close()


if __name__ == "__main__":
    main()
