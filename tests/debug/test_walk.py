"""Page walks in words: the same answers as the oracle and the engine, and sentences that name the entry."""

from __future__ import annotations

import random

import pytest

import hypervisor as hv
from hypervisor.debug.walk import walk
from tests.core.bare import bare
from tests.debug.oracle_vcpu import oracle_vcpu
from tests.oracle.generate import WALK_MODES, random_walk
from tests.oracle.paging import Access, Fault, translate
from tests.oracle.state import Memory

ACCESS = {Access.READ: "read", Access.WRITE: "write", Access.EXECUTE: "fetch"}
PML4, PDPT, PD, PT = 0x2000, 0x3000, 0x4000, 0x5000  # where these tests put their tables


@pytest.mark.parametrize("mode", WALK_MODES)
def test_random_walks_end_as_the_oracles_do(mode: str) -> None:
    for seed in range(1000):
        case = random_walk(seed, mode)
        memory = Memory(case.memory)
        expected = translate(memory, case.state, case.va, case.access, case.implicit)
        user = case.state.cpl == 3
        found = walk(oracle_vcpu(memory, case.state), case.va, ACCESS[case.access], user, case.implicit)
        if isinstance(expected, Fault):
            assert (found.gpa, found.vector, found.error) == (None, expected.vector, expected.error), (seed, str(found))
        else:
            wanted = (expected.gpa, None, expected.page_size if found.entries else 4096)
            assert (found.gpa, found.vector, found.page_size) == wanted, (seed, str(found))
        assert memory.data == case.memory, "an explanation must not write"


def test_the_engine_and_the_explanation_agree_on_a_real_machine() -> None:
    rng = random.Random(3)
    with bare("hlt") as vm:
        for _ in range(300):
            table = rng.choice((PML4, PML4 + 0x1000, PML4 + 0x2000))
            vm.memory.write(table + 8 * rng.randrange(4), rng.getrandbits(64).to_bytes(8, "little"))
            gva = rng.choice((rng.getrandbits(33), rng.getrandbits(64)))
            access, user = rng.choice(("read", "write", "fetch")), rng.random() < 0.5
            found = hv.explain(vm.vcpu, gva, access, user)
            with vm.placed() as pcpu:
                gpa, vector, error = pcpu.walk(gva, ("read", "write", "fetch").index(access), 8 | user)
            assert (found.gpa, found.vector, found.error) == ((gpa, None, 0) if vector < 0 else (None, vector, error))


def long_mode(vm: hv.VM, pte: int, pde: int = 3, pdpe: int = 3, pml4e: int = 3) -> None:
    """Address 0x1000 goes through these entries."""
    for at, value in ((PML4, PDPT | pml4e), (PDPT, PD | pdpe), (PD, PT | pde), (PT + 8, pte)):
        vm.memory.write(at, value.to_bytes(8, "little"))
    vm.vcpu.cr3 = PML4
    vm.vcpu.efer |= 1 << 11  # NXE
    vm.vcpu.cr0 |= 1 << 16  # WP


@pytest.mark.parametrize(
    ("tables", "access", "user", "sentence"),
    [
        ({"pte": 0}, "write", False, "write by ring 0 to 0x1a70: PML4[0] present, PDPT[0] present, PD[0] present, "
         "PT[1] not present"),
        ({"pte": 3, "pdpe": 0}, "read", True, "read by ring 3 from 0x1a70: PML4[0] present, PDPT[0] not present"),
        ({"pte": 0x7001}, "write", False, "write by ring 0 to 0x1a70: PML4[0] present, PDPT[0] present, "
         "PD[0] present, PT[1] is read-only"),
        ({"pte": 0x7007, "pml4e": 7, "pdpe": 7}, "read", True, "read by ring 3 from 0x1a70: PML4[0] present, "
         "PDPT[0] present, PD[0] belongs to ring 0, PT[1] present"),
        ({"pte": 0x7003 | 1 << 63}, "fetch", False, "fetch by ring 0 from 0x1a70: PML4[0] present, PDPT[0] present, "
         "PD[0] present, PT[1] is no-execute (NX)"),
        ({"pte": 0x7003 | 1 << 45}, "read", False, "read by ring 0 from 0x1a70: PML4[0] present, PDPT[0] present, "
         "PD[0] present, PT[1] has reserved bit 45 set"),
        ({"pte": 0x7003}, "write", False, "write by ring 0 to 0x1a70: PML4[0] present, PDPT[0] present, "
         "PD[0] present, PT[1] present, leads to 0x7a70 (writable, ring 0 only)"),
    ],
)  # fmt: skip
def test_the_sentence_names_the_entry(tables: dict[str, int], access: str, user: bool, sentence: str) -> None:
    with bare("hlt") as vm:
        long_mode(vm, **tables)
        assert str(hv.explain(vm.vcpu, 0x1A70, access, user)) == sentence


def test_other_modes_and_addresses() -> None:
    with bare("hlt", mode=32) as vm:
        assert str(hv.explain(vm.vcpu, 0x5000)) == (
            "read by ring 0 from 0x5000: paging is off, the address is physical"
        )
    with bare("hlt") as vm:
        text = str(hv.explain(vm.vcpu, 0x8000_0000_0000, "write"))
        assert text == "write by ring 0 to 0x800000000000: not canonical (bits 63 to 47 differ)"
        entry = hv.explain(vm.vcpu, 0x1000).entries[-1]
        assert (entry.table, entry.says) in (("PT", "present"), ("PD", "a 2 MiB page"), ("PDPT", "a 1 GiB page"))


def test_tables_are_read_through_the_a20_gate() -> None:
    with bare("hlt") as vm:
        long_mode(vm, pte=0x7003)
        vm.vcpu.cr3 = PML4 | 1 << 20
        assert hv.explain(vm.vcpu, 0x1A70).gpa is None  # there is no memory
        vm.set_a20(False)
        assert hv.explain(vm.vcpu, 0x1A70).gpa == 0x7A70


def test_a_large_page_needs_pse() -> None:
    with bare("hlt", mode=32) as vm:
        vm.memory.write(0x9000, (0x83).to_bytes(4, "little"))
        vm.vcpu.cr3, vm.vcpu.cr0 = 0x9000, 0x80000011
        assert "PD[0] present (its PS bit is ignored: CR4.PSE is clear), PT[5] " in str(hv.explain(vm.vcpu, 0x5000))
        vm.vcpu.cr4 = 1 << 4
        assert str(hv.explain(vm.vcpu, 0x5000)).endswith("PD[0] a 4 MiB page, leads to 0x5000 (writable, ring 0 only)")


@pytest.mark.parametrize(
    ("gva", "access", "sentence"),
    [(0, "execute", "choose 'read', 'write' or 'fetch'"), (1 << 64, "read", "at most 64 bits"), ("x", "read", "'x'")],
)
def test_bad_arguments(gva: int, access: str, sentence: str) -> None:
    with bare("hlt") as vm, pytest.raises(hv.ConfigError, match=sentence):
        hv.explain(vm.vcpu, gva, access)
