"""What each packet means: one small function per kind, found by its first letter or its word.

Source: the gdb manual, appendix E (Remote Serial Protocol). An empty answer says "not supported". Whatever a packet
holds, the answer to a bad one is an error number, and the VM does not notice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypervisor.debug.gdb import gdb_registers, monitor
from hypervisor.debug.gdb.description import target_xml
from hypervisor.debug.gdb.fields import Malformed, hexadecimal, numbers, octets, thread_id
from hypervisor.debug.gdb.gdb_session import ONE, SIGTRAP, Session
from hypervisor.debug.gdb.packets import MAX_PACKET
from hypervisor.errors import GuestFault, HypervisorError

Handler = Callable[[Session, str], "bytes | None"]

OK, BAD_PACKET, BAD_ADDRESS, BAD_REQUEST = b"OK", b"E01", b"E0e", b"E16"
FEATURES = "QStartNoAckMode+;qXfer:features:read+;vContSupported+;swbreak+;hwbreak+"


def answer(session: Session, packet: bytes) -> bytes | None:
    """The answer to a packet; None when the guest is to run, and the answer comes later."""
    text = packet.decode("latin-1")
    try:
        if text[:1] in _BY_LETTER:
            return _BY_LETTER[text[:1]](session, text[1:])
        word = text.partition(":")[0].partition(";")[0].partition(",")[0]
        if word in _BY_WORD:
            return _BY_WORD[word](session, text[len(word) + 1 :])
    except Malformed:
        return BAD_PACKET
    except GuestFault:
        return BAD_ADDRESS
    except HypervisorError:
        return BAD_REQUEST
    return b""


# --- registers and memory ---------------------------------------------------------------------------------------------


def _read_registers(session: Session, text: str) -> bytes:
    return gdb_registers.read_all(session.vcpu).hex().encode()


def _write_registers(session: Session, text: str) -> bytes:
    gdb_registers.write_all(session.vcpu, octets(text))
    return OK


def _read_register(session: Session, text: str) -> bytes:
    return gdb_registers.read(session.vcpu, gdb_registers.by_number(hexadecimal(text))).hex().encode()


def _write_register(session: Session, text: str) -> bytes:
    number, _, value = text.partition("=")
    register, data = gdb_registers.by_number(hexadecimal(number)), octets(value)
    if len(data) != register.size:
        raise Malformed
    gdb_registers.write(session.vcpu, register, data)
    return OK


def _read_memory(session: Session, text: str) -> bytes:
    address, size = numbers(text, 2)
    return session.memory.read(session.vcpu, address, min(size, MAX_PACKET // 2)).hex().encode()


def _write_memory(session: Session, text: str) -> bytes:
    where, _, data = text.partition(":")
    return _store(session, where, octets(data))


def _write_binary(session: Session, text: str) -> bytes:
    where, _, data = text.partition(":")
    return _store(session, where, data.encode("latin-1"))


def _store(session: Session, where: str, data: bytes) -> bytes:
    address, size = numbers(where, 2)
    if size != len(data):
        raise Malformed
    session.memory.write(session.vcpu, address, data)
    return OK


# --- breakpoints ------------------------------------------------------------------------------------------------------


def _insert(session: Session, text: str) -> bytes:
    kind, address, length = numbers(text.partition(";")[0], 3)
    session.stops.insert(kind, address, length)
    return OK


def _remove(session: Session, text: str) -> bytes:
    kind, address, length = numbers(text.partition(";")[0], 3)
    session.stops.remove(kind, address, length)
    return OK


# --- running ----------------------------------------------------------------------------------------------------------


def _why(session: Session, text: str) -> bytes:
    return session.stop(SIGTRAP)


def _continue(session: Session, text: str) -> None:
    _go_on_at(session, text)
    session.go()


def _step(session: Session, text: str) -> bytes | None:
    _go_on_at(session, text)
    return session.step(session.vcpu)


def _continue_with_signal(session: Session, text: str) -> None:
    _continue(session, text.partition(";")[2])  # a guest has no signals


def _step_with_signal(session: Session, text: str) -> bytes | None:
    return _step(session, text.partition(";")[2])


def _go_on_at(session: Session, text: str) -> None:
    if text:
        gdb_registers.write(session.vcpu, gdb_registers.by_name("rip"), hexadecimal(text).to_bytes(8, "little"))


def _resume(session: Session, text: str) -> bytes | None:
    """``vCont``: an action for each thread. The first that steps is carried out, and the others stand still."""
    stepping = None
    for part in text.split(";"):
        what, _, thread = part.partition(":")
        vcpu = _vcpu(session, thread_id(thread)) if thread else session.vcpu
        if what[:1] not in ("c", "C", "s", "S", "r"):
            raise Malformed
        within = range(*numbers(what[1:], 2)) if what[0] == "r" else ONE
        if what[0] not in "cC" and stepping is None:
            stepping = vcpu, within
    if stepping is None:
        session.go()
        return None
    return session.step(*stepping)


def _actions(session: Session, text: str) -> bytes:
    return b"vCont;c;C;s;S;r"


def _kill(session: Session, text: str) -> None:
    session.kill()


def _kill_and_say_so(session: Session, text: str) -> bytes:
    session.kill()
    return OK


def _detach(session: Session, text: str) -> bytes:
    session.leave()
    return OK


# --- threads: vCPU 0 is thread 1 --------------------------------------------------------------------------------------


def _vcpu(session: Session, number: int) -> Any:
    """The vCPU that gdb calls by this number; 0 and -1 are any."""
    if number <= 0:
        return session.vcpu
    if number > len(session.vm.vcpus):
        raise Malformed
    return session.vm.vcpus[number - 1]


def _select(session: Session, text: str) -> bytes:
    """``Hg`` chooses the vCPU for registers and memory; ``Hc`` is what vCont has replaced."""
    vcpu = _vcpu(session, thread_id(text[1:]))
    if text[:1] == "g":
        session.vcpu = vcpu
    return OK


def _is_alive(session: Session, text: str) -> bytes:
    _vcpu(session, thread_id(text))
    return OK


def _current(session: Session, text: str) -> bytes:
    return b"QC%x" % (session.vcpu.number + 1)


def _threads(session: Session, text: str) -> bytes:
    return b"m" + b",".join(b"%x" % (vcpu.number + 1) for vcpu in session.vm.vcpus)


def _no_more_threads(session: Session, text: str) -> bytes:
    return b"l"


def _describe_thread(session: Session, text: str) -> bytes:
    vcpu = _vcpu(session, thread_id(text))
    return f"vCPU {vcpu.number}, {vcpu.activity}".encode().hex().encode()


# --- queries ----------------------------------------------------------------------------------------------------------


def _supported(session: Session, text: str) -> bytes:
    return f"PacketSize={MAX_PACKET:x};{FEATURES}".encode()


def _no_acknowledgements(session: Session, text: str) -> bytes:
    session.acknowledges = False
    return OK


def _attached(session: Session, text: str) -> bytes:
    return b"1"  # so that gdb leaves the guest alive when it quits


def _transfer(session: Session, text: str) -> bytes:
    """A piece of the target description, for the mode that the vCPU is in now."""
    if not text.startswith("features:read:target.xml:"):
        return b""
    offset, size = numbers(text.rpartition(":")[2], 2)
    xml = target_xml(session.vcpu.mode)
    piece = xml[offset : offset + min(size, MAX_PACKET - 4)]
    return (b"m" if offset + len(piece) < len(xml) else b"l") + piece


def _monitor(session: Session, text: str) -> bytes:
    try:
        said = monitor.run(session, octets(text).decode("utf-8", "replace"))
    except HypervisorError as problem:
        said = str(problem)
    return (said + "\n").encode()[: MAX_PACKET // 2].hex().encode()


_BY_LETTER: dict[str, Handler] = {
    "g": _read_registers,
    "G": _write_registers,
    "p": _read_register,
    "P": _write_register,
    "m": _read_memory,
    "M": _write_memory,
    "X": _write_binary,
    "Z": _insert,
    "z": _remove,
    "?": _why,
    "c": _continue,
    "C": _continue_with_signal,
    "s": _step,
    "S": _step_with_signal,
    "k": _kill,
    "D": _detach,
    "H": _select,
    "T": _is_alive,
}
_BY_WORD: dict[str, Handler] = {
    "vCont": _resume,
    "vCont?": _actions,
    "vKill": _kill_and_say_so,
    "qSupported": _supported,
    "QStartNoAckMode": _no_acknowledgements,
    "qXfer": _transfer,
    "qAttached": _attached,
    "qC": _current,
    "qfThreadInfo": _threads,
    "qsThreadInfo": _no_more_threads,
    "qThreadExtraInfo": _describe_thread,
    "qRcmd": _monitor,
}
