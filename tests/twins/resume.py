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


def digest(state: Any) -> dict[str, str]:
    """A hash of each part of a machine's state."""
    return {
        name: hashlib.blake2b(cbor.encode(plain(part)), digest_size=12).hexdigest()
        for name, part in state.parts.items()
        if is_record(type(part))
    }


def outcome(vm: hv.VM, limit_ns: int) -> dict[str, Any]:
    """Run to the end, or to a time, and tell all that can be compared."""
    reason = ""
    while (left := limit_ns - vm.clock.now_ns) > 0:
        result = vm.run(virtual_timeout=left / 1e9, timeout=600)
        reason = result.reason.value
        if result.message != STOPPED:
            break
    return {
        "reason": reason,
        "time": vm.clock.now_ns,
        "exits": dict(sorted(vm.stats.items())),
        "console": hashlib.blake2b(vm.console.bytes, digest_size=12).hexdigest(),
        "written": len(vm.console.bytes),
        "parts": digest(vm.state()),
    }


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
                with hv.boot(path) as booted:
                    print(json.dumps(outcome(booted, limit_ns)), flush=True)
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
