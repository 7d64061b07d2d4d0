"""Nothing outside the one gate stores to a frame: by reading the source, and by frames that nobody can store to."""

from __future__ import annotations

import ast
import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import hypervisor as hv
from hypervisor.memory import map_words as w
from hypervisor.units import PAGE_SIZE
from tests.hostile.keeper import keepers
from tests.memory.maps import census, share

PACKAGE = Path(hv.__file__).parent
KERNELS = PACKAGE / "engine" / "kernels"
OWNER = KERNELS / "memory" / "frame_table.py"
"""The kernels that own frames."""
READERS = frozenset(("host_address", "_straight"))
"""Kernels whose answer is the process address of bytes to read."""
STORES = frozenset(("st8", "st16", "st32", "st64"))


def _called(node: ast.AST) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def stores_to_what_was_read(source: str) -> list[str]:
    """Kernels that store to an address which they got to read from."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        tainted: set[str] = set()
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and any(_called(part) in READERS for part in ast.walk(node.value)):
                tainted.update(*(_names(target) for target in node.targets))
        for node in ast.walk(function):
            if _called(node) in STORES and isinstance(node, ast.Call):
                place = node.args[0]
                if _names(place) & tainted or any(_called(part) in READERS for part in ast.walk(place)):
                    found.append(function.name)
    return found


def host_stores(source: str) -> Iterator[str]:
    """Statements that store into what is called ``bytes`` or ``words`` of a host's memory."""
    for node in ast.walk(ast.parse(source)):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
        )
        for target in targets:
            if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Attribute):
                if target.value.attr in ("bytes", "map") or ast.unparse(target.value).endswith("host.words"):
                    yield ast.unparse(node)


def test_kernels_store_to_frames_that_are_owned() -> None:
    for path in KERNELS.rglob("*.py"):
        if path != OWNER:
            assert stores_to_what_was_read(path.read_text()) == [], path


def test_kernels_that_make_addresses_of_frames() -> None:
    """They are few enough to be read: the owner, what grants access, what tells a frame by an address, and what stores
    the inputs of short cases, in frames that it owns.
    """
    makers = {path.name for path in KERNELS.rglob("*.py") if "b_.RAM" in path.read_text().replace("b_.RAM_ADDR", "")}
    assert makers == {
        "access.py", "page_walk.py", "program_stack.py", "short_cases.py", "supervisor.py", "tlb_entry.py"
    }  # fmt: skip


def test_python_stores_to_frames_in_one_place() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), statement)
        for path in PACKAGE.rglob("*.py")
        for statement in host_stores(path.read_text())
    }
    in_pages = {statement for path, statement in found if path == "memory/guest_memory.py"}
    assert in_pages == {"self._host.bytes[at:at + len(data)] = data"}
    leaves = {path for path, _ in found} - {"memory/guest_memory.py"}
    assert leaves == {"memory/frames.py", "memory/page_map.py"}, found  # which write words of maps, and the constants


def test_the_readers_find_a_writer() -> None:
    wrong = "def f(b, gpa):\n    where = host_address(b, gpa)\n    st32(where + 4, 1)\n"
    assert stores_to_what_was_read(wrong) == ["f"]
    assert list(host_stores("vm.host.memory.bytes[0:4] = b'1234'")) != []


def protect_shared(host: hv.Host) -> int:
    """Let nobody store to the frames that several maps show; how many there are."""
    memory, count = host.memory, 0
    libc = ctypes.CDLL(None)
    shared = {word & w.FRAME for vm in host.vms for page in range(256) if (word := vm.memory.pages.word(page))}
    for frame in shared:
        if frame >= w.FIRST:
            count += 1
            place = ctypes.c_void_p(memory.address + frame)
            assert libc.mprotect(place, ctypes.c_size_t(PAGE_SIZE), mmap.PROT_READ) == 0
    return count


def relatives() -> None:
    """Guests that work with the same frames, which cannot be stored to: in a process of its own."""
    with ExitStack() as stack:
        host = stack.enter_context(hv.Host("8M", 2))
        (parent,) = stack.enter_context(keepers(host, 0xA5))
        children = stack.enter_context(keepers(host, 0xA5, 0xA5))
        before = parent.vm.memory.read(0, parent.vm.memory.size)
        for child in children:
            share(parent.vm.memory, child.vm.memory)
        assert protect_shared(host) > 20
        census(host.memory, [vm.memory.pages for vm in host.vms])
        for _ in range(12):
            for child in children:
                child.run(7e-5)
        for child in children:
            child.check()
            child.vm.memory.write(0x2000, b"by the host")
        assert parent.vm.memory.read(0, parent.vm.memory.size) == before
        census(host.memory, [vm.memory.pages for vm in host.vms])
    print("well")


def test_relatives_over_frames_that_nobody_can_store_to() -> None:
    command = [sys.executable, "-c", "from tests.memory.test_gate import relatives; relatives()"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, cwd=PACKAGE.parent)
    assert done.stdout == "well\n", done.stderr[-2000:]


def test_nobody_stores_to_the_frame_of_zeros() -> None:
    """Nor to the one of ones, nor to the words of what nobody has stored to."""
    done = subprocess.run(
        [sys.executable, "-c", "import hypervisor as hv; hv.Host('1M').memory.bytes[5] = 1"], capture_output=True
    )
    assert done.returncode < 0
