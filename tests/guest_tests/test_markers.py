"""The markers ``guest`` and ``host``, and the fixtures that read them."""

from __future__ import annotations

from pathlib import Path

from tests.guest_tests.kernels import OPTIONS, kernel
from tests.guest_tests.test_items import run

TESTS = f"""
import pytest
import hypervisor as hv

pytestmark = [pytest.mark.guest("a.bin", **{OPTIONS!r}), pytest.mark.host(memory="64M")]


def test_of_the_module(vm):
    kernel = vm()
    kernel.run(timeout=60).check()
    assert kernel.console.text == "a" and kernel.memory.size == 8 << 20


@pytest.mark.guest("b.bin", cpus=2)
class TestNearer:
    def test_of_the_class(self, vm):
        kernel = vm(memory="9M")
        kernel.run(timeout=60).check()
        assert kernel.console.text == "b" and kernel.memory.size == 9 << 20 and len(kernel.vcpus) == 2
        assert vm("a.bin", cpus=1).cpus == 1

    @pytest.mark.guest(memory="10M")
    def test_of_the_function(self, vm):
        assert vm().memory.size == 10 << 20


@pytest.mark.host(cpus=2)
def test_host(host):
    assert len(host.pcpus) == 2
    for name in ("one", "two"):
        host.create_vm("a.bin", name=name, **{OPTIONS!r}).run(timeout=60)
    with pytest.raises(hv.ConfigError, match="memory"):
        host.create_vm("a.bin", **{OPTIONS!r} | {{"memory": "64M"}})
    assert not host.vms
"""


def test_markers_and_hosts(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.bin").write_bytes(kernel(name))
    (tmp_path / "test_it.py").write_text(TESTS)
    text, found = run(tmp_path, "--strict-markers")
    assert found == {
        "test_it.py::test_of_the_module": "PASSED",
        "test_it.py::TestNearer::test_of_the_class": "PASSED",
        "test_it.py::TestNearer::test_of_the_function": "PASSED",
        "test_it.py::test_host": "FAILED",
    }, text
    assert "guest 1 (one): console" in text and "guest 2 (two): state" in text and "FAILED-2.hvs" in text
