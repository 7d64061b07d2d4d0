"""Machine code that is linked and loaded without the compiler's own linker, against what it computes."""

from __future__ import annotations

import ctypes

import pytest

from hypervisor.engine.compiling.choosing import Chosen, choose
from hypervisor.engine.compiling.compiler import c_function
from hypervisor.engine.compiling.compiler import code as this_code
from hypervisor.engine.compiling.linking import Linked, link
from hypervisor.engine.compiling.loading import LoadedCode
from hypervisor.errors import EngineError

pytest.importorskip("llvmlite")

TABLE = (3, 1, 4, 1, 5, 9, 2, 6, 123_456_789_012, -7)
COUNTED = f"""
@table = private constant [{len(TABLE)} x i64] [{", ".join(f"i64 {value}" for value in TABLE)}]
@calls = common global i64 0, align 8

define weak i64 @look(i64 %n) noinline {{
    %at = getelementptr [{len(TABLE)} x i64], [{len(TABLE)} x i64]* @table, i64 0, i64 %n
    %value = load i64, i64* %at
    ret i64 %value
}}

define i64 @entry(i64 %n) noinline {{
    %before = load i64, i64* @calls
    %now = add i64 %before, 1
    store i64 %now, i64* @calls
    %value = call i64 @look(i64 %n)
    %sum = add i64 %value, FACTOR
    ret i64 %sum
}}

define i64 @counted(i64 %n) {{
    %value = load i64, i64* @calls
    ret i64 %value
}}
"""
OUTSIDE = """
declare i64 @labs(i64)
declare i64 @nobody_has_this()

define i64 @entry(i64 %n) {
    %little = icmp ult i64 %n, 5
    br i1 %little, label %never, label %always
never:
    %bad = call i64 @nobody_has_this()
    ret i64 %bad
always:
    %value = call i64 @labs(i64 %n)
    ret i64 %value
}
"""


def object_of(text: str) -> bytes:
    """As numba compiles: for the large code model."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        opt=0, reloc="static", codemodel="jitdefault", jit=True
    )
    return bytes(machine.emit_object(llvm.parse_assembly(text)))


def loaded(linked: Linked) -> LoadedCode:
    return LoadedCode(linked.content, linked.own, linked.outside, linked.unwinding)


def test_objects_have_what_they_refer_to_each_its_own() -> None:
    factors = {"one": 1000, "other": -1}
    linked = link(
        {
            name: (symbol, object_of(COUNTED.replace("FACTOR", str(factor))))
            for name, factor in factors.items()
            for symbol in ("entry",)
        }
    )
    assert linked.own and not linked.outside
    pieces = [loaded(linked) for _ in range(2)]  # two of the same do not know each other
    for code in pieces:
        for name, factor in factors.items():
            call = c_function("l(l)", code.address + linked.entries[name])
            assert [call(n) for n in range(len(TABLE))] == [value + factor for value in TABLE]


def test_what_is_common_is_there_once_for_each_object() -> None:
    text = object_of(COUNTED.replace("FACTOR", "0"))
    linked = link({"call": ("entry", text), "other": ("counted", text)})
    code = loaded(linked)
    call, other = (c_function("l(l)", code.address + linked.entries[name]) for name in ("call", "other"))
    call(0), call(0)
    assert other(0) == 0


def test_what_the_process_has_is_found_there() -> None:
    linked = link({"entry": ("entry", object_of(OUTSIDE))})
    assert set(linked.outside) == {"labs", "nobody_has_this"}
    assert c_function("l(l)", loaded(linked).address + linked.entries["entry"])(-7) == 7


def test_a_symbol_that_is_missing_is_a_sentence() -> None:
    with pytest.raises(EngineError, match="kernel entry has no symbol other"):
        link({"entry": ("other", object_of(OUTSIDE))})


def test_the_way_frames_are_unwound_is_one_list() -> None:
    """Lengths lead from each entry to the next, through all objects, to a word of 0."""
    linked = link({name: ("entry", object_of(COUNTED.replace("FACTOR", "0"))) for name in ("a", "b", "c")})
    at, descriptions = linked.unwinding, 0
    while length := int.from_bytes(linked.content[at : at + 4], "little"):
        descriptions += int.from_bytes(linked.content[at + 4 : at + 8], "little") != 0
        at += 4 + length
    assert descriptions == 3 * 3


STABLE = {
    "PyBytes_FromStringAndSize", "PyErr_Clear", "PyErr_SetNone", "PyErr_SetString", "PyErr_WriteUnraisable",
    "PyExc_RuntimeError", "PyExc_StopIteration", "PyExc_SystemError", "PyUnicode_FromString", "Py_DecRef",
}  # fmt: skip
"""Of Python's C API, what its documentation lists as the stable ABI: the same in every version."""


def test_kernels_need_nothing_but_what_tells_of_an_exception() -> None:
    """They raise none: what numba has for that is not loaded, and is nobody's. So one file is for every Python."""
    this_code()
    chosen = choose()
    assert isinstance(chosen, Chosen), chosen
    names = chosen.kernels.linked.outside
    assert names and {name for name in names if not name.startswith(("numba_", "NRT_"))} <= STABLE
    assert all(hasattr(ctypes.pythonapi, name) for name in STABLE)
