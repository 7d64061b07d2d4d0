"""What an instance has of a guest's memory: translations of addresses, in its TLB, and translated code."""

from __future__ import annotations

import ctypes

from hypervisor.engine import block as b
from hypervisor.engine import layout
from hypervisor.engine.instance.room import room_for
from hypervisor.engine.instance.unicorn_instance import UnicornInstance, peek
from hypervisor.engine.interposition.native import native

_MUCH_CODE = 2 << 20  # bytes of translated code whose tables, freed, are worth looking for


class EngineMemory:
    """Of one instance, with room for ``code_cache`` bytes of each VM's translated code. Only for the thread that drives
    it, unless it is said otherwise.
    """

    def __init__(self, instance: UnicornInstance, code_cache: int) -> None:
        self._call, self._at, self._words = instance.call, instance.at, instance.words
        self._code_cache = code_cache
        self.expect(1)
        self.forget_code()  # there is room for all that a pCPU can have until then
        self._trimmed = 0
        """What had been forgotten when the memory of that was given back last."""

    def flush(self) -> None:
        """Have every access translated anew, as after the VM's map changed. The guest cannot tell."""
        self._call["flush"](self._at)

    def flush_guest(self) -> None:
        """The guest flushes its TLB."""
        self._call["flush_guest"](self._at)

    def own(self, page: int) -> int:
        """Make the frame of a page of the base map the VM's own, so that it may be written; its word in the map, 0 if
        the host has no frame left.
        """
        return int(self._call["own"](self._at, page))

    def written(self, hpa: int, size: int) -> None:
        """The host wrote ``size`` bytes in a frame: code translated from them is stale."""
        self._call["written"](self._at, hpa, size)

    def forget_code(self) -> None:
        """Forget all translated code, as after frames changed their owner, and every translation of addresses.

        In the middle of an instruction its code is still needed: then it is forgotten before the next block.
        """
        self._call["flush"](self._at)
        if self._words[b.RUNNING >> 3]:
            self._words[b.CODE_FULL >> 3] = 1
            self._words[b.DEADLINE >> 3] = 0
        else:
            self._call["forget_code"](self._at)

    def expect(self, vms: int) -> None:
        """So many VMs have code here, when all is forgotten next; from any thread."""
        self._words[b.CODE_ROOM >> 3] = room_for(vms, self._code_cache)

    def widen(self) -> None:
        """Have so much room now, if that is more than there is."""
        translator = peek(self._words[b.UC >> 3] + layout.UC_TCG_CONTEXT)
        limit = peek(translator + layout.TCG_BUFFER) + self._words[b.CODE_ROOM >> 3] - layout.TCG_LAST
        at = translator + layout.TCG_CODE_LIMIT
        ctypes.c_uint64.from_address(at).value = max(limit, peek(at))

    def retranslate(self, addresses: ctypes.Array[ctypes.c_int64]) -> None:
        """Forget the blocks that instructions at these linear addresses lie in. One that runs is gone on with."""
        self._call["retranslate"](self._at, ctypes.addressof(addresses), len(addresses))

    def give_back(self) -> None:
        """Forget all translated code, and give back the memory that it took."""
        self.forget_code()
        if self._words[b.FORGOTTEN >> 3] - self._trimmed > _MUCH_CODE:
            self._trimmed = self._words[b.FORGOTTEN >> 3]
            native().trim()

    @property
    def translated_bytes(self) -> int:
        """Bytes of machine code that this engine has made of guests' code, since it is there."""
        translator = peek(self._words[b.UC >> 3] + layout.UC_TCG_CONTEXT)
        made = peek(translator + layout.TCG_CODE_NEXT) - peek(translator + layout.TCG_BUFFER)
        return made + self._words[b.FORGOTTEN >> 3]
